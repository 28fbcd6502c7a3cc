"""Links to pictures for callers who have no files here: unguessable, expiring, each for one."""

from __future__ import annotations

import hmac
import os
import secrets
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from evolink_mcp.api.wire import TaskId
from evolink_mcp.errors import SettingInvalid
from evolink_mcp.jobs.job import Principal
from evolink_mcp.server.seals import SECRET_BYTES, open_sealed, seal, write_sealed

FILE_NAME: Final = "links.key"
"""Where the secret is kept, in the data folder."""

LIFETIME: Final = 24 * 3600.0
"""Seconds that a link lives, as long as EvoLink's own."""

_PRIVATE_FILE, _PRIVATE_FOLDER = 0o600, 0o700

_HEAD: Final = struct.Struct(">QH16s")
"""What a token begins with: Unix seconds of its end, position of the picture, holder's mark. The
task's name follows, then the seal."""

_LINK, _HOLDER = b"evolink-mcp picture link 1\0", b"evolink-mcp link holder 1\0"
"""Keep what is sealed for one purpose from being taken for another."""


@dataclass(frozen=True, slots=True)
class Link:
    """Where a picture can be fetched, and until when."""

    url: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class LinkTarget:
    """What a link leads to."""

    task_id: TaskId
    n: int
    """Position in the task's results, from 1."""
    holder: bytes
    """Mark of the principal it was made for; `Links.is_for` compares it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Makes and reads links; whoever has the same secret reads them alike, also after a restart.

    A link holds no name of its principal, only a mark that nobody without the secret can make.
    """

    base_url: str
    """Under which address callers reach this server."""
    secret: bytes = field(repr=False)
    """32 bytes, see `load_secret`."""
    now: Callable[[], float] = time.time
    lifetime: float = LIFETIME
    """Seconds."""

    def url_of(self, task_id: TaskId, *, n: int, principal: Principal) -> Link:
        """Make a link to a picture; it ends at a whole minute, as its expiry is told."""
        ends = int(self.now() + self.lifetime) // 60 * 60
        payload = _HEAD.pack(ends, n, self._mark(principal)) + task_id.encode()
        token = write_sealed(payload, purpose=_LINK, secret=self.secret)
        url = f"{self.base_url.rstrip('/')}/pictures/{token}"
        return Link(url, datetime.fromtimestamp(ends, UTC))

    def read(self, token: str) -> LinkTarget | None:
        """Return what a link leads to; None if it was not made here or has expired."""
        payload = open_sealed(token, purpose=_LINK, secret=self.secret)
        if payload is None:
            return None
        ends, n, holder = _HEAD.unpack_from(payload)
        if self.now() >= ends:
            return None
        return LinkTarget(TaskId(payload[_HEAD.size :].decode()), n, holder)

    def is_for(self, target: LinkTarget, principal: Principal) -> bool:
        """Tell whether a link was made for a principal."""
        return hmac.compare_digest(target.holder, self._mark(principal))

    def _mark(self, principal: Principal) -> bytes:
        return seal(principal.encode(), purpose=_HOLDER, secret=self.secret)[:16]


def load_secret(folder: Path) -> bytes:
    """Return the secret that all processes with this data folder share; blocking.

    The first of them makes it. To end every link at once, remove the file and restart.

    Raises:
        SettingInvalid: It cannot be read or written, or is no secret of ours.
    """
    path = folder / FILE_NAME
    try:
        folder.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
        path.chmod(_PRIVATE_FILE)
        secret = path.read_bytes()
    except OSError as error:
        raise _unusable(path, reason=error.strerror or type(error).__name__) from error
    if len(secret) != SECRET_BYTES:
        raise _unusable(path, reason=f"it has {len(secret)} bytes instead of {SECRET_BYTES}")
    return secret


def _make(path: Path) -> None:
    """Write a new secret, which is there whole or not at all; the first of several makes it."""
    part = path.with_name(f".{path.name}-{secrets.token_hex(4)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(part)
    finally:
        part.unlink()


def _unusable(path: Path, *, reason: str) -> SettingInvalid:
    return SettingInvalid(
        setting="EVOLINK_DATA_DIR",
        code="links_unusable",
        message=f"The secret of the download links ({path}) cannot be used: {reason}.",
        next_step="Mend that, or remove the file: another one is made, and links that were handed "
        "out end.",
    )
