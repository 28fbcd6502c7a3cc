"""What the tests of jobs share: watchers over a sandbox, on a network that can break."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.abc
import httpx2 as httpx

from evolink_mcp.api.client import connect
from evolink_mcp.api.egress import Downloads, open_downloads
from evolink_mcp.api.network import Network
from evolink_mcp.api.wire import TaskId
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.jobs.job import Job, Watch
from evolink_mcp.jobs.journal import MemoryJournal
from evolink_mcp.jobs.watch import Watchers
from evolink_mcp.sandbox import Sandbox
from tests.sandbox.desk import BASE_URL, Clock

POSTS, GETS, FILES = "POST /v1/images/generations", "GET /v1/tasks", "GET /files"

Break = Callable[[httpx.Response | None], httpx.Response | None]
"""What happens to a purchase: called before it is sent, with None, and with its answer."""


def wanted(prompt: str = "a fox", *, n: int | None = None) -> ImageRequest:
    return ImageRequest(model="gpt-4o-image", prompt=prompt, n=n)


@dataclass
class Line(httpx.AsyncBaseTransport):
    """The network before the sandbox: `breaks` happen to purchases, in their order.

    `held`, while it is there, keeps purchases waiting before they arrive.
    """

    sandbox: Sandbox
    breaks: list[Break] = field(default_factory=list[Break])
    held: anyio.Event | None = None
    seen: list[httpx.Request] = field(default_factory=list[httpx.Request])

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        buying = request.method == "POST"
        happens = self.breaks.pop(0) if buying and self.breaks else nothing
        if buying and self.held:
            await self.held.wait()
        if instead := happens(None):
            return instead
        answer = await httpx.ASGITransport(app=self.sandbox.app).handle_async_request(request)
        return happens(answer) or answer


def nothing(_: httpx.Response | None) -> None:
    """Let a purchase and its answer pass."""


def never_sent(error: httpx.HTTPError) -> Break:
    def happens(_: httpx.Response | None) -> httpx.Response | None:
        raise error

    return happens


def answer_lost(error: Exception) -> Break:
    def happens(answer: httpx.Response | None) -> httpx.Response | None:
        if answer is not None:
            raise error
        return None

    return happens


def answered(status: int, content: bytes | object = b"", **headers: str) -> Break:
    """Let somebody before EvoLink answer; the request does not arrive."""

    def happens(_: httpx.Response | None) -> httpx.Response | None:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(content, bytes):
            return httpx.Response(status, headers=names, content=content)
        return httpx.Response(status, headers=names, json=content)

    return happens


@dataclass
class Shop:
    """A sandbox, who watches it, and the time that both live by."""

    sandbox: Sandbox
    line: Line
    clock: Clock
    journal: MemoryJournal
    downloads: Downloads
    group: anyio.abc.TaskGroup
    watchers: Watchers
    folder: Path

    async def buy(self, prompt: str = "a fox", *, n: int | None = None) -> Job:
        """Buy pictures and wait for the end of the job."""
        return await self.end(await self.watchers.buy(wanted(prompt, n=n)))

    async def follow(self, job: Job) -> Job:
        """Take a bought task up and wait for the end of the job."""
        assert job.task_id is not None
        return await self.end(await self.watchers.follow(job.task_id))

    async def end(self, watch: Watch) -> Job:
        with anyio.fail_after(20):
            await watch.end()
        return watch.job

    async def recorded(self, task_id: TaskId | None) -> Job | None:
        return await self.journal.find(task_id) if task_id else None

    @property
    def requests(self) -> tuple[int, int, int]:
        """Purchases, readings and downloads that arrived."""
        counts = self.sandbox.requests
        return counts[POSTS], counts[GETS], counts[FILES]


@asynccontextmanager
async def open_shop(folder: Path) -> AsyncGenerator[Shop]:
    clock = Clock()
    sandbox = Sandbox(now=clock, sleep=clock.sleep)
    line = Line(sandbox)
    network = Network(transport=line, sleep=clock.sleep)
    journal = MemoryJournal()
    async with (
        connect(BASE_URL, key="sk-sandbox", network=network) as api,
        open_downloads(BASE_URL, network) as downloads,
        anyio.create_task_group() as group,
    ):
        watchers = Watchers(
            api=api,
            downloads=downloads,
            journal=journal,
            folder=folder,
            group=group,
            sleep=clock.sleep,
            clock=clock,
        )
        yield Shop(sandbox, line, clock, journal, downloads, group, watchers, folder)
        group.cancel_scope.cancel()
