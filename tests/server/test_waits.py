"""The end of the waiting of calls, with a server in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from mcp import Client
from mcp.types import CallToolResult

from evolink_mcp.api.network import Network
from evolink_mcp.jobs.database import FILE_NAME
from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.app import App
from evolink_mcp.server.build import Gate, build_server
from evolink_mcp.server.waits import Waits
from tests.jobs.shop import Line
from tests.servers import answer_of, settings_for


@pytest.fixture(autouse=True)
def no_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evolink_mcp.server.calls.LAST_WORD", 0.0)


@asynccontextmanager
async def calling(folder: Path, line: Line, **changes: Any) -> AsyncGenerator[tuple[Client, Waits]]:  # noqa: ANN401 - any setting
    apps: list[App] = []
    server = build_server(
        settings_for(folder, **changes),
        network=Network(transport=line),
        gate=Gate(opened=apps.append),
    )
    with anyio.fail_after(20):
        async with Client(server) as client:
            yield client, apps[0].waits


async def stopped_in(
    folder: Path,
    line: Line,
    name: str,
    arguments: dict[str, Any],
) -> CallToolResult:
    """Call, and let the server begin to stop once it has sent a request."""
    found: list[CallToolResult] = []
    before = len(line.seen)
    async with calling(folder, line) as (client, waits), anyio.create_task_group() as group:

        async def ask() -> None:
            found.append(await client.call_tool(name, arguments))

        group.start_soon(ask)
        while len(line.seen) == before:
            await anyio.lowlevel.checkpoint()
        waits.end()
    return found[0]


async def test_a_wait_that_begins_after_the_end_is_over_at_once(tmp_path: Path) -> None:
    line = Line(Sandbox())
    async with calling(tmp_path, line) as (client, waits):
        bought = await client.call_tool("generate_image", {"prompt": "[stuck]", "wait_seconds": 0})
        waits.end()
        task_id = answer_of(bought).task_id
        looked = await client.call_tool("get_task", {"task_id": task_id})
        refused = await client.call_tool("generate_image", {"prompt": "another"})
    assert answer_of(looked).next_call is not None
    error = answer_of(refused).error
    assert error is not None
    assert (error.code, error.charged, error.retryable) == ("server_stopping", "no", True)
    assert answer_of(refused).status == "refused"
    assert list(line.sandbox.tasks) == [task_id]


async def test_a_call_whose_purchase_is_not_answered_says_how_to_come_back_to_it(
    tmp_path: Path,
) -> None:
    line = Line(Sandbox())
    line.held = anyio.Event()
    answer = answer_of(await stopped_in(tmp_path, line, "generate_image", {"prompt": "a fox"}))
    assert answer.error is not None
    assert (answer.status, answer.error.charged) == ("unknown", "unknown")
    assert "joins this purchase" in answer.error.next_step


async def test_a_call_that_still_looks_at_its_inputs_buys_nothing(tmp_path: Path) -> None:
    line = Line(Sandbox(), held_gets=("reference", anyio.Event()))
    asked = {"prompt": "a fox", "image_urls": ["https://sandbox.test/files/reference.png"]}
    answer = answer_of(await stopped_in(tmp_path, line, "generate_image", asked))
    assert answer.error is not None
    assert (answer.error.code, answer.error.charged) == ("server_stopping", "no")
    assert len(line.sandbox.tasks) == 0


async def test_a_task_that_could_not_be_read_any_more_is_not_forgotten(tmp_path: Path) -> None:
    line = Line(Sandbox(), held_gets=("/v1/tasks", anyio.Event()))
    asked = {"task_id": "task-unified-1"}
    answer = answer_of(await stopped_in(tmp_path, line, "get_task", asked))
    assert answer.error is not None
    assert (answer.task_id, answer.error.code) == ("task-unified-1", "server_stopping")
    assert answer.next_call is not None


async def test_a_call_that_still_uploads_buys_nothing(tmp_path: Path) -> None:
    line = Line(Sandbox(speed=1000))
    async with calling(tmp_path, line) as (client, _):
        bought = answer_of(await client.call_tool("generate_image", {"prompt": "a fox"}))
    assert bought.images
    with closing(sqlite3.connect(settings_for(tmp_path).data_folder() / FILE_NAME)) as record:
        record.execute("UPDATE pictures SET expires_at='2020-01-01T00:00:00+00:00'")
        record.commit()
    line.held = anyio.Event()
    asked = {"prompt": "a hat", "image_urls": [bought.images[0].handle]}
    answer = answer_of(await stopped_in(tmp_path, line, "generate_image", asked))
    assert answer.error is not None
    assert (answer.error.code, answer.error.charged) == ("server_stopping", "no")
    assert len(line.sandbox.tasks) == 1
