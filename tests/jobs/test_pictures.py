from __future__ import annotations

import struct
import zlib
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evolink_mcp.jobs.pictures import MAX_PIXELS, Inspected, NotAPicture, inspect, png_size, type_of
from tests.sandbox.desk import picture


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png_of(width: int, height: int) -> bytes:
    """Make a PNG that claims a size and has next to no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (picture("PNG"), "png"),
        (picture("JPEG"), "jpeg"),
        (picture("WEBP"), "webp"),
        (picture("GIF"), "gif"),
        (picture("BMP"), "bmp"),
        (picture("TIFF"), "tiff"),
        (b"MM\x00*", "tiff"),
        (b"%PDF-1.7", "pdf"),
        (b"\x00\x00\x00\x18ftypheic", "heic"),
        (b"\x00\x00\x00\x18ftypmif1", "heic"),
        (b"\x00\x00\x00\x18ftypavif", "avif"),
        (b"\x00\x00\x00\x18ftypmp42", ""),
        (b"RIFF\x00\x00\x00\x00WAVE", ""),
        (b"<!DOCTYPE html>", "html"),
        (b"\xef\xbb\xbf\r\n <HTML lang=en>", "html"),
        (b'<?xml version="1.0"?><Error/>', "html"),
        (b"<Error>", "html"),
        (b'{"error": 1}', "text"),
        (b"[1]", "text"),
        (b"words", ""),
        (b"", ""),
    ],
)
def test_a_type_is_named_by_the_first_bytes(head: bytes, kind: str) -> None:
    assert type_of(head[:64]) == kind


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (picture("PNG", (48, 32)), (48, 32)),
        (png_of(4_000_000_000, 1), (4_000_000_000, 1)),
        (picture("PNG")[:24], (48, 32)),
        (picture("PNG")[:23], None),
        (b"\x89PNG\r\n\x1a\n" + bytes(16), None),
        (picture("JPEG"), None),
        (b"", None),
    ],
)
def test_the_size_of_a_png_stands_at_its_beginning(
    content: bytes, size: tuple[int, int] | None
) -> None:
    assert png_size(content) == size


@pytest.mark.parametrize(
    ("form", "found"),
    [
        ("PNG", Inspected("image/png", "png", 48, 32)),
        ("JPEG", Inspected("image/jpeg", "jpg", 48, 32)),
        ("WEBP", Inspected("image/webp", "webp", 48, 32)),
        ("GIF", Inspected("image/gif", "gif", 48, 32)),
    ],
)
def test_a_picture_is_known_by_its_content(form: str, found: Inspected) -> None:
    assert inspect(picture(form)) == found


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_picture_that_is_cut_off_is_none(form: str, share: float) -> None:
    stream = BytesIO()
    Image.effect_noise((64, 64), 100).convert("RGB").save(stream, form)
    content = stream.getvalue()
    with pytest.raises(NotAPicture, match="cut off"):
        inspect(content[: int(len(content) * share)])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<!doctype html><title>Not a picture</title>", "type: html"),
        (b"", "type: unknown"),
        (picture("BMP"), "type: bmp"),
        (b"\x89PNG\r\n\x1a\n", "cut off or broken"),
        (b"\xff\xd8\xff" + bytes(100), "cut off or broken"),
        (b"GIF89a", "cut off or broken"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "cut off or broken"),
        (png_of(0, 0), "cut off or broken"),
        (png_of(9_000, 9_000), f"more than {MAX_PIXELS} pixels"),
        (png_of(12_000, 12_000), f"more than {MAX_PIXELS} pixels"),
        (png_of(30_000, 30_000), f"more than {MAX_PIXELS} pixels"),
        (png_of(2_000_000_000, 2_000_000_000), f"more than {MAX_PIXELS} pixels"),
    ],
)
def test_what_is_no_picture_says_why(content: bytes, reason: str) -> None:
    with pytest.raises(NotAPicture, match=reason):
        inspect(content)


HEADS = [
    picture(form)[:length] for form in ("PNG", "JPEG", "WEBP", "GIF") for length in (12, 40, 80)
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(HEADS), st.binary(max_size=300))
def test_any_bytes_are_a_picture_or_none(head: bytes, tail: bytes) -> None:
    try:
        found = inspect(head + tail)
    except NotAPicture:
        return
    assert found.media_type.startswith("image/")


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([picture(form) for form in ("PNG", "JPEG", "WEBP", "GIF")]),
    st.integers(0, 400),
    st.binary(min_size=1, max_size=12),
)
def test_a_damaged_picture_is_a_picture_or_none(whole: bytes, at: int, damage: bytes) -> None:
    try:
        found = inspect(whole[:at] + damage + whole[at + len(damage) :])
    except NotAPicture:
        return
    assert found.width * found.height <= MAX_PIXELS
