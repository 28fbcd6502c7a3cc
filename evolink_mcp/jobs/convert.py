"""Making a picture fit a model's rules, or saying why it cannot.

Of what fits already only the metadata is taken away. What does not fit is converted or reduced
as far as the purpose, being looked at by a model, does not suffer; nothing is enlarged, and a
mask, whose every pixel counts, keeps them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from evolink_mcp.catalog.wording import either
from evolink_mcp.errors import InvalidRequest, Problem
from evolink_mcp.jobs.frames import (
    Source,
    encoded,
    opened,
    plain,
    resized,
    without_idle_alpha,
)
from evolink_mcp.jobs.metadata import without_metadata
from evolink_mcp.jobs.pictures import NotAPicture

if TYPE_CHECKING:  # Pillow is off the way to the first answer
    from PIL.Image import Image as Frame

Kind = Literal["reference", "mask"]

UPLOADABLE = ("jpeg", "png", "gif", "webp")
"""What the Files API takes (EvoLink docs, "File Upload")."""

MAX_UPLOAD_BYTES = 95 * 1024 * 1024
"""Largest file that the Files API takes (vendor client, October 2026)."""

_LOSSLESS = frozenset({"png", "gif", "bmp", "tiff"})
_ANIMATED = frozenset({"png", "gif", "webp", "avif", "tiff"})
"""Types whose further pictures are frames or pages, not a camera's by-products."""

_OTHER_NAMES = {"jpg": "jpeg", "tif": "tiff", "heif": "heic"}

_LONGEST_SIDE = 65_000
"""Pixels; neither JPEG nor most programs can do more."""

_TRIES = 12
"""Sizes that are tried until the file is small enough; each has at most 0.81 of the last's
pixels."""

_STEP, _AIM = 0.9, 0.95


class _Unfit(Exception):
    """What is wrong with a picture, and what is allowed."""

    def __init__(self, rule: str, allowed: str) -> None:
        super().__init__(rule)
        self.rule, self.allowed = rule, allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a model takes; None and no formats where no limit is stated."""

    formats: tuple[str, ...] = ()
    """Types or file endings, `jpeg` as well as `jpg`."""
    max_bytes: int | None = None
    min_side: int | None = None
    """Pixels."""
    max_side: int | None = None
    """Pixels."""
    min_pixels: int | None = None
    """Width times height."""
    max_pixels: int | None = None
    """Width times height."""
    ratio_max: float | None = None
    """The longer side over the shorter one."""
    alpha: bool = False
    """Whether there must be transparency."""

    @property
    def types(self) -> tuple[str, ...]:
        """The types that the model takes and that can be uploaded."""
        wanted = {_OTHER_NAMES.get(name, name) for name in self.formats} or UPLOADABLE
        return tuple(name for name in UPLOADABLE if name in wanted)

    @property
    def most_bytes(self) -> int:
        """The most bytes that a file may have."""
        return min(self.max_bytes or MAX_UPLOAD_BYTES, MAX_UPLOAD_BYTES)

    def take(self, *, media_type: str, width: int, height: int, size: int) -> bool:
        """Tell whether a picture, of `size` bytes, is known to fit as it is."""
        name = "" if self.alpha else media_type.removeprefix("image/")
        broken = (*_lacks(self, width, height), *_excesses(self, (width, height), size=size))
        return name in self.types and not broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A picture that fits, and what was done to it."""

    content: bytes
    media_type: str
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    changes: tuple[str, ...] = ()
    """Such as "converted from HEIC to JPEG"."""


def fit(
    content: bytes, rule: Limits, *, kind: Kind = "reference", field: str = "image_urls"
) -> Fitted:
    """Make a picture fit the rules; blocking, seconds for a large one.

    Raises:
        InvalidRequest: No picture, broken, too small, too long, or a mask that does not fit
            as it is; the problem is named after `field`.
    """
    try:
        with opened(content) as source:
            return _fitted(source, rule, is_mask=kind == "mask")
    except NotAPicture as error:
        problem = Problem(field, f"is no picture that can be used: {error}", _types_allowed(rule))
    except _Unfit as error:
        problem = Problem(field, error.rule, error.allowed)
    raise InvalidRequest(problems=(problem,))


def check_mask_fits(
    mask: tuple[int, int], image: tuple[int, int], *, changes: tuple[str, ...] = ()
) -> Problem | None:
    """Compare the sizes of a mask and its image, in pixels; `changes` were made to the image."""
    if mask == image:
        return None
    made = f" ({', '.join(changes)})" if changes else ""
    return Problem(
        "mask_url",
        f"is {_by(mask)} pixels, and the reference image is {_by(image)}{made}",
        "a mask of the same size as its reference image",
    )


def _fitted(source: Source, rule: Limits, *, is_mask: bool) -> Fitted:
    image = source.image
    _refuse(_lacks(rule, image.width, image.height))
    if rule.alpha and not image.has_transparency_data:
        raise _Unfit("has no transparency", "a picture with an alpha channel")
    content, is_bare = without_metadata(source.content, source.type)
    excesses = list(_excesses(rule, image.size, size=len(content)))
    if source.type in rule.types and is_bare and not excesses:
        return Fitted(
            content=content,
            media_type=f"image/{source.type}",
            width=image.width,
            height=image.height,
            changes=tuple(_removals(source, content)),
        )
    return _converted_mask(source, rule) if is_mask else _converted(source, rule)


def _removals(source: Source, content: bytes) -> Iterator[str]:
    if source.left_out:
        yield f"left out {source.left_out} bytes after the end of the picture"
    if content != source.content:
        yield "metadata such as place and camera removed"


def _converted_mask(source: Source, rule: Limits) -> Fitted:
    if "png" not in rule.types:
        raise _Unfit(f"is a {source.type.upper()}, and masks are kept as PNG", _types_allowed(rule))
    frame = plain(source.image)
    content = encoded(frame, "png")
    _refuse(_excesses(rule, frame.size, size=len(content)))
    return _result(source, frame, name="png", content=content)


def _converted(source: Source, rule: Limits) -> Fitted:
    original = without_idle_alpha(plain(source.image))
    targets = _targets(source.type, rule, opaque=original.mode != "RGBA")
    size = _within(original.size, rule)
    for _ in range(_TRIES):
        _refuse(_lacks(rule, *size, reduced=True))
        _refuse(_excesses(rule, size, size=0))  # a line of one pixel gets no thinner
        frame = resized(original, size)
        content = b""
        for name in targets:
            content = encoded(frame, name)
            if len(content) <= rule.most_bytes:
                return _result(source, frame, name=name, content=content)
        scale = min(_STEP, _AIM * (rule.most_bytes / len(content)) ** 0.5)
        size, targets = _scaled(size, scale, rule), targets[-1:]
    raise _Unfit("is too large, also when it is reduced", f"at most {rule.most_bytes} bytes")


def _targets(name: str, rule: Limits, *, opaque: bool) -> tuple[str, ...]:
    """Choose types to save in, the better one first; photos gain nothing by PNG."""
    wanted = ("png", "jpeg") if name in _LOSSLESS else ("jpeg", "png")
    possible = [each for each in wanted if each in rule.types and (opaque or each == "png")]
    if not possible:
        what = name.upper() + ("" if opaque else " with transparency")
        raise _Unfit(f"is a {what}, which cannot be converted", _types_allowed(rule))
    return tuple(possible if possible[0] == "png" else possible[:1])


def _result(source: Source, frame: Frame, *, name: str, content: bytes) -> Fitted:
    return Fitted(
        content=content,
        media_type=f"image/{name}",
        width=frame.width,
        height=frame.height,
        changes=tuple(_changes(source, frame, name=name)),
    )


def _changes(source: Source, frame: Frame, *, name: str) -> Iterator[str]:
    before, after = source.image.size, frame.size
    if source.type in _ANIMATED and getattr(source.image, "is_animated", False):
        yield "only the first of its frames is used"
    if source.type != name:
        yield f"converted from {source.type.upper()} to {name.upper()}"
    if sorted(before) != sorted(after):  # it may have been turned upright
        yield f"reduced from {_by(before)} to {_by(after)} pixels"
    if source.type == name and sorted(before) == sorted(after):
        yield f"saved anew as {name.upper()}, without its metadata"


def _within(size: tuple[int, int], rule: Limits) -> tuple[int, int]:
    """Return the largest size of the same shape that the rules allow."""
    longest = min(rule.max_side or _LONGEST_SIDE, _LONGEST_SIDE)
    scale = min(1.0, longest / max(size))
    if rule.max_pixels:
        scale = min(scale, (rule.max_pixels / (size[0] * size[1])) ** 0.5)
    return size if scale == 1.0 else _scaled(size, scale, rule)


def _scaled(size: tuple[int, int], scale: float, rule: Limits) -> tuple[int, int]:  # noqa: PLR0917 - read as a sentence
    """Return a smaller size; rounding may not make it longer than the rules allow."""
    width, height = (max(1, int(side * scale + 1e-9)) for side in size)
    longest = int(min(width, height) * rule.ratio_max) if rule.ratio_max else _LONGEST_SIDE
    return min(width, longest), min(height, longest)


def _lacks(rule: Limits, width: int, height: int, *, reduced: bool = False) -> Iterator[_Unfit]:  # noqa: PLR0917 - a size
    """Say what nobody can add to a picture."""
    found = f"{'would be' if reduced else 'is'} {width}x{height} pixels"
    found += " when it is reduced" if reduced else ""
    if rule.min_side and min(width, height) < rule.min_side:
        yield _Unfit(found, f"at least {rule.min_side} pixels on each side")
    if rule.min_pixels and width * height < rule.min_pixels:
        yield _Unfit(found, f"at least {rule.min_pixels} pixels (width times height)")
    if rule.ratio_max and max(width, height) > rule.ratio_max * min(width, height):
        longer = f"at most {rule.ratio_max:g} times as long on one side as on the other"
        yield _Unfit(found, longer)


def _excesses(rule: Limits, sides: tuple[int, int], *, size: int) -> Iterator[_Unfit]:
    """Say what there is too much of; it may be taken away."""
    if rule.max_side and max(sides) > rule.max_side:
        yield _Unfit(f"is {_by(sides)} pixels", f"at most {rule.max_side} pixels on each side")
    if rule.max_pixels and sides[0] * sides[1] > rule.max_pixels:
        most = f"at most {rule.max_pixels} pixels (width times height)"
        yield _Unfit(f"is {_by(sides)} pixels", most)
    if size > rule.most_bytes:
        yield _Unfit(f"has {size} bytes", f"at most {rule.most_bytes} bytes")


def _refuse(broken: Iterable[_Unfit]) -> None:
    for each in broken:
        raise each


def _types_allowed(rule: Limits) -> str:
    types = either(rule.types or rule.formats)
    return f"a picture of type {types}, or one that can be converted to it"


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
