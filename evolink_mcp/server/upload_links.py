"""Links to send a picture to, for callers who have no files here: each for one picture of one."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from evolink_mcp.jobs.job import Principal
from evolink_mcp.jobs.received import Holder, holder_of, new_picture_id
from evolink_mcp.server.seals import open_sealed, write_sealed

LIFETIME: Final = 900.0
"""Seconds that a link can be used."""

PREFIX: Final = "evup_"
"""What a token begins with, so that it is taken out of logs as other secrets are."""

_CONTENT: Final = struct.Struct(">Q16s16s")
"""Unix seconds of the end, the picture's name, its holder's."""

_PURPOSE: Final = b"evolink-mcp upload link 1\0"


@dataclass(frozen=True, slots=True)
class UploadLink:
    """Where a picture may be sent to, and by which handle it is used afterwards."""

    url: str = field(repr=False)
    handle: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class UploadTarget:
    """What a link is for."""

    picture_id: str
    holder: Holder

    @property
    def handle(self) -> str:
        """Return the handle that the picture gets."""
        return f"evolink://uploads/{self.picture_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadLinks:
    """Makes and reads links; whoever has the same secret reads them alike, also after a restart."""

    base_url: str
    """Under which address callers reach this server."""
    secret: bytes = field(repr=False)
    """32 bytes, see `load_secret`."""
    now: Callable[[], float] = time.time

    def make(self, principal: Principal) -> UploadLink:
        """Make a link for a picture of a principal's."""
        ends = int(self.now() + LIFETIME)
        target = UploadTarget(new_picture_id(), holder_of(principal))
        names = (bytes.fromhex(target.picture_id), bytes.fromhex(target.holder))
        content = _CONTENT.pack(ends, *names)
        token = write_sealed(content, purpose=_PURPOSE, secret=self.secret)
        url = f"{self.base_url.rstrip('/')}/uploads/{PREFIX}{token}"
        return UploadLink(url, target.handle, datetime.fromtimestamp(ends, UTC))

    def read(self, token: str) -> UploadTarget | None:
        """Return what a link is for; None if it was not made here or has expired."""
        sealed = token.removeprefix(PREFIX)
        content = open_sealed(sealed, purpose=_PURPOSE, secret=self.secret)
        if content is None or sealed == token:
            return None
        ends, picture_id, holder = _CONTENT.unpack(content)
        if self.now() >= ends:
            return None
        return UploadTarget(picture_id.hex(), holder.hex())
