"""The catalogue says what EvoLink's documentation says, field by field.

`facts.json` holds the facts as they were collected, without their notes in prose: a limit is in it
only where the documentation states one. Notes that are rules are tested in `test_model_cases.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evolink_mcp.catalog.spec import ModelSpec, load_models

Entry = dict[str, Any]
"""A piece of the facts, as JSON has it."""

FACTS: dict[str, Entry] = json.loads(
    Path(__file__).with_name("facts.json").read_text(encoding="utf-8")
)["models"]
MODELS = load_models()

PLAIN = ("title", "edition", "listed", "beta", "operation", "outputs")
KNOB = {"values": "values", "default": "default", "selects": "selects"}
RULES = {
    "prompt": {"max_chars": "max_chars", "max_tokens": "max_tokens", "max_bytes": "max_bytes"},
    "size": {"values": "values", "default": "default"},
    "size.custom": {
        "step": "step",
        "edge_min": "edge_min",
        "edge_max": "edge_max",
        "area_min": "area_min",
        "area_max": "area_max",
        "ratio_max": "ratio_max",
    },
    "quality": KNOB,
    "resolution": KNOB,
    "n": {
        "minimum": "min",
        "maximum": "max",
        "values": "values",
        "default": "default",
        "reliable": "reliable",
        "max_with_references": "max_with_references",
    },
    "image_urls": {
        "min_items": "min",
        "max_items": "max",
        "max_megabytes": "max_mb",
        "formats": "formats",
        "min_side": "min_side",
        "max_side": "max_side",
        "min_pixels": "min_pixels",
        "max_pixels": "max_pixels",
        "ratio_max": "ratio_max",
        "max_people": "max_people",
    },
    "mask_url": {
        "format": "format",
        "max_megabytes": "max_mb",
        "same_size": "same_size",
        "alpha": "alpha",
        "reference_format": "reference_format",
        "max_reference_images": "max_reference_images",
        "repaint": "repaint",
    },
}
"""Of each rule, the names in our catalogue and those in the facts."""
PARAM = {
    "type": "type",
    "values": "values",
    "minimum": "min",
    "maximum": "max",
    "default": "default",
}
WHERE_NOTHING_IS_STATED: Entry = {
    "values": (),
    "formats": (),
    "step": 1,
    "edge_min": 1,
    "same_size": False,
    "alpha": False,
    "reliable": True,
}
"""What a name stands at in our catalogue when the facts leave it out; None is for the rest."""


def stated(rule: Entry, name: str, key: str) -> object:
    if key not in rule:
        return WHERE_NOTHING_IS_STATED.get(name)
    return tuple(rule[key]) if name in {"values", "formats"} else rule[key]


def facts_of_rule(field: str, rule: Entry | None, keys: dict[str, str]) -> Entry:
    if rule is None:
        return {field: "not taken"}
    return {
        field: "taken",
        **{f"{field}.{name}": stated(rule, name, key) for name, key in keys.items()},
    }


def catalogue_of_rule(field: str, rule: object, keys: dict[str, str]) -> Entry:
    if rule is None:
        return {field: "not taken"}
    return {
        field: "taken",
        **{f"{field}.{name}": getattr(rule, name, "without a place") for name in keys},
    }


MASK_INSIDE = facts_of_rule("model_params.mask", {"type": "object"}, PARAM)
"""What the notes of all Midjourney follow-ups say: an object "where the operation takes" it.

Which of them do is not said, so none is refused it.
"""


def facts_of(model: str) -> Entry:
    entry = FACTS[model]
    facts: Entry = {name: entry[name] for name in PLAIN}
    facts |= {
        "id": model,
        "required": tuple(entry["required"]),
        "unknown": frozenset(entry["unknown"]),
    }
    for field, keys in RULES.items():
        outer, _, inner = field.partition(".")
        rule: Entry = entry[outer] or {}
        facts |= facts_of_rule(field, rule.get(inner) if inner else entry[outer], keys)
    for group in ("params", "model_params"):
        for name, param in entry[group].items():
            facts |= facts_of_rule(f"{group}.{name}", param, PARAM)
    return facts | (MASK_INSIDE if entry["operation"] == "follow_up" else {})


def catalogue_of(model: ModelSpec) -> Entry:
    held: Entry = {name: getattr(model, name) for name in (*PLAIN, "id", "required", "unknown")}
    for field, keys in RULES.items():
        outer, _, inner = field.partition(".")
        rule = getattr(model, outer)
        held |= catalogue_of_rule(field, getattr(rule, inner, None) if inner else rule, keys)
    for group in ("params", "model_params"):
        for name, rule in getattr(model, group).items():
            held |= catalogue_of_rule(f"{group}.{name}", rule, PARAM)
    return held


def differences(facts: Entry, model: ModelSpec) -> list[str]:
    held = catalogue_of(model)
    return [
        f"{model.id}: {field} is {held.get(field, 'not there')!r},"
        f" and the facts say {facts.get(field, 'nothing')!r}"
        for field in sorted(facts | held)
        if (field in facts, facts.get(field)) != (field in held, held.get(field))
    ]


def test_the_catalogue_holds_the_models_of_the_facts_in_their_order() -> None:
    assert list(MODELS) == list(FACTS)


@pytest.mark.parametrize("model", FACTS)
def test_a_model_is_what_the_facts_say(model: str) -> None:
    different = differences(facts_of(model), MODELS[model])
    assert not different, "\n".join(different)


def test_what_differs_is_told_by_model_field_fact_and_value() -> None:
    model = MODELS["gpt-4o-image"].model_copy(update={"beta": False, "outputs": 4, "n": None})
    assert differences(facts_of("gpt-4o-image"), model) == [
        "gpt-4o-image: beta is False, and the facts say True",
        "gpt-4o-image: n is 'not taken', and the facts say 'taken'",
        "gpt-4o-image: n.default is 'not there', and the facts say None",
        "gpt-4o-image: n.max_with_references is 'not there', and the facts say None",
        "gpt-4o-image: n.maximum is 'not there', and the facts say 4",
        "gpt-4o-image: n.minimum is 'not there', and the facts say 1",
        "gpt-4o-image: n.reliable is 'not there', and the facts say True",
        "gpt-4o-image: n.values is 'not there', and the facts say (1, 2, 4)",
        "gpt-4o-image: outputs is 4, and the facts say None",
    ]
