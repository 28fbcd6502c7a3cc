"""The sandbox takes what the published schema and the validation let through, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import httpx2 as httpx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from evolink_mcp.catalog.checks import check_request
from evolink_mcp.catalog.models import Catalogue, open_catalogue
from evolink_mcp.catalog.request import ImageRequest, read_request
from evolink_mcp.catalog.schema import request_schema
from evolink_mcp.catalog.spec import load_models
from evolink_mcp.errors import InvalidRequest
from evolink_mcp.sandbox import Sandbox

Arguments = dict[str, Any]

ADDRESSES = st.integers(1, 99).map("https://pictures.example/{}.png".format)
PIXELS = st.tuples(st.integers(1, 300), st.integers(1, 300)).map(
    lambda edges: f"{edges[0] * 16}x{edges[1] * 16}"
)
RATIOS = st.sampled_from(["auto", "1:1", "16:9", "9:21", "4:5", "1024x1024", "2048x1152"])
WORDS = st.text(min_size=1, max_size=40) | st.just("x" * 2001) | st.just("a fox")

FEW = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)

HEADERS = {"authorization": "Bearer sk-sandbox"}


def values(name: str, schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Draw what a published schema admits, mostly small."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if name == "size":
        return RATIOS | PIXELS
    return OF_TYPE[schema["type"]](name, schema)


def texts(name: str, schema: Mapping[str, Any]) -> st.SearchStrategy[str]:
    if name.endswith("_url"):
        return ADDRESSES
    return WORDS.map(lambda text: text[: schema.get("maxLength", 10**6)])


def numbers(_: str, schema: Mapping[str, Any]) -> st.SearchStrategy[int]:
    return st.integers(schema.get("minimum", 0), min(schema.get("maximum", 20), 40))


def lists(name: str, schema: Mapping[str, Any]) -> st.SearchStrategy[list[Any]]:
    items = ADDRESSES if name == "image_urls" else st.just({"type": "web_search"})
    most = min(schema.get("maxItems", 3), 16)
    return st.lists(items, min_size=schema.get("minItems", 0), max_size=most)


def fields(schema: Mapping[str, Any]) -> st.SearchStrategy[Arguments]:
    drawn = {
        name: values(name, part)
        for name, part in schema.get("properties", {}).items()
        if name not in {"model", "callback_url"}
    }
    required = schema.get("required", ())
    return st.fixed_dictionaries(
        {name: each for name, each in drawn.items() if name in required},
        optional={name: each for name, each in drawn.items() if name not in required},
    )


Draw = Callable[[str, Mapping[str, Any]], st.SearchStrategy[Any]]

OF_TYPE: Mapping[str, Draw] = {
    "string": texts,
    "integer": numbers,
    "boolean": lambda _, __: st.booleans(),
    "array": lists,
    "object": lambda _, schema: fields(schema),
}


def read(arguments: Arguments, catalogue: Catalogue) -> ImageRequest | InvalidRequest:
    try:
        return read_request(arguments, catalogue)
    except InvalidRequest as refusal:
        return refusal


def posted(body: Arguments) -> httpx.Response:
    """Send a body to a fresh sandbox."""

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app=Sandbox(credits=1e6).app)
        async with httpx.AsyncClient(transport=transport, base_url="http://sandbox.test") as http:
            return await http.post("/v1/images/generations", json=body, headers=HEADERS)

    return anyio.run(post)


@pytest.mark.parametrize("name", load_models())
@FEW
@given(data=st.data())
def test_what_is_admitted_is_taken(name: str, data: st.DataObject) -> None:
    catalogue = open_catalogue((name,))
    request = read(data.draw(fields(request_schema(catalogue))), catalogue)
    assume(isinstance(request, ImageRequest))
    assert isinstance(request, ImageRequest)
    answer = posted(request.body())
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == name


WRONG: Mapping[str, tuple[object, ...]] = {
    "prompt": (7, " ", ["a fox"], "x" * 100_000),
    "size": ("7:5", "0x0", "99999x1", "1000x1001", 7),
    "quality": ("8K", "", 7),
    "resolution": ("8K", "", 7),
    "n": (0, 99, -1, True, 1.5, "two"),
    "image_urls": (7, [7], ["ftp://a.example/a.png"], ["https://a.example/a.pdf"], [""]),
    "mask_url": (7, "ftp://a.example/a.png", "https://a.example/a.jpg", ""),
    "callback_url": ("http://hooks.example.com/", "https://10.0.0.1/", 7),
    "model_params": ("none", 7, {"never_heard_of": 1}),
}


@pytest.mark.parametrize("name", load_models())
@FEW
@given(data=st.data())
def test_one_broken_rule_is_refused_by_both_for_the_same_reason(
    name: str, data: st.DataObject
) -> None:
    catalogue = open_catalogue((name,))
    spec = catalogue.models[name]
    right = data.draw(fields(request_schema(catalogue)))
    assume(isinstance(read(right, catalogue), ImageRequest))
    field = data.draw(st.sampled_from([each for each in WRONG if spec.takes(each)]))
    wrong = {**right, field: data.draw(st.sampled_from(WRONG[field]))}
    ours = read(wrong, catalogue)
    assume(isinstance(ours, InvalidRequest) and bool(check_request(wrong, spec)))
    assert isinstance(ours, InvalidRequest)
    answer = posted({**wrong, "model": name})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "invalid_request")
    assert error["param"] == ours.problems[0].field
    assert error["message"] == str(ours.problems[0])


@pytest.mark.parametrize("name", load_models())
def test_a_missing_input_is_refused_by_both(name: str) -> None:
    catalogue = open_catalogue((name,))
    ours = read({}, catalogue)
    assert isinstance(ours, InvalidRequest)
    answer = posted({"model": name})
    assert (answer.status_code, json.loads(answer.text)["error"]["message"]) == (
        400,
        str(ours.problems[0]),
    )
