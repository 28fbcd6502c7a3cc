from __future__ import annotations

import random
import zlib
from contextlib import nullcontext, suppress
from io import BytesIO

import pillow_heif
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from evolink_mcp.errors import InvalidRequest, Problem
from evolink_mcp.jobs import frames
from evolink_mcp.jobs.convert import (
    MAX_UPLOAD_BYTES,
    Fitted,
    Kind,
    Limits,
    check_mask_fits,
    fit,
)
from tests.jobs.test_pictures import png_of

WEB = Limits(formats=("jpeg", "jpg", "png", "webp"), max_bytes=10_000_000)
PNG = Limits(formats=("png",), max_bytes=4_000_000)
SECRET = b"where-it-was-taken"
COLOURS = b"a profile, which nobody reads" * 8


def written(image: Image.Image, kind: str, **how: object) -> bytes:
    stream = BytesIO()
    if kind == "HEIC":
        pillow_heif.from_pillow(image).save(stream, **how)  # pyright: ignore[reportUnknownMemberType]
    else:
        image.save(stream, kind, **how)
    return stream.getvalue()


def plain(kind: str, size: tuple[int, int] = (48, 32), *, mode: str = "RGB") -> bytes:
    return written(Image.new("RGB", size, "teal").convert(mode), kind)


def noise(size: tuple[int, int], *, alpha: bool = False) -> Image.Image:
    """Make the picture that is hardest to keep small."""
    mode, channels = ("RGBA", 4) if alpha else ("RGB", 3)
    content = random.Random(1).randbytes(size[0] * size[1] * channels)  # noqa: S311 - the same noise again
    return Image.frombytes(mode, size, content)


def clear(size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Make a picture whose left half is transparent."""
    image = Image.new("RGBA", size, (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (size[0] // 2, 0, *size))
    return image


def read(fitted: Fitted) -> Image.Image:
    with Image.open(BytesIO(fitted.content)) as image:
        image.load()
    assert f"image/{str(image.format).lower()}" == fitted.media_type
    assert image.size == (fitted.width, fitted.height)
    return image


def problem_of(content: bytes, rule: Limits, *, kind: Kind = "reference") -> Problem:
    with pytest.raises(InvalidRequest) as refused:
        fit(content, rule, kind=kind, field="image_urls[1]")
    (problem,) = refused.value.problems
    assert problem.field == "image_urls[1]"
    return problem


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_what_fits_and_tells_nothing_is_not_touched(kind: str) -> None:
    content = plain(kind)
    fitted = fit(content, WEB)
    assert fitted == Fitted(
        content=content, media_type=f"image/{kind.lower()}", width=48, height=32
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_without_stated_limits_whatever_can_be_uploaded_fits(kind: str) -> None:
    content = written(Image.new("RGB", (48, 32)), kind, **MOVING if kind != "JPEG" else {})
    assert fit(content, Limits()).content == content


MOVING = {"save_all": True, "append_images": [Image.new("RGB", (48, 32), "red")]}


@pytest.mark.parametrize(
    ("content", "rule", "media_type", "changes"),
    [
        (plain("BMP"), WEB, "png", ("converted from BMP to PNG",)),
        (plain("TIFF"), WEB, "png", ("converted from TIFF to PNG",)),
        (plain("GIF"), WEB, "png", ("converted from GIF to PNG",)),
        (plain("HEIC"), WEB, "jpeg", ("converted from HEIC to JPEG",)),
        (plain("AVIF"), WEB, "jpeg", ("converted from AVIF to JPEG",)),
        (written(clear(), "HEIC"), WEB, "png", ("converted from HEIC to PNG",)),
        (written(clear(), "AVIF"), WEB, "png", ("converted from AVIF to PNG",)),
        (written(clear(), "TIFF"), WEB, "png", ("converted from TIFF to PNG",)),
        (plain("WEBP"), Limits(formats=("png", "jpg")), "jpeg", ("converted from WEBP to JPEG",)),
        (plain("JPEG"), PNG, "png", ("converted from JPEG to PNG",)),
        (plain("HEIC"), PNG, "png", ("converted from HEIC to PNG",)),
        (plain("PNG"), Limits(formats=("jpg",)), "jpeg", ("converted from PNG to JPEG",)),
        (
            written(Image.new("RGBA", (48, 32), "teal"), "PNG"),
            Limits(formats=("jpg",)),
            "jpeg",
            ("converted from PNG to JPEG",),
        ),
        # What EvoLink may take and the Files API does not.
        (plain("BMP"), Limits(formats=("bmp", "png")), "png", ("converted from BMP to PNG",)),
        (plain("HEIC"), Limits(formats=("heif", "jpeg")), "jpeg", ("converted from HEIC to JPEG",)),
        *(
            (
                written(Image.new("RGB", (48, 32)), kind, **MOVING),
                Limits(formats=("jpeg",)) if kind != "TIFF" else WEB,
                "jpeg" if kind != "TIFF" else "png",
                (
                    "only the first of its frames is used",
                    f"converted from {kind} to {'JPEG' if kind != 'TIFF' else 'PNG'}",
                ),
            )
            for kind in ("GIF", "WEBP", "PNG", "TIFF", "AVIF")
        ),
    ],
)
def test_a_type_that_is_not_taken_is_converted_and_said_so(
    content: bytes, rule: Limits, media_type: str, changes: tuple[str, ...]
) -> None:
    fitted = fit(content, rule)
    assert (fitted.media_type, fitted.changes) == (f"image/{media_type}", changes)
    assert read(fitted).size == (48, 32)


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "GIF", "PNG"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_a_conversion_from_a_lossless_type_loses_no_pixel(kind: str, mode: str) -> None:
    image = clear().convert(mode)
    content = written(image, kind)
    fitted = fit(content, WEB)
    with Image.open(BytesIO(content)) as before:
        expected = before.convert("RGBA")
    assert read(fitted).convert("RGBA").tobytes() == expected.tobytes()


def test_sixteen_bits_of_grey_become_eight_of_the_same_grey() -> None:
    image = Image.new("I;16", (48, 32), 0x8000)
    fitted = fit(written(image, "TIFF"), WEB)
    assert read(fitted).getpixel((0, 0)) == 0x80


@pytest.mark.parametrize("mode", ["I", "F"])
def test_measurements_are_no_pictures(mode: str) -> None:
    problem = problem_of(written(Image.new(mode, (48, 32)), "TIFF"), WEB)
    assert "more levels than other types can hold" in problem.rule


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB"])
def test_other_colour_spaces_become_rgb(mode: str) -> None:
    image = Image.new(mode, (48, 32))
    content = written(image, "TIFF", icc_profile=COLOURS)
    result = read(fit(content, WEB))
    assert (result.mode, result.info.get("icc_profile")) == ("RGB", None)


@pytest.mark.parametrize("kind", ["TIFF", "HEIC"])
def test_the_meaning_of_colours_is_kept(kind: str) -> None:
    image = Image.new("RGB", (48, 32), "teal")
    image.info["icc_profile"] = COLOURS
    content = written(image, kind, icc_profile=COLOURS)
    assert read(fit(content, WEB)).info["icc_profile"] == COLOURS


def photo(kind: str, *, orientation: int = 6) -> bytes:
    """Make a photo with everything that tells of its maker."""
    image = Image.new("RGB", (48, 32), "teal")
    image.paste("red", (0, 0, 24, 32))
    exif = image.getexif()
    exif[0x0112], exif[0x010F] = orientation, SECRET.decode()
    exif.get_ifd(0x8825)[29] = SECRET.decode()
    told = PngInfo()
    told.add_text("Comment", SECRET.decode())
    how: dict[str, object] = {"exif": exif.tobytes()}
    if kind in {"JPEG", "GIF"}:
        how |= {"comment": SECRET, "xmp": SECRET}
    elif kind == "PNG":
        how |= {"pnginfo": told}
    content = written(image, kind, **how)
    assert SECRET in content
    return content


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("target", ["jpeg", "png"])
def test_a_picture_is_turned_upright_and_tells_nothing_but_itself(kind: str, target: str) -> None:
    limits = Limits(formats=(target,), max_side=40)
    fitted = fit(photo(kind), limits)
    assert SECRET not in fitted.content
    image = read(fitted)
    assert not image.getexif()
    assert image.size == (26, 40)
    red, _, blue = image.convert("RGB").getpixel((13, 5))  # type: ignore[misc]
    assert red > 200 > blue
    before = "32x48" if kind == "TIFF" else "48x32"  # which Pillow turns by itself
    assert f"reduced from {before} to 26x40 pixels" in fitted.changes


def test_a_photo_of_a_phone_is_turned_upright_and_tells_nothing_but_itself() -> None:
    image = Image.new("RGB", (64, 48), "teal")
    exif = image.getexif()
    exif[0x0112], exif[0x010F] = 6, SECRET.decode()
    content = written(image, "HEIC", exif=exif.tobytes())
    assert SECRET in content
    fitted = fit(content, WEB)
    assert SECRET not in fitted.content
    assert (fitted.width, fitted.height) in {(48, 64), (64, 48)}
    assert not read(fitted).getexif()


REMOVED = "metadata such as place and camera removed"


def pixels(content: bytes) -> bytes:
    with Image.open(BytesIO(content)) as image:
        return image.convert("RGBA").tobytes()


@pytest.mark.parametrize("role", ["reference", "mask"])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_what_fits_is_sent_as_it_is_but_tells_nothing_but_itself(
    kind: str, orientation: int, role: Kind
) -> None:
    content = photo(kind, orientation=orientation)
    fitted = fit(content, Limits(), kind=role)
    assert SECRET not in fitted.content
    assert fitted.changes == (REMOVED,)
    assert pixels(fitted.content) == pixels(content)
    kept = {} if orientation == 1 or kind == "GIF" else {0x0112: orientation}
    assert dict(read(fitted).getexif()) == kept
    assert fit(fitted.content, Limits(), kind=role).changes == ()


def test_what_is_left_out_after_a_picture_and_in_it_is_both_said() -> None:
    fitted = fit(photo("JPEG") + SECRET, WEB)
    assert SECRET not in fitted.content
    left_out = f"left out {len(SECRET)} bytes after the end of the picture"
    assert fitted.changes == (left_out, REMOVED)


def test_a_picture_that_is_too_large_by_its_metadata_alone_keeps_its_pixels() -> None:
    content = written(Image.new("RGB", (48, 32), "teal"), "JPEG", comment=bytes(9000))
    fitted = fit(content, Limits(max_bytes=9000))
    assert fitted.changes == (REMOVED,)
    assert fitted.content == plain("JPEG")


def test_a_picture_that_is_built_in_an_unknown_way_is_written_anew() -> None:
    odd = b"\x00\x00\x00\x12CgBI" + SECRET + zlib.crc32(b"CgBI" + SECRET).to_bytes(4, "big")
    content = plain("PNG")
    fitted = fit(content[:33] + odd + content[33:], WEB)
    assert SECRET not in fitted.content
    assert fitted.changes == ("saved anew as PNG, without its metadata",)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_what_lies_after_a_picture_is_left_out(kind: str) -> None:
    content = plain(kind)
    fitted = fit(content + SECRET, Limits())
    assert fitted.content == content
    assert fitted.changes == (f"left out {len(SECRET)} bytes after the end of the picture",)


def test_the_second_picture_of_a_photo_is_left_out() -> None:
    content = written(Image.new("RGB", (48, 32)), "MPO", **MOVING)
    fitted = fit(content, WEB)
    assert fitted.content == written(Image.new("RGB", (48, 32)), "JPEG")
    assert len(fitted.changes) == 2
    assert fitted.changes[1] == REMOVED  # a table of both pictures
    reduced = fit(content, Limits(max_side=20))
    assert reduced.changes == ("reduced from 48x32 to 20x13 pixels",)


def test_a_picture_whose_end_is_not_found_is_written_anew() -> None:
    content = plain("PNG")[:-12] + SECRET  # no end, and Pillow does not mind
    fitted = fit(content, WEB)
    assert SECRET not in fitted.content
    assert fitted.changes == ("saved anew as PNG, without its metadata",)


@pytest.mark.parametrize(
    ("limits", "size"),
    [
        (Limits(max_side=60), (60, 40)),
        (Limits(max_side=119), (119, 79)),
        (Limits(max_pixels=2400), (60, 40)),
        (Limits(max_side=100, max_pixels=150), (15, 10)),
        (Limits(max_side=61, ratio_max=1.5), (60, 40)),
        (Limits(max_side=60, min_side=40, min_pixels=2400), (60, 40)),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
def test_too_many_pixels_are_reduced_in_shape(
    limits: Limits, size: tuple[int, int], kind: str
) -> None:
    fitted = fit(plain(kind, (120, 80)), limits)
    assert read(fitted).size == size
    assert f"reduced from 120x80 to {size[0]}x{size[1]} pixels" in fitted.changes
    again = fit(fitted.content, limits)
    assert again.content == fitted.content


@pytest.mark.parametrize(
    ("image", "kind", "media_type"),
    [
        (noise((300, 200)), "JPEG", "image/jpeg"),
        (noise((300, 200)), "PNG", "image/jpeg"),
        (noise((300, 200)), "BMP", "image/jpeg"),
        (noise((300, 200), alpha=True), "PNG", "image/png"),
        (noise((300, 200), alpha=True), "TIFF", "image/png"),
    ],
)
def test_too_many_bytes_are_reduced(image: Image.Image, kind: str, media_type: str) -> None:
    limits = Limits(formats=("png", "jpeg"), max_bytes=20_000)
    fitted = fit(written(image, kind), limits)
    assert fitted.media_type == media_type
    assert 8_000 < len(fitted.content) <= 20_000
    assert fitted.width / fitted.height == pytest.approx(1.5, abs=0.05)
    assert read(fitted).size != (300, 200)


def test_an_opaque_png_becomes_a_jpeg_before_it_loses_pixels() -> None:
    content = written(noise((300, 200)), "PNG")
    fitted = fit(content, Limits(max_bytes=len(content) - 1))
    assert (fitted.media_type, fitted.width) == ("image/jpeg", 300)
    assert fitted.changes == ("converted from PNG to JPEG",)


def test_a_badly_packed_png_keeps_its_pixels() -> None:
    content = written(Image.new("RGB", (300, 200), "teal"), "PNG", compress_level=0)
    fitted = fit(content, Limits(max_bytes=20_000))
    assert fitted.changes == ("saved anew as PNG, without its metadata",)
    assert read(fitted).size == (300, 200)


def test_a_jpeg_keeps_all_of_its_colours() -> None:
    fitted = fit(plain("HEIC", (64, 64)), WEB)
    assert [sampling[1:3] for sampling in read(fitted).layer] == [(1, 1)] * 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("size", "limits", "rule", "allowed"),
    [
        ((48, 32), Limits(min_side=33), "is 48x32 pixels", "at least 33 pixels on each side"),
        (
            (48, 32),
            Limits(min_pixels=2000),
            "is 48x32 pixels",
            "at least 2000 pixels (width times height)",
        ),
        (
            (49, 16),
            Limits(ratio_max=3.0),
            "is 49x16 pixels",
            "at most 3 times as long on one side as on the other",
        ),
        (
            (1, 4),
            Limits(max_pixels=1),
            "is 1x2 pixels",
            "at most 1 pixels (width times height)",
        ),
        (
            (400, 100),
            Limits(max_side=100, min_side=50),
            "would be 100x25 pixels when it is reduced",
            "at least 50 pixels on each side",
        ),
    ],
)
def test_nothing_is_enlarged_or_cut(
    size: tuple[int, int], limits: Limits, rule: str, allowed: str
) -> None:
    problem = problem_of(plain("PNG", size), limits)
    assert (problem.rule, problem.allowed) == (rule, allowed)


def test_a_limit_that_no_picture_can_keep_is_said() -> None:
    problem = problem_of(plain("PNG"), Limits(max_bytes=10))
    assert problem.rule == "is too large, also when it is reduced"
    assert problem.allowed == "at most 10 bytes"


@pytest.mark.parametrize(
    ("content", "formats", "rule", "allowed"),
    [
        (
            written(clear(), "PNG"),
            ("jpg",),
            "is a PNG with transparency, which cannot be converted",
            "a picture of type jpeg, or one that can be converted to it",
        ),
        (
            plain("JPEG"),
            ("webp",),
            "is a JPEG, which cannot be converted",
            "a picture of type webp, or one that can be converted to it",
        ),
        (
            plain("TIFF"),
            ("tiff",),
            "is a TIFF, which cannot be converted",
            "a picture of type tiff, or one that can be converted to it",
        ),
    ],
)
def test_what_cannot_be_converted_is_refused(
    content: bytes, formats: tuple[str, ...], rule: str, allowed: str
) -> None:
    problem = problem_of(content, Limits(formats=formats))
    assert (problem.rule, problem.allowed) == (rule, allowed)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about what it finds broken
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "its type is unknown"),
        (b"API_KEY=sk-000000", "its type is unknown"),
        (b"<!doctype html>", "its type is html"),
        (b'<?xml version="1.0"?><svg/>', "its type is html"),
        (b"%PDF-1.7", "its type is pdf"),
        (b"PK\x03\x04", "its type is unknown"),
        (plain("PNG")[:60], "it is cut off or broken"),
        (b"\x89PNG\r\n\x1a\nwords", "it is cut off or broken"),
        (b"\xff\xd8\xffwords", "it is cut off or broken"),
        (b"BMwords" * 20, "it is cut off or broken"),
        (b"II*\x00words" * 20, "it is cut off or broken"),
        (b"\x00\x00\x00\x18ftypheicwords" * 20, "it is cut off or broken"),
        (b"\x00\x00\x00\x18ftypavifwords" * 20, "it is cut off or broken"),
        (plain("HEIC", (64, 64))[:-40], "it is cut off or broken"),
        (plain("AVIF", (64, 64))[:-40], "it is cut off or broken"),
        (png_of(48, 32), "it is cut off or broken"),
        (png_of(20_000, 20_000), "it has more than 80000000 pixels"),
        (png_of(9000, 9000), "it has 81000000 pixels, at most 80000000 can be read"),
        (b"GIF89a" + bytes(7) + b";", "it is cut off or broken"),
    ],
)
def test_what_is_no_whole_picture_is_refused(content: bytes, reason: str) -> None:
    problem = problem_of(content, WEB)
    assert problem.rule == f"is no picture that can be used: {reason}"
    assert problem.allowed == (
        "a picture of type jpeg, png or webp, or one that can be converted to it"
    )


def test_an_avif_that_begins_as_a_general_container_is_read() -> None:
    content = plain("AVIF")
    assert content[4:12] == b"ftypavif"
    general = content[:8] + b"mif1" + content[12:]
    assert b"avif" in general[16:32]
    assert fit(general, WEB).changes == ("converted from AVIF to JPEG",)


@pytest.mark.parametrize("image", [clear(), clear().convert("LA"), Image.new("RGBA", (48, 32))])
def test_a_mask_that_fits_is_not_touched(image: Image.Image) -> None:
    content = written(image, "PNG")
    assert fit(content, PNG, kind="mask").content == content


@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "GIF", "BMP", "JPEG", "HEIC"])
def test_a_mask_is_converted_to_png_and_keeps_every_pixel(kind: str) -> None:
    size = (64, 64)
    image = clear(size) if kind in {"TIFF", "GIF"} else clear(size).convert("RGB")
    how = {"lossless": True} if kind == "WEBP" else {}
    content = written(image, kind, **how)
    fitted = fit(content, PNG, kind="mask")
    assert fitted.changes == (f"converted from {kind} to PNG",)
    if kind not in {"JPEG", "HEIC"}:
        assert read(fitted).convert("RGBA").tobytes() == image.convert("RGBA").tobytes()


@pytest.mark.parametrize(
    ("content", "limits", "rule", "allowed"),
    [
        (
            plain("PNG", (96, 64)),
            Limits(formats=("png",), max_side=80),
            "is 96x64 pixels",
            "at most 80 pixels on each side",
        ),
        (
            plain("BMP", (96, 64)),
            Limits(formats=("png",), max_pixels=6000),
            "is 96x64 pixels",
            "at most 6000 pixels (width times height)",
        ),
        (
            plain("PNG"),
            Limits(formats=("png",), max_bytes=10),
            f"has {len(fit(plain('PNG'), WEB).content)} bytes",
            "at most 10 bytes",
        ),
        (
            plain("BMP"),
            Limits(formats=("jpeg",)),
            "is a BMP, and masks are kept as PNG",
            "a picture of type jpeg, or one that can be converted to it",
        ),
        (
            plain("PNG"),
            Limits(formats=("png",), alpha=True),
            "has no transparency",
            "a picture with an alpha channel",
        ),
    ],
)
def test_a_mask_is_never_reduced(content: bytes, limits: Limits, rule: str, allowed: str) -> None:
    problem = problem_of(content, limits, kind="mask")
    assert (problem.rule, problem.allowed) == (rule, allowed)


def test_a_mask_keeps_an_alpha_channel_that_shows_nowhere() -> None:
    content = written(Image.new("RGBA", (48, 32), "teal"), "TIFF")
    fitted = fit(content, Limits(formats=("png",), alpha=True), kind="mask")
    assert read(fitted).mode == "RGBA"


def test_a_mask_and_its_image_have_the_same_size() -> None:
    assert check_mask_fits((512, 512), (512, 512)) is None
    assert str(check_mask_fits((512, 512), (1024, 1024))) == (
        "mask_url: is 512x512 pixels, and the reference image is 1024x1024; "
        "allowed: a mask of the same size as its reference image."
    )
    problem = check_mask_fits((9, 9), (8, 8), changes=("reduced from 9x9 to 8x8 pixels",))
    assert problem is not None
    assert problem.rule == (
        "is 9x9 pixels, and the reference image is 8x8 (reduced from 9x9 to 8x8 pixels)"
    )


@pytest.mark.parametrize(
    ("limits", "media_type", "taken"),
    [
        (WEB, "image/png", True),
        (WEB, "image/gif", False),
        (WEB, "", False),
        (Limits(), "image/gif", True),
        (Limits(max_side=47), "image/png", False),
        (Limits(min_side=33), "image/png", False),
        (Limits(max_bytes=999), "image/png", False),
        (Limits(alpha=True), "image/png", False),
    ],
)
def test_limits_tell_what_fits_as_it_is(limits: Limits, media_type: str, *, taken: bool) -> None:
    assert limits.take(media_type=media_type, width=48, height=32, size=1000) is taken


def test_nothing_larger_than_the_files_api_takes_is_allowed() -> None:
    assert Limits().most_bytes == MAX_UPLOAD_BYTES
    assert Limits(max_bytes=200_000_000).most_bytes == MAX_UPLOAD_BYTES
    assert Limits(max_bytes=5).most_bytes == 5


SAMPLES = [plain(kind, (64, 64)) for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")] + [
    plain("HEIC", (64, 64)),
    plain("AVIF", (64, 64)),
]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about what it finds broken
@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SAMPLES) - 1), st.integers(0, 2000), st.binary(min_size=1, max_size=20))
@example(0, 0, b"no picture")
@example(5, 1000, b"other pixels")
def test_broken_bytes_are_refused_or_read(which: int, at: int, change: bytes) -> None:
    content = SAMPLES[which]
    at %= len(content)
    broken = content[:at] + change + content[at + len(change) :]
    try:
        fitted = fit(broken, Limits(formats=("png", "jpeg"), max_side=4096))
    except InvalidRequest:
        return
    assert fitted.width > 0


@settings(max_examples=100, deadline=None)
@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    max_side=st.none() | st.integers(1, 300),
    max_pixels=st.none() | st.integers(1, 40_000),
    max_bytes=st.none() | st.integers(200, 20_000),
    ratio=st.none() | st.floats(1.0, 4.0),
)
def test_whatever_comes_out_keeps_the_limits(
    width: int,
    height: int,
    max_side: int | None,
    max_pixels: int | None,
    max_bytes: int | None,
    ratio: float | None,
) -> None:
    limits = Limits(
        formats=("png", "jpeg"),
        max_side=max_side,
        max_pixels=max_pixels,
        max_bytes=max_bytes,
        ratio_max=ratio,
    )
    thin = max_pixels is not None and max_pixels < max(width, height) / min(width, height)
    may_be_refused = ratio or max_bytes or thin
    with suppress(InvalidRequest) if may_be_refused else nullcontext():
        fitted = fit(plain("BMP", (width, height)), limits)
        assert read(fitted).size == (fitted.width, fitted.height)
        assert limits.take(
            media_type=fitted.media_type,
            width=fitted.width,
            height=fitted.height,
            size=len(fitted.content),
        )


def test_a_reader_of_heif_pictures_is_loaded_only_for_them() -> None:
    assert not hasattr(frames, "pillow_heif")
    assert not hasattr(frames, "Image")
