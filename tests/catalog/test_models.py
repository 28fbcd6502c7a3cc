from __future__ import annotations

import pytest

from evolink_mcp.catalog.models import Catalogue, open_catalogue
from evolink_mcp.catalog.request import read_request
from evolink_mcp.catalog.spec import load_models
from evolink_mcp.errors import InvalidRequest, Problem

THREE = ("gpt-4o-image", "gpt-image-2", "krea-2-turbo")


def refusal_of(catalogue: Catalogue, **arguments: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        read_request({"prompt": "a fox", **arguments}, catalogue)
    return raised.value


def test_the_first_model_is_the_one_of_a_call_that_names_none() -> None:
    assert read_request({"prompt": "a fox"}, open_catalogue(THREE)).model == "gpt-4o-image"


def test_an_operator_chooses_another() -> None:
    catalogue = open_catalogue(THREE, default="gpt-image-2")
    assert read_request({"prompt": "a fox"}, catalogue).model == "gpt-image-2"


def test_a_default_that_is_not_enabled_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="not enabled here"):
        open_catalogue(THREE, default="mj-v7")


def test_all_is_every_model_of_the_table_and_may_be_added_to() -> None:
    catalogue = open_catalogue(("brand-new", "all", "gpt-4o-image"))
    assert list(catalogue.models) == ["brand-new", *load_models()]
    assert catalogue.default == "brand-new"


def test_one_model_is_the_only_one() -> None:
    assert open_catalogue(THREE).only is None
    only = open_catalogue(THREE[:1]).only
    assert only is not None
    assert only.id == "gpt-4o-image"


def test_an_id_that_the_table_does_not_know_is_served_with_the_loosest_rules() -> None:
    catalogue = open_catalogue(("brand-new",))
    asked: dict[str, object] = {
        "prompt": "x" * 100_000,
        "size": "7:5",
        "quality": "8K",
        "resolution": "best",
        "n": 30,
        "image_urls": ["https://a.example/a.tiff"] * 40,
        "mask_url": "https://a.example/m.gif",
        "seed": 7,
        "model_params": {"anything": {"goes": 1}},
    }
    assert read_request(asked, catalogue).body() == {"model": "brand-new", **asked}


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": 7},
        {"prompt": " "},
        {"size": 7},
        {"quality": ""},
        {"resolution": "x" * 65},
        {"n": 0},
        {"n": True},
        {"image_urls": 7},
        {"image_urls": ["ftp://a.example/a.png"]},
        {"mask_url": "ftp://a.example/a.png"},
        {"seed": "seven"},
        {"model_params": 7},
        {"colour": "red"},
    ],
)
def test_even_the_loosest_rules_have_types(wrong: dict[str, object]) -> None:
    assert refusal_of(open_catalogue(("brand-new",)), **wrong).problems


@pytest.mark.parametrize(
    ("name", "rule", "allowed"),
    [
        (
            "gpt-image-3",
            "is not an enabled model",
            "gpt-image-2, gpt-4o-image (1 more: list_models)",
        ),
        ("mj-v7", "is not enabled here (EVOLINK_MODELS)", ", ".join(THREE)),
        ("KREA-2-TURBO", "is not an enabled model", "krea-2-turbo (2 more: list_models)"),
        ("", "is not an enabled model", ", ".join(THREE)),
    ],
)
def test_a_model_that_is_not_enabled_is_refused_with_the_nearest(
    name: str, rule: str, allowed: str
) -> None:
    refusal = refusal_of(open_catalogue(THREE), model=name)
    assert refusal.problems == (Problem("model", f'"{name}" {rule}', allowed),)


def test_a_withdrawn_model_is_refused_with_its_successor() -> None:
    refusal = refusal_of(open_catalogue(("all",)), model="gemini-2.5-flash-image")
    assert refusal.problems[0].allowed.startswith("nano-banana-beta, ")


def test_a_refusal_names_enabled_models_that_would_take_the_request() -> None:
    refusal = refusal_of(open_catalogue(THREE), size="16:9", n=1)
    assert [problem.field for problem in refusal.problems] == ["size"]
    assert refusal.next_step == (
        "Change the named arguments and call again, or name a model that takes them: gpt-image-2."
    )


def test_a_request_that_no_model_takes_is_to_be_changed() -> None:
    refusal = refusal_of(open_catalogue(THREE), size="16:9", n=99)
    assert refusal.next_step == "Change the named arguments and call again."


def test_words_are_sent_as_the_docs_write_them() -> None:
    request = read_request({"prompt": "a fox", "resolution": "2k"}, open_catalogue(THREE[1:]))
    assert request.resolution == "2K"


def test_values_that_come_as_strings_are_read_as_they_are_meant() -> None:
    catalogue = open_catalogue(("qwen-image-3.0", "mj-v7-upscale"))
    request = read_request(
        {"prompt": "a fox", "seed": "7", "watermark": "True", "n": "2"}, catalogue
    )
    assert (request.n, request.params) == (2, {"seed": 7, "watermark": True})
    nested = {"model_params": '{"task_id": "task-unified-1", "image_number": "2", "mask": null}'}
    follow_up = read_request({"model": "mj-v7-upscale", **nested}, catalogue)
    assert follow_up.model_params == {"task_id": "task-unified-1", "image_number": 2}


def test_strings_that_mean_nothing_are_refused() -> None:
    catalogue = open_catalogue(("qwen-image-3.0", "mj-v7-upscale"))
    assert refusal_of(catalogue, seed="7.5").problems[0].field == "seed"
    assert refusal_of(catalogue, watermark="maybe").problems[0].field == "watermark"
    assert refusal_of(catalogue, model="mj-v7-upscale", model_params="[]").problems
