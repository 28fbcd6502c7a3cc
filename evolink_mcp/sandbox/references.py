"""Reference images and mask: fetched when the task runs, and judged by their content."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import anyio
import anyio.to_thread
from PIL import Image

from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.catalog.spec import MEGABYTE, MaskRule, ModelSpec, ReferenceRule
from evolink_mcp.catalog.wording import either
from evolink_mcp.sandbox.failures import Failure
from evolink_mcp.sandbox.fetching import Unfetched

Fetch = Callable[[str, int], Awaitable[bytes]]
"""From an address and a limit in bytes to a file; raises Unfetched."""

_PILLOW_FORMATS: Final[Mapping[str, str]] = {
    "jpeg": "JPEG",
    "jpg": "JPEG",
    "png": "PNG",
    "webp": "WEBP",
    "gif": "GIF",
    "bmp": "BMP",
    "tiff": "TIFF",
}
_USUAL_FORMATS: Final = ("jpeg", "png", "webp")
_USUAL_LIMIT: Final = 30 * MEGABYTE
"""Bytes, where a model's page states no limit (EvoLink docs, "Error Codes": 30 MB on some)."""

_UNREADABLE: Final = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a picture is drawn from, besides the prompt."""

    references: tuple[bytes, ...] = ()
    mask: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Picture:
    """A file that is a picture: its content, type and size in pixels."""

    content: bytes
    format: str
    size: tuple[int, int]
    has_alpha: bool


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What has to be fetched: its name for messages, its address and what it must be."""

    name: str
    url: str
    rule: ReferenceRule


async def collect_inputs(
    request: ImageRequest, *, spec: ModelSpec, fetch: Fetch
) -> Inputs | Failure:
    """Fetch and judge everything a request points to; the first thing wrong fails the task."""
    references, mask = spec.image_urls or ReferenceRule(), spec.mask_url or MaskRule()
    wanted = [
        _Wanted(f"reference image {number}", url, references)
        for number, url in enumerate(request.image_urls, start=1)
    ]
    if request.mask_url is not None:
        rule = ReferenceRule(max_megabytes=mask.max_megabytes)
        wanted.append(_Wanted("the mask", request.mask_url, rule))
    found = await _load_all(wanted, fetch)
    pictures = [item for item in found if isinstance(item, _Picture)]
    failures = [item for item in found if isinstance(item, Failure)]
    if failures:
        return failures[0]
    if request.mask_url is None:
        return Inputs(tuple(picture.content for picture in pictures))
    return _masked(pictures[:-1], pictures[-1], rule=mask)


async def _load_all(wanted: list[_Wanted], fetch: Fetch) -> list[_Picture | Failure | None]:
    found: list[_Picture | Failure | None] = [None] * len(wanted)

    async def load(position: int) -> None:
        found[position] = await _load(wanted[position], fetch)

    async with anyio.create_task_group() as group:
        for position in range(len(wanted)):
            group.start_soon(load, position)
    return found


async def _load(wanted: _Wanted, fetch: Fetch) -> _Picture | Failure:
    name, limit = wanted.name, wanted.rule.max_bytes or _USUAL_LIMIT
    try:
        fetched = await fetch(wanted.url, limit)
    except Unfetched as reason:
        return Failure("image_processing_error", f"Cannot get {name}: {reason}.")
    if len(fetched) > limit:
        return Failure("invalid_parameters", f"The file of {name} has more than {limit} bytes.")
    formats = wanted.rule.formats or _USUAL_FORMATS
    picture = await anyio.to_thread.run_sync(_opened, fetched, formats)
    if picture is None:
        message = f"Cannot read {name}: it is not an intact {either(formats).upper()} file."
        return Failure("image_processing_error", message)
    broken = _broken_limits(picture.size, wanted.rule)
    return Failure("invalid_parameters", f"Of {name} {broken}.") if broken else picture


def _opened(content: bytes, formats: tuple[str, ...]) -> _Picture | None:
    names = tuple({_PILLOW_FORMATS[each] for each in formats if each in _PILLOW_FORMATS})
    try:
        with Image.open(BytesIO(content), formats=names) as image:
            image.load()
            return _Picture(
                content, str(image.format), image.size, has_alpha="A" in image.getbands()
            )
    except _UNREADABLE:
        return None


def _broken_limits(size: tuple[int, int], rule: ReferenceRule) -> str:
    """Say the first limit that a picture's pixels break; nothing where they break none."""
    shorter, longer = sorted(size)
    area = shorter * longer
    broken = (
        (shorter < (rule.min_side or 0), f"an edge has less than {rule.min_side} pixels"),
        (longer > (rule.max_side or longer), f"an edge has more than {rule.max_side} pixels"),
        (area < (rule.min_pixels or 0), f"there are less than {rule.min_pixels} pixels"),
        (area > (rule.max_pixels or area), f"there are more than {rule.max_pixels} pixels"),
        (
            longer > shorter * (rule.ratio_max or longer),
            f"one edge is more than {rule.ratio_max or 0:g} times the other",
        ),
    )
    return next((problem for breaks, problem in broken if breaks), "")


def _masked(references: list[_Picture], mask: _Picture, *, rule: MaskRule) -> Inputs | Failure:
    """Apply the rule for masks: a PNG, over a picture of the same size."""
    if rule.alpha and not mask.has_alpha:
        return Failure("invalid_parameters", "The mask has no alpha channel.")
    if mask.format != "PNG" or _is_other(references[:1], rule.reference_format):
        return Failure("invalid_parameters", "Mask and reference image must both be PNG files.")
    for picture in references[:1]:
        if picture.size != mask.size:
            message = f"The mask has {_pixels(mask)} pixels, the image {_pixels(picture)}."
            return Failure("invalid_parameters", message)
    return Inputs(tuple(picture.content for picture in references), mask.content)


def _is_other(pictures: list[_Picture], form: str | None) -> bool:
    return form is not None and any(picture.format != form.upper() for picture in pictures)


def _pixels(picture: _Picture) -> str:
    return "{}x{}".format(*picture.size)
