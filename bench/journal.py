"""What a long record costs: 100,000 jobs in the journal against 100, in the same run.

Both files have the same mix over 300 days: 97 of 100 jobs are on disk and delivered, the
others failed, expired or of unknown outcome; one of 100 is of today; and 3 beside them are
unfinished. So a step has as much to answer in both, but for the credits of today: they are
a sum over today's jobs, 1,000 in the one. Steps are done by turns. Aim: ratios near 1.

The plans that SQLite follows in the long journal are looked through for tables that are
read from end to end and for sorts of more than ties.
"""

from __future__ import annotations

import json
import random
import sqlite3
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from evolink_mcp.api.wire import TaskId, read_task
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.jobs.job import LOCAL, Job, JobId, Picture, State, new_job_id
from evolink_mcp.jobs.journal import Budget, Journal, day_of, open_journal
from evolink_mcp.jobs.prices import terms_of
from evolink_mcp.jobs.rows import picture_row, request_text, task_text, wish_of
from evolink_mcp.jobs.watch import MOST_ORPHANS
from evolink_mcp.server.results import states_shown_as

MANY, FEW = 100_000, 100
ROUNDS = 61
DAYS = 300
A_DAY = 86_400.0
TODAY = 0.01
"""The part of the jobs that are of today."""

ORIGIN = "https://api.evolink.ai"
BUDGET = Budget(a_picture=4.0, a_day=1e9)

_OTHERS: tuple[State, ...] = ("failed", "unknown", "expired")
_OTHERS_EVERY = 33
_UNFINISHED: tuple[State, ...] = ("intent", "processing", "completed")
_RUNNING = states_shown_as("running")
_UNSAVED = states_shown_as("unsaved")

_INTO_JOBS = "INSERT INTO jobs VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_INTO_PICTURES = "INSERT INTO pictures VALUES (?,?,?,?,?,?,?,?,?,?)"

Step = Callable[[Journal], Awaitable[object]]


async def start(journal: Journal) -> None:
    """Open the file as another process, take over what is unfinished, and leave."""
    async with open_journal(journal.database.path, origin=ORIGIN) as other:
        assert await other.waits_for_somebody()
        assert len(await other.orphans(limit=MOST_ORPHANS)) == len(_UNFINISHED)
        await other.leases.leave()


async def admit(journal: Journal) -> None:
    """Record the intent of a wish that nobody has had before."""
    request = ImageRequest(model="gpt-4o-image", prompt=f"a fox {time.perf_counter_ns()}")
    admission = await journal.admit(Job(id=new_job_id(), request=request), budget=BUDGET)
    assert not admission.joined


async def listed(journal: Journal, *, states: Sequence[State], limit: int) -> None:
    """List the newest jobs in some states."""
    assert await journal.newest(LOCAL, states=states, limit=limit)


STEPS: Mapping[str, Step] = {
    "list the newest 20": partial(listed, states=(), limit=20),
    "list the newest failed": partial(listed, states=("failed",), limit=1),
    "list all that runs (2 of 20)": partial(listed, states=_RUNNING, limit=20),
    "list the newest 2 unsaved": partial(listed, states=_UNSAVED, limit=2),
    "credits of today": Journal.spent_today,
    "find a task": lambda journal: journal.find(_task_id(FEW // 2)),
    "start, take over 3, leave": start,
    "admit": admit,
}


async def measure(folder: Path) -> None:
    """Fill both journals, then measure each step by turns and print."""
    async with AsyncExitStack() as stack:
        many, few = [
            await stack.enter_async_context(open_journal(folder / str(count), origin=ORIGIN))
            for count in (MANY, FEW)
        ]
        started = time.perf_counter()
        await fill(many, count=MANY)
        await fill(few, count=FEW)
        size = (folder / str(MANY)).stat().st_size / 1e6
        seconds = time.perf_counter() - started
        print(f"journal: {MANY} jobs, {size:.0f} MB, filled in {seconds:.0f} s; against {FEW} jobs")
        for name, step in STEPS.items():
            pairs = [
                (await seconds_of(step, many), await seconds_of(step, few)) for _ in range(ROUNDS)
            ]
            ours, short = (statistics.median(times) * 1e3 for times in zip(*pairs, strict=True))
            ratio = statistics.median(mine / other for mine, other in pairs)
            print(f"{name:28} {ours:7.2f} ms, {short:7.2f} ms, ratio {ratio:6.2f}")
        bad = sorted({plan for step in STEPS.values() for plan in await costly_plans(step, many)})
        print("plans that read or sort a whole table:", *(bad or ["none"]), sep="\n  ")


async def seconds_of(step: Step, journal: Journal) -> float:
    """Return the seconds that a step takes."""
    began = time.perf_counter()
    await step(journal)
    return time.perf_counter() - began


async def costly_plans(step: Step, journal: Journal) -> list[str]:
    """Return what SQLite plans to read or to sort without an index for a step."""
    said: list[str] = []
    connection = journal.database.connection
    connection.set_trace_callback(said.append)
    await step(journal)
    connection.set_trace_callback(None)
    asked = [each for each in said if each.startswith(("SELECT", "UPDATE"))]
    return [plan for each in asked for plan in _costly(connection, each)]


def _costly(connection: sqlite3.Connection, statement: str) -> Iterator[str]:
    for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall():
        plan = str(row["detail"])
        if plan.startswith(("SCAN jobs", "SCAN pictures")) or "TEMP B-TREE FOR ORDER" in plan:
            yield f"{plan}: {statement}"


async def fill(journal: Journal, *, count: int) -> None:
    """Put jobs into a journal, and some unfinished ones that nobody works on."""
    lot = random.Random(count)  # noqa: S311 - nothing to protect
    rows = [_row(n, count=count, now=journal.now(), lot=lot) for n in range(count)]
    rows += [
        _unfinished(state, n=count + n, now=journal.now()) for n, state in enumerate(_UNFINISHED)
    ]
    pictures = [picture_row(_job_id(n), _PICTURE) for n in range(count)]

    def write(connection: sqlite3.Connection) -> None:
        connection.executemany(_INTO_JOBS, rows)
        connection.executemany(_INTO_PICTURES, pictures)

    await journal.database.transact(write)
    journal.database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _row(n: int, *, count: int, now: float, lot: random.Random) -> tuple[object, ...]:
    """Write the job that is the n-th newest."""
    is_new = n < count * TODAY
    created = now - (n if is_new else A_DAY * (1 + DAYS * n / count))
    turn, rest = divmod(n, _OTHERS_EVERY)
    is_other = rest == _OTHERS_EVERY // 2
    state = _OTHERS[turn % len(_OTHERS)] if is_other else "collected"
    delivered = None if is_other else created + 61
    return (
        *(_job_id(n), ORIGIN, LOCAL, lot.randbytes(32).hex(), _REQUEST_TEXT, _REQUEST.model),
        *(state, _task_id(n), _TASK_TEXT.replace(_task_id(0), _task_id(n)), None),
        *(created, created + 60, day_of(now if is_new else created), 4.0, delivered),
        *(None, 0, 0.0, terms_of(_REQUEST)),
    )


def _unfinished(state: State, *, n: int, now: float) -> tuple[object, ...]:
    """Write a job that nobody works on."""
    is_bought = state != "intent"
    return (
        *(_job_id(n), ORIGIN, LOCAL, wish_of(_REQUEST), _REQUEST_TEXT, _REQUEST.model, state),
        *(_task_id(n) if is_bought else None, _TASK_TEXT if is_bought else None, None),
        *(now - A_DAY, now - A_DAY, day_of(now - A_DAY), 4.0, None),
        *(None, 0, 0.0, terms_of(_REQUEST)),
    )


def _job_id(n: int) -> JobId:
    return JobId(f"run_{n:032x}")


def _task_id(n: int) -> TaskId:
    return TaskId(f"task-unified-1757156493-{n:08d}")


_REQUEST = ImageRequest(model="gpt-4o-image", prompt="a red fox in the snow, early light", n=1)
_REQUEST_TEXT = request_text(_REQUEST)
_LINK = "https://files.example/" + "0123456789abcdef" * 20
_TOLD = {
    "id": _task_id(0),
    "status": "completed",
    "progress": 100,
    "model": _REQUEST.model,
    "created": 1757156493,
    "task_info": {"estimated_time": 45},
    "usage": {"credits_reserved": 4.0},
    "results": [_LINK],
}
_TASK_TEXT = task_text(read_task(json.dumps(_TOLD).encode())) or ""
_PICTURE = Picture(
    n=1,
    url=_LINK,
    expires_at=datetime.fromtimestamp(1757156493, UTC),
    path=Path("/home/somebody/Pictures/evolink/picture.png"),
    media_type="image/png",
    width=1024,
    height=1024,
    size=1_500_000,
)


def main() -> None:
    """Measure and print."""
    with TemporaryDirectory() as folder:
        anyio.run(measure, Path(folder))


if __name__ == "__main__":
    main()
