"""Where the bytes of a picture end.

Programs leave more in a file than the picture: a video after a phone's photo, what was cut
away after a cropped screenshot, a whole archive. None of that may be published with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""What ends the pixels of a JPEG's scan."""

_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers of a JPEG that have no length."""

_MARKS, _SCAN, _END_OF_IMAGE = 0xFF, 0xDA, 0xD9
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_HAS_COLOURS, _COLOURS = 0x80, 0x07


def picture_end(content: bytes, kind: str) -> int | None:
    """Return how many bytes the first picture of a PNG, JPEG, GIF or WebP file takes.

    None where it does not end, its structure is broken, or the type is another one.
    """
    try:
        end = _ENDS[kind](content) if kind in _ENDS else None
    except IndexError:
        return None
    return end if end is not None and end <= len(content) else None


def _png(content: bytes) -> int | None:
    at = 8
    while at + 12 <= len(content):
        length, name = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        at += 12 + length
        if name == b"IEND":
            return at
    return None


def _jpeg(content: bytes) -> int | None:
    at = 2
    while content[at] == _MARKS:
        marker = content[at + 1]
        if marker == _END_OF_IMAGE:
            return at + 2
        at += _segment(content, at=at, marker=marker)
        if marker == _SCAN:
            found = _MARKER.search(content, at)
            at = found.start() if found else len(content)
    return None


def _segment(content: bytes, *, at: int, marker: int) -> int:
    """Return the bytes from a marker to the next one."""
    if marker == _MARKS:  # a byte that only fills
        return 1
    if marker in _ALONE:
        return 2
    return 2 + int.from_bytes(content[at + 2 : at + 4], "big")


def _gif(content: bytes) -> int | None:
    at = 13 + _colours(content[10])
    while content[at] != _TRAILER:
        if content[at] == _EXTENSION:
            at += 2
        elif content[at] == _IMAGE:
            at += 11 + _colours(content[at + 9])
        else:
            return None
        while content[at]:  # blocks, each with its length before it
            at += 1 + content[at]
        at += 1
    return at + 1


def _colours(flags: int) -> int:
    """Return the bytes of a colour table."""
    return 3 * 2 ** ((flags & _COLOURS) + 1) if flags & _HAS_COLOURS else 0


def _webp(content: bytes) -> int:
    return 8 + int.from_bytes(content[4:8], "little")


_ENDS: Final[Mapping[str, Callable[[bytes], int | None]]] = {
    "png": _png,
    "jpeg": _jpeg,
    "gif": _gif,
    "webp": _webp,
}
