from __future__ import annotations

import pytest

from evolink_mcp.catalog.spec import load_models, unknown_model
from evolink_mcp.catalog.summary import summary

MODELS = load_models()


@pytest.mark.parametrize("name", MODELS)
def test_a_summary_is_one_line_that_names_every_field(name: str) -> None:
    spec, line = MODELS[name], summary(MODELS[name])
    assert line.isprintable()
    assert all(field in line for field in (*spec.params, *spec.model_params, *spec.unknown))
    assert ("prompt" in line) == spec.takes("prompt")
    assert ("size " in line) == (spec.size is not None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gpt-4o-image", "n 1, 2 or 4; "),
        ("gpt-image-2", "n 1 to 10, fewer may come; "),
        ("mj-v7", "makes 4; "),
        ("krea-2-turbo", "prompt up to 640 tokens; "),
        ("grok-imagine-image-2.0", "prompt; "),
        ("gpt-image-2", "prompt up to 32000 characters, 60000 bytes; "),
        ("doubao-seedream-5.0-pro-layerize", "parts a picture into layers; prompt (optional); "),
        ("qwen-image-edit-plus", "reference images 1 to 3; "),
        ("mj-v7-remove-bg", "goes on from an earlier picture; reference images at least 1; "),
    ],
)
def test_a_summary_says_what_there_is_to_know(name: str, said: str) -> None:
    assert said in summary(MODELS[name])


def test_of_an_unknown_model_nothing_is_claimed() -> None:
    assert summary(unknown_model("brand-new")).startswith("not in the table of models")
