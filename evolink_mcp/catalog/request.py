"""A request for pictures: read from a host's arguments, written as EvoLink's body."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from evolink_mcp.catalog.checks import check_request
from evolink_mcp.catalog.inputs import Reach
from evolink_mcp.catalog.models import Catalogue
from evolink_mcp.catalog.sizes import canonical
from evolink_mcp.catalog.spec import ModelSpec, ParamRule
from evolink_mcp.catalog.wording import shown
from evolink_mcp.errors import InvalidRequest, Problem

Json = Mapping[str, object]

FIELDS = (
    *("model", "prompt", "size", "quality", "resolution", "n"),
    *("image_urls", "mask_url", "callback_url"),
)
"""Fields of the body that have a place of their own in a request."""

_NAMED = 8
"""Unknown arguments that a message names."""

_SUGGESTED = 3
"""Models that a message suggests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """One request, checked; fields and their meaning are the API's own."""

    model: str
    prompt: str = ""
    """Empty where the model needs none."""
    size: str | None = None
    quality: str | None = None
    resolution: str | None = None
    n: int | None = None
    image_urls: tuple[str, ...] = ()
    mask_url: str | None = None
    callback_url: str | None = None
    model_params: Json = field(default_factory=dict[str, object])
    params: Json = field(default_factory=dict[str, object])
    """Further fields of the body, which only some models have."""

    def body(self) -> dict[str, object]:
        """Return the JSON body for EvoLink, without what the caller left open."""
        fields: dict[str, object] = {
            "model": self.model,
            "prompt": self.prompt or None,
            "size": self.size,
            "quality": self.quality,
            "resolution": self.resolution,
            "n": self.n,
            "image_urls": list(self.image_urls) or None,
            "mask_url": self.mask_url,
            "callback_url": self.callback_url,
            "model_params": dict(self.model_params) or None,
            **self.params,
        }
        return {name: value for name, value in fields.items() if value is not None}


def request_in(body: Json) -> ImageRequest:
    """Return the request of a body that was checked before."""
    known: dict[str, Any] = {name: body[name] for name in FIELDS if name in body}
    known["image_urls"] = tuple(known.get("image_urls", ()))
    return ImageRequest(
        **known,
        model_params=cast("Json", body.get("model_params", {})),
        params={name: body[name] for name in body if name not in (*FIELDS, "model_params")},
    )


def read_request(
    arguments: Json, catalogue: Catalogue, *, beside: tuple[str, ...] = (), reach: Reach = "web"
) -> ImageRequest:
    """Read a host's arguments, leniently in form and strictly in content.

    Numbers, lists and objects that arrive as strings are read, explicit nulls count as
    absent. `beside` names arguments that exist beside these, for the error about unknown
    ones. `reach` says which inputs may be named.

    Raises:
        InvalidRequest: Unknown arguments or broken rules, all of them at once.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    spec = catalogue.find(given.get("model", catalogue.default))
    fields = _unquoted(given, spec)
    problems = (
        *_foreign_fields(fields, spec, beside=beside),
        *check_request(fields, spec, reach=reach),
    )
    if problems:
        others = _takers(given, catalogue, reach=reach)
        raise InvalidRequest(problems=problems, next_step=_next_step(others))
    return request_in({**_canonical(fields, spec), "model": spec.id})


def unknown_fields(fields: Json, known: tuple[str, ...]) -> tuple[Problem, ...]:
    """Name every argument that does not exist."""
    return tuple(_not_among(fields, known, problem="is not an argument of this tool"))


def fields_of(spec: ModelSpec) -> tuple[str, ...]:
    """Name the fields that a model takes, in the order of the docs."""
    optional = [name for name in (*FIELDS, "model_params") if spec.takes(name)]
    return (
        "model",
        *(name for name in optional if name != "callback_url"),
        *spec.params,
        "callback_url",
    )


def _foreign_fields(fields: Json, spec: ModelSpec, *, beside: tuple[str, ...]) -> Iterator[Problem]:
    known = (*fields_of(spec), *beside)
    return _not_among(fields, known, problem=f"is not an argument for {spec.id}")


def _not_among(fields: Json, known: tuple[str, ...], *, problem: str) -> Iterator[Problem]:
    allowed, unknown = ", ".join(known), [name for name in fields if name not in known]
    named = [shown(name) for name in unknown[:_NAMED]]
    if len(unknown) > _NAMED:
        named.append(f"each of {len(unknown) - _NAMED} more")
    return (Problem(name, problem, allowed) for name in named)


def _takers(given: Json, catalogue: Catalogue, *, reach: Reach) -> list[str]:
    """Name enabled models that would take the same arguments."""
    asked = {name: value for name, value in given.items() if name != "model"}
    return [
        spec.id
        for spec in catalogue.models.values()
        if spec.known and asked.keys() <= {*fields_of(spec)}
        if not check_request(_unquoted(asked, spec), spec, reach=reach)
    ][:_SUGGESTED]


def _next_step(takers: list[str]) -> str:
    if not takers:
        return "Change the named arguments and call again."
    return (
        "Change the named arguments and call again, or name a model that takes them: "
        f"{', '.join(takers)}."
    )


def _canonical(fields: Json, spec: ModelSpec) -> dict[str, object]:
    """Write words as the docs do, where case makes no difference."""
    rules = {"quality": spec.quality, "resolution": spec.resolution}
    spelled = {
        name: canonical(fields[name], rule)
        for name, rule in rules.items()
        if rule is not None and name in fields
    }
    return {**fields, **spelled}


def _unquoted(fields: Json, spec: ModelSpec) -> dict[str, object]:
    """Read numbers, lists and objects that a host sent as strings."""
    rules = {"n": ParamRule(type="integer"), "image_urls": ParamRule(type="array"), **spec.params}
    read = {name: _unquote(value, rules.get(name)) for name, value in fields.items()}
    nested = _unquote(read.get("model_params"), ParamRule(type="object"))
    if isinstance(nested, Mapping):
        inner = cast("Json", nested)
        read["model_params"] = {
            name: _unquote(value, spec.model_params.get(name))
            for name, value in inner.items()
            if value is not None
        }
    return read


def _unquote(value: object, rule: ParamRule | None) -> object:
    kind = rule.type if rule else None
    if kind == "integer" and isinstance(value, float):
        return _whole(value)
    if not isinstance(value, str) or kind not in {"integer", "boolean", "array", "object"}:
        return value
    try:
        inner: object = json.loads(value.lower() if kind == "boolean" else value)
    except (ValueError, RecursionError):
        inner = None
    return _typed(inner, value, kind=kind)


def _typed(inner: object, value: str, *, kind: str) -> object:
    if kind == "integer":
        return _whole(inner) if isinstance(inner, int | float) else value
    if kind == "boolean":
        return inner if isinstance(inner, bool) else value
    if kind == "object":
        return cast("object", inner) if isinstance(inner, dict) else value
    return cast("object", inner) if isinstance(inner, list) else [value]


def _whole(value: object) -> object:
    """Take 2.0 for 2: some hosts have one type of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
