"""`list_tasks`: what was bought, in words and in figures, also when it went wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dirty_equals import IsDatetime, IsStr
from jsonschema import validate
from mcp import Client
from mcp.types import CallToolResult

from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.answers import TaskList
from tests.servers import answer_of, host_of, settings_for, text_of


def list_in(result: CallToolResult) -> TaskList:
    return TaskList.model_validate(result.structured_content)


async def test_an_empty_list_says_so(host: Client) -> None:
    result = await host.call_tool("list_tasks", {})
    assert result.structured_content == {"tasks": [], "spent_today": 0.0}
    assert text_of(result) == "Nothing is here.\nSpent or reserved today: 0 credits."


async def test_a_bought_picture_is_listed_with_all_that_is_known(
    host: Client, tmp_path: Path
) -> None:
    bought = answer_of(await host.call_tool("generate_image", {"prompt": "a red\n fox", "n": 2}))
    result = await host.call_tool("list_tasks", {})
    assert result.structured_content == {
        "tasks": [
            {
                "status": "completed",
                "job_id": IsStr(regex=r"run_[0-9a-f]{32}"),
                "task_id": bought.task_id,
                "created": IsDatetime(iso_string=True),
                "model": "gpt-4o-image",
                "prompt": "a red fox",
                "n": 2,
                "credits": 5.0,
                "paths": [str(tmp_path / f"{bought.task_id}-{n}.png") for n in (1, 2)],
            }
        ],
        "spent_today": 5.0,
    }
    [entry] = list_in(result).tasks or []
    for fact in (bought.task_id, "completed", entry.created, "5 credits", *(entry.paths or ())):
        assert str(fact) in text_of(result)


async def test_every_end_has_its_word(host: Client) -> None:
    endings = {
        "a fox": "completed",
        "[fail:service_error] a fox": "failed",
        "[http:402] a fox": "refused",
        "[html:502] a fox": "unknown",
        "[truncated] a fox": "unsaved",
        "[empty] a fox": "running",
    }
    for prompt in endings:
        await host.call_tool("generate_image", {"prompt": prompt})
    entries = list_in(await host.call_tool("list_tasks", {})).tasks or []
    assert {entry.prompt: entry.status for entry in entries} == endings
    assert [entry.prompt for entry in entries] == list(reversed(endings))
    for prompt, status in endings.items():
        found = list_in(await host.call_tool("list_tasks", {"status": status})).tasks or []
        assert [entry.prompt for entry in found] == [prompt]
    told = {entry.status: entry.problem for entry in entries}
    assert "not known whether EvoLink took it" in str(told["unknown"])
    assert "could not be fetched" in str(told["unsaved"]) or "cut off" in str(told["unsaved"])


async def test_an_unknown_outcome_is_listed_without_a_task_id(host: Client) -> None:
    await host.call_tool("generate_image", {"prompt": "[html:502] a fox"})
    result = await host.call_tool("list_tasks", {"status": "unknown"})
    [entry] = list_in(result).tasks or []
    assert (entry.task_id, entry.credits) == (None, None)
    assert entry.job_id in text_of(result)
    assert list_in(result).spent_today == 2.5


async def test_a_long_prompt_is_shown_by_its_beginning(host: Client) -> None:
    await host.call_tool("generate_image", {"prompt": "[http:402] " + "fox " * 100})
    [entry] = list_in(await host.call_tool("list_tasks", {})).tasks or []
    assert entry.prompt is not None
    assert (len(entry.prompt), entry.prompt[-1]) == (80, "…")


async def test_the_list_outlives_the_process_and_holds_what_was_bought_elsewhere(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    other = settings_for(tmp_path, data_dir=tmp_path / "other")
    async with host_of(sandbox, other) as host:
        task_id = answer_of(await host.call_tool("generate_image", {"prompt": "a fox"})).task_id
    async with host_of(sandbox, settings_for(tmp_path)) as host:
        await host.call_tool("get_task", {"task_id": task_id})
    async with host_of(sandbox, settings_for(tmp_path)) as host:
        [entry] = list_in(await host.call_tool("list_tasks", {})).tasks or []
    assert (entry.task_id, entry.status, entry.prompt, entry.n) == (
        task_id,
        "completed",
        None,
        None,
    )


@pytest.mark.parametrize(("limit", "count"), [(1, 1), ("2", 2), (2.0, 2), (100, 3), (None, 3)])
async def test_the_newest_come_first_and_no_more_than_were_asked_for(
    host: Client, limit: object, count: int
) -> None:
    for number in range(3):
        await host.call_tool("generate_image", {"prompt": f"[http:402] fox {number}"})
    entries = list_in(await host.call_tool("list_tasks", {"limit": limit})).tasks or []
    assert [entry.prompt for entry in entries] == [
        f"[http:402] fox {number}" for number in (2, 1, 0)[:count]
    ]


@pytest.mark.parametrize(
    ("arguments", "explained"),
    [
        ({"status": "done"}, "status: does not exist; allowed: running, completed, unsaved, fail"),
        ({"status": ["running"]}, "status: does not exist; allowed: "),
        ({"limit": 0}, "limit: must be a whole number; allowed: 1 to 100."),
        ({"limit": 101}, "limit: must be a whole number; allowed: 1 to 100."),
        ({"limit": "many"}, "limit: must be a whole number; allowed: 1 to 100."),
        ({"limit": "inf"}, "limit: must be a whole number; allowed: 1 to 100."),
        ({"limit": 1.5}, "limit: must be a whole number; allowed: 1 to 100."),
        ({"limit": True}, "limit: must be a whole number; allowed: 1 to 100."),
        ({"limit": []}, "limit: must be a whole number; allowed: 1 to 100."),
        ({"page": 2}, '"page": is not an argument of this tool; allowed: status, limit.'),
    ],
)
async def test_a_broken_rule_is_named(
    host: Client, arguments: dict[str, Any], explained: str
) -> None:
    result = await host.call_tool("list_tasks", arguments)
    assert result.is_error
    assert text_of(result).startswith(explained)


async def test_no_key_is_needed_to_look(sandbox: Sandbox, tmp_path: Path) -> None:
    async with host_of(sandbox, settings_for(tmp_path, api_key="")) as host:
        assert not (await host.call_tool("list_tasks", {})).is_error
    assert not sandbox.requests


async def test_a_damaged_record_is_told_and_left_alone(sandbox: Sandbox, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    journal = data / "journal.sqlite3"
    journal.write_bytes(b"no database" * 1000)
    async with host_of(sandbox, settings_for(tmp_path, data_dir=data)) as host:
        result = await host.call_tool("list_tasks", {})
        [schema] = [
            t.output_schema for t in (await host.list_tools()).tools if t.name == "list_tasks"
        ]
    error = list_in(result).error
    assert result.is_error
    assert error is not None
    assert (error.code, error.charged) == ("journal_unusable", "no")
    assert str(journal) in error.message
    assert journal.read_bytes() == b"no database" * 1000
    assert schema is not None
    validate(result.structured_content, schema)


async def test_the_cap_of_a_day_is_shown(sandbox: Sandbox, tmp_path: Path) -> None:
    async with host_of(sandbox, settings_for(tmp_path, daily_credits=9)) as host:
        await host.call_tool("generate_image", {"prompt": "a fox"})
        result = await host.call_tool("list_tasks", {})
    assert text_of(result).endswith("Spent or reserved today: 2.5 of 9 credits.")
    assert list_in(result).daily_credits == 9
