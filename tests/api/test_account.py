from __future__ import annotations

import json

import httpx2 as httpx
import pytest

from evolink_mcp.api.account import Credits, read_credits, read_models
from evolink_mcp.errors import (
    AnswerLost,
    AnswerUnreadable,
    KeyRejected,
    NoUsableAnswer,
    RateLimited,
    RefusedByEvolink,
    RequestRejected,
    ServiceFailed,
)
from evolink_mcp.sandbox import Sandbox
from tests.api.wires import JOB, answering, api_over, wanted
from tests.sandbox.desk import Clock

CREDITS, MODELS = "GET /v1/credits", "GET /v1/models"


def balance(token: object = None, user: object = None) -> bytes:
    answer = {"success": True, "message": "", "data": {"token": token, "user": user}}
    return json.dumps(answer).encode()


async def test_the_balance_is_read() -> None:
    sandbox = Sandbox(credits=100)
    async with api_over(httpx.ASGITransport(app=sandbox.app)) as api:
        await api.submit(wanted(), idempotency_key=JOB)
        assert await api.credits() == read_credits(
            balance(
                {"remaining_credits": 97.5, "used_credits": 2.5, "unlimited_credits": False},
                {"remaining_credits": 97.5, "used_credits": 2.5},
            )
        )


def test_key_and_account_are_told_apart() -> None:
    credits_ = read_credits(
        balance(
            {"remaining_credits": 1, "used_credits": 2.5, "unlimited_credits": True},
            {"remaining_credits": -3, "used_credits": 4},
        )
    )
    assert (credits_.key_remaining, credits_.key_used, credits_.key_unlimited) == (1.0, 2.5, True)
    assert (credits_.account_remaining, credits_.account_used) == (-3.0, 4.0)


@pytest.mark.parametrize(
    "answer",
    [
        b"{}",
        b'{"success": true, "data": null}',
        b'{"success": true, "data": []}',
        b'{"success": true, "data": {"token": "none", "user": 7}}',
        balance({"remaining_credits": None, "unlimited_credits": None}),
        balance({"remaining_credits": "much", "unlimited_credits": "yes"}),
        balance({"remaining_credits": [1], "unlimited_credits": 1}),
        balance({"used_credits": float("nan")}, {"used_credits": float("inf")}),
    ],
)
def test_what_is_not_told_of_the_balance_is_none(answer: bytes) -> None:
    assert read_credits(answer) == Credits()
    assert Credits().key_remaining is None
    assert not Credits().key_unlimited


@pytest.mark.parametrize(
    ("content", "status", "kind"),
    [
        (b'{"success": false, "message": "no"}', 200, RequestRejected),
        (b'{"success": false, "code": 401, "message": "no"}', 200, KeyRejected),
        (b'{"error": {"code": 401, "message": "no"}}', 401, KeyRejected),
        (b'{"error": {"code": 500, "message": "no"}}', 200, ServiceFailed),
        (b"<html>", 200, AnswerUnreadable),
        (b"[]", 200, AnswerUnreadable),
    ],
)
async def test_an_answer_that_is_no_balance(
    content: bytes, status: int, kind: type[Exception]
) -> None:
    async with api_over(answering(content, status=status)) as api:
        with pytest.raises(kind):
            await api.credits()


async def test_a_balance_that_is_not_there_is_no_missing_task() -> None:
    async with api_over(answering(b"", status=404)) as api:
        with pytest.raises(RequestRejected) as caught:
            await api.credits()
    assert "EVOLINK_BASE_URL" in caught.value.next_step


async def test_a_wrong_key_is_told_at_once() -> None:
    sandbox = Sandbox(key="sk-another")
    async with api_over(httpx.ASGITransport(app=sandbox.app)) as api:
        with pytest.raises(KeyRejected):
            await api.credits()
        with pytest.raises(KeyRejected):
            await api.models()
    assert sandbox.requests == {CREDITS: 1, MODELS: 1}


async def test_the_models_of_the_key_are_read() -> None:
    sandbox = Sandbox(models=frozenset({"gpt-4o-image"}))
    async with api_over(httpx.ASGITransport(app=sandbox.app)) as api:
        assert await api.models() == frozenset({"gpt-4o-image"})


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        ([], frozenset[str]()),
        ([{"id": "a", "object": "model"}, {"id": "b/c:1.5"}], {"a", "b/c:1.5"}),
        ([{"id": "a"}, {"id": "a"}, {}, "b", None, {"id": 7}, {"id": "no\nid"}], {"a"}),
    ],
)
def test_ids_that_fit_are_kept(listed: object, names: frozenset[str]) -> None:
    assert read_models(json.dumps({"data": listed}).encode()) == names


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b"{}", b'{"data": {}}', b'{"data": null}', b'{"data": ["a", {"id": 1}]}']
)
def test_what_is_no_list_of_models_is_unreadable(answer: bytes) -> None:
    with pytest.raises(AnswerUnreadable):
        read_models(answer)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"<html>", 404),
        (b'{"error": {"message": "Invalid URL (GET /v1/models)"}}', 404),
        (b"", 405),
        (b'{"error": {"code": "permission_denied"}}', 403),
        (b'{"success": false, "code": 404, "msg": "no"}', 200),
        (b"<html>", 200),
        (b'{"data": "none"}', 200),
        (b"", 302),
    ],
)
async def test_an_evolink_that_does_not_tell_its_models_is_no_failure(
    content: bytes, status: int
) -> None:
    async with api_over(answering(content, status=status)) as api:
        assert await api.models() is None


@pytest.mark.parametrize(
    ("status", "kind"), [(401, KeyRejected), (429, RateLimited), (500, ServiceFailed)]
)
async def test_other_refusals_of_the_models_are_told(
    status: int, kind: type[RefusedByEvolink]
) -> None:
    async with api_over(answering(b"", status=status)) as api:
        with pytest.raises(kind):
            await api.models()


async def test_models_without_an_answer_are_a_failure() -> None:
    def break_off(_: httpx.Request) -> httpx.Response:
        message = "gone"
        raise httpx.ReadError(message)

    async with api_over(httpx.MockTransport(break_off)) as api:
        with pytest.raises(NoUsableAnswer) as caught:
            await api.models()
    assert type(caught.value) is AnswerLost


async def test_readings_of_the_account_are_repeated_as_those_of_tasks() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if len(asked) % 3:
            return httpx.Response(503)
        return httpx.Response(200, json={"data": [{"id": "a"}]})

    clock = Clock()
    async with api_over(httpx.MockTransport(answer), clock=clock) as api:
        assert await api.credits() == Credits()
        assert await api.models() == frozenset({"a"})
    assert asked == ["/v1/credits"] * 3 + ["/v1/models"] * 3
    assert clock.slept == [0.5, 1.0] * 2


async def test_a_refusal_for_too_many_requests_slows_down_every_reading() -> None:
    answers = [httpx.Response(429, headers={"retry-after": "7"}), httpx.Response(200, json={})]
    clock = Clock()
    async with api_over(httpx.MockTransport(lambda _: answers.pop(0)), clock=clock) as api:
        await api.credits()
        assert api.pace._silent_until == clock.now
    assert clock.slept == [7.0]
