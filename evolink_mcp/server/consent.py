"""The user's consent before credits are spent (EVOLINK_CONFIRM).

A host that can put a question to its user is asked, whatever the model says; any other has
to pass `confirm`, which the model sets after asking. Hosts before 2026-07-28 are asked while
the call goes on. Later ones get the question as the call's result and repeat the call with
the answer and with the `requestState` that came with the question. The SDK seals that state
and binds it to the tool, its arguments, the principal and a time, but lets it be sent any
number of times; here each is good for one answer.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mcp import MCPError
from mcp.server.elicitation import render_elicitation_schema
from mcp.server.mcpserver import Context
from mcp.types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult
from mcp.types.version import is_version_at_least
from pydantic import BaseModel, Field, ValidationError

from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.errors import (
    ConfirmationNeeded,
    InvalidRequest,
    Problem,
    PurchaseDeclined,
    quote_foreign,
)
from evolink_mcp.jobs.job import LOCAL, Job, Principal, new_job_id
from evolink_mcp.jobs.journal import Budget, Journal
from evolink_mcp.jobs.prices import Price
from evolink_mcp.jobs.rows import wish_of
from evolink_mcp.settings import Confirm

ANSWER_SECONDS: Final = 600.0
"""How long a question of 2026-07-28 waits for its answer; then it is asked anew."""

PROMPT_SHOWN: Final = 200
"""Characters of a prompt in a question."""

QUESTION: Final = "purchase"
"""The question's name among a call's input requests."""


class Agreement(BaseModel):
    """The form that a host shows."""

    buy: bool = Field(title="Buy", description="Whether these credits may be spent.")


class _State(BaseModel):
    """What comes back with an answer; sealed by the SDK on its way out and in."""

    token: str
    asked: float
    """Unix seconds."""
    credits: float
    """What the user was told it costs."""


@dataclass(frozen=True, slots=True)
class _Wish:
    """What the user is asked about."""

    job: Job
    request: ImageRequest
    price: Price
    agreed: Budget
    """The budget if the user agrees."""
    publishing: int = 0
    """Files of the user that would become public."""


@dataclass(slots=True, kw_only=True)
class Consent:
    """Obtains the user's consent, and remembers which answers were used."""

    setting: Confirm
    journal: Callable[[], Awaitable[Journal]]
    now: Callable[[], float] = time.time
    _used: dict[str, float] = field(default_factory=dict[str, float])
    """Answered questions by token, with the Unix seconds at which they were asked."""
    _told: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    """Prices, and when they were told, by what is wanted: for hosts that cannot ask."""

    async def obtain(
        self,
        ctx: Context[Any, Any],
        request: ImageRequest,
        *,
        budget: Budget,
        confirmed: bool,
        publishing: int = 0,
        principal: Principal = LOCAL,
    ) -> Budget | InputRequiredResult:
        """Return the budget within which a request may be bought now, or a question to the user.

        A question is the result of the tool call: return it as it is, and the host calls
        again with the answer. A budget goes to `Watchers.buy`, which refuses a price that has
        risen meanwhile. Call this once the arguments are known to be valid, and before
        anything is uploaded or bought. `confirmed` is the argument `confirm`; it counts only
        where the host cannot ask, once, and for a price that was told before. `publishing` is
        how many files of the user would become public. Joining an earlier purchase costs
        nothing and needs no consent.

        Raises:
            ConfirmationNeeded: The host cannot ask, and `confirm` is not set.
            PurchaseDeclined: The host was asked and did not agree.
            CapReached: The day's credits do not suffice, whatever the user says.
            JournalUnusable: Nothing may be bought.
        """
        if self.setting.mode == "never":
            return budget
        journal = await self.journal()
        job = Job(id=new_job_id(), principal=principal, request=request)
        if await journal.would_join(job):
            return replace(budget, agreed=0.0)
        price = await journal.price(request, budget=budget)
        if not self._is_asked(price, budget):
            return replace(budget, agreed=self.setting.above)
        budget.check_day(price, spent=await journal.spent_today())
        agreed = replace(budget, agreed=price.credits)
        wish = _Wish(job, request, price, agreed, publishing)
        if can_ask(ctx):
            return await self._ask(ctx, wish, journal=journal)
        if not (confirmed and self._was_told(wish)):
            self._tell(wish)
            raise _confirmation_needed(wish, self.setting)
        return agreed

    def _is_asked(self, price: Price, budget: Budget) -> bool:
        """Tell whether the user is asked; of a price that nobody knows, in any case."""
        known = price.source == "same terms" or (price.source == "catalogue" and budget.is_priced)
        return self.setting.needed(price.credits) or (self.setting.mode == "above" and not known)

    def _tell(self, wish: _Wish) -> None:
        """Note that a price is told now; those that were told too long ago are forgotten."""
        oldest = self.now() - ANSWER_SECONDS
        self._told = {name: each for name, each in self._told.items() if each[1] >= oldest}
        self._told[_name_of(wish)] = (wish.price.credits, self.now())

    def _was_told(self, wish: _Wish) -> bool:
        """Tell whether this price, or a higher one, was told a while ago; use that up."""
        price, told = self._told.pop(_name_of(wish), (0.0, -math.inf))
        fresh = self.now() - told <= ANSWER_SECONDS
        return fresh and replace(wish.agreed, agreed=price).allows(wish.price)

    async def _ask(
        self, ctx: Context[Any, Any], wish: _Wish, *, journal: Journal
    ) -> Budget | InputRequiredResult:
        message = _question(wish, spent=await journal.spent_today())
        answer = await self._answer(ctx, message, wish=wish)
        if isinstance(answer, InputRequiredResult):
            return answer
        if answer:
            raise await _declined(wish.job, answer, journal=journal)
        return wish.agreed

    async def _answer(
        self, ctx: Context[Any, Any], message: str, *, wish: _Wish
    ) -> str | InputRequiredResult:
        """Return what speaks against the purchase, empty for nothing, or the question."""
        if not _asks_by_result(ctx):
            return await _ask_now(ctx, message)
        if self._is_answered(ctx, wish):
            return _objection((ctx.input_responses or {})[QUESTION])
        told = wish.price.credits
        state = _State(token=secrets.token_urlsafe(16), asked=self.now(), credits=told)
        return InputRequiredResult(
            input_requests={QUESTION: ElicitRequest(params=_form(message))},
            request_state=state.model_dump_json(),
        )

    def _is_answered(self, ctx: Context[Any, Any], wish: _Wish) -> bool:
        """Tell whether this call answers a question of this price, for the first time."""
        if QUESTION not in (ctx.input_responses or {}):
            return False
        state = _read_state(ctx.request_state)
        if state is None or not replace(wish.agreed, agreed=state.credits).allows(wish.price):
            return False
        return self._use(state)

    def _use(self, state: _State) -> bool:
        """Use a state up; nothing may be awaited between the look and the mark."""
        oldest = self.now() - ANSWER_SECONDS
        self._used = {token: asked for token, asked in self._used.items() if asked >= oldest}
        if state.token in self._used or not oldest <= state.asked <= self.now():
            return False
        self._used[state.token] = state.asked
        return True


def can_ask(ctx: Context[Any, Any]) -> bool:
    """Tell whether the host can put a form to its user.

    A bare `elicitation: {}` means forms; addresses alone do not (MCP, "Elicitation").
    """
    capabilities = ctx.client_capabilities
    elicitation = capabilities.elicitation if capabilities else None
    if elicitation is None or (elicitation.form is None and elicitation.url is not None):
        return False
    return _asks_by_result(ctx) or ctx.session.can_send_request


def with_confirm(schema: Mapping[str, Any], setting: Confirm) -> dict[str, Any]:
    """Return an input schema with `confirm`, where the setting asks for consent at all.

    A schema is the same for all hosts, so the description says when it counts.
    """
    if setting.mode == "never":
        return dict(schema)
    which = f"of more than {setting.above:g} credits" if setting.mode == "above" else "of any price"
    argument = {
        "type": "boolean",
        "description": f"Consent to a purchase {which}. Leave it out: the user is asked by this "
        "program, whatever stands here. Only if the call answers confirmation_needed, ask the user "
        "yourself and call again with true.",
    }
    return {**schema, "properties": {**schema["properties"], "confirm": argument}}


def split_confirm(
    arguments: Mapping[str, object], setting: Confirm
) -> tuple[dict[str, object], bool]:
    """Take `confirm` out of the arguments; where the setting is `never` there is no such argument.

    Raises:
        InvalidRequest: It is neither true nor false.
    """
    fields = dict(arguments)
    if setting.mode == "never":
        return fields, False
    value = fields.pop("confirm", None)
    word = str(value).strip().lower() if isinstance(value, str | bool) else value
    if word not in (None, "true", "false"):
        raise InvalidRequest(problems=(Problem("confirm", "must be a boolean", "true, false"),))
    return fields, word == "true"


def _asks_by_result(ctx: Context[Any, Any]) -> bool:
    """Tell whether the host's protocol has no requests from server to client."""
    version = ctx.protocol_version
    return version is not None and is_version_at_least(version, "2026-07-28")


async def _ask_now(ctx: Context[Any, Any], message: str) -> str:
    """Put the question while the call goes on, and return what speaks against it."""
    form = _form(message)
    try:
        result = await ctx.session.elicit_form(
            form.message, form.requested_schema, related_request_id=ctx.request_id
        )
    except (MCPError, ValidationError):
        return "an error"
    return _objection(result)


def _form(message: str) -> ElicitRequestFormParams:
    return ElicitRequestFormParams(
        message=message, requested_schema=render_elicitation_schema(Agreement)
    )


def _objection(answer: object) -> str:
    """Return what a host has answered other than yes; empty for yes."""
    if not isinstance(answer, ElicitResult):
        return "an answer to another question"
    if answer.action != "accept":
        return answer.action
    try:
        agreed = Agreement.model_validate(answer.content or {}).buy
    except ValidationError:
        agreed = False
    return "" if agreed else "accept, but not with buy"


def _read_state(text: str | None) -> _State | None:
    try:
        return _State.model_validate_json(text or "")
    except ValidationError:
        return None


def _question(wish: _Wish, *, spent: float) -> str:
    request, price, cap = wish.request, wish.price, wish.agreed.a_day
    count = request.n or 1
    pictures = "1 picture" if count == 1 else f"{count} pictures"
    limit = f" of {cap:g}" if cap is not None else ""
    said = f" Prompt: {_cut(quote_foreign(request.prompt))}" if request.prompt else ""
    return (
        f"Buy {pictures} of {request.model} from EvoLink for about {price.credits:g} credits"
        f"{_basis(wish)}?{_publishing(wish)} Spent or reserved today: {spent:g}{limit} "
        f"credits.{said}"
    )


def _basis(wish: _Wish) -> str:
    """Say how well the price is known."""
    if wish.price.source == "same terms":
        return ""
    if wish.price.source == "same model":
        return " (an estimate: none was bought with these settings before)"
    told = "an estimate: none was bought before"
    return f" ({told})" if wish.agreed.is_priced else " (assumed: its price is not known yet)"


def _publishing(wish: _Wish) -> str:
    if not wish.publishing:
        return ""
    files = "1 file of yours" if wish.publishing == 1 else f"{wish.publishing} files of yours"
    return f" Uploads {files}, public for 72 hours to whoever has the address."


def _name_of(wish: _Wish) -> str:
    return f"{wish.job.principal}:{wish_of(wish.request)}"


def _cut(quoted: str) -> str:
    return quoted if len(quoted) <= PROMPT_SHOWN else f'{quoted[: PROMPT_SHOWN - 2]}…"'


async def _declined(job: Job, answer: str, *, journal: Journal) -> PurchaseDeclined:
    """Leave a line in the journal, and return the error."""
    error = PurchaseDeclined(
        message=f"The program that you run in answered the question about this purchase with "
        f'"{answer}"; it may not have shown it to the user. Nothing was bought.',
        next_step="Do not call again on your own. Tell the user what it would cost and that the "
        "question was answered so. Who was never asked can set EVOLINK_CONFIRM to never or to "
        "above:N, and cap the spending with EVOLINK_DAILY_CREDITS.",
    )
    await journal.decline(replace(job, state="declined", error=error))
    return error


def _confirmation_needed(wish: _Wish, setting: Confirm) -> ConfirmationNeeded:
    return ConfirmationNeeded(
        message=f"This costs about {wish.price.credits:g} credits{_basis(wish)} and needs the "
        f"user's consent (EVOLINK_CONFIRM={setting}), which the program that you run in cannot "
        f"ask for. Nothing was bought.{_publishing(wish)}",
        next_step="Ask the user, naming the price. If the user agrees, call again with the same "
        "arguments and confirm=true.",
    )
