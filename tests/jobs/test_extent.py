from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evolink_mcp.jobs.extent import picture_end


def noise(kind: str, mode: str = "RGB", *, moving: bool = False, **how: object) -> bytes:
    stream = BytesIO()
    if moving:
        how |= {"save_all": True, "append_images": [Image.new("RGB", (61, 47), "teal")]}
    Image.effect_noise((61, 47), 90).convert(mode).save(stream, kind, **how)
    return stream.getvalue()


PICTURES = [
    ("png", noise("PNG")),
    ("png", noise("PNG", "P")),
    ("png", noise("PNG", moving=True)),
    ("jpeg", noise("JPEG")),
    ("jpeg", noise("JPEG", progressive=True, comment=b"\xff\xd9")),
    ("jpeg", noise("JPEG", "L", restart_marker_blocks=1)),
    ("gif", noise("GIF", "P")),
    ("gif", noise("GIF", "L", moving=True)),
    ("webp", noise("WEBP")),
    ("webp", noise("WEBP", moving=True)),
]


@pytest.mark.parametrize(("kind", "content"), PICTURES)
@pytest.mark.parametrize("more", [b"", b"\x00", b"\xff\xd9", b"PK\x03\x04" * 100])
def test_what_comes_after_a_picture_is_not_part_of_it(
    kind: str, content: bytes, more: bytes
) -> None:
    assert picture_end(content + more, kind) == len(content)


def test_a_photo_ends_before_the_picture_that_a_camera_adds() -> None:
    content = noise("MPO", moving=True)
    end = picture_end(content, "jpeg")
    assert end is not None
    assert content[end:].startswith(b"\xff\xd8")


def test_bytes_that_fill_or_stand_alone_belong_to_a_jpeg() -> None:
    content = noise("JPEG")
    filled = content[:2] + b"\xff\xff\xff\x01" + content[2:]
    assert picture_end(filled, "jpeg") == len(filled)


def test_colours_of_single_frames_belong_to_a_gif() -> None:
    first = noise("GIF", "P")
    frame = b",\0\0\0\0\x01\0\x01\0\x80" + bytes(6) + b"\x02\x02\x44\x01\0"
    assert picture_end(first[:-1] + frame + b";" + b"more", "gif") == len(first) + len(frame)


@pytest.mark.parametrize(("kind", "content"), PICTURES)
def test_a_picture_that_is_cut_off_has_no_end(kind: str, content: bytes) -> None:
    for length in range(16, len(content)):
        assert picture_end(content[:length], kind) is None


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("tiff", b"II*\x00" + bytes(100)),
        ("", b""),
        ("png", b"\x89PNG\r\n\x1a\n" + bytes(100)),
        ("jpeg", b"\xff\xd8"),
        ("jpeg", b"\xff\xd8words"),
        ("jpeg", b"\xff\xd8\xff\xda\x00\x02pixels"),
        ("gif", b"GIF89a" + bytes(7) + b"words"),
        ("gif", b"GIF89a"),
        ("webp", b"RIFF\xff\xff\xff\xffWEBP"),
    ],
)
def test_what_has_no_structure_has_no_end(kind: str, content: bytes) -> None:
    assert picture_end(content, kind) is None


@settings(deadline=None)
@given(st.integers(0, len(PICTURES) - 1), st.binary(max_size=400), st.integers(0, 1000))
def test_no_bytes_keep_anybody_busy(which: int, change: bytes, at: int) -> None:
    kind, content = PICTURES[which]
    broken = content[:at] + change + content[at + len(change) :]
    end = picture_end(broken, kind)
    assert end is None or 0 < end <= len(broken)
