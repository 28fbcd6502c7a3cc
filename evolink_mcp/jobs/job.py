"""What is known of one job."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, NewType

import anyio

from evolink_mcp.api.wire import Task, TaskId
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.errors import EvolinkError
from evolink_mcp.jobs.hint import Hint

JobId = NewType("JobId", str)
"""Our own name for a job; goes to EvoLink as the idempotency key."""

Principal = NewType("Principal", str)
"""Whoever a call acts for."""

LOCAL = Principal("local")
"""The one who runs the server over stdio."""

State = Literal[
    "intent",
    "declined",
    "refused",
    "unknown",
    "submitted",
    "processing",
    "completed",
    "collected",
    "failed",
    "expired",
]
"""How far a job has come; `declined` was asked about and never begun, `completed` is over at
EvoLink, `collected` is on disk, `expired` is over at EvoLink, not all on disk, and out of reach."""

UNFINISHED: tuple[State, ...] = ("intent", "submitted", "processing", "completed")
"""States that somebody has to go on with."""


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
    principal: Principal = LOCAL
    request: ImageRequest | None = None
    """None for a task that was bought elsewhere."""
    wish: str = ""
    """Names what is wanted where the request's addresses do not: the same file has another
    address after each upload. Empty where the request names it by itself."""
    created: float = 0.0
    """Unix seconds of the intent."""
    booked: float = 0.0
    """Credits that count against today's cap: expected, then reserved, then charged."""
    state: State = "intent"
    task: Task | None = None
    """The last reading."""
    pictures: tuple[Picture, ...] = ()
    error: EvolinkError | None = None

    @property
    def task_id(self) -> TaskId | None:
        """EvoLink's name for it, once there is one."""
        return self.task.task_id if self.task else None

    @property
    def asked(self) -> int:
        """How many pictures were asked for; 0 where nobody knows."""
        return (self.request.n or 1) if self.request else 0


Moved = Callable[[Job], Awaitable[None]]
"""Is told of a job whose state has changed."""


async def tell_nobody(_: Job) -> None:
    """Let a job move without a word."""


@dataclass(slots=True)
class Watch:
    """A job that changes while callers look on."""

    job: Job
    started: float
    """The clock's seconds when we began to look."""
    ended: bool = False
    """Whether nobody works on the job any more."""
    looked: bool = False
    """Whether anything was learned since we began to look."""
    unsaved: bool = False
    """Whether the journal could not take the newest state up."""
    hint: Hint = field(default_factory=Hint)
    """What callbacks say of the task."""
    _changed: anyio.Event = field(default_factory=anyio.Event)

    def update(self, job: Job, *, ended: bool = False) -> None:
        """Put the new state in place and wake everybody who waits."""
        self.job, self.ended, self.looked = job, ended, True
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def changed(self) -> None:
        """Wait for the next change."""
        await self._changed.wait()

    async def bought(self) -> None:
        """Wait until the task has an id, or the job has ended without one."""
        while self.job.task is None and not self.ended:
            await self.changed()

    async def first_look(self, seconds: float) -> None:
        """Wait until something was learned, at most so many seconds."""
        with anyio.move_on_after(seconds):
            while not self.looked and not self.ended:
                await self.changed()

    async def end(self) -> None:
        """Wait until nobody works on the job any more."""
        while not self.ended:
            await self.changed()


def advanced(job: Job, task: Task) -> Job:
    """Return the job with a new reading of its task."""
    state: State = "submitted" if task.status == "pending" else "processing"
    return settled(replace(job, task=task, state=state))


def settled(job: Job) -> Job:
    """Return the job with the credits that count for it, as far as EvoLink told them.

    Reserved in advance by `n`, charged by the images that were made (EvoLink docs,
    "gpt-4o-image"); `credits_used` goes before both (vendor client). An outcome that
    nobody knows keeps what was expected. Never below 0: that would raise the daily cap.
    """
    return replace(job, booked=max(0.0, _counted(job)))


def _counted(job: Job) -> float:
    if job.state in {"declined", "refused", "failed"}:
        return 0.0
    task = job.task
    if task is None or task.credits_reserved is None:
        return job.booked
    if task.credits_used is not None and task.status == "completed":
        return task.credits_used
    made = len(task.links) if task.status == "completed" and task.links else job.asked
    part = min(1.0, made / job.asked) if job.asked else 1.0
    return task.credits_reserved * part
