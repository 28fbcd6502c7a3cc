"""A whole scene: sky, land, subjects and weather from the back to the front."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Final

from PIL import Image, ImageDraw

from evolink_mcp.sandbox.drawing.canvas import Canvas, rolling
from evolink_mcp.sandbox.drawing.land import paint_land
from evolink_mcp.sandbox.drawing.scene import PAPER, Scene, mix
from evolink_mcp.sandbox.drawing.shapes import INK, Place, Point, Stand, Subject, draw_subject
from evolink_mcp.sandbox.drawing.sky import (
    light_position,
    paint_light,
    paint_weather_before,
    paint_weather_behind,
    sky_gradient,
)
from evolink_mcp.sandbox.drawing.subjects import SUBJECTS

# Where subjects stand, as fractions of the height: the lowest and the highest foot.
FOOTING: Final = {Place.GROUND: (0.855, 0.87), Place.WATER: (0.76, 0.80), Place.AIR: (0.58, 0.64)}
# Spread, drop and colour share of the lines where a hull or a leap meets the water.
RIPPLES: Final = ((0.55, 0.0, 0.55), (0.62, 0.018, 0.0), (0.36, 0.05, 0.55))
BORDER: Final = 0.035
BORDER_STEPS: Final = 60


def paint_scene(scene: Scene, *, width: int, height: int, rng: random.Random) -> Image.Image:
    """Return the scene without any caption, `width` x `height` pixels."""
    image = sky_gradient(scene.palette, width=width, height=height)
    pen = ImageDraw.Draw(image, "RGBA")
    canvas = Canvas(image, pen, scene, rng, light_position(scene, rng))
    paint_light(canvas)
    paint_land(canvas)
    paint_weather_behind(canvas)
    _paint_actors(canvas)
    paint_weather_before(canvas)
    if scene.soft:
        _paint_paper_border(canvas)
    return image


def _paint_actors(canvas: Canvas) -> None:
    actors = canvas.scene.actors
    lead = canvas.rng.uniform(-0.14, 0.14) / len(actors)
    for place, actor in enumerate(actors):
        subject = SUBJECTS[actor.name]
        across = (place + 1) / (len(actors) + 1) + lead
        stand = _stand(canvas, subject, across=across, crowd=len(actors))
        if subject.place is Place.GROUND:
            _paint_shade(canvas, stand)
        draw_subject(canvas.pen, subject, colour=actor.colour, veil=canvas.scene.veil, stand=stand)
        if subject.place is Place.WATER:
            _paint_waterline(canvas, stand)


def _stand(canvas: Canvas, subject: Subject, *, across: float, crowd: int) -> Stand:
    rng = canvas.rng
    x, y = canvas.at(across, rng.uniform(*FOOTING[subject.place]))
    size = subject.size * canvas.unit * rng.uniform(0.95, 1.08) * (1.08 - 0.12 * crowd)
    return Stand(x, y, size, flipped=rng.choice((False, True)))


def _paint_shade(canvas: Canvas, stand: Stand) -> None:
    across, down = stand.size * 0.52, stand.size * 0.045
    box = (stand.x - across, stand.y - down, stand.x + across, stand.y + down)
    canvas.pen.ellipse(box, fill=(*mix(INK, canvas.scene.palette.sky[0], share=0.4), 70))


def _paint_waterline(canvas: Canvas, stand: Stand) -> None:
    for spread, drop, foam in RIPPLES:
        canvas.bar(
            stand.x,
            stand.y + drop * stand.size,
            across=spread * stand.size,
            down=0.018 * stand.size,
            fill=mix(canvas.scene.palette.water, PAPER, share=foam),
        )


def _paint_paper_border(canvas: Canvas) -> None:
    """Leave the sheet bare around the edges, as a watercolour does."""
    size = canvas.image.size
    inset = canvas.unit * BORDER
    corners = [(0.0, 0.0), (size[0], 0.0), (size[0], size[1]), (0.0, size[1]), (0.0, 0.0)]
    sheet = Image.new("L", size, 255)
    edge = [spot for ends in pairwise(corners) for spot in _wobbly(canvas, ends, inset=inset)]
    ImageDraw.Draw(sheet).polygon(edge, fill=0)
    canvas.image.paste(PAPER, (0, 0), sheet)


def _wobbly(canvas: Canvas, ends: tuple[Point, Point], *, inset: float) -> list[Point]:
    """Return an uneven line `inset` pixels to the right of the way between `ends`."""
    (x, y), (right, low) = ends
    across, down = right - x, low - y
    length = abs(across) + abs(down)
    wave = rolling(canvas.rng, inset, swell=inset * 0.3, cycles=2.5)
    margin = 1.4 * inset / length
    steps = (margin + (1 - 2 * margin) * step / BORDER_STEPS for step in range(BORDER_STEPS + 1))
    return [
        (
            x + across * step - down / length * wave.at(step),
            y + down * step + across / length * wave.at(step),
        )
        for step in steps
    ]
