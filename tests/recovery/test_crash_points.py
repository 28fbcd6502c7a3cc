"""Killed at any step between a call and its delivered answer, nothing is paid twice or lost."""

from __future__ import annotations

import anyio
import pytest
from mcp import Client
from PIL import Image

from tests.pipes import LIMIT, initialize, request, send, started
from tests.recovery.scene import CALL, Scene, entries_of, until_nothing_runs
from tests.recovery.victim import STEPS
from tests.servers import answer_of, text_of

COMMITTED = STEPS.index("the intent is on record")
SENT = STEPS.index("the request is about to leave")
KNOWN = STEPS.index("the task id is on record")
OUT = STEPS.index("the answer has gone out")
DELIVERED = STEPS.index("the delivery is on record")


async def test_a_whole_run_passes_every_step_in_order(scene: Scene) -> None:
    async with started({}, program=scene.victim()) as (server, lines):
        await send(server, initialize())
        await send(server, request(2, "tools/call", dict(CALL)))
        assert (await anext(lines))["id"] == 2
    assert scene.trail == list(STEPS)


@pytest.mark.parametrize("step", STEPS[:COMMITTED])
async def test_before_the_intent_is_on_record_nothing_was_sent(scene: Scene, step: str) -> None:
    await scene.die_at(step)
    assert scene.posts == 0
    with anyio.fail_after(LIMIT):
        async with Client(scene.victim()) as host:
            assert await entries_of(host) == []
            again = await host.call_tool(**CALL)
    assert (answer_of(again).status, scene.posts, len(scene.pictures)) == ("completed", 1, 1)


@pytest.mark.parametrize("step", STEPS[COMMITTED:KNOWN])
async def test_between_intent_and_task_id_the_outcome_is_unknown_and_said_so(
    scene: Scene, step: str
) -> None:
    await scene.die_at(step)
    sent = int(STEPS.index(step) > SENT)
    assert scene.posts == sent
    with anyio.fail_after(LIMIT):
        async with Client(scene.victim()) as host:
            [entry] = await until_nothing_runs(host)
            again = await host.call_tool(**CALL)
    assert (entry.status, entry.task_id) == ("unknown", None)
    assert "not known whether EvoLink took it" in str(entry.problem)
    assert (answer_of(again).status, scene.posts) == ("unknown", sent)
    assert "evolink.ai" in text_of(again)
    assert "joined an identical earlier one" in text_of(again)


@pytest.mark.parametrize("step", STEPS[KNOWN:])
async def test_once_the_task_id_is_on_record_the_picture_comes_by_itself(
    scene: Scene, step: str
) -> None:
    said = await scene.die_at(step)
    [task_id] = scene.sandbox.tasks
    assert bool(said) == (STEPS.index(step) >= OUT)
    with anyio.fail_after(LIMIT):
        async with Client(scene.victim()) as host:
            [entry] = await until_nothing_runs(host)
            assert (entry.status, entry.task_id) == ("completed", task_id)
            assert scene.pictures == [f"{task_id}-1.png"]
            with Image.open(scene.folder / "pictures" / scene.pictures[0]) as picture:
                picture.load()
            again = await host.call_tool(**CALL)
    bought_again = STEPS.index(step) >= DELIVERED
    assert (answer_of(again).task_id != task_id) == bought_again
    assert scene.posts == 1 + bought_again
    assert answer_of(again).status == "completed"
