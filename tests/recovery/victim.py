"""The server, with a mark at each step of a job: it notes the step, and dies there if told to.

`VICTIM_TRAIL` is the file of the steps it came by, `VICTIM_DIES_AT` the step where it kills
itself, `VICTIM_NAME` what it calls itself towards EvoLink.
"""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from evolink_mcp.api import client, pace
from evolink_mcp.api.client import EvolinkApi
from evolink_mcp.api.egress import Downloads
from evolink_mcp.cli import main
from evolink_mcp.jobs import collect, watch
from evolink_mcp.jobs.journal import Journal
from evolink_mcp.jobs.table import JobTable
from evolink_mcp.jobs.watch import Watchers

Owner = type | ModuleType
Mark = tuple[str, Owner, str, str, str]
"""What the step is called, where its function is, on which side of it, for which state."""

BEFORE, AFTER = "before", "after"

MARKS: tuple[Mark, ...] = (
    ("the call has arrived", Journal, "admit", BEFORE, ""),
    ("the intent is written, not committed", JobTable, "add", AFTER, ""),
    ("the intent is on record", Journal, "admit", AFTER, ""),
    ("the request is about to leave", EvolinkApi, "submit", BEFORE, ""),
    ("EvoLink has answered", EvolinkApi, "submit", AFTER, ""),
    ("the task id is written, not committed", JobTable, "record", AFTER, "submitted"),
    ("the task id is on record", Journal, "record", AFTER, "submitted"),
    ("the task is about to be read", EvolinkApi, "task", BEFORE, ""),
    ("the task was read", EvolinkApi, "task", AFTER, ""),
    ("the progress is written, not committed", JobTable, "record", AFTER, "processing"),
    ("the progress is on record", Journal, "record", AFTER, "processing"),
    ("the picture is about to be fetched", Downloads, "read", BEFORE, ""),
    ("the picture is here", Downloads, "read", AFTER, ""),
    ("the picture is in a part file", Path, "replace", BEFORE, ""),
    ("the picture is in its place", collect, "_write", AFTER, ""),
    ("the end is written, not committed", JobTable, "record", AFTER, "collected"),
    ("the end is on record", Journal, "record", AFTER, "collected"),
    ("the answer is made", Watchers, "answered", AFTER, ""),
    ("the answer has gone out", Journal, "mark_delivered", BEFORE, ""),
    ("the delivery is on record", Journal, "mark_delivered", AFTER, ""),
)

STEPS = tuple(name for name, *_ in MARKS)


def pass_by(step: str) -> None:
    """Note that a step was reached; die there if that is what was asked for."""
    with Path(os.environ["VICTIM_TRAIL"]).open("a", encoding="utf-8") as trail:
        trail.write(f"{step}\n")
    os.kill(os.getpid(), signal.SIGKILL if os.environ.get("VICTIM_DIES_AT") == step else 0)


def place(mark: Mark) -> None:
    """Wrap the function of a step."""
    step, owner, name, side, state = mark
    inner = getattr(owner, name)

    def look(now: str, keywords: dict[str, Any], arguments: tuple[Any, ...]) -> None:
        jobs = (*arguments, keywords.get("job"))
        if now == side and (not state or state in {getattr(job, "state", None) for job in jobs}):
            pass_by(step)

    async def later(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401 - whatever it is
        look(BEFORE, keywords, arguments)
        result = await inner(*arguments, **keywords)
        look(AFTER, keywords, arguments)
        return result

    def at_once(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401 - whatever it is
        look(BEFORE, keywords, arguments)
        result = inner(*arguments, **keywords)
        look(AFTER, keywords, arguments)
        return result

    wrapped: Callable[..., Any] = later if inspect.iscoroutinefunction(inner) else at_once
    setattr(owner, name, wrapped)


def hurry() -> None:
    """Look more often after the jobs of others, read more often, and say who reads."""
    pace.PER_SECOND = 100.0
    watch.BEAT_SECONDS, watch.LOOK_SECONDS, watch.MARK_SECONDS = 0.2, 0.05, 0.2
    client.__version__ = os.environ.get("VICTIM_NAME", "victim")  # type: ignore[attr-defined]


if __name__ == "__main__":
    hurry()
    for each in MARKS:
        place(each)
    main()
