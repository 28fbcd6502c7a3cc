"""A disk that is full: nothing is bought that could not be recorded, and nothing paid is lost.

Here "full" is a limit on the size of the server's files, which needs no rights to set.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from mcp.types import CallToolResult

from tests.recovery.door import (
    NO_LIMIT,
    Arrivals,
    Talk,
    assert_refused,
    do_in,
    journal_of,
    talking,
)
from tests.recovery.scene import CALL, Scene
from tests.servers import answer_of, text_of

SMALL = 120_000
"""Bytes: more than the journal's files need, less than a picture does."""


@pytest.fixture
async def server(scene: Scene) -> AsyncIterator[Talk]:
    async with talking(scene) as server:
        yield server
        server.leave_room(NO_LIMIT)  # for what it writes at its end


async def test_with_no_room_for_the_intent_nothing_is_bought(scene: Scene, server: Talk) -> None:
    server.leave_room(0)
    refused = await server.call(**CALL)
    assert_refused(refused, code="journal_unusable", advice="make room")
    assert scene.posts == 0
    server.leave_room(NO_LIMIT)
    assert answer_of(await server.call(**CALL)).status == "completed"
    assert scene.posts == 1


async def test_with_no_room_for_the_task_id_it_is_told_and_the_job_ends_once_there_is_room(
    scene: Scene, server: Talk, arrivals: Arrivals
) -> None:
    arrivals.on("/v1/images", lambda: server.leave_room(0))
    told = await server.call(**CALL)
    [task_id] = scene.sandbox.tasks
    answer = answer_of(told)
    assert (answer.task_id, answer.status) == (task_id, "completed")
    assert "could not be written" in text_of(told)
    assert scene.pictures == []
    server.leave_room(NO_LIMIT)
    assert_collected(scene, await server.call("get_task", {"task_id": task_id}))
    [entry] = await server.entries()
    assert (entry.status, entry.task_id, entry.prompt) == ("completed", task_id, "a red fox")


@pytest.mark.usefixtures("smooth_pictures")
async def test_a_picture_that_finds_no_room_is_collected_once_there_is_some(
    scene: Scene, server: Talk, arrivals: Arrivals
) -> None:
    def leave_room_for_the_journal() -> None:
        do_in(journal_of(scene), "PRAGMA wal_checkpoint(TRUNCATE)")
        server.leave_room(SMALL)

    arrivals.on("/files/", leave_room_for_the_journal)
    told = await server.call(**CALL)
    [task_id] = scene.sandbox.tasks
    assert (answer_of(told).task_id, scene.pictures) == (task_id, [])
    assert list((scene.folder / "pictures").glob(".*.part")) == []
    assert "call get_task with this task id again" in text_of(told)
    assert "could not be written" not in text_of(told)
    assert [entry.status for entry in await server.entries()] == ["unsaved"]
    server.leave_room(NO_LIMIT)
    assert_collected(scene, await server.call("get_task", {"task_id": task_id}))
    assert [entry.status for entry in await server.entries()] == ["completed"]


def assert_collected(scene: Scene, result: CallToolResult) -> None:
    answer = answer_of(result)
    assert (answer.status, scene.posts) == ("completed", 1)
    assert scene.pictures == [f"{answer.task_id}-1.png"]
    assert [image.problem for image in answer.images or ()] == [None]
