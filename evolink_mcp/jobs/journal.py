"""The durable record of jobs: what was wanted, what was bought, what has become of it.

One file for a user, shared by all of the user's servers at once. What is recorded before a
step is known after a crash in it. `origin` keeps the jobs of different EvoLinks apart: the
real one's, and those of sandboxes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from anyio import to_thread

from evolink_mcp.api.wire import TaskId
from evolink_mcp.errors import CapReached
from evolink_mcp.jobs.database import Database, open_database
from evolink_mcp.jobs.job import Job, JobId, Principal, State
from evolink_mcp.jobs.leases import LEASE_SECONDS, Leases, this_place
from evolink_mcp.jobs.rows import error_text, job_in, picture_row, request_text, task_text, wish_of

JOIN_SECONDS = 600.0
"""How long after its end a job is joined by an identical call, if nobody got its answer; one
that is under way is joined however long it takes."""

_ROUNDING = 1e-6
"""Credits that sums of fractions may be wrong by."""

_NOT_LOST = (
    "(owner=? OR owner IS NULL AND state IN ('intent', 'submitted', 'processing', 'completed'))"
)
"""Nobody else works on a job, nor has ended it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a purchase may cost."""

    a_picture: float
    """Credits to expect where no price was seen yet."""
    a_day: float | None
    """Credits that may be spent on one day; None for no limit."""


@dataclass(frozen=True, slots=True)
class Admission:
    """A job that may go ahead, or an earlier one that an identical call joins."""

    job: Job
    joined: bool


@dataclass(kw_only=True)
class Journal:
    """The jobs of one EvoLink, and who works on them."""

    database: Database
    origin: str
    now: Callable[[], float]
    leases: Leases
    _answered: set[JobId] = field(default_factory=set[JobId])

    async def admit(self, job: Job, *, budget: Budget) -> Admission:
        """Record an intent, unless an identical one still waits for its answer to be delivered.

        Everything in one transaction, so that neither two calls nor two processes can pass
        the day's cap or buy the same wish twice.

        Raises:
            CapReached: The day's credits do not suffice.
            JournalUnusable: It cannot be recorded, so nothing may be bought.
        """
        answered = tuple(self._answered)
        admission = await self.database.transact(
            partial(self._admit, job=job, budget=budget, answered=answered)
        )
        self._answered.difference_update(answered)
        return admission

    async def enroll(self, job: Job) -> Job:
        """Record a task that was bought elsewhere; return the job that has it."""
        return await self.database.transact(partial(self._enroll, job=job))

    async def record(self, job: Job, *, release: bool = False) -> None:
        """Keep the job's newest state; `release` where nobody has to work on it any more.

        A process that has lost the job to another changes nothing, unless it alone knows
        the task id; and nobody takes a task id away.
        """
        await self.database.transact(partial(self._record, job=job, release=release))

    def answered(self, job_id: JobId) -> None:
        """Note that an answer about the job goes out; `mark_delivered` makes that durable.

        It is written after the answer, not before: a crash between the two lets the same
        call have the same picture again, instead of buying another one.
        """
        self._answered.add(job_id)

    async def mark_delivered(self) -> None:
        """Write down which jobs' answers have gone out."""
        if answered := tuple(self._answered):
            await self.database.transact(partial(self._deliver, job_ids=answered))
            self._answered.difference_update(answered)

    async def claim(self, job: Job) -> Job | None:
        """Take a job on, and return it as it is now; None while another process works on it.

        In one transaction: what we knew of it may be older than its task id.
        """
        return await self.database.transact(partial(self._claim, job=job))

    async def find(self, task_id: TaskId) -> Job | None:
        """Return the job that has a task, where it is known."""
        return await self.database.transact(partial(self._find, "task_id", task_id))

    async def look(self, job_id: JobId) -> Job | None:
        """Return a job as it is recorded now."""
        return await self.database.transact(partial(self._find, "id", job_id))

    async def newest(
        self, principal: Principal, *, states: Sequence[State] = (), limit: int
    ) -> list[Job]:
        """Return jobs, newest first; `states` empty for all."""
        return await self.database.transact(
            partial(self._newest, principal=principal, states=states, limit=limit)
        )

    async def waits_for_somebody(self) -> bool:
        """Tell whether there are unfinished jobs that nobody works on and that are due."""
        return await self.database.transact(partial(self.leases.has_free, origin=self.origin))

    async def spent_today(self) -> float:
        """Return the credits that count against today's cap."""
        return await self.database.transact(self._spent)

    async def orphans(self, *, limit: int) -> list[Job]:
        """Take over unfinished jobs that nobody works on and whose next try is due."""
        return await self.database.transact(partial(self._orphans, limit=limit))

    def _admit(
        self,
        connection: sqlite3.Connection,
        *,
        job: Job,
        budget: Budget,
        answered: Collection[JobId],
    ) -> Admission:
        self._deliver(connection, job_ids=answered)
        if earlier := self._joinable(connection, job):
            return Admission(earlier, joined=True)
        price = job.asked * self._price(connection, job=job, budget=budget)
        self._check_cap(self._spent(connection), price=price, budget=budget)
        self._insert(connection, job, booked=price)
        admitted = self._find("id", job.id, connection)
        assert admitted is not None, "it was inserted a moment ago"  # noqa: S101
        return Admission(admitted, joined=False)

    def _joinable(self, connection: sqlite3.Connection, job: Job) -> Job | None:
        row = connection.execute(
            "SELECT * FROM jobs WHERE delivered IS NULL AND origin=? AND principal=? AND wish=?"
            " AND (updated>=? OR state IN ('intent', 'submitted', 'processing'))"
            " AND state<>'refused' ORDER BY updated DESC LIMIT 1",
            (self.origin, job.principal, wish_of(job.request), self.now() - JOIN_SECONDS),
        ).fetchone()
        return _job_of(connection, row) if row else None

    def _price(self, connection: sqlite3.Connection, *, job: Job, budget: Budget) -> float:
        """Return what a picture cost last, else what the catalogue expects."""
        model = job.request.model if job.request else ""
        row = connection.execute(
            "SELECT * FROM jobs WHERE origin=? AND model=? AND task_id IS NOT NULL AND booked>0"
            " ORDER BY created DESC LIMIT 1",
            (self.origin, model),
        ).fetchone()
        last = _job_of(connection, row) if row else None
        reserved = last.task.credits_reserved if last and last.task else None
        return reserved / last.asked if last and reserved and last.asked else budget.a_picture

    def _check_cap(self, spent: float, *, price: float, budget: Budget) -> None:
        if budget.a_day is not None and spent + price > budget.a_day + _ROUNDING:
            raise _cap_reached(spent, price=price, cap=budget.a_day)

    def _insert(self, connection: sqlite3.Connection, job: Job, *, booked: float) -> None:
        now = self.now()
        connection.execute(
            "INSERT INTO jobs (id, origin, principal, wish, request, model, state, task_id, task,"
            " created, updated, day, booked, owner) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                *(job.id, self.origin, job.principal, wish_of(job.request)),
                *(request_text(job.request), job.request.model if job.request else ""),
                *(job.state, job.task_id, task_text(job.task)),
                *(now, now, day_of(now), booked, self.leases.worker),
            ),
        )
        self.leases.extend(connection)

    def _enroll(self, connection: sqlite3.Connection, *, job: Job) -> Job:
        assert job.task_id is not None, "only tasks are enrolled"  # noqa: S101
        known = self._find("task_id", job.task_id, connection)
        if known is None:
            self._insert(connection, job, booked=0.0)
        return known or self._find("id", job.id, connection) or job

    def _claim(self, connection: sqlite3.Connection, *, job: Job) -> Job | None:
        if job.task_id is not None and self._find("id", job.id, connection) is None:
            self._enroll(connection, job=job)
        claimed = self.leases.claim(connection, job_id=job.id)
        return self._find("id", job.id, connection) if claimed else None

    def _record(self, connection: sqlite3.Connection, *, job: Job, release: bool) -> None:
        if job.task_id is not None and job.request is not None:
            self._make_way(connection, job)
        changed = connection.execute(
            "UPDATE jobs SET state=?, task_id=?, task=?, error=?, updated=?, booked=?,"  # noqa: S608 - our own words
            " owner=CASE WHEN ? THEN NULL ELSE owner END"
            f" WHERE id=? AND (task_id IS NULL OR task_id=? AND {_NOT_LOST})",
            (
                *(job.state, job.task_id, task_text(job.task), error_text(job.error)),
                *(self.now(), job.booked, release, job.id, job.task_id, self.leases.worker),
            ),
        ).rowcount
        if changed:
            self._keep_pictures(connection, job)

    def _make_way(self, connection: sqlite3.Connection, job: Job) -> None:
        """Let the purchase of a task replace a record of the task as one bought elsewhere.

        There is one if the task was looked at before the journal could take its id up.
        """
        strangers = "FROM jobs WHERE origin=? AND task_id=? AND id<>?"
        which = (self.origin, job.task_id, job.id)
        connection.execute(
            f"UPDATE pictures SET job_id=? WHERE job_id IN (SELECT id {strangers})",  # noqa: S608 - our own words
            (job.id, *which),
        )
        connection.execute(f"DELETE {strangers}", which)

    def _keep_pictures(self, connection: sqlite3.Connection, job: Job) -> None:
        connection.executemany(
            "INSERT OR REPLACE INTO pictures VALUES (?,?,?,?,?,?,?,?,?,?)",
            [picture_row(job.id, picture) for picture in job.pictures],
        )

    def _deliver(self, connection: sqlite3.Connection, *, job_ids: Collection[JobId]) -> None:
        connection.executemany(
            "UPDATE jobs SET delivered=? WHERE id=? AND delivered IS NULL",
            [(self.now(), job_id) for job_id in job_ids],
        )

    def _find(self, column: str, value: str, connection: sqlite3.Connection) -> Job | None:  # noqa: PLR0917 - the connection comes last
        row = connection.execute(
            f"SELECT * FROM jobs WHERE {column}=? AND origin=?",  # noqa: S608 - our own words
            (value, self.origin),
        ).fetchone()
        return _job_of(connection, row) if row else None

    def _newest(
        self,
        connection: sqlite3.Connection,
        *,
        principal: Principal,
        states: Sequence[State],
        limit: int,
    ) -> list[Job]:
        rows: list[sqlite3.Row] = []
        for state in states or (None,):  # one by one: the index of states serves no list of them
            chosen = " AND state=?" if state else ""
            rows += connection.execute(
                f"SELECT * FROM jobs WHERE origin=? AND principal=?{chosen}"  # noqa: S608 - our own words
                " ORDER BY created DESC LIMIT ?",
                (self.origin, principal, *((state,) if state else ()), limit),
            ).fetchall()
        rows.sort(key=lambda row: float(row["created"]), reverse=True)
        return [_job_of(connection, row) for row in rows[:limit]]

    def _spent(self, connection: sqlite3.Connection) -> float:
        row = connection.execute(
            "SELECT coalesce(sum(booked), 0) FROM jobs WHERE origin=? AND day=?",
            (self.origin, day_of(self.now())),
        ).fetchone()
        return float(row[0])

    def _orphans(self, connection: sqlite3.Connection, *, limit: int) -> list[Job]:
        ids = self.leases.take_over(connection, origin=self.origin, limit=limit)
        found = (self._find("id", job_id, connection) for job_id in ids)
        return [job for job in found if job is not None]


@asynccontextmanager
async def open_journal(
    path: Path | None,
    *,
    origin: str,
    now: Callable[[], float] = time.time,
    lease_seconds: float | None = None,
) -> AsyncGenerator[Journal]:
    """Open the journal in a file, or in memory where `path` is None.

    Raises:
        JournalUnusable: It is damaged, newer, of another program, or cannot be read or written.
    """
    async with open_database(path) as database:
        place = await to_thread.run_sync(this_place)
        leases = Leases(database, now, lease_seconds or LEASE_SECONDS, place=place)
        yield Journal(database=database, origin=origin, now=now, leases=leases)


def day_of(moment: float) -> str:
    """Return the day of a moment (Unix seconds) where the user lives, as `2026-11-24`."""
    return datetime.fromtimestamp(moment, UTC).astimezone().date().isoformat()


def _job_of(connection: sqlite3.Connection, row: sqlite3.Row) -> Job:
    pictures = connection.execute("SELECT * FROM pictures WHERE job_id=? ORDER BY n", (row["id"],))
    return job_in(row, pictures)


def _cap_reached(spent: float, *, price: float, cap: float) -> CapReached:
    return CapReached(
        message=f"This would pass the cap of {cap:g} credits a day (EVOLINK_DAILY_CREDITS): "
        f"{spent:g} are spent or reserved today, and this costs about {price:g}. Nothing was sent "
        "to EvoLink.",
        next_step="Tell the user. It is possible again tomorrow, or when the user raises "
        "EVOLINK_DAILY_CREDITS in this server's configuration and restarts it.",
    )
