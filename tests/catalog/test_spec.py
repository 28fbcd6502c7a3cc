from __future__ import annotations

import pytest
from pydantic import ValidationError

from evolink_mcp.catalog.spec import (
    CallbackRule,
    CountRule,
    MaskRule,
    ModelSpec,
    PromptRule,
    ReferenceRule,
    SizeRule,
    find_model,
    load_models,
)
from evolink_mcp.errors import InvalidRequest, Problem


def test_the_catalogue_holds_what_the_api_page_says() -> None:
    assert load_models() == {
        "gpt-4o-image": ModelSpec(
            id="gpt-4o-image",
            title="GPT-4o Image",
            typical_credits=2.5,
            prompt=PromptRule(max_chars=2000),
            size=SizeRule(
                values=("1:1", "2:3", "3:2", "1024x1024", "1024x1536", "1536x1024"),
                pixels={"1:1": "1024x1024", "2:3": "1024x1536", "3:2": "1536x1024"},
            ),
            n=CountRule(values=(1, 2, 4)),
            image_urls=ReferenceRule(
                max_items=5, max_megabytes=10, formats=("jpeg", "jpg", "png", "webp")
            ),
            mask_url=MaskRule(
                format="png",
                max_megabytes=4,
                reference_images=1,
                reference_format="png",
                repaint="white",
            ),
            callback_url=CallbackRule(scheme="https", max_chars=2048),
        )
    }


@pytest.mark.parametrize(
    ("size", "pixels"),
    [
        (None, (1024, 1024)),
        ("1:1", (1024, 1024)),
        ("2:3", (1024, 1536)),
        ("3:2", (1536, 1024)),
        ("1024x1024", (1024, 1024)),
        ("1024x1536", (1024, 1536)),
        ("1536x1024", (1536, 1024)),
    ],
)
def test_every_size_stands_for_pixels(size: str | None, pixels: tuple[int, int]) -> None:
    assert load_models()["gpt-4o-image"].size.pixel_size(size) == pixels


def test_a_megabyte_is_the_smaller_of_the_two() -> None:
    model = load_models()["gpt-4o-image"]
    assert model.image_urls.max_bytes == 10_000_000
    assert model.mask_url.max_bytes == 4_000_000


def test_a_model_is_found_by_its_id() -> None:
    models = load_models()
    assert find_model(models, "gpt-4o-image") is models["gpt-4o-image"]


@pytest.mark.parametrize("name", ["gpt-4o", "", "GPT-4O-IMAGE", " gpt-4o-image"])
def test_an_unknown_model_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        find_model(load_models(), name)
    assert raised.value.problems == (
        Problem("model", f"{name!r} is not an enabled model", "gpt-4o-image"),
    )


def test_a_fact_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_models()["gpt-4o-image"].n.values = (3,)  # type: ignore[misc]


def test_a_fact_that_nobody_checks_is_refused() -> None:
    facts = load_models()["gpt-4o-image"].model_dump()
    with pytest.raises(ValidationError, match="quality"):
        ModelSpec.model_validate({**facts, "quality": {"values": ["high"]}})
