"""Progress notifications: strictly rising, not too many, never too few."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio

from evolink_mcp.api.network import Sleep
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


@dataclass(slots=True)
class Progress:
    """Tells a host how a task goes on, while somebody waits for it."""

    report: Report
    elapsed: Callable[[], float]
    sleep: Sleep = anyio.sleep
    _last: float = 0.0
    _told: Task | None = None
    _silent: float = 0.0

    async def stream(self, watch: Watch) -> None:
        """Send messages until cancelled; the first one at once, with the task id."""
        while True:
            task = watch.job.task
            if task is not None and (task is not self._told or self._silent >= AT_LEAST_EVERY):
                await self._tell(task)
            await self.sleep(AT_MOST_EVERY)
            self._silent += AT_MOST_EVERY

    async def _tell(self, task: Task) -> None:
        """Rise by a trifle where EvoLink's own figure stands still or falls back."""
        limit = TOTAL if task.status == "completed" else _BEFORE_THE_END
        self._last = round(max(self._last + _STEP, min(task.progress, limit)), 2)
        self._told, self._silent = task, 0.0
        await self.report(self._last, TOTAL, describe(task, elapsed=self.elapsed()))


def describe(task: Task, *, elapsed: float) -> str:
    """Say in a few words how far a task is."""
    if task.status == "completed":
        return f"{task.id}: saving the pictures"
    status = task.status if task.status in {"pending", "processing"} else "ending"
    return f"{task.id}: {status}, {task.progress:.0f} %, {elapsed:.0f} s"
