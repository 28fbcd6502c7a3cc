"""Clients of several makers at one service, all at the same time."""

from __future__ import annotations

import time
from itertools import combinations

import anyio
import httpx2 as httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.answers import TaskList
from tests.conformance.callers import CALLERS, LIMIT, Bought
from tests.conformance.conftest import Service
from tests.service.rooms import bearing, host_at

SPEED = 100

STAGES = [seconds / SPEED for seconds in (5, 10, 15, 20)]
"""Ages at which each task is read; the quickest is over at 27 of the API's seconds."""

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(2 * LIMIT)]


class Stages:
    """A sandbox's clock that goes on once every task was read as it is now.

    It stands still until all tasks are there, then at each of `STAGES`; after them it is the real
    one. So each client has something new to hear of several times, however slow the machine.
    """

    def __init__(self) -> None:
        self.sandbox = Sandbox(speed=SPEED, now=self)
        self.sandbox.app.add_middleware(NotedReadings, stages=self)
        self._began = time.time()
        self._left = list(STAGES)
        self._read: set[str] = set()

    def __call__(self) -> float:
        stage = self.current
        if stage is None:
            return time.time()
        return self._began + stage

    @property
    def current(self) -> float | None:
        """The age at which all stand, none once the clock runs."""
        if len(self.sandbox.tasks) < len(CALLERS):
            return 0.0
        return self._left[0] if self._left else None

    def note(self, task_id: str) -> None:
        self._read |= {task_id} & self.sandbox.tasks.keys()
        if self._left and self._read >= self.sandbox.tasks.keys():
            del self._left[0]
            self._read.clear()


class NotedReadings:
    """Notes which task was read at the stage that is still the current one."""

    def __init__(self, app: ASGIApp, stages: Stages) -> None:
        self._app, self._stages = app, stages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stage = self._stages.current
        await self._app(scope, receive, send)
        if stage and stage == self._stages.current:
            self._stages.note(str(scope.get("path", "")).rpartition("/")[2])


@pytest.fixture
def sandbox() -> Sandbox:
    """Everybody waits at once, and everybody's task is read at each of its stages."""
    return Stages().sandbox


async def test_each_client_gets_its_own_pictures_and_only_those(service: Service) -> None:
    bought: dict[str, Bought] = {}

    async def buy(name: str) -> None:
        bought[name] = await CALLERS[name](service.url, service.tokens[name], prompt_of(name))

    async with anyio.create_task_group() as group:
        for name in CALLERS:
            group.start_soon(buy, name)
    pictures: dict[str, set[bytes]] = {}
    for name, got in bought.items():
        assert got.answer.status == "completed", name
        task_id = str(got.answer.task_id)
        assert service.sandbox.tasks[task_id].request.prompt == prompt_of(name)
        assert await listed(service, name) == [task_id]
        pictures[name] = await downloaded(service, name, got)
        assert len(pictures[name]) == 2, name
        if got.progress is not None:
            assert len(got.progress) > 1, name
            assert got.progress == sorted(set(got.progress)), name
    assert pictures.keys() == CALLERS.keys()
    assert not [pair for pair in combinations(pictures.values(), 2) if pair[0] & pair[1]]
    assert len(service.sandbox.tasks) == len(CALLERS)


def prompt_of(name: str) -> str:
    return f"a red fox for {name}"


async def listed(service: Service, name: str) -> list[str | None]:
    """Return the tasks that a caller is told of."""
    async with host_at(service.url, service.tokens[name]) as host:
        result = await host.call_tool("list_tasks", {})
    tasks = TaskList.model_validate(result.structured_content).tasks or []
    return [task.task_id for task in tasks]


async def downloaded(service: Service, name: str, got: Bought) -> set[bytes]:
    """Fetch a caller's pictures by the links in the answer; nobody else's token opens them."""
    other = next(token for who, token in service.tokens.items() if who != name)
    found: set[bytes] = set()
    async with httpx.AsyncClient(trust_env=False) as http:
        for image in got.answer.images or ():
            link = str(image.download_url)
            answer = await http.get(link, **bearing(service.tokens[name]))
            assert answer.status_code == 200
            assert (await http.get(link, **bearing(other))).status_code == 404
            found.add(answer.content)
    return found
