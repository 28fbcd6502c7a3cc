"""How large a task's pictures are, and of which type."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.catalog.sizes import in_pixels
from evolink_mcp.catalog.spec import ChoiceRule, ModelSpec
from evolink_mcp.sandbox.drawing.files import PictureType

_TIERS: Final[Mapping[str, int]] = {
    "0.5K": 512,
    "1K": 1024,
    "1.5K": 1536,
    "2K": 2048,
    "3K": 3072,
    "4K": 4096,
    "standard": 1024,
    "hd": 2048,
}
"""Pixels: the side of a square picture of a tier (its name; the docs give no table for most)."""

_RATIOS: Final[Mapping[str, tuple[int, int]]] = {"2:3": (1024, 1536), "3:2": (1536, 1024)}
"""Pixel sizes of ratios that the docs name beside them (EvoLink docs, "gpt-4o-image")."""

_RATIO: Final = re.compile(r"([1-9]\d{0,3}(?:\.\d)?):([1-9]\d{0,3}(?:\.\d)?)")
_STEP: Final = 16
_USUAL_SIDE: Final = 1024


def picture_size(request: ImageRequest, spec: ModelSpec) -> tuple[int, int]:
    """Return width and height in pixels; ratios keep the area of the tier that is asked for."""
    default = spec.size.default if spec.size else None
    size = request.size or default or "1:1"
    if exact := in_pixels(size):
        return exact
    side = _side(request, spec)
    if side == _USUAL_SIDE and size in _RATIOS:
        return _RATIOS[size]
    ratio = _ratio(size)
    return _rounded(side * math.sqrt(ratio)), _rounded(side / math.sqrt(ratio))


def picture_type(request: ImageRequest, spec: ModelSpec) -> PictureType:
    """Return the type of file that is asked for, or the model's own; PNG where nobody says."""
    rule = spec.params.get("output_format") or spec.model_params.get("output_format")
    asked = request.params.get("output_format") or request.model_params.get("output_format")
    word = asked or (rule.default if rule else None)
    return "jpeg" if word == "jpeg" else "webp" if word == "webp" else "png"


def _ratio(size: str) -> float:
    """Return width over height; 1 for a word that is no ratio."""
    found = _RATIO.fullmatch(size)
    return float(found[1]) / float(found[2]) if found else 1.0


def _side(request: ImageRequest, spec: ModelSpec) -> int:
    for asked, rule in (
        (request.resolution, spec.resolution),
        (request.quality, spec.quality),
    ):
        if side := _TIERS.get(asked or _default(rule)):
            return side
    return _USUAL_SIDE


def _default(rule: ChoiceRule | None) -> str:
    return (rule.default if rule else None) or ""


def _rounded(pixels: float) -> int:
    return max(_STEP, round(pixels / _STEP) * _STEP)
