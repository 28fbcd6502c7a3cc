from __future__ import annotations

import tomllib
from importlib.resources import files

import pytest
from pydantic import ValidationError

from evolink_mcp.catalog.spec import (
    UNKNOWN_CREDITS,
    MaskRule,
    ModelSpec,
    ReferenceRule,
    load_models,
    load_successors,
    unknown_model,
)

MODELS = load_models()


def test_a_megabyte_is_the_smaller_of_the_two() -> None:
    assert ReferenceRule(max_megabytes=10).max_bytes == 10_000_000
    assert MaskRule(max_megabytes=4).max_bytes == 4_000_000


def test_models_read_one_by_one_are_those_of_the_whole_file() -> None:
    text = files("evolink_mcp.catalog").joinpath("image_models.toml").read_text("utf-8")
    whole = tomllib.loads(text)
    assert load_successors() == whole.pop("withdrawn")
    assert list(MODELS) == list(whole)
    assert len(MODELS) == len(whole)
    for name, facts in whole.items():
        assert MODELS[name] == ModelSpec.model_validate({"id": name, **facts})


def test_what_is_not_stated_is_no_limit() -> None:
    assert (ReferenceRule().max_bytes, MaskRule().max_bytes) == (None, None)


def test_a_price_that_nobody_has_told_is_expected_to_be_high() -> None:
    assert MODELS["gpt-4o-image"].expected_credits == 2.5
    assert MODELS["mj-v8.2"].expected_credits == UNKNOWN_CREDITS


def test_a_withdrawn_model_has_its_successor_among_the_models() -> None:
    assert load_successors()["gemini-2.5-flash-image"] == "nano-banana-beta"
    assert set(load_successors().values()) <= MODELS.keys()


@pytest.mark.parametrize("name", MODELS)
def test_what_a_model_requires_is_what_it_takes(name: str) -> None:
    spec = MODELS[name]
    for field in spec.required:
        outer, _, inner = field.partition(".")
        assert spec.takes(outer)
        assert not inner or inner in spec.model_params


@pytest.mark.parametrize("name", MODELS)
def test_a_default_is_an_accepted_value(name: str) -> None:
    spec = MODELS[name]
    for rule in (spec.size, spec.quality, spec.resolution):
        assert rule is None or rule.default is None or rule.default in rule.values
    for param in (*spec.params.values(), *spec.model_params.values()):
        assert not param.values or param.default is None or param.default in param.values


def test_an_unknown_model_takes_every_field_of_the_others() -> None:
    spec = unknown_model("brand-new")
    assert not spec.known
    assert all(spec.takes(field) for each in MODELS.values() for field in each.params)
    assert all(spec.takes(field) for field in ("prompt", "size", "n", "image_urls", "mask_url"))


def test_a_fact_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        MODELS["gpt-4o-image"].title = "another"  # type: ignore[misc]


def test_a_fact_that_nobody_checks_is_refused() -> None:
    facts = MODELS["gpt-4o-image"].model_dump()
    with pytest.raises(ValidationError, match="colour"):
        ModelSpec.model_validate({**facts, "colour": {"values": ["red"]}})
