from __future__ import annotations

import random
import struct
import warnings
import zlib
from io import BytesIO
from unittest.mock import patch

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, ImageSequence

from evolink_mcp.jobs.metadata import without_metadata
from evolink_mcp.jobs.pictures import BROKEN

CANARY = b"canary-4711-where-it-was-taken"
PROFILE = b"a profile, which nobody reads" * 8
MANY_PIXELS = 100_000
KINDS = ("jpeg", "png", "webp", "gif")
ORIENTATION, MAKE, PLACE = 0x0112, 0x010F, 0x8825
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + CANARY + b"</x:xmpmeta>"


def noise(seed: int = 0) -> Image.Image:
    content = random.Random(seed).randbytes(61 * 47 * 3)  # noqa: S311 - the same noise again
    return Image.frombytes("RGB", (61, 47), content)


def moving() -> dict[str, object]:
    return {"save_all": True, "append_images": [noise(1), noise(2)], "duration": 70, "loop": 3}


def written(kind: str, mode: str = "RGB", /, **how: object) -> bytes:
    stream = BytesIO()
    noise().convert(mode).save(stream, kind, **how)
    return stream.getvalue()


def exif_of(orientation: int | None, *, order: str = "<") -> bytes:
    exif = Image.Exif()
    exif.endian = order
    exif[MAKE] = CANARY.decode()
    exif.get_ifd(PLACE)[29] = CANARY.decode()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    return exif.tobytes() + b"\xff\xd8 a small copy: " + CANARY  # begins with "Exif\0\0"


# --- what programs put into files ---


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body


SHORTENED = [
    segment(0xE0, b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x02\x05" + CANARY),
    b"\xff" + segment(0xFE, CANARY),
]
JPEG_PARTS = [
    segment(0xE1, b"http://ns.adobe.com/xap/1.0/\x00" + XMP),
    segment(0xE1, b"http://ns.adobe.com/xmp/extension/\x00" + CANARY),
    segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\x00\x00\x00\x1e" + CANARY),
    segment(0xE0, b"JFXX\x00\x10" + CANARY),
    segment(0xE0, b"JFIF\x00\x01" + CANARY[:5]),
    *SHORTENED,
    segment(0xE2, b"FPXR\x00" + CANARY),
    segment(0xEB, b"JP\x00\x00c2pa" + CANARY),
    segment(0xEC, b"Ducky" + CANARY),
    segment(0xEE, b"Adobe\x00\x64"),
    segment(0xEE, b"Other" + CANARY),
    segment(0xFE, CANARY),
]


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body))


PNG_PARTS = [
    chunk(b"tEXt", b"Comment\x00" + CANARY),
    chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(CANARY, 0)),
    chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + XMP),
    chunk(b"tIME", bytes(7)),
    chunk(b"caBX", CANARY),
    chunk(b"prVt", CANARY),
]


def riff(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<L", len(body)) + body + bytes(len(body) % 2)


WEBP_PARTS = [riff(b"XMP ", XMP), riff(b"C2PA", CANARY + b"!"), riff(b"odd ", CANARY + b"!!")]


def blocks(*bodies: bytes) -> bytes:
    return b"".join(bytes([len(body)]) + body for body in bodies if body) + b"\x00"


MAGIC = b"\x01" + bytes(range(255, -1, -1)) + b"\x00"
GIF_PARTS = [
    b"!\xfe" + blocks(CANARY, CANARY),
    b"!\x01" + blocks(bytes(12), CANARY),
    b"!\xff" + blocks(b"ICCRGBG1012", CANARY),
    b"!\xff\x0bXMP DataXMP" + XMP + MAGIC,
    b"!\xff" + blocks(b"NETSCAPE2.0", CANARY),
    b"!\x99" + blocks(CANARY),
]


def jpeg(parts: list[bytes], exif: bytes, *, progressive: bool = True) -> bytes:
    """Write a JPEG with parts before, between and after its scans."""
    content = written("JPEG", progressive=progressive, icc_profile=PROFILE)
    begin = 4 + int.from_bytes(content[4:6], "big")
    scan = content.index(b"\xff\xda")
    later = content.find(b"\xff\xc4", scan)
    ends = [begin, scan] + ([later] if progressive else []) + [len(content) - 2]
    more = b"".join(parts)
    pieces = [content[i:j] for i, j in zip([0, *ends], [*ends, len(content)], strict=True)]
    return pieces[0] + segment(0xE1, exif) + more.join(pieces[1:]) if exif else more.join(pieces)


def png(parts: list[bytes], exif: bytes, *, late: bool = False) -> bytes:
    content = written("PNG", icc_profile=PROFILE, gamma=0.5, dpi=(300, 300))
    more = b"".join(parts) + (chunk(b"eXIf", exif.removeprefix(b"Exif\x00\x00")) if exif else b"")
    return content[:-12] + more + content[-12:] if late else content[:33] + more + content[33:]


def webp(parts: list[bytes], exif: bytes, **how: object) -> bytes:
    content = written("WEBP", icc_profile=PROFILE, exif=exif, xmp=XMP, **how)
    return riff(b"RIFF", content[8:] + b"".join(parts))


def gif(parts: list[bytes], exif: bytes) -> bytes:
    """Write a GIF; Exif data have no place in it."""
    content = written("GIF", "P", **moving())
    start = content.index(b"!\xff\x0bNETSCAPE")
    more = b"".join(parts) + b"!\xfe" + blocks(exif[:255])
    return content[:start] + more + content[start:-1] + more + content[-1:]


PARTS = {"jpeg": JPEG_PARTS, "png": PNG_PARTS, "webp": WEBP_PARTS, "gif": GIF_PARTS}
WRITERS = {"jpeg": jpeg, "png": png, "webp": webp, "gif": gif}


# --- what must be the same ---


def decoded(content: bytes, kind: str) -> list[object]:
    """Return everything that shows: frames, how long, how often, colours, which side is up."""
    seen: list[object] = []
    with Image.open(BytesIO(content), formats=(kind.upper(),)) as image:
        frames = [image] if kind == "jpeg" else ImageSequence.Iterator(image)
        for frame in frames:
            frame.load()
            shown = {name: frame.info.get(name) for name in ("duration", "loop", "transparency")}
            seen.append((frame.mode, frame.size, frame.convert("RGBA").tobytes(), shown))
        seen += [image.info.get("icc_profile"), image.info.get("gamma")]
    return seen


def orientation_of(content: bytes) -> int:
    with Image.open(BytesIO(content)) as image:
        return int(image.getexif().get(ORIENTATION, 1))


def upright(content: bytes) -> bytes:
    with Image.open(BytesIO(content)) as image:
        return ImageOps.exif_transpose(image).convert("RGB").tobytes()


def bare(content: bytes, kind: str) -> bytes:
    result, done = without_metadata(content, kind)
    assert done
    assert without_metadata(result, kind) == (result, True)
    return result


CLEAN = [
    ("jpeg", written("JPEG")),
    ("jpeg", written("JPEG", progressive=True, icc_profile=PROFILE, dpi=(300, 300))),
    ("jpeg", written("JPEG", "CMYK")),
    ("jpeg", written("JPEG", "L", restart_marker_blocks=1)),
    ("png", written("PNG", icc_profile=PROFILE, gamma=0.5, dpi=(300, 300))),
    ("png", written("PNG", "P", transparency=3)),
    ("png", written("PNG", **moving())),
    ("webp", written("WEBP", icc_profile=PROFILE)),
    ("webp", written("WEBP", "RGBA", lossless=True)),
    ("webp", written("WEBP", **moving())),
    ("gif", written("GIF", "P")),
    ("gif", written("GIF", "P", transparency=3, **moving())),
]


@pytest.mark.parametrize(("kind", "content"), CLEAN)
def test_a_file_with_nothing_but_its_picture_stays_as_it_is(kind: str, content: bytes) -> None:
    assert without_metadata(content, kind) == (content, True)


ORIENTATIONS = st.none() | st.integers(0, 9)


@settings(deadline=None)
@given(st.data(), st.sampled_from(KINDS), ORIENTATIONS, st.sampled_from("<>"))
def test_whatever_is_told_beside_a_picture_is_gone_and_the_picture_stays(
    data: st.DataObject, kind: str, orientation: int | None, order: str
) -> None:
    parts = data.draw(st.lists(st.sampled_from(PARTS[kind]), max_size=5))
    exif = data.draw(st.just(b"") | st.just(exif_of(orientation, order=order)))
    content = WRITERS[kind](parts, exif)
    result = bare(content, kind)
    assert b"canary" not in result
    assert decoded(result, kind) == decoded(content, kind)
    assert upright(result) == upright(content)


@pytest.mark.parametrize(("kind", "part"), [(kind, part) for kind in KINDS for part in PARTS[kind]])
def test_every_part_that_tells_something_is_taken_out(kind: str, part: bytes) -> None:
    content = WRITERS[kind]([part], b"")
    result = bare(content, kind)
    assert result != content
    assert b"canary" not in result
    without = bare(WRITERS[kind]([], b""), kind)
    if part not in SHORTENED:
        assert result == without


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", [None, *range(10)])
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_a_turned_picture_stays_turned(kind: str, orientation: int | None, order: str) -> None:
    result = bare(WRITERS[kind]([], exif_of(orientation, order=order)), kind)
    turned = orientation in range(2, 9)
    assert orientation_of(result) == (orientation if turned else 1)
    with Image.open(BytesIO(result)) as image:
        assert dict(image.getexif()) == ({ORIENTATION: orientation} if turned else {})
    assert (b"II*\x00" in result) is turned


def test_a_webp_says_what_it_holds() -> None:
    flags, profile, exif = 20, 0x20, 0x08
    assert bare(webp([], exif_of(6)), "webp")[flags] == profile | exif
    assert bare(webp([], exif_of(1)), "webp")[flags] == profile
    assert bare(webp([], b"", **moving()), "webp")[flags] == profile | 0x02


@pytest.mark.parametrize("late", [False, True])
def test_it_does_not_matter_where_in_a_png_it_stands(*, late: bool) -> None:
    content = png(PNG_PARTS, exif_of(3), late=late)
    result = bare(content, "png")
    assert orientation_of(result) == 3
    assert b"canary" not in result


def test_a_frame_of_a_webp_has_nothing_to_tell_either() -> None:
    content = written("WEBP", **moving())
    at = content.index(b"ANMF")
    size = int.from_bytes(content[at + 4 : at + 8], "little")
    frame = content[at + 8 : at + 8 + size]
    told = riff(b"ANMF", frame + riff(b"note", CANARY) + riff(b"EXIF", exif_of(6)))
    planted = riff(b"RIFF", content[8:at] + told + content[at + 8 + size + size % 2 :])
    assert bare(planted, "webp") == content


def test_a_jpeg_without_scans_in_parts_is_cleaned_too() -> None:
    content = jpeg(JPEG_PARTS, exif_of(8), progressive=False)
    result = bare(content, "jpeg")
    assert b"canary" not in result
    assert decoded(result, "jpeg") == decoded(content, "jpeg")


def test_the_name_of_the_colours_maker_has_no_place_for_more() -> None:
    content = written("JPEG", "CMYK")
    at = content.index(b"\xff\xee")
    planted = content[:at] + segment(0xEE, content[at + 4 : at + 16] + CANARY) + content[at + 16 :]
    assert bare(planted, "jpeg") == content


def test_how_often_a_gif_is_shown_has_no_place_for_more() -> None:
    content = written("GIF", "P", **moving())
    loop = b"!\xff" + blocks(b"NETSCAPE2.0", b"\x01\x03\x00")
    assert loop in content
    planted = content.replace(loop, loop[:-1] + blocks(CANARY))
    assert bare(planted, "gif") == content
    other = content.replace(b"NETSCAPE2.0", b"ANIMEXTS1.0")
    assert bare(other, "gif") == other


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\x00",
        b"II*\x00\xff\xff\xff\xff",
        b"II*\x00\x08\x00\x00\x00\xff\xff" + bytes(30),
        b"II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00",
        b"II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x04\x00\x01\x00\x00\x00\x06\x00\x00\x00",
        b"XX*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00",
    ],
)
def test_exif_data_that_say_nothing_readable_are_taken_out_whole(exif: bytes) -> None:
    content = written("JPEG")
    planted = content[:20] + segment(0xE1, b"Exif\x00\x00" + exif) + content[20:]
    assert bare(planted, "jpeg") == content


PNG, JPEG, WEBP, GIF = (written(kind.upper()) for kind in ("png", "jpeg", "webp", "gif"))
FEATURES = riff(b"VP8X", bytes(11))


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("", b""),
        ("bmp", written("BMP")),
        *((kind, written(kind.upper()) + CANARY) for kind in KINDS),
        *((kind, written(kind.upper())[:-1]) for kind in KINDS),
        ("png", PNG[:33] + chunk(b"CgBI", CANARY) + PNG[33:]),
        ("jpeg", JPEG[:20] + segment(0xF0, CANARY) + JPEG[20:]),
        ("jpeg", JPEG[:20] + b"\xff\xd8\x00\x02" + JPEG[20:]),
        ("jpeg", JPEG[:20] + b"\xff\xfe\x00\x00" + JPEG[20:]),
        ("webp", riff(b"RIFF", WEBP[8:] + b"note\xff\xff\x00\x00" + CANARY + b"!!")),
        ("webp", riff(b"RIFF", WEBP[8:12] + FEATURES + WEBP[12:])),
        ("webp", b"RIFF\x00\x00\x00\x00"),
        ("gif", GIF[:-1] + b"!\xf9" + blocks(bytes(4), CANARY) + GIF[-1:]),
    ],
)
def test_what_is_built_in_an_unknown_way_is_left_to_others(kind: str, content: bytes) -> None:
    assert without_metadata(content, kind) == (content, False)


def test_bytes_that_fill_or_stand_alone_stay() -> None:
    filled = JPEG[:2] + b"\xff\xff\xff\x01" + JPEG[2:]
    assert bare(filled, "jpeg") == filled


SAMPLES = [
    *CLEAN,
    *((kind, WRITERS[kind](PARTS[kind], exif_of(6))) for kind in KINDS),
    ("webp", webp(WEBP_PARTS, exif_of(6), **moving())),
]
CHANGES = st.binary(max_size=12) | st.sampled_from([b"\xff\xfe\x00\x08", b"ANMF", b"!\xfe"])


@settings(max_examples=400, deadline=None)
@given(
    sample=st.sampled_from(SAMPLES),
    at=st.integers(0, 60_000),
    change=CHANGES,
    skip=st.integers(0, 12),
    cut=st.booleans(),
)
def test_no_bytes_are_a_surprise(
    sample: tuple[str, bytes], at: int, change: bytes, skip: int, *, cut: bool
) -> None:
    kind, content = sample
    at %= len(content)
    broken = content[:at] + change + (b"" if cut else content[at + skip :])
    result, done = without_metadata(broken, kind)
    assert without_metadata(result, kind) == (result, done)
    assume(done)
    with warnings.catch_warnings(), patch.object(Image, "MAX_IMAGE_PIXELS", MANY_PIXELS):
        warnings.simplefilter("ignore")  # Pillow's, about what it finds broken
        try:
            before = decoded(broken, kind)
        except (*BROKEN, Image.DecompressionBombError):
            return
        assert decoded(result, kind) == before


@given(st.sampled_from(KINDS), st.binary(max_size=200))
def test_no_short_bytes_are_a_surprise(kind: str, content: bytes) -> None:
    result, done = without_metadata(content, kind)
    assert done or result == content
