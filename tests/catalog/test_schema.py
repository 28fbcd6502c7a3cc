from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from inline_snapshot import snapshot
from jsonschema import Draft202012Validator

from evolink_mcp.catalog.request import ImageRequest, read_request, request_schema
from evolink_mcp.catalog.spec import load_models
from evolink_mcp.errors import InvalidRequest

MODEL = load_models()["gpt-4o-image"]
SCHEMA = request_schema(MODEL)
VALIDATOR: Any = Draft202012Validator(SCHEMA)

# design.md, "Schemas"
PORTABLE = {
    *("type", "description", "enum", "default", "minimum", "maximum", "minLength", "maxLength"),
    *("items", "minItems", "maxItems", "required"),
}

Arguments = dict[str, object]
Schema = Mapping[str, object]

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
                        "description": "Reference images to edit or combine: public http(s) "
                        "addresses, at most 5; jpeg, jpg, png or webp, 10 MB each.",
                        "items": {"type": "string", "minLength": 1, "maxLength": 2048},
                        "maxItems": 5,
                    },
                    "mask_url": {
                        "type": "string",
                        "description": "Mask for an edit: a public address of a PNG, at most 4 MB; "
                        "white is drawn anew, the rest is kept. Needs exactly 1 reference image, "
                        "a PNG of the same size.",
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


def test_only_portable_keywords_are_published() -> None:
    parts = list(parts_of(SCHEMA))
    assert len(parts) == 8
    assert SCHEMA.keys() - PORTABLE == {"properties"}
    assert {keyword for part in parts for keyword in part} <= PORTABLE
    assert {part["type"] for part in parts} == {"string", "integer", "array"}
    assert all(
        type(value) is str for part in parts for value in cast("list[object]", part.get("enum", []))
    )


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


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
        return read_request(arguments, MODEL)
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
        read_request({"prompt": "a fox", **arguments}, MODEL)


@pytest.mark.parametrize(
    "arguments",
    [{"n": "2"}, {"n": None}, {"image_urls": A}, {"image_urls": f'["{A}"]'}, {"mask_url": None}],
    ids=repr,
)
def test_reading_is_more_lenient_in_form(arguments: Arguments) -> None:
    assert not VALIDATOR.is_valid({"prompt": "a fox", **arguments})
    assert read_request({"prompt": "a fox", **arguments}, MODEL).prompt == "a fox"


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
        read_request({"prompt": "a fox", **arguments}, MODEL)


def test_a_request_without_a_prompt_is_in_neither() -> None:
    assert not VALIDATOR.is_valid({})
    with pytest.raises(InvalidRequest):
        read_request({}, MODEL)
