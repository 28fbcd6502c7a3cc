"""What marks a picture as the sandbox's: the badge, and a band that quotes the prompt."""

from __future__ import annotations

import unicodedata
from typing import Final

from PIL import Image, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

from evolink_mcp.sandbox.drawing.scene import PAPER
from evolink_mcp.sandbox.drawing.shapes import INK

BADGE: Final = "SANDBOX"
BADGE_ALPHA: Final = 150
BAND_ALPHA: Final = 236
CAPTION_LINES: Final = 2
# Two lines never hold more than this, and a prompt may be tens of thousands of characters long.
CAPTION_CHARACTERS: Final = 600
TEXT_SHARE: Final = 0.028
SMALLEST_TEXT: Final = 8
ELLIPSIS: Final = "…"
DASHES: Final = str.maketrans("\u2010\u2011\u2012\u2013\u2014\u2212", "------")
NO_GLYPH: Final = "\uffff"


def add_marks(image: Image.Image, prompt: str) -> None:
    """Draw the caption band, unless nothing of the prompt can be written, and the badge."""
    pen = ImageDraw.Draw(image, "RGBA")
    font = _font(max(SMALLEST_TEXT, round(min(image.size) * TEXT_SHARE)))
    text = written(prompt, font)
    if text:
        _draw_band(
            pen, image.size, lines=_lines(text, font, room=image.width - 2 * font.size), font=font
        )
    _draw_badge(pen, image.size)


def written(prompt: str, font: FreeTypeFont) -> str:
    """Return as much of the first 600 characters of `prompt` as `font` can show, on one line."""
    # The built-in font has no accented letters, so that the bare letter has to stand for them.
    bare = unicodedata.normalize("NFKD", prompt[:CAPTION_CHARACTERS]).translate(DASHES)
    spaced = "".join(" " if _is_break(character) else character for character in bare)
    missing = _drawn(NO_GLYPH, font)
    known = {c for c in set(spaced) if c == " " or _has_glyph(c, font, missing=missing)}
    return " ".join("".join(c for c in spaced if c in known).split())


def _is_break(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) == "Cc"


def _has_glyph(character: str, font: FreeTypeFont, *, missing: bytes) -> bool:
    # Surrogates cannot be encoded for the font at all; formats, marks and the unassigned are
    # invisible or boxes when they stand alone.
    if unicodedata.category(character)[0] in "CM":
        return False
    drawn = _drawn(character, font)
    return any(drawn) and drawn != missing


def _drawn(character: str, font: FreeTypeFont) -> bytes:
    side = int(2 * font.size)
    image = Image.new("L", (side, side))
    ImageDraw.Draw(image).text((0, 0), character, font=font, fill=255)
    return image.tobytes()


def _font(size: int) -> FreeTypeFont:
    font = ImageFont.load_default(size)
    if isinstance(font, ImageFont.FreeTypeFont):
        return font
    message = "Pillow was built without FreeType, which the sandbox needs for its captions"
    raise RuntimeError(message)


def _lines(text: str, font: FreeTypeFont, *, room: float) -> list[str]:
    """Break `text` into at most two lines of `room` pixels; the last one may end in an ellipsis."""
    lines: list[str] = []
    while text and len(lines) < CAPTION_LINES:
        count = _fitting(text, font, room=room)
        space = text.rfind(" ", 0, count + 1)
        if count < len(text) and space > 0:
            count = space
        lines.append(text[:count])
        text = text[count:].lstrip()
    if text:
        lines[-1] = _shortened(f"{lines[-1]} {text}", font, room=room)
    return lines


def _shortened(text: str, font: FreeTypeFont, *, room: float) -> str:
    count = _fitting(text, font, room=room - font.getlength(ELLIPSIS))
    return text[:count].rstrip(" ,;:.") + ELLIPSIS


def _fitting(text: str, font: FreeTypeFont, *, room: float) -> int:
    """Return how many leading characters of `text` fit in `room` pixels, at least one."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle]) <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _draw_band(
    pen: ImageDraw.ImageDraw, size: tuple[int, int], *, lines: list[str], font: FreeTypeFont
) -> None:
    width, height = size
    leading = font.size * 1.3
    band = len(lines) * leading + font.size * 0.9
    pen.rectangle((0, height - band, width, height), fill=(*PAPER, BAND_ALPHA))
    for row, line in enumerate(lines):
        middle = height - band + font.size * 0.45 + (row + 0.5) * leading
        pen.text((width / 2, middle), line, fill=INK, font=font, anchor="mm")


def _draw_badge(pen: ImageDraw.ImageDraw, size: tuple[int, int]) -> None:
    text = max(SMALLEST_TEXT, round(min(size) * 0.024))
    font = _font(text)
    across, down = font.getlength(BADGE) + text * 1.5, text * 1.9
    right, top = size[0] - text, text
    box = (right - across, top, right, top + down)
    pen.rounded_rectangle(box, down / 2, fill=(*INK, BADGE_ALPHA))
    pen.text((right - across / 2, top + down / 2), BADGE, fill=PAPER, font=font, anchor="mm")
