from __future__ import annotations

import base64
import random
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from evolink_mcp.jobs.preview import BASE64_BUDGET, LONG_SIDE, Preview, reduced, whole
from tests.jobs.test_pictures import png_of
from tests.sandbox.desk import picture


def saved(image: Image.Image, folder: Path, name: str = "1.png") -> Path:
    path = folder / name
    image.save(path)
    return path


def noise(width: int, height: int) -> Image.Image:
    """Make the picture that is hardest to reduce."""
    content = random.Random(1).randbytes(width * height * 3)  # noqa: S311 - the same noise again
    return Image.frombytes("RGB", (width, height), content)


def opened(preview: Preview | None) -> Image.Image:
    assert preview is not None
    with Image.open(BytesIO(base64.b64decode(preview.base64, validate=True))) as image:
        image.load()
        assert f"image/{str(image.format).lower()}" == preview.media_type
        return image


def test_a_picture_is_reduced_to_a_webp_of_the_same_shape(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (1536, 1024), "teal"), tmp_path)
    image = opened(reduced(path, share=BASE64_BUDGET))
    assert (image.format, image.size) == ("WEBP", (LONG_SIDE, 683))


def test_a_small_picture_is_not_enlarged(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (48, 32), "teal"), tmp_path)
    assert opened(reduced(path, share=BASE64_BUDGET)).size == (48, 32)


@pytest.mark.parametrize("pictures", [1, 2, 4])
def test_all_previews_of_an_answer_fit_even_of_noise(tmp_path: Path, pictures: int) -> None:
    path = saved(noise(1536, 1536), tmp_path)
    share = BASE64_BUDGET // pictures
    preview = reduced(path, share=share)
    assert preview is not None
    assert len(preview.base64) <= share
    assert min(opened(preview).size) > 200


@pytest.mark.parametrize("share", [5000, 1000, 300, 150])
def test_a_small_share_makes_a_small_picture(tmp_path: Path, share: int) -> None:
    preview = reduced(saved(noise(300, 200), tmp_path), share=share)
    assert preview is not None
    assert len(preview.base64) <= share


@pytest.mark.parametrize("share", [4, 0, -1])
def test_an_impossible_share_gives_the_smallest_picture(tmp_path: Path, share: int) -> None:
    assert opened(reduced(saved(noise(300, 200), tmp_path), share=share)).size == (1, 1)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 3000)])
@pytest.mark.parametrize("share", [BASE64_BUDGET, 150, 0])
def test_a_picture_of_one_line_is_reduced_too(
    tmp_path: Path, size: tuple[int, int], share: int
) -> None:
    image = opened(reduced(saved(noise(*size), tmp_path), share=share))
    assert max(image.size) <= LONG_SIDE


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_kept(tmp_path: Path, mode: str) -> None:
    source = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    source.paste((0, 0, 255, 255), (0, 0, 32, 64))
    preview = opened(reduced(saved(source.convert(mode), tmp_path), share=BASE64_BUDGET))
    assert preview.mode == "RGBA"
    assert preview.getchannel("A").getextrema() == (0, 255)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "I;16"])
def test_every_kind_of_colour_is_reduced(tmp_path: Path, mode: str) -> None:
    name = "1.jpg" if mode == "CMYK" else "1.png"
    path = saved(Image.new(mode, (64, 64)), tmp_path, name)
    assert opened(reduced(path, share=BASE64_BUDGET)).mode == "RGB"


def test_the_whole_picture_is_shown_where_it_fits(tmp_path: Path) -> None:
    path = tmp_path / "1.jpg"
    path.write_bytes(picture("JPEG"))
    share = -(-len(picture("JPEG")) // 3) * 4
    preview = whole(path, media_type="image/jpeg", share=share)
    assert preview is not None
    assert base64.b64decode(preview.base64) == picture("JPEG")
    assert (preview.media_type, len(preview.base64) <= share) == ("image/jpeg", True)


def test_a_picture_that_does_not_fit_whole_is_reduced(tmp_path: Path) -> None:
    path = saved(noise(600, 600), tmp_path)
    preview = whole(path, media_type="image/png", share=BASE64_BUDGET)
    assert preview is not None
    assert preview.media_type == "image/webp"
    assert len(preview.base64) <= BASE64_BUDGET


@pytest.mark.parametrize(
    ("form", "media_type"),
    [("AVIF", "image/avif"), ("TIFF", "image/tiff"), ("BMP", "image/bmp")],
)
def test_what_hosts_do_not_show_is_shown_as_a_webp(
    tmp_path: Path, form: str, media_type: str
) -> None:
    path = tmp_path / "1"
    path.write_bytes(picture(form))
    for preview in (
        reduced(path, share=BASE64_BUDGET),
        whole(path, media_type=media_type, share=BASE64_BUDGET),
    ):
        assert opened(preview).format == "WEBP"


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<svg/>",
        b"PK\x03\x04",
        EPS,
        picture("PNG")[:60],
        picture("JPEG")[:-2],
        png_of(20_000, 20_000),
        png_of(10_000, 10_000),
    ],
)
def test_what_cannot_be_opened_goes_without_a_preview(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "1.png"
    path.write_bytes(content)
    assert reduced(path, share=BASE64_BUDGET) is None
    assert whole(path, media_type="image/png", share=BASE64_BUDGET) is None


def test_too_many_pixels_are_not_decoded_where_warnings_are_only_told(tmp_path: Path) -> None:
    path = tmp_path / "1.png"
    path.write_bytes(png_of(10_000, 10_000))
    with pytest.warns(Image.DecompressionBombWarning):
        assert reduced(path, share=BASE64_BUDGET) is None


@pytest.mark.parametrize("failure", [MemoryError, RuntimeError])
def test_whatever_a_reader_raises_leaves_the_preview_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    path = saved(noise(8, 8), tmp_path)
    monkeypatch.setattr(Image, "open", fail)
    assert reduced(path, share=BASE64_BUDGET) is None


def test_a_file_that_is_gone_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        reduced(tmp_path / "1.png", share=BASE64_BUDGET)
    with pytest.raises(FileNotFoundError):
        whole(tmp_path / "1.png", media_type="image/png", share=BASE64_BUDGET)
