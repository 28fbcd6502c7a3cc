"""The further fields of a model, and those inside its `model_params`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from evolink_mcp.catalog.spec import ModelSpec, ParamRule
from evolink_mcp.catalog.wording import either, shown
from evolink_mcp.errors import Problem

Json = Mapping[str, object]

MAX_TEXT_CHARS = 4000
"""Characters of a text whose length is not stated."""

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "boolean": bool,
    "array": (list, tuple),
    "object": Mapping,
}


def check_params(fields: Json, spec: ModelSpec) -> Iterator[Problem]:
    """Check what is given of a model's own fields."""
    for name, rule in spec.params.items():
        yield from _check(name, fields.get(name), rule=rule)
    nested = fields.get("model_params")
    if nested is None or not spec.takes("model_params"):
        return
    if isinstance(nested, Mapping):
        yield from _check_nested(cast("Json", nested), spec)
    else:
        yield Problem("model_params", "must be an object", params_allowed(spec))


def _check_nested(nested: Json, spec: ModelSpec) -> Iterator[Problem]:
    for name, value in nested.items():
        if name in spec.model_params:
            yield from _check(f"model_params.{name}", value, rule=spec.model_params[name])
        elif "model_params" not in spec.unknown:
            problem = f"is not a parameter of {spec.id}"
            yield Problem(f"model_params.{name[:64]}", problem, params_allowed(spec))


def params_allowed(spec: ModelSpec) -> str:
    """Name the fields inside `model_params`."""
    return ", ".join(spec.model_params) or "an object"


def param_allowed(rule: ParamRule) -> str:
    """Say what a field may hold."""
    if rule.values:
        return either(rule.values)
    if rule.type == "string":
        return f"a text of at most {rule.maximum or MAX_TEXT_CHARS} characters"
    if rule.type == "integer":
        bounds = rule.minimum is not None and rule.maximum is not None
        return (
            f"a whole number from {rule.minimum} to {rule.maximum}" if bounds else "a whole number"
        )
    return {"boolean": "true or false", "array": "a list", "object": "an object"}.get(
        rule.type or "", "any value"
    )


def _check(name: str, value: object, *, rule: ParamRule) -> Iterator[Problem]:
    if value is not None and not (_has_type(value, rule) and _is_within(value, rule)):
        yield Problem(name, f"{shown(value)} is not accepted", param_allowed(rule))


def _has_type(value: object, rule: ParamRule) -> bool:
    if rule.type is None:
        return True
    is_boolean = isinstance(value, bool)
    return isinstance(value, _TYPES[rule.type]) and is_boolean == (rule.type == "boolean")


def _is_within(value: object, rule: ParamRule) -> bool:
    """Tell whether a value of the right type keeps to the values and bounds."""
    if rule.values:
        return value in rule.values
    if isinstance(value, str):
        return len(value) <= (rule.maximum or MAX_TEXT_CHARS)
    return not isinstance(value, int) or _is_between(value, rule)


def _is_between(number: int, rule: ParamRule) -> bool:
    least = rule.minimum is None or number >= rule.minimum
    return least and (rule.maximum is None or number <= rule.maximum)
