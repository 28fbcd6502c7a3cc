from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from evolink_mcp.errors import EvolinkError, JournalUnusable, ServiceFailed
from evolink_mcp.jobs.database import APPLICATION, MIGRATIONS, open_database
from evolink_mcp.jobs.uploads import MARGIN_SECONDS, Upload, Uploads
from tests.sandbox.desk import BASE_URL, Clock, picture

HOUR = 3600.0
FOX, OWL = picture("PNG"), picture("PNG", (8, 8))


@dataclass(frozen=True)
class Answered:
    url: str
    expires_at: datetime | None


@dataclass
class Host:
    """A Files API that remembers what it was sent."""

    clock: Clock
    tells: bool = True
    held: anyio.Event | None = None
    errors: list[EvolinkError] = field(default_factory=list[EvolinkError])
    sent: list[tuple[bytes, str, str]] = field(default_factory=list[tuple[bytes, str, str]])
    zone: timezone | None = UTC
    lives: timedelta = timedelta(hours=72)

    async def upload(self, content: bytes, *, name: str, media_type: str) -> Answered:
        self.sent.append((content, name, media_type))
        url = f"https://files.example.com/{len(self.sent)}"
        if self.held:
            await self.held.wait()
        await anyio.lowlevel.checkpoint()
        if self.errors:
            raise self.errors.pop()
        ends = datetime.fromtimestamp(self.clock.now, self.zone) + self.lives
        return Answered(url, ends if self.tells else None)


@asynccontextmanager
async def open_uploads(
    host: Host, path: Path | None = None, *, origin: str = BASE_URL
) -> AsyncGenerator[Uploads]:
    async with open_database(path) as database:
        yield Uploads(database=database, origin=origin, now=host.clock, upload=host.upload)


@pytest.fixture
def host() -> Host:
    return Host(Clock())


async def rows(uploads: Uploads) -> int:
    return await uploads.database.transact(
        lambda connection: int(connection.execute("SELECT count(*) FROM uploads").fetchone()[0])
    )


async def test_a_content_is_sent_once(host: Host) -> None:
    ends = datetime.fromtimestamp(host.clock.now, UTC) + timedelta(hours=72)
    async with open_uploads(host) as uploads:
        first = await uploads.url_of(FOX, media_type="image/png")
        again = await uploads.url_of(bytes(FOX), media_type="image/png")
        other = await uploads.url_of(OWL, media_type="image/png")
    assert first == Upload("https://files.example.com/1", ends, fresh=True)
    assert again == Upload("https://files.example.com/1", ends, fresh=False)
    assert other.url == "https://files.example.com/2"
    assert [content for content, _, _ in host.sent] == [FOX, OWL]


@pytest.mark.parametrize("tells", [True, False])
async def test_an_upload_is_used_as_long_as_it_lives(host: Host, *, tells: bool) -> None:
    host.tells = tells
    async with open_uploads(host) as uploads:
        await uploads.url_of(FOX, media_type="image/png")
        host.clock.now += 72 * HOUR - MARGIN_SECONDS
        assert not (await uploads.url_of(FOX, media_type="image/png")).fresh
        host.clock.now += 1
        assert (await uploads.url_of(FOX, media_type="image/png")).fresh
        assert not (await uploads.url_of(FOX, media_type="image/png")).fresh


async def test_a_time_without_a_zone_is_taken_for_utc(host: Host) -> None:
    host.zone = None
    async with open_uploads(host) as uploads:
        upload = await uploads.url_of(FOX, media_type="image/png")
    assert upload.expires_at.tzinfo is UTC


@pytest.mark.parametrize("days", [4, 30, 365_000])
async def test_an_upload_lives_no_longer_than_any_other(host: Host, days: int) -> None:
    host.lives = timedelta(days=days)
    ends = datetime.fromtimestamp(host.clock.now, UTC) + timedelta(hours=72)
    async with open_uploads(host) as uploads:
        assert (await uploads.url_of(FOX, media_type="image/png")).expires_at == ends
        host.clock.now += 71 * HOUR
        assert not (await uploads.url_of(FOX, media_type="image/png")).fresh
        host.clock.now += 1
        assert (await uploads.url_of(FOX, media_type="image/png")).fresh


@pytest.mark.parametrize("hours", [0, -1, -17_000_000])
async def test_an_upload_that_is_told_to_be_over_is_used_once(host: Host, hours: int) -> None:
    host.lives = timedelta(hours=hours)
    async with open_uploads(host) as uploads:
        for number in (1, 2):
            upload = await uploads.url_of(FOX, media_type="image/png")
            assert upload.url == f"https://files.example.com/{number}"
            assert upload.fresh
        assert await rows(uploads) == 0


async def test_an_upload_that_evolink_cannot_read_is_forgotten(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    async with (
        open_uploads(host, path) as uploads,
        open_uploads(host, path, origin="https://other.example") as others,
    ):
        dead = await uploads.url_of(FOX, media_type="image/png")
        other = await uploads.url_of(OWL, media_type="image/png")
        await others.forget(dead.url)
        await uploads.forget("https://files.example.com/unknown")
        assert await uploads.url_of(FOX, media_type="image/png") == replace(dead, fresh=False)
        await uploads.forget(dead.url)
        assert (await uploads.url_of(FOX, media_type="image/png")).fresh
        assert await uploads.url_of(OWL, media_type="image/png") == replace(other, fresh=False)


async def test_what_has_expired_is_forgotten(host: Host) -> None:
    async with open_uploads(host) as uploads:
        await uploads.url_of(FOX, media_type="image/png")
        host.clock.now += 72 * HOUR
        await uploads.url_of(OWL, media_type="image/png")
        assert await rows(uploads) == 1


@pytest.mark.parametrize(
    ("media_type", "ending"),
    [("image/png", "png"), ("image/jpeg", "jpg"), ("image/gif", "gif"), ("image/webp", "webp")],
)
async def test_each_upload_has_a_name_of_its_own(host: Host, media_type: str, ending: str) -> None:
    async with open_uploads(host) as uploads:
        for content in (FOX, OWL, b"third"):
            await uploads.url_of(content, media_type=media_type)
    names = [name for _, name, _ in host.sent]
    assert len(set(names)) == 3
    assert all(len(name) == 33 + len(ending) and name.endswith(f".{ending}") for name in names)
    assert {kind for _, _, kind in host.sent} == {media_type}


async def test_calls_at_once_send_a_content_once(host: Host) -> None:
    found: list[Upload] = []
    host.held = anyio.Event()

    async def call(uploads: Uploads, content: bytes) -> None:
        found.append(await uploads.url_of(content, media_type="image/png"))

    async with open_uploads(host) as uploads:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                for content in (FOX, FOX, FOX, OWL):
                    group.start_soon(call, uploads, content)
                while len(host.sent) < 2:
                    await anyio.lowlevel.checkpoint()
                assert len(uploads._turns) == 2
                host.held.set()
        assert uploads._turns == {}
    assert sorted(content for content, _, _ in host.sent) == sorted((FOX, OWL))
    assert sorted(each.fresh for each in found) == [False, False, True, True]
    assert len({each.url for each in found}) == 2


async def test_who_waited_for_a_failed_upload_tries_by_itself(host: Host) -> None:
    host.errors = [ServiceFailed(message="broken", next_step="later", status=503)]
    found: list[str] = []

    async def call(uploads: Uploads) -> None:
        try:
            found.append((await uploads.url_of(FOX, media_type="image/png")).url)
        except ServiceFailed as error:
            found.append(str(error))

    async with open_uploads(host) as uploads:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(call, uploads)
                group.start_soon(call, uploads)
        assert await rows(uploads) == 1
        assert uploads._turns == {}
    assert sorted(found) == ["broken", "https://files.example.com/2"]


async def test_a_cancelled_call_leaves_the_turn_to_the_next(host: Host) -> None:
    host.held = anyio.Event()
    async with open_uploads(host) as uploads:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:

                async def call() -> None:
                    await uploads.url_of(FOX, media_type="image/png")

                group.start_soon(call)
                while not host.sent:
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            await anyio.lowlevel.checkpoint()  # else coverage loses sight of this test
            assert uploads._turns == {}
            host.held.set()
            assert (await uploads.url_of(FOX, media_type="image/png")).fresh


async def test_what_was_sent_is_recorded_though_its_caller_is_gone(host: Host) -> None:
    async with open_uploads(host) as uploads:
        with anyio.CancelScope() as scope, anyio.fail_after(10):
            sending = host.upload

            async def cancelled(content: bytes, *, name: str, media_type: str) -> Answered:
                answer = await sending(content, name=name, media_type=media_type)
                scope.cancel()
                return answer

            object.__setattr__(uploads, "upload", cancelled)
            await uploads.url_of(FOX, media_type="image/png")
        assert await rows(uploads) == 1


async def test_uploads_are_known_after_a_restart_and_to_other_processes(
    host: Host, tmp_path: Path
) -> None:
    path = tmp_path / "journal"
    async with open_uploads(host, path) as uploads, open_uploads(host, path) as others:
        await uploads.url_of(FOX, media_type="image/png")
        assert not (await others.url_of(FOX, media_type="image/png")).fresh
    async with open_uploads(host, path) as uploads:
        assert not (await uploads.url_of(FOX, media_type="image/png")).fresh
    async with open_uploads(host, path, origin="https://other.example") as uploads:
        assert (await uploads.url_of(FOX, media_type="image/png")).fresh


async def test_nothing_is_sent_without_a_record(host: Host, tmp_path: Path) -> None:
    async with open_uploads(host, tmp_path / "journal") as uploads:
        uploads.database.connection.execute("DROP TABLE uploads")
        with pytest.raises(JournalUnusable):
            await uploads.url_of(FOX, media_type="image/png")
    assert host.sent == []


async def test_a_journal_of_the_first_version_learns_of_uploads(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(MIGRATIONS[0])
        connection.execute(f"PRAGMA application_id={APPLICATION}")
        connection.execute("PRAGMA user_version=1")
        connection.execute("INSERT INTO workers VALUES ('w', 1.0, '', 1)")
        connection.commit()
    async with open_uploads(host, path) as uploads:
        assert (await uploads.url_of(FOX, media_type="image/png")).fresh
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert connection.execute("SELECT id FROM workers").fetchall() == [("w",)]
