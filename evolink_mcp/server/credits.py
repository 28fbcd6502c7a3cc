"""`get_credits`: the balance at EvoLink, and what was spent through this server."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel, ConfigDict, Field

from evolink_mcp.api.account import Credits
from evolink_mcp.catalog.request import unknown_fields
from evolink_mcp.errors import EvolinkError, InvalidRequest
from evolink_mcp.jobs.job import LOCAL, Job
from evolink_mcp.server.answers import HERE, Caller, Failure
from evolink_mcp.server.app import App
from evolink_mcp.server.lists import day_cap
from evolink_mcp.server.principals import current_key, current_principal
from evolink_mcp.server.waits import LAST_WORD, stopped_before_looking
from evolink_mcp.settings import Confirm, Settings

DESCRIPTION = """\
Tell how many EvoLink credits are left, how many were spent today through this server, which caps \
the user has set, and which requests may have been charged though nobody knows whether EvoLink \
took them. Costs nothing. Use it when the user asks about cost or balance, before a large \
purchase, or after an error about credits. What a picture of each model cost last is told by \
list_models."""

SCHEMA: Mapping[str, object] = {"type": "object", "properties": {}}

MOST_UNKNOWN = 20
"""Requests of unknown outcome that are told."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class UnknownOutcome(_Part):
    """A request of which nobody knows whether EvoLink took it."""

    job_id: str = Field(description="This server's own name for the request.")
    created: str = Field(description="When it was sent (UTC).")
    model: str | None = Field(default=None, description="The model.")
    n: int | None = Field(default=None, description="How many pictures were asked for.")
    expected_credits: float = Field(description="What it costs if EvoLink took it, about.")


class CreditsAnswer(_Part):
    """What `get_credits` answers; what is absent could not be learned."""

    key_remaining: float | None = Field(
        default=None, description="Credits that this API key may still spend."
    )
    key_used: float | None = Field(default=None, description="Credits that this key has spent.")
    key_unlimited: bool | None = Field(
        default=None, description="Whether the key may spend whatever the account has."
    )
    account_remaining: float | None = Field(
        default=None, description="Credits that the account behind the key has left."
    )
    account_used: float | None = Field(
        default=None, description="Credits that the account has spent."
    )
    spent_today: float | None = Field(
        default=None,
        description="Credits spent or reserved today through this server and others that share its "
        "record; purchases made elsewhere are not in it.",
    )
    daily_credits: float | None = Field(
        default=None, description="The cap for a day (EVOLINK_DAILY_CREDITS); absent for none."
    )
    left_today: float | None = Field(default=None, description="What is left of that cap.")
    confirm: str = Field(description="When the user is asked before a purchase (EVOLINK_CONFIRM).")
    unknown_outcomes: list[UnknownOutcome] | None = Field(
        default=None,
        description=f"The newest {MOST_UNKNOWN} requests that may have been charged; the user can "
        "look at evolink.ai.",
    )
    error: Failure | None = Field(default=None, description="Why something could not be learned.")


@dataclass(frozen=True, slots=True)
class _Record:
    """What the journal tells."""

    spent: float
    unknown: tuple[Job, ...]


async def get_credits(arguments: Mapping[str, object], ctx: Context[App]) -> CallToolResult:
    """Tell the balance, and what was spent."""
    app = ctx.request_context.lifespan_context
    if problems := unknown_fields(arguments, ()):
        return _refused(InvalidRequest(problems=problems), app.settings)
    return await read_credits(app)


async def read_credits(app: App) -> CallToolResult:
    """Ask EvoLink and the journal; what one of them knows is told though the other fails."""
    errors: list[EvolinkError] = []
    balance, record = None, None
    try:
        balance = await _balance(app)
    except EvolinkError as error:
        errors.append(error)
    try:
        record = await _record(app)
    except EvolinkError as error:
        errors.append(error)
    answer = _answer(balance, record, settings=app.settings)
    return _result(answer, errors[0] if errors else None, caller=app.caller())


async def _balance(app: App) -> Credits | None:
    """Ask EvoLink; the operator's account is no concern of whoever has a token."""
    if current_principal() != LOCAL and current_key() is None:
        return None
    app.require_key()
    connected = await app.connected()
    with app.waits.within(math.inf, grace=LAST_WORD):
        return await connected.api.credits()
    raise stopped_before_looking("get_credits")


async def _record(app: App) -> _Record:
    journal = await app.journal()
    principal = current_principal()
    unknown = await journal.newest(principal, states=("unknown",), limit=MOST_UNKNOWN)
    return _Record(await journal.spent_today(principal), tuple(unknown))


def _answer(
    balance: Credits | None, record: _Record | None, *, settings: Settings
) -> CreditsAnswer:
    told: dict[str, Any] = balance.model_dump() if balance else {}
    cap = day_cap(settings)
    if record is not None:
        told["spent_today"] = round(record.spent, 4)
        told["unknown_outcomes"] = [_unknown(job) for job in record.unknown]
    if record is not None and cap is not None:
        told["left_today"] = round(max(0.0, cap - record.spent), 4)
    return CreditsAnswer(**told, daily_credits=cap, confirm=_in_words(settings.confirm))


def _unknown(job: Job) -> UnknownOutcome:
    return UnknownOutcome(
        job_id=job.id,
        created=datetime.fromtimestamp(job.created, UTC).isoformat(timespec="minutes"),
        model=job.request.model if job.request else None,
        n=job.asked or None,
        expected_credits=job.booked,
    )


def _in_words(confirm: Confirm) -> str:
    if confirm.mode == "above":
        return f"the user is asked before purchases of more than {confirm.above:g} credits"
    always = "the user is asked before every purchase"
    return always if confirm.mode == "always" else "the user is never asked before a purchase"


def _refused(error: EvolinkError, settings: Settings) -> CallToolResult:
    return _result(CreditsAnswer(confirm=_in_words(settings.confirm)), error)


def _result(
    answer: CreditsAnswer, error: EvolinkError | None, *, caller: Caller = HERE
) -> CallToolResult:
    lines = [_balance_line(answer), _spent_line(answer), *_unknown_lines(answer)]
    if error is not None:
        failure = caller.failure(Failure.of(error))
        answer = answer.model_copy(update={"error": failure})
        lines = [*_error_lines(failure), *lines]
    return CallToolResult(
        content=[TextContent(type="text", text="\n".join(filter(None, lines)))],
        structured_content=answer.model_dump(mode="json", exclude_none=True),
        is_error=error is not None,
    )


def _error_lines(error: Failure) -> list[str]:
    retryable = "yes" if error.retryable else "no"
    return [
        error.message,
        f"Code: {error.code}. Charged: {error.charged}. Retryable: {retryable}.",
        f"Next step: {error.next_step}",
    ]


def _balance_line(answer: CreditsAnswer) -> str:
    if answer.key_unlimited is None:
        return ""
    key = _balance_of(answer.key_remaining, answer.key_used)
    if answer.key_unlimited:
        key = ", ".join(filter(None, ["no limit of its own", _used(answer.key_used)]))
    account = _balance_of(answer.account_remaining, answer.account_used)
    return f"At EvoLink, in credits. This key: {key}. The account: {account}."


def _balance_of(remaining: float | None, used: float | None) -> str:
    left = f"{remaining:g} left" if remaining is not None else ""
    return ", ".join(filter(None, [left, _used(used)])) or "not told"


def _used(used: float | None) -> str:
    return f"{used:g} used" if used is not None else ""


def _spent_line(answer: CreditsAnswer) -> str:
    cap = answer.daily_credits
    asked = f"{answer.confirm[0].upper()}{answer.confirm[1:]} (EVOLINK_CONFIRM)."
    limit = "No cap for a day is set" if cap is None else f"The cap for a day is {cap:g}"
    rules = f"{limit} (EVOLINK_DAILY_CREDITS). {asked}"
    if answer.spent_today is None:
        return rules
    left = f", {answer.left_today:g} are left" if answer.left_today is not None else ""
    spent = f"{answer.spent_today:g} credits{left}"
    return f"Spent or reserved today through this server: {spent}. {rules}"


def _unknown_lines(answer: CreditsAnswer) -> list[str]:
    if not answer.unknown_outcomes:
        return []
    head = "Nobody knows whether EvoLink took these; the user can look at evolink.ai:"
    return [head, *(f"- {_unknown_line(unknown)}" for unknown in answer.unknown_outcomes)]


def _unknown_line(unknown: UnknownOutcome) -> str:
    what = f", {unknown.n} of {unknown.model}" if unknown.model and unknown.n else ""
    expected = f"about {unknown.expected_credits:g} credits if it did"
    return f"{unknown.created}, {unknown.job_id}{what}, {expected}"
