"""A bought task, and its state as a pure function of time."""

from __future__ import annotations

import math
import random
import secrets
import string
from dataclasses import dataclass
from typing import Final, Literal

from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.sandbox.faults import Faults

ID_PREFIX: Final = "task-unified-"
PENDING_SHARE: Final = 0.05
"""The part of a task's time that it waits in the queue."""
STUCK_AT: Final = 40

_SECONDS_FROM_TEXT: Final = 45
_SECONDS_WITH_REFERENCES: Final = 60
_SHARES: Final = (0.6, 1.3, 0.85)
"""Least, greatest and usual time as shares of the estimate."""
_EASE: Final = 1.6
_TAIL: Final = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxTask:
    """What was bought with one POST."""

    id: str
    request: ImageRequest
    faults: Faults
    created: float
    """When it was accepted, in Unix seconds of the sandbox's clock."""
    estimate: float
    """Seconds that the answer announces."""
    duration: float
    """Seconds that it really takes."""
    credits_reserved: float
    idempotency_key: str | None
    """The header as it came; like the API's, it has no effect."""
    base_url: str
    """Scheme, host and port that the POST was sent to, without a slash at the end."""
    folder: str
    """Where its pictures will be: the part of the path that nobody can guess."""
    outputs: int = 1
    """Pictures of a request that says no number."""

    @property
    def n(self) -> int:
        """How many pictures were asked for."""
        return self.request.n or self.outputs

    @property
    def ends(self) -> float:
        """When it ends, in Unix seconds; infinite for a task that is stuck."""
        return math.inf if "stuck" in self.faults.flags else self.created + self.duration


@dataclass(frozen=True, slots=True)
class Stage:
    """How far a task is; what became of an ended one is its outcome's to say."""

    status: Literal["pending", "processing", "ended"]
    progress: int
    """0 to 99; 100 at the end."""


def stage_at(task: SandboxTask, now: float) -> Stage:
    """Return how far a task is at a time in Unix seconds."""
    if now >= task.ends:
        return Stage("ended", 100)
    stage = _stage_of_share(max(0.0, now - task.created) / max(task.duration, math.ulp(1.0)))
    stuck = "stuck" in task.faults.flags
    return Stage(stage.status, min(stage.progress, STUCK_AT)) if stuck else stage


def _stage_of_share(share: float) -> Stage:
    if share < PENDING_SHARE:
        return Stage("pending", 0)
    done = 1.0 - (1.0 - min(share, 1.0)) ** _EASE
    return Stage("processing", min(99, int(100 * done)))


def estimated_seconds(request: ImageRequest, speed: float) -> float:
    """Return what the API would announce, in the seconds of a sandbox of that speed."""
    nominal = _SECONDS_WITH_REFERENCES if request.image_urls else _SECONDS_FROM_TEXT
    estimate = round(nominal / speed, 3)
    return int(estimate) if estimate.is_integer() else estimate


def drawn_seconds(request: ImageRequest, *, faults: Faults, speed: float, number: int) -> float:
    """Draw how long the sandbox's task of that number takes: the same again in every run."""
    if faults.seconds is not None:
        return faults.seconds / speed
    nominal = _SECONDS_WITH_REFERENCES if request.image_urls else _SECONDS_FROM_TEXT
    lot = random.Random(f"{number}:{request.prompt}")  # noqa: S311 - nothing to protect
    return nominal / speed * lot.triangular(*_SHARES)


def new_task_id(created: float) -> str:
    """Return an id of the documented form."""
    tail = "".join(secrets.choice(_TAIL) for _ in range(8))
    return f"{ID_PREFIX}{int(created)}-{tail}"
