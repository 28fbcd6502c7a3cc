"""The sandbox's pictures: what a prompt, references and a mask show, and cannot break."""

from __future__ import annotations

import random
from collections.abc import Callable
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont, ImageStat

from evolink_mcp.sandbox.drawing import caption
from evolink_mcp.sandbox.drawing.caption import written
from evolink_mcp.sandbox.drawing.draw import draw_picture
from evolink_mcp.sandbox.drawing.scene import read_scene
from evolink_mcp.sandbox.drawing.subjects import SUBJECTS
from evolink_mcp.sandbox.drawing.words import ACTORS, HOURS, SETTINGS, WEATHERS

pytestmark = pytest.mark.usefixtures("smooth_pictures")

SMALL = (96, 64)
MIDDLE = (192, 160)
GREEN = (0, 255, 0)


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    file = BytesIO()
    image.save(file, form)
    return file.getvalue()


def plain(colour: tuple[int, int, int], size: tuple[int, int] = SMALL, form: str = "PNG") -> bytes:
    return encoded(Image.new("RGB", size, colour), form)


def drawn(
    prompt: str,
    size: tuple[int, int] = SMALL,
    *,
    index: int = 0,
    references: tuple[bytes, ...] = (),
    mask: bytes | None = None,
) -> bytes:
    width, height = size
    return draw_picture(
        prompt, width=width, height=height, index=index, references=references, mask=mask
    )


def opened(content: bytes) -> Image.Image:
    return Image.open(BytesIO(content)).convert("RGB")


def mean(image: Image.Image, box: tuple[int, int, int, int]) -> tuple[float, float, float]:
    red, green, blue = ImageStat.Stat(image.crop(box)).mean
    return red, green, blue


def count(image: Image.Image, wanted: Callable[[int, int, int], bool]) -> int:
    pixels = image.tobytes()
    return sum(map(wanted, pixels[::3], pixels[1::3], pixels[2::3]))


def is_red(red: int, green: int, blue: int) -> bool:
    return red > 150 and green < 100 and blue < 100


def is_green(red: int, green: int, blue: int) -> bool:
    return green > red + 60 and green > blue + 60


def left_half_white(size: tuple[int, int]) -> bytes:
    mask = Image.new("L", size, 0)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    return encoded(mask)


def default_font(size: int = 16) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


@pytest.mark.parametrize("size", [(1024, 1024), (1024, 1536), (1536, 1024)])
def test_a_picture_is_a_sound_png_of_exactly_the_size_asked_for(size: tuple[int, int]) -> None:
    content = drawn("a red fox in the snow", size)
    with Image.open(BytesIO(content)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", size)
        image.verify()
    assert len(content) < 700_000


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert drawn("a quiet lake", index=2) == drawn("a quiet lake", index=2)


def test_each_index_gives_another_picture() -> None:
    assert len({drawn("a quiet lake", index=index) for index in range(4)}) == 4


def test_another_index_moves_more_than_a_few_pixels() -> None:
    first, second = (opened(drawn("a red fox", MIDDLE, index=index)).tobytes() for index in (0, 1))
    changed = sum(abs(a - b) > 24 for a, b in zip(first, second, strict=True))
    assert changed > len(first) / 10


def test_words_that_mean_nothing_to_the_sandbox_still_change_the_picture() -> None:
    assert drawn("quarterly report") != drawn("quarterly retort")


def test_a_colour_word_colours_the_subject_after_it() -> None:
    red = count(opened(drawn("a red fox at noon", MIDDLE)), is_red)
    blue = count(opened(drawn("a blue fox at noon", MIDDLE)), is_red)
    assert red > 1000
    assert red > 5 * max(blue, 1)


def test_a_colour_word_after_the_only_subject_colours_it_too() -> None:
    assert count(opened(drawn("a fox at noon, painted red", MIDDLE)), is_red) > 1000


def test_a_colour_word_before_the_ground_colours_the_ground() -> None:
    corner = (0, 128, 20, 140)
    red, green, _ = mean(opened(drawn("a boat on a red hill at noon, no sea", MIDDLE)), corner)
    assert red > green + 40


def test_a_colour_without_any_subject_colours_the_ground() -> None:
    scene_of = ("pink at noon", "teal at noon")
    pink, teal = (mean(opened(drawn(prompt, MIDDLE)), (0, 132, 192, 142)) for prompt in scene_of)
    assert pink[0] > teal[0]


def test_snow_lies_white_on_the_ground() -> None:
    red, green, blue = mean(opened(drawn("snow at noon", MIDDLE)), (0, 130, 20, 142))
    assert min(red, green, blue) > 215


def test_the_sky_is_dark_at_night_and_orange_at_sunset() -> None:
    top = (60, 10, 130, 60)
    assert max(mean(opened(drawn("a house at night", MIDDLE)), top)) < 130
    red, _, blue = mean(opened(drawn("a house at sunset", MIDDLE)), top)
    assert red > blue + 50


def test_a_watercolour_leaves_the_edge_of_its_paper_bare() -> None:
    picture = opened(drawn("a watercolour of a blue bird", MIDDLE))
    assert picture.getpixel((1, 60)) == (252, 247, 236)


@pytest.mark.parametrize("word", sorted({*ACTORS, *SETTINGS, *HOURS, *WEATHERS}))
def test_every_known_word_can_be_drawn(word: str) -> None:
    assert opened(drawn(f"one {word} and many {word}s")).size == SMALL


def test_every_named_subject_exists() -> None:
    assert set(ACTORS.values()) == set(SUBJECTS)


@pytest.mark.parametrize("weather", ["snow", "rain", "fog", "a starry day", "winter night"])
def test_weather_changes_a_town(weather: str) -> None:
    assert drawn(f"a town in {weather}") != drawn("a town in peace")


def test_a_crowd_is_cut_to_three_subjects(seeded: random.Random) -> None:
    scene = read_scene("a fox, a cat, a dog, a bird and a fish", seeded)
    assert [actor.name for actor in scene.actors] == ["fox", "cat", "dog"]


def test_a_named_place_goes_before_the_home_of_a_subject(seeded: random.Random) -> None:
    assert read_scene("a boat in the desert", seeded).setting == "desert"


@pytest.fixture
def seeded() -> random.Random:
    return random.Random(7)  # noqa: S311 - it only arranges shapes


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        " \n\t\r\x00\x1b ",
        "\U0001f98a" * 2000,
        "".join(map(chr, range(0x1F300, 0x1F700))),
        "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
        "\u202eabc\u202c \u200d\ufe0f",
        "\u72d0\u72f8\u5728\u96ea\u4e2d",
        "\ud800 fox \udfff",
        "e\u0301\u0301\u0301",
        "x" * 5000,
        "many words " * 3000,
        "!?",
    ],
)
def test_no_prompt_is_too_odd_to_draw(prompt: str) -> None:
    assert opened(drawn(prompt)).size == SMALL


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(), max_size=80))
def test_no_text_at_all_is_too_odd_to_draw(prompt: str) -> None:
    assert opened(drawn(prompt, (48, 32))).size == (48, 32)


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (40, 2), (16, 16)])
@pytest.mark.parametrize("prompt", ["a soft rainy city", "a fish in fog", "a long winter walk"])
def test_no_size_is_too_small_to_draw(size: tuple[int, int], prompt: str) -> None:
    assert opened(drawn(prompt, size, references=(plain(GREEN),) * 2)).size == size


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a fox", "a fox"),
        ("line\none\ttwo\x00three", "line one two three"),
        ("fox \U0001f98a in \u96ea", "fox in"),
        ("caf\u00e9 \u2014 na\u0069\u0308ve", "cafe - naive"),
        ("\u05e9\u05dc\u05d5\u05dd\u200f \ud800\uffff", ""),
    ],
)
def test_the_caption_leaves_out_what_the_font_cannot_show(prompt: str, text: str) -> None:
    assert written(prompt, default_font()) == text


def test_a_picture_without_a_writable_prompt_has_no_caption_band() -> None:
    strip = (0, 61, 96, 64)
    assert min(mean(opened(drawn("night")), strip)) > 200
    assert max(mean(opened(drawn("\U0001f98a\u96ea")), strip)) < 240


def test_a_long_prompt_ends_in_an_ellipsis(monkeypatch: pytest.MonkeyPatch) -> None:
    bands: list[list[str]] = []

    def noted(*_: object, lines: list[str], font: object) -> None:
        assert font
        bands.append(lines)

    monkeypatch.setattr(caption, "_draw_band", noted)
    drawn("a grey dog beside a small house " * 20, MIDDLE)
    drawn("a grey dog", MIDDLE)
    assert len(bands[0]) == 2
    assert bands[0][1].endswith("\u2026")
    assert bands[1] == ["a grey dog"]


def test_a_pillow_without_freetype_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_freetype(_size: float) -> ImageFont.ImageFont:
        return ImageFont.ImageFont()

    monkeypatch.setattr(ImageFont, "load_default", without_freetype)
    with pytest.raises(RuntimeError, match="without FreeType"):
        drawn("a fox")


def test_every_picture_bears_the_badge() -> None:
    dark = count(opened(drawn("", MIDDLE)).crop((140, 6, 186, 26)), lambda r, g, b: r + g + b < 380)
    assert dark > 200


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_reference_is_the_main_part_of_an_edit(form: str) -> None:
    picture = opened(drawn("at sunset", MIDDLE, references=(plain(GREEN, form=form),)))
    red, green, blue = mean(picture, (60, 50, 130, 110))
    assert green > red + 60
    assert green > blue + 60
    assert count(picture, is_green) > picture.width * picture.height * 0.5


def test_a_reference_is_graded_to_the_prompt() -> None:
    day, night = (
        opened(drawn(prompt, MIDDLE, references=(plain(GREEN),))).getpixel((96, 80))
        for prompt in ("at noon", "at night, softly as a watercolour")
    )
    assert day != night
    assert GREEN not in {day, night}


def test_further_references_stand_in_a_row_below() -> None:
    colours = ((200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30))
    others = tuple(map(plain, colours))
    picture = opened(drawn("at noon", MIDDLE, references=(plain(GREEN), *others)))
    row = [picture.getpixel((round(192 * (0.1925 + 0.205 * step)), 124)) for step in range(4)]
    assert row == list(colours)


def test_the_clear_parts_of_a_reference_are_paper() -> None:
    clear = encoded(Image.new("RGBA", SMALL, (0, 0, 0, 0)))
    picture = opened(drawn("at noon", references=(clear,), mask=plain((0, 0, 0))))
    assert picture.getpixel((2, 30)) == (252, 247, 236)


def test_black_in_the_mask_keeps_the_reference_and_white_redraws_it() -> None:
    reference = Image.radial_gradient("L").resize(MIDDLE).convert("RGB")
    content = drawn(
        "a red fox at sunset",
        MIDDLE,
        references=(encoded(reference),),
        mask=left_half_white(MIDDLE),
    )
    picture = opened(content)
    kept, redrawn = (96, 30, 192, 135), (0, 0, 96, 135)
    assert picture.crop(kept).tobytes() == reference.crop(kept).tobytes()
    assert picture.crop(redrawn).tobytes() != reference.crop(redrawn).tobytes()
    unmasked = opened(drawn("a red fox at sunset", MIDDLE))
    assert picture.crop(redrawn).tobytes() == unmasked.crop(redrawn).tobytes()


def test_a_reference_and_mask_of_another_size_are_scaled() -> None:
    picture = opened(
        drawn("at night", MIDDLE, references=(plain(GREEN),), mask=left_half_white(SMALL))
    )
    assert picture.getpixel((150, 80)) == GREEN
    assert picture.getpixel((40, 80)) != GREEN


@pytest.mark.parametrize(("level", "kept"), [(127, True), (128, False)])
def test_a_mask_is_white_from_just_above_the_middle_grey(level: int, *, kept: bool) -> None:
    mask = encoded(Image.new("L", SMALL, level))
    picture = opened(drawn("at night", references=(plain(GREEN),), mask=mask))
    assert (picture.getpixel((10, 30)) == GREEN) is kept


def test_a_mask_without_a_reference_changes_nothing() -> None:
    assert drawn("a fox", mask=plain((255, 255, 255))) == drawn("a fox")


@pytest.mark.parametrize("broken", [b"", b"no image", plain(GREEN)[:60], plain(GREEN, form="GIF")])
def test_an_unreadable_reference_is_named_by_its_number(broken: bytes) -> None:
    with pytest.raises(ValueError, match=r"^reference image 2 cannot be read$"):
        drawn("a fox", references=(plain(GREEN), broken))


def test_an_unreadable_mask_is_named() -> None:
    with pytest.raises(ValueError, match=r"^mask cannot be read$"):
        drawn("a fox", references=(plain(GREEN),), mask=b"no image")
