"""The sandbox's file host: results, published files and samples, by path."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import quote

import anyio
import anyio.to_thread
from starlette.responses import Response

_log = logging.getLogger(__name__)

_XML = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{}</Code><Message>{}</Message></Error>'


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as it goes over the wire."""

    content: bytes
    media_type: str


@dataclass(eq=False)
class FileDenied(Exception):
    """A file that is not there, or no longer."""

    status: int
    code: str
    message: str

    def answer(self) -> Response:
        """Return what an object store answers."""
        body = _XML.format(self.code, self.message)
        return Response(body, self.status, media_type="application/xml")


@dataclass(slots=True, kw_only=True)
class _Entry:
    """A file that is made when somebody first wants it, and then kept."""

    make: Callable[[], bytes]
    media_type: str
    expires: float
    content: bytes | None = None
    making: anyio.Lock = field(default_factory=anyio.Lock)

    async def read(self) -> bytes:
        async with self.making:
            if self.content is None:
                self.content = await anyio.to_thread.run_sync(self.make)
            return self.content


class FileStore:
    """Files by path. `now` is the clock that links expire by, in Unix seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Start empty."""
        self._now = now
        self._entries: dict[str, _Entry] = {}

    def put(
        self,
        path: str,
        make: Callable[[], bytes],
        *,
        media_type: str,
        expires: float = math.inf,
    ) -> None:
        """Offer a file at a path; `make` runs once, in a thread, when it is first read."""
        self._entries[path] = _Entry(make=make, media_type=media_type, expires=expires)

    def remove(self, path: str) -> None:
        """Offer a file no longer."""
        del self._entries[path]

    def publish(self, content: bytes, name: str) -> str:
        """Offer bytes under a path that nobody can guess, and return it as it stands in a URL."""
        base = PurePosixPath(name).name or "file"
        folder = f"/files/uploads/{secrets.token_hex(16)}"
        self.put(f"{folder}/{base}", lambda: content, media_type=media_type(content))
        return f"{folder}/{quote(base)}"

    async def read(self, path: str) -> StoredFile:
        """Return the file of an unquoted path.

        Raises:
            FileDenied: There is no such file, or its link has expired.
        """
        entry = self._entries.get(path)
        if entry is None:
            raise FileDenied(404, "NoSuchKey", "The specified key does not exist.")
        if self._now() >= entry.expires:
            _log.info("a link that has expired was asked for")
            raise FileDenied(403, "AccessDenied", "Request has expired.")
        return StoredFile(await entry.read(), entry.media_type)


def media_type(content: bytes) -> str:
    """Name the type of a file by its first bytes."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return "application/octet-stream"
