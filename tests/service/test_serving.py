"""The service on a real socket, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import httpx2 as httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from evolink_mcp.api.network import Network
from evolink_mcp.errors import SettingInvalid
from evolink_mcp.sandbox import Sandbox
from evolink_mcp.service import read_address, serve, serving
from evolink_mcp.settings import Settings
from tests.jobs.shop import Line
from tests.servers import settings_for
from tests.service.rooms import HERE, LIMIT, TOKEN, call, entry, write_tokens
from tests.service.test_jwt import AUDIENCE, ISSUER

EVERYWHERE = read_address("0.0.0.0:0")


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"])
async def test_it_does_not_listen_beyond_this_machine_for_anybody(
    tmp_path: Path, address: str
) -> None:
    with pytest.raises(SettingInvalid) as raised:
        await serve(settings_for(tmp_path), read_address(address)).__aenter__()
    assert "spend your EvoLink credits" in raised.value.message
    for word in ("EVOLINK_TOKENS_FILE", "evolink-mcp token", "--open-to-anyone", "127.0.0.1"):
        assert word in raised.value.next_step


@pytest.mark.parametrize("how", ["told so", "tokens", "issuer"])
async def test_it_listens_where_it_is_guarded_or_told_so(tmp_path: Path, how: str) -> None:
    settings = settings_for(tmp_path)
    if how == "tokens":
        path = write_tokens(tmp_path / "t.toml", entry("alice", TOKEN))
        settings = settings_for(tmp_path, tokens_file=path)
    elif how == "issuer":
        settings = settings_for(tmp_path, oauth_issuer=ISSUER, oauth_audience=AUDIENCE)
    open_to_anyone = how == "told so"
    with anyio.fail_after(LIMIT):
        async with serve(
            settings, EVERYWHERE, network=Network(), open_to_anyone=open_to_anyone
        ) as url:
            port = httpx.URL(url).port
            async with httpx.AsyncClient(trust_env=False) as http:
                answer = await http.post(f"http://127.0.0.1:{port}/mcp", **call("list_models"))
    assert answer.status_code == (200 if open_to_anyone else 401)


@pytest.mark.parametrize(
    ("trusted", "believed"), [((), False), (("127.0.0.0/8",), True), (("10.0.0.0/8",), False)]
)
async def test_only_trusted_proxies_say_where_a_request_comes_from(
    tmp_path: Path, trusted: tuple[str, ...], *, believed: bool
) -> None:
    told = {"x-forwarded-for": "10.0.0.9", "x-forwarded-proto": "https"}
    seen: list[Scope] = []

    async def web(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await PlainTextResponse("")(scope, receive, send)

    config = serving.guest_of(web, settings_for(tmp_path, trusted_proxies=trusted)).config
    config.load()
    transport = httpx.ASGITransport(app=cast("Any", config).loaded_app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here.test") as http:
        await http.get("/", headers=told)
    assert (seen[0]["client"][0] == "10.0.0.9") == believed
    assert (seen[0]["scheme"] == "https") == believed


async def interrupted(settings: Settings, line: Line, request: dict[str, Any]) -> str:
    """Stop the service once a call has made it ask EvoLink; return what the call was answered."""
    answers: list[str] = []

    async def ask(url: str) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=LIMIT) as http:
            try:
                answers.append((await http.post(url, **request)).text)
            except httpx.RemoteProtocolError:
                answers.append("broken")

    with anyio.fail_after(LIMIT):
        async with (
            anyio.create_task_group() as group,
            serve(settings, HERE, network=Network(transport=line)) as url,
        ):
            group.start_soon(ask, url)
            while not line.seen:
                await anyio.lowlevel.checkpoint()
    return answers[0]


async def test_a_call_under_way_is_handed_over_before_the_end(tmp_path: Path) -> None:
    line = Line(Sandbox())
    request = call("generate_image", prompt="a fox")
    answer = json.loads(await interrupted(settings_for(tmp_path), line, request))
    found = answer["result"]["structuredContent"]
    assert found["status"] in {"pending", "processing"}
    assert [found["next_call"]["arguments"]["task_id"]] == list(line.sandbox.tasks)


async def test_a_call_that_goes_on_for_ever_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serving, "DRAIN", 0.1)
    line = Line(Sandbox(), held_gets=("/v1/credits", anyio.Event()))
    assert await interrupted(settings_for(tmp_path), line, call("get_credits")) == "broken"
    assert [record for record in caplog.records if record.exc_info] == []


async def talk(_: Scope, receive: Receive, send: Send) -> None:
    """Answer with more than any buffer holds."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for left in reversed(range(50)):
        await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": left > 0})


async def test_a_client_that_does_not_read_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serving, "DRAIN", 0.1)
    guest = serving.guest_of(talk, settings_for(tmp_path))
    with anyio.fail_after(LIMIT), HERE.listen() as listener:
        port = listener.getsockname()[1]
        async with (
            await anyio.connect_tcp("127.0.0.1", port) as client,
            guest.on(listener),
        ):
            await client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert await client.receive()
    assert caplog.records == []
