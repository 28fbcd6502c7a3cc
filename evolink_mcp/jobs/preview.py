"""Reduced pictures, small enough for every host."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from evolink_mcp.jobs.pictures import BROKEN

LONG_SIDE = 1024
"""Pixels; models see no more than about 1568."""

BASE64_BUDGET = 600_000
"""Bytes of base64 that all previews of an answer may take: hosts cut answers at 1 MB."""

_QUALITIES = (80, 65, 50, 35)
_SHRINK = 0.7


@dataclass(frozen=True, slots=True)
class Preview:
    """A picture as it goes into an answer."""

    base64: str
    media_type: str


def reduced(path: Path, *, share: int) -> Preview:
    """Make a WebP of a picture that takes at most `share` bytes of base64; blocking.

    Raises:
        OSError: The file is gone or unreadable.
    """
    from PIL import Image  # noqa: PLC0415 - off the way to the first answer

    limit = share // 4 * 3
    try:
        with Image.open(path) as image:
            frame = image.convert("RGBA" if image.has_transparency_data else "RGB")
    except (*BROKEN, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        reason = "the picture cannot be read any more"
        raise OSError(reason) from error
    frame.thumbnail((LONG_SIDE, LONG_SIDE))
    while True:
        for quality in _QUALITIES:
            content = BytesIO()
            frame.save(content, "WEBP", quality=quality, method=2)
            if content.tell() <= limit or max(frame.size) == 1:
                return Preview(_encode(content.getvalue()), "image/webp")
        frame.thumbnail((max(1, int(frame.width * _SHRINK)), max(1, int(frame.height * _SHRINK))))


def whole(path: Path, *, media_type: str, share: int) -> Preview:
    """Take the whole picture where it fits into `share` bytes of base64, else reduce it; blocking.

    Raises:
        OSError: The file is gone or unreadable.
    """
    if path.stat().st_size > share // 4 * 3:
        return reduced(path, share=share)
    return Preview(_encode(path.read_bytes()), media_type)


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
