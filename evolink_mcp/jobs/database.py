"""The SQLite file behind the journal: opened with care, shared by processes, never overwritten.

Each transaction runs whole in a worker thread: a caller who is cancelled meanwhile cannot
leave half of it behind. Write-ahead log and `synchronous=FULL`: what was committed is there
after a loss of power.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import anyio
from anyio import to_thread

from evolink_mcp.errors import JournalUnusable

FILE_NAME: Final = "journal.sqlite3"

APPLICATION: Final = 0x45764C6B
"""Marks a SQLite file as a journal of ours: "EvLk"."""

LOCK_SECONDS: Final = 15.0
"""How long a transaction waits for one of another process."""

_SWITCHES: Final = 100
"""Tries at the write-ahead log, while others make the same file."""

_PRIVATE_FILE, _PRIVATE_FOLDER = 0o600, 0o700

MIGRATIONS: Final = (
    """
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY,
        origin TEXT NOT NULL,
        principal TEXT NOT NULL,
        wish TEXT NOT NULL,
        request TEXT,
        model TEXT NOT NULL,
        state TEXT NOT NULL,
        task_id TEXT,
        task TEXT,
        error TEXT,
        created REAL NOT NULL,
        updated REAL NOT NULL,
        day TEXT NOT NULL,
        booked REAL NOT NULL,
        delivered REAL,
        owner TEXT,
        tries INTEGER NOT NULL DEFAULT 0,
        next_try REAL NOT NULL DEFAULT 0
    ) STRICT;
    CREATE UNIQUE INDEX jobs_by_task ON jobs (origin, task_id) WHERE task_id IS NOT NULL;
    CREATE INDEX jobs_by_time ON jobs (origin, principal, created DESC);
    CREATE INDEX jobs_by_state ON jobs (origin, principal, state, created DESC);
    CREATE INDEX jobs_by_day ON jobs (origin, day, booked);
    CREATE INDEX jobs_undelivered ON jobs (origin, principal, wish, updated)
        WHERE delivered IS NULL;
    CREATE INDEX jobs_unfinished ON jobs (origin, next_try)
        WHERE state IN ('intent', 'submitted', 'processing', 'completed');
    CREATE INDEX jobs_by_owner ON jobs (owner) WHERE owner IS NOT NULL;
    CREATE INDEX jobs_by_price ON jobs (origin, model, created DESC)
        WHERE task_id IS NOT NULL AND booked > 0;
    CREATE TABLE pictures (
        job_id TEXT NOT NULL REFERENCES jobs (id),
        n INTEGER NOT NULL,
        url TEXT NOT NULL,
        expires_at TEXT,
        path TEXT,
        media_type TEXT NOT NULL,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        size INTEGER NOT NULL,
        problem TEXT NOT NULL,
        PRIMARY KEY (job_id, n)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE workers (
        id TEXT PRIMARY KEY,
        lease_until REAL NOT NULL,
        place TEXT NOT NULL,
        pid INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE uploads (
        origin TEXT NOT NULL,
        digest TEXT NOT NULL,
        url TEXT NOT NULL,
        expires_at REAL NOT NULL,
        PRIMARY KEY (origin, digest)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE jobs ADD COLUMN terms TEXT NOT NULL DEFAULT '';
    CREATE INDEX jobs_by_terms ON jobs (origin, model, terms, created DESC)
        WHERE task_id IS NOT NULL AND booked > 0;
    """,
    "CREATE INDEX jobs_by_task_of_any_key ON jobs (task_id) WHERE task_id IS NOT NULL;",
)
"""Numbered from 1 by their place; a file's `user_version` tells how many it has been through."""

_Found = TypeVar("_Found")


@dataclass(slots=True)
class Database:
    """One connection to the file; transactions go one after the other."""

    path: Path | None
    """None for one in memory, which ends with the process."""
    connection: sqlite3.Connection
    _turn: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(1))

    async def transact(self, work: Callable[[sqlite3.Connection], _Found]) -> _Found:
        """Do `work` in one transaction: all of it, or nothing.

        Raises:
            JournalUnusable: Damaged, locked for too long, no room, no rights.
        """
        return await to_thread.run_sync(self._transact, work, limiter=self._turn)

    def _transact(self, work: Callable[[sqlite3.Connection], _Found]) -> _Found:
        with translated(self.path), transaction(self.connection):
            return work(self.connection)


@asynccontextmanager
async def open_database(path: Path | None) -> AsyncGenerator[Database]:
    """Open the journal's file, made where there is none, or one in memory.

    Raises:
        JournalUnusable: It is damaged, newer, of another program, or cannot be read or written.
    """
    connection = await to_thread.run_sync(_open, path)
    try:
        yield Database(path, connection)
    finally:
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(connection.close)


def _open(path: Path | None) -> sqlite3.Connection:
    with translated(path):
        if path is not None:
            _make_private(path)
        connection = sqlite3.connect(
            path or ":memory:",
            timeout=LOCK_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def _make_private(path: Path) -> None:
    """Make folder and file readable to their owner alone, whatever the umask says."""
    path.parent.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, _PRIVATE_FILE))
    path.chmod(_PRIVATE_FILE)


def _prepare(connection: sqlite3.Connection, path: Path | None) -> None:
    """Look at the file before anything is written to it, then bring it up to date."""
    connection.row_factory = sqlite3.Row
    with transaction(connection, begin="BEGIN"):  # which only reads
        _check_ours(connection, path)
    _log_ahead(connection)
    connection.execute("PRAGMA synchronous=FULL")
    if _number(connection, "user_version") < len(MIGRATIONS):
        _migrate(connection, path)


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log, for which SQLite does not wait by itself."""
    for _ in range(_SWITCHES):
        with suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode=WAL")
            return
        with transaction(connection):
            pass  # this waits until the others are done
    connection.execute("PRAGMA journal_mode=WAL")


def _migrate(connection: sqlite3.Connection, path: Path | None) -> None:
    with transaction(connection):
        _check_ours(connection, path)  # others may have been faster
        for number in range(_number(connection, "user_version"), len(MIGRATIONS)):
            for statement in MIGRATIONS[number].split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={number + 1}")
        connection.execute(f"PRAGMA application_id={APPLICATION}")


def _check_ours(connection: sqlite3.Connection, path: Path | None) -> None:
    version = _number(connection, "user_version")
    if version > len(MIGRATIONS):
        raise _unusable(path, "a newer version of this program made it", _NEWER)
    made_by = _number(connection, "application_id")
    is_empty = not made_by and not _number(connection, "schema_version")
    if not is_empty and made_by != APPLICATION:
        raise _unusable(path, "it is the file of another program", _MOVE)


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


@contextmanager
def transaction(
    connection: sqlite3.Connection, *, begin: str = "BEGIN IMMEDIATE"
) -> Generator[None]:
    """Commit what happens within, or nothing of it."""
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def translated(path: Path | None) -> Generator[None]:
    """Turn what SQLite and the system raise into our error."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        reason, next_step = _REASONS.get(code, (f"SQLite says: {error}", _MOVE))
        raise _unusable(path, reason, next_step) from error
    except OSError as error:
        raise _unusable(path, error.strerror or type(error).__name__, _RIGHTS) from error


_MOVE = (
    "Ask the user to move that file and those beside it whose names begin alike to another folder "
    "(do not delete them: they tell what was bought) and to restart this server, which then "
    "begins a new record."
)
_NEWER = "Ask the user to update evolink-mcp, or to set EVOLINK_DATA_DIR to another folder."
_ROOM = "Ask the user to make room on that disk, then call again."
_RIGHTS = (
    "Ask the user to make that folder writable, or to set EVOLINK_DATA_DIR to one that is, and to "
    "restart this server."
)
_WAIT = "Call again in a minute; if it stays like this, ask the user which program holds that file."

_REASONS = {
    sqlite3.SQLITE_CORRUPT: ("it is damaged", _MOVE),
    sqlite3.SQLITE_NOTADB: ("it is damaged, or no database at all", _MOVE),
    sqlite3.SQLITE_FULL: ("the disk is full", _ROOM),
    sqlite3.SQLITE_IOERR: ("the disk fails or is full", _ROOM),
    sqlite3.SQLITE_READONLY: ("it may not be written", _RIGHTS),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", _RIGHTS),
    sqlite3.SQLITE_PERM: ("it may not be opened", _RIGHTS),
    sqlite3.SQLITE_BUSY: ("another program keeps it locked", _WAIT),
    sqlite3.SQLITE_LOCKED: ("another program keeps it locked", _WAIT),
}


def _unusable(path: Path | None, reason: str, next_step: str) -> JournalUnusable:  # noqa: PLR0917 - read at the raise
    where = path or "memory"
    return JournalUnusable(
        message=f"The record of what was bought ({where}) cannot be used: {reason}. Nothing is "
        "bought without it; the file was left as it is.",
        next_step=next_step,
    )
