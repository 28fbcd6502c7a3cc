"""`get_credits`: the balance, what was spent today, and what may have been charged."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dirty_equals import IsDatetime
from jsonschema import validate
from mcp import Client
from mcp.server import MCPServer
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.types import CallToolResult

from evolink_mcp.api.account import Credits
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.jobs.job import Job, new_job_id
from evolink_mcp.jobs.journal import Budget
from evolink_mcp.jobs.submit import outcome_unknown
from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.app import App, run_app
from evolink_mcp.server.credits import (
    DESCRIPTION,
    MOST_UNKNOWN,
    SCHEMA,
    CreditsAnswer,
    _answer,
    _result,
    get_credits,
    read_credits,
)
from evolink_mcp.server.schema import portable_schema
from evolink_mcp.settings import Settings
from tests.servers import Era, network_of, settings_for, text_of

FOXES = ImageRequest(model="gpt-4o-image", prompt="a fox", n=2)


class _AsTheyCome(FuncMetadata):
    def validate_arguments(self, arguments_to_validate: dict[str, Any]) -> dict[str, Any]:
        return {"arguments": arguments_to_validate}


@asynccontextmanager
async def host_of(sandbox: Sandbox, settings: Settings, *, era: Era) -> AsyncGenerator[Client]:
    """Connect a host to a server that has nothing but this tool."""

    @asynccontextmanager
    async def lifespan(_: MCPServer[App]) -> AsyncGenerator[App]:
        async with run_app(settings, network_of(sandbox)) as app:
            yield app

    schema = portable_schema(CreditsAnswer)
    metadata = _AsTheyCome(arg_model=ArgModelBase, output_schema=schema, output_model=CreditsAnswer)
    tool = Tool(
        fn=get_credits,
        name="get_credits",
        title=None,
        description=DESCRIPTION,
        parameters=dict(SCHEMA),
        fn_metadata=metadata,
        is_async=True,
        context_kwarg="ctx",
        annotations=None,
    )
    async with Client(MCPServer("credits", tools=[tool], lifespan=lifespan), mode=era) as client:
        yield client


async def told(sandbox: Sandbox, settings: Settings, *jobs: Job) -> CallToolResult:
    """Ask for the credits after some jobs were recorded."""
    async with run_app(settings, network_of(sandbox)) as app:
        for job in jobs:
            journal = await app.journal()
            wanted = replace(job, state="intent", error=None)
            await journal.admit(wanted, budget=Budget(a_picture=2.5, a_day=None))
            await journal.record(job, release=True)
        return await read_credits(app)


def unknown(prompt: str = "a fox") -> Job:
    return Job(
        id=new_job_id(),
        request=replace(FOXES, prompt=prompt),
        state="unknown",
        error=outcome_unknown("it broke."),
        booked=5.0,
    )


async def test_balance_and_spending_are_told_in_words_and_figures(
    sandbox: Sandbox, tmp_path: Path, era: Era
) -> None:
    sandbox.credits = 87.5
    settings = settings_for(tmp_path, daily_credits=9, confirm="above:5")
    async with host_of(sandbox, settings, era=era) as host:
        result = await host.call_tool("get_credits", {})
        [tool] = (await host.list_tools()).tools
    confirm = "the user is asked before purchases of more than 5 credits"
    assert result.structured_content == {
        "key_remaining": 87.5,
        "key_used": 0.0,
        "key_unlimited": False,
        "account_remaining": 87.5,
        "account_used": 0.0,
        "spent_today": 0.0,
        "daily_credits": 9.0,
        "left_today": 9.0,
        "confirm": confirm,
        "unknown_outcomes": [],
    }
    assert text_of(result) == (
        "At EvoLink, in credits. This key: 87.5 left, 0 used. The account: 87.5 left, 0 used.\n"
        "Spent or reserved today through this server: 0 credits, 9 are left. The cap for a day is "
        "9 (EVOLINK_DAILY_CREDITS). The user is asked before purchases of more than 5 credits "
        "(EVOLINK_CONFIRM)."
    )
    assert tool.output_schema is not None
    validate(result.structured_content, tool.output_schema)


async def test_a_request_of_unknown_outcome_is_told_with_what_it_may_have_cost(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    job, declined = unknown(), replace(unknown("a dog"), state="declined", booked=0.0)
    result = await told(sandbox, settings_for(tmp_path), job, declined)
    answer = CreditsAnswer.model_validate(result.structured_content)
    assert (answer.spent_today, answer.daily_credits, answer.left_today) == (5.0, None, None)
    [outcome] = answer.unknown_outcomes or []
    assert outcome.model_dump() == {
        "job_id": job.id,
        "created": IsDatetime(iso_string=True),
        "model": "gpt-4o-image",
        "n": 2,
        "expected_credits": 5.0,
    }
    *_, spent, head, line = text_of(result).splitlines()
    assert spent.startswith(
        "Spent or reserved today through this server: 5 credits. No cap for a day is set "
        "(EVOLINK_DAILY_CREDITS). The user is never asked before a purchase (EVOLINK_CONFIRM)."
    )
    assert "evolink.ai" in head
    assert line == (f"- {outcome.created}, {job.id}, 2 of gpt-4o-image, about 5 credits if it did")


async def test_only_the_newest_unknown_outcomes_are_told(sandbox: Sandbox, tmp_path: Path) -> None:
    jobs = [unknown(f"fox {n}") for n in range(MOST_UNKNOWN + 2)]
    result = await told(sandbox, settings_for(tmp_path), *jobs)
    answer = CreditsAnswer.model_validate(result.structured_content)
    assert len(answer.unknown_outcomes or []) == MOST_UNKNOWN
    assert answer.spent_today == 5.0 * (MOST_UNKNOWN + 2)


async def test_a_cap_that_is_passed_leaves_nothing_and_not_less(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    result = await told(sandbox, settings_for(tmp_path, daily_credits=4), unknown())
    answer = CreditsAnswer.model_validate(result.structured_content)
    assert (answer.spent_today, answer.left_today) == (5.0, 0.0)
    assert "5 credits, 0 are left. The cap for a day is 4 (" in text_of(result)


@pytest.mark.parametrize(
    ("changes", "code"), [({"api_key": ""}, "key_missing"), ({"api_key": "sk-no"}, "key_rejected")]
)
async def test_what_the_journal_knows_is_told_though_evolink_cannot_be_asked(
    sandbox: Sandbox, tmp_path: Path, changes: dict[str, str], code: str
) -> None:
    settings = settings_for(tmp_path, confirm="always", **changes)
    result = await told(sandbox, settings, unknown())
    answer = CreditsAnswer.model_validate(result.structured_content)
    assert result.is_error
    assert answer.error is not None
    assert (answer.error.code, answer.error.charged) == (code, "no")
    assert answer.error.next_step
    assert (answer.key_remaining, answer.key_unlimited, answer.spent_today) == (None, None, 5.0)
    assert len(answer.unknown_outcomes or []) == 1
    first, facts, step, spent, *_ = text_of(result).splitlines()
    assert first == answer.error.message
    assert facts == f"Code: {code}. Charged: no. Retryable: no."
    assert step == f"Next step: {answer.error.next_step}"
    assert spent.endswith("The user is asked before every purchase (EVOLINK_CONFIRM).")


async def test_the_balance_is_told_though_the_record_cannot_be_read(
    sandbox: Sandbox, tmp_path: Path, era: Era
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "journal.sqlite3").write_bytes(b"no database" * 1000)
    settings = settings_for(tmp_path, data_dir=data, daily_credits=9)
    async with host_of(sandbox, settings, era=era) as host:
        result = await host.call_tool("get_credits", {})
    answer = CreditsAnswer.model_validate(result.structured_content)
    assert answer.error is not None
    assert answer.error.code == "journal_unusable"
    assert (answer.key_remaining, answer.spent_today, answer.left_today) == (1000.0, None, None)
    assert answer.unknown_outcomes is None
    assert text_of(result).splitlines()[-1] == (
        "The cap for a day is 9 (EVOLINK_DAILY_CREDITS). The user is never asked before a purchase "
        "(EVOLINK_CONFIRM)."
    )


async def test_where_nothing_can_be_learned_the_first_reason_is_told(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "journal.sqlite3").write_bytes(b"no database" * 1000)
    result = await told(sandbox, settings_for(tmp_path, data_dir=data, api_key=""))
    assert result.is_error
    assert CreditsAnswer.model_validate(result.structured_content).error is not None
    assert text_of(result).startswith("No EvoLink API key is set")


async def test_it_takes_no_arguments(sandbox: Sandbox, tmp_path: Path, era: Era) -> None:
    async with host_of(sandbox, settings_for(tmp_path), era=era) as host:
        result = await host.call_tool("get_credits", {"model": "gpt-4o-image"})
    assert result.is_error
    assert text_of(result).startswith('"model": is not an argument of this tool')
    assert not sandbox.requests


@pytest.mark.parametrize(
    ("balance", "said"),
    [
        (
            Credits.model_validate({"data": {"token": {"unlimited_credits": True}}}),
            "This key: no limit of its own. The account: not told.",
        ),
        (
            Credits.model_validate(
                {
                    "data": {
                        "token": {"unlimited_credits": True, "used_credits": 3},
                        "user": {"remaining_credits": 7},
                    }
                }
            ),
            "This key: no limit of its own, 3 used. The account: 7 left.",
        ),
        (Credits(), "This key: not told. The account: not told."),
    ],
)
def test_only_what_evolink_tells_is_told(balance: Credits, said: str, tmp_path: Path) -> None:
    result = _result(_answer(balance, None, settings=settings_for(tmp_path)), None)
    assert said in result.content[0].text  # type: ignore[union-attr]
    assert not result.is_error


async def test_a_task_of_which_nothing_else_is_known_is_told_by_its_name(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    async with run_app(settings_for(tmp_path), network_of(sandbox)) as app:
        journal = await app.journal()
        job = unknown()
        await journal.admit(
            replace(job, state="intent", error=None), budget=Budget(a_picture=2.5, a_day=None)
        )
        await journal.record(job)
        await journal.database.transact(
            lambda connection: connection.execute("UPDATE jobs SET request=NULL")
        )
        result = await read_credits(app)
    [outcome] = CreditsAnswer.model_validate(result.structured_content).unknown_outcomes or []
    assert (outcome.model, outcome.n) == (None, None)
    assert text_of(result).endswith(f", {job.id}, about 5 credits if it did")
