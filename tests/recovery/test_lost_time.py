"""A clock that jumps, and a process that sleeps for an hour: nothing is bought twice."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest
from mcp import Client

from tests.pipes import LIMIT
from tests.recovery.door import Arrivals, Talk, do_in, journal_of, rigged, talking
from tests.recovery.scene import CALL, Scene, until_nothing_runs
from tests.servers import answer_of

AN_HOUR = 3600


@asynccontextmanager
async def asleep(scene: Scene, arrivals: Arrivals, *, at: str) -> AsyncGenerator[Talk]:
    """Call a server that falls asleep when a request of it arrives at EvoLink."""
    stopped = anyio.Event()
    async with talking(scene) as sleeper:

        def sleep() -> None:
            sleeper.stop()
            stopped.set()

        arrivals.on(at, sleep)
        await sleeper.ask(**CALL)
        await stopped.wait()
        yield sleeper


@pytest.mark.parametrize(
    ("step", "status"),
    [("EvoLink has answered", "unknown"), ("the task id is on record", "completed")],
)
async def test_jobs_are_taken_over_though_the_clock_was_set_back(
    scene: Scene, step: str, status: str
) -> None:
    await scene.die_at(step)
    # Only the lease tells that it is gone, and that seems to have an hour to go.
    do_in(journal_of(scene), "UPDATE workers SET place='another machine'")
    with anyio.fail_after(LIMIT):
        async with Client(rigged(scene, RIGGED_CLOCK=str(-AN_HOUR))) as host:
            [entry] = await until_nothing_runs(host)
            again = await host.call_tool(**CALL)
    assert (entry.status, answer_of(again).status, scene.posts) == (status, status, 1)
    assert answer_of(again).task_id == entry.task_id


async def test_a_purchase_that_was_slept_through_is_known_in_the_end(
    scene: Scene, arrivals: Arrivals
) -> None:
    with anyio.fail_after(LIMIT):
        async with (
            asleep(scene, arrivals, at="/v1/images") as sleeper,
            Client(rigged(scene, RIGGED_CLOCK=str(AN_HOUR))) as host,
        ):
            [entry] = await until_nothing_runs(host)
            sleeper.wake()
            answer = answer_of(await sleeper.answer())
            [later] = await until_nothing_runs(host)
    assert (entry.status, later.status, answer.status) == ("unknown", "completed", "completed")
    assert (scene.posts, [later.task_id]) == (1, list(scene.sandbox.tasks))


async def test_a_task_that_was_slept_through_is_collected_by_another_and_told_by_both(
    scene: Scene, arrivals: Arrivals
) -> None:
    with anyio.fail_after(LIMIT):
        async with (
            asleep(scene, arrivals, at="/v1/tasks") as sleeper,
            Client(rigged(scene, RIGGED_CLOCK=str(AN_HOUR))) as host,
        ):
            [entry] = await until_nothing_runs(host)
            assert entry.status == "completed"
            sleeper.wake()
            answer = answer_of(await sleeper.answer())
            assert await until_nothing_runs(host) == [entry]
    assert [image.path for image in answer.images or ()] == entry.paths
    assert (scene.posts, len(scene.pictures)) == (1, 1)
