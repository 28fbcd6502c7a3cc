"""Reference images and mask: fetched when the task runs, and judged by their content."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import anyio
import anyio.to_thread
from PIL import Image

from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.catalog.spec import ModelSpec
from evolink_mcp.sandbox.failures import Failure
from evolink_mcp.sandbox.fetching import Unfetched

Fetch = Callable[[str, int], Awaitable[bytes]]
"""From an address and a limit in bytes to a file; raises Unfetched."""

_FORMATS: Final = ("JPEG", "PNG", "WEBP")
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


async def collect_inputs(
    request: ImageRequest, *, spec: ModelSpec, fetch: Fetch
) -> Inputs | Failure:
    """Fetch and judge everything a request points to; the first thing wrong fails the task."""
    references, mask = spec.image_urls, spec.mask_url
    wanted = [
        (f"reference image {number}", url, references.max_bytes)
        for number, url in enumerate(request.image_urls, start=1)
    ]
    if request.mask_url is not None:
        wanted.append(("the mask", request.mask_url, mask.max_bytes))
    found = await _load_all(wanted, fetch)
    pictures = [item for item in found if isinstance(item, _Picture)]
    failures = [item for item in found if isinstance(item, Failure)]
    if failures:
        return failures[0]
    if request.mask_url is None:
        return Inputs(tuple(picture.content for picture in pictures))
    return _masked(pictures[:-1], pictures[-1])


async def _load_all(
    wanted: list[tuple[str, str, int]], fetch: Fetch
) -> list[_Picture | Failure | None]:
    found: list[_Picture | Failure | None] = [None] * len(wanted)

    async def load(position: int) -> None:
        name, url, limit = wanted[position]
        found[position] = await _load(name, limit=limit, content=fetch(url, limit))

    async with anyio.create_task_group() as group:
        for position in range(len(wanted)):
            group.start_soon(load, position)
    return found


async def _load(name: str, *, limit: int, content: Awaitable[bytes]) -> _Picture | Failure:
    try:
        fetched = await content
    except Unfetched as reason:
        return Failure("image_processing_error", f"Cannot get {name}: {reason}.")
    if len(fetched) > limit:
        return Failure("invalid_parameters", f"The file of {name} has more than {limit} bytes.")
    picture = await anyio.to_thread.run_sync(_opened, fetched)
    return picture or Failure(
        "image_processing_error", f"Cannot read {name}: it is not an intact JPG, PNG or WebP file."
    )


def _opened(content: bytes) -> _Picture | None:
    try:
        with Image.open(BytesIO(content), formats=_FORMATS) as image:
            image.load()
            return _Picture(content, str(image.format), image.size)
    except _UNREADABLE:
        return None


def _masked(references: list[_Picture], mask: _Picture) -> Inputs | Failure:
    """Apply the rule for masks: a PNG, over a PNG of the same size."""
    for picture in (*references, mask):
        if picture.format != "PNG":
            return Failure("invalid_parameters", "Mask and reference image must both be PNG files.")
        if picture.size != mask.size:
            message = f"The mask has {_pixels(mask)} pixels, the image {_pixels(picture)}."
            return Failure("invalid_parameters", message)
    return Inputs(tuple(picture.content for picture in references), mask.content)


def _pixels(picture: _Picture) -> str:
    return "{}x{}".format(*picture.size)
