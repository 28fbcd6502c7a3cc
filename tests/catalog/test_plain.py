from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolink_mcp.catalog.models import open_catalogue
from evolink_mcp.catalog.plain import MOST_LEVELS, is_plain
from evolink_mcp.catalog.request import read_request
from evolink_mcp.errors import InvalidRequest


def deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1, 1.5, "\N{FOX FACE}", [], {}, {"a": [1, {"b": None}]}, (1, 2), deep(20)],
)
def test_what_json_carries_is_plain(value: object) -> None:
    assert is_plain(value)
    json.dumps(value, allow_nan=False).encode()


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        2**63,
        10**5000,
        "\ud83e",
        {"\ud83e": 1},
        {1: 1},
        {"a": {"b": [float("nan")]}},
        {1, 2},
        deep(MOST_LEVELS + 1),
        deep(100_000),
    ],
    ids=range(11),
)
def test_anything_else_is_not(value: object) -> None:
    assert not is_plain(value)


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(value=ODD, field=st.sampled_from(["model_params", "seed", "size", "quality", "background"]))
def test_whatever_is_read_can_be_sent(value: object, field: str) -> None:
    catalogue = open_catalogue(("brand-new",))
    try:
        request = read_request({"prompt": "a fox", field: value}, catalogue)
    except InvalidRequest:
        return
    json.dumps(request.body(), allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "arguments",
    [
        {"model_params": '{"q": NaN}'},
        {"model_params": '{"q": 1e999}'},
        {"model_params": '{"q": "\\ud800"}'},
        {"model_params": '{"q":' + "[" * 300 + "]" * 300 + "}"},
        {"size": "\ud800"},
        {"n": 10**19},
        {"n": "9" * 400},
    ],
)
def test_what_cannot_be_sent_is_refused_before_it_is_booked(arguments: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        read_request({"prompt": "a fox", **arguments}, open_catalogue(("brand-new",)))
