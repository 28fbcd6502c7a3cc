"""The sky over a paper landscape and the weather in front of it."""

from __future__ import annotations

import random
from typing import Final

from PIL import Image

from evolink_mcp.sandbox.drawing.canvas import HORIZON, Canvas
from evolink_mcp.sandbox.drawing.scene import PAPER, Palette, Scene, mix
from evolink_mcp.sandbox.drawing.shapes import Point
from evolink_mcp.sandbox.drawing.words import RGB, Hour, Weather

HALO_ALPHA: Final = 34
HALO_RINGS: Final = (2.7, 2.05, 1.5)
SUN_RADIUS: Final = 0.082
MOON_RADIUS: Final = 0.07
SUNSET_HEIGHT: Final = 0.47
STARS: Final = 110
FLAKES_BEHIND: Final = 150
FLAKES_BEFORE: Final = 28
DROPS: Final = 190
# Bands of fog from the far land (0) to the nearest ground (8).
FOG_BEHIND: Final = range(7)
FOG_BEFORE: Final = range(7, 9)
# Across, down and radius of a cloud's puffs; each touches the flat base at 1.
PUFFS: Final = ((0.46, 0.68, 0.32), (1.02, 0.5, 0.5), (1.6, 0.6, 0.4), (2.1, 0.73, 0.27))
# Across, down and radius of the moon's craters, in moon radii.
CRATERS: Final = ((-0.35, -0.2, 0.24), (0.3, 0.3, 0.3), (0.25, -0.45, 0.13))


def sky_gradient(palette: Palette, *, width: int, height: int) -> Image.Image:
    """Return a picture of nothing but sky, `width` x `height` pixels."""
    top, middle, low = palette.sky
    half = max(1, round(height * HORIZON / 2))
    colours = [mix(top, middle, share=row / half) for row in range(half)]
    colours += [mix(middle, low, share=min(row / half, 1)) for row in range(height - half)]
    column = Image.new("RGB", (1, height))
    column.putdata(colours)
    return column.resize((width, height), Image.Resampling.NEAREST)


def light_position(scene: Scene, rng: random.Random) -> Point:
    """Return where the sun or moon stands, as fractions of the width and height."""
    height = SUNSET_HEIGHT if scene.hour is Hour.SUNSET else rng.uniform(0.17, 0.26)
    return rng.choice((rng.uniform(0.16, 0.30), rng.uniform(0.66, 0.78))), height


def paint_light(canvas: Canvas) -> None:
    """Draw the sun among clouds, or the moon and stars."""
    night = canvas.scene.hour is Hour.NIGHT
    if night or Weather.STARS in canvas.scene.weather:
        _paint_stars(canvas)
    x, y = canvas.at(*canvas.light)
    radius = MOON_RADIUS if night else SUN_RADIUS
    glow = canvas.scene.palette.glow
    for ring in HALO_RINGS:
        canvas.disc(x, y, radius=radius * ring, fill=(*glow, HALO_ALPHA))
    canvas.disc(x, y, radius=radius, fill=glow)
    if night:
        _paint_craters(canvas, (x, y))
    else:
        _paint_clouds(canvas)


def paint_weather_behind(canvas: Canvas) -> None:
    """Draw the weather between the land and the subjects."""
    if Weather.SNOW in canvas.scene.weather:
        _paint_snow(canvas, FLAKES_BEHIND)
    if Weather.FOG in canvas.scene.weather:
        _paint_fog(canvas, FOG_BEHIND)


def paint_weather_before(canvas: Canvas) -> None:
    """Draw the weather in front of the subjects."""
    if Weather.SNOW in canvas.scene.weather:
        _paint_snow(canvas, FLAKES_BEFORE)
    if Weather.FOG in canvas.scene.weather:
        _paint_fog(canvas, FOG_BEFORE)
    if Weather.RAIN in canvas.scene.weather:
        _paint_rain(canvas)


def _paint_stars(canvas: Canvas) -> None:
    for _ in range(STARS):
        x, y = canvas.at(canvas.rng.random(), canvas.rng.random() * HORIZON)
        radius = canvas.rng.choice((0.0012, 0.0018, 0.003))
        canvas.disc(x, y, radius=radius, fill=(*PAPER, canvas.rng.randrange(120, 255)))


def _paint_craters(canvas: Canvas, moon: Point) -> None:
    x, y = moon
    shade = mix(canvas.scene.palette.glow, canvas.scene.palette.sky[2], share=0.22)
    reach = MOON_RADIUS * canvas.unit
    for across, down, size in CRATERS:
        spot = (x + across * reach, y + down * reach)
        canvas.disc(*spot, radius=MOON_RADIUS * size, fill=shade)


def _paint_clouds(canvas: Canvas) -> None:
    rng = canvas.rng
    count = rng.choice((2, 3, 3))
    for step in range(count):
        x, y = canvas.at((step + rng.uniform(0.05, 0.95)) / count, rng.uniform(0.10, 0.38))
        colour = mix(canvas.scene.palette.sky[2], PAPER, share=rng.uniform(0.45, 0.75))
        _paint_cloud(canvas, (x, y), size=rng.uniform(0.06, 0.12), colour=colour)


def _paint_cloud(canvas: Canvas, foot: Point, *, size: float, colour: RGB) -> None:
    x, y = foot
    reach = size * canvas.unit
    left, top = x - 1.3 * reach, y - reach
    for across, down, radius in PUFFS:
        spot = (left + across * reach, top + down * reach)
        canvas.disc(*spot, radius=radius * size, fill=colour)
    first, last = PUFFS[0], PUFFS[-1]
    box = (left + first[0] * reach, top + first[1] * reach, left + last[0] * reach, top + reach)
    canvas.pen.rectangle(box, fill=colour)


def _paint_snow(canvas: Canvas, flakes: int) -> None:
    for _ in range(flakes):
        x, y = canvas.at(canvas.rng.random(), canvas.rng.random())
        near = canvas.rng.random() ** 3
        fill = (255, 255, 255, 150 + round(90 * near))
        canvas.disc(x, y, radius=0.0022 + 0.0065 * near, fill=fill)


def _paint_fog(canvas: Canvas, bands: range) -> None:
    fog = mix(canvas.scene.palette.sky[2], PAPER, share=0.5)
    for band in bands:
        x, y = canvas.at(canvas.rng.random(), 0.42 + band * 0.055)
        across = canvas.image.width * canvas.rng.uniform(0.3, 0.6)
        down = canvas.unit * canvas.rng.uniform(0.014, 0.030)
        canvas.bar(x, y, across=across, down=down, fill=(*fog, 110))


def _paint_rain(canvas: Canvas) -> None:
    fill = (*mix(PAPER, canvas.scene.palette.sky[1], share=0.3), 100)
    thick = max(1, round(canvas.unit * 0.0022))
    for _ in range(DROPS):
        x, y = canvas.at(canvas.rng.random() * 1.1, canvas.rng.random())
        fall = canvas.unit * canvas.rng.uniform(0.02, 0.05)
        canvas.pen.line((x, y, x - fall * 0.28, y + fall), fill=fill, width=thick)
