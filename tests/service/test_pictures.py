"""Pictures for callers who share no disk with the server: by link, and only by the right one."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import httpx2 as httpx
import pytest
from anyio import to_thread
from starlette.applications import Starlette

from evolink_mcp.api.wire import TaskId
from evolink_mcp.errors import JournalUnusable
from evolink_mcp.jobs.job import LOCAL, Job, Principal
from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.app import App
from evolink_mcp.server.build import Gate, build_server
from evolink_mcp.server.links import LIFETIME, Links, load_secret
from evolink_mcp.service.identities import open_identities
from evolink_mcp.service.pictures import Pictures
from evolink_mcp.settings import Settings
from tests.servers import network_of, settings_for
from tests.service.rooms import (
    LIMIT,
    OTHER,
    TOKEN,
    URL,
    bearing,
    call,
    entry,
    served,
    write_tokens,
)

BUY = call("generate_image", prompt="a fox", n=2)


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Gallery:
    """The service with pictures, and what it works with."""

    http: httpx.AsyncClient
    links: Links
    apps: list[App]

    async def buy(self, token: str = TOKEN) -> dict[str, Any]:
        bought: dict[str, Any] = (await self.told(bearing(token, **BUY)))["structuredContent"]
        return bought

    async def told(self, request: dict[str, Any]) -> dict[str, Any]:
        # In a task of its own: what is cancelled within an answer makes Python 3.11 trace no
        # line of this task until it switches again, and coverage miss them.
        responses: list[httpx.Response] = []

        async def ask() -> None:
            responses.append(await self.http.post("/mcp", **request))

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
        assert responses[0].status_code == 200, responses[0].text
        result: dict[str, Any] = responses[0].json()["result"]
        return result

    async def job(self, task_id: str) -> Job:
        found = await (await self.apps[0].journal()).find(TaskId(task_id))
        assert found is not None
        return found

    async def move(self, path: Path | None) -> None:
        """Put another path on record for each first picture."""
        values = (path and str(path),)

        def update(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE pictures SET path = ? WHERE n = 1", values)

        await (await self.apps[0].journal()).database.transact(update)


@asynccontextmanager
async def opened(settings: Settings, clock: Clock) -> AsyncGenerator[Gallery]:
    """Serve MCP and pictures without a socket."""
    world = network_of(Sandbox(speed=1000))
    identities = await open_identities(settings, world)
    secret = await to_thread.run_sync(load_secret, settings.data_folder())
    links = Links(base_url=URL, secret=secret, now=clock)
    pictures, apps = Pictures(links), list[App]()

    def take(app: App) -> None:
        pictures.opened(app)
        apps.append(app)

    gate = Gate(opened=take)
    if identities is not None:
        gate = replace(gate, verifier=identities.verifier, auth=identities.auth)
    web = build_server(settings, network=world, gate=gate).streamable_http_app(stateless_http=True)
    web.router.routes.append(pictures.route())
    transport = httpx.ASGITransport(app=web)
    with anyio.fail_after(LIMIT):
        async with (
            web.router.lifespan_context(web),
            httpx.AsyncClient(transport=transport, base_url=URL) as http,
        ):
            yield Gallery(http, links, apps)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    tokens = write_tokens(tmp_path / "t.toml", entry("alice", TOKEN) + entry("bob", OTHER))
    return settings_for(tmp_path / "pictures", tokens_file=tokens)


@pytest.fixture
async def gallery(settings: Settings, clock: Clock) -> AsyncIterator[Gallery]:
    async with opened(settings, clock) as found:
        yield found


async def nothing_at(gallery: Gallery, url: str, **request: Any) -> None:  # noqa: ANN401
    """Assert that an address is answered as every other that leads nowhere."""
    response = await gallery.http.get(url, **request)
    empty = await gallery.http.get("/pictures/x")
    assert (response.status_code, response.text) == (404, empty.text)
    assert response.headers == empty.headers
    assert response.headers["cache-control"] == "private, no-store"


async def test_a_link_leads_to_the_whole_picture(gallery: Gallery) -> None:
    bought = await gallery.buy()
    job = await gallery.job(bought["task_id"])
    for image, picture in zip(bought["images"], job.pictures, strict=True):
        assert picture.path is not None
        response = await gallery.http.get(image["download_url"])
        assert response.content == picture.path.read_bytes()
        headers = dict(response.headers)
        name = f"{bought['task_id']}-{image['n']}.png"
        assert headers.pop("content-disposition") == f'attachment; filename="{name}"'
        assert headers.pop("content-length") == str(picture.size)
        assert headers == {
            "cache-control": "private, no-store",
            "content-security-policy": "default-src 'none'; sandbox",
            "content-type": "image/png",
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
        }
        head = await gallery.http.head(image["download_url"])
        assert (head.content, head.headers) == (b"", response.headers)


async def test_no_path_of_ours_is_in_an_answer(gallery: Gallery, tmp_path: Path) -> None:
    result = await gallery.told(bearing(TOKEN, **BUY))
    found = result["structuredContent"]
    again = await gallery.told(bearing(TOKEN, **call("get_task", task_id=found["task_id"])))
    for told in (result, again):
        assert str(tmp_path) not in str(told)
        text = told["content"][0]["text"]
        for image in told["structuredContent"]["images"]:
            assert image["download_url"].startswith(f"{URL}/pictures/")
            assert image["download_url"] in text
            assert image["download_expires_at"] in text


async def test_a_link_is_open_to_whoever_does_not_say_who_they_are(gallery: Gallery) -> None:
    """A browser has no token: what keeps others out is that nobody can guess the link."""
    [image, _] = (await gallery.buy())["images"]
    for request in ({}, bearing(TOKEN), bearing("evm_nobodys")):
        assert (await gallery.http.get(image["download_url"], **request)).status_code == 200


async def test_a_link_is_nothing_to_a_caller_who_is_somebody_else(gallery: Gallery) -> None:
    [image, _] = (await gallery.buy())["images"]
    await nothing_at(gallery, image["download_url"], **bearing(OTHER))


async def test_a_link_to_anothers_job_is_none(gallery: Gallery) -> None:
    """Even one that we have sealed: what counts is whose the job is."""
    task_id = TaskId((await gallery.buy())["task_id"])
    mine = (await gallery.buy(OTHER))["task_id"]
    bob = (await gallery.job(mine)).principal
    for principal in (bob, LOCAL, Principal("")):
        link = gallery.links.url_of(task_id, n=1, principal=principal)
        await nothing_at(gallery, link.url)
        await nothing_at(gallery, link.url, **bearing(OTHER))


async def test_forged_cut_off_and_expired_links_are_all_the_same(
    gallery: Gallery, clock: Clock
) -> None:
    [image, _] = (await gallery.buy())["images"]
    url = image["download_url"]
    forged = Links(base_url=URL, secret=bytes(32), now=clock)
    principal = (await gallery.job(task := image["handle"].split("/")[3])).principal
    await nothing_at(gallery, forged.url_of(TaskId(task), n=1, principal=principal).url)
    token = url.rpartition("/")[2]
    for wrong in (token[:-1], token[:-20], token + "A", token.swapcase(), "", "AAAA"):
        await nothing_at(gallery, f"/pictures/{wrong}")
    clock.now += LIFETIME
    await nothing_at(gallery, url)


async def test_other_pictures_and_tasks_lead_nowhere(gallery: Gallery) -> None:
    bought = await gallery.buy()
    alice = (await gallery.job(bought["task_id"])).principal
    for task_id, n in (
        (bought["task_id"], 0),
        (bought["task_id"], 3),
        ("task-unified-1-unknown", 1),
        ("../../etc/passwd", 1),
    ):
        link = gallery.links.url_of(TaskId(task_id), n=n, principal=alice)
        await nothing_at(gallery, link.url)


@pytest.mark.parametrize(
    "path",
    ["../t.toml", "../../etc/passwd", "/etc/passwd", "a/b", "%00", "\ud7ff", "x" * 5000, "é"],
)
async def test_a_path_leads_nowhere(gallery: Gallery, path: str) -> None:
    await nothing_at(gallery, f"/pictures/{quote(path, safe='')}")


async def test_what_is_not_a_picture_on_disk_is_not_handed_out(
    gallery: Gallery, tmp_path: Path
) -> None:
    bought = await gallery.buy()
    url = bought["images"][0]["download_url"]
    secret = tmp_path / "secret"
    secret.write_text("secret")
    link, pipe = tmp_path / "link.png", tmp_path / "pipe.png"
    link.symlink_to(secret)
    os.mkfifo(pipe)
    for path in (None, tmp_path / "gone.png", tmp_path, link, pipe):
        await gallery.move(path)
        await nothing_at(gallery, url)


@pytest.mark.parametrize("content", [b"<!doctype html><script>", b"", b"%PDF-1.7"])
async def test_what_is_no_picture_any_more_is_bytes_to_every_browser(
    gallery: Gallery, content: bytes
) -> None:
    bought = await gallery.buy()
    path = (await gallery.job(bought["task_id"])).pictures[0].path
    assert path is not None
    path.write_bytes(content)
    response = await gallery.http.get(bought["images"][0]["download_url"])
    assert response.content == content
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"].endswith('-1.bin"')


async def test_a_link_survives_a_restart_and_works_at_another_process(
    settings: Settings, clock: Clock
) -> None:
    async with opened(settings, clock) as first, opened(settings, clock) as second:
        url = (await first.buy())["images"][0]["download_url"]
        assert (await second.http.get(url)).status_code == 200
    async with opened(settings, clock) as third:
        assert (await third.http.get(url)).status_code == 200


async def test_without_identities_links_are_those_of_the_one_who_runs_it(
    tmp_path: Path, clock: Clock
) -> None:
    async with opened(settings_for(tmp_path / "pictures"), clock) as gallery:
        bought = (await gallery.told(BUY))["structuredContent"]
        assert str(tmp_path) not in str(bought)
        assert (await gallery.http.get(bought["images"][0]["download_url"])).status_code == 200


async def test_while_the_record_cannot_be_read_a_good_link_is_told_to_wait(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = (await gallery.buy())["images"][0]["download_url"]

    async def unusable(_: App) -> None:
        raise JournalUnusable(message="Damaged.", next_step="Mend it.")

    monkeypatch.setattr(App, "journal", unusable)
    answer = await gallery.http.get(url)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    await nothing_at(gallery, url[:-1])


async def test_before_the_server_lives_there_is_nothing(clock: Clock) -> None:
    pictures = Pictures(Links(base_url=URL, secret=bytes(32), now=clock))
    link = pictures.links.url_of(TaskId("task-unified-1-a"), n=1, principal=LOCAL)
    transport = httpx.ASGITransport(app=Starlette(routes=[pictures.route()]))
    async with httpx.AsyncClient(transport=transport) as http:
        assert (await http.get(link.url)).status_code == 404


async def test_no_link_is_in_the_log(gallery: Gallery, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="evolink_mcp"):
        url = (await gallery.buy())["images"][0]["download_url"]
        await gallery.http.get(url)
        await gallery.http.get(url[:-1])
    ours = [record for record in caplog.records if record.name.startswith("evolink_mcp")]
    assert ours
    assert "/pictures/" not in "\n".join(record.getMessage() for record in ours)


async def test_nowhere_over_http_is_a_path_of_ours(settings: Settings, tmp_path: Path) -> None:
    """Every tool and resource, also while what there is to tell is a failure with a path in it."""
    links = Links(base_url=URL, secret=bytes(32))
    async with served(settings, sandbox=Sandbox(speed=1000), links=links) as http:
        bought = (await http.post("/mcp", **bearing(TOKEN, **BUY))).json()["result"]
        task_id = bought["structuredContent"]["task_id"]
        asked = [call("list_tasks"), call("get_task", task_id=task_id), call("get_credits")]
        asked += [reading(uri) for uri in ("evolink://tasks", f"evolink://tasks/{task_id}")]
        for request in asked:
            response = await http.post("/mcp", **bearing(TOKEN, **request))
            assert task_id in response.text or "spent_today" in response.text
            assert str(tmp_path) not in response.text
        image = bought["structuredContent"]["images"][0]
        assert (await http.get(image["download_url"])).status_code == 200
        assert (await http.get(image["download_url"], **bearing(OTHER))).status_code == 404
    settings.data_folder().joinpath("journal.sqlite3").write_bytes(b"no journal at all" * 100)
    async with served(settings, links=links) as http:
        for request in (BUY, *asked):
            response = await http.post("/mcp", **bearing(TOKEN, **request))
            assert str(tmp_path) not in response.text
            assert "cannot be used" in response.text
            assert "its folder on the server/" in response.text


def reading(uri: str) -> dict[str, Any]:
    """Write a request of 2026-07-28 for a resource."""
    request = call("", uri=uri)
    body: dict[str, Any] = {**request["json"], "method": "resources/read"}
    body["params"] = {"uri": uri, "_meta": body["params"]["_meta"]}
    headers = {**request["headers"], "mcp-method": "resources/read", "mcp-name": uri}
    return {"json": body, "headers": headers}
