from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import NoReturn, Self

import anyio
import anyio.abc
import httpx2 as httpx
import pytest
from PIL import Image

import evolink_mcp.jobs.collect as collect_module
from evolink_mcp.api.egress import Downloads, open_downloads
from evolink_mcp.api.network import Network
from evolink_mcp.api.wire import Task
from evolink_mcp.errors import SettingInvalid
from evolink_mcp.jobs.collect import ROOM_NEEDED, all_on_disk, collect, prepare_folder
from evolink_mcp.jobs.job import Job, JobId, Picture
from tests.api.wires import http_answer, listening
from tests.jobs.shop import Shop
from tests.jobs.test_pictures import png_of
from tests.sandbox.desk import BASE_URL, Clock, picture

JOB = Job(id=JobId("run_1"))
CREATED = 1_756_817_821


class Host:
    """A file host: contents by path, or the status it answers with."""

    def __init__(self) -> None:
        self.files: dict[str, bytes | int] = {}
        self.asked: list[str] = []
        self.headers: dict[str, str] = {}

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        found = self.files[request.url.path]
        if isinstance(found, int):
            return httpx.Response(found)
        return httpx.Response(200, content=found, headers=self.headers)


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
async def downloads(host: Host) -> AsyncIterator[Downloads]:
    network = Network(transport=httpx.MockTransport(host.answer), sleep=Clock().sleep)
    async with open_downloads(BASE_URL, network) as opened:
        yield opened


def completed(*names: str, created: float | None = CREATED) -> Task:
    links = tuple(BASE_URL + name for name in names)
    return Task(id="task-unified-1", status="completed", results=links, created=created)


async def listed(folder: Path) -> list[str]:
    return sorted([path.name async for path in anyio.Path(folder).iterdir()])


@cache
def big(form: str = "PNG") -> bytes:
    stream = BytesIO()
    Image.effect_noise((200, 200), 90).convert("RGB").save(stream, form)
    return stream.getvalue()


async def test_pictures_are_saved_under_names_of_ours(
    host: Host, downloads: Downloads, tmp_path: Path
) -> None:
    """Neither the path nor the ending of a link decides anything."""
    folder = tmp_path / "new" / "pictures"
    host.files = {
        "/a/..%2f..%2fetc%2fpasswd": picture("PNG"),
        "/a/passwd.exe": picture("JPEG"),
        "/a/3.png": picture("WEBP"),
    }
    host.files["/a/../../etc/passwd"] = host.files["/a/..%2f..%2fetc%2fpasswd"]
    names = ("/a/..%2f..%2fetc%2fpasswd", "/a/passwd.exe", "/a/3.png")
    found = await collect(JOB, task=completed(*names), downloads=downloads, folder=folder)
    expires = datetime.fromtimestamp(CREATED, UTC) + collect_module.RESULT_LIFETIME
    kinds = [
        ("png", "image/png", "PNG"),
        ("jpg", "image/jpeg", "JPEG"),
        ("webp", "image/webp", "WEBP"),
    ]
    assert found == tuple(
        Picture(
            n=n,
            url=BASE_URL + names[n - 1],
            expires_at=expires,
            path=folder / f"task-unified-1-{n}.{extension}",
            media_type=media_type,
            width=48,
            height=32,
            size=len(picture(form)),
        )
        for n, (extension, media_type, form) in enumerate(kinds, start=1)
    )
    for path, form in zip([item.path for item in found], ["PNG", "JPEG", "WEBP"], strict=True):
        assert path
        assert await anyio.Path(path).read_bytes() == picture(form)
    assert await all_on_disk(found)
    assert len(await listed(folder)) == 3


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (403, "has expired"),
        (404, "has expired"),
        (410, "has expired"),
        (500, "HTTP 500"),
        (204, "no picture (type: unknown)"),
        (b"<!doctype html><title>No</title>", "no picture (type: html)"),
        (b'{"error": "no"}', "no picture (type: text)"),
        (b"no such key", "no picture (type: text)"),
        (b"", "no picture"),
    ],
)
async def test_what_is_no_picture_is_told_and_not_saved(
    host: Host, downloads: Downloads, tmp_path: Path, content: bytes | int, problem: str
) -> None:
    host.files = {"/1": content, "/2": picture()}
    task = completed("/1", "/2")
    bad, good = await collect(JOB, task=task, downloads=downloads, folder=tmp_path)
    assert (bad.path, good.problem) == (None, "")
    assert problem in bad.problem
    assert not await all_on_disk([bad, good])
    assert await listed(tmp_path) == ["task-unified-1-2.png"]


@pytest.mark.parametrize(
    ("content", "ending", "media_type", "size"),
    [
        (picture("AVIF"), "avif", "image/avif", (48, 32)),
        (picture("TIFF"), "tiff", "image/tiff", (48, 32)),
        (picture("BMP"), "bmp", "image/bmp", (48, 32)),
        (b"\x00\x00\x00\x18ftypheic" + bytes(9), "heic", "image/heic", (0, 0)),
        (b"<svg/>", "svg", "image/svg+xml", (0, 0)),
        (b"PK\x03\x04" + bytes(9), "zip", "application/zip", (0, 0)),
        (bytes(9), "bin", "application/octet-stream", (0, 0)),
        (png_of(30_000, 30_000), "png", "image/png", (30_000, 30_000)),
    ],
)
async def test_what_was_paid_for_is_saved_whatever_it_is(
    host: Host,
    downloads: Downloads,
    tmp_path: Path,
    content: bytes,
    ending: str,
    media_type: str,
    size: tuple[int, int],
) -> None:
    host.files = {"/1": content}
    (found,) = await collect(JOB, task=completed("/1"), downloads=downloads, folder=tmp_path)
    assert (found.media_type, (found.width, found.height)) == (media_type, size)
    assert (found.problem, found.size) == ("", len(content))
    assert await listed(tmp_path) == [f"task-unified-1-1.{ending}"]
    assert await anyio.Path(str(found.path)).read_bytes() == content


async def test_a_jpeg_that_lacks_its_end_is_saved_with_one(
    host: Host, downloads: Downloads, tmp_path: Path
) -> None:
    host.files = {"/1": big("JPEG")[:-2]}
    (found,) = await collect(JOB, task=completed("/1"), downloads=downloads, folder=tmp_path)
    assert (found.problem, found.size) == ("", len(big("JPEG")))
    assert await anyio.Path(str(found.path)).read_bytes() == big("JPEG")


class Looks:
    """One picture that is looked at again and again."""

    def __init__(self, host: Host, downloads: Downloads, folder: Path) -> None:
        self._host, self._downloads, self._folder = host, downloads, folder
        self._job = JOB

    async def look(self, content: bytes | int) -> Picture:
        self._host.files = {"/1": content}
        (found,) = await collect(
            self._job, task=completed("/1"), downloads=self._downloads, folder=self._folder
        )
        self._job = Job(id=JobId("run_1"), pictures=(found,))
        return found


@pytest.fixture
def looks(host: Host, downloads: Downloads, tmp_path: Path) -> Looks:
    return Looks(host, downloads, tmp_path)


def part(share: float) -> bytes:
    return big()[: int(len(big()) * share)]


DAMAGED = "task-unified-1-1.damaged.png"


async def test_a_damaged_picture_is_laid_aside_until_it_comes_whole(
    looks: Looks, tmp_path: Path
) -> None:
    damaged = await looks.look(part(0.5))
    assert (damaged.path, "cut off or broken" in damaged.problem) == (None, True)
    assert DAMAGED in damaged.problem
    assert await listed(tmp_path) == [DAMAGED]
    whole = await looks.look(big())
    assert (whole.problem, await all_on_disk([whole])) == ("", True)
    assert await listed(tmp_path) == ["task-unified-1-1.png"]


async def test_of_damaged_pictures_the_longest_is_kept(looks: Looks, tmp_path: Path) -> None:
    for share in (0.5, 0.75, 0.25):
        assert (await looks.look(part(share))).path is None
    assert await anyio.Path(tmp_path / DAMAGED).read_bytes() == part(0.75)


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_a_damaged_picture_is_all_there_is_once_its_link_is_dead(
    looks: Looks, host: Host, tmp_path: Path, status: int
) -> None:
    await looks.look(part(0.5))
    kept = await looks.look(status)
    assert (kept.path, kept.problem, kept.expires_at) == (tmp_path / DAMAGED, "", None)
    assert (kept.media_type, kept.width, kept.size) == ("image/png", 200, len(part(0.5)))
    host.asked = []
    assert await looks.look(status) == kept
    assert host.asked == []


@pytest.mark.parametrize("content", [500, b"<html>"])
async def test_a_damaged_picture_is_named_while_its_link_may_work_again(
    looks: Looks, content: bytes | int
) -> None:
    await looks.look(part(0.5))
    found = await looks.look(content)
    assert found.path is None
    assert found.problem.endswith(f" A damaged one is kept as {DAMAGED}.")


async def test_a_damaged_picture_that_cannot_be_read_or_removed_does_no_harm(
    looks: Looks, tmp_path: Path
) -> None:
    await anyio.Path(tmp_path / DAMAGED).mkdir()
    found = await looks.look(403)
    assert (found.path, "has expired" in found.problem) == (None, True)
    assert (await looks.look(big())).problem == ""


async def test_a_transfer_that_breaks_off_is_repeated_and_nothing_of_it_kept(
    tmp_path: Path,
) -> None:
    async def answer(stream: anyio.abc.ByteStream) -> None:
        await stream.send(http_answer(picture("TIFF"), length=len(picture("TIFF")) + 1))

    network = Network(transport=None, tls=False, sleep=Clock().sleep)
    with anyio.fail_after(20):
        async with listening(answer) as server, open_downloads(server.url, network) as downloads:
            task = Task(id="task-unified-1", status="completed", results=(f"{server.url}/1",))
            (found,) = await collect(JOB, task=task, downloads=downloads, folder=tmp_path)
    assert (found.path, server.count) == (None, 3)
    assert "the connection failed" in found.problem
    assert await listed(tmp_path) == []


async def test_a_picture_keeps_its_number_among_those_that_have_no_link(
    host: Host, downloads: Downloads, tmp_path: Path
) -> None:
    host.files = {"/2": picture(), "/4": picture()}
    links = [None, f"{BASE_URL}/2", "javascript:1", f"{BASE_URL}/4"]
    task = Task.model_validate({"id": "task-unified-1", "status": "completed", "results": links})
    found = await collect(JOB, task=task, downloads=downloads, folder=tmp_path)
    assert [picture.n for picture in found] == [2, 4]
    assert await listed(tmp_path) == ["task-unified-1-2.png", "task-unified-1-4.png"]
    host.asked = []
    job = Job(id=JobId("run_1"), pictures=found)
    assert await collect(job, task=task, downloads=downloads, folder=tmp_path) == found
    assert host.asked == []


async def test_a_file_beyond_the_limit_is_not_saved(
    host: Host, downloads: Downloads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect_module, "MAX_PICTURE_BYTES", 1000)
    host.files, host.headers = {"/1": gzip.compress(big())}, {"content-encoding": "gzip"}
    (found,) = await collect(JOB, task=completed("/1"), downloads=downloads, folder=tmp_path)
    assert "larger than 1000 bytes" in found.problem
    assert await listed(tmp_path) == []


@pytest.mark.parametrize(
    "link",
    ["http://127.0.0.1:22/1.png", "https://a.example:70000/", "https://[::1]/1.png"],
)
async def test_a_link_that_leads_inside_or_nowhere_is_told(
    downloads: Downloads, tmp_path: Path, link: str
) -> None:
    task = Task(id="task-unified-1", status="completed", results=(link,))
    with anyio.fail_after(10):
        (found,) = await collect(JOB, task=task, downloads=downloads, folder=tmp_path)
    assert (found.path, found.url) == (None, link)
    assert "address" in found.problem


def full(*_: object, **__: object) -> NoReturn:
    raise OSError(28, "No space left on device")


def without_words(*_: object, **__: object) -> NoReturn:
    raise OSError


class Full:
    """A file on a disk that is full."""

    def __init__(self, _: str) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    write = full


@pytest.mark.parametrize(
    ("target", "name", "fails"),
    [
        pytest.param(Path, "open", full, id="create"),
        pytest.param(Path, "open", Full, id="write"),
        pytest.param(os, "fsync", full, id="sync"),
        pytest.param(Path, "replace", full, id="rename"),
        pytest.param(Path, "mkdir", without_words, id="folder"),
    ],
)
async def test_nothing_half_written_is_left_whatever_step_fails(
    host: Host,
    downloads: Downloads,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: object,
    name: str,
    fails: Callable[..., object],
) -> None:
    host.files = {"/1": picture()}
    with monkeypatch.context() as broken:
        broken.setattr(target, name, fails)
        (found,) = await collect(JOB, task=completed("/1"), downloads=downloads, folder=tmp_path)
    assert found.path is None
    reason = "OSError" if fails is without_words else "No space left on device"
    assert found.problem == f"It could not be saved in {tmp_path} ({reason})."
    assert await listed(tmp_path) == []


async def test_a_picture_has_its_name_only_once_it_is_whole(
    host: Host, downloads: Downloads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[str, list[str]]] = []
    fsync, replace = os.fsync, Path.replace

    def names() -> list[str]:
        return sorted(path.suffix for path in tmp_path.iterdir())

    def watched_sync(descriptor: int) -> None:
        fsync(descriptor)
        steps.append(("sync", names()))

    def watched_replace(path: Path, target: Path) -> Path:
        assert path.read_bytes() == picture()
        moved = replace(path, target)
        steps.append(("rename", names()))
        return moved

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    host.files = {"/1": picture()}
    await collect(JOB, task=completed("/1"), downloads=downloads, folder=tmp_path)
    assert steps == [("sync", [".part"]), ("rename", [".png"]), ("sync", [".png"])]


async def test_a_folder_that_cannot_be_synced_does_no_harm(
    host: Host, downloads: Downloads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "open", full)
    host.files = {"/1": picture()}
    (found,) = await collect(JOB, task=completed("/1"), downloads=downloads, folder=tmp_path)
    assert found.problem == ""
    assert await all_on_disk([found])


async def test_a_file_in_place_of_the_folder_is_told(
    host: Host, downloads: Downloads, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    await anyio.Path(folder).write_text("a file")
    host.files = {"/1": picture()}
    (found,) = await collect(JOB, task=completed("/1"), downloads=downloads, folder=folder)
    assert "File exists" in found.problem


@pytest.mark.parametrize(
    "created", [None, 0, 1_756_817_821_000, 1e300, -1e300, -1e15, 253_402_300_799]
)
async def test_a_date_of_no_calendar_costs_no_picture(
    host: Host, downloads: Downloads, tmp_path: Path, created: float | None
) -> None:
    host.files = {"/1": picture()}
    task = completed("/1", created=created)
    (found,) = await collect(JOB, task=task, downloads=downloads, folder=tmp_path)
    assert (found.expires_at, found.problem) == (None, "")


async def test_what_is_on_disk_is_not_fetched_again(
    host: Host, downloads: Downloads, tmp_path: Path
) -> None:
    host.files = {"/1": picture(), "/2": 403}
    task = completed("/1", "/2")
    before = await collect(JOB, task=task, downloads=downloads, folder=tmp_path)
    host.files, host.asked = {"/1": 403, "/2": picture()}, []
    job = Job(id=JobId("run_1"), task=task, pictures=before)
    after = await collect(job, task=task, downloads=downloads, folder=tmp_path)
    assert (host.asked, after[0]) == (["/2"], before[0])
    assert await all_on_disk(after)


async def test_a_folder_that_may_not_be_looked_into_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = [Picture(n=1, url="", expires_at=None, path=tmp_path / "1.png")]
    monkeypatch.setattr(Path, "is_file", full)
    assert not await all_on_disk([found])


@pytest.mark.parametrize("marker", ["[expired]", "[not-an-image]", "[truncated]"])
async def test_broken_results_of_the_sandbox_are_told(shop: Shop, marker: str) -> None:
    job = await shop.buy(f"[slow:20] {marker}")
    assert job.state == "completed"
    assert job.pictures[0].path is None
    assert job.pictures[0].problem


async def test_a_folder_is_made_before_money_is_spent(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    await prepare_folder(folder)
    await prepare_folder(folder)
    assert await listed(folder) == []


@pytest.mark.parametrize(
    ("target", "name", "fails", "reason"),
    [
        (Path, "mkdir", full, "No space left on device"),
        (tempfile, "TemporaryFile", without_words, "OSError"),
    ],
)
async def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: object,
    name: str,
    fails: object,
    reason: str,
) -> None:
    monkeypatch.setattr(target, name, fails)
    with pytest.raises(SettingInvalid) as caught:
        await prepare_folder(tmp_path)
    error = caught.value
    assert (error.setting, error.code) == ("EVOLINK_OUTPUT_DIR", "output_folder_unusable")
    assert (error.charged, error.retryable) == ("no", False)
    assert f"{tmp_path} ({reason})" in error.message
    assert "EVOLINK_OUTPUT_DIR" in error.next_step


async def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = anyio.Path(tmp_path / "pictures")
    await folder.write_text("a file")
    for wrong in (Path(folder), Path(folder / "inside")):
        with pytest.raises(SettingInvalid, match=r"File exists|Not a directory"):
            await prepare_folder(wrong)


@pytest.mark.parametrize("missing", [0, 1])
async def test_a_disk_without_room_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: int
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=ROOM_NEEDED - missing)

    def measure(_: Path) -> object:
        return usage

    monkeypatch.setattr(shutil, "disk_usage", measure)
    if missing:
        with pytest.raises(SettingInvalid, match="only 63 MB are free"):
            await prepare_folder(tmp_path)
    else:
        await prepare_folder(tmp_path)
