from __future__ import annotations

import math
import re

import anyio
import pytest

from evolink_mcp.api.wire import Task
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.jobs.job import Job, JobId, State, Watch, advanced, new_job_id, settled

TASK = Task(id="task-unified-1", status="processing")


def test_a_job_id_is_a_valid_idempotency_key_and_never_the_same() -> None:
    names = {new_job_id() for _ in range(1000)}
    assert len(names) == 1000
    assert all(re.fullmatch(r"run_[0-9a-f]{32}", name) for name in names)


def test_a_job_has_the_id_of_its_task() -> None:
    assert Job(id=JobId("run_1")).task_id is None
    assert Job(id=JobId("run_1"), task=TASK).task_id == "task-unified-1"


@pytest.mark.parametrize(
    ("status", "state"),
    [("pending", "submitted"), ("processing", "processing"), ("completed", "processing")],
)
def test_a_reading_advances_a_job(status: str, state: State) -> None:
    task = Task(id="task-unified-1", status=status)
    assert advanced(Job(id=JobId("run_1")), task) == Job(id=JobId("run_1"), state=state, task=task)


async def test_everybody_who_waits_hears_of_each_change() -> None:
    watch = Watch(Job(id=JobId("run_1")), 0.0)
    heard: list[str] = []

    async def wait(name: str) -> None:
        await watch.bought()
        heard.append(f"{name} bought")
        await watch.end()
        heard.append(f"{name} ended")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(wait, "one")
            group.start_soon(wait, "two")
            await anyio.wait_all_tasks_blocked()
            watch.update(watch.job)
            await anyio.wait_all_tasks_blocked()
            assert heard == []
            watch.update(Job(id=JobId("run_1"), task=TASK))
            await anyio.wait_all_tasks_blocked()
            assert sorted(heard) == ["one bought", "two bought"]
            watch.update(watch.job, ended=True)
    assert sorted(heard[2:]) == ["one ended", "two ended"]


async def test_a_job_that_ends_without_a_task_lets_everybody_go() -> None:
    watch = Watch(Job(id=JobId("run_1")), 0.0)
    watch.update(watch.job, ended=True)
    with anyio.fail_after(5):
        await watch.bought()
        await watch.end()


async def test_a_first_look_ends_with_the_first_news_or_the_end_or_the_time() -> None:
    watch = Watch(Job(id=JobId("run_1")), 0.0)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(watch.first_look, 0.0)
        assert not watch.looked
        async with anyio.create_task_group() as group:
            group.start_soon(watch.first_look, 60.0)
            await anyio.wait_all_tasks_blocked()
            watch.update(watch.job)
        await watch.first_look(60.0)
        await Watch(watch.job, 0.0, ended=True).first_look(60.0)


def a_task(
    status: str, *, made: int = 0, used: float | None = None, reserved: float = 10.0
) -> Task:
    """Return a reading of a task."""
    return Task.model_validate(
        {
            "id": "task-unified-1",
            "status": status,
            "results": [f"https://a/{n}" for n in range(made)],
            "usage": {"credits_reserved": reserved, "credits_used": used},
        }
    )


def forced(**credits_: float) -> Task:
    """Return a reading that no check has seen."""
    return a_task("completed").model_copy(update=credits_)


EXPECTED = 3.0
"""Credits that the catalogue told."""


@pytest.mark.parametrize(
    ("state", "task", "booked"),
    [
        ("intent", None, EXPECTED),
        ("unknown", None, EXPECTED),
        ("refused", None, 0.0),
        ("submitted", TASK, EXPECTED),
        ("submitted", a_task("pending"), 10.0),
        ("processing", a_task("processing"), 10.0),
        ("processing", a_task("processing", used=4.0), 10.0),
        ("completed", a_task("completed", made=4), 10.0),
        ("collected", a_task("completed", made=4), 10.0),
        ("collected", a_task("completed", made=1), 2.5),
        ("collected", a_task("completed", made=9), 10.0),
        ("collected", a_task("completed", made=1, used=4.0), 4.0),
        ("processing", a_task("completed"), 10.0),
        ("expired", a_task("completed", made=2), 5.0),
        ("failed", a_task("failed"), 0.0),
        ("failed", a_task("failed", used=4.0), 0.0),
        ("collected", a_task("completed", made=4, used=-1000.0), 10.0),
        ("collected", a_task("completed", made=4, used=math.inf), 10.0),
        ("processing", a_task("processing", reserved=-1000.0), EXPECTED),
        ("processing", a_task("processing", reserved=math.nan), EXPECTED),
        ("collected", forced(credits_reserved=10.0, credits_used=-1000.0), 0.0),
        ("collected", forced(credits_reserved=-1000.0), 0.0),
        ("collected", forced(credits_reserved=math.nan), 0.0),
    ],
)
def test_what_counts_for_a_job_is_what_evolink_told(
    state: State, task: Task | None, booked: float
) -> None:
    four = ImageRequest(model="gpt-4o-image", prompt="a fox", n=4)
    job = Job(id=JobId("run_1"), request=four, booked=EXPECTED, state=state, task=task)
    assert settled(job).booked == booked


def test_what_was_booked_below_nothing_counts_as_nothing() -> None:
    assert settled(Job(id=JobId("run_1"), booked=-1000.0)).booked == 0.0


def test_a_task_that_was_bought_elsewhere_counts_with_what_is_reserved() -> None:
    job = Job(id=JobId("run_1"), state="collected", task=a_task("completed", made=1))
    assert settled(job).booked == 10.0
