"""Callbacks over HTTP: forged, replayed, late, huge and by the thousand; none is believed."""

from __future__ import annotations

import json
import logging
import tracemalloc
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import httpx2 as httpx
import pytest
from anyio import to_thread
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive

from evolink_mcp.api.network import Network
from evolink_mcp.api.wire import TaskId
from evolink_mcp.jobs.cadence import SHORTEST
from evolink_mcp.jobs.database import Database
from evolink_mcp.jobs.job import LOCAL, new_job_id
from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.links import Links, load_secret
from evolink_mcp.server.principals import KEY_HEADER
from evolink_mcp.service import callbacks, serve
from evolink_mcp.service.callbacks import MOST_BYTES, PREFIX, Callbacks
from evolink_mcp.settings import Settings
from tests.jobs.shop import GETS, POSTS, Line, answered
from tests.servers import network_of, settings_for
from tests.service.rooms import (
    HERE,
    LIMIT,
    TOKEN,
    bearing,
    call,
    entry,
    served,
    write_tokens,
)
from tests.service.test_web import found_in

PUBLIC = "https://mcp.example.com"
OWN = "https://hooks.example.com/evolink"
SECRET = bytes(range(32))
LINKS = Links(base_url=PUBLIC, secret=SECRET)
CALLBACKS = Callbacks(base_url=PUBLIC, secret=SECRET)

FLOOD, WAYS = 10_000, 5


def path_of(url: str) -> str:
    return url.removeprefix(PUBLIC)


@dataclass
class Road(httpx.AsyncBaseTransport):
    """Leads what EvoLink sends to our public name to the service; others answer 200."""

    to: httpx.AsyncClient | None = None
    seen: list[str] = field(default_factory=list[str])

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(str(request.url))
        if self.to is None or not str(request.url).startswith(PUBLIC):
            return httpx.Response(200)
        content = await request.aread()
        return await self.to.post(str(request.url), content=content)


@dataclass
class Place:
    """A service with a public name, and an EvoLink that can call it."""

    sandbox: Sandbox
    road: Road
    settings: Settings

    @asynccontextmanager
    async def opened(
        self, *, network: Network | None = None, **changes: object
    ) -> AsyncGenerator[httpx.AsyncClient]:
        settings = self.settings.model_copy(update=changes)
        world = network or network_of(self.sandbox)
        async with (
            self.sandbox.running(),
            served(settings, network=world, links=LINKS) as self.road.to,
        ):
            yield self.road.to

    def address(self, number: int = 0) -> str:
        """Return the callback address of a purchase."""
        url = [*self.sandbox.tasks.values()][number].request.callback_url
        assert url is not None
        return url


def place_at(folder: Path, *, speed: float) -> Place:
    road = Road()
    sandbox = Sandbox(speed=speed, callback_transport=road)
    return Place(sandbox, road, settings_for(folder / "pictures", public_url=PUBLIC))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Open a place where tasks take no time: they are read in the usual cadence, and soon."""
    return place_at(tmp_path, speed=1000)


@pytest.fixture
def slow_place(tmp_path: Path) -> Place:
    """Open a place where the first reading without a callback would be 6 s after a purchase."""
    return place_at(tmp_path, speed=1)


async def sleep_briefly(seconds: float) -> None:
    """Sleep; what would wait longer for its next reading waits for ever."""
    await (anyio.sleep(seconds) if seconds <= SHORTEST else anyio.sleep_forever())


async def test_a_task_is_read_once_when_its_callback_comes(slow_place: Place) -> None:
    network = replace(network_of(slow_place.sandbox), sleep=sleep_briefly)
    async with slow_place.opened(network=network) as http:
        readings = list[int]()
        for number in range(2):
            wanted = call("generate_image", prompt=f"[slow:1] a fox {number}")
            answer = found_in(await http.post("/mcp", **wanted))
            assert answer["status"] == "completed"
            readings.append(slow_place.sandbox.requests[GETS])
        assert readings == [1, 2]
        assert slow_place.road.seen == [slow_place.address(0), slow_place.address(1)]


async def test_after_a_restart_a_callback_is_enough_to_take_its_job_up_again(
    slow_place: Place,
) -> None:
    stuck = call("generate_image", prompt="[stuck] a fox", wait_seconds=0)
    async with slow_place.opened() as http:
        await http.post("/mcp", **stuck)
    async with slow_place.opened() as http:
        assert slow_place.sandbox.requests[GETS] == 0
        assert (await http.post(path_of(slow_place.address()))).status_code == 204
        while slow_place.sandbox.requests[GETS] == 0:
            await anyio.lowlevel.checkpoint()


async def test_the_address_is_in_no_log_no_answer_and_no_file(
    tmp_path: Path, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    line = Line(place.sandbox)
    async with place.opened(network=Network(transport=line)) as http:
        answers = [
            (await http.post("/mcp", **call("generate_image", prompt="[slow:1] a fox"))).text,
            (await http.post("/mcp", **call("list_tasks"))).text,
        ]
        said = {"error": {"code": "x", "message": f"no callbacks to {place.address()}"}}
        line.breaks = [answered(400, said), answered(400, said)]
        answers.append((await http.post("/mcp", **call("generate_image", prompt="b"))).text)
    token = place.address().rpartition("/")[2]
    assert token.startswith(PREFIX)
    assert "[redacted]" in answers[-1]
    ours = [each.getMessage() for each in caplog.records if each.name.startswith("evolink_mcp")]
    files = [each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()]
    assert min(len(ours), len(files)) > 1
    for secret in (token, token.removeprefix(PREFIX)[:60]):
        assert not [text for text in (*answers, *ours) if secret in text]
        assert not [content for content in files if secret.encode() in content]


async def knock(web: ASGIApp, path: str, receive: Receive | None = None) -> int:
    """POST without a client in between, and without a body: there is nothing to be read from."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    headers = list[tuple[bytes, bytes]]()
    scope = {"type": "http", "method": "POST", "path": path, "root_path": "", "headers": headers}
    await web(scope, cast("Receive", receive), send)
    return int(sent[0]["status"])


def web_of(http: httpx.AsyncClient) -> ASGIApp:
    return cast("ASGIApp", cast("Any", http)._transport._inner.app)


def forged() -> Iterator[str]:
    """Return paths that are not ours, or not quite."""
    path = path_of(CALLBACKS.url_of(new_job_id()))
    token = path.removeprefix("/callbacks/")
    yield from (path[:-1], path + "A", path + "/", path + "=", path + "%00")
    yield from (f"/callbacks/{token.removeprefix(PREFIX)}", f"/callbacks/{PREFIX}{token}")
    yield from (f"/callbacks/x/{token}", "/callbacks/", f"/callbacks/{PREFIX}", "/callbacks/%FF")
    yield from (f"/callbacks/{new_job_id()}", "/callbacks/" + "A" * 20_000)
    yield path_of(Callbacks(base_url=PUBLIC, secret=bytes(32)).url_of(new_job_id()))
    task_id = TaskId("task-unified-1757156493-imcg5zqt")
    link = LINKS.url_of(task_id, n=1, principal=LOCAL).url.rpartition("/")[2]
    yield from (f"/callbacks/{link}", f"/callbacks/{PREFIX}{link}")


async def test_whatever_is_not_sealed_is_answered_alike(place: Place) -> None:
    async with place.opened() as http:
        valid = path_of(CALLBACKS.url_of(new_job_id()))
        answers = [await http.post(path) for path in forged()]
        answers += [await http.request(method, valid) for method in ("GET", "PUT", "DELETE")]
        for answer in answers:
            assert (answer.status_code, answer.text) == (404, "There is nothing here.\n")
            assert answer.headers == answers[0].headers
        assert (await http.post(valid)).status_code == 204
        assert (await http.post(valid.replace("/callbacks", "/pictures"))).status_code == 405
        picture = valid.replace("/callbacks", "/pictures").replace(PREFIX, "")
        assert (await http.get(picture)).status_code == 404
    assert not place.sandbox.requests


async def test_a_sealed_one_is_taken_whatever_comes_with_it_and_whatever_the_job(
    place: Place,
) -> None:
    async with place.opened() as http:
        unknown = path_of(CALLBACKS.url_of(new_job_id()))
        assert (await http.post(unknown)).status_code == 204  # before anything was bought
        running = call("generate_image", prompt="[stuck] a fox", wait_seconds=0)
        started = found_in(await http.post("/mcp", **running))
        ended = call("generate_image", prompt="[slow:1] a fox")
        done = found_in(await http.post("/mcp", **ended))
        lie = {"id": started["task_id"], "status": "completed", "results": [f"{PUBLIC}/x.png"]}
        for content in (b"", b"{", b"\xff" * 9000, json.dumps(lie).encode()):
            for url in (unknown, place.address(0), place.address(1)):
                for headers in ({}, {"content-type": "application/json"}, {"host": "evil.example"}):
                    answer = await http.post(path_of(url), content=content, headers=headers)
                    assert (answer.status_code, answer.content) == (204, b"")
        look = call("get_task", task_id=started["task_id"], wait_seconds=0)
        assert found_in(await http.post("/mcp", **look))["status"] in {"pending", "processing"}
        look = call("get_task", task_id=done["task_id"], wait_seconds=0)
        assert found_in(await http.post("/mcp", **look))["images"] == done["images"]


async def test_the_body_is_not_read(place: Place) -> None:
    async with place.opened() as http:
        for path, status in ((path_of(CALLBACKS.url_of(new_job_id())), 204), ("/callbacks/x", 404)):
            assert await knock(web_of(http), path) == status


async def test_before_the_server_lives_a_callback_does_no_harm() -> None:
    web = Starlette(routes=[Callbacks(base_url=PUBLIC, secret=SECRET).route()])
    assert await knock(web, path_of(CALLBACKS.url_of(new_job_id()))) == 204


async def test_nobody_is_asked_who_they_are(tmp_path: Path, place: Place) -> None:
    path = write_tokens(tmp_path / "t.toml", entry("alice", TOKEN))
    async with place.opened(tokens_file=path) as http:
        url = path_of(CALLBACKS.url_of(new_job_id()))
        for request in ({}, bearing("evm_nobodys")):
            assert (await http.post(url, **request)).status_code == 204


async def test_a_huge_body_is_answered_before_it_comes_and_kept_nowhere(place: Place) -> None:
    size, piece = 100_000_000, bytes(65_536)
    head = "POST {} HTTP/1.1\r\nHost: mcp.example.com\r\nContent-Length: {}\r\n\r\n"
    secret = await to_thread.run_sync(load_secret, place.settings.data_folder())
    path = path_of(Callbacks(base_url=PUBLIC, secret=secret).url_of(new_job_id()))
    with anyio.fail_after(LIMIT):
        async with serve(place.settings, HERE, network=network_of(place.sandbox)) as url:
            port = httpx.URL(url).port
            assert port is not None
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(head.format(path, size).encode())
                assert (await stream.receive()).startswith(b"HTTP/1.1 204 ")
                tracemalloc.start()
                left = size
                while left > 0:
                    await stream.send(piece[:left])
                    left -= len(piece)
                await stream.send(head.format("/callbacks/x", 0).encode())
                assert (await stream.receive()).startswith(b"HTTP/1.1 404 ")
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
    assert peak < size / 20


async def test_a_flood_makes_us_read_once_in_a_while_and_starves_nobody(slow_place: Place) -> None:
    line = Line(slow_place.sandbox)
    async with slow_place.opened(network=Network(transport=line, sleep=sleep_briefly)) as http:
        stuck = call("generate_image", prompt="[stuck] a fox", wait_seconds=0)
        target = found_in(await http.post("/mcp", **stuck))["task_id"]
        web = web_of(http)
        sealed = [path_of(slow_place.address()), path_of(CALLBACKS.url_of(new_job_id()))]
        paths, statuses = [*sealed, *forged()], Counter[int]()
        ended = list[str]()

        async def flood() -> None:
            for number in range(FLOOD // WAYS):
                statuses[await knock(web, paths[number % len(paths)])] += 1
                await anyio.lowlevel.checkpoint()

        async def work(number: int) -> None:
            wanted = call("generate_image", prompt=f"[slow:1] a fox {number}")
            ended.append(found_in(await http.post("/mcp", **wanted))["status"])

        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            for number in range(WAYS):
                group.start_soon(flood)
                group.start_soon(work, number)
        took = anyio.current_time() - began
        assert ended == ["completed"] * WAYS
        assert (statuses.total(), set(statuses)) == (FLOOD, {204, 404})
        readings = [each for each in line.seen if each.url.path.endswith(target)]
        assert 1 <= len(readings) <= 2 + took / SHORTEST
        look = call("get_task", task_id=target, wait_seconds=0)
        assert found_in(await http.post("/mcp", **look))["status"] in {"pending", "processing"}


async def test_a_late_one_costs_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with place.opened() as http:
        await http.post("/mcp", **call("generate_image", prompt="[slow:0] [fail:x] a fox"))
        before = place.sandbox.requests.copy()
        monkeypatch.setattr(Database, "transact", None)
        for _ in range(100):
            assert (await http.post(path_of(place.address()))).status_code == 204
        monkeypatch.undo()
        await anyio.wait_all_tasks_blocked()
        assert place.sandbox.requests == before


@pytest.mark.parametrize(
    ("public_url", "rule"),
    [
        ("http://127.0.0.1:8080", "must begin with https"),
        ("https://10.0.0.1", "points to an inner address"),
        ("https://mcp.internal", "points to an inner address"),
        ("https://mcp.example.com/" + "x" * 2000, "more than 2048"),
    ],
)
async def test_where_evolink_cannot_call_it_is_not_asked_to(
    place: Place, public_url: str, rule: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with place.opened(public_url=public_url) as http:
        await http.post("/mcp", **call("generate_image", prompt="[slow:0] [fail:x] a fox"))
        url = Callbacks(base_url=PUBLIC, secret=SECRET).url_of(new_job_id())
        assert (await http.post(path_of(url))).status_code == 404
    [task] = place.sandbox.tasks.values()
    assert task.request.callback_url is None
    [warning] = [each.getMessage() for each in caplog.records if "callback" in each.getMessage()]
    assert rule in warning
    assert "EVOLINK_PUBLIC_URL" in warning


async def test_without_a_public_name_nothing_is_said_of_callbacks(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async with place.opened(public_url=None) as http:
        await http.post("/mcp", **call("generate_image", prompt="[slow:0] [fail:x]"))
    assert not [each for each in caplog.records if "callback" in each.getMessage()]
    assert place.road.seen == []


async def test_a_public_address_may_have_a_path(place: Place) -> None:
    async with place.opened(public_url=f"{PUBLIC}/evolink") as http:
        await http.post("/mcp", **call("generate_image", prompt="[stuck]", wait_seconds=0))
    assert place.address().startswith(f"{PUBLIC}/evolink/callbacks/{PREFIX}")


async def test_the_public_name_is_a_name_of_ours(place: Place) -> None:
    async with place.opened() as http:
        request = call("list_tasks")
        for host, status in (("mcp.example.com", 200), ("mcp.example.com:443", 200), ("x.y", 421)):
            headers = {**request["headers"], "host": host}
            answer = await http.post("/mcp", json=request["json"], headers=headers)
            assert answer.status_code == status


async def test_a_callers_own_address_is_called_instead(place: Place) -> None:
    async with place.opened() as http:
        wanted = call("generate_image", prompt="[slow:0] [fail:x] a fox", callback_url=OWN)
        await http.post("/mcp", **wanted)
    assert place.address() == OWN
    assert set(place.road.seen) <= {OWN}


async def unknown_jobs(http: httpx.AsyncClient) -> int:
    """Count the purchases of which nobody knows whether they are some."""
    tasks = found_in(await http.post("/mcp", **call("list_tasks")))["tasks"]
    return len([task for task in tasks if task["status"] == "unknown"])


async def nothing_unknown(http: httpx.AsyncClient) -> None:
    """Wait until it is known of every purchase whether it is one."""
    while await unknown_jobs(http):
        await anyio.lowlevel.checkpoint()


async def test_a_purchase_whose_answer_was_lost_is_found_by_its_callback(place: Place) -> None:
    async with place.opened() as http:
        wanted = call("generate_image", prompt="[cut-after-accept] [slow:60] a fox")
        answer = found_in(await http.post("/mcp", **wanted))
        assert answer["error"]["code"] == "outcome_unknown"
        await nothing_unknown(http)
        again = found_in(await http.post("/mcp", **wanted))
    [task_id] = place.sandbox.tasks
    assert (again["status"], again["task_id"]) == ("completed", task_id)
    assert place.sandbox.requests[POSTS] == 1


async def test_it_is_found_with_the_key_that_bought_it(place: Place) -> None:
    async with place.opened(api_key=None) as http:
        wanted = call("generate_image", prompt="[cut-after-accept] [slow:60] a fox")
        http.headers[KEY_HEADER] = "sk-sandbox"
        assert found_in(await http.post("/mcp", **wanted))["status"] == "unknown"
        await nothing_unknown(http)
        assert found_in(await http.post("/mcp", **wanted))["status"] == "completed"
    assert place.sandbox.requests[POSTS] == 1


async def lost_at(place: Place, http: httpx.AsyncClient) -> str:
    """Lose a purchase; return where its callback goes."""
    await http.post("/mcp", **call("generate_image", prompt="[cut-after-accept] [stuck] a fox"))
    return path_of(place.address())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff" * 9000,
        b"[" * 9000,
        b'{"id": 7}',
        b'{"id": "task-unified-1/../x"}',
        b'{"id": "task-unified-1-nobodys"}',
        b'{"id": "' + b"x" * MOST_BYTES + b'"}',
    ],
)
async def test_what_names_no_task_of_ours_finds_nothing(place: Place, content: bytes) -> None:
    async with place.opened() as http:
        path = await lost_at(place, http)
        answer = await http.post(path, content=content)
        assert (answer.status_code, answer.content) == (204, b"")
        await anyio.wait_all_tasks_blocked()
        assert await unknown_jobs(http) == 1
        [task_id] = place.sandbox.tasks
        assert (await http.post(path, json={"id": task_id})).status_code == 204
        await nothing_unknown(http)


@pytest.mark.parametrize("ends", [True, False])
async def test_a_body_that_does_not_come_is_not_waited_for(
    place: Place, monkeypatch: pytest.MonkeyPatch, *, ends: bool
) -> None:
    monkeypatch.setattr(callbacks, "PATIENCE", 0.05)

    async def receive() -> Message:
        if not ends:
            await anyio.sleep_forever()
        return {"type": "http.disconnect"}

    async with place.opened() as http:
        path = await lost_at(place, http)
        assert await knock(web_of(http), path, receive) == 204
        assert await unknown_jobs(http) == 1
