from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2 as httpx
import pytest

from evolink_mcp.sandbox import Sandbox
from evolink_mcp.sandbox.provider import MODELS
from tests.sandbox.desk import BASE_URL, Clock, Desk, error_of

OURS = "gpt-4o-image"


@asynccontextmanager
async def desk_for(models: frozenset[str] | None) -> AsyncGenerator[Desk]:
    clock = Clock()
    sandbox = Sandbox(now=clock, sleep=clock.sleep, models=models)
    headers = {"authorization": "Bearer sk-sandbox"}
    transport = httpx.ASGITransport(app=sandbox.app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL, headers=headers) as http:
        yield Desk(sandbox, clock, http)


async def listed(desk: Desk) -> object:
    answer = await desk.http.get("/v1/models")
    assert answer.status_code == 200
    return answer.json()


async def test_every_model_of_the_catalogue_is_listed() -> None:
    async with desk_for(None) as desk:
        assert await listed(desk) == {"data": [{"id": model} for model in sorted(MODELS)]}
        assert (await desk.post(model=OURS)).status_code == 200
    assert OURS in MODELS


@pytest.mark.parametrize(
    ("models", "ids"),
    [({OURS}, [OURS]), ({OURS, "unheard-of"}, [OURS]), ({"unheard-of"}, []), (set[str](), [])],
)
async def test_what_the_key_may_use_is_listed(models: set[str], ids: list[str]) -> None:
    async with desk_for(frozenset(models)) as desk:
        assert await listed(desk) == {"data": [{"id": model} for model in ids]}


async def test_a_model_that_the_key_may_use_is_sold() -> None:
    async with desk_for(frozenset({OURS})) as desk:
        assert (await desk.buy(model=OURS)).request.model == OURS


@pytest.mark.parametrize("fields", [{}, {"model": OURS}])
async def test_any_other_model_is_refused_and_the_usable_ones_are_named(
    fields: dict[str, str],
) -> None:
    async with desk_for(frozenset({"seed", "another"})) as desk:
        answer = await desk.post(**fields)
    assert answer.status_code == 403
    assert error_of(answer) == {
        "code": "model_access_denied",
        "message": "This key may not use this model.",
        "type": "invalid_request_error",
        "param": "model",
        "allowed_models": ["another", "seed"],
    }
    assert not desk.sandbox.tasks
    assert desk.sandbox.credits == 1000


async def test_without_the_right_key_no_model_is_listed() -> None:
    async with desk_for(None) as desk:
        answer = await desk.http.get("/v1/models", headers={"authorization": "Bearer sk-wrong"})
    assert answer.status_code == 401
    assert error_of(answer)["code"] == "unauthorized"


async def test_the_front_page_names_the_path() -> None:
    async with desk_for(None) as desk:
        assert "GET  /v1/models " in (await desk.http.get("/")).text
