"""Callers who bring an EvoLink key of their own: it pays, and nobody else learns of it."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx2 as httpx
import pytest
from anyio import from_thread

from evolink_mcp.api.network import Network
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.errors import EvolinkError
from evolink_mcp.jobs.database import FILE_NAME
from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.accounts import Accounts, mark_of
from evolink_mcp.server.app import App, run_app
from evolink_mcp.server.links import Links
from evolink_mcp.server.principals import KEY_HEADER, brought_key, current_key
from evolink_mcp.settings import Settings
from tests.servers import BASE_URL, settings_for
from tests.service.rooms import OTHER, TOKEN, URL, bearing, call, entry, served, write_tokens

SERVERS, ALICES, BOBS = "sk-sandbox", "sk-alice-0123456789", "sk-bob-0123456789"

LIST, CREDITS = call("list_tasks"), call("get_credits")
BUY = call("generate_image", prompt="a fox")


class ByKey(httpx.AsyncBaseTransport):
    """An EvoLink with several accounts: a sandbox for each key."""

    def __init__(self, accounts: Mapping[str, Sandbox]) -> None:
        self.accounts = accounts
        self._ways = {key: httpx.ASGITransport(app=box.app) for key, box in accounts.items()}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if key in self._ways:
            return await self._ways[key].handle_async_request(request)
        return await self._public(request)

    async def _public(self, request: httpx.Request) -> httpx.Response:
        """Answer what asks for no key: pictures."""
        answers = [await way.handle_async_request(request) for way in self._ways.values()]
        return min(answers, key=lambda answer: answer.status_code)


@pytest.fixture
def evolink() -> ByKey:
    return ByKey({key: Sandbox(key=key, speed=1000) for key in (SERVERS, ALICES, BOBS)})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    tokens = write_tokens(tmp_path / "t.toml", entry("alice", TOKEN) + entry("bob", OTHER))
    return settings_for(tmp_path / "pictures", tokens_file=tokens)


def links() -> Links:
    return Links(base_url=URL, secret=b"s" * 32)


@asynccontextmanager
async def service(settings: Settings, evolink: ByKey) -> AsyncGenerator[httpx.AsyncClient]:
    async with served(settings, network=Network(transport=evolink), links=links()) as http:
        yield http


def paying(key: str, request: dict[str, Any]) -> dict[str, Any]:
    return {**request, "headers": {**request["headers"], KEY_HEADER: key}}


async def told(http: httpx.AsyncClient, request: dict[str, Any]) -> dict[str, Any]:
    response = await http.post("/mcp", **request)
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()["result"]["structuredContent"]
    return content


def encoded(headers: Mapping[str, str]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in headers.items()}


async def until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not is_so():  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.005)


def bought_by(evolink: ByKey) -> dict[str, int]:
    return {
        key: box.requests["POST /v1/images/generations"] for key, box in evolink.accounts.items()
    }


async def test_each_pays_with_the_key_they_bring(settings: Settings, evolink: ByKey) -> None:
    async with service(settings, evolink) as http:
        for key, token in ((ALICES, TOKEN), (BOBS, OTHER)):
            answer = await told(http, paying(key, bearing(token, **BUY)))
            assert answer["status"] == "completed"
        assert bought_by(evolink) == {SERVERS: 0, ALICES: 1, BOBS: 1}
        await told(http, bearing(TOKEN, **BUY))
        assert bought_by(evolink) == {SERVERS: 1, ALICES: 1, BOBS: 1}


async def test_what_one_key_bought_is_not_known_to_another(
    settings: Settings, evolink: ByKey
) -> None:
    async with service(settings, evolink) as http:
        bought = await told(http, paying(ALICES, bearing(TOKEN, **BUY)))
        look = call("get_task", task_id=bought["task_id"])
        for request in (bearing(TOKEN, **look), paying(BOBS, bearing(TOKEN, **look))):
            assert (await told(http, request))["error"]["code"] == "task_not_found"
        [mine] = (await told(http, paying(ALICES, bearing(TOKEN, **LIST))))["tasks"]
        assert mine["task_id"] == bought["task_id"]
        assert (await told(http, paying(ALICES, bearing(OTHER, **LIST))))["tasks"] == []
        assert (await told(http, bearing(TOKEN, **LIST)))["tasks"] == []
        again = await told(http, paying(ALICES, bearing(TOKEN, **look)))
        assert again["status"] == "completed"


async def test_a_link_leads_to_the_picture_whichever_key_paid(
    settings: Settings, evolink: ByKey
) -> None:
    async with service(settings, evolink) as http:
        bought = await told(http, paying(ALICES, bearing(TOKEN, **BUY)))
        [image] = bought["images"]
        assert (await http.get(image["download_url"])).content.startswith(b"\x89PNG")
        assert (await http.get(image["download_url"], **bearing(OTHER))).status_code == 404


async def test_the_balance_of_ones_own_key_is_told(settings: Settings, evolink: ByKey) -> None:
    evolink.accounts[ALICES].credits = 77.0
    async with service(settings, evolink) as http:
        mine = await told(http, paying(ALICES, bearing(TOKEN, **CREDITS)))
        assert mine["account_remaining"] == 77.0
        assert "account_remaining" not in await told(http, bearing(TOKEN, **CREDITS))


async def test_what_a_callers_key_pays_counts_against_no_cap_of_the_server(
    settings: Settings, evolink: ByKey
) -> None:
    capped = settings.model_copy(update={"daily_credits": 0.0})
    async with service(capped, evolink) as http:
        refused = await told(http, bearing(TOKEN, **BUY))
        assert refused["error"]["code"] == "daily_cap_reached"
        assert (await told(http, paying(ALICES, bearing(TOKEN, **BUY))))["status"] == "completed"
        assert "daily_credits" not in await told(http, paying(ALICES, bearing(TOKEN, **CREDITS)))


async def test_the_servers_own_key_keeps_its_cap_though_a_caller_sends_it(
    settings: Settings, evolink: ByKey
) -> None:
    capped = settings.model_copy(update={"daily_credits": 0.0})
    async with service(capped, evolink) as http:
        refused = await told(http, paying(SERVERS, bearing(TOKEN, **BUY)))
        assert refused["error"]["code"] == "daily_cap_reached"
    assert bought_by(evolink)[SERVERS] == 0


async def test_an_allowance_holds_for_a_callers_own_key_too(
    settings: Settings, evolink: ByKey
) -> None:
    assert settings.tokens_file is not None
    write_tokens(settings.tokens_file, entry("alice", TOKEN, daily_credits=0))
    async with service(settings, evolink) as http:
        refused = await told(http, paying(ALICES, bearing(TOKEN, **BUY)))
    assert refused["error"]["code"] == "allowance_spent"
    assert bought_by(evolink)[ALICES] == 0


async def test_without_any_key_the_header_is_named(settings: Settings, evolink: ByKey) -> None:
    keyless = settings.model_copy(update={"api_key": None})
    async with service(keyless, evolink) as http:
        refused = await told(http, bearing(TOKEN, **BUY))
        assert refused["error"]["code"] == "key_missing"
        assert KEY_HEADER in refused["error"]["next_step"]
        assert (await told(http, paying(ALICES, bearing(TOKEN, **BUY))))["status"] == "completed"
        assert (await http.get("/readyz")).status_code == 200
        figures = (await http.get("/metrics", **bearing(TOKEN))).text
        assert 'evolink_mcp_jobs{state="collected"} 1.0' in figures


@pytest.mark.parametrize("given", ["", "${EVOLINK_KEY}", "YOUR_API_KEY", "two words", "sk-\xe9"])
async def test_a_header_without_a_key_is_not_paid_by_the_server(
    settings: Settings, evolink: ByKey, given: str
) -> None:
    async with service(settings, evolink) as http:
        request = bearing(TOKEN, **BUY)
        headers = {**encoded(request["headers"]), KEY_HEADER.encode(): given.encode("latin-1")}
        answer = await http.post("/mcp", json=request["json"], headers=headers)
    assert answer.status_code == 400
    assert KEY_HEADER in answer.json()["error_description"]
    assert sum(bought_by(evolink).values()) == 0


async def test_two_keys_in_one_request_are_refused(settings: Settings, evolink: ByKey) -> None:
    async with service(settings, evolink) as http:
        request = bearing(TOKEN, **BUY)
        twice = [(KEY_HEADER.encode(), key.encode()) for key in (ALICES, BOBS)]
        headers = [*encoded(request["headers"]).items(), *twice]
        assert (await http.post("/mcp", json=request["json"], headers=headers)).status_code == 400
    assert sum(bought_by(evolink).values()) == 0


async def test_a_key_is_in_no_log_no_record_and_no_answer(
    settings: Settings, evolink: ByKey, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with service(settings, evolink) as http:
            answers = [
                await http.post("/mcp", **paying(ALICES, bearing(TOKEN, **request)))
                for request in (BUY, LIST, CREDITS, call("list_models"))
            ]
            figures = await http.get("/metrics", **bearing(TOKEN))
    said = [answer.text for answer in (*answers, figures)]
    said += [record.getMessage() + repr(record.__dict__) for record in caplog.records]
    assert len(said) > len(answers)
    assert not [text for text in said if ALICES in text or ALICES.encode().hex() in text]
    kept = [path for path in settings.data_folder().iterdir() if path.is_file()]
    assert kept
    assert not [path.name for path in kept if ALICES.encode() in path.read_bytes()]
    assert ALICES not in mark_of(ALICES)


async def test_jobs_of_a_callers_key_go_on_when_that_key_is_there_again(
    settings: Settings, evolink: ByKey
) -> None:
    slow = ByKey({**evolink.accounts, ALICES: Sandbox(key=ALICES, speed=1)})
    async with service(settings, slow) as http:
        left = call("generate_image", prompt="a fox", wait_seconds=0)
        bought = await told(http, paying(ALICES, bearing(TOKEN, **left)))
        assert bought["status"] == "pending"
    [task] = slow.accounts[ALICES].tasks.values()
    async with service(settings, slow) as http:
        assert (await told(http, bearing(TOKEN, **LIST)))["tasks"] == []
        [mine] = (await told(http, paying(ALICES, bearing(TOKEN, **LIST))))["tasks"]
        assert mine["task_id"] == bought["task_id"]
        reads = slow.accounts[ALICES].requests
        # That very call was enough to have it taken up.
        await until(lambda: reads["GET /v1/tasks"] > 0)
    assert task.id == bought["task_id"]
    assert bought_by(slow) == {SERVERS: 0, ALICES: 1, BOBS: 0}


@pytest.fixture
async def app(settings: Settings, evolink: ByKey) -> AsyncIterator[App]:
    async with run_app(settings, Network(transport=evolink), over_http=True) as app:
        yield app


async def test_the_key_that_rests_longest_makes_way(app: App) -> None:
    accounts = app._accounts
    accounts._most = 2
    for key in ("sk-1", "sk-2", "sk-1", "sk-3"):
        with brought_key(key):
            assert accounts.current().key == key
    assert [account.key for account in accounts._brought.values()] == ["sk-1", "sk-3"]
    assert current_key() is None
    assert accounts.current() is accounts.own


async def test_keys_with_jobs_under_way_make_no_way(settings: Settings) -> None:
    slow = ByKey({ALICES: Sandbox(key=ALICES), BOBS: Sandbox(key=BOBS)})
    async with run_app(settings, Network(transport=slow), over_http=True) as app:
        app._accounts._most = 1
        with brought_key(ALICES):
            watchers = (await app.connected()).watchers
            request = ImageRequest(model="gpt-4o-image", prompt="a fox")
            bought = await watchers.buy(request, budget=app.budget(request))
            await bought.watch.bought()
        with brought_key(BOBS):
            with pytest.raises(EvolinkError, match="Too many EvoLink keys") as refused:
                await app.connected()
            app.resume()  # says nothing of its own
        assert refused.value.retryable


async def test_a_key_that_made_way_lets_its_jobs_go(app: App) -> None:
    accounts = app._accounts
    accounts._most = 1
    with brought_key(ALICES):
        first = accounts.current()
        await app.connected()
    with brought_key(BOBS):
        accounts.current()
    assert first._scopes
    await until(lambda: all(scope.cancel_called for scope in first._scopes))


async def test_a_key_that_is_being_connected_makes_no_way(app: App) -> None:
    accounts = app._accounts
    accounts._most = 1
    with brought_key(ALICES):
        first = accounts.current()
        async with anyio.create_task_group() as group, first._lock:
            group.start_soon(app.connected)
            await anyio.wait_all_tasks_blocked()
            with brought_key(BOBS), pytest.raises(EvolinkError, match="Too many EvoLink keys"):
                accounts.current()
        assert accounts.current() is first
    with brought_key(BOBS):
        assert accounts.current() is not first


async def test_a_key_with_a_purchase_that_is_being_recorded_makes_no_way(app: App) -> None:
    begun, may_end = anyio.Event(), threading.Event()

    def work(_: sqlite3.Connection) -> None:
        from_thread.run_sync(begun.set)
        may_end.wait()

    with brought_key(ALICES):
        watchers = (await app.connected()).watchers
        request = ImageRequest(model="gpt-4o-image", prompt="a fox")
        async with anyio.create_task_group() as group:
            group.start_soon(watchers.journal.database.transact, work)
            await begun.wait()
            group.start_soon(partial(watchers.buy, request, budget=app.budget(request)))
            await anyio.wait_all_tasks_blocked()
            try:
                assert not app._accounts.current().is_idle
            finally:
                may_end.set()


class Meanwhile(ByKey):
    """An EvoLink at which something happens while a reference image is looked at."""

    happens: Callable[[], Awaitable[object]]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/reference"):
            await self.happens()
        return await super().handle_async_request(request)


async def test_a_call_whose_key_made_way_meanwhile_buys_where_the_end_is_told(
    settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Accounts.__init__.__kwdefaults__ or {}, "most", 1)
    slow = Meanwhile({ALICES: Sandbox(key=ALICES), BOBS: Sandbox(key=BOBS)})
    url = f"{BASE_URL}/reference.png"
    edit = call("generate_image", prompt="a fox", image_urls=[url], wait_seconds=0)
    async with service(settings, slow) as http:
        slow.happens = partial(told, http, paying(BOBS, bearing(OTHER, **LIST)))
        bought = await told(http, paying(ALICES, bearing(TOKEN, **edit)))
    assert f"{bought['task_id']} is left under way" in caplog.text


async def test_while_the_record_is_damaged_all_keys_share_one_journal_in_memory(app: App) -> None:
    folder = app.settings.data_folder()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_bytes(b"no database" * 500)
    with brought_key(ALICES):
        first = (await app.connected()).watchers
    with brought_key(BOBS):
        second = (await app.connected()).watchers
    assert first.refusal is not None
    assert first.journal.database is second.journal.database
    assert first.journal.origin != second.journal.origin


async def test_a_key_is_not_shown_by_what_holds_it(app: App) -> None:
    with brought_key(ALICES):
        account = app._accounts.current()
        connected = await app.connected()
    assert ALICES not in repr(account)
    assert ALICES not in repr(connected)
