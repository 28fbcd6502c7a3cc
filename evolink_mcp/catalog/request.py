"""A request for pictures: its portable JSON Schema, its reading and its rules."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import cast
from urllib.parse import unquote

from evolink_mcp.catalog.addresses import is_inner_host, split_url
from evolink_mcp.catalog.spec import CallbackRule, MaskRule, ModelSpec, ReferenceRule
from evolink_mcp.errors import InvalidRequest, Problem

Json = Mapping[str, object]

MAX_URL_CHARS = 2048
"""Characters of an input address; the docs state it for callbacks, and no longer ones are known."""

_SHOWN = 60
"""Characters of a wrong value that a message repeats."""

_NAMED = 8
"""Unknown arguments that a message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """One request, checked; fields and their meaning are the API's own."""

    model: str
    prompt: str
    size: str | None = None
    n: int | None = None
    image_urls: tuple[str, ...] = ()
    mask_url: str | None = None
    callback_url: str | None = None

    def body(self) -> dict[str, object]:
        """Return the JSON body for EvoLink, without what the caller left open."""
        fields: dict[str, object] = {
            "model": self.model,
            "prompt": self.prompt,
            "size": self.size,
            "n": self.n,
            "image_urls": list(self.image_urls) or None,
            "mask_url": self.mask_url,
            "callback_url": self.callback_url,
        }
        return {name: value for name, value in fields.items() if value is not None}


def request_schema(spec: ModelSpec) -> dict[str, object]:
    """Compile a model's rules to the JSON Schema that every known host can take.

    `n` is bounded, not enumerated: hosts that speak to Gemini models reject a whole
    tool list that enumerates numbers, so "1, 2 or 4" is said in words and checked here.
    """
    rules = _property_schemas(spec)
    return {"type": "object", "properties": rules, "required": ["prompt"]}


def read_request(arguments: Json, spec: ModelSpec, *, beside: tuple[str, ...] = ()) -> ImageRequest:
    """Read a host's arguments, leniently in form and strictly in content.

    Numbers and lists that arrive as strings are read, explicit nulls count as absent.
    `beside` names arguments that exist beside these, for the error about unknown ones.

    Raises:
        InvalidRequest: Unknown arguments or broken rules, all of them at once.
    """
    fields = {name: _unquote(name, value) for name, value in arguments.items() if value is not None}
    problems = (*unknown_fields(fields, (*_FIELDS, *beside)), *check_request(fields, spec))
    if problems:
        raise InvalidRequest(problems=problems)
    return _build(fields, spec)


def unknown_fields(fields: Json, known: tuple[str, ...]) -> tuple[Problem, ...]:
    """Name every argument that does not exist."""
    allowed, unknown = ", ".join(known), [name for name in fields if name not in known]
    named = [_shown(name) for name in unknown[:_NAMED]]
    if len(unknown) > _NAMED:
        named.append(f"each of {len(unknown) - _NAMED} more")
    return tuple(Problem(name, "is not an argument of this tool", allowed) for name in named)


def check_request(fields: Json, spec: ModelSpec) -> tuple[Problem, ...]:
    """Check fields of the API's own types against a model's rules; unknown ones are passed over."""
    return (
        *_check_model(fields, spec),
        *_check_prompt(fields, spec),
        *_check_size(fields, spec),
        *_check_count(fields, spec),
        *_check_references(fields, spec.image_urls),
        *_check_mask(fields, spec.mask_url),
        *_check_callback(fields, spec.callback_url),
    )


_FIELDS = ("model", "prompt", "size", "n", "image_urls", "mask_url", "callback_url")


def _property_schemas(spec: ModelSpec) -> dict[str, object]:
    references, mask, callback = spec.image_urls, spec.mask_url, spec.callback_url
    return {
        "model": {
            "type": "string",
            "description": "The image model.",
            "enum": [spec.id],
            "default": spec.id,
        },
        "prompt": {
            "type": "string",
            "description": "What to draw, or how to change the reference images.",
            "minLength": 1,
            "maxLength": spec.prompt.max_chars,
        },
        "size": {
            "type": "string",
            "description": "Ratio or pixels (width x height).",
            "enum": list(spec.size.values),
        },
        "n": {
            "type": "integer",
            "description": f"How many pictures: {_either(spec.n.values)}. Each one costs.",
            "minimum": min(spec.n.values),
            "maximum": max(spec.n.values),
        },
        "image_urls": {
            "type": "array",
            "description": _references_description(references),
            "items": {"type": "string", "minLength": 1, "maxLength": MAX_URL_CHARS},
            "maxItems": references.max_items,
        },
        "mask_url": {
            "type": "string",
            "description": _mask_description(mask),
            "minLength": 1,
            "maxLength": MAX_URL_CHARS,
        },
        "callback_url": {
            "type": "string",
            "description": f"Public {callback.scheme} address that EvoLink tells when the task "
            "ends. Rarely needed: this tool waits by itself.",
            "minLength": 1,
            "maxLength": callback.max_chars,
        },
    }


def _references_description(rule: ReferenceRule) -> str:
    return (
        f"Reference images to edit or combine: public http(s) addresses, at most "
        f"{rule.max_items}; {_either(rule.formats)}, {rule.max_megabytes} MB each."
    )


def _mask_description(rule: MaskRule) -> str:
    return (
        f"Mask for an edit: a public address of a {rule.format.upper()}, at most "
        f"{rule.max_megabytes} MB; {rule.repaint} is drawn anew, the rest is kept. Needs exactly "
        f"{rule.reference_images} reference image, a {rule.reference_format.upper()} of the "
        "same size."
    )


def _check_model(fields: Json, spec: ModelSpec) -> Iterator[Problem]:
    model = fields.get("model")
    if model is not None and model != spec.id:
        yield Problem("model", f"{_shown(model)} is not an enabled model", spec.id)


def _check_prompt(fields: Json, spec: ModelSpec) -> Iterator[Problem]:
    prompt, limit = fields.get("prompt"), spec.prompt.max_chars
    allowed = f"a text of 1 to {limit} characters"
    if not isinstance(prompt, str):
        yield Problem("prompt", "is required and must be a text", allowed)
    elif not prompt.strip():
        yield Problem("prompt", "must not be blank", allowed)
    elif len(prompt) > limit:
        yield Problem("prompt", f"has {len(prompt)} characters, more than {limit}", allowed)
    elif not prompt.isascii() and not _is_encodable(prompt):
        yield Problem("prompt", "holds half of a character (a lone surrogate)", "valid Unicode")


def _check_size(fields: Json, spec: ModelSpec) -> Iterator[Problem]:
    size = fields.get("size")
    if size is not None and size not in spec.size.values:
        yield Problem("size", f"{_shown(size)} is not accepted", ", ".join(spec.size.values))


def _check_count(fields: Json, spec: ModelSpec) -> Iterator[Problem]:
    n = fields.get("n")
    if n is not None and (isinstance(n, bool) or n not in spec.n.values):
        yield Problem("n", f"{_shown(n)} is not accepted", _either(spec.n.values))


def _check_references(fields: Json, rule: ReferenceRule) -> Iterator[Problem]:
    urls = fields.get("image_urls")
    if urls is None:
        return
    if not isinstance(urls, list | tuple):
        yield Problem("image_urls", "must be a list of addresses", f"at most {rule.max_items}")
        return
    items = cast("list[object]", urls)
    if len(items) > rule.max_items:
        problem = f"holds {len(items)} images, more than {rule.max_items}"
        yield Problem("image_urls", problem, f"at most {rule.max_items}")
    for position, url in enumerate(items[: rule.max_items]):
        yield from _check_input_url(f"image_urls[{position}]", url, formats=rule.formats)


def _check_mask(fields: Json, rule: MaskRule) -> Iterator[Problem]:
    mask, references = fields.get("mask_url"), fields.get("image_urls")
    if mask is None:
        return
    yield from _check_input_url("mask_url", mask, formats=(rule.format,))
    items = cast("list[object]", references) if isinstance(references, list | tuple) else []
    if len(items) != rule.reference_images:
        yield Problem(
            "mask_url",
            f"cannot be used with {len(items)} reference images",
            f"a mask together with exactly {rule.reference_images} item in image_urls",
        )
    elif (found := _extension(items[0])) and found != rule.reference_format:
        allowed = f"a {rule.reference_format} of the same size as the mask"
        yield Problem("image_urls[0]", f"is a .{found} file, and a mask is given", allowed)


def _check_input_url(name: str, url: object, *, formats: tuple[str, ...]) -> Iterator[Problem]:
    parts = split_url(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in {"http", "https"}:
        yield Problem(name, f"{_shown(url)} is not an http(s) address", "a public http(s) address")
    elif len(str(url)) > MAX_URL_CHARS:
        allowed = f"at most {MAX_URL_CHARS} characters"
        yield Problem(name, f"has {len(str(url))} characters", allowed)
    elif (found := _extension(url)) and found not in formats:
        allowed = f"a picture of type {_either(formats)}"
        yield Problem(name, f"is a .{found} file", allowed)


def _check_callback(fields: Json, rule: CallbackRule) -> Iterator[Problem]:
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


def _extension(url: object) -> str:
    parts = split_url(url) if isinstance(url, str) else None
    path = unquote(parts.path) if parts else ""
    ending = PurePosixPath(path).suffix.lower().removeprefix(".")
    return ending if ending in _TELLING else ""


def _unquote(name: str, value: object) -> object:
    """Read a number or a list that a host sent as a string."""
    if not isinstance(value, str) or name not in {"n", "image_urls"}:
        return _whole(value) if name == "n" else value
    try:
        inner: object = json.loads(value)
    except (ValueError, RecursionError):
        inner = None
    if name == "n":
        return _whole(inner) if isinstance(inner, int | float) else value
    return cast("list[object]", inner) if isinstance(inner, list) else [value]


def _whole(value: object) -> object:
    """Take 2.0 for 2: some hosts have one type of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _build(fields: Json, spec: ModelSpec) -> ImageRequest:
    """Make the request; `check_request` has established the types."""
    return ImageRequest(
        model=spec.id,
        prompt=cast("str", fields["prompt"]),
        size=cast("str | None", fields.get("size")),
        n=cast("int | None", fields.get("n")),
        image_urls=tuple(cast("list[str]", fields.get("image_urls", ()))),
        mask_url=cast("str | None", fields.get("mask_url")),
        callback_url=cast("str | None", fields.get("callback_url")),
    )


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _either(values: tuple[object, ...]) -> str:
    *others, last = map(str, values)
    return f"{', '.join(others)} or {last}" if others else last


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else _as_json(value)
    printable = "".join(char if char.isprintable() else "?" for char in text)
    return f'"{printable[:_SHOWN]}…"' if len(printable) > _SHOWN else f'"{printable}"'


def _as_json(value: object) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return type(value).__name__  # no JSON, or too deep or too long a number to be written
