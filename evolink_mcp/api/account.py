"""What EvoLink tells of an account: its credits, and the models that a key may use."""

from __future__ import annotations

from typing import Annotated, cast

from pydantic import AliasPath, BeforeValidator, Field

from evolink_mcp.api.wire import Answer, Number, model_name, read_object, unreadable


def _is_true(value: object) -> bool:
    return value is True


class Credits(Answer):
    """What is left and what was spent, in credits (EvoLink docs, "Query Credits").

    `key` is the API key, which may have a limit of its own, `account` the account behind
    it. None is what EvoLink does not tell.
    """

    key_remaining: Number = Field(
        default=None, validation_alias=AliasPath("data", "token", "remaining_credits")
    )
    key_used: Number = Field(
        default=None, validation_alias=AliasPath("data", "token", "used_credits")
    )
    key_unlimited: Annotated[bool, BeforeValidator(_is_true)] = Field(
        default=False, validation_alias=AliasPath("data", "token", "unlimited_credits")
    )
    """Whether the key may spend whatever the account has."""
    account_remaining: Number = Field(
        default=None, validation_alias=AliasPath("data", "user", "remaining_credits")
    )
    account_used: Number = Field(
        default=None, validation_alias=AliasPath("data", "user", "used_credits")
    )


def read_credits(body: bytes) -> Credits:
    """Read the balance from the body of an answer.

    Raises:
        AnswerUnreadable: Not a JSON object.
    """
    return Credits.model_validate(read_object(body))


def read_models(body: bytes) -> frozenset[str]:
    """Read the ids of models from `{"data": [{"id": ...}]}` (vendor client).

    Raises:
        AnswerUnreadable: Not JSON, no list, or a list of something else.
    """
    listed = read_object(body).get("data")
    if not isinstance(listed, list):
        raise unreadable("it holds no list of models")
    items = cast("list[object]", listed)
    objects = [cast("dict[str, object]", item) for item in items if isinstance(item, dict)]
    names = frozenset(name for item in objects if (name := model_name(item.get("id"))))
    if items and not names:
        raise unreadable("its list of models names none")
    return names
