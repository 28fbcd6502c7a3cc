"""Flat shapes on a unit square, and how a pen draws a subject that is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, TypeAlias

from PIL import ImageDraw

from evolink_mcp.sandbox.drawing.scene import mix
from evolink_mcp.sandbox.drawing.words import RGB

Point: TypeAlias = tuple[float, float]


class Form(StrEnum):
    """How the points of a shape are joined; an oval's are two corners of its box."""

    POLYGON = "polygon"
    BLOB = "blob"
    OVAL = "oval"
    STROKE = "stroke"


class Tone(StrEnum):
    """The part of a subject's colours that fills a shape."""

    BODY = "body"
    SHADE = "shade"
    LIGHT = "light"
    DARK = "dark"
    TRIM = "trim"
    LAMP = "lamp"
    WOOD = "wood"
    BEAM = "beam"
    SHADOW = "shadow"


class Place(StrEnum):
    """Where a subject belongs."""

    GROUND = "ground"
    WATER = "water"
    AIR = "air"


@dataclass(frozen=True, slots=True)
class Shape:
    """One flat shape; the points are fractions of the subject's size, y downwards."""

    form: Form
    tone: Tone
    points: tuple[Point, ...]
    width: float = 0.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A subject: its natural colours, its size as a fraction of the picture's shorter side."""

    colour: RGB
    trim: RGB
    size: float
    place: Place
    shapes: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Stand:
    """Where a subject is put: the middle of its foot and its size, in pixels."""

    x: float
    y: float
    size: float
    flipped: bool = False

    def at(self, point: Point) -> Point:
        """Return the pixel position of a point of the unit square."""
        across = point[0] - 0.5
        return (
            self.x + (-across if self.flipped else across) * self.size,
            self.y + (point[1] - 1) * self.size,
        )


INK: Final[RGB] = (44, 38, 48)
CREAM: Final[RGB] = (255, 248, 236)
LAMPLIGHT: Final[RGB] = (255, 222, 130)
WOOD: Final[RGB] = (116, 82, 62)
BEAM_ALPHA: Final = 70
SHADOW_ALPHA: Final = 40
CORNER_CUTS: Final = 4


def polygon(tone: Tone, *points: Point) -> Shape:
    """Return a shape with straight sides."""
    return Shape(Form.POLYGON, tone, points)


def blob(tone: Tone, *points: Point) -> Shape:
    """Return a shape with rounded corners; a point given twice stays a sharp one."""
    return Shape(Form.BLOB, tone, points)


def oval(tone: Tone, centre: Point, *, across: float, down: float) -> Shape:
    """Return an oval by its centre and its half extents."""
    x, y = centre
    return Shape(Form.OVAL, tone, ((x - across, y - down), (x + across, y + down)))


def stroke(tone: Tone, width: float, *points: Point) -> Shape:
    """Return a smooth line with round ends."""
    return Shape(Form.STROKE, tone, points, width)


def twice(*shapes: Shape) -> tuple[Shape, ...]:
    """Return each shape followed by its mirror image."""
    return tuple(
        twin
        for shape in shapes
        for twin in (shape, replace(shape, points=tuple((1 - x, y) for x, y in shape.points)))
    )


def draw_subject(
    pen: ImageDraw.ImageDraw,
    subject: Subject,
    *,
    colour: RGB | None,
    veil: tuple[RGB, float],
    stand: Stand,
) -> None:
    """Draw a subject at its stand, in `colour` or its natural one, under a veil of light."""
    fills = _fills(subject, colour or subject.colour, veil=veil)
    for shape in subject.shapes:
        _draw_shape(pen, shape, fill=fills[shape.tone], stand=stand)


def rounded(points: tuple[Point, ...], *, closed: bool) -> tuple[Point, ...]:
    """Return `points` with their corners cut again and again, which leaves a smooth line."""
    for _ in range(CORNER_CUTS):
        ends = points[1:] + points[:1] if closed else points[1:]
        cut = tuple(
            (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share)
            for a, b in zip(points, ends, strict=False)
            for share in (0.25, 0.75)
        )
        points = cut if closed else (points[0], *cut, points[-1])
    return points


def _fills(
    subject: Subject, body: RGB, *, veil: tuple[RGB, float]
) -> Mapping[Tone, tuple[int, ...]]:
    light, share = veil
    lit = {
        Tone.BODY: body,
        Tone.SHADE: mix(body, INK, share=0.28),
        Tone.LIGHT: mix(CREAM, body, share=0.06),
        Tone.DARK: mix(INK, body, share=0.12),
        Tone.WOOD: WOOD,
        Tone.TRIM: subject.trim,
    }
    return {
        **{tone: mix(colour, light, share=share) for tone, colour in lit.items()},
        Tone.LAMP: LAMPLIGHT,
        Tone.BEAM: (*LAMPLIGHT, BEAM_ALPHA),
        Tone.SHADOW: (*INK, SHADOW_ALPHA),
    }


def _draw_shape(
    pen: ImageDraw.ImageDraw, shape: Shape, *, fill: tuple[int, ...], stand: Stand
) -> None:
    spots = tuple(map(stand.at, shape.points))
    if shape.form is Form.OVAL:
        (left, top), (right, bottom) = spots
        pen.ellipse((min(left, right), top, max(left, right), bottom), fill=fill)
    elif shape.form is Form.STROKE:
        _draw_stroke(pen, rounded(spots, closed=False), fill=fill, width=shape.width * stand.size)
    else:
        pen.polygon(rounded(spots, closed=True) if shape.form is Form.BLOB else spots, fill=fill)


def _draw_stroke(
    pen: ImageDraw.ImageDraw, spots: tuple[Point, ...], *, fill: tuple[int, ...], width: float
) -> None:
    pen.line(spots, fill=fill, width=max(1, round(width)), joint="curve")
    for x, y in (spots[0], spots[-1]):
        pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=fill)
