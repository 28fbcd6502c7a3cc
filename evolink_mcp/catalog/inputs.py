"""The rules for addresses: reference images, masks, callbacks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Literal, cast
from urllib.parse import unquote

from evolink_mcp.catalog.addresses import is_inner_host, split_url
from evolink_mcp.catalog.spec import CallbackRule, MaskRule, ModelSpec, ReferenceRule
from evolink_mcp.catalog.wording import either, shown
from evolink_mcp.errors import Problem

Json = Mapping[str, object]

Reach = Literal["web", "handles", "files"]
"""Which inputs may be named: addresses of the web alone, also pictures that are known here, or
also files of this machine."""

MAX_URL_CHARS = 2048
"""Characters of an input address; the docs state it for callbacks, and no longer ones are known."""

_LOCAL = re.compile(r"(?:evolink:|file:|[/\\]|[A-Za-z]:[/\\])", re.IGNORECASE)
"""How an earlier picture or a file of this machine begins."""


def is_local(address: str) -> bool:
    """Tell whether an address means an earlier picture or a file of this machine."""
    return _LOCAL.match(address) is not None


def length_of(items: object) -> int:
    """Count the items of a list; 0 where it is none."""
    return len(cast("list[object]", items)) if isinstance(items, list | tuple) else 0


def references_allowed(rule: ReferenceRule | None) -> str:
    """Say how many reference images are accepted."""
    if rule is None:
        return "a list of addresses"
    if rule.max_items is None:
        return f"at least {rule.min_items}"
    if rule.min_items and rule.min_items == rule.max_items:
        return f"exactly {rule.max_items}"
    return (
        f"{rule.min_items} to {rule.max_items}" if rule.min_items else f"at most {rule.max_items}"
    )


def check_references(fields: Json, spec: ModelSpec, *, reach: Reach) -> Iterator[Problem]:
    """Check `image_urls`."""
    urls = fields.get("image_urls")
    if urls is None or not spec.takes("image_urls"):
        return
    rule = spec.image_urls or ReferenceRule()
    allowed = references_allowed(spec.image_urls)
    if not isinstance(urls, list | tuple):
        yield Problem("image_urls", "must be a list of addresses", allowed)
        return
    items = cast("list[object]", urls)
    if rule.max_items is not None and len(items) > rule.max_items:
        yield Problem(
            "image_urls", f"holds {len(items)} images, more than {rule.max_items}", allowed
        )
    for position, url in enumerate(items[: rule.max_items]):
        name = f"image_urls[{position}]"
        yield from check_input_url(name, url, formats=rule.formats, reach=reach)


def check_mask(fields: Json, spec: ModelSpec, *, reach: Reach) -> Iterator[Problem]:
    """Check `mask_url`, and what it asks of the reference images."""
    mask, references = fields.get("mask_url"), fields.get("image_urls")
    if mask is None or not spec.takes("mask_url"):
        return
    rule = spec.mask_url
    yield from check_input_url(
        "mask_url", mask, formats=(rule.format,) if rule else (), reach=reach
    )
    if rule is None:
        return
    items = cast("list[object]", references) if isinstance(references, list | tuple) else []
    most, wanted = rule.max_reference_images, rule.reference_format
    if not items or (most is not None and len(items) > most):
        problem = f"cannot be used with {len(items)} reference images"
        yield Problem("mask_url", problem, mask_allowed(rule))
    elif (
        wanted
        and (found := extension(items[0])) not in {"", wanted}
        and not _uploaded(items[0], reach)
    ):
        allowed = f"a {wanted} of the same size as the mask"
        yield Problem("image_urls[0]", f"is a .{found} file, and a mask is given", allowed)


def mask_allowed(rule: MaskRule) -> str:
    """Say how many reference images a mask goes with."""
    if rule.max_reference_images == 1:
        return "a mask together with exactly 1 item in image_urls"
    return "a mask together with at least 1 item in image_urls"


def _uploaded(url: object, reach: Reach) -> bool:
    """Tell whether an input will be uploaded, or refused in better words than there are here."""
    return reach != "web" and isinstance(url, str) and is_local(url)


def check_input_url(
    name: str, url: object, *, formats: tuple[str, ...], reach: Reach = "web"
) -> Iterator[Problem]:
    """Check an address of a picture: its form, its length, and a type that its ending tells."""
    if not isinstance(url, str):
        problem = f"{shown(url)} is not an http(s) address"
        yield Problem(name, problem, _INPUTS_ALLOWED[reach])
    elif len(url) > MAX_URL_CHARS:
        allowed = f"at most {MAX_URL_CHARS} characters"
        yield Problem(name, f"has {len(url)} characters", allowed)
    elif _uploaded(url, reach):
        return
    elif (parts := split_url(url)) is None or parts.scheme not in {"http", "https"}:
        problem = f"{shown(url)} is not an http(s) address"
        yield Problem(name, problem, _INPUTS_ALLOWED[reach])
    elif formats and (found := extension(url)) and found not in formats:
        yield Problem(name, f"is a .{found} file", f"a picture of type {either(formats)}")


_INPUTS_ALLOWED: Mapping[Reach, str] = {
    "web": "a public http(s) address",
    "handles": "a public http(s) address or an evolink:// handle",
    "files": "a public http(s) address, an evolink:// handle, or an absolute path or file:// "
    "address",
}


def check_callback(fields: Json, rule: CallbackRule) -> Iterator[Problem]:
    """Check `callback_url`."""
    url = fields.get("callback_url")
    if url is None:
        return
    parts = split_url(url) if isinstance(url, str) else None
    allowed = f"a public {rule.scheme} address of at most {rule.max_chars} characters"
    if parts is None or parts.scheme != rule.scheme:
        yield Problem("callback_url", f"must begin with {rule.scheme}:// and name a host", allowed)
    elif len(str(url)) > rule.max_chars:
        problem = f"has {len(str(url))} characters, more than {rule.max_chars}"
        yield Problem("callback_url", problem, allowed)
    elif parts.username is not None or parts.password is not None:
        yield Problem("callback_url", "must not hold a user name or password", allowed)
    elif is_inner_host(parts.hostname or ""):
        yield Problem("callback_url", "points to an inner address", allowed)


_TELLING = frozenset(
    {
        *("avif", "bmp", "gif", "heic", "heif", "ico", "jfif", "jpeg", "jpg", "mov"),
        *("mp4", "pdf", "png", "psd", "raw", "svg", "tif", "tiff", "webp"),
    }
)
"""Endings that name a type; anything else (`.php`, none) tells nothing about the file."""

_SAME_TYPE = {"tif": "tiff", "jfif": "jpeg"}


def extension(url: object) -> str:
    """Return the ending that tells a file's type, or nothing."""
    parts = split_url(url) if isinstance(url, str) else None
    path = unquote(parts.path) if parts else ""
    ending = PurePosixPath(path).suffix.lower().removeprefix(".")
    return _SAME_TYPE.get(ending, ending) if ending in _TELLING else ""
