from __future__ import annotations

import httpx2 as httpx
import pytest

from evolink_mcp.sandbox.account import Account
from tests.sandbox.desk import Desk, error_of


async def balance(desk: Desk) -> tuple[float, float]:
    body = (await desk.http.get("/v1/credits")).json()
    user = body["data"]["user"]
    counts = {"remaining_credits": user["remaining_credits"], "used_credits": user["used_credits"]}
    token = {**counts, "unlimited_credits": False}
    assert body == {"success": True, "message": "", "data": {"token": token, "user": counts}}
    return user["remaining_credits"], user["used_credits"]


def test_what_is_given_back_counts_as_not_used() -> None:
    account = Account(10)
    account.charge(5)
    account.give_back(2.5)
    assert account == Account(credits=7.5, used=2.5)


@pytest.mark.parametrize(("n", "price"), [(1, 2.5), (2, 5.0), (4, 10.0)])
async def test_credits_are_taken_when_a_task_is_accepted(desk: Desk, n: int, price: float) -> None:
    task = await desk.buy(n=n)
    assert task.credits_reserved == price
    assert await balance(desk) == (1000 - price, price)
    await desk.finish(task)
    assert await balance(desk) == (1000 - price, price)


@pytest.mark.parametrize(
    ("prompt", "left"),
    [
        ("[fail:service_error]", 1000),
        ("[orders]", 1000),
        ("[empty]", 1000),
        ("[partial:0]", 1000),
        ("[partial:1]", 997.5),
        ("[partial:3]", 992.5),
        ("[partial:9]", 990),
        ("[result-data]", 990),
        ("[status:cancelled]", 990),
    ],
)
async def test_pictures_that_were_not_made_are_given_back_once(
    desk: Desk, prompt: str, left: float
) -> None:
    task = await desk.buy(prompt, n=4)
    assert desk.sandbox.credits == 990
    await desk.finish(task)
    await desk.finish(task)
    assert desk.sandbox.credits == left


async def test_half_of_two_pictures_is_half_of_the_credits(desk: Desk) -> None:
    await desk.outcome("[partial:1]", n=2)
    assert desk.sandbox.credits == 997.5


async def test_credits_come_back_without_anybody_reading_the_task(desk: Desk) -> None:
    task = await desk.buy("[fail:service_error]")
    running = await desk.buy("[fail:service_error][stuck]")
    assert await balance(desk) == (995, 5)
    desk.clock.now = task.ends
    assert await balance(desk) == (997.5, 2.5)
    assert running.credits_reserved == 2.5


async def test_too_few_credits_refuse_the_task(desk: Desk) -> None:
    desk.sandbox.credits = 7.5
    assert (await desk.post(n=2)).status_code == 200
    answer = await desk.post(n=2)
    assert answer.status_code == 402
    assert error_of(answer) == {
        "code": "insufficient_quota",
        "message": "The credits do not suffice.",
        "type": "insufficient_quota",
        "estimated_credits": 5.0,
        "remaining_credits": 2.5,
    }
    assert (await desk.post()).status_code == 200
    assert desk.sandbox.credits == 0


async def test_credits_of_a_failed_task_can_be_spent_at_once(desk: Desk) -> None:
    desk.sandbox.credits = 2.5
    task = await desk.buy("[fail:service_error]")
    assert (await desk.post()).status_code == 402
    desk.clock.now = task.ends
    assert (await desk.post()).status_code == 200


async def test_the_same_idempotency_key_buys_twice(desk: Desk) -> None:
    headers = {"idempotency-key": "run_0123456789abcdef"}
    answers: list[httpx.Response] = [
        await desk.http.post("/v1/images/generations", json={"prompt": "a fox"}, headers=headers)
        for _ in range(2)
    ]
    first, second = (desk.sandbox.tasks[answer.json()["id"]] for answer in answers)
    assert first.id != second.id
    assert first.idempotency_key == second.idempotency_key == "run_0123456789abcdef"
    assert desk.sandbox.credits == 995


async def test_a_task_without_an_idempotency_key_has_none(desk: Desk) -> None:
    assert (await desk.buy()).idempotency_key is None
