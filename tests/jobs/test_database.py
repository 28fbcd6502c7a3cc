from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from evolink_mcp.errors import JournalUnusable
from evolink_mcp.jobs import database
from evolink_mcp.jobs.database import (
    APPLICATION,
    MIGRATIONS,
    Database,
    _prepare,
    open_database,
    translated,
)


def add(connection: sqlite3.Connection, name: str = "a") -> None:
    connection.execute("INSERT INTO workers VALUES (?, 1.0, '', 1)", (name,))


def count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM workers").fetchone()[0])


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def refusal_of(path: Path) -> JournalUnusable:
    with pytest.raises(JournalUnusable) as refused:
        await AsyncExitStack().enter_async_context(open_database(path))
    assert str(path) in refused.value.message
    assert refused.value.next_step
    await anyio.lowlevel.checkpoint()  # or the caller's next lines are not measured
    return refused.value


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
async def test_only_the_owner_may_read_what_was_bought(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "data" / "journal"
    before = os.umask(umask)
    try:
        async with open_database(path) as opened:
            await opened.transact(add)
            modes = {mode_of(each) for each in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {0o600}
    assert mode_of(path.parent) == 0o700


async def test_a_file_that_others_could_read_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.touch(0o644)
    async with open_database(path):
        assert mode_of(path) == 0o600


async def test_what_is_committed_survives_a_loss_of_power(tmp_path: Path) -> None:
    async with open_database(tmp_path / "journal") as opened:
        settings = [
            opened.connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "user_version", "application_id")
        ]
    assert settings == ["wal", 2, len(MIGRATIONS), APPLICATION]


async def test_a_file_is_opened_again_with_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    async with open_database(path) as opened:
        await opened.transact(add)
    async with open_database(path) as opened:
        assert await opened.transact(count) == 1


async def test_memory_takes_the_place_of_a_file() -> None:
    async with open_database(None) as opened:
        await opened.transact(add)
        with pytest.raises(JournalUnusable, match="memory"):
            await opened.transact(add)


async def test_a_damaged_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"not a database at all " * 1000)
    before = path.read_bytes()
    error = await refusal_of(path)
    assert "damaged" in error.message
    assert "move that file" in error.next_step
    assert path.read_bytes() == before


async def test_a_damaged_page_is_found_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    async with open_database(path) as opened:
        await opened.transact(add)
        root = opened.connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name='workers'"
        ).fetchone()[0]
    content = bytearray(path.read_bytes())
    begin = (root - 1) * 4096
    content[begin : begin + 4096] = bytes(byte ^ 0xFF for byte in content[begin : begin + 4096])
    path.write_bytes(content)
    async with open_database(path) as opened:
        for work in (add, count):
            with pytest.raises(JournalUnusable, match="it is damaged") as refused:
                await opened.transact(work)
            assert "do not delete" in refused.value.next_step
    assert path.read_bytes() == content


def foreign(path: Path, *statements: str) -> bytes:
    """Make a SQLite file as another program does."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return path.read_bytes()


@pytest.mark.parametrize(
    "statements",
    [
        ("PRAGMA user_version=99",),
        (f"PRAGMA application_id={APPLICATION}", "PRAGMA user_version=99", "CREATE TABLE a (b)"),
    ],
)
async def test_a_newer_file_is_left_as_it_is(tmp_path: Path, statements: tuple[str, ...]) -> None:
    path = tmp_path / "journal"
    before = foreign(path, *statements)
    error = await refusal_of(path)
    assert "newer version" in error.message
    assert "update evolink-mcp" in error.next_step
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE TABLE jobs (id)",),
        ("PRAGMA application_id=1",),
        ("PRAGMA application_id=1", "PRAGMA user_version=1", "CREATE TABLE jobs (id)"),
    ],
)
async def test_the_file_of_another_program_is_left_as_it_is(
    tmp_path: Path, statements: tuple[str, ...]
) -> None:
    path = tmp_path / "journal"
    before = foreign(path, *statements)
    assert "another program" in (await refusal_of(path)).message
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


async def test_a_folder_in_the_place_of_the_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.mkdir()
    assert "EVOLINK_DATA_DIR" in (await refusal_of(path)).next_step


async def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")
    await refusal_of(tmp_path / "data" / "journal")
    assert (tmp_path / "data").read_text() == "mine"


async def test_a_lock_that_lasts_is_told_and_a_short_one_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.05)
    async with open_database(path) as impatient:
        monkeypatch.setattr(database, "LOCK_SECONDS", 30.0)
        async with open_database(path) as patient, anyio.create_task_group() as group:
            with closing(sqlite3.connect(path, isolation_level=None)) as holder:
                holder.execute("BEGIN IMMEDIATE")
                group.start_soon(patient.transact, add)
                with pytest.raises(JournalUnusable, match="keeps it locked") as refused:
                    await impatient.transact(add)
                assert "Call again in a minute" in refused.value.next_step
                holder.execute("COMMIT")
        assert await impatient.transact(count) == 1


async def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        rows = [(str(n),) for n in range(100_000)]
        connection.executemany("INSERT INTO workers VALUES (?, 1.0, '', 1)", rows)

    async with open_database(tmp_path / "journal") as opened:
        pages = opened.connection.execute("PRAGMA page_count").fetchone()[0]
        opened.connection.execute(f"PRAGMA max_page_count={pages + 2}")
        await opened.transact(add)
        with pytest.raises(JournalUnusable, match="the disk is full") as refused:
            await opened.transact(fill)
        assert "make room" in refused.value.next_step
        assert await opened.transact(count) == 1


async def test_a_transaction_that_breaks_leaves_nothing() -> None:
    def break_off(connection: sqlite3.Connection) -> None:
        add(connection)
        raise ZeroDivisionError

    async with open_database(None) as opened:
        with pytest.raises(ZeroDivisionError):
            await opened.transact(break_off)
        assert await opened.transact(count) == 0


async def test_a_transaction_is_whole_when_its_caller_is_cancelled() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly(connection: sqlite3.Connection) -> None:
        add(connection, "a")
        begun.set()
        assert go_on.wait(10)
        add(connection, "b")

    async def call(opened: Database, scope: anyio.CancelScope) -> None:
        with scope:
            await opened.transact(slowly)

    async with open_database(None) as opened:
        scope = anyio.CancelScope()
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(call, opened, scope)
                await anyio.to_thread.run_sync(begun.wait, 10)
                scope.cancel()
                go_on.set()
        assert await opened.transact(count) == 2


async def test_processes_that_open_a_new_file_at_once_make_it_once(tmp_path: Path) -> None:
    async def open_it(path: Path) -> None:
        async with open_database(path) as opened:
            assert await opened.transact(count) == 0

    with anyio.fail_after(60):
        for turn in range(40):
            async with anyio.create_task_group() as group:
                for _ in range(8):
                    group.start_soon(open_it, tmp_path / str(turn) / "journal")


class Hurried(sqlite3.Connection):
    """Finds the file in use when it wants the write-ahead log, `left` times."""

    left = 0

    def execute(self, sql: str, *arguments: object) -> sqlite3.Cursor:
        if sql == "PRAGMA journal_mode=WAL" and self.left:
            self.left -= 1
            raise sqlite3.OperationalError("database is locked")
        return super().execute(sql, *arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("left", [1, 3])
def test_who_cannot_have_the_write_ahead_log_at_once_tries_again(tmp_path: Path, left: int) -> None:
    path = tmp_path / "journal"
    with closing(sqlite3.connect(path, factory=Hurried, isolation_level=None)) as connection:
        connection.left = left
        _prepare(connection, path)
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_who_never_gets_the_write_ahead_log_does_without_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with closing(sqlite3.connect(path, factory=Hurried, isolation_level=None)) as connection:
        connection.left = 1000
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            _prepare(connection, path)


def subclasses(error: type[Exception]) -> Iterator[type[Exception]]:
    yield error
    for each in error.__subclasses__():
        yield from subclasses(each)


@pytest.mark.parametrize("error", [*subclasses(sqlite3.Error), OSError, PermissionError])
def test_whatever_sqlite_and_the_system_raise_is_translated(error: type[Exception]) -> None:
    with pytest.raises(JournalUnusable, match="of what was bought") as refused, translated(None):
        raise error("a reason")
    assert isinstance(refused.value.__cause__, error)
    assert refused.value.next_step


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("SQLITE_CORRUPT_INDEX", "damaged"),
        ("SQLITE_NOTADB", "damaged"),
        ("SQLITE_FULL", "full"),
        ("SQLITE_IOERR_FSYNC", "the disk fails"),
        ("SQLITE_READONLY_DBMOVED", "may not be written"),
        ("SQLITE_CANTOPEN_ISDIR", "cannot be opened"),
        ("SQLITE_PERM", "may not be opened"),
        ("SQLITE_BUSY_SNAPSHOT", "locked"),
        ("SQLITE_LOCKED", "locked"),
        ("SQLITE_MISUSE", "SQLite says"),
    ],
)
def test_each_reason_is_told_in_plain_words(name: str, reason: str) -> None:
    error = sqlite3.OperationalError("a reason")
    error.sqlite_errorcode = getattr(sqlite3, name)
    with pytest.raises(JournalUnusable, match=reason), translated(None):
        raise error
