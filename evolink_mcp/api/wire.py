"""What comes back from EvoLink, read leniently.

Only `id` is relied upon, for it is all that a paid task is found by: every other field
has come, gone or changed its type between editions of EvoLink's documentation, and is
read as absent where it does not fit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Annotated, NewType, cast
from urllib.parse import quote

from pydantic import (
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from evolink_mcp.errors import AnswerUnreadable, InvalidRequest, Problem, quote_foreign

TaskId = NewType("TaskId", str)
"""EvoLink's name for a task, checked: safe in a path and in a file name."""

LONGEST_LINK = 4096
"""Characters of a result's address; signed ones have some hundreds."""

_URL_CHARACTERS = "%/:=&?~#+!$,;'@()*[]-._"
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}")

MOST_PICTURES = 64
"""Results of one task; EvoLink's models make at most 15, a layered one some more."""

_TASK_ID = re.compile(r"task-unified-[A-Za-z0-9_-]{1,100}")


def _absent_if_unfit(value: object, read: ValidatorFunctionWrapHandler) -> object:
    try:
        return cast("object", read(value))
    except ValidationError:
        return None


def _percent(value: object, read: ValidatorFunctionWrapHandler) -> float:
    """Bring progress into its range; nonsense counts as none."""
    number = _absent_if_unfit(value, read)
    return min(100.0, max(0.0, number)) if isinstance(number, float) else 0.0


def _links(value: object) -> tuple[str, ...]:
    """Keep the addresses in a list, with an empty one in place of what is none.

    So each keeps its number. A lone text is a list of one; without any address there is none.
    """
    items = cast("Sequence[object]", value) if isinstance(value, list | tuple) else [value]
    links = tuple(web_address(item) if isinstance(item, str) else "" for item in items)
    return links if any(links) else ()


def web_address(text: str) -> str:
    """Return a web address in plain ASCII without white space; empty for anything else.

    What is not allowed in an address is percent-encoded, so that no link can bring lines
    or characters of its own into an answer.
    """
    link = quote(text.strip(), safe=_URL_CHARACTERS, errors="replace")
    is_web = link.lower().startswith(("http://", "https://"))
    return link if is_web and len(link) <= LONGEST_LINK else ""


def _image_links(value: object) -> tuple[str, ...]:
    """Find the links in `result_data`: a list of objects, or one object (vendor client)."""
    items = cast("list[object]", value) if isinstance(value, list) else [value]
    return _links([_image_url(item) for item in items])


def _image_url(item: object) -> object:
    return cast("dict[str, object]", item).get("image_url") if isinstance(item, dict) else None


def model_name(value: object) -> str | None:
    """Keep a model's id; anything else that may stand in its place counts as none."""
    return value if isinstance(value, str) and _MODEL_NAME.fullmatch(value) else None


def _status_word(value: object) -> str:
    """Read a status without regard to case; without one the task is asked for again."""
    return value.strip().lower() if isinstance(value, str) and value.strip() else "pending"


def _text(value: object) -> str:
    """Read a text that may come as a number; anything else counts as none."""
    return str(value) if isinstance(value, str | int | float) else ""


Lenient = WrapValidator(_absent_if_unfit)
"""Reads a field that does not fit as absent."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Number = Annotated[Finite | None, Lenient]
Price = Annotated[Annotated[Finite, Field(ge=0)] | None, Lenient]
"""Credits of a purchase; fewer than none are not told."""

Text = Annotated[str, BeforeValidator(_text)]


class Answer(BaseModel):
    """An answer of EvoLink's; what is not known of it is left aside."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class TaskError(Answer):
    """Why a task failed, in EvoLink's words (EvoLink docs, "Query Task Status")."""

    code: Text = ""
    message: Text = ""


class Task(Answer):
    """One task as EvoLink last told it."""

    id: str
    """The only thing that must be kept."""
    status: Annotated[str, BeforeValidator(_status_word)] = "pending"
    progress: Annotated[Finite, WrapValidator(_percent)] = 0.0
    """Percent, 0 to 100."""
    model: Annotated[str | None, BeforeValidator(model_name)] = None
    """The model really used."""
    created: Number = None
    """Unix seconds."""
    estimated_seconds: Number = Field(
        default=None, validation_alias=AliasPath("task_info", "estimated_time")
    )
    credits_reserved: Price = Field(
        default=None, validation_alias=AliasPath("usage", "credits_reserved")
    )
    credits_used: Price = Field(default=None, validation_alias=AliasPath("usage", "credits_used"))
    """Vendor client."""
    results: Annotated[tuple[str, ...], BeforeValidator(_links)] = ()
    result_data: Annotated[tuple[str, ...], BeforeValidator(_image_links)] = ()
    """Vendor client: a fallback behind `results`."""
    error: Annotated[TaskError | None, Lenient] = None

    @property
    def _places(self) -> tuple[str, ...]:
        return (self.results or self.result_data)[:MOST_PICTURES]

    @property
    def links(self) -> tuple[str, ...]:
        """Where the pictures are, once the task is completed; at most MOST_PICTURES."""
        return tuple(link for link in self._places if link)

    @property
    def numbered_links(self) -> tuple[tuple[int, str], ...]:
        """The links with their places among EvoLink's results, from 1."""
        return tuple((n, link) for n, link in enumerate(self._places, start=1) if link)

    def filled_from(self, earlier: Task | None) -> Task:
        """Keep what an earlier answer said and this one leaves out, such as the price."""
        if earlier is None:
            return self
        names = ("model", "created", "estimated_seconds", "credits_reserved", "credits_used")
        missing = {name: getattr(earlier, name) for name in names if getattr(self, name) is None}
        return self.model_copy(update=missing)

    def body(self) -> dict[str, object]:
        """Return the task as EvoLink writes it, for `read_task`."""
        return {
            "id": self.id,
            "status": self.status,
            "progress": self.progress,
            "model": self.model,
            "created": self.created,
            "task_info": {"estimated_time": self.estimated_seconds},
            "usage": {
                "credits_reserved": self.credits_reserved,
                "credits_used": self.credits_used,
            },
            "results": list(self._places),
            "error": self.error.model_dump() if self.error else None,
        }

    @property
    def task_id(self) -> TaskId:
        """The id, which `read_task` has checked."""
        return TaskId(self.id)


def read_task(body: bytes) -> Task:
    """Read a task from the body of an answer.

    Raises:
        AnswerUnreadable: Not JSON, no task, or a task id that is not of the documented form.
    """
    try:
        task = Task.model_validate(read_object(body))
    except ValidationError as error:
        raise unreadable("it has no readable task id") from error
    if not _TASK_ID.fullmatch(task.id):
        raise unreadable(f"its task id {quote_foreign(task.id)} is not of the documented form")
    return task


def read_object(body: bytes) -> dict[str, object]:
    """Read a JSON object.

    Raises:
        AnswerUnreadable: It is not one.
    """
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise unreadable("it is not JSON") from error
    if not isinstance(value, dict):
        raise unreadable("it is not a JSON object")
    return cast("dict[str, object]", value)


def unreadable(reason: str) -> AnswerUnreadable:
    """Make the error for an answer that is not EvoLink's."""
    return AnswerUnreadable(
        message=f"EvoLink's answer could not be read: {reason}.",
        next_step="Check EVOLINK_BASE_URL and whether a proxy or a login page stands between.",
    )


def read_task_id(text: str) -> TaskId:
    """Read a task id as a caller gave it.

    Raises:
        InvalidRequest: It is none, so it may not go into a path.
    """
    word = text.strip()
    if not _TASK_ID.fullmatch(word):
        problem = Problem("task_id", "is not a task id", "task-unified-… as generate_image gave it")
        raise InvalidRequest(problems=(problem,))
    return TaskId(word)
