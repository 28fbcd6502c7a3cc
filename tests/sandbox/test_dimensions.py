from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.catalog.spec import ModelSpec, load_models, unknown_model
from evolink_mcp.sandbox.dimensions import picture_size, picture_type
from evolink_mcp.sandbox.drawing.draw import draw_picture
from evolink_mcp.sandbox.drawing.files import PictureType, as_type, white_where_clear

MODELS = {**load_models(), "brand-new": unknown_model("brand-new")}


def asked(name: str, **fields: object) -> tuple[ImageRequest, ModelSpec]:
    return ImageRequest(model=name, **fields), MODELS[name]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "fields", "pixels"),
    [
        ("gpt-4o-image", {}, (1024, 1024)),
        ("gpt-4o-image", {"size": "1:1"}, (1024, 1024)),
        ("gpt-4o-image", {"size": "2:3"}, (1024, 1536)),
        ("gpt-4o-image", {"size": "3:2"}, (1536, 1024)),
        ("gpt-4o-image", {"size": "1536x1024"}, (1536, 1024)),
        ("gpt-image-2", {"size": "auto"}, (1024, 1024)),
        ("gpt-image-2", {"size": "3:2", "resolution": "2K"}, (2512, 1680)),
        ("gpt-image-2", {"size": "2:3", "quality": "high"}, (1024, 1536)),
        ("gemini-3-pro-image-preview", {}, (2048, 2048)),
        ("gemini-3.1-flash-image-preview", {"size": "1:1", "quality": "0.5K"}, (512, 512)),
        ("mj-v8.2", {"quality": "hd"}, (2048, 2048)),
        ("z-image-turbo", {"size": "1:2"}, (720, 1456)),
        ("brand-new", {"size": "wide"}, (1024, 1024)),
        ("brand-new", {"size": "7:0"}, (1024, 1024)),
    ],
)
def test_a_picture_has_the_size_that_was_asked_for(
    name: str, fields: dict[str, object], pixels: tuple[int, int]
) -> None:
    assert picture_size(*asked(name, **fields)) == pixels


@pytest.mark.parametrize("name", load_models())
def test_every_word_of_every_model_is_a_size(name: str) -> None:
    rule = MODELS[name].size
    for word in rule.values if rule else ():
        width, height = picture_size(*asked(name, size=word))
        assert 16 <= min(width, height) <= max(width, height) <= 16_384
        wide, _, high = word.partition(":")
        assert not high or width / height == pytest.approx(float(wide) / float(high), rel=0.05)


@pytest.mark.parametrize(
    ("name", "fields", "form"),
    [
        ("gpt-4o-image", {}, "png"),
        ("gpt-image-2", {}, "png"),
        ("gpt-image-2", {"params": {"output_format": "webp"}}, "webp"),
        ("doubao-seedream-5.0-pro", {}, "jpeg"),
        ("doubao-seedream-5.0-lite", {"model_params": {"output_format": "png"}}, "png"),
        ("brand-new", {"params": {"output_format": "avif"}}, "png"),
    ],
)
def test_a_picture_has_the_type_that_was_asked_for(
    name: str, fields: dict[str, object], form: str
) -> None:
    assert picture_type(*asked(name, **fields)) == form


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_a_large_picture_is_as_large_as_it_is_said(form: PictureType) -> None:
    content = as_type(draw_picture("a fox", width=3840, height=2160), form)
    with Image.open(BytesIO(content)) as image:
        assert (image.format, image.size) == (form.upper(), (3840, 2160))


def test_a_mask_with_transparency_is_drawn_anew_where_it_is_clear() -> None:
    file = BytesIO()
    half = Image.new("RGBA", (64, 64), (255, 255, 255, 255))
    half.paste((255, 255, 255, 254), (0, 0, 32, 64))
    half.save(file, "PNG")
    with Image.open(BytesIO(white_where_clear(file.getvalue()))) as mask:
        assert (mask.getpixel((10, 20)), mask.getpixel((48, 20))) == (255, 0)
