"""The rules for sizes and tiers: words, and free sizes in pixels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from evolink_mcp.catalog.spec import ChoiceRule, CustomSize, ModelSpec, SizeRule
from evolink_mcp.catalog.wording import shown
from evolink_mcp.errors import Problem

Json = Mapping[str, object]

MAX_WORD_CHARS = 64
"""Characters of a size or a tier whose rule is not established."""

_PIXELS = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


def in_pixels(size: object) -> tuple[int, int] | None:
    """Read a size such as `1024x768`; None where it is none."""
    found = _PIXELS.fullmatch(size) if isinstance(size, str) else None
    return (int(found[1]), int(found[2])) if found else None


def check_size(fields: Json, spec: ModelSpec) -> Iterator[Problem]:
    """Check `size`."""
    size, rule = fields.get("size"), spec.size
    if size is None or not spec.takes("size"):
        return
    if rule is None:
        yield from _check_word("size", size)
    elif size not in rule.values:
        yield from _check_custom(size, rule, alone=fields.get("n", 1) == 1)


def size_allowed(rule: SizeRule) -> str:
    """Say which sizes are accepted."""
    words = ", ".join(rule.values)
    if rule.custom is None:
        return words
    free = f"WIDTHxHEIGHT in pixels ({_custom_allowed(rule.custom)})"
    return f"{words}, or {free}" if words else free


def _custom_allowed(rule: CustomSize) -> str:
    edge = [str(rule.edge_min) if rule.edge_min > 1 else "", str(rule.edge_max or "")]
    area = [str(rule.area_min or ""), str(rule.area_max or "")]
    said = (
        f"edges in steps of {rule.step}" if rule.step > 1 else "",
        f"edges {_span(*edge)}" if any(edge) else "",
        f"width times height {_span(*area)}" if any(area) else "",
        f"longer edge at most {rule.ratio_max:g} times the shorter" if rule.ratio_max else "",
        "only where n is 1" if rule.only_alone else "",
    )
    return "; ".join(filter(None, said))


def _span(least: str, most: str) -> str:
    return (
        f"{least} to {most}"
        if least and most
        else f"at least {least}"
        if least
        else f"at most {most}"
    )


def _check_custom(size: object, rule: SizeRule, *, alone: bool) -> Iterator[Problem]:
    pixels, custom, allowed = in_pixels(size), rule.custom, size_allowed(rule)
    if custom is None or pixels is None:
        yield Problem("size", f"{shown(size)} is not accepted", allowed)
    elif broken := _broken_custom(*pixels, rule=custom):
        yield Problem("size", f"{shown(size)} {broken}", allowed)
    elif custom.only_alone and not alone:
        yield Problem("size", "in pixels goes with n = 1 only", allowed)


def _broken_custom(width: int, height: int, *, rule: CustomSize) -> str:
    """Say the first rule that a free size breaks; nothing where it breaks none."""
    shorter, longer = sorted((width, height))
    area = width * height
    broken = (
        (
            width % rule.step or height % rule.step,
            f"has an edge that is no multiple of {rule.step}",
        ),
        (shorter < rule.edge_min, f"has an edge of less than {rule.edge_min} pixels"),
        (longer > (rule.edge_max or longer), f"has an edge of more than {rule.edge_max} pixels"),
        (area < (rule.area_min or 0), f"has {area} pixels, less than {rule.area_min}"),
        (area > (rule.area_max or area), f"has {area} pixels, more than {rule.area_max}"),
        (
            longer > shorter * (rule.ratio_max or longer),
            f"has one edge more than {rule.ratio_max or 0:g} times as long as the other",
        ),
    )
    return next((problem for breaks, problem in broken if breaks), "")


def check_choice(
    name: str, fields: Json, *, rule: ChoiceRule | None, spec: ModelSpec
) -> Iterator[Problem]:
    """Check `quality` or `resolution`."""
    value = fields.get(name)
    if value is None or not spec.takes(name):
        return
    if rule is None:
        yield from _check_word(name, value)
    elif canonical(value, rule) is None:
        yield Problem(name, f"{shown(value)} is not accepted", ", ".join(rule.values))


def canonical(value: object, rule: ChoiceRule) -> str | None:
    """Return an accepted word as the docs write it; None where it is not accepted."""
    if not isinstance(value, str):
        return None
    spellings = {word.casefold() if rule.ignores_case else word: word for word in rule.values}
    return spellings.get(value.casefold() if rule.ignores_case else value)


def _check_word(name: str, value: object) -> Iterator[Problem]:
    if not isinstance(value, str) or not 0 < len(value.strip()) <= MAX_WORD_CHARS:
        yield Problem(name, f"{shown(value)} is not a word", f"1 to {MAX_WORD_CHARS} characters")
