"""Files at EvoLink's Files API: each content is sent once while its upload lives.

Only the content and a name made here leave the machine, never the user's own file name. A
name is used once: EvoLink would overwrite the older file, and a cache serve the older one for
a while (vendor client).
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

import anyio
from anyio import to_thread

from evolink_mcp.jobs.database import Database

LIFETIME = timedelta(hours=72)
"""How long an upload lives at most, and what is assumed where EvoLink does not tell (EvoLink docs,
"File Upload")."""

MARGIN_SECONDS = 3600.0
"""Life that an upload must have left to be used again: a task may wait before it reads it."""

_EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/gif": "gif", "image/webp": "webp"}


class Uploaded(Protocol):
    """What the Files API tells of a file."""

    @property
    def url(self) -> str:
        """The address that anyone may read it from."""
        ...

    @property
    def expires_at(self) -> datetime | None:
        """When it is deleted; None where EvoLink does not tell."""
        ...


class SendFile(Protocol):
    """How a file is sent to the Files API."""

    def __call__(self, content: bytes, *, name: str, media_type: str) -> Awaitable[Uploaded]:
        """Send it; raises an EvolinkError where that fails."""
        ...


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that is public to whoever has its address."""

    url: str
    expires_at: datetime
    fresh: bool
    """Whether it was sent just now, not before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploads:
    """What was uploaded to one EvoLink, kept in the journal's file."""

    database: Database
    origin: str
    now: Callable[[], float]
    """Unix seconds."""
    upload: SendFile
    _turns: dict[str, anyio.Lock] = field(default_factory=dict[str, anyio.Lock])

    async def url_of(self, content: bytes, *, media_type: str) -> Upload:
        """Return an address of the content, sent only where no earlier upload lives long enough.

        Raises:
            EvolinkError: It could not be sent.
            JournalUnusable: What was sent before is not known, so nothing is sent.
        """
        digest = await to_thread.run_sync(_digest, content)
        async with self._turn(digest):
            known = await self.database.transact(partial(self._find, digest=digest))
            if known is not None:
                return known
            return await self._send(content, media_type=media_type, digest=digest)

    @asynccontextmanager
    async def _turn(self, digest: str) -> AsyncGenerator[None]:
        """Let one caller at a time ask for a content; the others then find its upload."""
        lock = self._turns.setdefault(digest, anyio.Lock())
        try:
            async with lock:
                yield
        finally:
            statistics = lock.statistics()
            if not statistics.locked and not statistics.tasks_waiting:
                self._turns.pop(digest, None)

    async def _send(self, content: bytes, *, media_type: str, digest: str) -> Upload:
        name = f"{secrets.token_hex(16)}.{_EXTENSIONS[media_type]}"
        sent = await self.upload(content, name=name, media_type=media_type)
        now = datetime.fromtimestamp(self.now(), UTC)
        upload = Upload(sent.url, _end_of(sent, now=now), fresh=True)
        if upload.expires_at > now:  # else it is used this once
            with anyio.CancelScope(shield=True):
                await self.database.transact(partial(self._keep, digest=digest, upload=upload))
        return upload

    async def forget(self, url: str) -> None:
        """Send a content anew the next time: EvoLink could not read it at this address.

        Raises:
            JournalUnusable: The address stays known.
        """
        with anyio.CancelScope(shield=True):
            await self.database.transact(partial(self._drop, url=url))

    def _find(self, connection: sqlite3.Connection, *, digest: str) -> Upload | None:
        now = self.now()
        connection.execute("DELETE FROM uploads WHERE expires_at<=?", (now,))
        row = connection.execute(
            "SELECT url, expires_at FROM uploads WHERE origin=? AND digest=? AND expires_at>=?",
            (self.origin, digest, now + MARGIN_SECONDS),
        ).fetchone()
        if row is None:
            return None
        return Upload(row["url"], datetime.fromtimestamp(row["expires_at"], UTC), fresh=False)

    def _keep(self, connection: sqlite3.Connection, *, digest: str, upload: Upload) -> None:
        connection.execute(
            "INSERT OR REPLACE INTO uploads VALUES (?,?,?,?)",
            (self.origin, digest, upload.url, upload.expires_at.timestamp()),
        )

    def _drop(self, connection: sqlite3.Connection, *, url: str) -> None:
        connection.execute("DELETE FROM uploads WHERE origin=? AND url=?", (self.origin, url))


def _end_of(sent: Uploaded, *, now: datetime) -> datetime:
    """Return when an upload ends; no later than any of EvoLink's does, whatever is told."""
    told = sent.expires_at
    if told is None:
        return now + LIFETIME
    return min(told if told.tzinfo else told.replace(tzinfo=UTC), now + LIFETIME)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
