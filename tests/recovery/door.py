"""EvoLink's door, where tests act when a request arrives, and a server to talk with beside it."""

from __future__ import annotations

import resource
import signal
import sqlite3
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anyio.abc import Process
from mcp import StdioServerParameters
from mcp.types import CallToolResult
from starlette.types import ASGIApp, Receive, Scope, Send

from evolink_mcp.server.answers import Entry, TaskList
from tests.pipes import initialize, request, send, started
from tests.recovery.scene import Scene
from tests.servers import answer_of, process

NO_LIMIT = resource.RLIM_INFINITY


@dataclass
class Arrivals:
    """What happens at EvoLink's door when a request arrives, by the beginning of its path."""

    doings: dict[str, Callable[[], None]] = field(default_factory=dict[str, Callable[[], None]])

    def on(self, path: str, doing: Callable[[], None]) -> None:
        self.doings[path] = doing

    def arrived(self, path: str) -> None:
        for beginning in [known for known in self.doings if path.startswith(known)]:
            self.doings.pop(beginning)()


class Door:
    def __init__(self, app: ASGIApp, arrivals: Arrivals) -> None:
        self._app = app
        self._arrivals = arrivals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._arrivals.arrived(scope.get("path", ""))
        await self._app(scope, receive, send)


@dataclass
class Talk:
    """A server as a process that a test can disturb, and talk with meanwhile."""

    server: Process
    lines: AsyncIterator[dict[str, Any]]
    calls: int = 1

    async def ask(self, name: str, arguments: dict[str, Any]) -> None:
        """Call a tool, and do not wait for the answer."""
        self.calls += 1
        call = {"name": name, "arguments": arguments}
        await send(self.server, request(self.calls, "tools/call", call))

    async def answer(self) -> CallToolResult:
        return CallToolResult.model_validate((await anext(self.lines))["result"])

    async def call(self, name: str, arguments: dict[str, Any]) -> CallToolResult:
        await self.ask(name, arguments)
        return await self.answer()

    async def entries(self) -> list[Entry]:
        result = await self.call("list_tasks", {})
        return TaskList.model_validate(result.structured_content).tasks or []

    def leave_room(self, size: int) -> None:
        """Let no file of the server's grow beyond `size` bytes, as on a full disk."""
        resource.prlimit(self.server.pid, resource.RLIMIT_FSIZE, (size, NO_LIMIT))

    def stop(self) -> None:
        """Let it sleep, as on a laptop whose lid was closed."""
        self.server.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self.server.send_signal(signal.SIGCONT)


@asynccontextmanager
async def talking(scene: Scene) -> AsyncGenerator[Talk]:
    """Start a server whose journal is made already."""
    async with started(scene.settings) as (server, lines):
        await send(server, initialize())
        talk = Talk(server, lines)
        await talk.call("list_tasks", {})
        yield talk


def rigged(scene: Scene, **how: str) -> StdioServerParameters:
    """Say how a server is started that has something wrong about it."""
    usual = process(scene.settings)
    program = str(Path(__file__).with_name("rigged.py"))
    return StdioServerParameters(
        command=sys.executable, args=[program], env={**(usual.env or {}), **how}
    )


def journal_of(scene: Scene) -> Path:
    return scene.folder / "data" / "journal.sqlite3"


def do_in(path: Path, statement: str) -> None:
    """Do something to a journal behind its servers' backs."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


def assert_refused(result: CallToolResult, *, code: str, advice: str) -> None:
    error = answer_of(result).error
    assert error is not None
    assert (error.code, error.charged, answer_of(result).status) == (code, "no", "refused")
    assert advice in error.next_step
