"""Pictures from the user's own disk, and earlier ones, as reference images."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import anyio
import httpx2 as httpx
import pytest
from mcp import Client
from PIL import Image

from evolink_mcp.api.network import Network
from evolink_mcp.jobs.database import FILE_NAME
from evolink_mcp.sandbox import Sandbox, serve
from evolink_mcp.server.build import build_server
from tests.sandbox.desk import DAY, picture
from tests.servers import BASE_URL, Era, answer_of, host_of, process, settings_for, text_of

PUBLIC = "public to anyone who has their address, for 72 hours"
UPLOADS = "POST /api/v1/files"
POSTS = "POST /v1/images/generations"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of the user's, with a photo in it."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "fox.png").write_bytes(picture("PNG", (640, 480)))
    return folder


@asynccontextmanager
async def opened(
    sandbox: Sandbox, tmp_path: Path, era: Era = "auto", *, daily_credits: float | None = None
) -> AsyncGenerator[Client]:
    settings = settings_for(
        tmp_path / "out", input_dirs=str(tmp_path / "photos"), daily_credits=daily_credits
    )
    async with host_of(sandbox, settings, era=era) as host:
        yield host


async def test_a_photo_is_uploaded_once_and_the_answer_says_that_it_is_public(
    sandbox: Sandbox, tmp_path: Path, photos: Path, era: Era
) -> None:
    async with opened(sandbox, tmp_path, era) as host:
        for given in (str(photos / "fox.png"), (photos / "fox.png").as_uri()):
            asked = {"prompt": f"as a watercolour, {given}", "image_urls": [given]}
            result = await host.call_tool("generate_image", asked)
            assert answer_of(result).status == "completed"
            assert PUBLIC in text_of(result)
    assert (sandbox.requests[UPLOADS], sandbox.requests[POSTS]) == (1, 2)
    assert len({task.request.image_urls for task in sandbox.tasks.values()}) == 1


async def test_a_picture_of_another_type_is_converted_and_that_is_said(
    sandbox: Sandbox, tmp_path: Path, photos: Path
) -> None:
    Image.new("RGB", (64, 48), "teal").save(photos / "scan.bmp")
    async with opened(sandbox, tmp_path) as host:
        asked = {"prompt": "as a drawing", "image_urls": [str(photos / "scan.bmp")]}
        notes = answer_of(await host.call_tool("generate_image", asked)).notes or []
    assert any("converted from BMP to PNG" in note for note in notes)


async def test_a_mask_that_does_not_fit_is_refused_with_both_sizes(
    sandbox: Sandbox, tmp_path: Path, photos: Path
) -> None:
    (photos / "mask.png").write_bytes(picture("PNG", (64, 48)))
    async with opened(sandbox, tmp_path) as host:
        asked = {
            "prompt": "a hat",
            "image_urls": [str(photos / "fox.png")],
            "mask_url": str(photos / "mask.png"),
        }
        text = text_of(await host.call_tool("generate_image", asked))
    assert "64x48" in text
    assert "640x480" in text
    assert not sandbox.requests


async def test_a_file_elsewhere_is_refused_and_nothing_is_sent(
    sandbox: Sandbox, tmp_path: Path, photos: Path
) -> None:
    (photos.parent / "secret.png").write_bytes(picture())
    async with opened(sandbox, tmp_path) as host:
        asked = {"prompt": "a fox", "image_urls": [str(photos.parent / "secret.png")]}
        result = await host.call_tool("generate_image", asked)
    assert result.is_error
    assert "EVOLINK_INPUT_DIRS" in text_of(result)
    assert not sandbox.requests


async def test_an_upload_that_was_deleted_at_evolink_is_done_anew(
    sandbox: Sandbox, tmp_path: Path, photos: Path
) -> None:
    headers = {"authorization": "Bearer sk-sandbox"}
    transport = httpx.ASGITransport(app=sandbox.app)
    async with (
        opened(sandbox, tmp_path) as host,
        httpx.AsyncClient(transport=transport, base_url=BASE_URL, headers=headers) as evolink,
    ):

        async def ask(prompt: str) -> str:
            asked = {"prompt": prompt, "image_urls": [str(photos / "fox.png")]}
            return answer_of(await host.call_tool("generate_image", asked)).status

        assert await ask("one") == "completed"
        files = (await evolink.get("/api/v1/files/list")).json()["data"]["files"]
        for file in files:
            await evolink.delete(f"/api/v1/files/{file['file_id']}")
        assert [await ask("two"), await ask("three")] == ["failed", "completed"]


async def test_what_a_cap_forbids_is_not_uploaded(
    sandbox: Sandbox, tmp_path: Path, photos: Path
) -> None:
    async with opened(sandbox, tmp_path, daily_credits=1) as host:
        asked = {"prompt": "a fox", "image_urls": [str(photos / "fox.png")]}
        result = await host.call_tool("generate_image", asked)
    error = answer_of(result).error
    assert error is not None
    assert error.code == "daily_cap_reached"
    assert not sandbox.requests


async def test_a_file_that_cannot_be_uploaded_buys_nothing(tmp_path: Path, photos: Path) -> None:
    box = Sandbox(speed=1000, file_quota=0)
    async with opened(box, tmp_path) as host:
        asked = {"prompt": "a fox", "image_urls": [str(photos / "fox.png")]}
        result = await host.call_tool("generate_image", asked)
    error = answer_of(result).error
    assert error is not None
    assert (error.code, error.charged) == ("file_quota_reached", "no")
    assert box.requests[POSTS] == 0


async def test_a_call_that_was_cut_off_is_joined_though_its_file_would_be_uploaded_anew(
    tmp_path: Path, photos: Path
) -> None:
    box = Sandbox(speed=1000)
    asked = {"prompt": "[slow:2000] a fox", "image_urls": [str(photos / "fox.png")]}
    async with opened(box, tmp_path, daily_credits=3) as host:
        with anyio.move_on_after(1.0) as cut:
            await host.call_tool("generate_image", asked)
        assert cut.cancelled_caught
        with sqlite3.connect(tmp_path / "out-data" / FILE_NAME) as record:
            record.execute("DELETE FROM uploads")
        record.close()
        again = await host.call_tool("generate_image", asked)
        assert answer_of(again).status == "completed"
        assert "joined" in text_of(again)
    assert (box.requests[UPLOADS], box.requests[POSTS]) == (1, 1)


async def test_an_upload_that_outlives_the_call_goes_on_and_is_not_done_twice(
    tmp_path: Path, photos: Path
) -> None:
    box = Sandbox(speed=1000)
    line = Slow(httpx.ASGITransport(app=box.app))
    settings = settings_for(tmp_path / "out", input_dirs=str(tmp_path / "photos"))
    server = build_server(settings, network=Network(transport=line))
    asked = {"prompt": "a fox", "image_urls": [str(photos / "fox.png")]}
    async with Client(server) as host:
        first = await host.call_tool("generate_image", {**asked, "wait_seconds": 0.2})
        error = answer_of(first).error
        assert error is not None
        assert (error.code, error.charged, error.retryable) == ("uploading", "no", True)
        assert box.requests[POSTS] == 0
        line.goes_on.set()
        assert answer_of(await host.call_tool("generate_image", asked)).status == "completed"
    assert (box.requests[UPLOADS], box.requests[POSTS]) == (1, 1)


@dataclass
class Slow(httpx.AsyncBaseTransport):
    """A line on which uploads wait until they may go on."""

    inner: httpx.AsyncBaseTransport
    goes_on: anyio.Event = field(default_factory=anyio.Event)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if "/files/upload" in request.url.path:
            await self.goes_on.wait()
        return await self.inner.handle_async_request(request)


@dataclass
class Home:
    """A user's computer: its folders, and a server that is started anew for each visit."""

    url: str
    folder: Path

    async def ask(self, prompt: str, source: str) -> tuple[str, str]:
        """Ask a fresh server over stdio; return the handle and the path of the picture."""
        settings = {
            "EVOLINK_API_KEY": "sk-sandbox",
            "EVOLINK_BASE_URL": self.url,
            "EVOLINK_OUTPUT_DIR": str(self.folder / "out"),
            "EVOLINK_INPUT_DIRS": str(self.folder / "photos"),
        }
        async with Client(process(settings)) as host:
            with anyio.fail_after(60):
                asked = {"prompt": prompt, "image_urls": [source]}
                result = await host.call_tool("generate_image", asked)
        assert not result.is_error, text_of(result)
        [image] = answer_of(result).images or []
        assert image.path is not None
        with Image.open(BytesIO(Path(image.path).read_bytes())) as made:
            assert made.size == (1024, 1024)
        return image.handle, image.path

    def two_days_pass(self) -> None:
        """Let every link in the record have died, as two days do."""
        with sqlite3.connect(self.folder / "out" / "data" / FILE_NAME) as record:
            record.execute("UPDATE pictures SET expires_at='2026-01-01T00:00:00+00:00'")
            record.execute("UPDATE uploads SET expires_at=0")
        record.close()


async def test_a_photo_is_edited_then_edited_further_then_again_when_all_links_have_died(
    tmp_path: Path, photos: Path
) -> None:
    days = [0]
    sandbox = Sandbox(speed=1000, now=lambda: time.time() + days[0] * DAY)
    async with serve(sandbox) as url:
        home = Home(url, tmp_path)
        first, _ = await home.ask("make this photo a watercolour", str(photos / "fox.png"))
        second, _ = await home.ask("now with rain", first)
        before = sandbox.requests[UPLOADS]
        days[0] = 2
        home.two_days_pass()
        await home.ask("now at night", second)
        assert (before, sandbox.requests[UPLOADS]) == (1, 2)
        links = [task.request.image_urls[0] for task in sandbox.tasks.values()]
        assert ["/uploads/" in link for link in links] == [True, False, True]
