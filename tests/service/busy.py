"""A service with many calls under way, and an EvoLink whose time and answers a test decides on."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx2 as httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from evolink_mcp.sandbox import Sandbox, outcomes, serve
from evolink_mcp.sandbox.drawing import draw_picture
from evolink_mcp.server.principals import KEY_HEADER
from tests.service.rooms import LIMIT, OTHER, TOKEN, bearing, call, entry, write_tokens

KEY = "sk-sandbox-0123456789"
POSTS = "POST /v1/images/generations"
ERAS = ("2026-07-28", "2025-11-25")


@dataclass
class Bell:
    """Wakes those who wait for something to be so."""

    _rung: anyio.Event = field(default_factory=anyio.Event)

    def ring(self) -> None:
        rung, self._rung = self._rung, anyio.Event()
        rung.set()

    async def until(self, met: Callable[[], bool]) -> None:
        while not met():
            await self._rung.wait()


@dataclass
class Door:
    """Lets so many purchases in; later ones wait before EvoLink until they may."""

    lets_in: int = 1_000_000
    looks: frozenset[str] = frozenset()
    """Paths of what is not told before the door is open."""
    arrived: int = 0
    answered: int = 0
    opened: anyio.Event = field(default_factory=anyio.Event)
    bell: Bell = field(default_factory=Bell)

    async def pass_through(self, purchase: Callable[[], Awaitable[None]]) -> None:
        self.arrived += 1
        self.bell.ring()
        if self.arrived > self.lets_in:
            await self.opened.wait()
        await purchase()
        self.answered += 1
        self.bell.ring()

    async def tell(self, look: Callable[[], Awaitable[None]]) -> None:
        self.arrived += 1
        self.bell.ring()
        await self.opened.wait()
        await look()


class Doorkeeper:
    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = partial(self._app, scope, receive, send)
        if scope["type"] == "http" and scope["method"] == "POST":
            await self._door.pass_through(answer)
        elif scope["type"] == "http" and scope["path"] in self._door.looks:
            await self._door.tell(answer)
        else:
            await answer()


@dataclass
class Town:
    """A sandbox where no task ends before it may, and what a service needs to start."""

    sandbox: Sandbox
    door: Door
    settings: dict[str, str]
    folder: Path
    late: float = 0.0

    def now(self) -> float:
        return time.time() + self.late

    def let_all_end(self) -> None:
        self.late += 3600.0

    @property
    def posts(self) -> int:
        return self.sandbox.requests[POSTS]

    @property
    def pictures(self) -> set[str]:
        return {path.name for path in (self.folder / "pictures").glob("[!.]*.png")}

    @property
    def log(self) -> Path:
        return self.folder / "log"


@asynccontextmanager
async def town_in(folder: Path) -> AsyncGenerator[Town]:
    towns: list[Town] = []
    sandbox = Sandbox(key=KEY, now=lambda: towns[0].now() if towns else time.time())
    door = Door()
    sandbox.app.add_middleware(Doorkeeper, door=door)
    path = write_tokens(folder / "tokens.toml", entry("alice", TOKEN) + entry("bob", OTHER))
    async with serve(sandbox) as url:
        settings = {
            "EVOLINK_BASE_URL": url,
            "EVOLINK_API_KEY": KEY,
            "EVOLINK_OUTPUT_DIR": str(folder / "pictures"),
            "EVOLINK_DATA_DIR": str(folder / "data"),
            "EVOLINK_TOKENS_FILE": str(path),
            "EVOLINK_LOG_LEVEL": "INFO",
            "EVOLINK_PREVIEW": "none",
        }
        towns.append(Town(sandbox, door, settings, folder))
        yield towns[0]
        door.opened.set()


def draw_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sandbox draw once: it takes its time, and it is not what this is about."""
    picture = draw_picture("a fox", width=1024, height=1024)

    def draw(*_: object, **__: object) -> bytes:
        return picture

    monkeypatch.setattr(outcomes, "draw_picture", draw)


def written_for(era: str, name: str, *, token: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Write a call as a client of that era does; it asks for progress."""
    request = bearing(token, **call(name, **arguments))
    params = request["json"]["params"]
    if era < ERAS[0]:
        params["_meta"] = {}
        request["headers"]["mcp-protocol-version"] = era
    params["_meta"]["progressToken"] = "p"
    return request


def result_in(text: str) -> dict[str, Any]:
    """Return what a tool answered, whatever way it came; empty where nothing was answered."""
    lines = [line.removeprefix("data: ") for line in text.splitlines()]
    bodies = [json.loads(line) for line in lines if line.startswith("{")]
    found = [body["result"]["structuredContent"] for body in bodies if "result" in body]
    return dict(found[0]) if found else {}


@dataclass
class Customer:
    """Somebody who calls over connections of their own."""

    url: str
    token: str = TOKEN
    key: str | None = None
    """An EvoLink key of their own."""
    answers: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    bell: Bell = field(default_factory=Bell)

    async def ask(self, name: str, *, era: str = ERAS[0], **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - any argument
        request = written_for(era, name, token=self.token, arguments=arguments)
        if self.key is not None:
            request["headers"][KEY_HEADER] = self.key
        try:
            answer = await self.post(request)
        except httpx.TransportError:
            return {}
        return result_in(answer.text)

    async def post(self, request: dict[str, Any]) -> httpx.Response:
        """Send a call over a connection of its own."""
        nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # no certificates to load for each call
        async with httpx.AsyncClient(trust_env=False, timeout=LIMIT, verify=nobody) as http:
            return await http.post(self.url, **request)

    async def buy(self, prompt: str, era: str) -> None:
        """Call for a picture, and keep what is answered."""
        self.answers[prompt] = await self.ask("generate_image", era=era, prompt=prompt)
        self.bell.ring()

    async def buy_all(self, prompts: Sequence[str]) -> None:
        """Call for pictures at once, as clients of both eras."""
        async with anyio.create_task_group() as calls:
            for n, prompt in enumerate(prompts):
                calls.start_soon(self.buy, prompt, ERAS[n % 2])

    @property
    def bought(self) -> set[str]:
        """The tasks of what was answered."""
        return {str(answer["task_id"]) for answer in self.answers.values()}

    async def see(self, task_id: str) -> dict[str, Any]:
        """Wait for a task."""
        return await self.ask("get_task", task_id=task_id)

    async def listed(self) -> Sequence[dict[str, Any]]:
        tasks: Sequence[dict[str, Any]] = (await self.ask("list_tasks", limit=100))["tasks"]
        return tasks

    async def known_tasks(self) -> int:
        """Count the purchases whose task is on record."""
        return len([task for task in await self.listed() if "task_id" in task])
