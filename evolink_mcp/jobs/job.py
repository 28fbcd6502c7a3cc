"""What is known of one job."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, NewType

import anyio

from evolink_mcp.api.wire import Task, TaskId
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.errors import EvolinkError

JobId = NewType("JobId", str)
"""Our own name for a job; goes to EvoLink as the idempotency key."""

State = Literal[
    "intent", "refused", "unknown", "submitted", "processing", "completed", "collected", "failed"
]
"""How far a job has come; `completed` is over at EvoLink, `collected` is on disk."""


def new_job_id() -> JobId:
    """Make a name that nobody can guess, in the form EvoLink's own clients use."""
    return JobId(f"run_{secrets.token_hex(16)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One result: where it is at EvoLink and, once it is collected, here."""

    n: int
    """Position in the task's results, from 1."""
    url: str
    expires_at: datetime | None
    path: Path | None = None
    media_type: str = ""
    width: int = 0
    """Pixels."""
    height: int = 0
    """Pixels."""
    size: int = 0
    """Bytes."""
    problem: str = ""
    """Why it is not on disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One paid request and what has become of it."""

    id: JobId
    request: ImageRequest | None = None
    """None for a task that was bought elsewhere or by an earlier process."""
    state: State = "intent"
    task: Task | None = None
    """The last reading."""
    pictures: tuple[Picture, ...] = ()
    error: EvolinkError | None = None

    @property
    def task_id(self) -> TaskId | None:
        """EvoLink's name for it, once there is one."""
        return self.task.task_id if self.task else None


@dataclass(slots=True)
class Watch:
    """A job that changes while callers look on."""

    job: Job
    started: float
    """The clock's seconds when we began to look."""
    ended: bool = False
    """Whether nobody works on the job any more."""
    _changed: anyio.Event = field(default_factory=anyio.Event)

    def update(self, job: Job, *, ended: bool = False) -> None:
        """Put the new state in place and wake everybody who waits."""
        self.job, self.ended = job, ended
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def changed(self) -> None:
        """Wait for the next change."""
        await self._changed.wait()

    async def bought(self) -> None:
        """Wait until the task has an id, or the job has ended without one."""
        while self.job.task is None and not self.ended:
            await self.changed()

    async def end(self) -> None:
        """Wait until nobody works on the job any more."""
        while not self.ended:
            await self.changed()


def advanced(job: Job, task: Task) -> Job:
    """Return the job with a new reading of its task."""
    state: State = "submitted" if task.status == "pending" else "processing"
    return replace(job, task=task, state=state)
