"""Many principals at one service, who all want the same, and what each of them is told."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio
import httpx2 as httpx
import pytest
from anyio.abc import TaskGroup
from PIL import Image
from starlette.types import ASGIApp, Message

from evolink_mcp.api.network import Network
from evolink_mcp.jobs import database
from evolink_mcp.sandbox import Sandbox, SandboxTask
from evolink_mcp.sandbox.outcomes import Outcomes
from evolink_mcp.server.links import Links
from evolink_mcp.service.identities import open_identities
from evolink_mcp.service.web import build_web
from evolink_mcp.settings import Settings
from tests.servers import network_of
from tests.service.rooms import HERE, URL, ApartTransport, bearing, call, entry, write_tokens

SECRET = bytes(range(32))
LEGACY = "2025-11-25"

Told = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Hurry:
    """Time that passes faster for the service: it reads tasks 5 times a second, of its own."""

    factor: float

    def clock(self) -> float:
        return anyio.current_time() * self.factor

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds / self.factor)

    def network(self, sandbox: Sandbox) -> Network:
        transport = network_of(sandbox).transport
        return Network(transport=transport, sleep=self.sleep, clock=self.clock)


@dataclass(slots=True)
class Principal:
    """Somebody with a token, and what they were told."""

    name: str
    token: str
    is_legacy: bool = False
    answers: list[Told] = field(default_factory=list[Told])
    progress: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Token and message of each notification."""
    news: list[Told] = field(default_factory=list[Told])

    @property
    def tasks(self) -> set[str]:
        return {answer["task_id"] for answer in self.answers}


def principals(count: int) -> list[Principal]:
    return [
        Principal(f"p{number}", f"evm_{number:043d}", is_legacy=number % 2 == 1)
        for number in range(count)
    ]


def request(method: str, **params: Any) -> Told:  # noqa: ANN401 - any parameter
    """Write a request of 2026-07-28 of any method."""
    written = call(name := str(params.get("name") or params.get("uri") or ""))
    meta = written["json"]["params"]["_meta"]
    body = {**written["json"], "method": method, "params": {**params, "_meta": meta}}
    headers = {**written["headers"], "mcp-method": method, "mcp-name": name}
    return {"json": body, "headers": headers}


def in_legacy(written: Told) -> Told:
    """Write the same for the era before."""
    return {**written, "headers": {**written["headers"], "mcp-protocol-version": LEGACY}}


def messages_in(response: httpx.Response) -> list[Told]:
    """Return what an answer says: one message, or those of a stream."""
    if response.headers["content-type"].startswith("application/json"):
        return [response.json()]
    lines = response.text.splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def _all_of(response: httpx.Response) -> str:
    return f"{response.status_code} {response.headers.multi_items()}\n{response.text}"


@dataclass(slots=True)
class Crowd:
    """The service, and ways to ask it."""

    web: ASGIApp
    http: httpx.AsyncClient

    async def ask(self, who: Principal, written: Told) -> Told:
        """Ask for a result, and keep the progress that came with it."""
        response = await self.http.post("/mcp", **bearing(who.token, **written))
        assert response.status_code == 200, response.text
        *before, last = messages_in(response)
        for message in before:
            told = message["params"]
            who.progress.append((told["progressToken"], told["message"]))
        result: Told = last["result"]
        return result

    async def said(self, who: Principal, written: Told) -> str:
        """Return all that an answer says: status, headers and body."""
        return _all_of(await self.http.post("/mcp", **bearing(who.token, **written)))

    async def get(self, url: str, who: Principal | None) -> httpx.Response:
        """Get a file, with or without saying who asks."""
        return await self.http.get(url, **(bearing(who.token) if who else {}))

    async def got(self, url: str, who: Principal | None) -> str:
        """Return all that an answer about a file says."""
        return _all_of(await self.get(url, who))

    async def buy(self, who: Principal, prompt: str) -> None:
        """Buy as a host does, with progress."""
        written = call("generate_image", prompt=prompt)
        token = f"{who.name}:{prompt}"
        written["json"]["params"]["_meta"]["progressToken"] = token
        result = await self.ask(who, in_legacy(written) if who.is_legacy else written)
        assert not result.get("isError"), result
        who.answers.append(result["structuredContent"])

    async def listen(self, who: Principal, uris: list[str], *, group: TaskGroup) -> None:
        """Subscribe, and keep every piece of news until the group ends."""
        wanted = {"resourceSubscriptions": uris, "resourcesListChanged": True}
        written = bearing(who.token, **request("subscriptions/listen", notifications=wanted))
        listener = _Listener(who.news, [json.dumps(written["json"]).encode()])
        group.start_soon(listener.listen, self.web, _scope(written["headers"]))
        await listener.begun.wait()


@dataclass(frozen=True, slots=True)
class _Listener:
    """The far end of a stream that never ends, which httpx would wait for."""

    news: list[Told]
    body: list[bytes]
    begun: anyio.Event = field(default_factory=anyio.Event)

    async def listen(self, web: ASGIApp, scope: Told) -> None:
        await web(scope, self.receive, self.send)

    async def receive(self) -> Message:
        if not self.body:
            await anyio.sleep_forever()
        return {"type": "http.request", "body": self.body.pop(), "more_body": False}

    async def send(self, message: Message) -> None:
        lines = message.get("body", b"").decode().splitlines()
        told = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        self.news.extend(told)
        if told:
            self.begun.set()


def _scope(headers: dict[str, str]) -> dict[str, Any]:
    given = {"host": "127.0.0.1:8080", "content-type": "application/json", **headers}
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/mcp",
        "raw_path": b"/mcp",
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 8080),
        "state": {},
    }


@asynccontextmanager
async def gathered(settings: Settings, sandbox: Sandbox, hurry: Hurry) -> AsyncGenerator[Crowd]:
    """Run the service without a socket."""
    world = hurry.network(sandbox)
    links = Links(base_url=URL, secret=SECRET)
    identities = await open_identities(settings, world)
    web = build_web(settings, HERE, network=world, identities=identities, links=links)
    transport = ApartTransport(httpx.ASGITransport(app=web))
    async with (
        web.router.lifespan_context(web),
        httpx.AsyncClient(transport=transport, base_url=URL) as http,
    ):
        yield Crowd(web, http)


def picture_of(task_id: str) -> bytes:
    """Draw a small picture that no other task has."""
    stream = BytesIO()
    pixels = hashlib.sha256(task_id.encode()).digest()[:24]
    Image.frombytes("RGB", (4, 2), pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sandbox draw little, and for each task something else: a scene costs 100 ms."""

    def draw(self: Outcomes, task: SandboxTask, *_: object, **__: object) -> bytes:
        del self
        return picture_of(task.id)

    monkeypatch.setattr(Outcomes, "_draw", draw)


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk, which takes longer than all else: no power is lost here."""
    prepare = database._prepare

    def prepare_quick(connection: sqlite3.Connection, path: Path | None) -> None:
        prepare(connection, path)
        connection.execute("PRAGMA synchronous=OFF")

    monkeypatch.setattr(database, "_prepare", prepare_quick)
    monkeypatch.setattr(os, "fsync", os.fstat)


def write_crowd(path: Path, people: list[Principal]) -> Path:
    return write_tokens(path, "".join(entry(each.name, each.token) for each in people))
