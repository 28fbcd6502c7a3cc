"""The end of a service that is busy: everybody is answered, and nothing is lost or bought twice."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2 as httpx
import pytest
from anyio.abc import ByteStream

from tests.service.busy import ERAS, KEY, Customer, Town, draw_once, town_in
from tests.service.rooms import OTHER, TOKEN, started

WAITING, BUYING = 28, 6
"""Calls that wait for their task when the signal comes, and that EvoLink has not answered yet."""

WITHIN = 10
"""Seconds from the signal to the end."""


@pytest.fixture
async def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    draw_once(monkeypatch)
    async with town_in(tmp_path) as town:
        yield town


async def idle_connection(url: str) -> ByteStream:
    """Ask something over a connection, and leave it open."""
    where = httpx.URL(url)
    stream = await anyio.connect_tcp(where.host, where.port or 0)
    await stream.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = b""
    while not answer.endswith(b"ok\n"):
        answer += await stream.receive()
    return stream


async def closed(stream: ByteStream) -> None:
    """Wait until the other side has closed a connection."""
    async with stream:
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()


async def test_every_call_has_an_answer_at_the_end_and_the_next_start_delivers_all(
    town: Town,
) -> None:
    prompts, door = [f"fox {n}" for n in range(WAITING + BUYING)], town.door
    door.lets_in = WAITING
    async with started(town.settings, log=town.log) as (server, url):
        alice = Customer(url)
        async with anyio.create_task_group() as calls:
            calls.start_soon(alice.buy_all, prompts)
            await door.bell.until(lambda: (door.arrived, door.answered) == (len(prompts), WAITING))
            idle = await idle_connection(url)
            began = anyio.current_time()
            server.send_signal(signal.SIGTERM)
            await closed(idle)
            with pytest.raises(OSError, match="connect"):
                await anyio.connect_tcp("127.0.0.1", httpx.URL(url).port or 0)
            # At once, while others are still buying.
            await alice.bell.until(lambda: len(alice.answers) == WAITING)
            for how in (signal.SIGTERM, signal.SIGINT):  # changes nothing
                server.send_signal(how)
            door.opened.set()
            assert await server.wait() == 0
            assert anyio.current_time() - began < WITHIN
    assert "Traceback" not in town.log.read_text()
    assert (len(alice.answers), alice.bought) == (len(prompts), set(town.sandbox.tasks))
    for answer in alice.answers.values():
        assert answer["next_call"]["tool"] == "get_task"
        assert "error" not in answer
    town.let_all_end()
    async with started(town.settings, log=town.log) as (_, url):
        await delivers(Customer(url), list(town.sandbox.tasks))
    assert town.posts == len(prompts)
    assert town.pictures == {f"{task_id}-1.png" for task_id in town.sandbox.tasks}


async def delivers(customer: Customer, task_ids: list[str]) -> None:
    seen: dict[str, dict[str, Any]] = {}

    async def see(task_id: str) -> None:
        seen[task_id] = await customer.see(task_id)

    async with anyio.create_task_group() as calls:
        for task_id in task_ids:
            calls.start_soon(see, task_id)
    assert {answer["status"] for answer in seen.values()} == {"completed"}


@pytest.mark.parametrize("era", ERAS)
async def test_a_purchase_that_is_not_answered_in_time_is_joined_after_the_restart(
    town: Town, era: str
) -> None:
    town.door.lets_in = 0
    async with started(town.settings, log=town.log) as (server, url):
        alice = Customer(url)
        async with anyio.create_task_group() as calls:
            calls.start_soon(alice.buy, "a fox", era)
            await town.door.bell.until(lambda: town.door.arrived == 1)
            server.send_signal(signal.SIGTERM)
            await alice.bell.until(lambda: bool(alice.answers))
            error = alice.answers["a fox"]["error"]
            assert (error["code"], error["charged"]) == ("server_stopping", "unknown")
            assert alice.answers["a fox"]["status"] == "unknown"
            assert "exactly the same arguments" in error["next_step"]
            town.door.opened.set()
            assert await server.wait() == 0
    town.let_all_end()
    async with started(town.settings, log=town.log) as (_, url):
        alice, bob = Customer(url), Customer(url, OTHER)
        await alice.buy("a fox", era)
        assert (await bob.listed(), len(await alice.listed())) == ([], 1)
    assert alice.answers["a fox"]["status"] == "completed"
    assert (town.posts, alice.bought) == (1, set(town.sandbox.tasks))


async def test_who_looks_something_up_is_told_that_the_server_stops(town: Town) -> None:
    looks, town.door.looks = (
        ("get_credits", "list_models"),
        frozenset({"/v1/credits", "/v1/models"}),
    )
    answers: dict[str, dict[str, Any]] = {}

    async def look(tool: str) -> None:
        answers[tool] = await Customer(url, key=KEY).ask(tool)

    async with started(town.settings, log=town.log) as (server, url):
        async with anyio.create_task_group() as calls:
            for tool in looks:
                calls.start_soon(look, tool)
            await town.door.bell.until(lambda: town.door.arrived == len(looks))
            server.send_signal(signal.SIGTERM)
        assert await server.wait() == 0
    error = answers["get_credits"]["error"]
    assert (error["code"], error["charged"]) == ("server_stopping", "no")
    assert answers["get_credits"]["spent_today"] == 0
    assert {model["usable"] for model in answers["list_models"]["models"]} == {"unknown"}


async def test_killed_with_calls_under_way_it_buys_nothing_twice_and_loses_no_picture(
    town: Town,
) -> None:
    foxes, owls = ([f"{animal} {n}" for n in range(10)] for animal in ("fox", "owl"))
    async with (
        started(town.settings, log=town.log) as (server, url),
        anyio.create_task_group() as calls,
    ):
        alice, bob = Customer(url, TOKEN), Customer(url, OTHER)
        calls.start_soon(alice.buy_all, foxes)
        calls.start_soon(bob.buy_all, owls)
        await town.door.bell.until(lambda: town.door.answered == 20)
        await until_recorded(alice)
        await until_recorded(bob)
        server.kill()
        await server.wait()
    posts = town.posts
    town.let_all_end()
    async with started(town.settings, log=town.log) as (_, url):
        alice, bob = Customer(url, TOKEN), Customer(url, OTHER)
        async with anyio.create_task_group() as calls:
            calls.start_soon(alice.buy_all, foxes)
            calls.start_soon(bob.buy_all, owls)
        for mine, others in ((alice, bob), (bob, alice)):
            assert {answer["status"] for answer in mine.answers.values()} == {"completed"}
            assert {task["task_id"] for task in await mine.listed()} == mine.bought
            task_id = min(mine.bought)
            assert (await mine.see(task_id))["status"] == "completed"
            assert (await others.see(task_id))["error"]["code"] == "task_not_found"
    assert (posts, town.posts, len(town.sandbox.tasks)) == (20, 20, 20)
    assert town.pictures == {f"{task_id}-1.png" for task_id in town.sandbox.tasks}


async def until_recorded(customer: Customer) -> None:
    """Ask again and again, without a pause, until all that was bought has its task id on record."""
    recorded = 0
    while recorded < 10:
        recorded = await customer.known_tasks()
