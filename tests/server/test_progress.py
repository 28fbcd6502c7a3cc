"""Progress: strictly rising, not too many messages, never too few, none that nobody asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot
from mcp import Client

from evolink_mcp.api.wire import Task
from evolink_mcp.jobs.job import Job, JobId, Watch, advanced
from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.progress import Progress, describe
from tests.servers import Era, Messages, answer_of, host_of, settings_for

TASK_ID = "task-unified-1757156493-imcg5zqt"


class Over(Exception):
    """The story has been told."""


@dataclass
class Story:
    """Readings of a task by the second at which they arrive, told to a progress stream."""

    readings: dict[int, Task]
    seconds: int
    now: int = 0
    watch: Watch = field(default_factory=lambda: Watch(Job(id=JobId("run_1")), 0.0))
    told: list[tuple[int, float, str]] = field(default_factory=list)

    async def tell(self) -> list[tuple[int, float, str]]:
        self.arrive()
        with pytest.raises(Over):
            await Progress(self.report, lambda: float(self.now), self.pause).follow(self.watch)
        return self.told

    def arrive(self) -> bool:
        arrived = self.now in self.readings
        if arrived:
            self.watch.update(advanced(self.watch.job, self.readings[self.now]))
        return arrived

    async def pause(self, watch: Watch, seconds: float) -> None:
        assert watch is self.watch
        end = self.now + seconds
        while self.now < end:
            self.now += 1
            if self.now > self.seconds:
                raise Over
            if self.arrive():
                break

    async def report(self, progress: float, total: float, message: str) -> None:
        assert total == 100
        self.told.append((self.now, progress, message))


def reading(progress: float, status: str = "processing") -> Task:
    return Task(id=TASK_ID, status=status, progress=progress)


async def test_a_task_is_told_from_its_first_second_to_its_last() -> None:
    readings = {
        0: reading(0, "pending"),
        4: reading(10),
        8: reading(55),
        9: reading(100, "completed"),
    }
    assert await Story(readings, seconds=9).tell() == snapshot(
        [
            (0, 0.01, "task-unified-1757156493-imcg5zqt: pending, 0 %, 0 s"),
            (4, 10.0, "task-unified-1757156493-imcg5zqt: processing, 10 %, 4 s"),
            (8, 55.0, "task-unified-1757156493-imcg5zqt: processing, 55 %, 8 s"),
            (9, 100.0, "task-unified-1757156493-imcg5zqt: saving the pictures"),
        ]
    )


async def test_silence_is_broken_every_ten_seconds() -> None:
    told = await Story({0: reading(40)}, seconds=35).tell()
    assert [(second, progress) for second, progress, _ in told] == snapshot(
        [(0, 40.0), (10, 40.01), (20, 40.02), (30, 40.03)]
    )


async def test_nothing_is_told_before_there_is_a_task_id() -> None:
    assert [second for second, *_ in await Story({7: reading(0)}, seconds=12).tell()] == [7]


async def test_a_hundred_percent_is_kept_for_the_end() -> None:
    told = await Story({0: reading(100), 1: reading(100, "completed")}, seconds=1).tell()
    assert [progress for _, progress, _ in told] == [99.0, 100.0]


@given(st.dictionaries(st.integers(0, 60), st.floats(0, 100, width=16), min_size=1))
async def test_progress_rises_whatever_evolink_says(percentages: dict[int, float]) -> None:
    story = Story({second: reading(value) for second, value in percentages.items()}, seconds=60)
    told = await story.tell()
    first = min(percentages)
    assert told[0][0] == first
    assert all(before < after <= 100 for (_, before, _), (_, after, _) in pairwise(told))
    gaps = [after - before for (before, *_), (after, *_) in pairwise(told)]
    assert all(1 <= gap <= 10 for gap in gaps)
    assert 60 - told[-1][0] <= 10


async def test_it_ends_with_the_job() -> None:
    story = Story({0: reading(40)}, seconds=5)
    story.arrive()
    story.watch.update(story.watch.job, ended=True)
    await Progress(story.report, lambda: 0.0, story.pause).follow(story.watch)
    assert story.told == []


def test_a_message_is_short_and_carries_the_id() -> None:
    message = describe(reading(12.4, "melted" * 100), elapsed=100_000)
    assert message == f"{TASK_ID}: ending, 12 %, 100000 s"


async def test_nothing_is_sent_after_the_answer(tmp_path: Path, era: Era) -> None:
    messages = Messages()
    async with host_of(Sandbox(speed=0.1), settings_for(tmp_path), era=era) as host:
        arguments = {"prompt": "[stuck] a fox", "wait_seconds": 0.2}
        with anyio.fail_after(10):
            result = await host.call_tool("generate_image", arguments, progress_callback=messages)
        told = len(messages.seen)
        await let_others_run(host)
    assert len(messages.seen) == told == 1
    assert messages.seen[0][2].startswith(str(answer_of(result).task_id))


async def test_progress_of_get_task_names_the_task_too(tmp_path: Path, era: Era) -> None:
    messages = Messages()
    async with host_of(Sandbox(speed=0.1), settings_for(tmp_path), era=era) as host:
        first = await host.call_tool("generate_image", {"prompt": "a fox", "wait_seconds": 0})
        arguments = {"task_id": answer_of(first).task_id, "wait_seconds": 0.2}
        await host.call_tool("get_task", arguments, progress_callback=messages)
    assert [message.partition(":")[0] for *_, message in messages.seen] == [arguments["task_id"]]


async def let_others_run(host: Client) -> None:
    """Make some round trips, so that whatever was on its way has arrived."""
    for _ in range(3):
        await host.list_tools(cache_mode="bypass")
        await anyio.lowlevel.checkpoint()
