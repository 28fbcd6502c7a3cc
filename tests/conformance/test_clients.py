"""Clients of several makers at one service, all at the same time."""

from __future__ import annotations

import time
from itertools import combinations

import anyio
import httpx2 as httpx
import pytest

from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.answers import TaskList
from tests.conformance.callers import CALLERS, LIMIT, Bought
from tests.conformance.conftest import Service
from tests.service.rooms import bearing, host_at

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(2 * LIMIT)]


@pytest.fixture
def sandbox() -> Sandbox:
    """Its clock stands still until everybody's task is there: all of them wait at once."""
    began = time.time()

    def now() -> float:
        return time.time() if len(box.tasks) >= len(CALLERS) else began

    box = Sandbox(speed=100, now=now)
    return box


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
