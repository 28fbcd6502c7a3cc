"""The server as a host starts it: a process, two pipes, a real socket to EvoLink."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from mcp import Client

from evolink_mcp.sandbox import Sandbox, serve
from tests.pipes import LIMIT, end, initialize, request, send, started
from tests.servers import Era, Messages, answer_of, process, text_of

KEY = "sk-sandbox-0123456789"
PROMPT = "a very private fox with a secret"


@pytest.fixture
async def settings(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """The environment of a server with a sandbox for EvoLink."""
    async with serve(Sandbox(key=KEY, speed=200)) as url:
        yield {
            "EVOLINK_BASE_URL": url,
            "EVOLINK_API_KEY": KEY,
            "EVOLINK_OUTPUT_DIR": str(tmp_path),
        }


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_the_main_job_over_real_pipes_and_sockets(
    settings: dict[str, str], tmp_path: Path, era: Era
) -> None:
    messages = Messages()
    with anyio.fail_after(LIMIT):
        async with Client(process(settings), mode=era) as host:
            result = await host.call_tool(
                "generate_image", {"prompt": PROMPT, "size": "2:3"}, progress_callback=messages
            )
    [picture] = tmp_path.glob("*.png")
    assert str(picture) in text_of(result)
    assert messages.seen[0][2].startswith(str(answer_of(result).task_id))


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING"])
async def test_no_key_prompt_or_signed_address_is_in_the_log(
    settings: dict[str, str], level: str, tmp_path: Path
) -> None:
    faults = ("[orders]", "[garbage]", "[http:500]", "[pollhtml:502]", "[truncated]", "[expired]")
    log = tmp_path / "log"
    secrets = {KEY, "private fox", "sk-leaked", "secret"}
    async with started({**settings, "EVOLINK_LOG_LEVEL": level}, log=log) as (server, lines):
        await send(server, initialize())
        for number, fault in enumerate(("", *faults), start=2):
            call = {"name": "generate_image", "arguments": {"prompt": f"{fault} {PROMPT}"}}
            await send(server, request(number, "tools/call", call))
            answer = await anext(lines)
            for image in answer["result"]["structuredContent"].get("images", ()):
                secrets.add(image["url"].rpartition("/files/")[2])
    logged = log.read_text()
    assert [secret for secret in secrets if secret in logged] == []
    assert ("collected" in logged) == (level != "WARNING")
    assert "is not on disk" in logged


async def test_without_a_progress_token_the_answer_is_all_that_is_sent(
    settings: dict[str, str],
) -> None:
    async with started(settings) as (server, lines):
        await send(server, initialize())
        call = {"name": "generate_image", "arguments": {"prompt": "a fox"}}
        await send(server, request(2, "tools/call", call))
        await send(server, request(3, "ping", {}))
        assert [(await anext(lines)).get("id") for _ in range(2)] == [3, 2]


async def test_stdout_holds_nothing_but_messages(settings: dict[str, str]) -> None:
    async with started(settings) as (server, lines):
        await send(server, initialize())
        await send(server, "this is no message\n")
        await send(server, request(2, "tools/list", {}))
        answer = await anext(lines)
    assert answer["id"] == 2


@pytest.mark.parametrize("how", ["EOF", signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("busy", [False, True])
async def test_the_server_ends_cleanly(
    settings: dict[str, str], how: str | signal.Signals, *, busy: bool
) -> None:
    async with started(settings) as (server, lines):
        await send(server, initialize())
        if busy:
            call = {"name": "generate_image", "arguments": {"prompt": "[stuck] a fox"}}
            await send(server, request(2, "tools/call", call))
        await send(server, request(3, "ping", {}))
        assert (await anext(lines))["id"] == 3
        await end(server, how)
    assert server.returncode == 0


async def test_a_server_without_a_key_starts_and_explains(tmp_path: Path) -> None:
    settings = {"EVOLINK_OUTPUT_DIR": str(tmp_path), "EVOLINK_API_KEY": "${EVOLINK_API_KEY}"}
    with anyio.fail_after(LIMIT):
        async with Client(process(settings)) as host:
            result = await host.call_tool("generate_image", {"prompt": "a fox"})
    assert "EVOLINK_API_KEY is missing" in text_of(result)


async def test_with_the_sandbox_switched_on_no_key_is_needed(tmp_path: Path) -> None:
    settings = {"EVOLINK_OUTPUT_DIR": str(tmp_path), "EVOLINK_SANDBOX": "1"}
    with anyio.fail_after(LIMIT):
        async with Client(process(settings)) as host:
            result = await host.call_tool("generate_image", {"prompt": "a fox"})
    [picture] = tmp_path.glob("*.png")
    assert str(picture) in text_of(result)


async def test_a_task_of_a_killed_server_is_finished_by_the_next(
    settings: dict[str, str], tmp_path: Path
) -> None:
    async with started(settings) as (server, lines):
        await send(server, initialize())
        call = {"name": "generate_image", "arguments": {"prompt": "a fox", "n": 4}}
        await send(server, request(2, "tools/call", {**call, "_meta": {"progressToken": "t"}}))
        notification = await anext(lines)
        server.kill()
    task_id = notification["params"]["message"].partition(":")[0]
    with anyio.fail_after(LIMIT):
        async with Client(process(settings)) as host:
            result = await host.call_tool("get_task", {"task_id": task_id})
    assert len(answer_of(result).images or []) == len(list(tmp_path.glob("*.png"))) == 4
