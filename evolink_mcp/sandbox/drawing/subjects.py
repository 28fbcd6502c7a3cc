"""The subjects that the sandbox can draw, each as flat shapes from the back to the front."""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, sin, tau
from typing import Final

from evolink_mcp.sandbox.drawing.creatures import BIRD, CAT, DOG, FISH, FOX
from evolink_mcp.sandbox.drawing.shapes import (
    CREAM,
    Place,
    Point,
    Shape,
    Subject,
    Tone,
    blob,
    oval,
    polygon,
    stroke,
    twice,
)
from evolink_mcp.sandbox.drawing.words import RGB


def _petals(tone: Tone, centre: Point, *, reach: float, radius: float) -> tuple[Shape, ...]:
    turns = (step / 8 * tau for step in range(8))
    return tuple(
        oval(
            tone,
            (centre[0] + reach * cos(turn), centre[1] + reach * sin(turn)),
            across=radius,
            down=radius,
        )
        for turn in turns
    )


_BOAT: Final = (
    stroke(Tone.DARK, 0.022, (0.50, 0.02), (0.50, 0.80)),
    polygon(Tone.LAMP, (0.50, 0.00), (0.64, 0.035), (0.50, 0.075)),
    blob(
        Tone.LIGHT,
        (0.53, 0.10),
        (0.53, 0.10),
        (0.82, 0.34),
        (0.96, 0.72),
        (0.96, 0.72),
        (0.53, 0.74),
        (0.53, 0.74),
    ),
    blob(
        Tone.TRIM,
        (0.47, 0.16),
        (0.47, 0.16),
        (0.28, 0.40),
        (0.12, 0.72),
        (0.12, 0.72),
        (0.47, 0.74),
        (0.47, 0.74),
    ),
    polygon(Tone.BODY, (0.02, 0.80), (1.02, 0.80), (0.86, 1.0), (0.18, 1.0)),
    polygon(Tone.LIGHT, (0.02, 0.80), (1.02, 0.80), (0.99, 0.835), (0.05, 0.835)),
    polygon(Tone.SHADE, (0.12, 0.93), (0.92, 0.93), (0.86, 1.0), (0.18, 1.0)),
)

_HOUSE: Final = (
    polygon(Tone.SHADE, (0.70, 0.06), (0.81, 0.06), (0.81, 0.36), (0.70, 0.30)),
    polygon(Tone.LIGHT, (0.68, 0.04), (0.83, 0.04), (0.83, 0.09), (0.68, 0.09)),
    polygon(Tone.LIGHT, (0.12, 0.42), (0.50, 0.10), (0.88, 0.42), (0.88, 1.01), (0.12, 1.01)),
    blob(Tone.DARK, (0.42, 0.99), (0.42, 0.64), (0.50, 0.60), (0.58, 0.64), (0.58, 0.99)),
    polygon(Tone.SHADE, (0.42, 0.70), (0.58, 0.70), (0.58, 1.01), (0.42, 1.01)),
    blob(Tone.SHADE, (0.42, 0.76), (0.42, 0.60), (0.58, 0.60), (0.58, 0.76)),
    oval(Tone.LAMP, (0.55, 0.84), across=0.014, down=0.014),
    *twice(
        polygon(Tone.SHADE, (0.17, 0.57), (0.36, 0.57), (0.36, 0.79), (0.17, 0.79)),
        polygon(Tone.LAMP, (0.19, 0.59), (0.34, 0.59), (0.34, 0.77), (0.19, 0.77)),
        stroke(Tone.SHADE, 0.014, (0.265, 0.58), (0.265, 0.78)),
        stroke(Tone.SHADE, 0.014, (0.18, 0.68), (0.35, 0.68)),
    ),
    oval(Tone.LAMP, (0.5, 0.38), across=0.06, down=0.06),
    *twice(polygon(Tone.BODY, (0.50, 0.02), (0.50, 0.15), (0.07, 0.51), (0.00, 0.44))),
)

_LIGHTHOUSE: Final = (
    polygon(Tone.BEAM, (0.50, 0.12), (-1.9, -0.16), (-1.9, 0.26)),
    polygon(Tone.BEAM, (0.50, 0.12), (2.9, -0.16), (2.9, 0.26)),
    polygon(Tone.LIGHT, (0.40, 0.24), (0.60, 0.24), (0.67, 1.01), (0.33, 1.01)),
    polygon(Tone.BODY, (0.391, 0.34), (0.609, 0.34), (0.622, 0.48), (0.378, 0.48)),
    polygon(Tone.BODY, (0.364, 0.64), (0.636, 0.64), (0.649, 0.78), (0.351, 0.78)),
    polygon(Tone.BODY, (0.337, 0.93), (0.663, 0.93), (0.67, 1.01), (0.33, 1.01)),
    polygon(Tone.SHADOW, (0.54, 0.24), (0.60, 0.24), (0.67, 1.01), (0.56, 1.01)),
    blob(Tone.DARK, (0.47, 0.64), (0.47, 0.53), (0.53, 0.53), (0.53, 0.64)),
    blob(Tone.DARK, (0.46, 0.96), (0.46, 0.82), (0.54, 0.82), (0.54, 0.96)),
    polygon(Tone.LAMP, (0.43, 0.06), (0.57, 0.06), (0.57, 0.20), (0.43, 0.20)),
    stroke(Tone.DARK, 0.012, (0.50, 0.06), (0.50, 0.20)),
    *twice(stroke(Tone.DARK, 0.012, (0.43, 0.06), (0.43, 0.20))),
    polygon(Tone.DARK, (0.36, 0.20), (0.64, 0.20), (0.62, 0.245), (0.38, 0.245)),
    blob(
        Tone.BODY,
        (0.40, 0.07),
        (0.41, 0.00),
        (0.48, -0.05),
        (0.52, -0.05),
        (0.59, 0.00),
        (0.60, 0.07),
    ),
    oval(Tone.DARK, (0.5, -0.045), across=0.014, down=0.02),
)

_TREE: Final = (
    polygon(Tone.WOOD, (0.46, 0.50), (0.54, 0.50), (0.57, 1.01), (0.43, 1.01)),
    stroke(Tone.WOOD, 0.035, (0.50, 0.74), (0.64, 0.58), (0.68, 0.46)),
    oval(Tone.SHADE, (0.70, 0.46), across=0.22, down=0.20),
    oval(Tone.BODY, (0.30, 0.44), across=0.22, down=0.20),
    oval(Tone.BODY, (0.50, 0.28), across=0.28, down=0.28),
    oval(Tone.TRIM, (0.36, 0.30), across=0.028, down=0.028),
    oval(Tone.TRIM, (0.56, 0.20), across=0.028, down=0.028),
    oval(Tone.TRIM, (0.52, 0.42), across=0.028, down=0.028),
    oval(Tone.TRIM, (0.72, 0.48), across=0.028, down=0.028),
    oval(Tone.TRIM, (0.24, 0.50), across=0.028, down=0.028),
)

_LEAF: Final[RGB] = (74, 138, 82)
_FLOWER: Final = (
    stroke(Tone.TRIM, 0.035, (0.50, 0.36), (0.52, 0.70), (0.50, 1.01)),
    *twice(blob(Tone.TRIM, (0.50, 0.94), (0.50, 0.94), (0.66, 0.90), (0.84, 0.64), (0.60, 0.70))),
    *_petals(Tone.SHADE, (0.50, 0.32), reach=0.20, radius=0.105),
    *_petals(Tone.BODY, (0.50, 0.32), reach=0.15, radius=0.09),
    oval(Tone.LAMP, (0.50, 0.32), across=0.105, down=0.105),
    *twice(oval(Tone.DARK, (0.465, 0.305), across=0.012, down=0.016)),
    stroke(Tone.DARK, 0.011, (0.46, 0.345), (0.50, 0.375), (0.54, 0.345)),
)

_ROCKET: Final = (
    blob(Tone.TRIM, (0.40, 0.84), (0.60, 0.84), (0.58, 1.0), (0.50, 1.16), (0.42, 1.0)),
    blob(Tone.LAMP, (0.44, 0.84), (0.56, 0.84), (0.54, 0.96), (0.50, 1.05), (0.46, 0.96)),
    *twice(blob(Tone.SHADE, (0.36, 0.52), (0.18, 0.74), (0.18, 0.92), (0.19, 0.93), (0.40, 0.80))),
    blob(
        Tone.LIGHT,
        *((0.50, 0.00), (0.50, 0.00), (0.64, 0.14), (0.70, 0.44), (0.62, 0.84), (0.62, 0.84)),
        *((0.38, 0.84), (0.38, 0.84), (0.30, 0.44), (0.36, 0.14)),
    ),
    blob(
        Tone.BODY,
        (0.50, 0.00),
        (0.50, 0.00),
        (0.61, 0.12),
        (0.655, 0.24),
        (0.655, 0.24),
        (0.345, 0.24),
        (0.345, 0.24),
        (0.39, 0.12),
    ),
    polygon(Tone.BODY, (0.36, 0.76), (0.64, 0.76), (0.62, 0.84), (0.38, 0.84)),
    oval(Tone.SHADE, (0.5, 0.42), across=0.095, down=0.095),
    oval(Tone.LAMP, (0.5, 0.42), across=0.068, down=0.068),
    blob(Tone.SHADE, (0.48, 0.62), (0.52, 0.62), (0.53, 0.94), (0.47, 0.94)),
)

_BALLOON: Final = (
    *twice(stroke(Tone.DARK, 0.008, (0.38, 0.68), (0.44, 0.86))),
    blob(
        Tone.BODY,
        *((0.50, -0.06), (0.72, -0.06), (0.91, 0.10), (0.93, 0.34), (0.76, 0.56), (0.62, 0.70)),
        *((0.60, 0.73), (0.40, 0.73), (0.38, 0.70), (0.24, 0.56), (0.07, 0.34), (0.09, 0.10)),
        (0.28, -0.06),
    ),
    *twice(
        blob(
            Tone.TRIM,
            *((0.50, -0.055), (0.50, -0.055), (0.32, -0.02), (0.22, 0.14), (0.24, 0.40)),
            *((0.36, 0.60), (0.43, 0.73), (0.43, 0.73), (0.46, 0.73), (0.46, 0.73)),
            *((0.42, 0.58), (0.37, 0.38), (0.36, 0.14), (0.42, 0.0)),
        ),
    ),
    polygon(Tone.SHADE, (0.405, 0.675), (0.595, 0.675), (0.585, 0.72), (0.415, 0.72)),
    blob(
        Tone.WOOD, (0.42, 0.86), (0.42, 0.86), (0.58, 0.86), (0.58, 0.86), (0.57, 1.0), (0.43, 1.0)
    ),
    polygon(Tone.DARK, (0.415, 0.85), (0.585, 0.85), (0.58, 0.88), (0.42, 0.88)),
)

_CAR: Final = (
    blob(
        Tone.BODY,
        *((0.22, 0.74), (0.26, 0.52), (0.36, 0.48), (0.62, 0.48), (0.72, 0.52), (0.84, 0.74)),
    ),
    blob(Tone.LAMP, (0.29, 0.70), (0.32, 0.54), (0.47, 0.53), (0.48, 0.69), (0.48, 0.70)),
    blob(Tone.LAMP, (0.52, 0.70), (0.52, 0.53), (0.64, 0.54), (0.70, 0.60), (0.75, 0.70)),
    blob(
        Tone.BODY,
        *((0.02, 0.74), (0.04, 0.68), (0.50, 0.68), (0.84, 0.68), (1.02, 0.74), (1.04, 0.92)),
        *((0.98, 0.93), (0.06, 0.93), (0.0, 0.92)),
    ),
    polygon(Tone.SHADE, (0.03, 0.84), (1.00, 0.84), (1.00, 0.885), (0.03, 0.885)),
    oval(Tone.LAMP, (0.98, 0.78), across=0.03, down=0.035),
    *twice(
        oval(Tone.DARK, (0.24, 0.90), across=0.105, down=0.105),
        oval(Tone.LIGHT, (0.24, 0.90), across=0.048, down=0.048),
    ),
)

SUBJECTS: Final[Mapping[str, Subject]] = {
    "fox": Subject((226, 108, 46), CREAM, 0.46, Place.GROUND, FOX),
    "cat": Subject((92, 96, 118), (240, 164, 164), 0.42, Place.GROUND, CAT),
    "dog": Subject((190, 134, 84), (206, 66, 58), 0.43, Place.GROUND, DOG),
    "bird": Subject((222, 110, 78), (244, 164, 150), 0.36, Place.GROUND, BIRD),
    "fish": Subject((240, 132, 72), CREAM, 0.36, Place.WATER, FISH),
    "boat": Subject((196, 78, 62), (246, 196, 108), 0.36, Place.WATER, _BOAT),
    "house": Subject((198, 84, 66), CREAM, 0.34, Place.GROUND, _HOUSE),
    "lighthouse": Subject((206, 70, 58), CREAM, 0.60, Place.GROUND, _LIGHTHOUSE),
    "tree": Subject((98, 158, 86), (240, 116, 88), 0.50, Place.GROUND, _TREE),
    "flower": Subject((238, 120, 142), _LEAF, 0.48, Place.GROUND, _FLOWER),
    "rocket": Subject((214, 74, 62), (250, 148, 62), 0.46, Place.AIR, _ROCKET),
    "balloon": Subject((222, 86, 70), (250, 206, 120), 0.38, Place.AIR, _BALLOON),
    "car": Subject((64, 140, 168), CREAM, 0.36, Place.GROUND, _CAR),
}
