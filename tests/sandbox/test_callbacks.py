from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import anyio
import anyio.lowlevel
import httpx2 as httpx
import pytest

from evolink_mcp.sandbox import Sandbox
from tests.sandbox.desk import BASE_URL, Body, Clock, Desk

HOOK = "https://hooks.example/evolink"


class Hook(httpx.AsyncBaseTransport):
    """The caller's server: answers with the given statuses in turn, None being no answer."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.answers: Iterator[int | None] = iter([204])
        self.last: int | None = None
        self.requests: list[httpx.Request] = []
        self.times: list[float] = []
        self.over = anyio.Event()

    def script(self, *answers: int | None) -> None:
        self.answers = iter(answers[:-1])
        self.last = answers[-1]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.times.append(self.clock.now)
        await request.aread()
        status = next(self.answers, 0)
        if status == 0:
            self.over.set()
            status = self.last
        if status is None:
            message = "no route"
            raise httpx.ConnectError(message)
        return httpx.Response(status)


@pytest.fixture
def hook(clock: Clock) -> Hook:
    return Hook(clock)


@pytest.fixture
async def desk(clock: Clock, hook: Hook) -> AsyncIterator[Desk]:
    sandbox = Sandbox(now=clock, sleep=clock.sleep, callback_transport=hook)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=sandbox.app),
        base_url=BASE_URL,
        headers={"authorization": "Bearer sk-sandbox"},
    ) as http:
        yield Desk(sandbox, clock, http)


async def called_back(desk: Desk, hook: Hook, prompt: str) -> Body:
    """Buy a task, wait until its callback is through, and return the answer to a GET."""
    with anyio.fail_after(5):
        async with desk.sandbox.running():
            task = await desk.buy(prompt, callback_url=HOOK)
            await hook.over.wait()
            await anyio.wait_all_tasks_blocked()
    return await desk.read(task)


@pytest.mark.parametrize("prompt", ["a fox", "[fail:service_error]", "[status:cancelled]"])
async def test_the_answer_of_a_task_is_sent_when_it_is_over(
    desk: Desk, hook: Hook, prompt: str
) -> None:
    hook.script(200)
    answer = await called_back(desk, hook, prompt)
    (request,) = hook.requests
    (task,) = desk.sandbox.tasks.values()
    assert json.loads(request.content) == answer
    assert (request.method, str(request.url)) == ("POST", HOOK)
    assert request.headers["content-type"] == "application/json"
    assert not [name for name in request.headers if "sign" in name or name == "authorization"]
    assert hook.times == [pytest.approx(task.ends)]


@pytest.mark.parametrize(
    ("statuses", "pauses"),
    [
        ([500, 204], [1]),
        ([302, None, 200], [1, 2]),
        ([None, 404, 503, 201], [1, 2, 4]),
        ([500, 500, 500, 500], [1, 2, 4]),
        ([None, None, None, None], [1, 2, 4]),
    ],
)
async def test_anything_but_a_2xx_is_repeated_after_1_2_and_4_seconds(
    desk: Desk, hook: Hook, statuses: list[int | None], pauses: list[float]
) -> None:
    hook.script(*statuses)
    await called_back(desk, hook, "a fox")
    assert len(hook.requests) == len(statuses)
    assert desk.clock.slept[1:] == pauses


async def test_the_wait_for_a_callback_is_the_tasks_own(desk: Desk, hook: Hook) -> None:
    hook.script(200)
    await called_back(desk, hook, "[slow:30]")
    assert desk.clock.slept == [30]


async def test_a_stuck_task_calls_nobody_back(desk: Desk, hook: Hook) -> None:
    async with desk.sandbox.running():
        await desk.buy("[stuck]", callback_url=HOOK)
        await anyio.wait_all_tasks_blocked()
    assert not desk.clock.slept
    assert not hook.requests


async def test_a_callback_that_could_not_be_sent_is_refused_loudly(desk: Desk) -> None:
    with pytest.raises(RuntimeError, match="running"):
        await desk.post(callback_url=HOOK)
    assert desk.sandbox.credits == 1000
    assert not desk.sandbox.tasks


async def test_callbacks_that_are_due_after_the_end_are_dropped(clock: Clock, hook: Hook) -> None:
    sandbox = Sandbox(now=clock, callback_transport=hook)
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=sandbox.app),
        base_url=BASE_URL,
        headers={"authorization": "Bearer sk-sandbox"},
    )

    async def buy() -> None:
        async with client, sandbox.running():
            await Desk(sandbox, clock, client).buy(callback_url=HOOK)
            await anyio.lowlevel.checkpoint()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(buy)
    assert len(sandbox.tasks) == 1
    assert not hook.requests


async def test_running_within_itself_changes_nothing(desk: Desk, hook: Hook) -> None:
    hook.script(200)
    with anyio.fail_after(5):
        async with desk.sandbox.running():
            async with desk.sandbox.running():
                pass
            await desk.buy(callback_url=HOOK)
            await hook.over.wait()
    assert len(hook.requests) == 1


async def test_a_sandbox_can_run_again(desk: Desk, hook: Hook) -> None:
    hook.script(200)
    async with desk.sandbox.running():
        pass
    await called_back(desk, hook, "a fox")
    assert len(hook.requests) == 1
