"""Pictures that callers over HTTP have sent here, to be used as reference images or masks.

Each lies in a folder of its principal's, under a name made here, and is removed after some
days. What a file is worth is judged where it is used, as with any other input.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedWriter
from pathlib import Path
from typing import Final, Literal

from evolink_mcp.jobs.job import Principal
from evolink_mcp.jobs.pictures import type_of

FOLDER_NAME: Final = "received"
"""Within the data folder."""

LIFETIME: Final = 72 * 3600.0
"""Seconds that a picture is kept, as long as EvoLink keeps an upload."""

MAX_BYTES: Final = 50_000_000
"""Of one picture; no model takes a larger reference image (EvoLink docs)."""

MOST_FILES: Final = 100
"""Pictures of one principal at a time."""

MOST_BYTES: Final = 500_000_000
"""Of all pictures of one principal."""

LONGEST_WRITING: Final = 3600.0
"""Seconds after which an upload that did not end is what a crash has left."""

_TYPES: Final = frozenset({"png", "jpeg", "webp", "gif", "avif", "bmp", "tiff", "heic"})
_PART = ".part"
_HEAD_BYTES = 64
_ID = re.compile(r"[0-9a-f]{32}")
_PRIVATE_FILE, _PRIVATE_FOLDER = 0o600, 0o700

Holder = str
"""Names the folder of a principal, who cannot be told from it; 32 hex digits."""

Trouble = Literal["used", "too_large", "too_many", "no_picture"]
"""Why a picture is not taken."""


class NotTaken(Exception):
    """A picture that is not taken; nothing of it is left."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble)
        self.trouble: Trouble = trouble


def holder_of(principal: Principal) -> Holder:
    """Return the name of a principal's folder."""
    return hashlib.sha256(b"evolink-mcp received 1\0" + principal.encode()).hexdigest()[:32]


def new_picture_id() -> str:
    """Make a name that nobody can guess: 32 hex digits."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """The pictures of all principals; every method blocks."""

    folder: Path
    now: Callable[[], float] = time.time
    """Unix seconds."""

    def find(self, principal: Principal, picture_id: str) -> Path | None:
        """Return where a principal's picture is, as long as it is kept."""
        if _ID.fullmatch(picture_id) is None:
            return None
        path = self._path(holder_of(principal), picture_id)
        return path if self._is_alive(path) else None

    def is_used(self, holder: Holder, picture_id: str) -> bool:
        """Tell whether a picture was received under that name."""
        return self._path(holder, picture_id).exists()

    def begin(self, holder: Holder, picture_id: str) -> Receiving:
        """Begin to receive a picture.

        Raises:
            NotTaken: One was received under that name, or there are too many.
            OSError: The disk is full, or the like.
        """
        path = self._path(holder, picture_id)
        for folder in (self.folder, path.parent):  # a mode is not for the parents
            folder.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
        self.sweep()
        kept = [_weight(each, status) for each, status in _files(path.parent)]
        if path.exists():
            raise NotTaken("used")
        if len(kept) >= MOST_FILES:
            raise NotTaken("too_many")
        part = path.with_name(f".{picture_id}-{secrets.token_hex(4)}{_PART}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(part, flags, _PRIVATE_FILE), "wb")
        return Receiving(file=file, part=part, path=path, room=MOST_BYTES - sum(kept))

    def sweep(self) -> None:
        """Remove what is kept no longer, and what crashes have left."""
        if not self.folder.is_dir():
            return
        for folder in self.folder.iterdir():
            for path, status in tuple(_files(folder)):
                lifetime = LONGEST_WRITING if path.suffix == _PART else LIFETIME
                if self.now() - status.st_mtime >= lifetime:
                    path.unlink(missing_ok=True)

    def _path(self, holder: Holder, picture_id: str) -> Path:
        return self.folder / holder / picture_id

    def _is_alive(self, path: Path) -> bool:
        try:
            status = path.lstat()
        except OSError:
            return False
        return self.now() - status.st_mtime < LIFETIME


@dataclass(slots=True, kw_only=True)
class Receiving:
    """A picture that is being received; one of `finish` and `give_up` ends it."""

    file: BufferedWriter
    part: Path
    path: Path
    room: int
    """Bytes that the principal may still leave here."""
    size: int = 0
    head: bytes = field(default=b"", repr=False)
    """The first bytes, by which a picture's type is told."""

    def write(self, piece: bytes) -> None:
        """Write another piece.

        Raises:
            NotTaken: It becomes too large, or is no picture.
            OSError: The disk is full, or the like.
        """
        self.size += len(piece)
        if self.size > MAX_BYTES:
            raise NotTaken("too_large")
        if self.size > self.room:
            raise NotTaken("too_many")
        if len(self.head) < _HEAD_BYTES:
            self.head = (self.head + piece)[:_HEAD_BYTES]
            self._check_type(ended=False)
        self.file.write(piece)

    def finish(self) -> None:
        """Put the picture into its place, unless another was quicker.

        Raises:
            NotTaken: Another one has the name, or it is no picture.
            OSError: The disk is full, or the like.
        """
        self._check_type(ended=True)
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        try:
            self.path.hardlink_to(self.part)
        except FileExistsError:
            raise NotTaken("used") from None
        self.part.unlink()

    def give_up(self) -> None:
        """Leave nothing behind."""
        with suppress(OSError):  # what is buffered cannot be written to a full disk
            self.file.close()
        self.part.unlink(missing_ok=True)

    def _check_type(self, *, ended: bool) -> None:
        if (ended or len(self.head) == _HEAD_BYTES) and type_of(self.head) not in _TYPES:
            raise NotTaken("no_picture")


def _weight(path: Path, status: os.stat_result) -> int:
    """Return the bytes that count for a file: one that is being written may become the largest."""
    return MAX_BYTES if path.suffix == _PART else status.st_size


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """List the files of a folder; what vanishes meanwhile is none."""
    with suppress(FileNotFoundError, NotADirectoryError):
        for path in folder.iterdir():
            with suppress(FileNotFoundError):
                yield path, path.lstat()
