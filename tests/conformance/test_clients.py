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

HALF = 20 / SPEED
"""Seconds after which no task is over yet: the quickest takes 27 of the API's."""

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(2 * LIMIT)]


@pytest.fixture
def sandbox() -> Sandbox:
    """Everybody waits at once, and everybody's task is read when it is half done.

    Its clock stands still until each task is there, and again half-way until each was read.
    """
    began, read = time.time(), set[str]()

    def now() -> float:
        if len(box.tasks) < len(CALLERS):
            return began
        return time.time() if read >= box.tasks.keys() else began + HALF

    box = Sandbox(speed=SPEED, now=now)
    box.app.add_middleware(NotedReadings, sandbox=box, read=read)
    return box


class NotedReadings:
    """Notes which tasks were read since each was there."""

    def __init__(self, app: ASGIApp, sandbox: Sandbox, read: set[str]) -> None:
        self._app, self._sandbox, self._read = app, sandbox, read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_late = len(self._sandbox.tasks) >= len(CALLERS)
        await self._app(scope, receive, send)
        task_id = str(scope.get("path", "")).rpartition("/")[2]
        if is_late and task_id in self._sandbox.tasks:
            self._read.add(task_id)


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
