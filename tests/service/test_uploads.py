"""Pictures sent to a link: one for each, for whoever asked for it, and nothing left of others."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio
import httpx2 as httpx
import pytest
from PIL import Image

from evolink_mcp.jobs.received import FOLDER_NAME, MAX_BYTES, Receiving
from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.links import Links
from evolink_mcp.server.upload_links import LIFETIME
from evolink_mcp.service import uploads as module
from evolink_mcp.settings import Settings
from tests.servers import host_of, settings_for
from tests.service.rooms import (
    OTHER,
    TOKEN,
    URL,
    bearing,
    call,
    entry,
    served,
    started,
    write_tokens,
)

ASK = call("upload_link")


@dataclass
class Clock:
    now: float = field(default_factory=time.time)  # as that of the files

    def __call__(self) -> float:
        return self.now


@dataclass
class Desk:
    """The service with upload links."""

    http: httpx.AsyncClient
    sandbox: Sandbox
    settings: Settings
    clock: Clock

    async def told(self, request: dict[str, Any]) -> dict[str, Any]:
        response = await self.http.post("/mcp", **request)
        assert response.status_code == 200, response.text
        result: dict[str, Any] = response.json()["result"]
        return result

    async def link(self, token: str = TOKEN) -> tuple[str, str]:
        content = (await self.told(bearing(token, **ASK)))["structuredContent"]
        return content["upload_url"], content["handle"]

    def kept(self) -> list[Path]:
        folder = self.settings.data_folder() / FOLDER_NAME
        return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    tokens = write_tokens(tmp_path / "t.toml", entry("alice", TOKEN) + entry("bob", OTHER))
    settings = settings_for(tmp_path / "pictures", tokens_file=tokens)
    sandbox, clock = Sandbox(speed=1000), Clock()
    links = Links(base_url=URL, secret=b"s" * 32, now=clock)
    async with served(settings, sandbox=sandbox, links=links) as http:
        yield Desk(http, sandbox, settings, clock)


def picture(color: str = "red", kind: str = "PNG") -> bytes:
    file = BytesIO()
    Image.new("RGB", (320, 240), color).save(file, kind)
    return file.getvalue()


async def test_a_picture_that_was_sent_is_a_reference_image(desk: Desk) -> None:
    url, handle = await desk.link()
    sent = await desk.http.put(url, content=picture())
    assert (sent.status_code, sent.json()) == (201, {"handle": handle})
    edit = call("generate_image", prompt="add a hat", image_urls=[handle])
    answer = (await desk.told(bearing(TOKEN, **edit)))["structuredContent"]
    assert answer["status"] == "completed"
    assert any("public" in note for note in answer["notes"])
    [task] = desk.sandbox.tasks.values()
    [reference] = task.request.image_urls
    assert desk.sandbox.requests["POST /api/v1/files"] == 1
    assert handle not in reference


async def test_it_is_of_no_use_to_anybody_else(desk: Desk) -> None:
    url, handle = await desk.link()
    assert (await desk.http.put(url, content=picture())).status_code == 201
    said: list[str] = []
    for given in (handle, "evolink://uploads/" + "0" * 32, "evolink://uploads/../" + handle[-32:]):
        edit = call("generate_image", prompt="add a hat", image_urls=[given])
        result = await desk.told(bearing(OTHER, **edit))
        said.append(result["structuredContent"]["error"]["message"].replace(given, "it"))
    assert len(set(said)) == 1
    assert "upload_link" in said[0]
    assert not desk.sandbox.tasks


async def test_a_link_takes_one_picture(desk: Desk) -> None:
    url, _ = await desk.link()
    assert (await desk.http.put(url, content=picture())).status_code == 201
    again = await desk.http.put(url, content=picture("blue"))
    assert again.status_code == 409
    [path] = desk.kept()
    assert path.read_bytes() == picture()


async def test_of_two_uploads_at_once_one_wins(desk: Desk) -> None:
    url, _ = await desk.link()
    statuses: list[int] = []

    async def send(color: str) -> None:
        statuses.append((await desk.http.put(url, content=picture(color))).status_code)

    async with anyio.create_task_group() as group:
        for color in ("red", "green", "blue"):
            group.start_soon(send, color)
    assert sorted(statuses) == [201, 409, 409]
    assert len(desk.kept()) == 1


async def test_a_token_of_somebody_else_opens_no_link(desk: Desk) -> None:
    url, _ = await desk.link()
    theirs = await desk.http.put(url, content=picture(), **bearing(OTHER))
    none = await desk.http.put(url[:-1] + "_", content=picture(), **bearing(OTHER))
    assert (theirs.status_code, theirs.text) == (none.status_code, none.text)
    assert theirs.status_code == 404
    assert (await desk.http.put(url, content=picture(), **bearing(TOKEN))).status_code == 201


@pytest.mark.parametrize("path", ["", "x", "evup_", "../../etc/passwd", "%2e%2e/x", "evup_%00"])
async def test_what_is_no_link_leads_nowhere(desk: Desk, path: str) -> None:
    assert (await desk.http.put(f"/uploads/{path}", content=picture())).status_code == 404
    assert not desk.kept()


async def test_a_link_ends(desk: Desk) -> None:
    url, _ = await desk.link()
    desk.clock.now += LIFETIME
    assert (await desk.http.put(url, content=picture())).status_code == 404
    page = await desk.http.get(url)
    assert page.status_code == 404
    assert "has expired" in page.text


@pytest.mark.parametrize(
    "content", [b"<!doctype html>" + b" " * 99, b"MZ" + b"\0" * 200, b"", b"--form\r\n" * 20]
)
async def test_what_is_no_picture_is_refused(desk: Desk, content: bytes) -> None:
    url, _ = await desk.link()
    refused = await desk.http.put(url, content=content)
    assert refused.status_code == 415
    assert "curl -T" in refused.json()["error"]
    assert not desk.kept()
    assert (await desk.http.post(url, content=picture("red", "JPEG"))).status_code == 201


async def test_what_is_too_large_is_refused_told_or_not(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = await desk.link()
    read: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        yield picture()
        while True:
            read.append(1)
            yield b"\0" * 1_000_000

    told = {"content-length": str(MAX_BYTES + 1)}
    assert (await desk.http.put(url, content=body(), headers=told)).status_code == 413
    read.clear()
    monkeypatch.setattr(module, "MAX_BYTES", MAX_BYTES * 2)  # as if nothing had been told
    refused = await desk.http.put(url, content=body())
    assert refused.status_code == 413
    assert "50 MB" in refused.json()["error"]
    assert len(read) <= MAX_BYTES // 1_000_000 + 1
    assert not desk.kept()


async def test_a_bomb_is_refused_where_it_is_used(desk: Desk) -> None:
    url, handle = await desk.link()
    bomb = picture()[:16] + (60_000).to_bytes(4, "big") * 2 + picture()[24:]
    assert (await desk.http.put(url, content=bomb)).status_code == 201
    edit = call("generate_image", prompt="add a hat", image_urls=[handle])
    answer = (await desk.told(bearing(TOKEN, **edit)))["structuredContent"]
    assert answer["error"]["code"] == "invalid_request"
    assert not desk.sandbox.tasks


async def test_a_full_disk_leaves_nothing_and_the_link_as_it_was(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = await desk.link()
    with monkeypatch.context() as full:
        full.setattr(Receiving, "finish", no_room)
        assert (await desk.http.put(url, content=picture())).status_code == 507
        assert not desk.kept()
    assert (await desk.http.put(url, content=picture())).status_code == 201


def no_room(_: Receiving) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_an_upload_that_takes_too_long_leaves_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST", 0.2)
    url, _ = await desk.link()

    async def body() -> AsyncIterator[bytes]:
        yield picture()[:100]
        await anyio.sleep(5)

    answer = await desk.http.put(url, content=body())
    assert answer.status_code == 408
    assert not desk.kept()


async def test_a_connection_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    settings = {"EVOLINK_SANDBOX": "1", "EVOLINK_OUTPUT_DIR": str(tmp_path / "p")}
    async with (
        started(settings, log=tmp_path / "log") as (_, url),
        httpx.AsyncClient(trust_env=False, timeout=20) as http,
    ):
        result = (await http.post(url, **ASK)).json()["result"]["structuredContent"]
        link = httpx.URL(result["upload_url"])
        head = f"PUT {link.raw_path.decode()} HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n"
        async with await anyio.connect_tcp("127.0.0.1", link.port or 0) as raw:
            await raw.send(head.encode() + picture()[:500])
            folder = tmp_path / "p/data" / FOLDER_NAME
            await until_there(folder, 1)
        await until_there(folder, 0)
        assert (await http.put(link, content=picture())).status_code == 201
    log = tmp_path / "log"
    assert not log.exists() or "Traceback" not in log.read_text()


async def until_there(folder: Path, count: int) -> None:
    with anyio.fail_after(10):
        while len([*folder.rglob("?*.*")]) != count:  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.02)


async def test_a_person_gets_a_page_to_choose_a_file(desk: Desk) -> None:
    url, handle = await desk.link()
    page = await desk.http.get(url)
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    [nonce] = set(re.findall(r"nonce-([\w-]+)", policy))
    assert page.text.count(f'nonce="{nonce}"') == 2
    assert f'data-handle="{handle}"' in page.text
    assert "$" not in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert page.headers["cache-control"] == "no-store"
    assert nonce not in (await desk.http.get(url)).text
    assert (await desk.http.put(url, content=picture())).status_code == 201
    used = await desk.http.get(url)
    assert used.status_code == 409
    assert "has been used" in used.text
    assert handle not in used.text


async def test_pages_that_may_call_may_send(tmp_path: Path) -> None:
    origin = "https://app.example.com"
    links = Links(base_url=URL, secret=b"s" * 32)
    settings = settings_for(tmp_path, allowed_origins=(origin,))
    async with served(settings, links=links) as http:
        asks = {"origin": origin, "access-control-request-method": "PUT"}
        answer = await http.options("/uploads/evup_x", headers=asks)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin


async def test_the_tool_takes_no_arguments(desk: Desk) -> None:
    wrong = await desk.told(bearing(TOKEN, **call("upload_link", size=3)))
    assert wrong["isError"]
    assert "size" in wrong["structuredContent"]["error"]["message"]


async def test_a_service_without_links_says_so(tmp_path: Path) -> None:
    async with served(settings_for(tmp_path)) as http:
        result = (await http.post("/mcp", **ASK)).json()["result"]
    assert result["isError"]
    assert result["structuredContent"]["error"]["code"] == "no_uploads"


async def test_on_the_users_own_machine_there_is_no_such_tool(tmp_path: Path) -> None:
    async with host_of(Sandbox(), settings_for(tmp_path)) as host:
        assert "upload_link" not in [tool.name for tool in (await host.list_tools()).tools]


async def test_over_http_nothing_is_said_of_the_users_disk(desk: Desk) -> None:
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}
    headers = {"accept": "application/json, text/event-stream", "authorization": f"Bearer {TOKEN}"}
    for body in (listing, hello):
        said = (await desk.http.post("/mcp", json=body, headers=headers)).text
        assert "EvoLink" in said
        assert "download link" in said
        assert not re.search(r"user's disk|absolute path", said)


HELLO = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}
