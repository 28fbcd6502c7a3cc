from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from inline_snapshot import snapshot
from jsonschema import Draft202012Validator

from evolink_mcp.catalog.models import open_catalogue
from evolink_mcp.catalog.request import ImageRequest, read_request
from evolink_mcp.catalog.schema import request_schema
from evolink_mcp.catalog.spec import load_models
from evolink_mcp.errors import InvalidRequest

CATALOGUE = open_catalogue(("gpt-4o-image",))
SCHEMA = request_schema(CATALOGUE)
VALIDATOR: Any = Draft202012Validator(SCHEMA)

# design.md, "Schemas"
PORTABLE = {
    *("type", "description", "enum", "default", "minimum", "maximum", "minLength", "maxLength"),
    *("items", "minItems", "maxItems", "required", "properties"),
}
TYPES = {"string", "integer", "boolean", "array", "object"}

Arguments = dict[str, object]
Schema = Mapping[str, Any]

A = "https://pictures.example/a.png"


def parts_of(schema: Schema) -> Iterator[Schema]:
    """Yield every schema below the root."""
    properties = cast("Mapping[str, Schema]", schema.get("properties", {}))
    items = cast("list[Schema]", [schema["items"]] if "items" in schema else [])
    for part in (*properties.values(), *items):
        yield part
        yield from parts_of(part)


def test_the_schema_is_the_manual() -> None:
    assert (
        snapshot(
            {
                "type": "object",
                "properties": {
                    "model": {
                        "type": "string",
                        "description": "The image model.",
                        "enum": ["gpt-4o-image"],
                        "default": "gpt-4o-image",
                    },
                    "prompt": {
                        "type": "string",
                        "description": "What to draw, or how to change the reference images.",
                        "minLength": 1,
                        "maxLength": 2000,
                    },
                    "size": {
                        "type": "string",
                        "description": "Ratio or pixels (width x height).",
                        "enum": ["1:1", "2:3", "3:2", "1024x1024", "1024x1536", "1536x1024"],
                    },
                    "n": {
                        "type": "integer",
                        "description": "How many pictures: 1, 2 or 4. Each one costs.",
                        "minimum": 1,
                        "maximum": 4,
                    },
                    "image_urls": {
                        "type": "array",
                        "description": "Reference images to edit or combine (at most 5; jpeg, "
                        "jpg, png or webp; 10 MB each): public http(s) addresses, "
                        "evolink:// handles of earlier pictures, or absolute paths of "
                        "files in opened folders.",
                        "items": {"type": "string", "minLength": 1, "maxLength": 2048},
                        "maxItems": 5,
                    },
                    "mask_url": {
                        "type": "string",
                        "description": "Mask for an edit: a PNG, at most 4 MB; white is drawn "
                        "anew, the rest is kept. Needs exactly 1 reference image, a PNG of "
                        "the same size.",
                        "minLength": 1,
                        "maxLength": 2048,
                    },
                    "callback_url": {
                        "type": "string",
                        "description": "Public https address that EvoLink tells when the task "
                        "ends. Rarely needed: this tool waits by itself.",
                        "minLength": 1,
                        "maxLength": 2048,
                    },
                },
                "required": ["prompt"],
            }
        )
        == SCHEMA
    )


ENABLED = {
    "one": ("gpt-4o-image",),
    "three": ("gpt-image-2", "gemini-3-pro-image-preview", "z-image-turbo"),
    "all": ("all",),
    "unknown": ("brand-new",),
    "known and unknown": ("gpt-4o-image", "brand-new"),
    **{name: (name,) for name in load_models()},
}


@pytest.mark.parametrize("names", ENABLED.values(), ids=ENABLED)
def test_only_portable_keywords_are_published(names: tuple[str, ...]) -> None:
    schema = request_schema(open_catalogue(names))
    parts = list(parts_of(schema))
    assert schema["type"] == "object"
    assert {keyword for part in (schema, *parts) for keyword in part} <= PORTABLE
    assert all(part["type"] in TYPES for part in parts)
    assert all(
        type(value) is str for part in parts for value in cast("list[object]", part.get("enum", []))
    )


@pytest.mark.parametrize("names", ENABLED.values(), ids=ENABLED)
def test_the_schema_is_a_schema(names: tuple[str, ...]) -> None:
    Draft202012Validator.check_schema(request_schema(open_catalogue(names)))


def test_a_schema_says_which_models_are_in_no_table() -> None:
    def said(*names: str) -> str:
        return str(request_schema(open_catalogue(names))["properties"]["model"]["description"])

    nothing = "Not in the table of models, so that EvoLink decides"
    assert nothing not in said("gpt-4o-image", "gpt-image-2")
    assert said("brand-new") == f"The image model. {nothing}: brand-new."
    assert said("gpt-4o-image", "brand-new", "newer").endswith(f"{nothing}: brand-new, newer.")


def test_three_models_have_the_tightest_schema_that_admits_them() -> None:
    schema = request_schema(open_catalogue(ENABLED["three"]))
    assert schema == snapshot(
        {
            "type": "object",
            "properties": {
                "model": {
                    "type": "string",
                    "description": "The image model; list_models tells what each one takes.",
                    "enum": ["gpt-image-2", "gemini-3-pro-image-preview", "z-image-turbo"],
                    "default": "gpt-image-2",
                },
                "prompt": {
                    "type": "string",
                    "description": "What to draw, or how to change the reference images.",
                    "minLength": 1,
                    "maxLength": 32000,
                },
                "size": {
                    "type": "string",
                    "description": "Ratio such as 16:9, or WIDTHxHEIGHT in pixels where the "
                    "model takes them.",
                    "maxLength": 11,
                },
                "quality": {
                    "type": "string",
                    "description": "A tier of pixels, or the effort, by model.",
                    "enum": ["low", "medium", "high", "1K", "2K", "4K"],
                },
                "resolution": {
                    "type": "string",
                    "description": "Tier of pixels.",
                    "enum": ["1K", "2K", "4K"],
                    "default": "1K",
                },
                "n": {
                    "type": "integer",
                    "description": "How many pictures: 1 to 10. Each one costs. Fewer may come.",
                    "minimum": 1,
                    "maximum": 10,
                    "default": 1,
                },
                "image_urls": {
                    "type": "array",
                    "description": "Reference images to edit or combine: public http(s) "
                    "addresses, evolink:// handles of earlier pictures, or absolute paths "
                    "of files in opened folders.",
                    "items": {"type": "string", "minLength": 1, "maxLength": 2048},
                    "maxItems": 16,
                },
                "mask_url": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 2048,
                    "description": "Mask for an edit: a PNG with transparency; alpha below 255 "
                    "is drawn anew, the rest is kept. Needs a reference image of the same "
                    "size.",
                },
                "background": {
                    "type": "string",
                    "enum": ["opaque", "transparent"],
                    "default": "opaque",
                },
                "output_format": {
                    "type": "string",
                    "enum": ["png", "jpeg", "webp"],
                    "default": "png",
                },
                "callback_url": {
                    "type": "string",
                    "description": "Public https address that EvoLink tells when the task "
                    "ends. Rarely needed: this tool waits by itself.",
                    "minLength": 1,
                    "maxLength": 2048,
                },
                "model_params": {
                    "type": "object",
                    "description": "Further fields.",
                    "properties": {"web_search": {"type": "boolean"}},
                },
                "seed": {"type": "integer", "minimum": 1, "maximum": 2147483647},
                "nsfw_check": {"type": "boolean", "default": False},
            },
            "required": ["prompt"],
        }
    )


@pytest.mark.parametrize("name", load_models())
def test_the_schema_of_all_admits_what_the_schema_of_one_admits(name: str) -> None:
    everything = request_schema(open_catalogue(("all",)))["properties"]
    for field, rule in request_schema(open_catalogue((name,)))["properties"].items():
        assert is_within(rule, everything[field]), field


def is_within(narrow: Schema, wide: Schema) -> bool:
    """Tell whether what one schema admits is admitted by the other, keyword by keyword."""
    if narrow["type"] != wide["type"]:
        return False
    words = set(narrow.get("enum", ())), set(wide.get("enum", ()))
    longest = max(map(len, words[0]), default=narrow.get("maxLength", 10**9))
    return (
        (not words[1] or (bool(words[0]) and words[0] <= words[1]))
        and longest <= wide.get("maxLength", 10**9)
        and all(narrow.get(key, 10**9) <= wide.get(key, 10**9) for key in ("maximum", "maxItems"))
        and all(
            narrow.get(key, 0) >= wide.get(key, 0) for key in ("minimum", "minItems", "minLength")
        )
        and set(wide.get("required", ())) <= set(narrow.get("required", ()))
        and all(
            is_within(part, wide["properties"][name])
            for name, part in narrow.get("properties", {}).items()
        )
    )


def test_the_tightness_check_can_fail() -> None:
    number = {"type": "integer", "minimum": 1, "maximum": 4}
    words = {"type": "string", "enum": ["a", "b"]}
    assert is_within(number, number)
    assert not is_within(number, {**number, "maximum": 3})
    assert not is_within(number, {**number, "minimum": 2})
    assert not is_within(number, words)
    assert not is_within(words, {"type": "string", "enum": ["a"]})
    assert not is_within({"type": "string"}, words)
    assert not is_within(words, {"type": "string", "maxLength": 0})


URLS = st.sampled_from(
    [
        A,
        "http://pictures.example/b.webp",
        "https://pictures.example/c",
        "https://pictures.example/d.gif",
        "https://x/" + "x" * 2038,
        "https://x/" + "x" * 2039,
        "",
    ]
) | st.text(min_size=1).map("https://pictures.example/{}".format)

NATIVE = st.fixed_dictionaries(
    {"prompt": st.text() | st.sampled_from(["x" * 2000, "\N{FOX FACE}" * 2000, "x" * 2001, " "])},
    optional={
        "model": st.sampled_from(["gpt-4o-image", "gpt-image-2"]),
        "size": st.sampled_from(
            ["1:1", "2:3", "3:2", "1024x1024", "1024x1536", "1536x1024", "9:9"]
        ),
        "n": st.integers(-1, 6) | st.sampled_from([1.0, 2.0, 2.5, True]),
        "image_urls": st.lists(URLS, max_size=6),
        "mask_url": URLS,
        "callback_url": st.sampled_from(
            [
                "https://hooks.example.com/",
                "https://hooks.example.com/" + "x" * 2022,
                "https://hooks.example.com/" + "x" * 2023,
                "https://10.0.0.1/",
            ]
        ),
        "quality": st.just("high"),
    },
)


def read(arguments: Arguments) -> ImageRequest | None:
    try:
        return read_request(arguments, CATALOGUE)
    except InvalidRequest:
        return None


@given(NATIVE)
def test_what_is_read_is_what_the_schema_accepts(arguments: Arguments) -> None:
    request = read(arguments)
    assume(request is not None)
    VALIDATOR.validate(arguments)
    VALIDATOR.validate(cast("ImageRequest", request).body())


@pytest.mark.parametrize(
    "arguments",
    [
        {"prompt": ""},
        {"prompt": "x" * 2001},
        {"prompt": 7},
        {"model": "gpt-image-2"},
        {"size": "16:9"},
        {"n": 0},
        {"n": 5},
        {"n": True},
        {"n": 1.5},
        {"image_urls": [A] * 6},
        {"image_urls": [""]},
        {"image_urls": [7]},
        {"image_urls": ["https://x/" + "x" * 2039]},
        {"mask_url": ""},
        {"callback_url": "https://hooks.example.com/" + "x" * 2023},
    ],
)
def test_what_a_schema_can_say_the_schema_says(arguments: Arguments) -> None:
    assert not VALIDATOR.is_valid({"prompt": "a fox", **arguments})
    with pytest.raises(InvalidRequest):
        read_request({"prompt": "a fox", **arguments}, CATALOGUE)


@pytest.mark.parametrize(
    "arguments",
    [{"n": "2"}, {"n": None}, {"image_urls": A}, {"image_urls": f'["{A}"]'}, {"mask_url": None}],
    ids=repr,
)
def test_reading_is_more_lenient_in_form(arguments: Arguments) -> None:
    assert not VALIDATOR.is_valid({"prompt": "a fox", **arguments})
    assert read_request({"prompt": "a fox", **arguments}, CATALOGUE).prompt == "a fox"


@pytest.mark.parametrize(
    "arguments",
    [
        {"prompt": " "},
        {"n": 3},
        {"quality": "high"},
        {"image_urls": ["https://pictures.example/a.gif"]},
        {"mask_url": A},
        {"mask_url": A, "image_urls": [A, A]},
        {"callback_url": "https://10.0.0.1/"},
    ],
    ids=repr,
)
def test_reading_is_stricter_in_content(arguments: Arguments) -> None:
    VALIDATOR.validate({"prompt": "a fox", **arguments})
    with pytest.raises(InvalidRequest):
        read_request({"prompt": "a fox", **arguments}, CATALOGUE)


def test_a_request_without_a_prompt_is_in_neither() -> None:
    assert not VALIDATOR.is_valid({})
    with pytest.raises(InvalidRequest):
        read_request({}, CATALOGUE)
