"""The sandbox's pictures: a scene drawn from the prompt, around or through the references."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from hashlib import sha256
from io import BytesIO
from typing import Final

from PIL import Image, ImageDraw, ImageFilter, ImageOps

from evolink_mcp.sandbox.drawing.caption import add_marks
from evolink_mcp.sandbox.drawing.scene import PAPER, Palette, Scene, mix, read_scene
from evolink_mcp.sandbox.drawing.scenery import paint_scene
from evolink_mcp.sandbox.drawing.shapes import INK

SUPERSAMPLING: Final = 3
PAINTED_SIDE: Final = 1536  # pixels; larger pictures are painted at this size and enlarged
FORMATS: Final = ("PNG", "JPEG", "WEBP")
GRADE: Final = 0.34
MASK_THRESHOLD: Final = 127
UNREADABLE: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)
# Left, top, width and height of the main card; fractions of the picture's width and height.
CARD: Final = (0.09, 0.08, 0.82, 0.74)
CARD_ABOVE_ROW: Final = (0.09, 0.08, 0.82, 0.58)
ROW_TOP: Final = 0.69
ROW_HEIGHT: Final = 0.18
ROW_SLOTS: Final = 4
FRAME: Final = 0.012


def draw_picture(
    prompt: str,
    *,
    width: int,
    height: int,
    index: int = 0,
    references: Sequence[bytes] = (),
    mask: bytes | None = None,
) -> bytes:
    """Return a PNG file that illustrates `prompt`, always the same for the same arguments.

    `width` and `height` are pixels. `index` tells apart the pictures of one prompt. References
    are shown as framed cards in the scene; with a mask, the first one fills the picture and the
    scene shows where the mask is white. A mask without references has nothing to protect and is
    only checked. Raises ValueError naming the reference (from 1), or the mask, that is no PNG,
    JPEG or WebP image.
    """
    shown = [
        _opened(content, f"reference image {number}")
        for number, content in enumerate(references, start=1)
    ]
    region = None if mask is None else _opened(mask, "mask")
    rng = _seeded(prompt, index)
    scene = read_scene(prompt, rng)
    picture = _smooth_scene(scene, width=width, height=height, rng=rng)
    if shown and region is not None:
        picture = _redrawn(shown[0], region=region, picture=picture)
    elif shown:
        _add_cards(picture, shown, scene=scene)
    add_marks(picture, prompt)
    return _png(picture)


def _seeded(prompt: str, index: int) -> random.Random:
    key = f"{index}:{prompt}".encode("utf-8", "surrogatepass")
    return random.Random(sha256(key).digest())  # noqa: S311 - it only arranges shapes


def _opened(content: bytes, name: str) -> Image.Image:
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            upright = ImageOps.exif_transpose(image).convert("RGBA")
    except UNREADABLE as error:
        message = f"{name} cannot be read"
        raise ValueError(message) from error
    paper = Image.new("RGBA", upright.size, PAPER)
    return Image.alpha_composite(paper, upright).convert("RGB")


def _smooth_scene(scene: Scene, *, width: int, height: int, rng: random.Random) -> Image.Image:
    scale = SUPERSAMPLING * min(1.0, PAINTED_SIDE / max(width, height))
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    large = paint_scene(scene, width=across, height=down, rng=rng)
    return large.resize((width, height), Image.Resampling.LANCZOS)


def _redrawn(reference: Image.Image, *, region: Image.Image, picture: Image.Image) -> Image.Image:
    kept = reference.resize(picture.size, Image.Resampling.LANCZOS)
    white = [255 * (level > MASK_THRESHOLD) for level in range(256)]
    stencil = region.convert("L").point(white).resize(picture.size, Image.Resampling.NEAREST)
    return Image.composite(picture, kept, stencil)


def _add_cards(picture: Image.Image, shown: Sequence[Image.Image], *, scene: Scene) -> None:
    main, *others = shown
    place = CARD_ABOVE_ROW if others else CARD
    _add_card(picture, _graded(main, scene), place=place)
    slot = CARD[2] / ROW_SLOTS
    left = (1 - slot * len(others)) / 2
    for step, other in enumerate(others):
        inset = slot * 0.06
        box = (left + step * slot + inset, ROW_TOP, slot - 2 * inset, ROW_HEIGHT)
        _add_card(picture, other, place=box)


def _graded(reference: Image.Image, scene: Scene) -> Image.Image:
    """Return the reference moved towards the palette of the prompt."""
    image = reference.filter(ImageFilter.MedianFilter(5)) if scene.soft else reference
    tones = _tones(scene.palette)
    tint = ImageOps.colorize(ImageOps.grayscale(image), tones[0], tones[2], mid=tones[1])
    return Image.blend(image, tint, GRADE)


def _tones(palette: Palette) -> tuple[tuple[int, int, int], ...]:
    return mix(palette.foliage, INK, share=0.4), palette.sky[1], mix(palette.glow, PAPER, share=0.3)


def _add_card(
    picture: Image.Image, reference: Image.Image, *, place: tuple[float, float, float, float]
) -> None:
    """Paste the reference, cropped to cover its place, in a thin frame with a soft shadow."""
    across, down = picture.size
    left, top = round(place[0] * across), round(place[1] * down)
    size = max(1, round(place[2] * across)), max(1, round(place[3] * down))
    frame = max(1, round(FRAME * min(picture.size)))
    pen = ImageDraw.Draw(picture, "RGBA")
    edge = (left - frame, top - frame, left + size[0] + frame - 1, top + size[1] + frame - 1)
    for spread in (frame, frame * 2 // 3, frame // 3):
        grown = (edge[0] - spread, edge[1], edge[2] + spread, edge[3] + 2 * spread)
        pen.rounded_rectangle(grown, frame, fill=(*INK, 26))
    pen.rectangle(edge, fill=PAPER)
    picture.paste(ImageOps.fit(reference, size, Image.Resampling.LANCZOS), (left, top))


def _png(picture: Image.Image) -> bytes:
    file = BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
