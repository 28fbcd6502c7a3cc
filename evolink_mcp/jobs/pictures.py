"""What a file of a picture is, by its bytes."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO

MAX_PIXELS = 80_000_000
"""Width times height; more is taken for a decompression bomb. EvoLink's largest is 4K."""

_TOO_MANY_PIXELS = f"it has more than {MAX_PIXELS} pixels"
_PNG = b"\x89PNG\r\n\x1a\n"
_MAGIC = (
    ("png", _PNG),
    ("jpeg", b"\xff\xd8\xff"),
    ("gif", b"GIF8"),
    ("bmp", b"BM"),
    ("tiff", b"II*\x00"),
    ("tiff", b"MM\x00*"),
    ("pdf", b"%PDF"),
)
_BRANDS = {b"heic": "heic", b"heix": "heic", b"mif1": "heic", b"avif": "avif", b"avis": "avif"}


BROKEN = (
    *(ArithmeticError, EOFError, LookupError, OSError, SyntaxError, TypeError, ValueError),
    *(struct.error, zlib.error),
)
"""What Pillow's readers raise at bytes that only look like a picture."""


class NotAPicture(Exception):
    """The bytes are no whole picture of a type we know."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """A picture that was opened and decoded."""

    media_type: str
    extension: str
    width: int
    """Pixels."""
    height: int
    """Pixels."""


def type_of(head: bytes) -> str:
    """Name the type by the first bytes: a picture's, `html` or `text`; empty where unknown."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "")
    known = next((name for name, magic in _MAGIC if head.startswith(magic)), "")
    return known or _text_type(head)


def png_size(head: bytes) -> tuple[int, int] | None:
    """Read width and height of a PNG from its first 24 bytes; None for anything else."""
    if not head.startswith(_PNG) or head[12:16] != b"IHDR" or len(head) < 24:  # noqa: PLR2004
        return None
    width, height = struct.unpack(">II", head[16:24])
    return int(width), int(height)


def inspect(content: bytes) -> Inspected:
    """Open and decode a picture, to be sure that it is one and whole; blocking.

    Raises:
        NotAPicture: It is none, broken, or of more than MAX_PIXELS.
    """
    from PIL import Image  # noqa: PLC0415 - off the way to the first answer

    if type_of(content[:64]) not in {"png", "jpeg", "webp", "gif"}:
        kind = type_of(content[:64]) or "unknown"
        reason = f"it is no picture (type: {kind})"
        raise NotAPicture(reason)
    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with Image.open(BytesIO(content), formats=("PNG", "JPEG", "WEBP", "GIF")) as image:
            _check_pixels(image.width * image.height)
            image.load()
            kind = str(image.format).lower()
            return Inspected(f"image/{kind}", _EXTENSIONS[kind], image.width, image.height)
    except bombs as error:
        raise NotAPicture(_TOO_MANY_PIXELS) from error
    except BROKEN as error:
        raise NotAPicture("it is cut off or broken") from error


def _check_pixels(pixels: int) -> None:
    if pixels > MAX_PIXELS:
        raise NotAPicture(_TOO_MANY_PIXELS)


_EXTENSIONS = {"png": "png", "jpeg": "jpg", "webp": "webp", "gif": "gif"}


def _text_type(head: bytes) -> str:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:15].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body", b"<error")):
        return "html"
    return "text" if start.startswith((b"{", b"[")) else ""
