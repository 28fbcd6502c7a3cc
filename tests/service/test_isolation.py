"""Five hundred principals, two thousand jobs, one service: nobody ever sees what is another's."""

from __future__ import annotations

import base64
import json
import logging
import secrets
from collections import Counter
from pathlib import Path
from random import Random
from string import ascii_lowercase, digits
from typing import Any

import anyio
import pytest

from evolink_mcp.sandbox import Sandbox
from evolink_mcp.settings import Settings
from tests.servers import settings_for
from tests.service.crowd import (
    Crowd,
    Hurry,
    Principal,
    Told,
    gathered,
    in_legacy,
    picture_of,
    principals,
    quick_disk,
    request,
    small_pictures,
    write_crowd,
)
from tests.service.rooms import LIMIT, URL, call

__all__ = ["quick_disk", "small_pictures"]

logger = logging.getLogger(__name__)

PRINCIPALS = 500
PROMPTS = [f"a fox, number {number}" for number in range(4)]
"""Everybody buys each of them, so that there are 2,000 jobs, and 500 of each wish."""

PAIRS = 60
"""Principals who try what belongs to another, in every way."""

LISTENERS = 100
IDLE = 5
"""Principals more, who only listen."""

PRICE = 2.5
PATIENCE = 240
"""Seconds; two cores that have nothing else to do need an eighth of that."""

LIST_URI = "evolink://tasks"


@pytest.fixture
def lot() -> Random:
    seed = secrets.randbits(32)
    logger.warning("the seed of the sample is %d", seed)
    return Random(seed)  # noqa: S311 - it only chooses who tries what


def settings_of(folder: Path, people: list[Principal], **changes: Any) -> Settings:  # noqa: ANN401
    tokens = write_crowd(folder / "tokens.toml", people)
    return settings_for(folder / "pictures", tokens_file=tokens, preview="none", **changes)


@pytest.mark.timeout(PATIENCE + 20)
@pytest.mark.usefixtures("small_pictures", "quick_disk")
async def test_nobody_sees_what_is_anothers(tmp_path: Path, lot: Random) -> None:
    everybody = principals(PRINCIPALS + IDLE)
    people, idle = everybody[:PRINCIPALS], everybody[PRINCIPALS:]
    sandbox = Sandbox(speed=1000, credits=1e6)
    with anyio.fail_after(PATIENCE):
        async with gathered(settings_of(tmp_path, everybody), sandbox, Hurry(100)) as crowd:
            listeners = lot.sample(people, LISTENERS)
            async with anyio.create_task_group() as group:
                for each in (*listeners, *idle):
                    await crowd.listen(each, [LIST_URI], group=group)
                await everybody_buys(crowd, people)
                heard_of_their_own_only(listeners, idle)
                group.cancel_scope.cancel()
            each_has_their_own(people, sandbox)
            await everybody_lists(crowd, people)
            async with anyio.create_task_group() as group:
                for _ in range(PAIRS):
                    group.start_soon(nothing_is_found, crowd, lot.sample(people, 2), lot)
            assert len(sandbox.tasks) == PRINCIPALS * len(PROMPTS)  # nothing was bought by trying
            assert sandbox.requests["POST /v1/images/generations"] == len(sandbox.tasks)


async def everybody_buys(crowd: Crowd, people: list[Principal]) -> None:
    async def live(who: Principal) -> None:
        for prompt in PROMPTS:
            await crowd.buy(who, prompt)

    async with anyio.create_task_group() as group:
        for who in people:
            group.start_soon(live, who)


def each_has_their_own(people: list[Principal], sandbox: Sandbox) -> None:
    """No two have joined, and progress was of one's own tasks only."""
    owners = Counter(task for who in people for task in who.tasks)
    assert owners == Counter(sandbox.tasks.keys())
    for who in people:
        for answer, prompt in zip(who.answers, PROMPTS, strict=True):
            assert sandbox.tasks[answer["task_id"]].request.prompt == prompt
            told = [message for token, message in who.progress if token == f"{who.name}:{prompt}"]
            assert {message.partition(":")[0] for message in told} == {answer["task_id"]}
        assert {token.partition(":")[0] for token, _ in who.progress} == {who.name}


def heard_of_their_own_only(listeners: list[Principal], idle: list[Principal]) -> None:
    """Each purchase moves the list a few times, for whoever bought and for nobody else."""
    for who in (*listeners, *idle):
        assert who.news[0]["method"] == "notifications/subscriptions/acknowledged"
        assert {each["params"]["uri"] for each in who.news[1:]} == (
            {LIST_URI} if who.tasks else set()
        )
    for who in listeners:
        assert len(PROMPTS) <= len(who.news) - 1 <= 4 * len(PROMPTS)


async def everybody_lists(crowd: Crowd, people: list[Principal]) -> None:
    async def look(who: Principal) -> None:
        listed = await crowd.ask(who, call("list_tasks", limit=50))
        resource = await crowd.ask(who, request("resources/read", uri=LIST_URI))
        text = json.loads(resource["contents"][0]["text"])
        for found in (listed["structuredContent"], text):
            assert {job["task_id"] for job in found["tasks"]} == who.tasks
            assert len(found["tasks"]) == len(PROMPTS)
            assert found["spent_today"] == PRICE * len(PROMPTS)

    async with anyio.create_task_group() as group:
        for who in people:
            group.start_soon(look, who)


async def nothing_is_found(crowd: Crowd, pair: list[Principal], lot: Random) -> None:
    """Whatever is tried with a victim's task is answered as if there was no such task."""
    thief, victim = pair
    answer = lot.choice(victim.answers)
    task_id = answer["task_id"]
    unknown = task_id[:-8] + "".join(lot.choices(ascii_lowercase + digits, k=8))
    own = thief.answers[0]["images"][0]["handle"]
    era = in_legacy if thief.is_legacy else as_it_is
    tries = zip(asking_for(task_id, own), asking_for(unknown, own), strict=True)
    for written, about_nothing in tries:
        tried = await crowd.said(thief, era(written))
        other = await crowd.said(thief, era(about_nothing))
        assert unknown in other
        assert tried == other.replace(unknown, task_id)
    await no_link_opens(crowd, thief, answer)
    await the_owner_finds_it(crowd, victim, answer)


def as_it_is(written: Told) -> Told:
    return written


def asking_for(task_id: str, own: str) -> list[Told]:
    """Write every request that a task can be named in."""
    handle = f"{LIST_URI}/{task_id}/images/1"
    return [
        call("get_task", task_id=task_id),
        call("generate_image", prompt="a copy", image_urls=[handle]),
        call("generate_image", prompt="a copy", image_urls=[own], mask_url=handle),
        request("resources/read", uri=f"{LIST_URI}/{task_id}"),
        request("resources/read", uri=handle),
    ]


async def no_link_opens(crowd: Crowd, thief: Principal, answer: Told) -> None:
    """With the thief's own token a link is none; nor is one altered, whoever asks."""
    url = answer["images"][0]["download_url"]
    own = thief.answers[0]["images"][0]["download_url"]
    place = len(url) - 8
    altered = url[:place] + ("A" if url[place] != "A" else "B") + url[place + 1 :]
    mixed = own[: len(own) // 2] + url[len(own) // 2 :]
    nothing = await crowd.got(f"{URL}/pictures/none", thief)
    assert nothing.startswith("404")
    for wrong, token in ((url, thief), (altered, thief), (altered, None), (mixed, thief)):
        assert await crowd.got(wrong, token) == nothing


async def the_owner_finds_it(crowd: Crowd, victim: Principal, answer: Told) -> None:
    """What was tried works for whose it is: otherwise the refusals would prove nothing."""
    task_id, image = answer["task_id"], answer["images"][0]
    again = await crowd.ask(victim, call("get_task", task_id=task_id))
    assert again["structuredContent"]["status"] == "completed"
    read = await crowd.ask(victim, request("resources/read", uri=image["handle"]))
    picture = picture_of(task_id)
    assert base64.b64decode(read["contents"][0]["blob"]) == picture
    for token in (victim, None):
        assert (await crowd.get(image["download_url"], token)).content == picture


CONSENT = {"purchase": {"action": "accept", "content": {"buy": True}}}


def asking(**state: object) -> Told:
    """Buy as a host does that can ask its user."""
    written = call("generate_image", prompt="a fox")
    params = written["json"]["params"]
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = {"elicitation": {"form": {}}}
    params.update(state)
    return written


@pytest.mark.usefixtures("small_pictures")
async def test_the_consent_of_one_is_none_of_anothers(tmp_path: Path) -> None:
    alice, bob = principals(2)
    sandbox = Sandbox(speed=1000)
    settings = settings_of(tmp_path, [alice, bob], confirm="always")
    with anyio.fail_after(LIMIT):
        async with gathered(settings, sandbox, Hurry(100)) as crowd:
            state = (await crowd.ask(alice, asking()))["requestState"]
            answered = asking(requestState=state, inputResponses=CONSENT)
            stolen = await crowd.said(bob, answered)
            assert "Invalid or expired requestState" in stolen
            guessed = asking(requestState=state[:-4] + "AAAA", inputResponses=CONSENT)
            assert await crowd.said(bob, guessed) == stolen
            # What a price was told to one for, the other has to be told too.
            confirmed = call("generate_image", prompt="two foxes", confirm=True)
            for who in (alice, bob):
                told = await crowd.ask(who, confirmed)
                assert told["structuredContent"]["error"]["code"] == "confirmation_needed"
            assert not sandbox.tasks
            for who, written in ((alice, answered), (bob, confirmed)):
                assert (await crowd.ask(who, written))["structuredContent"]["status"] == "completed"
