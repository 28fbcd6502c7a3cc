from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from dataclasses import replace
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evolink_mcp.jobs.pictures import Inspected, NotAPicture, inspect, png_size, type_of
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


def noise(form: str, **options: object) -> bytes:
    stream = BytesIO()
    Image.effect_noise((64, 64), 100).convert("RGB").save(stream, form, **options)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_picture_that_is_cut_off_is_damaged(form: str, share: float) -> None:
    whole = noise(form)
    found, intact = inspect(whole[: int(len(whole) * share)]), inspect(whole)
    size = (0, 0) if form == "WEBP" else (64, 64)  # whose reader looks at all of it, or at nothing
    assert found == replace(intact, damaged=True, width=size[0], height=size[1])


@pytest.mark.parametrize("cut", [1, 2])
@pytest.mark.parametrize("colour", ["teal", None])
def test_a_jpeg_that_lacks_its_end_alone_is_given_one(cut: int, colour: str | None) -> None:
    whole = picture("JPEG") if colour else noise("JPEG")
    found = inspect(whole[:-cut])
    assert not found.damaged
    with (
        Image.open(BytesIO(whole[:-cut] + found.missing)) as image,
        Image.open(BytesIO(whole)) as original,
    ):
        assert image.tobytes() == original.tobytes()


@pytest.mark.parametrize("cut", range(4, 64, 6))
def test_a_jpeg_that_lacks_more_than_its_end_is_damaged(cut: int) -> None:
    assert inspect(noise("JPEG")[:-cut]).damaged


@pytest.mark.parametrize("cut", [2, 400])
def test_a_progressive_jpeg_may_always_lack_a_scan(cut: int) -> None:
    assert inspect(noise("JPEG", progressive=True)[:-cut]).damaged


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<!doctype html><title>Not a picture</title>", "type: html"),
        (b"<!-- generated --><html>", "type: html"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "type: html"),
        (b"<?xml?><!doctype html><html><svg></svg></html>", "type: html"),
        (b'<?xml version="1.0"?>' + b"<!---->" * 2_000 + b"<html>", "type: html"),
        (b"<center>Not found</center>", "type: html"),
        (b'{"error": "no"}', "type: text"),
        (b"[1]", "type: text"),
        (b"no such key\r\n", "type: text"),
        ("\ufeffnicht möglich".encode(), "type: text"),
        (b"x" * 4095 + "é".encode(), "type: text"),
        (b"", "type: unknown"),
    ],
)
def test_what_came_in_place_of_a_picture_says_what_it_is(content: bytes, reason: str) -> None:
    with pytest.raises(NotAPicture, match=reason):
        inspect(content)


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
AVIF_HEAD = b"\x00\x00\x00\x18ftypavif"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (picture("AVIF"), Inspected("image/avif", "avif", 48, 32)),
        (picture("TIFF"), Inspected("image/tiff", "tiff", 48, 32)),
        (picture("BMP"), Inspected("image/bmp", "bmp", 48, 32)),
        (AVIF_HEAD + bytes(99), Inspected("image/avif", "avif")),
        (b"II*\x00" + bytes(99), Inspected("image/tiff", "tiff")),
        (b"BM" + bytes(99), Inspected("image/bmp", "bmp")),
        (b"\x00\x00\x00\x18ftypheic" + bytes(9), Inspected("image/heic", "heic")),
        (SVG, Inspected("image/svg+xml", "svg")),
        (b"\xef\xbb\xbf\n<SVG>", Inspected("image/svg+xml", "svg")),
        (b"<?xml?>\n<!-- <html> -->\n" + SVG, Inspected("image/svg+xml", "svg")),
        (b'<!DOCTYPE svg [ <!ENTITY a "b"> ]>' + SVG, Inspected("image/svg+xml", "svg")),
        (b"PK\x03\x04" + bytes(9), Inspected("application/zip", "zip")),
        (b"%PDF-1.7", Inspected("application/pdf", "pdf")),
        (b"\x00\x01\x02", Inspected("application/octet-stream", "bin")),
        (b"words\x00", Inspected("application/octet-stream", "bin")),
        (b"\xffwords", Inspected("application/octet-stream", "bin")),
        (png_of(9_000, 9_000), Inspected("image/png", "png", 9_000, 9_000)),
        (png_of(12_000, 12_000), Inspected("image/png", "png", 12_000, 12_000)),
        (png_of(30_000, 30_000), Inspected("image/png", "png", 30_000, 30_000)),
        (b"\x89PNG\r\n\x1a\n", Inspected("image/png", "png", damaged=True)),
        (b"\xff\xd8\xff" + bytes(9), Inspected("image/jpeg", "jpg", damaged=True)),
        (b"GIF89a", Inspected("image/gif", "gif", damaged=True)),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", Inspected("image/webp", "webp", damaged=True)),
        (png_of(0, 0), Inspected("image/png", "png", damaged=True)),
    ],
)
def test_whatever_else_was_paid_for_is_something(content: bytes, found: Inspected) -> None:
    assert inspect(content) == found


def test_a_jpeg_that_holds_several_pictures_is_one() -> None:
    stream, more = BytesIO(), Image.new("RGB", (48, 32), "red")
    Image.new("RGB", (48, 32)).save(stream, "MPO", save_all=True, append_images=[more])
    assert inspect(stream.getvalue()) == Inspected("image/jpeg", "jpg", 48, 32)


@pytest.mark.parametrize("failure", [MemoryError, RuntimeError])
def test_whatever_a_reader_raises_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, failure: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(Image, "open", fail)
    assert inspect(picture("AVIF")) == Inspected("image/avif", "avif")
    assert inspect(picture("JPEG")) == Inspected("image/jpeg", "jpg", damaged=True)


HEADS = [
    picture(form)[:length] for form in ("PNG", "JPEG", "WEBP", "GIF") for length in (12, 40, 80)
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(HEADS), st.binary(max_size=300))
def test_any_bytes_behind_the_head_of_a_picture_are_one(head: bytes, tail: bytes) -> None:
    assert inspect(head + tail).media_type.startswith("image/")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_something_or_a_page_or_text(content: bytes) -> None:
    try:
        found = inspect(content)
    except NotAPicture as error:
        assert "(type: " in str(error)  # noqa: PT017 - either is right
        return
    assert found.extension


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([picture(form) for form in ("PNG", "JPEG", "WEBP", "GIF")]),
    st.integers(0, 400),
    st.binary(min_size=1, max_size=12),
)
def test_a_damaged_picture_ends_in_nothing_worse(whole: bytes, at: int, damage: bytes) -> None:
    with suppress(NotAPicture):
        inspect(whole[:at] + damage + whole[at + len(damage) :])
