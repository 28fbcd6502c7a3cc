"""What the tests of jobs share: watchers over a sandbox, on a network that can break."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.abc
import anyio.lowlevel
import httpx2 as httpx

from evolink_mcp.api.client import connect
from evolink_mcp.api.egress import Downloads, open_downloads
from evolink_mcp.api.network import Network, Sleep
from evolink_mcp.api.wire import TaskId
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.jobs.callbacks import CallbackUrl
from evolink_mcp.jobs.job import Job, State, Watch
from evolink_mcp.jobs.journal import Budget, Journal, open_journal
from evolink_mcp.jobs.watch import Purchase, Watchers
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

    `held`, while it is there, keeps purchases waiting before they arrive; `held_gets` does so
    with readings and downloads whose address holds its text.
    """

    sandbox: Sandbox
    breaks: list[Break] = field(default_factory=list[Break])
    held: anyio.Event | None = None
    held_gets: tuple[str, anyio.Event] | None = None
    seen: list[httpx.Request] = field(default_factory=list[httpx.Request])

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        buying = request.method == "POST"
        happens = self.breaks.pop(0) if buying and self.breaks else nothing
        if buying and self.held:
            await self.held.wait()
        if not buying and self.held_gets and self.held_gets[0] in str(request.url):
            await self.held_gets[1].wait()
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
    journal: Journal
    downloads: Downloads
    group: anyio.abc.TaskGroup
    watchers: Watchers
    folder: Path
    heard: list[Job]
    """Jobs as they moved."""
    budget: Budget

    async def buy(self, prompt: str = "a fox", *, n: int | None = None) -> Job:
        """Buy pictures and wait for the end of the job."""
        return await self.end(await self.start(prompt, n=n))

    async def start(self, prompt: str = "a fox", *, n: int | None = None) -> Watch:
        """Buy pictures."""
        return (await self.purchase(prompt, n=n)).watch

    async def purchase(self, prompt: str = "a fox", *, n: int | None = None) -> Purchase:
        """Buy pictures, or join an earlier purchase."""
        return await self.watchers.buy(wanted(prompt, n=n), budget=self.budget)

    async def follow(self, job: Job) -> Job:
        """Take a bought task up and wait for the end of the job."""
        assert job.task_id is not None
        return await self.end(await self.watchers.follow(job.task_id))

    async def end(self, watch: Watch) -> Job:
        with anyio.fail_after(20):
            await watch.end()
        return watch.job

    async def arrived(self, count: int = 1) -> None:
        """Wait until so many requests are on their way."""
        with anyio.fail_after(20):
            while len(self.line.seen) < count:
                await anyio.lowlevel.checkpoint()

    async def becomes(self, job: Job, state: State) -> Job:
        """Wait until the journal tells that a job has come so far."""
        with anyio.fail_after(20):
            while (found := await self.journal.look(job.id)) is None or found.state != state:
                await anyio.lowlevel.checkpoint()
        return found

    async def recorded(self, task_id: TaskId | None) -> Job | None:
        return await self.journal.find(task_id) if task_id else None

    @property
    def requests(self) -> tuple[int, int, int]:
        """Purchases, readings and downloads that arrived."""
        counts = self.sandbox.requests
        return counts[POSTS], counts[GETS], counts[FILES]


@asynccontextmanager
async def open_shop(
    folder: Path,
    *,
    beside: Shop | None = None,
    a_day: float | None = None,
    sleep: Sleep | None = None,
    callback_url: CallbackUrl | None = None,
) -> AsyncGenerator[Shop]:
    """Open a shop; one `beside` another shares its sandbox, its time and its journal."""
    clock = beside.clock if beside else Clock()
    sandbox = beside.sandbox if beside else Sandbox(now=clock, sleep=clock.sleep)
    line = Line(sandbox)
    path = (beside.folder if beside else folder).parent / "data" / "journal"
    network = Network(transport=line, sleep=clock.sleep, clock=clock)
    async with (
        open_journal(path, origin=BASE_URL, now=clock) as journal,
        connect(BASE_URL, key="sk-sandbox", network=network) as api,
        open_downloads(BASE_URL, network) as downloads,
        anyio.create_task_group() as group,
    ):
        heard: list[Job] = []

        async def hear(job: Job) -> None:
            heard.append(job)

        watchers = Watchers(
            api=api,
            downloads=downloads,
            journal=journal,
            folder=folder,
            group=group,
            moved=hear,
            callback_url=callback_url,
            sleep=sleep or clock.sleep,
            clock=clock,
        )
        budget = Budget(a_picture=2.5, a_day=a_day)
        yield Shop(sandbox, line, clock, journal, downloads, group, watchers, folder, heard, budget)
        group.cancel_scope.cancel()
