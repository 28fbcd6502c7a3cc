"""Progress notifications: strictly rising, not too many, never too few."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio

from evolink_mcp.api.wire import Task
from evolink_mcp.jobs.job import Watch

AT_MOST_EVERY = 1.0
"""Seconds between two messages, at least."""

AT_LEAST_EVERY = 10.0
"""Seconds between two messages, at most: hosts take silence for a hang."""

TOTAL = 100.0

_STEP = 0.01
_BEFORE_THE_END = 99.0

Report = Callable[[float, float, str], Awaitable[None]]
"""Takes progress, total and a message for a person."""


Pause = Callable[[Watch, float], Awaitable[None]]
"""Waits for a change of a watch, at most that many seconds."""


async def changed_within(watch: Watch, seconds: float) -> None:
    """Wait for a change, at most so many seconds."""
    with anyio.move_on_after(seconds):
        await watch.changed()


@dataclass(slots=True)
class Progress:
    """Tells a host how a task goes on, while somebody waits for it."""

    report: Report
    elapsed: Callable[[], float]
    pause: Pause = changed_within
    _last: float = 0.0
    _told: Task | None = None
    _told_at: float = -math.inf

    async def follow(self, watch: Watch) -> None:
        """Send messages until nobody works on the job any more; the first at once, with its id."""
        while not watch.ended:
            task, silent = watch.job.task, self.elapsed() - self._told_at
            pause = AT_LEAST_EVERY if task is self._told else AT_MOST_EVERY
            if task is not None and silent >= pause:
                await self._tell(task)
                continue
            await self.pause(watch, max(0.0, pause - silent) if task else math.inf)

    async def _tell(self, task: Task) -> None:
        """Rise by a trifle where EvoLink's own figure stands still or falls back."""
        limit = TOTAL if task.status == "completed" else _BEFORE_THE_END
        self._last = round(max(self._last + _STEP, min(task.progress, limit)), 2)
        self._told, self._told_at = task, self.elapsed()
        await self.report(self._last, TOTAL, describe(task, elapsed=self.elapsed()))


def describe(task: Task, *, elapsed: float) -> str:
    """Say in a few words how far a task is."""
    if task.status == "completed":
        return f"{task.id}: saving the pictures"
    status = task.status if task.status in {"pending", "processing"} else "ending"
    return f"{task.id}: {status}, {task.progress:.0f} %, {elapsed:.0f} s"
