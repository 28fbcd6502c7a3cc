"""Reduced pictures, small enough for every host."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from evolink_mcp.jobs.pictures import MAX_PIXELS, OPEN_FAILURES, OPENED, SHOWN

if TYPE_CHECKING:
    from PIL.Image import Image as Frame

LONG_SIDE = 1024
"""Pixels; models see no more than about 1568."""

BASE64_BUDGET = 600_000
"""Bytes of base64 that all previews of an answer may take: hosts cut answers at 1 MB."""

_FORMATS = tuple(sorted(name.upper() for name in OPENED))
_TYPES = frozenset(f"image/{name}" for name in SHOWN)
_QUALITIES = (80, 65, 50, 35)
_SHRINK = 0.7


@dataclass(frozen=True, slots=True)
class Preview:
    """A picture as it goes into an answer."""

    base64: str
    media_type: str


def reduced(path: Path, *, share: int) -> Preview | None:
    """Make a WebP of a picture that takes at most `share` bytes of base64; blocking.

    None for a file that cannot be opened as a picture, or has more than MAX_PIXELS.

    Raises:
        OSError: The file is gone or may not be read.
    """
    frame = _frame(path.read_bytes())
    return None if frame is None else _within(frame, limit=share // 4 * 3)


def whole(path: Path, *, media_type: str, share: int) -> Preview | None:
    """Take the whole picture where it fits into `share` bytes of base64, else reduce it; blocking.

    Reduced is also what hosts do not show as it is. None as in `reduced`.

    Raises:
        OSError: The file is gone or may not be read.
    """
    if path.stat().st_size > share // 4 * 3 or media_type not in _TYPES:
        return reduced(path, share=share)
    content = path.read_bytes()
    return Preview(_encode(content), media_type) if _frame(content) else None


def _frame(content: bytes) -> Frame | None:
    """Decode the first frame."""
    from PIL import Image  # noqa: PLC0415 - off the way to the first answer

    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with Image.open(BytesIO(content), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            return image.convert("RGBA" if image.has_transparency_data else "RGB")
    except (*OPEN_FAILURES, *bombs):
        return None


def _within(frame: Frame, *, limit: int) -> Preview:
    """Shrink a frame until its WebP takes at most `limit` bytes."""
    frame.thumbnail((LONG_SIDE, LONG_SIDE))
    while True:
        for quality in _QUALITIES:
            content = BytesIO()
            frame.save(content, "WEBP", quality=quality, method=2)
            if content.tell() <= limit or max(frame.size) == 1:
                return Preview(_encode(content.getvalue()), "image/webp")
        frame.thumbnail((max(1, int(frame.width * _SHRINK)), max(1, int(frame.height * _SHRINK))))


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
