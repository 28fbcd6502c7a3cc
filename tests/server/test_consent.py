"""Consent before credits are spent: who is asked, what counts as yes, and that yes counts once."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import anyio
import pytest
from jsonschema import validate
from mcp import Client, MCPError
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.types import (
    CallToolResult,
    ClientCapabilities,
    ElicitationCapability,
    ElicitRequestFormParams,
    ElicitResult,
    ErrorData,
    FormElicitationCapability,
    InputRequiredResult,
    InputResponses,
    ListRootsResult,
    TextContent,
    UrlElicitationCapability,
)

from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.errors import EvolinkError, InvalidRequest, PurchaseDeclined
from evolink_mcp.jobs.job import LOCAL, Job, State, new_job_id
from evolink_mcp.jobs.journal import Budget, Journal
from evolink_mcp.server.consent import (
    ANSWER_SECONDS,
    QUESTION,
    Consent,
    can_ask,
    split_confirm,
    with_confirm,
)
from evolink_mcp.server.results import failed, listed, states_shown_as
from evolink_mcp.settings import Confirm
from tests.jobs.records import FOX, NO_CAP, admitted, new_job, open_record, submitted
from tests.sandbox.desk import Clock
from tests.servers import Era, answer_of, text_of

ALWAYS, NEVER, ABOVE = Confirm("always"), Confirm("never"), Confirm("above", 5.0)
YES = ElicitResult(action="accept", content={"buy": True})
FOXES: dict[str, Any] = {"prompt": "a fox", "n": 4}


@dataclass
class Shop:
    """A server with one tool, which buys as `generate_image` does."""

    journal: Journal
    consent: Consent
    clock: Clock
    budget: Budget = NO_CAP

    async def lines(self, *states: State) -> list[Job]:
        return await self.journal.newest(LOCAL, states=states, limit=100)


@dataclass
class User:
    """Answers questions, one after the other; the last answer for all that follow."""

    answers: list[ElicitResult | ErrorData]
    asked: list[str] = field(default_factory=list[str])
    forms: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    async def __call__(
        self,
        context: object,  # noqa: ARG002 - the SDK's name
        params: object,
    ) -> ElicitResult | ErrorData:
        assert isinstance(params, ElicitRequestFormParams)
        self.asked.append(params.message)
        self.forms.append(params.requested_schema)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class _AsTheyCome(FuncMetadata):
    def validate_arguments(self, arguments_to_validate: dict[str, Any]) -> dict[str, Any]:
        return {"arguments": arguments_to_validate}


async def buy(
    arguments: dict[str, object], ctx: Context[Shop]
) -> CallToolResult | InputRequiredResult:
    shop = ctx.request_context.lifespan_context
    try:
        fields, confirmed = split_confirm(arguments, shop.consent.setting)
        request = ImageRequest(model=FOX.model, **cast("dict[str, Any]", fields))
        budget = await shop.consent.obtain(ctx, request, budget=shop.budget, confirmed=confirmed)
        if isinstance(budget, InputRequiredResult):
            return budget
        job = Job(id=new_job_id(), request=request)
        bought = (await shop.journal.admit(job, budget=budget)).job
        shop.journal.answered(bought.id)
    except EvolinkError as error:
        return failed(error)
    return CallToolResult(content=[TextContent(type="text", text=bought.id)])


def server_of(shop: Shop) -> MCPServer[Shop]:
    @asynccontextmanager
    async def lifespan(_: MCPServer[Shop]) -> AsyncGenerator[Shop]:
        yield shop

    tool = Tool(
        fn=buy,
        name="buy",
        title=None,
        description="Buys.",
        parameters=with_confirm({"type": "object", "properties": {}}, shop.consent.setting),
        fn_metadata=_AsTheyCome(arg_model=ArgModelBase),
        is_async=True,
        context_kwarg="ctx",
        annotations=None,
    )
    return MCPServer("shop", tools=[tool], lifespan=lifespan)


@asynccontextmanager
async def shop_of(setting: Confirm, *, a_day: float | None = None) -> AsyncGenerator[Shop]:
    clock = Clock()
    async with open_record(None, clock) as journal:

        async def opened() -> Journal:
            return journal

        consent = Consent(setting=setting, journal=opened, now=clock)
        yield Shop(journal, consent, clock, replace(NO_CAP, a_day=a_day))


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with shop_of(ALWAYS) as opened:
        yield opened


def host(shop: Shop, era: Era, user: User | None = None) -> Client:
    return Client(server_of(shop), mode=era, elicitation_callback=user)


def code_of(result: CallToolResult) -> str:
    error = answer_of(result).error
    assert result.is_error
    assert error is not None
    assert error.charged == "no"
    assert error.next_step
    return error.code


async def test_the_user_is_asked_once_and_yes_buys_once(shop: Shop, era: Era) -> None:
    user = User([YES])
    async with host(shop, era, user) as client:
        result = await client.call_tool("buy", FOXES)
        assert [job.id for job in await shop.lines()] == [text_of(result)]
    [question], [form] = user.asked, user.forms
    assert question == (
        "Buy 4 pictures of gpt-4o-image from EvoLink for about 10 credits (an estimate: none was "
        'bought before)? Spent or reserved today: 0 credits. Prompt: "a fox"'
    )
    assert list(form["properties"]) == ["buy"]
    assert form["properties"]["buy"]["type"] == "boolean"
    assert form["required"] == ["buy"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ElicitResult(action="decline"), '"decline"'),
        (ElicitResult(action="cancel"), '"cancel"'),
        (ElicitResult(action="accept", content={"buy": False}), '"accept, but not with buy"'),
        (ElicitResult(action="accept", content={"buy": "perhaps"}), '"accept, but not with buy"'),
        (ElicitResult(action="accept", content={}), '"accept, but not with buy"'),
        (ElicitResult(action="accept"), '"accept, but not with buy"'),
    ],
)
async def test_anything_but_yes_buys_nothing_and_is_not_called_the_users_word(
    shop: Shop, era: Era, answer: ElicitResult, said: str
) -> None:
    user = User([answer])
    async with host(shop, era, user) as client:
        result = await client.call_tool("buy", {**FOXES, "confirm": True})
        [line] = await shop.lines()
        assert (line.state, line.booked, line.asked) == ("declined", 0.0, 4)
        assert await shop.journal.spent_today() == 0.0
    assert code_of(result) == "declined"
    assert len(user.asked) == 1
    assert f"answered the question about this purchase with {said}" in text_of(result)
    assert "may not have shown it to the user. Nothing was bought." in text_of(result)
    assert str(line.error) in text_of(result)


async def test_a_host_that_fails_to_ask_buys_nothing(shop: Shop) -> None:
    user = User([ErrorData(code=-32601, message="Not here.")])
    async with host(shop, "legacy", user) as client:
        result = await client.call_tool("buy", {**FOXES, "confirm": True})
        assert code_of(result) == "declined"
        assert 'with "an error"' in text_of(result)
        assert [job.state for job in await shop.lines()] == ["declined"]


async def test_a_host_that_answers_nonsense_buys_nothing(shop: Shop) -> None:
    ctx = cast("Context[Any, Any]", Stub(protocol_version="2025-06-18", can_send_request=True))
    with pytest.raises(PurchaseDeclined, match='with "an error"'):
        await shop.consent.obtain(ctx, FOX, budget=NO_CAP, confirmed=True)
    assert [job.state for job in await shop.lines()] == ["declined"]


async def test_a_host_that_cannot_ask_has_to_confirm(shop: Shop, era: Era) -> None:
    async with host(shop, era) as client:
        for arguments in (FOXES, {**FOXES, "confirm": False}, {**FOXES, "confirm": None}):
            result = await client.call_tool("buy", arguments)
            assert code_of(result) == "confirmation_needed"
            assert "about 10 credits" in text_of(result)
            assert "EVOLINK_CONFIRM=always" in text_of(result)
            assert "confirm=true" in text_of(result)
            assert await shop.lines() == []
        assert not (await client.call_tool("buy", {**FOXES, "confirm": True})).is_error
        assert [job.state for job in await shop.lines()] == ["intent"]


async def test_a_model_cannot_confirm_past_the_user(shop: Shop, era: Era) -> None:
    user = User([ElicitResult(action="decline")])
    async with host(shop, era, user) as client:
        result = await client.call_tool("buy", {**FOXES, "confirm": "true"})
        assert (code_of(result), len(user.asked)) == ("declined", 1)


async def test_where_nobody_is_to_be_asked_nobody_is(era: Era) -> None:
    user = User([ElicitResult(action="decline")])
    async with shop_of(NEVER) as shop, host(shop, era, user) as client:
        assert not (await client.call_tool("buy", FOXES)).is_error
        assert user.asked == []
        [job] = await shop.lines()
        assert job.booked == 10.0


async def test_only_what_costs_more_than_the_limit_is_asked_about(era: Era) -> None:
    user = User([YES])
    async with shop_of(ABOVE) as shop, host(shop, era, user) as client:
        assert not (await client.call_tool("buy", {"prompt": "a fox", "n": 2})).is_error
        assert user.asked == []
        assert not (await client.call_tool("buy", {"prompt": "a fox", "n": 4})).is_error
        assert len(user.asked) == 1


async def test_what_is_asked_tells_the_last_price_the_day_and_a_piece_of_the_prompt(
    era: Era,
) -> None:
    user = User([YES])
    async with shop_of(ALWAYS, a_day=20.0) as shop, host(shop, era, user) as client:
        last = submitted(await admitted(shop.journal), credits_reserved=4.0)
        await shop.journal.record(replace(last, booked=4.0))
        shop.clock.now += 1
        secret = "sk-evo-0123456789abcdef"
        await client.call_tool("buy", {"prompt": f'line one\n"{secret}" ' + "x" * 400})
        await client.call_tool("buy", {})
    first, second = user.asked
    assert first.startswith(
        "Buy 1 picture of gpt-4o-image from EvoLink for about 4 credits? Spent or reserved today: "
        "4 of 20 credits. Prompt: \"line one '[redacted]' xxx"
    )
    assert secret[:12] not in first
    assert len(first.partition("Prompt: ")[2]) == 200
    assert first.endswith('x…"')
    assert second.endswith("Spent or reserved today: 8 of 20 credits.")


async def test_what_the_cap_forbids_is_not_asked_about(era: Era) -> None:
    user = User([YES])
    async with shop_of(ALWAYS, a_day=9.0) as shop, host(shop, era, user) as client:
        assert code_of(await client.call_tool("buy", FOXES)) == "daily_cap_reached"
        assert (user.asked, await shop.lines()) == ([], [])


async def test_who_joins_an_earlier_purchase_is_not_asked(shop: Shop, era: Era) -> None:
    user = User([ElicitResult(action="decline")])
    async with host(shop, era, user) as client:
        earlier = await admitted(shop.journal, new_job(replace(FOX, n=4)))
        assert text_of(await client.call_tool("buy", FOXES)) == earlier.id
        assert code_of(await client.call_tool("buy", FOXES)) == "declined"
        assert len(user.asked) == 1


async def test_a_price_that_rises_after_the_answer_is_not_paid(shop: Shop) -> None:
    """It rises while the user of a legacy host thinks."""

    async def think(context: object, params: object) -> ElicitResult:  # noqa: ARG001 - the SDK's
        await admit_dearer(shop)
        return YES

    client = Client(server_of(shop), mode="legacy", elicitation_callback=think)
    async with client:
        result = await client.call_tool("buy", FOXES)
        assert code_of(result) == "confirmation_needed"
        assert "about 16 credits by now, and no more than 10 are agreed to" in text_of(result)
        assert len(await shop.lines()) == 1


async def admit_dearer(shop: Shop) -> None:
    job = submitted(await admitted(shop.journal), credits_reserved=4.0)
    await shop.journal.record(replace(job, booked=4.0))


async def test_a_declined_purchase_is_listed_as_such(shop: Shop) -> None:
    async with host(shop, "auto", User([ElicitResult(action="decline")])) as client:
        await client.call_tool("buy", FOXES)
        [entry] = listed(await shop.lines(), spent=0, cap=None).tasks or []
        assert (entry.status, entry.prompt, entry.n) == ("declined", "a fox", 4)
        assert (entry.task_id, entry.credits, entry.paths) == (None, None, None)
        assert "Nothing was bought" in str(entry.problem)
        assert states_shown_as("declined") == ["declined"]


# --- 2026-07-28: the question is the call's result, and the answer comes with the call again.


async def ask(client: Client, arguments: Mapping[str, Any] = FOXES) -> str:
    """Call as a modern host does at first; return the state that came with the question."""
    result = await client.session.call_tool("buy", dict(arguments), allow_input_required=True)
    return state_of(result)


def state_of(result: CallToolResult | InputRequiredResult) -> str:
    assert isinstance(result, InputRequiredResult)
    assert result.input_requests is not None
    assert list(result.input_requests) == [QUESTION]
    assert result.request_state is not None
    return result.request_state


async def reply(
    client: Client,
    state: str | None,
    *,
    arguments: Mapping[str, Any] = FOXES,
    responses: InputResponses | None = None,
) -> CallToolResult | InputRequiredResult:
    """Call again, with an answer."""
    return await client.session.call_tool(
        "buy",
        dict(arguments),
        input_responses={QUESTION: YES} if responses is None else responses,
        request_state=state,
        allow_input_required=True,
    )


async def test_a_question_spends_nothing_and_leaves_no_line(shop: Shop) -> None:
    async with host(shop, "auto", User([YES])) as client:
        state = await ask(client)
        assert await shop.lines() == []
    assert "asked" not in state
    assert "token" not in state


async def test_an_answer_that_is_sent_again_asks_again(shop: Shop) -> None:
    async with host(shop, "auto", User([YES])) as client:
        state = await ask(client)
        assert isinstance(await reply(client, state), CallToolResult)
        for _ in range(3):
            assert state_of(await reply(client, state)) != state
        assert len(await shop.lines()) == 1


async def test_of_many_equal_answers_at_once_one_buys(shop: Shop) -> None:
    bought: list[bool] = []
    async with host(shop, "auto", User([YES])) as client:
        state = await ask(client)

        async def call() -> None:
            bought.append(isinstance(await reply(client, state), CallToolResult))

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for _ in range(50):
                    group.start_soon(call)
        assert len(await shop.lines()) == 1
    assert len(bought) == 50


async def test_a_no_that_is_sent_again_asks_again(shop: Shop) -> None:
    no: InputResponses = {QUESTION: ElicitResult(action="decline")}
    async with host(shop, "auto", User([YES])) as client:
        state = await ask(client)
        declined = await reply(client, state, responses=no)
        assert isinstance(declined, CallToolResult)
        assert code_of(declined) == "declined"
        state_of(await reply(client, state))
        assert [job.state for job in await shop.lines()] == ["declined"]


@pytest.mark.parametrize(
    "arguments", [{**FOXES, "n": 1}, {**FOXES, "prompt": "two foxes"}, {**FOXES, "confirm": True}]
)
async def test_a_yes_to_other_arguments_buys_nothing(shop: Shop, arguments: dict[str, Any]) -> None:
    async with host(shop, "auto", User([YES])) as client:
        state = await ask(client)
        with pytest.raises(MCPError, match="Invalid or expired requestState"):
            await reply(client, state, arguments=arguments)
        assert await shop.lines() == []


async def test_a_yes_without_a_question_is_asked_about(shop: Shop) -> None:
    async with host(shop, "auto", User([YES])) as client:
        state_of(await reply(client, None))
        state_of(await reply(client, await ask(client), responses={}))
        assert await shop.lines() == []


async def test_a_forged_state_buys_nothing(shop: Shop) -> None:
    async with host(shop, "auto", User([YES])) as client:
        forged = f'{{"token": "a", "asked": {shop.clock.now}, "credits": 99}}'
        for state in (forged, (await ask(client))[:-4] + "AAAA"):
            with pytest.raises(MCPError, match="Invalid or expired requestState"):
                await reply(client, state)
        assert await shop.lines() == []


@pytest.mark.parametrize(
    ("seconds", "counts"), [(ANSWER_SECONDS, True), (ANSWER_SECONDS + 1, False), (-1, False)]
)
async def test_an_answer_counts_for_ten_minutes(
    shop: Shop, seconds: float, *, counts: bool
) -> None:
    async with host(shop, "auto", User([YES])) as client:
        state = await ask(client)
        shop.clock.now += seconds
        assert isinstance(await reply(client, state), CallToolResult) == counts
        assert len(await shop.lines()) == counts


async def test_used_answers_are_forgotten_once_they_are_too_old_to_count(shop: Shop) -> None:
    async with host(shop, "auto", User([YES])) as client:
        for _ in range(5):
            await reply(client, state := await ask(client))
            assert len(shop.consent._used) == 1
            shop.clock.now += ANSWER_SECONDS + 1
            state_of(await reply(client, state))
            assert shop.consent._used == {}


async def test_prices_that_were_told_are_forgotten_once_they_are_too_old_to_count(
    shop: Shop,
) -> None:
    async with host(shop, "auto") as client:
        for n in range(3):
            refused = await client.call_tool("buy", {"prompt": f"fox {n}"})
            assert code_of(refused) == "confirmation_needed"
        assert len(shop.consent._told) == 3
        shop.clock.now += ANSWER_SECONDS + 1
        await client.call_tool("buy", {"prompt": "a fox"})
        assert len(shop.consent._told) == 1


async def test_a_price_that_has_risen_is_asked_about_again(shop: Shop) -> None:
    async with host(shop, "auto", User([YES])) as client:
        state = await ask(client)
        await admit_dearer(shop)
        dearer = state_of(await reply(client, state))
        assert len(await shop.lines()) == 1
        assert isinstance(await reply(client, dearer), CallToolResult)
        assert (await shop.lines("intent"))[0].booked == 16.0


async def test_an_answer_to_another_question_buys_nothing(shop: Shop) -> None:
    async with host(shop, "auto", User([YES])) as client:
        state = await ask(client)
        roots: InputResponses = {QUESTION: ListRootsResult(roots=[])}
        result = await reply(client, state, responses=roots)
        assert isinstance(result, CallToolResult)
        assert code_of(result) == "declined"
        assert "an answer to another question" in text_of(result)


async def test_the_state_of_another_round_is_no_question_of_ours(shop: Shop) -> None:
    ctx = cast("Context[Any, Any]", Stub(request_state="not ours", input_responses={QUESTION: YES}))
    answer = await shop.consent.obtain(ctx, FOX, budget=NO_CAP, confirmed=True)
    assert isinstance(answer, InputRequiredResult)


# --- Many at once, and the small print.


async def test_cap_and_consent_hold_under_fifty_calls_at_once(era: Era) -> None:
    """Every other one is declined, and the cap has room for 8 of the others."""
    asked, codes = list[str](), list[str]()

    async def decide(context: object, params: object) -> ElicitResult:  # noqa: ARG001 - the SDK's
        assert isinstance(params, ElicitRequestFormParams)
        found = re.search(r"fox (\d+)", params.message)
        assert found is not None
        asked.append(found[1])
        return ElicitResult(action="decline") if int(found[1]) % 2 else YES

    async with shop_of(ALWAYS, a_day=20.0) as shop:
        client = Client(server_of(shop), mode=era, elicitation_callback=decide)

        async def call(n: int) -> None:
            result = await client.call_tool("buy", {"prompt": f"fox {n}", "confirm": True})
            codes.append(code_of(result) if result.is_error else "bought")

        async with client:
            with anyio.fail_after(60):
                async with anyio.create_task_group() as group:
                    for n in range(50):
                        group.start_soon(call, n)
            bought = await shop.lines("intent")
            assert (len(bought), await shop.journal.spent_today()) == (8, 20.0)
            declined = await shop.lines("declined")
            assert len(await shop.lines()) == len(bought) + len(declined)
        assert codes.count("bought") == 8
        assert codes.count("declined") == len(declined)
        assert codes.count("daily_cap_reached") == 50 - 8 - len(declined)
    prompts = {job.request.prompt for job in bought if job.request}
    assert {int(prompt[4:]) % 2 for prompt in prompts} == {0}
    assert len(asked) == len(set(asked))


FORM, URL = FormElicitationCapability(), UrlElicitationCapability()


@dataclass
class Stub:
    """As much of a context as is looked at."""

    client_capabilities: ClientCapabilities | None = field(
        default_factory=lambda: ClientCapabilities(elicitation=ElicitationCapability())
    )
    protocol_version: str | None = "2026-07-28"
    can_send_request: bool = False
    request_state: str | None = None
    input_responses: InputResponses | None = None

    request_id: str = "1"

    @property
    def session(self) -> Stub:
        return self

    async def elicit_form(self, *_: object, **__: object) -> ElicitResult:
        """Read what is no answer, as the SDK does."""
        return ElicitResult.model_validate({"action": "perhaps"})


@pytest.mark.parametrize(
    ("elicitation", "asks"),
    [
        (None, False),
        (ElicitationCapability(), True),
        (ElicitationCapability(form=FORM), True),
        (ElicitationCapability(form=FORM, url=URL), True),
        (ElicitationCapability(url=URL), False),
    ],
)
@pytest.mark.parametrize(
    ("version", "has_channel", "reaches"),
    [("2026-07-28", False, True), ("2025-06-18", True, True), ("2025-06-18", False, False)],
)
def test_who_can_be_asked(
    elicitation: ElicitationCapability | None,
    version: str,
    *,
    asks: bool,
    has_channel: bool,
    reaches: bool,
) -> None:
    stub = Stub(ClientCapabilities(elicitation=elicitation), version, has_channel)
    assert can_ask(cast("Context[Any, Any]", stub)) == (asks and reaches)


def test_who_declares_nothing_cannot_be_asked() -> None:
    assert not can_ask(cast("Context[Any, Any]", Stub(None)))
    assert not can_ask(cast("Context[Any, Any]", Stub(protocol_version=None)))


def test_confirm_is_an_argument_only_where_consent_is_asked_for() -> None:
    schema = {"type": "object", "properties": {"prompt": {"type": "string"}}}
    assert with_confirm(schema, NEVER) == schema
    for setting, which in ((ALWAYS, "of any price"), (ABOVE, "of more than 5 credits")):
        told = with_confirm(schema, setting)
        assert list(told["properties"]) == ["prompt", "confirm"]
        assert set(told["properties"]["confirm"]) == {"type", "description"}
        assert which in told["properties"]["confirm"]["description"]
        validate({"confirm": True}, told)
    assert list(schema["properties"]) == ["prompt"]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (True, True),
        (False, False),
        (None, False),
        ("true", True),
        (" True ", True),
        ("FALSE", False),
    ],
)
def test_confirm_is_read_and_taken_out(value: object, *, read: bool) -> None:
    given = {"prompt": "a fox", "confirm": value}
    assert split_confirm(given, ALWAYS) == ({"prompt": "a fox"}, read)
    assert split_confirm({"prompt": "a fox"}, ABOVE) == ({"prompt": "a fox"}, False)
    assert split_confirm(given, NEVER) == (given, False)


@pytest.mark.parametrize("value", [1, 0, "yes", "", [True], {}])
def test_confirm_is_nothing_but_a_boolean(value: object) -> None:
    with pytest.raises(InvalidRequest, match=r"^confirm: must be a boolean; allowed: true, false"):
        split_confirm({"confirm": value}, ALWAYS)
