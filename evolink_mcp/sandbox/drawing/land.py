"""The land of a paper landscape, from the hazy distance to the nearest ground."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from evolink_mcp.sandbox.drawing.canvas import HORIZON, Canvas, Ridge, paint_ridge, rolling
from evolink_mcp.sandbox.drawing.scene import SAND, SLATE, SNOW, Palette, mix
from evolink_mcp.sandbox.drawing.shapes import INK, LAMPLIGHT, Place, Point
from evolink_mcp.sandbox.drawing.subjects import SUBJECTS
from evolink_mcp.sandbox.drawing.words import RGB, Hour, Setting, Weather

NEAR_GROUND: Final = 0.775
# Height, nearness (0 is in the haze, 1 at the viewer's feet) and further measures of each layer.
HILLS: Final = ((0.60, 0.35, 7), (0.68, 0.65, 9))
DUNES: Final = ((0.56, 0.25), (0.64, 0.55), (0.70, 0.8))
WOODS: Final = ((0.56, 0.05, 0.16), (0.63, 0.35, 0.22), (0.70, 0.65, 0.28))
RANGES: Final = ((0.05, 4, 0.34), (0.30, 3, 0.26))
ROWS_OF_TOWERS: Final = ((0.36, 0.1, 13, 0.0), (0.46, 0.4, 11, 0.4), (0.57, 0.75, 9, 0.5))
# Top, foot and half width of a pine's three tiers, in tree heights.
TIERS: Final = ((0.40, 0.08, 0.34), (0.68, 0.30, 0.27), (1.0, 0.54, 0.20))
WAVES: Final = 6
TREES_IN_A_ROW: Final = 14
TUFTS: Final = 26
WINDOW_COLUMNS: Final = 4
MAST_CHANCE: Final = 0.4
DAYTIME_LAMPS: Final = 0.25


def paint_land(canvas: Canvas) -> None:
    """Draw the setting of the scene over its sky."""
    BACKDROPS[canvas.scene.setting](canvas)


def _depth(palette: Palette, share: float) -> RGB:
    """Return a layer's colour: hazy when `share` is 0, the nearest ground's when it is 1."""
    return mix(palette.haze, palette.ground, share=share)


def _paint_hills(canvas: Canvas) -> None:
    palette = canvas.scene.palette
    paint_ridge(
        canvas, rolling(canvas.rng, 0.53, swell=0.035, cycles=1.3), colour=_depth(palette, 0.05)
    )
    for base, share, trees in HILLS:
        ridge = rolling(canvas.rng, base, swell=0.03, cycles=1.0)
        _paint_grove(canvas, ridge, count=trees, size=0.045 + base * 0.06, share=share)
        paint_ridge(canvas, ridge, colour=_depth(palette, share))
    _paint_near_ground(canvas, palette.ground)


def _paint_grove(canvas: Canvas, ridge: Ridge, *, count: int, size: float, share: float) -> None:
    colour = mix(canvas.scene.palette.haze, canvas.scene.palette.foliage, share=share + 0.15)
    middle = canvas.rng.random()
    for _ in range(count):
        across = canvas.rng.gauss(middle, 0.16) % 1
        x, y = canvas.at(across, ridge.at(across) + 0.012)
        _paint_pine(canvas, (x, y), size=size * canvas.rng.uniform(0.7, 1.3), colour=colour)


def _paint_pine(canvas: Canvas, root: Point, *, size: float, colour: RGB) -> None:
    x, y = root
    reach = size * canvas.unit
    snowy = Weather.SNOW in canvas.scene.weather
    shade = mix(colour, INK, share=0.16)
    trunk = (x - reach * 0.05, y - reach * 0.2, x + reach * 0.05, y + reach * 0.1)
    canvas.pen.rectangle(trunk, fill=mix(colour, INK, share=0.4))
    for top, foot, half in TIERS:
        tip, low = (x, y - top * reach), y - foot * reach
        left, right = (x - half * reach, low), (x + half * reach, low)
        canvas.pen.polygon([tip, left, right], fill=colour)
        canvas.pen.polygon([tip, (x, low), right], fill=shade)
        if snowy:
            _paint_cap(canvas, tip, across=half * reach * 0.46, down=(low - tip[1]) * 0.5)


def _paint_cap(canvas: Canvas, tip: Point, *, across: float, down: float) -> None:
    """Cover a peak with snow, zigzag below; measures in pixels."""
    x, y = tip
    zigzag = ((across, down), (across / 3, down * 0.72), (-across / 5, down * 1.05))
    spots = [tip, *((x + right, y + low) for right, low in zigzag), (x - across, y + down)]
    snow = mix(SNOW, canvas.scene.palette.sky[0], share=0.12)
    canvas.pen.polygon(spots, fill=snow)


def _paint_mountains(canvas: Canvas) -> None:
    palette = canvas.scene.palette
    for share, count, tallest in RANGES:
        colour = mix(_depth(palette, share), palette.foliage, share=0.25 + share * 0.5)
        for step in range(count):
            across = (step + canvas.rng.uniform(0.1, 0.9)) / count
            rise = tallest * canvas.rng.uniform(0.7, 1.0)
            _paint_mountain(canvas, across, rise=rise, colour=colour)
    ridge = rolling(canvas.rng, 0.67, swell=0.025, cycles=1.0)
    _paint_grove(canvas, ridge, count=12, size=0.09, share=0.7)
    paint_ridge(canvas, ridge, colour=_depth(palette, 0.7))
    _paint_near_ground(canvas, palette.ground)


def _paint_mountain(canvas: Canvas, across: float, *, rise: float, colour: RGB) -> None:
    x, y = canvas.at(across, HORIZON + 0.12 - rise)
    foot = canvas.at(across, HORIZON + 0.14)[1]
    reach = (foot - y) * 0.95
    canvas.pen.polygon([(x, y), (x - reach, foot), (x + reach, foot)], fill=colour)
    fold = (x + reach * 0.12, y + (foot - y) * 0.4)
    shade = mix(colour, INK, share=0.16)
    canvas.pen.polygon([(x, y), fold, (x - reach * 0.1, foot), (x + reach, foot)], fill=shade)
    _paint_cap(canvas, (x, y), across=reach * 0.25, down=(foot - y) * 0.26)


def _paint_forest(canvas: Canvas) -> None:
    palette = canvas.scene.palette
    for base, share, size in WOODS:
        ridge = rolling(canvas.rng, base, swell=0.02, cycles=1.2)
        colour = mix(palette.haze, palette.foliage, share=share + 0.2)
        for step in range(TREES_IN_A_ROW):
            across = (step + canvas.rng.uniform(0.2, 0.8)) / TREES_IN_A_ROW
            x, y = canvas.at(across, ridge.at(across) + 0.02)
            _paint_pine(canvas, (x, y), size=size * canvas.rng.uniform(0.7, 1.2), colour=colour)
        paint_ridge(canvas, ridge, colour=_depth(palette, share))
    _paint_near_ground(canvas, palette.ground)


def _paint_desert(canvas: Canvas) -> None:
    palette = canvas.scene.palette
    for base, share in DUNES:
        ridge = rolling(canvas.rng, base, swell=0.04, cycles=0.8)
        paint_ridge(canvas, ridge, colour=_depth(palette, share))
    _paint_near_ground(canvas, palette.ground)


def _paint_sea(canvas: Canvas) -> None:
    palette = canvas.scene.palette
    far = rolling(canvas.rng, HORIZON - 0.03, swell=0.02, cycles=1.1)
    paint_ridge(canvas, far, colour=mix(palette.haze, palette.sky[2], share=0.3))
    for step in range(WAVES):
        share = step / (WAVES - 1)
        base = HORIZON + 0.36 * share**1.3
        swell, cycles = 0.0008 + 0.010 * share, 9 - 4.5 * share
        wave = rolling(canvas.rng, base, swell=swell, cycles=cycles)
        paint_ridge(
            canvas,
            wave,
            colour=mix(mix(palette.sky[2], palette.water, share=0.45), palette.water, share=share),
        )
        _paint_glints(canvas, base + 0.02, reach=0.05 + 0.03 * share)
    if not _afloat(canvas):
        _paint_near_ground(canvas, mix(palette.ground, SAND, share=0.3))


def _afloat(canvas: Canvas) -> bool:
    places = {SUBJECTS[actor.name].place for actor in canvas.scene.actors}
    return Place.GROUND not in places


def _paint_glints(canvas: Canvas, base: float, *, reach: float) -> None:
    """Draw glints of light on a wave, most of them below the sun or moon."""
    for spread in (0.03, 0.04, 0.06, 0.1, 0.3, 0.4):
        across = canvas.rng.gauss(canvas.light[0], spread)
        x, y = canvas.at(across, base + canvas.rng.uniform(0, 0.04))
        half = canvas.rng.uniform(0.4, 1.0) * reach * canvas.unit
        fill = (*canvas.scene.palette.glow, 120)
        canvas.bar(x, y, across=half, down=canvas.unit * 0.0028, fill=fill)


def _paint_city(canvas: Canvas) -> None:
    palette = canvas.scene.palette
    for base, share, count, lit in ROWS_OF_TOWERS:
        colour = mix(palette.haze, mix(palette.foliage, palette.sky[0], share=0.3), share=share)
        for step in range(count):
            top = base + canvas.rng.uniform(0, 0.16)
            left = (step + canvas.rng.uniform(-0.3, 0.1)) / count
            _paint_tower(canvas, left, top=top, width=1.15 / count, colour=colour, lit=lit)
    paving = mix(palette.ground, SLATE, share=0.4)
    _paint_near_ground(canvas, paving)


def _paint_tower(
    canvas: Canvas, left: float, *, top: float, width: float, colour: RGB, lit: float
) -> None:
    x, y = canvas.at(left, top)
    right, foot = canvas.at(left + width, 0.86)
    canvas.pen.rectangle(
        (x, y, right, foot), fill=mix(colour, INK, share=canvas.rng.uniform(0, 0.12))
    )
    if canvas.rng.random() < MAST_CHANCE:
        middle, mast = (x + right) / 2, canvas.unit * 0.05
        canvas.pen.line(
            (middle, y - mast, middle, y), fill=colour, width=max(1, canvas.unit // 250)
        )
    if lit:
        _paint_windows(canvas, (x, y, right, foot), lit=lit, dark=mix(colour, INK, share=0.25))


def _paint_windows(
    canvas: Canvas, box: tuple[float, float, float, float], *, lit: float, dark: RGB
) -> None:
    x, y, right, foot = box
    gap = (right - x) / WINDOW_COLUMNS
    share = lit * (1.0 if canvas.scene.hour in {Hour.NIGHT, Hour.SUNSET} else DAYTIME_LAMPS)
    for row in range(int((foot - y) / max(gap * 1.15, 1))):
        for column in range(WINDOW_COLUMNS):
            left, top = x + (column + 0.26) * gap, y + (row + 0.4) * gap * 1.15
            fill = LAMPLIGHT if canvas.rng.random() < share else dark
            canvas.pen.rectangle((left, top, left + gap * 0.48, top + gap * 0.6), fill=fill)


def _paint_near_ground(canvas: Canvas, colour: RGB) -> None:
    ridge = rolling(canvas.rng, NEAR_GROUND, swell=0.014, cycles=0.7)
    paint_ridge(canvas, ridge, colour=colour)
    _paint_tufts(canvas, colour)


def _paint_tufts(canvas: Canvas, ground: RGB) -> None:
    """Scatter small marks over the ground: blades on grass, flat drifts on snow and paving."""
    flat = Weather.SNOW in canvas.scene.weather or canvas.scene.setting is Setting.CITY
    drift = mix(ground, canvas.scene.palette.sky[0], share=0.22)
    blade = mix(ground, canvas.scene.palette.foliage, share=0.55)
    for _ in range(TUFTS):
        x, y = canvas.at(canvas.rng.random(), canvas.rng.uniform(NEAR_GROUND + 0.03, 0.93))
        size = canvas.unit * canvas.rng.uniform(0.010, 0.018)
        if flat:
            canvas.pen.ellipse((x - 3 * size, y, x + 3 * size, y + size * 0.35), fill=drift)
            continue
        for lean in (-0.7, 0.0, 0.7):
            tip = (x + lean * size, y - size * (1.5 - abs(lean) / 2))
            canvas.pen.polygon([tip, (x - size * 0.2, y), (x + size * 0.2, y)], fill=blade)


BACKDROPS: Final[Mapping[Setting, Callable[[Canvas], None]]] = {
    Setting.HILLS: _paint_hills,
    Setting.MOUNTAINS: _paint_mountains,
    Setting.FOREST: _paint_forest,
    Setting.SEA: _paint_sea,
    Setting.CITY: _paint_city,
    Setting.DESERT: _paint_desert,
}
