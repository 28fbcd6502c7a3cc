"""Who works on a job: one process at a time, for as long as it keeps its lease.

A process has one lease for all its jobs and renews it; when it dies, others take its jobs
over: at once where they can see that it is gone, else when the lease has run out. Times are
those of the wall clock, which may jump: a lease that ends further away than any can is one
from before the jump, and counts as run out.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from evolink_mcp.jobs.database import Database
from evolink_mcp.jobs.job import JobId

LEASE_SECONDS = 30.0
"""How long a process that says nothing is taken to be alive."""

FIRST_RETRY = 60.0
"""Seconds until a job that could not be finished is tried again by itself; doubled each time."""

LONGEST_RETRY = 3600.0
"""Seconds between two such tries, at most."""

_LIVING = (
    "SELECT id FROM workers WHERE lease_until>:now AND lease_until<=:latest"
    " AND NOT (place=:place AND is_gone(pid))"
)
_FREE = f"(owner IS NULL OR owner=:worker OR owner NOT IN ({_LIVING}))"


@dataclass(slots=True)
class Leases:
    """The lease of this process, and what it works on."""

    database: Database
    now: Callable[[], float]
    seconds: float = LEASE_SECONDS
    worker: str = field(default_factory=lambda: secrets.token_hex(8))
    place: str = ""
    """What process ids are unique in; empty where only leases tell who lives."""

    def teach(self) -> None:
        """Teach the database to tell whether a process is gone.

        Once for a connection, and before others use it: SQLite refuses while a statement is
        under way, and waits for one that may itself wait for us.
        """
        tell = is_gone if self.place else _nobody_knows
        self.database.connection.create_function("is_gone", 1, tell)

    async def renew(self) -> frozenset[JobId]:
        """Extend the lease while there are jobs; return those that are still this process's."""
        return await self.database.transact(self._renew)

    async def release(self, job_id: JobId, *, in_trouble: bool) -> None:
        """Let a job go; one `in_trouble` is tried again ever more rarely."""
        await self.database.transact(partial(self._release, job_id=job_id, in_trouble=in_trouble))

    async def leave(self) -> None:
        """Let everything go: others may take it over at once."""
        await self.database.transact(self._leave)

    def extend(self, connection: sqlite3.Connection) -> None:
        """Extend the lease within a transaction."""
        connection.execute(
            "INSERT INTO workers VALUES (?,?,?,?) ON CONFLICT (id) DO UPDATE SET lease_until="
            "excluded.lease_until",
            (self.worker, self.now() + self.seconds, self.place, os.getpid()),
        )

    def claim(self, connection: sqlite3.Connection, *, job_id: JobId) -> bool:
        """Take a job on within a transaction, unless another living process works on it."""
        changed = connection.execute(
            f"UPDATE jobs SET owner=:worker WHERE id=:id AND {_FREE}",  # noqa: S608 - our own words
            {**self._times(), "id": job_id},
        ).rowcount
        if changed:
            self.extend(connection)
        return bool(changed)

    def take_over(self, connection: sqlite3.Connection, *, origin: str, limit: int) -> list[JobId]:
        """Take on unfinished jobs whose owner is gone and whose next try is due.

        Those of this very process are left alone: it works on them.
        """
        found = self._free(connection, origin=origin, limit=limit)
        if found:
            connection.executemany(
                "UPDATE jobs SET owner=? WHERE id=?", [(self.worker, job_id) for job_id in found]
            )
            self.extend(connection)
        return found

    def has_free(self, connection: sqlite3.Connection, *, origin: str) -> bool:
        """Tell whether there are jobs to take over."""
        return bool(self._free(connection, origin=origin, limit=1))

    def _free(self, connection: sqlite3.Connection, *, origin: str, limit: int) -> list[JobId]:
        rows = connection.execute(
            "SELECT id FROM jobs WHERE origin=:origin"  # noqa: S608 - our own words
            " AND state IN ('intent', 'submitted', 'processing', 'completed')"
            " AND (next_try<=:now OR next_try>:far)"
            f" AND (owner IS NULL OR owner<>:worker) AND {_FREE}"
            " ORDER BY next_try, created DESC LIMIT :limit",
            {
                **self._times(),
                "far": self.now() + LONGEST_RETRY,
                "origin": origin,
                "limit": limit,
            },
        ).fetchall()
        return [JobId(row["id"]) for row in rows]

    def _renew(self, connection: sqlite3.Connection) -> frozenset[JobId]:
        rows = connection.execute("SELECT id FROM jobs WHERE owner=?", (self.worker,)).fetchall()
        if rows:
            self.extend(connection)
        return frozenset(JobId(row["id"]) for row in rows)

    def _release(self, connection: sqlite3.Connection, *, job_id: JobId, in_trouble: bool) -> None:
        connection.execute(
            "UPDATE jobs SET owner=NULL, tries=tries+:trouble, next_try=CASE WHEN :trouble"
            " THEN :now+min(:longest, :first*(1<<min(tries, 16))) ELSE 0 END"
            " WHERE id=:id AND owner=:worker",
            {
                **self._times(),
                "id": job_id,
                "trouble": in_trouble,
                "first": FIRST_RETRY,
                "longest": LONGEST_RETRY,
            },
        )

    def _leave(self, connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE jobs SET owner=NULL WHERE owner=?", (self.worker,))
        connection.execute("DELETE FROM workers WHERE id=?", (self.worker,))
        connection.execute("DELETE FROM workers WHERE lease_until<?", (self.now() - 86_400,))

    def _times(self) -> dict[str, object]:
        now, latest = self.now(), self.now() + self.seconds + 1
        return {"now": now, "latest": latest, "worker": self.worker, "place": self.place}


def this_place() -> str:
    """Name what process ids are unique in: this machine since it started, and its container.

    Empty where that cannot be told, as on anything but Linux; blocking.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except (OSError, ValueError):
        return ""


def _nobody_knows(_: int) -> bool:
    return False


def is_gone(pid: int) -> bool:
    """Tell whether there is certainly no process of that id here."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
