"""What is too much is refused in words and with a time, and leaves room for others."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx2 as httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from evolink_mcp.api.network import Network
from evolink_mcp.sandbox import Sandbox
from evolink_mcp.service import limits, web
from evolink_mcp.service.limits import UNKNOWN_A_MINUTE, Buckets, LimitRequests
from tests.jobs.shop import Line
from tests.sandbox.desk import Clock
from tests.servers import network_of, settings_for
from tests.service.rooms import OTHER, TOKEN, bearing, call, entry, served, write_tokens

LIST = call("list_tasks")
ELSEWHERE = "198.51.100.7"


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return write_tokens(tmp_path / "t.toml", entry("alice", TOKEN) + entry("bob", OTHER))


@asynccontextmanager
async def with_calls_under_way(
    folder: Path, tokens: Path, *, count: int
) -> AsyncGenerator[httpx.AsyncClient]:
    """Serve while EvoLink has not answered some purchases of alice's."""
    line = Line(Sandbox())
    line.held = anyio.Event()
    settings = settings_for(folder, tokens_file=tokens)
    async with (
        served(settings, network=Network(transport=line)) as http,
        anyio.create_task_group() as group,
    ):
        for n in range(count):
            request = bearing(TOKEN, **call("generate_image", prompt=f"fox {n}", wait_seconds=0))
            group.start_soon(lambda request: http.post("/mcp", **request), request)
        while len(line.seen) < count:
            await anyio.lowlevel.checkpoint()
        yield http
        line.held.set()


def assert_refused(answer: httpx.Response, status: int, error: str) -> None:
    assert answer.status_code == status
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["error"] == error
    assert answer.json()["error_description"].endswith((".", "end."))


async def test_one_holder_cannot_take_all_the_room(
    tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "AT_ONCE_EACH", 2)
    async with with_calls_under_way(tmp_path, tokens, count=2) as http:
        refused = await http.post("/mcp", **bearing(TOKEN, **LIST))
        assert_refused(refused, 429, "too_many_requests_at_once")
        assert (await http.post("/mcp", **bearing(OTHER, **LIST))).status_code == 200
        assert (await http.get("/healthz")).status_code == 200


async def test_a_full_service_says_so_and_still_tells_that_it_lives(
    tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "AT_ONCE", 2)
    async with with_calls_under_way(tmp_path, tokens, count=2) as http:
        assert_refused(await http.post("/mcp", **bearing(OTHER, **LIST)), 503, "too_busy")
        for path in ("/healthz", "/readyz"):
            assert (await http.get(path)).status_code == 200


@pytest.mark.parametrize("which", ["WAITING", "WAITING_EACH"])
async def test_calls_beyond_those_that_may_wait_are_answered_at_once(
    tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    monkeypatch.setattr(web, which, 1)
    settings = settings_for(tmp_path, tokens_file=tokens)
    sandbox = Sandbox()
    async with served(settings, sandbox=sandbox) as http, anyio.create_task_group() as group:
        first = bearing(TOKEN, **call("generate_image", prompt="[stuck] fox"))
        group.start_soon(lambda: http.post("/mcp", **first))
        while not sandbox.requests["GET /v1/tasks"]:
            await anyio.lowlevel.checkpoint()
        second = bearing(TOKEN, **call("generate_image", prompt="[stuck] owl"))
        told = (await http.post("/mcp", **second)).json()["result"]["structuredContent"]
        assert told["next_call"]["tool"] == "get_task"
        looked = bearing(TOKEN, **call("get_task", task_id=told["task_id"]))
        assert (await http.post("/mcp", **looked)).status_code == 200
        group.cancel_scope.cancel()


async def test_requests_without_a_token_are_limited_by_address(
    tmp_path: Path, tokens: Path
) -> None:
    settings, clock = settings_for(tmp_path, tokens_file=tokens), Clock()
    network = Network(transport=network_of(Sandbox()).transport, clock=clock)
    async with served(settings, network=network, peer=ELSEWHERE) as http:
        for path in ("/pictures/x", "/mcp", "/metrics") * (UNKNOWN_A_MINUTE // 3):
            assert (await http.get(path)).status_code in {401, 404}
        for path in ("/pictures/x", "/mcp", "/metrics"):
            assert_refused(await http.get(path), 429, "too_many_requests")
        for path in ("/healthz", "/readyz", "/callbacks/x"):
            assert (await http.get(path)).status_code in {200, 404}
        assert (await http.post("/mcp", **bearing(TOKEN, **LIST))).status_code == 200
        clock.now += 66 / UNKNOWN_A_MINUTE  # time for one and a bit
        assert (await http.get("/pictures/x")).status_code == 404
        assert (await http.get("/pictures/x")).status_code == 429


@pytest.mark.parametrize(
    ("peer", "other", "shared"),
    [
        ("198.51.100.7", "198.51.100.8", False),
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:198.51.100.7", "198.51.100.7", True),
        ("no address", "", True),
    ],
)
def test_an_address_is_told_from_others_by_the_network_that_one_caller_has(
    peer: str, other: str, *, shared: bool
) -> None:
    one, two = ({"type": "http", "client": (name, 5000)} for name in (peer, other))
    assert (limits._network_of(one) == limits._network_of(two)) == shared


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_this_machine_is_not_limited(peer: str) -> None:
    assert limits._network_of({"type": "http", "client": (peer, 5000)}) is None


def test_whoever_has_no_address_is_limited_too() -> None:
    assert limits._network_of({"type": "http", "client": None}) == ""


def test_what_is_remembered_of_callers_does_not_grow_for_ever() -> None:
    clock = Clock()
    buckets = Buckets(clock, most=3)
    for name in ("a", "b", "a", "c", "d"):
        assert buckets.take(name, a_minute=2) == 0.0
        clock.now += 1e-6
    remembered: Any = buckets._buckets
    assert list(remembered) == ["a", "c", "d"]
    assert buckets.take("a", a_minute=2) > 29  # who asks often is not forgotten
    assert buckets.take("b", a_minute=2) == 0.0


async def test_callers_who_have_left_are_not_remembered() -> None:
    leaving, inside = anyio.Event(), anyio.Event()

    async def wait(scope: Scope, receive: Receive, _: Send) -> None:
        await receive()
        if scope["query_string"]:
            inside.set()
            await leaving.wait()

    limit = LimitRequests(wait)
    scope = {"type": "http", "client": ("127.0.0.1", 1), "path": "/mcp", "query_string": b""}
    async with anyio.create_task_group() as group:
        group.start_soon(limit, {**scope, "query_string": b"wait"}, nothing_comes, nothing_goes)
        await inside.wait()
        await limit(scope, nothing_comes, nothing_goes)
        assert limit._under_way.total() == 1
        leaving.set()
    assert not limit._under_way


async def nothing_comes() -> Message:
    return {"type": "http.disconnect"}


async def nothing_goes(_: Message) -> None: ...
