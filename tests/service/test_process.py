"""The service as an operator starts it: a process, a token, real sockets."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx2 as httpx
import pytest
from mcp import Client

from evolink_mcp.sandbox import Sandbox, serve
from evolink_mcp.server.answers import Answer
from evolink_mcp.server.principals import KEY_HEADER
from evolink_mcp.service import read_address
from tests.servers import Era, Messages, answer_of
from tests.service.rooms import (
    ANYWHERE,
    OTHER,
    TOKEN,
    bearing,
    call,
    entry,
    host_at,
    started,
    write_tokens,
)

KEY = "sk-sandbox-0123456789"
PROMPT = "a very private fox"
SLOW = f"[slow:1200] {PROMPT}"
"""Takes 6 s in a sandbox that is 200 times faster."""


@dataclass
class Place:
    """What a service needs to start."""

    sandbox: Sandbox
    settings: dict[str, str]
    log: Path


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    path = write_tokens(tmp_path / "tokens.toml", entry("alice", TOKEN))
    sandbox = Sandbox(key=KEY, speed=200)
    async with serve(sandbox) as url:
        settings = {
            "EVOLINK_BASE_URL": url,
            "EVOLINK_API_KEY": KEY,
            "EVOLINK_OUTPUT_DIR": str(tmp_path / "pictures"),
            "EVOLINK_TOKENS_FILE": str(path),
            "EVOLINK_LOG_LEVEL": "DEBUG",
            "EVOLINK_LOG_FORMAT": "json",
        }
        yield Place(sandbox, settings, tmp_path / "log")


async def test_hosts_of_both_eras_get_pictures_with_progress(place: Place) -> None:
    eras: tuple[Era, Era] = ("auto", "legacy")
    async with started(place.settings, log=place.log) as (_, url):
        for era in eras:
            messages = Messages()
            async with host_at(url, TOKEN, era=era) as host:
                result = await host.call_tool(
                    "generate_image", {"prompt": f"{PROMPT}, {era}"}, progress_callback=messages
                )
            assert answer_of(result).status == "completed"
            assert messages.seen[0][2].startswith(str(answer_of(result).task_id))
            assert [seen[0] for seen in messages.seen] == sorted(
                {seen[0] for seen in messages.seen}
            )
        async with httpx.AsyncClient(trust_env=False) as http:
            wrong = await http.post(url, **bearing(OTHER, **call("list_tasks")))
            assert wrong.status_code == 401
            assert "www-authenticate" in wrong.headers
            request = bearing(TOKEN, **call("list_tasks"))
            bad = {**request["headers"], "host": "evil.example"}
            assert (await http.post(url, json=request["json"], headers=bad)).status_code == 421
            bad = {**request["headers"], "origin": "https://evil.example"}
            assert (await http.post(url, json=request["json"], headers=bad)).status_code == 403
    logged = place.log.read_text()
    assert '"request": "' in logged
    assert '"job": "run_' in logged
    assert [secret for secret in (KEY, TOKEN, OTHER, "private fox") if secret in logged] == []


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_and_the_next_start_finishes_the_job(
    place: Place, how: signal.Signals
) -> None:
    told = anyio.Event()
    messages = Messages()
    handed_over: list[Answer] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        await messages(progress, total, message)
        told.set()

    async def buy(host: Client) -> None:
        found = await host.call_tool("generate_image", {"prompt": SLOW}, progress_callback=note)
        handed_over.append(answer_of(found))

    async with (
        started(place.settings, log=place.log) as (server, url),
        host_at(url, TOKEN) as host,
        anyio.create_task_group() as group,
    ):
        group.start_soon(buy, host)
        await told.wait()
        server.send_signal(how)
        with anyio.fail_after(10):
            assert await server.wait() == 0
    [handle] = handed_over
    task_id = messages.seen[0][2].partition(":")[0]
    assert (handle.task_id, handle.next_call is not None) == (task_id, True)
    async with started(place.settings, log=place.log) as (_, url), host_at(url, TOKEN) as host:
        result = await host.call_tool("get_task", {"task_id": task_id})
    assert answer_of(result).status == "completed"
    assert len(place.sandbox.tasks) == 1
    assert "Traceback" not in place.log.read_text()


async def test_open_to_anyone_it_says_under_which_names_it_is_reached(place: Place) -> None:
    del place.settings["EVOLINK_TOKENS_FILE"]
    everywhere = started(place.settings, "--open-to-anyone", log=place.log, address=ANYWHERE)
    async with everywhere as (_, url), httpx.AsyncClient(trust_env=False) as http:
        near = url.replace(str(read_address(ANYWHERE).host), "127.0.0.1")
        assert (await http.post(near, **call("list_tasks"))).status_code == 200
    assert "EVOLINK_ALLOWED_HOSTS" in place.log.read_text()


async def test_without_a_key_of_its_own_it_says_who_is_served(place: Place) -> None:
    del place.settings["EVOLINK_API_KEY"]
    request = bearing(TOKEN, **call("generate_image", prompt="a fox"))
    request["headers"][KEY_HEADER] = KEY
    async with (
        started(place.settings, log=place.log) as (_, url),
        httpx.AsyncClient(trust_env=False, timeout=20) as http,
    ):
        assert (await http.post(url, **request)).status_code == 200
    assert len(place.sandbox.tasks) == 1
    log = place.log.read_text()
    assert "There is no EVOLINK_API_KEY" in log
    assert KEY not in log


async def test_with_the_sandbox_switched_on_nothing_else_is_needed(tmp_path: Path) -> None:
    settings = {"EVOLINK_SANDBOX": "1", "EVOLINK_OUTPUT_DIR": str(tmp_path)}
    async with (
        started(settings, log=tmp_path / "log") as (_, url),
        httpx.AsyncClient(trust_env=False, timeout=20) as http,
    ):
        answer = await http.post(url, **call("generate_image", prompt="a fox"))
    assert answer.status_code == 200
    assert len(list(tmp_path.glob("*.png"))) == 1
