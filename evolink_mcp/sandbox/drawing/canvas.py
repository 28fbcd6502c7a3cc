"""A picture in progress, and the paper layers that it is made of."""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import sin, tau
from typing import Final

from PIL import Image, ImageDraw

from evolink_mcp.sandbox.drawing.scene import Scene
from evolink_mcp.sandbox.drawing.shapes import INK, Point
from evolink_mcp.sandbox.drawing.words import RGB

HORIZON: Final = 0.60
EDGE_STEPS: Final = 160
SHADOW_STEPS: Final = 3
SHADOW_RISE: Final = 0.0032
SHADOW_ALPHA: Final = 10


@dataclass(frozen=True, slots=True)
class Canvas:
    """A picture in progress; its pen blends translucent fills, the sun or moon is at `light`."""

    image: Image.Image
    pen: ImageDraw.ImageDraw
    scene: Scene
    rng: random.Random
    light: Point

    @property
    def unit(self) -> int:
        """The shorter side in pixels, by which things keep their shape on any picture."""
        return min(self.image.size)

    def at(self, x: float, y: float) -> Point:
        """Return the pixel position of fractions of the width and of the height."""
        return x * self.image.width, y * self.image.height

    def disc(self, x: float, y: float, *, radius: float, fill: tuple[int, ...]) -> None:
        """Fill a circle; the centre is in pixels, the radius in units."""
        reach = radius * self.unit
        self.pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=fill)

    def bar(self, x: float, y: float, *, across: float, down: float, fill: tuple[int, ...]) -> None:
        """Fill a lying bar with round ends; centre and half extents are in pixels."""
        self.pen.rounded_rectangle((x - across, y - down, x + across, y + down), down, fill=fill)


@dataclass(frozen=True, slots=True)
class Ridge:
    """The upper edge of a layer: a height and waves upon it, as fractions of the picture."""

    base: float
    waves: tuple[tuple[float, float, float], ...]

    def at(self, x: float) -> float:
        """Return the edge's height at `x`, both as fractions of the picture."""
        return self.base + sum(
            swell * sin(tau * (cycles * x + phase)) for swell, cycles, phase in self.waves
        )


def rolling(rng: random.Random, base: float, *, swell: float, cycles: float) -> Ridge:
    """Return a random ridge with `cycles` main waves across the picture."""
    return Ridge(
        base,
        tuple(
            (swell / order**1.4, cycles * order * rng.uniform(0.8, 1.25), rng.random())
            for order in (1, 2, 3)
        ),
    )


def paint_ridge(canvas: Canvas, ridge: Ridge, *, colour: RGB) -> None:
    """Fill from a ridge down to the foot, with the soft shadow of one paper on another."""
    steps = (step / EDGE_STEPS for step in range(EDGE_STEPS + 1))
    edge = [canvas.at(x, ridge.at(x)) for x in steps]
    foot = [canvas.at(1, 1), canvas.at(0, 1)]
    for step in range(SHADOW_STEPS, 0, -1):
        rise = step * canvas.unit * SHADOW_RISE
        shadow = [(x, y - rise) for x, y in edge]
        canvas.pen.polygon(shadow + foot, fill=(*INK, SHADOW_ALPHA))
    canvas.pen.polygon(edge + foot, fill=colour)
