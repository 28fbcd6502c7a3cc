"""A journal that cannot be used: nothing is bought without it, and it is left as it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx2 as httpx
import pytest
from mcp import Client
from mcp.types import CallToolResult

from evolink_mcp.server.answers import TaskList
from tests.pipes import LIMIT
from tests.recovery.door import Arrivals, assert_refused, do_in, journal_of, rigged
from tests.recovery.scene import CALL, Scene
from tests.servers import answer_of, process, text_of

LOCKED = 1.0
"""Seconds for which another process keeps the journal locked."""


@dataclass
class Lock:
    """Another program that holds the journal; entered by the test's process."""

    path: Path
    connections: list[sqlite3.Connection] = field(default_factory=list[sqlite3.Connection])

    def take(self) -> None:
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        self.connections.append(connection)

    def release(self) -> None:
        self.connections.pop().close()


@pytest.mark.parametrize("under_way", [False, True])
async def test_a_call_waits_while_another_program_locks_the_journal(
    scene: Scene, arrivals: Arrivals, *, under_way: bool
) -> None:
    lock, results = Lock(journal_of(scene)), list[CallToolResult]()
    arrived = anyio.Event()

    async def call(host: Client) -> None:
        results.append(await host.call_tool(**CALL))

    def lock_now() -> None:
        lock.take()
        arrived.set()

    with anyio.fail_after(LIMIT):
        async with Client(process(scene.settings)) as host, anyio.create_task_group() as group:
            await host.call_tool("list_tasks", {})  # makes the journal
            if under_way:
                arrivals.on("/v1/images", lock_now)
            else:
                lock_now()
            group.start_soon(call, host)
            await arrived.wait()
            await anyio.sleep(LOCKED)  # not a wait: so long it is locked
            assert (results, scene.pictures) == ([], [])
            assert scene.posts == int(under_way)
            lock.release()
    assert [answer_of(result).status for result in results] == ["completed"]
    assert (scene.posts, len(scene.pictures)) == (1, 1)
    assert "could not be written" not in text_of(results[0])


async def test_a_journal_that_stays_locked_refuses_the_call_and_is_used_once_it_is_free(
    scene: Scene,
) -> None:
    lock = Lock(journal_of(scene))
    with anyio.fail_after(LIMIT):
        async with Client(rigged(scene, RIGGED_PATIENCE="0.3")) as host:
            await host.call_tool("list_tasks", {})
            lock.take()
            refused = await host.call_tool(**CALL)
            assert scene.posts == 0
            lock.release()
            result = await host.call_tool(**CALL)
    assert_refused(refused, code="journal_unusable", advice="Call again in a minute")
    assert "another program keeps it locked" in text_of(refused)
    assert (answer_of(result).status, scene.posts) == ("completed", 1)


def a_file(scene: Scene) -> Path:
    path = scene.folder / "a file"
    path.write_text("nothing of ours", "utf-8")
    return path


UNWRITABLE: dict[str, Callable[[Scene], Path]] = {
    "a file": a_file,
    "read-only": lambda _: Path("/sys/evolink"),  # not even root may write there
}


@pytest.mark.parametrize("which", UNWRITABLE)
@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ("EVOLINK_DATA_DIR", "journal_unusable"),
        ("EVOLINK_OUTPUT_DIR", "output_folder_unusable"),
    ],
)
async def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_sent(
    scene: Scene, which: str, setting: str, code: str
) -> None:
    folder = str(UNWRITABLE[which](scene))
    with anyio.fail_after(LIMIT):
        async with Client(process({**scene.settings, setting: folder})) as host:
            refused = await host.call_tool(**CALL)
    assert_refused(refused, code=code, advice=setting)
    assert folder in text_of(refused)
    assert scene.posts == 0


def damaged(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"\xa5" * 20_000)


def no_database(path: Path) -> None:
    path.write_text("this was a journal once\n" * 1000, "utf-8")


def newer(path: Path) -> None:
    do_in(path, "PRAGMA user_version=99")


def of_another_program(path: Path) -> None:
    do_in(path, "CREATE TABLE jobs (id TEXT)")


@pytest.mark.parametrize(
    ("spoil", "advice"),
    [
        (damaged, "move that file"),
        (no_database, "move that file"),
        (newer, "update evolink-mcp"),
        (of_another_program, "move that file"),
    ],
)
async def test_a_journal_that_cannot_be_read_is_left_alone_and_paid_tasks_are_still_looked_at(
    scene: Scene, spoil: Callable[[Path], None], advice: str
) -> None:
    task_id = await bought_elsewhere(scene)
    path = journal_of(scene)
    path.parent.mkdir()
    spoil(path)
    before = path.read_bytes()
    with anyio.fail_after(LIMIT):
        async with Client(process(scene.settings)) as host:
            refused = await host.call_tool(**CALL)
            found = await host.call_tool("get_task", {"task_id": task_id})
            again = await host.call_tool(**CALL)
            listed = await host.call_tool("list_tasks", {})
            assert path.read_bytes() == before
            assert [file.name for file in path.parent.iterdir()] == [path.name]
            path.rename(path.with_name("moved"))  # as it advises
            mended = await host.call_tool(**CALL)
    for result in (refused, again):
        assert_refused(result, code="journal_unusable", advice=advice)
        assert str(path) in text_of(result)
    error = TaskList.model_validate(listed.structured_content).error
    assert error is not None
    assert error.code == "journal_unusable"
    assert (answer_of(found).status, answer_of(found).task_id) == ("completed", task_id)
    assert f"{task_id}-1.png" in scene.pictures
    assert answer_of(mended).status == "completed"
    assert scene.posts == 2  # the one elsewhere, and the one after the journal was mended


async def bought_elsewhere(scene: Scene) -> str:
    headers = {"Authorization": "Bearer sk-sandbox"}
    async with httpx.AsyncClient(base_url=scene.url, headers=headers, trust_env=False) as client:
        body = {"model": "gpt-4o-image", "prompt": "a fox"}
        answer = await client.post("/v1/images/generations", json=body)
    return str(answer.json()["id"])
