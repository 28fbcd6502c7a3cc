"""Pictures of this machine, read from opened folders only.

Paths come from a language model, which may repeat what a stranger wrote. So the spelling is
judged first, without a look at the disk; then the real path, all links followed; then, once
more, the place of the very file that was opened. What lies outside is refused in the same
words whether it exists or not.
"""

from __future__ import annotations

import ntpath
import os
import posixpath
import re
import stat
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote_to_bytes

from anyio import to_thread

from evolink_mcp.catalog.wording import either, shown
from evolink_mcp.errors import InvalidRequest, Problem

MAX_PATH_CHARS = 4096
"""Characters; Linux takes no longer ones."""

_SYSTEM = ("/proc/", "/sys/", "/dev/")
"""Folders that hold no files of anybody, whatever was opened."""

_UNSEEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Categories of characters that no picture's name needs: control characters, halves of
characters, and what breaks lines."""

_TRICKS = re.compile(r"%(?:00|2f|5c)|\\", re.IGNORECASE)
_BARE_PERCENT = re.compile(r"%(?![0-9a-f]{2})", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_ODD_ON_WINDOWS = re.compile(r'[:*?"<>|]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])(?:[. ].*)?")

_FLAGS = ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY")
"""How a file is opened beside the usual, as far as the system has a word for it."""


class _Refused(Exception):
    """Why a path is not read; said of the path."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file that was read: its bytes and its real path."""

    content: bytes
    path: Path

    @property
    def name(self) -> str:
        """Return the file's own name; for messages, it does not leave the machine."""
        return self.path.name


@dataclass(frozen=True, slots=True)
class OpenedFolders:
    """The folders that pictures may be read from.

    `allowed` is False where the caller is reached over HTTP: paths are the caller's, and
    the files here are not.
    """

    folders: tuple[Path, ...] = ()
    allowed: bool = True

    async def read(self, given: str, *, limit: int, field: str = "image_urls") -> LocalFile:
        """Read a file of at most `limit` bytes by its absolute path or `file://` address.

        Raises:
            InvalidRequest: Not a regular file in an opened folder, hidden, too large or
                unreadable; `field` is what the problem is named after.
        """
        try:
            path = self._spelled(given)
            return await to_thread.run_sync(partial(self._read, path, limit=limit))
        except _Refused as refused:
            problem = Problem(field, f"{shown(given)} {refused}", self._said())
            raise InvalidRequest(problems=(problem,)) from None

    def _spelled(self, given: str) -> str:
        if not self.allowed:
            raise _Refused(_ELSEWHERE)
        return spelled_path(given, windows=os.name == "nt")

    def _said(self) -> str:
        if not self.allowed:
            return "an https:// address or an evolink:// handle"
        opened = either(self.folders) if self.folders else "an opened folder (there is none yet)"
        return (
            f"the absolute path or file:// address of a picture in {opened}; the setting "
            "EVOLINK_INPUT_DIRS opens folders"
        )

    def _read(self, path: str, *, limit: int) -> LocalFile:
        real = Path(os.path.realpath(path))
        self._check_place(real)
        try:
            return self._read_real(real, limit=limit)
        except (FileNotFoundError, NotADirectoryError):
            raise _Refused("does not exist") from None
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise _Refused(f"cannot be read ({reason})") from None

    def _read_real(self, real: Path, *, limit: int) -> LocalFile:
        _check_regular(os.lstat(real))  # opening some devices is enough to move them
        with open(real, "rb", opener=_open_itself) as file:
            status = os.fstat(file.fileno())
            _check_regular(status)
            self._check_place(_location(file.fileno(), real))
            _check_size(status.st_size, limit)
            content = file.read(limit + 1)
        _check_size(len(content), limit)  # it may have grown
        return LocalFile(content, real)

    def _check_place(self, real: Path) -> None:
        found = [_below(real, folder=folder) for folder in self.folders]
        inside = [below for below in found if below is not None]
        if not inside or real.as_posix().startswith(_SYSTEM):
            raise _Refused("lies in no opened folder")
        if all(any(part.startswith(".") for part in below) for below in inside):
            raise _Refused("is hidden, or lies in a hidden folder (its name begins with a dot)")


_ELSEWHERE = (
    "is a path, and there is no way from here to the caller's files: this server is reached "
    "over HTTP"
)


def spelled_path(given: str, *, windows: bool) -> str:
    """Read an absolute path as it is spelled, `..` taken out, without a look at the disk.

    Raises:
        _Refused: Relative, of a network or a device, of another kind of system, or with
            characters that hide something.
    """
    if len(given) > MAX_PATH_CHARS:
        raise _Refused(f"has more than {MAX_PATH_CHARS} characters")
    _check_characters(given)
    path = _path_in_url(given, windows=windows) if given[:5].lower() == "file:" else given
    if path[:1] in {"/", "\\"} and path[1:2] in {"/", "\\"}:
        raise _Refused("is the path of a network or a device")
    return _windows_path(path) if windows else _posix_path(path)


def _check_characters(text: str) -> None:
    if any(unicodedata.category(char) in _UNSEEN for char in text):
        raise _Refused("holds control characters")


def _path_in_url(url: str, *, windows: bool) -> str:
    host, slash, rest = url[len("file://") :].partition("/")
    if url[5:7] != "//" or host.lower() not in {"", "localhost"}:
        raise _Refused("is not an address of this machine (file:///…)")
    if "?" in rest or "#" in rest:
        raise _Refused("holds a query or a fragment (write %3F or %23 in a file's name)")
    if _TRICKS.search(rest) or _BARE_PERCENT.search(rest):
        raise _Refused("hides a slash, a backslash or a NUL, or holds a % that encodes nothing")
    try:
        path = unquote_to_bytes(rest).decode("utf-8")
    except UnicodeDecodeError:
        raise _Refused("is not encoded in UTF-8") from None
    _check_characters(path)
    return path if windows and _DRIVE.match(path) else slash + path


def _posix_path(path: str) -> str:
    if "\\" in path:
        raise _Refused("holds a backslash")
    if not path.startswith("/"):
        raise _Refused("is not an absolute path")
    return posixpath.normpath(path)


def _windows_path(path: str) -> str:
    if not _DRIVE.match(path):
        raise _Refused("is not an absolute path with a drive")
    if _ODD_ON_WINDOWS.search(path[2:]) or any(map(_is_alias, re.split(r"[\\/]", path[3:]))):
        raise _Refused("holds a name that Windows reads in another way")
    return ntpath.normpath(path)


def _is_alias(part: str) -> bool:
    """Tell whether Windows takes a name for a device, or for a name without its end."""
    trimmed = part not in {"", ".", ".."} and part[-1] in {".", " "}
    return trimmed or _RESERVED.fullmatch(part.lower()) is not None


def _open_itself(path: str, flags: int) -> int:
    """Open a file itself, not what a link leads to, and wait for nobody."""
    return os.open(path, flags | sum(getattr(os, name, 0) for name in _FLAGS))


def _below(real: Path, *, folder: Path) -> tuple[str, ...] | None:
    """Return the names from a folder down to a real path; None where it lies elsewhere.

    Names that differ in case only are the same where the disk says so.
    """
    root = Path(os.path.realpath(folder))
    above, below = real.parts[: len(root.parts)], real.parts[len(root.parts) :]
    if above == root.parts:
        return below
    alike = _folded(above) == _folded(root.parts)
    return below if alike and _is_same(Path(*above), root) else None


def _folded(parts: Iterable[str]) -> list[str]:
    return [unicodedata.normalize("NFKC", part.casefold()) for part in parts]


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise _Refused("is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise _Refused("is not a regular file")


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise _Refused(f"has more than {limit} bytes")


def _location(descriptor: int, real: Path) -> Path:
    """Find where an opened file lies, however the folders were changed meanwhile."""
    try:
        return Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - Linux's own name
    except OSError:  # another system
        again = Path(os.path.realpath(real))
        if not os.path.samestat(os.lstat(again), os.fstat(descriptor)):
            raise _Refused("was replaced while it was read") from None
        return again
