"""What a file of a picture is, by its bytes."""

from __future__ import annotations

import codecs
import re
import struct
import zlib
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Final

MAX_PIXELS = 80_000_000
"""Width times height; more is taken for a decompression bomb. EvoLink's largest is 4K."""

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


OPEN_FAILURES: Final = (*BROKEN, MemoryError, RuntimeError)
"""As `BROKEN`, and what the reader of AVIF raises beside it."""

OPENED: Final = frozenset({"png", "jpeg", "webp", "gif", "avif", "bmp", "tiff"})
"""Types that Pillow may open: with others it may start other programs."""

SHOWN: Final = frozenset({"png", "jpeg", "webp", "gif"})
"""Types that hosts show; what claims to be one of them is decoded, to be sure that it is whole."""

_HEAD = 4096
"""Bytes that are looked at for the type of a whole file."""

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_BLANK = b"\xef\xbb\xbf \t\r\n"
_SVG = re.compile(
    rb"""[\xef\xbb\xbf\s]*+
    (?>(?> <\?xml.*?\?> | <!--.*?--> | <!doctype\s++svg (?:[^\[>]|\[.*?\])*+ > ) \s*+ )*+
    <svg[\s/>]""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)

_FILES: Final = {
    "png": ("image/png", "png"),
    "jpeg": ("image/jpeg", "jpg"),
    "webp": ("image/webp", "webp"),
    "gif": ("image/gif", "gif"),
    "avif": ("image/avif", "avif"),
    "tiff": ("image/tiff", "tiff"),
    "bmp": ("image/bmp", "bmp"),
    "heic": ("image/heic", "heic"),
    "svg": ("image/svg+xml", "svg"),
    "pdf": ("application/pdf", "pdf"),
    "zip": ("application/zip", "zip"),
    "": ("application/octet-stream", "bin"),
}
"""Media type and ending of what is saved, by type."""

_END_OF_JPEG = b"\xff\xd9"
_FILLING = bytes(range(1, 250)) * 4
"""Bytes without a meaning for a JPEG that has its pixels, and with one for any other."""


class NotAPicture(Exception):
    """The bytes are no picture, or none that can be used for what it is wanted for."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a file is that was paid for."""

    media_type: str
    extension: str
    width: int = 0
    """Pixels; 0 where unknown."""
    height: int = 0
    """Pixels; 0 where unknown."""
    damaged: bool = False
    """Whether it ends early or cannot be decoded; it may come whole another time."""
    missing: bytes = b""
    """What has to be put at its end, so that every reader takes it."""


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
    """Tell what a file is that was paid for, and whether it is whole; blocking.

    What is no page and no text is something, though nothing here may be able to open it. Of
    more than MAX_PIXELS nothing is decoded.

    Raises:
        NotAPicture: It is a page or a text, which tell of an error, or there is nothing.
    """
    kind = _file_type(content)
    if not content or kind in {"html", "text"}:
        reason = f"it is no picture (type: {kind or 'unknown'})"
        raise NotAPicture(reason)
    found = Inspected(*_FILES[kind])
    return _opened(found, content, kind=kind) if kind in OPENED else found


def _opened(found: Inspected, content: bytes, *, kind: str) -> Inspected:
    """Add what Pillow tells of a file."""
    from PIL import Image  # noqa: PLC0415 - off the way to the first answer

    width, height = png_size(content) or (0, 0)
    try:
        with Image.open(BytesIO(content), formats=(kind.upper(),)) as image:
            width, height = image.size
            if kind in SHOWN and width * height <= MAX_PIXELS:
                image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pass  # a size is no reason to lose it
    except OPEN_FAILURES:
        found = _mended(found, content, kind=kind)
    return replace(found, width=width, height=height)


def _mended(found: Inspected, content: bytes, *, kind: str) -> Inspected:
    """Tell a JPEG that lacks nothing but its end from what is damaged."""
    if kind == "jpeg" and _has_all_pixels(content):
        return replace(found, missing=_END_OF_JPEG)
    return replace(found, damaged=kind in SHOWN)


def _has_all_pixels(content: bytes) -> bool:
    """Tell whether more bytes would change no pixel of a JPEG of one scan."""
    from PIL import Image, ImageChops  # noqa: PLC0415 - off the way to the first answer

    ended, filled = (content + rest + _END_OF_JPEG for rest in (b"", _FILLING))
    try:
        with (
            Image.open(BytesIO(ended), formats=("JPEG",)) as image,
            Image.open(BytesIO(filled), formats=("JPEG",)) as other,
        ):
            if "progressive" in image.info:  # a later scan may be missing, which changes nothing
                return False
            return ImageChops.difference(image, other).getbbox(alpha_only=False) is None
    except OPEN_FAILURES:
        return False


def _file_type(content: bytes) -> str:
    """Name the type of a whole file, also of one that is no picture to us; empty where unknown."""
    head = content[:_HEAD]
    if _SVG.match(head):
        return "svg"
    if head.startswith(_ZIP):
        return "zip"
    return type_of(head) or _writing(head)


def _writing(head: bytes) -> str:
    """Name what a person can read: `html` for any markup, or `text`; empty for anything else."""
    if head.lstrip(_BLANK).startswith(b"<"):
        return "html"
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        return ""
    return "text" if text and all(each.isprintable() or each.isspace() for each in text) else ""


def _text_type(head: bytes) -> str:
    start = head.lstrip(_BLANK)[:15].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body", b"<error")):
        return "html"
    return "text" if start.startswith((b"{", b"[")) else ""
