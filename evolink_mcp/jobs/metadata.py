"""What a picture's file tells beside the picture, taken out without writing the picture anew.

Place, camera, names, comments, edits and small copies lie in parts of their own. What shows
the picture is named here, part by part, and nothing else stays: pixels, colour profile, size in
print, animation, and which side is up.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal

from evolink_mcp.jobs.extent import picture_end


class _Unreadable(Exception):
    """The file is built in a way that is not known here."""


def without_metadata(content: bytes, kind: str) -> tuple[bytes, bool]:
    """Return a JPEG, PNG, WebP or GIF file with nothing but its picture.

    Also whether that could be done. Where it could not, as the type is another one, the
    structure is broken or more bytes follow, the content comes back as it was.
    """
    if picture_end(content, kind) != len(content):
        return content, False
    try:
        return b"".join(_PARTS[kind](content)), True
    except _Unreadable:
        return content, False


# --- Exif ---

_EXIF_HEAD = b"Exif\x00\x00"
_ORIENTATION, _SHORT, _ENTRY_BYTES = 0x0112, 3, 12
_TURNED = range(2, 9)
"""Orientations that turn or mirror; 1 is the usual one (Exif 2.32, tag 274)."""


def _upright_exif(exif: bytes) -> bytes:
    """Return Exif data with the orientation alone; none where the picture is not turned."""
    turn = _orientation(exif.removeprefix(_EXIF_HEAD))
    if turn not in _TURNED:
        return b""
    return struct.pack("<2sHLHHHLHHL", b"II", 42, 8, 1, _ORIENTATION, _SHORT, 1, turn, 0, 0)


def _orientation(tiff: bytes) -> int:
    """Return the orientation of a photo; 0 where none is stated."""
    if not tiff.startswith((b"II*\x00", b"MM\x00*")):
        return 0
    order: Literal["little", "big"] = "little" if tiff.startswith(b"II") else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)

    start = number(4, 4)
    end = min(start + 2 + _ENTRY_BYTES * number(start, 2), len(tiff))
    for at in range(start + 2, end, _ENTRY_BYTES):
        if (number(at, 2), number(at + 2, 2)) == (_ORIENTATION, _SHORT):
            return number(at + 8, 2)
    return 0


# --- JPEG (ITU-T T.81, annex B; JFIF 1.02; ICC.1, annex B.4) ---

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""What ends the pixels of a scan."""

_SCAN, _END_OF_IMAGE, _COMMENT = 0xDA, 0xD9, 0xFE
_JFIF, _EXIF, _PROFILE, _ADOBE = 0xE0, 0xE1, 0xE2, 0xEE
_APPLICATIONS = range(0xE0, 0xF0)
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers that have no length."""

_DECODING = (
    *(0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCC, 0xCD, 0xCE, 0xCF),
    *(_SCAN, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF),
)
_SHOWING = frozenset({0xFF, *_ALONE, *_DECODING})
"""Frames, tables, scans, and bytes that only fill."""

_JPEG_HEAD_BYTES = 12


def _jpeg(content: bytes) -> Iterator[bytes]:
    """Part a JPEG; later scans have parts between them, where metadata is sought as well."""
    yield content[:2]
    at = 2
    while (marker := content[at + 1]) != _END_OF_IMAGE:
        end = _segment_end(content, at=at, marker=marker)
        yield _segment(content[at:end], marker=marker)
        at = end
    yield content[at:]


def _segment_end(content: bytes, *, at: int, marker: int) -> int:
    if marker not in _SHOWING and marker not in _APPLICATIONS and marker != _COMMENT:
        raise _Unreadable
    if marker == 0xFF:  # noqa: PLR2004 - a byte that only fills
        return at + 1
    if marker in _ALONE:
        return at + 2
    end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return next(_MARKER.finditer(content, end)).start() if marker == _SCAN else end


def _segment(segment: bytes, *, marker: int) -> bytes:
    body = segment[4:]
    if marker in _SHOWING or (marker == _PROFILE and body.startswith(b"ICC_PROFILE\x00")):
        return segment
    if marker == _EXIF and body.startswith(_EXIF_HEAD):
        exif = _upright_exif(body)
        return _segment_of(marker, _EXIF_HEAD + exif) if exif else b""
    if marker == _JFIF and body.startswith(b"JFIF\x00") and len(body) >= _JPEG_HEAD_BYTES + 2:
        return _segment_of(marker, body[:_JPEG_HEAD_BYTES] + b"\x00\x00")  # and no small copy
    if marker == _ADOBE and body.startswith(b"Adobe") and len(body) >= _JPEG_HEAD_BYTES:
        return _segment_of(marker, body[:_JPEG_HEAD_BYTES])
    return b""


def _segment_of(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body


# --- PNG (third edition, chapter 11) ---

_PNG_SHOWING = frozenset(
    (
        *(b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"acTL", b"fcTL", b"fdAT"),
        *(b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"mDCV", b"cLLI"),
        *(b"sBIT", b"bKGD", b"pHYs", b"hIST"),
    )
)
_ANCILLARY = 0x20


def _png(content: bytes) -> Iterator[bytes]:
    yield content[:8]
    at = 8
    while at < len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        yield _png_chunk(content[at:end])
        at = end


def _png_chunk(chunk: bytes) -> bytes:
    name = chunk[4:8]
    if name in _PNG_SHOWING:
        return chunk
    if not name[0] & _ANCILLARY:  # without it the picture is another one
        raise _Unreadable
    exif = _upright_exif(chunk[8:-4]) if name == b"eXIf" else b""
    if not exif:
        return b""
    return struct.pack(">L", len(exif)) + name + exif + struct.pack(">L", zlib.crc32(name + exif))


# --- WebP (RFC 9649) ---

_FRAME, _FEATURES, _PLACE_AND_CAMERA = b"ANMF", b"VP8X", b"EXIF"
_FRAME_SHOWING = frozenset({b"VP8 ", b"VP8L", b"ALPH"})
_WEBP_SHOWING = _FRAME_SHOWING | {b"ANIM", b"ICCP", _FEATURES}
_HAS_EXIF, _HAS_XMP = 0x08, 0x04
_FRAME_HEAD_BYTES, _FEATURES_BYTES = 16, 10


def _webp(content: bytes) -> Iterator[bytes]:
    chunks = [_webp_chunk(*each) for each in _webp_chunks(content, 12)]
    has_exif = any(chunk.startswith(_PLACE_AND_CAMERA) for chunk in chunks)
    body = b"".join(_told(chunk, has_exif=has_exif) for chunk in chunks)
    yield content[:4] + struct.pack("<L", 4 + len(body)) + content[8:12]
    yield body


def _webp_chunks(content: bytes, at: int) -> Iterator[tuple[bytes, bytes]]:
    while at < len(content):
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        yield content[at : at + 4], content[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    if at > len(content):
        raise _Unreadable


def _webp_chunk(name: bytes, body: bytes) -> bytes:
    if name == _FEATURES and len(body) != _FEATURES_BYTES:
        raise _Unreadable
    if name == _PLACE_AND_CAMERA:
        exif = _upright_exif(body)
        return _webp_chunk_of(name, exif) if exif else b""
    if name == _FRAME:
        return _webp_chunk_of(name, _frame(body))
    return _webp_chunk_of(name, body) if name in _WEBP_SHOWING else b""


def _frame(body: bytes) -> bytes:
    """Return a frame of an animation, which has chunks of its own."""
    inner = _webp_chunks(body, _FRAME_HEAD_BYTES)
    kept = (_webp_chunk_of(*each) for each in inner if each[0] in _FRAME_SHOWING)
    return body[:_FRAME_HEAD_BYTES] + b"".join(kept)


def _webp_chunk_of(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<L", len(body)) + body + bytes(len(body) % 2)


def _told(chunk: bytes, *, has_exif: bool) -> bytes:
    """Make the features tell of no metadata that is not there."""
    if not chunk.startswith(_FEATURES):
        return chunk
    flags = chunk[8] & ~(_HAS_EXIF | _HAS_XMP) | _HAS_EXIF * has_exif
    return chunk[:8] + bytes([flags]) + chunk[9:]


# --- GIF (GIF89a) ---

_HAS_COLOURS, _COLOURS = 0x80, 0x07
_EXTENSION, _TRAILER = 0x21, 0x3B
_CONTROL, _APPLICATION = 0xF9, 0xFF
_CONTROL_BYTES = 8
_LOOP = re.compile(rb"!\xff\x0b(?:NETSCAPE2\.0|ANIMEXTS1\.0)\x03\x01..", re.DOTALL)


def _gif(content: bytes) -> Iterator[bytes]:
    at = 13 + _colour_bytes(content[10])
    yield content[:at]
    while content[at] != _TRAILER:
        if content[at] == _EXTENSION:
            end = _blocks_end(content, at + 2)
            yield _extension(content[at:end])
        else:
            end = _blocks_end(content, at + 11 + _colour_bytes(content[at + 9]))
            yield content[at:end]
        at = end
    yield content[at:]


def _colour_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & _COLOURS) + 1) if flags & _HAS_COLOURS else 0


def _blocks_end(content: bytes, at: int) -> int:
    while content[at]:  # blocks, each with its length before it
        at += 1 + content[at]
    return at + 1


def _extension(extension: bytes) -> bytes:
    """Return what says how a frame is shown, or how often all of them are."""
    if extension[1] == _CONTROL:
        if len(extension) != _CONTROL_BYTES:
            raise _Unreadable
        return extension
    loop = _LOOP.match(extension)
    return loop[0] + b"\x00" if loop else b""


_PARTS: Final[Mapping[str, Callable[[bytes], Iterator[bytes]]]] = {
    "jpeg": _jpeg,
    "png": _png,
    "webp": _webp,
    "gif": _gif,
}
