"""The rules of a model, applied to a request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from evolink_mcp.catalog.inputs import (
    Reach,
    check_callback,
    check_mask,
    check_references,
    extension,
    length_of,
    references_allowed,
)
from evolink_mcp.catalog.params import check_params, param_allowed
from evolink_mcp.catalog.plain import is_encodable, is_plain
from evolink_mcp.catalog.sizes import check_choice, check_size
from evolink_mcp.catalog.spec import Condition, CountRule, ModelSpec, PromptRule
from evolink_mcp.catalog.wording import either, shown
from evolink_mcp.errors import Problem

Json = Mapping[str, object]

MOST_PICTURES = 100
"""Pictures of one request of a model whose limit is not established."""


def check_request(fields: Json, spec: ModelSpec, *, reach: Reach = "web") -> tuple[Problem, ...]:
    """Check fields of the API's own types against a model's rules; unknown ones are passed over.

    Beyond the web, `reach` lets pass what is uploaded later.
    """
    return (
        *_check_plain(fields, spec),
        *_check_required(fields, spec),
        *_check_prompt(fields, spec),
        *check_size(fields, spec),
        *check_choice("quality", fields, rule=spec.quality, spec=spec),
        *check_choice("resolution", fields, rule=spec.resolution, spec=spec),
        *_check_count(fields, spec),
        *check_references(fields, spec, reach=reach),
        *check_mask(fields, spec, reach=reach),
        *check_callback(fields, spec.callback_url),
        *check_params(fields, spec),
        *_check_conditions(fields, spec),
    )


def _check_plain(fields: Json, spec: ModelSpec) -> Iterator[Problem]:
    for name in ("size", "quality", "resolution", "model_params", *spec.params):
        if not is_plain(fields.get(name)):
            problem = "holds what JSON cannot carry: NaN, half a character, or too many levels"
            yield Problem(name, problem, "plain JSON")


def _check_required(fields: Json, spec: ModelSpec) -> Iterator[Problem]:
    nested = fields.get("model_params")
    inner = cast("Json", nested if isinstance(nested, Mapping) else {})
    for name in spec.required:
        outer, _, field = name.partition(".")
        value = inner.get(field) if field else fields.get(outer)
        if value is not None and value != []:
            continue
        if name == "prompt":
            allowed = prompt_allowed(spec.prompt)
            yield Problem("prompt", "is required and must be a text", allowed)
        elif name == "image_urls":
            problem = f"is required: {spec.id} works on reference images"
            yield Problem(name, problem, references_allowed(spec.image_urls))
        else:
            rule = spec.model_params.get(field)
            allowed = param_allowed(rule) if rule else "see list_models"
            yield Problem(name, f"is required by {spec.id}", allowed)


def prompt_allowed(rule: PromptRule | None) -> str:
    """Say how long a prompt may be."""
    if rule is None or rule.max_chars is None:
        return "a text"
    chars = f"a text of 1 to {rule.max_chars} characters"
    return f"{chars} and at most {rule.max_bytes} bytes of UTF-8" if rule.max_bytes else chars


def _check_prompt(fields: Json, spec: ModelSpec) -> Iterator[Problem]:
    prompt = fields.get("prompt")
    if prompt is None or not spec.takes("prompt"):
        return
    rule = spec.prompt or PromptRule()
    if not isinstance(prompt, str):
        yield Problem("prompt", "must be a text", prompt_allowed(rule))
    elif not prompt.strip():
        yield Problem("prompt", "must not be blank", prompt_allowed(rule))
    elif not is_encodable(prompt):
        yield Problem("prompt", "holds half of a character (a lone surrogate)", "valid Unicode")
    elif problem := _too_long(prompt, rule):
        yield Problem("prompt", problem, prompt_allowed(rule))


def _too_long(prompt: str, rule: PromptRule) -> str:
    if rule.max_chars is not None and len(prompt) > rule.max_chars:
        return f"has {len(prompt)} characters, more than {rule.max_chars}"
    if rule.max_bytes is not None and (size := len(prompt.encode())) > rule.max_bytes:
        return f"has {size} bytes of UTF-8, more than {rule.max_bytes}"
    return ""


def _check_count(fields: Json, spec: ModelSpec) -> Iterator[Problem]:
    n = fields.get("n")
    if n is not None and spec.takes("n") and not _is_accepted(n, spec.n):
        yield Problem("n", f"{shown(n)} is not accepted", count_allowed(spec))
    elif spec.n is not None and spec.n.max_with_references is not None:
        yield from _check_together(fields, spec.n.max_with_references)


def _is_accepted(n: object, rule: CountRule | None) -> bool:
    if not isinstance(n, int) or isinstance(n, bool):
        return False
    return n in rule.accepted if rule else 0 < n <= MOST_PICTURES


def _check_together(fields: Json, most: int) -> Iterator[Problem]:
    urls = fields.get("image_urls")
    together = length_of(urls) + cast("int", fields.get("n", 1))
    if together > most:
        problem = f"and the reference images are {together} together"
        yield Problem("n", problem, f"at most {most} together")


def count_allowed(spec: ModelSpec) -> str:
    """Say how many pictures may be asked for."""
    rule = spec.n
    if rule is None:
        return f"a whole number from 1 to {MOST_PICTURES}"
    if rule.values or rule.minimum == rule.maximum:
        return either(rule.accepted)
    return f"{rule.minimum} to {rule.maximum}"


def _check_conditions(fields: Json, spec: ModelSpec) -> Iterator[Problem]:
    for rule in spec.conditions:
        if _value(fields, rule.field) != rule.is_:
            continue
        when = f"when {rule.field} is {rule.is_}"
        if rule.references is not None:
            yield from _check_condition_references(fields, rule, when=when)
        elif (value := _value(fields, rule.needs, spec=spec)) not in rule.values:
            problem = f"{shown(value)} is not accepted {when}"
            yield Problem(rule.needs, problem, either(rule.values))


def _value(fields: Json, name: str, *, spec: ModelSpec | None = None) -> object:
    """Return a field, also one of `model_params`, or its default where a `spec` has one."""
    outer, _, inner = name.partition(".")
    value = fields.get(outer)
    if inner:
        return cast("Json", value).get(inner) if isinstance(value, Mapping) else None
    rule = spec and (spec.params.get(name) or getattr(spec, name, None))
    return value if value is not None or not rule else rule.default


def _check_condition_references(fields: Json, rule: Condition, *, when: str) -> Iterator[Problem]:
    urls, form = fields.get("image_urls"), rule.reference_format or ""
    found = length_of(urls)
    allowed = f"exactly {rule.references}, a {form.upper()} with transparency"
    if found != rule.references:
        yield Problem("image_urls", f"holds {found} images {when}", allowed)
    elif (ending := extension(cast("list[object]", urls)[0])) not in {"", form}:
        yield Problem("image_urls[0]", f"is a .{ending} file {when}", allowed)
