"""A look at reference images and masks before money is at stake.

Only what is proven to break a rule is refused. An address that cannot be read from
here may still be readable for EvoLink.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import anyio

from evolink_mcp.api.egress import Beginning, Downloads
from evolink_mcp.catalog.inputs import is_local
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.catalog.spec import MaskRule, ModelSpec, ReferenceRule
from evolink_mcp.errors import FileUnavailable, InvalidRequest, Problem
from evolink_mcp.jobs.pictures import png_size, type_of

_HEAD = 64
"""Bytes; enough for the type of any picture and the size of a PNG."""


async def check_references(request: ImageRequest, *, spec: ModelSpec, downloads: Downloads) -> None:
    """Refuse reference images and masks of the web that provably break the model's rules.

    Raises:
        InvalidRequest: Not public, too large, of another type, or mask and image differ in size.
    """
    given = {f"image_urls[{position}]": url for position, url in enumerate(request.image_urls)}
    if request.mask_url is not None:
        given["mask_url"] = request.mask_url
    urls = {name: url for name, url in given.items() if not is_local(url)}
    seen, problems = await _look(urls, downloads)
    problems.extend(_broken_rules(seen, spec))
    if problems:
        raise InvalidRequest(problems=tuple(problems))


async def _look(
    urls: Mapping[str, str], downloads: Downloads
) -> tuple[dict[str, Beginning], list[Problem]]:
    seen: dict[str, Beginning] = {}
    problems: list[Problem] = []

    async def one(name: str, url: str) -> None:
        try:
            seen[name] = await downloads.peek(url, first=_HEAD)
        except FileUnavailable as error:
            if error.code == "inner_address":
                problems.append(
                    Problem(
                        name,
                        "is not a public address",
                        "an address that EvoLink's servers can read",
                    )
                )

    async with anyio.create_task_group() as group:
        for name, url in urls.items():
            group.start_soon(one, name, url)
    return seen, problems


def _broken_rules(seen: Mapping[str, Beginning], spec: ModelSpec) -> Iterator[Problem]:
    references, mask = spec.image_urls or ReferenceRule(), spec.mask_url or MaskRule()
    for name in sorted(seen.keys() - {"mask_url"}):
        of_mask = mask.reference_format if "mask_url" in seen else None
        formats = (of_mask,) if of_mask else references.formats
        yield from _check_file(name, seen[name], formats=formats, limit=references.max_bytes)
    if "mask_url" in seen:
        yield from _check_file(
            "mask_url", seen["mask_url"], formats=(mask.format,), limit=mask.max_bytes
        )
        yield from _check_same_size(seen)


def _check_file(
    name: str, file: Beginning, *, formats: tuple[str, ...], limit: int | None
) -> Iterator[Problem]:
    found = type_of(file.content)
    if found and formats and found not in formats:
        yield Problem(name, f"is a file of type {found}", " or ".join(formats))
    if limit is not None and file.size is not None and file.size > limit:
        yield Problem(name, f"has {file.size} bytes", f"at most {limit} bytes")


def _check_same_size(seen: Mapping[str, Beginning]) -> Iterator[Problem]:
    mask = png_size(seen["mask_url"].content)
    image = png_size(seen["image_urls[0]"].content) if "image_urls[0]" in seen else None
    if mask and image and mask != image:
        yield Problem(
            "mask_url",
            f"is {mask[0]}x{mask[1]} pixels, and the reference image is {image[0]}x{image[1]}",
            "a mask of the same size as its reference image",
        )
