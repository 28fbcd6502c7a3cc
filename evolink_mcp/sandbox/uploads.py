"""What customers have uploaded: judged, counted, public, and gone after three days."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Final

from starlette.responses import JSONResponse, Response

from evolink_mcp.sandbox.files import FileStore, media_type

LIFETIME: Final = 72 * 60 * 60
"""Seconds that an upload lives (EvoLink docs, "File Stream Upload")."""

SIZE_LIMIT: Final = 95 * 1024 * 1024
"""Bytes of one file (vendor client)."""

FILE_QUOTA: Final = 2000
"""Files of an account in the default group (EvoLink docs, "Get File Quota")."""

TOO_LARGE: Final = 40001
WRONG_TYPE: Final = 40002
QUOTA_REACHED: Final = 40003
SOURCE_FAILED: Final = 40004

_ENDINGS = MappingProxyType(
    {"image/jpeg": "jpg", "image/png": "png", "image/gif": "gif", "image/webp": "webp"}
)
"""The types that are taken (EvoLink docs, "File Stream Upload"), and how their names end."""

_LONGEST_NAME = 200
_HIGHEST_STATUS = 599

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class UploadRefused(Exception):
    """A call of the Files API that gets an error for an answer (vendor client)."""

    code: int
    """An HTTP status, or one of the five-digit codes."""
    message: str

    def answer(self) -> Response:
        """Return the HTTP answer.

        Five-digit codes come with HTTP 200: the harder of the two ways for a client.
        """
        status = self.code if self.code <= _HIGHEST_STATUS else 200
        body = {"success": False, "code": self.code, "msg": self.message}
        return JSONResponse(body, status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One stored file."""

    id: str
    name: str
    original_name: str
    folder: str
    """The `upload_path`; a label, of which the address shows nothing."""
    size: int
    """Bytes."""
    media_type: str
    path: str
    """Where it is on the sandbox's file host, unquoted."""
    stored: float
    """Unix seconds."""

    @property
    def expires(self) -> float:
        """Return when it is gone, in Unix seconds."""
        return self.stored + LIFETIME


class Uploads:
    """The uploads of one account. Times are Unix seconds by `now`."""

    def __init__(self, files: FileStore, *, now: Callable[[], float], quota: int) -> None:
        """Put at most `quota` uploads at a time onto the file host."""
        self.quota = quota
        self._files = files
        self._now = now
        self._by_name: dict[tuple[str, str], Upload] = {}

    def store(self, content: bytes, *, original_name: str, name: str, folder: str) -> Upload:
        """Take a file; one of the same name in the same folder is overwritten.

        Without a name it gets one that nobody has used (EvoLink docs, "File Stream Upload").

        Raises:
            UploadRefused: Too large, of another type, or one too many.
        """
        kind = _judged_type(content)
        place = folder.strip("/") or "images", _file_name(name) or _new_name(kind)
        self._forget_expired()
        earlier = self._by_name.pop(place, None)
        if len(self._by_name) >= self.quota:
            raise UploadRefused(QUOTA_REACHED, f"The quota of {self.quota} files is used up.")
        upload = Upload(
            id=f"file_{secrets.token_hex(8)}",
            name=place[1],
            original_name=_file_name(original_name) or place[1],
            folder=place[0],
            size=len(content),
            media_type=kind,
            path=earlier.path if earlier else f"/files/uploads/{secrets.token_hex(16)}/{place[1]}",
            stored=self._now(),
        )
        self._by_name[place] = upload
        self._files.put(upload.path, lambda: content, media_type=kind, expires=upload.expires)
        _log.info("%s stored, %d bytes", upload.id, upload.size)
        return upload

    def list(self) -> list[Upload]:
        """Return what is stored, newest first."""
        self._forget_expired()
        return list(reversed(self._by_name.values()))

    def delete(self, file_id: str) -> None:
        """Delete a file.

        Raises:
            UploadRefused: There is none of that id, or no longer.
        """
        self._forget_expired()
        for place, upload in self._by_name.items():
            if upload.id == file_id:
                del self._by_name[place]
                self._files.remove(upload.path)
                return
        raise UploadRefused(404, "There is no such file, or it has expired.")

    def _forget_expired(self) -> None:
        now = self._now()
        expired = [place for place, upload in self._by_name.items() if now >= upload.expires]
        for place in expired:
            del self._by_name[place]


def _judged_type(content: bytes) -> str:
    """Name the type of a file by its bytes, whatever it is called.

    Raises:
        UploadRefused: It is too large, or of a type that is not taken.
    """
    if len(content) > SIZE_LIMIT:
        raise too_large()
    kind = media_type(content)
    if kind not in _ENDINGS:
        taken = ", ".join(_ENDINGS)
        raise UploadRefused(WRONG_TYPE, f"The type of this file is not supported: {taken} only.")
    return kind


def too_large() -> UploadRefused:
    """Return the refusal of a file that has too many bytes."""
    return UploadRefused(TOO_LARGE, f"The file has more than {SIZE_LIMIT} bytes.")


def _file_name(text: str) -> str:
    """Return the last part of a path; empty where that is no name."""
    name = PurePosixPath(text.replace("\\", "/")).name[-_LONGEST_NAME:]
    return "" if name == ".." else name


def _new_name(kind: str) -> str:
    return f"{secrets.token_hex(8)}.{_ENDINGS[kind]}"
