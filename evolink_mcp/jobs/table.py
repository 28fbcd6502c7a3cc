"""The table of jobs: found, added and changed, each within a transaction of the journal's."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from evolink_mcp.api.wire import TaskId
from evolink_mcp.jobs.job import Job, JobId, Principal, State
from evolink_mcp.jobs.leases import Leases
from evolink_mcp.jobs.prices import terms_of
from evolink_mcp.jobs.rows import error_text, job_in, picture_row, request_text, task_text, wish_of

JOIN_SECONDS = 600.0
"""How long after its end a job is joined by an identical call, if nobody got its answer; one
that is under way is joined however long it takes."""

_NOT_LOST = (
    "(owner=? OR owner IS NULL AND state IN ('intent', 'submitted', 'processing', 'completed'))"
)
"""Nobody else works on a job, nor has ended it."""

_OF_ANY_KEY = "(origin=? OR substr(origin, 1, ?)=?)"
"""A job was bought at this EvoLink, with whatever key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTable:
    """The jobs of one EvoLink."""

    origin: str
    now: Callable[[], float]
    leases: Leases

    def find(self, connection: sqlite3.Connection, *, column: str, value: str) -> Job | None:
        """Return the one job that has a value in a column."""
        row = connection.execute(
            f"SELECT * FROM jobs WHERE {column}=? AND origin=?",  # noqa: S608 - our own words
            (value, self.origin),
        ).fetchone()
        return _job_of(connection, row) if row else None

    def find_of_any_key(self, connection: sqlite3.Connection, *, task_id: TaskId) -> list[Job]:
        """Return the jobs that have a task, also those that other keys have bought."""
        rows = connection.execute(
            f"SELECT * FROM jobs WHERE task_id=? AND {_OF_ANY_KEY}",  # noqa: S608 - our own words
            (task_id, *self._any_key()),
        ).fetchall()
        return [_job_of(connection, row) for row in rows]

    def newest(
        self,
        connection: sqlite3.Connection,
        *,
        principal: Principal,
        states: Sequence[State],
        limit: int,
    ) -> list[Job]:
        """Return jobs, newest first."""
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

    def joinable(self, connection: sqlite3.Connection, job: Job) -> Job | None:
        """Return an identical job whose answer was not delivered, where there is one."""
        row = connection.execute(
            "SELECT * FROM jobs WHERE delivered IS NULL AND origin=? AND principal=? AND wish=?"
            " AND (updated>=? OR state IN ('intent', 'submitted', 'processing'))"
            " AND state NOT IN ('refused', 'declined') ORDER BY updated DESC LIMIT 1",
            (self.origin, job.principal, _wish(job), self.now() - JOIN_SECONDS),
        ).fetchone()
        return _job_of(connection, row) if row else None

    def spent(self, connection: sqlite3.Connection, *, principal: Principal | None = None) -> float:
        """Return the credits that were booked today, by all or by one principal.

        A price below 0, which earlier versions took from EvoLink, makes no room for others.
        """
        chosen = " AND principal=?" if principal is not None else ""
        row = connection.execute(
            f"SELECT coalesce(sum(max(booked, 0)), 0) FROM jobs WHERE origin=? AND day=?{chosen}",  # noqa: S608 - our own words
            (self.origin, day_of(self.now()), *((principal,) if principal is not None else ())),
        ).fetchone()
        return float(row[0])

    def running(self, connection: sqlite3.Connection, *, principal: Principal) -> int:
        """Count the jobs of a principal that EvoLink has not finished."""
        row = connection.execute(
            "SELECT count(*) FROM jobs WHERE origin=? AND principal=?"
            " AND state IN ('intent', 'submitted', 'processing')",
            (self.origin, principal),
        ).fetchone()
        return int(row[0])

    def count_by_state(self, connection: sqlite3.Connection) -> dict[State, int]:
        """Count all jobs, also those that other keys have bought, by how far they have come."""
        rows = connection.execute(
            f"SELECT state, count(*) FROM jobs WHERE {_OF_ANY_KEY} GROUP BY state",  # noqa: S608 - our own words
            self._any_key(),
        )
        return {cast("State", row[0]): int(row[1]) for row in rows}

    def add(self, connection: sqlite3.Connection, job: Job, *, booked: float) -> Job:
        """Add a job that this process works on, and return it as it is recorded."""
        self._insert(connection, job, booked=booked, owner=self.leases.worker)
        self.leases.extend(connection)
        added = self.find(connection, column="id", value=job.id)
        assert added is not None, "it was inserted a moment ago"  # noqa: S101
        return added

    def add_declined(self, connection: sqlite3.Connection, *, job: Job) -> None:
        """Add a line about a job that came to nothing before it began."""
        self._insert(connection, job, booked=0.0, owner=None)

    def enroll(self, connection: sqlite3.Connection, *, job: Job) -> Job:
        """Add a task that was bought elsewhere, unless a job has it already."""
        assert job.task_id is not None, "only tasks are enrolled"  # noqa: S101
        known = self.find(connection, column="task_id", value=job.task_id)
        return known or self.add(connection, job, booked=0.0)

    def claim(self, connection: sqlite3.Connection, *, job: Job) -> Job | None:
        """Take a job on, unless another process works on it."""
        if job.task_id is not None and self.find(connection, column="id", value=job.id) is None:
            self.enroll(connection, job=job)
        claimed = self.leases.claim(connection, job_id=job.id)
        return self.find(connection, column="id", value=job.id) if claimed else None

    def adopt(self, connection: sqlite3.Connection, *, job: Job) -> Job | None:
        """Give a purchase of unknown outcome its task, and take it on."""
        assert job.task_id is not None, "it is a task that is given"  # noqa: S101
        current = self.find(connection, column="id", value=job.id)
        others = self.find_of_any_key(connection, task_id=job.task_id)
        is_unknown = current is not None and current.state == "unknown"
        if not is_unknown or any(other.request is not None for other in others):
            return None
        self.record(connection, job=job, release=False)
        connection.execute("UPDATE jobs SET delivered=NULL WHERE id=?", (job.id,))
        return self.claim(connection, job=job)

    def record(self, connection: sqlite3.Connection, *, job: Job, release: bool) -> None:
        """Keep a job's newest state, unless the job was lost to another process."""
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

    def deliver(self, connection: sqlite3.Connection, *, job_ids: Collection[JobId]) -> None:
        """Note that answers about jobs have gone out."""
        connection.executemany(
            "UPDATE jobs SET delivered=? WHERE id=? AND delivered IS NULL",
            [(self.now(), job_id) for job_id in job_ids],
        )

    def orphans(self, connection: sqlite3.Connection, *, limit: int) -> list[Job]:
        """Take over unfinished jobs that nobody works on."""
        ids = self.leases.take_over(connection, origin=self.origin, limit=limit)
        found = (self.find(connection, column="id", value=job_id) for job_id in ids)
        return [job for job in found if job is not None]

    def _any_key(self) -> tuple[object, ...]:
        """Return the values for `_OF_ANY_KEY`."""
        beside = with_key(self.origin, "")
        return (self.origin, len(beside), beside)

    def _insert(
        self, connection: sqlite3.Connection, job: Job, *, booked: float, owner: str | None
    ) -> None:
        now = self.now()
        connection.execute(
            "INSERT INTO jobs (id, origin, principal, wish, request, model, terms, state, task_id,"
            " task, error, created, updated, day, booked, owner)"
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                *(job.id, self.origin, job.principal, _wish(job)),
                *(request_text(job.request), job.request.model if job.request else ""),
                *(terms_of(job.request), job.state, job.task_id, task_text(job.task)),
                *(error_text(job.error), now, now, day_of(now), booked, owner),
            ),
        )

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


def with_key(origin: str, mark: str) -> str:
    """Name an EvoLink as it is seen with another key than the server's own."""
    return f"{origin}#key-{mark}"


def day_of(moment: float) -> str:
    """Return the day of a moment (Unix seconds) where the user lives, as `2026-11-24`."""
    return datetime.fromtimestamp(moment, UTC).astimezone().date().isoformat()


def _wish(job: Job) -> str:
    return job.wish or wish_of(job.request)


def _job_of(connection: sqlite3.Connection, row: sqlite3.Row) -> Job:
    pictures = connection.execute("SELECT * FROM pictures WHERE job_id=? ORDER BY n", (row["id"],))
    return job_in(row, pictures)
