from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from evolink_mcp.errors import SettingInvalid
from evolink_mcp.jobs.database import FILE_NAME
from evolink_mcp.sandbox import Sandbox
from evolink_mcp.service import read_address
from evolink_mcp.service.identities import open_identities
from evolink_mcp.service.web import MAX_BODY, protection
from tests.servers import network_of, settings_for
from tests.service.rooms import (
    HERE,
    OTHER,
    TOKEN,
    bearing,
    call,
    entry,
    served,
    write_tokens,
)
from tests.service.test_jwt import AUDIENCE, ISSUER, Issuer, claims
from tests.service.test_jwt import token as jwt_of

LIST = call("list_tasks")


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return write_tokens(tmp_path / "t.toml", entry("alice", TOKEN) + entry("bob", OTHER))


def found_in(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()["result"]["structuredContent"]
    return content


async def test_a_token_opens_and_nothing_else_does(tmp_path: Path, tokens: Path) -> None:
    settings = settings_for(tmp_path, tokens_file=tokens)
    async with served(settings) as http:
        assert found_in(await http.post("/mcp", **bearing(TOKEN, **LIST)))["tasks"] == []
        for request in (LIST, bearing(TOKEN[:-1], **LIST), bearing("", **LIST)):
            refused = await http.post("/mcp", **request)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith('Bearer error="invalid_token"')
        basic = {**LIST["headers"], "authorization": f"Basic {TOKEN}"}
        assert (await http.post("/mcp", json=LIST["json"], headers=basic)).status_code == 401
        metadata = await http.get("/.well-known/oauth-protected-resource/mcp")
        assert metadata.status_code == 404  # there is no issuer to name


async def test_each_sees_their_own_jobs(tmp_path: Path, tokens: Path) -> None:
    settings = settings_for(tmp_path, tokens_file=tokens)
    async with served(settings) as http:
        bought = found_in(
            await http.post("/mcp", **bearing(TOKEN, **call("generate_image", prompt="a fox")))
        )
        assert bought["status"] == "completed"
        [mine] = found_in(await http.post("/mcp", **bearing(TOKEN, **LIST)))["tasks"]
        assert mine["task_id"] == bought["task_id"]
        assert found_in(await http.post("/mcp", **bearing(OTHER, **LIST)))["tasks"] == []


async def test_while_the_record_is_damaged_a_task_is_not_called_unknown(
    tmp_path: Path, tokens: Path
) -> None:
    settings = settings_for(tmp_path, tokens_file=tokens)
    settings.data_folder().mkdir()
    (settings.data_folder() / FILE_NAME).write_bytes(b"this is no journal" * 100)
    async with served(settings) as http:
        look = call("get_task", task_id="task-unified-1-stranger")
        told = (await http.post("/mcp", **bearing(TOKEN, **look))).json()["result"]
    error = told["structuredContent"]["error"]
    assert error["code"].startswith("journal")
    assert error["charged"] == "unknown"
    assert str(tmp_path) not in json.dumps(told)


async def test_without_identities_everybody_comes_in_from_here(tmp_path: Path) -> None:
    async with served(settings_for(tmp_path)) as http:
        assert found_in(await http.post("/mcp", **LIST))["tasks"] == []


async def test_files_of_this_machine_are_not_for_callers(tmp_path: Path) -> None:
    async with served(settings_for(tmp_path)) as http:
        edit = call("generate_image", prompt="a fox", image_urls=[f"file://{tmp_path}/a.png"])
        answer = (await http.post("/mcp", **edit)).json()["result"]
    assert answer["isError"]
    assert answer["structuredContent"]["error"]["charged"] == "no"


async def test_a_jwt_opens_with_the_scopes_that_are_asked_for(tmp_path: Path) -> None:
    issuer = Issuer()
    settings = settings_for(
        tmp_path, oauth_issuer=ISSUER, oauth_audience=AUDIENCE, oauth_scopes=("images:buy",)
    )
    network = issuer.verifier().keys.network
    async with served(settings, network=network) as http:
        assert (await http.post("/mcp", **bearing(jwt_of(), **LIST))).status_code == 200
        weak = await http.post("/mcp", **bearing(jwt_of(claims(scope="images:see")), **LIST))
        assert weak.status_code == 403
        assert 'error="insufficient_scope"' in weak.headers["www-authenticate"]
        foreign = await http.post("/mcp", **bearing(jwt_of(claims(aud="https://x.y")), **LIST))
        assert foreign.status_code == 401
        where = "https://mcp.example/.well-known/oauth-protected-resource/mcp"
        assert f'resource_metadata="{where}"' in foreign.headers["www-authenticate"]
        metadata = (await http.get(httpx.URL(where).path)).json()
    assert metadata["resource"] == AUDIENCE
    assert metadata["authorization_servers"] == [ISSUER]
    assert metadata["scopes_supported"] == ["images:buy"]


async def test_tokens_of_both_kinds_work_side_by_side(tmp_path: Path, tokens: Path) -> None:
    settings = settings_for(
        tmp_path,
        oauth_issuer=ISSUER,
        oauth_audience=AUDIENCE,
        oauth_scopes=("images:buy",),
        tokens_file=tokens,
    )
    async with served(settings, network=Issuer().verifier().keys.network) as http:
        for token in (TOKEN, jwt_of()):
            assert (await http.post("/mcp", **bearing(token, **LIST))).status_code == 200


@pytest.mark.parametrize("half", [{"oauth_issuer": ISSUER}, {"oauth_audience": AUDIENCE}])
async def test_half_of_oauth_is_refused(tmp_path: Path, half: dict[str, str]) -> None:
    settings = settings_for(tmp_path, **half)
    with pytest.raises(SettingInvalid, match="go together"):
        await open_identities(settings, network_of(Sandbox()))


HEADERS = [
    ({"host": "localhost:1"}, 200),
    ({"host": "[::1]:8080"}, 200),
    ({"host": "mcp.example.com"}, 200),
    ({"host": "mcp.example.com:8443"}, 200),
    ({"host": "intra:8443"}, 200),
    ({"host": "intra:80"}, 421),
    ({"host": "evil.example"}, 421),
    ({"host": "localhost.evil.example"}, 421),
    ({"host": "127.0.0.1.evil.example:8080"}, 421),
    ({"host": "0.0.0.0:8080"}, 421),
    ({"origin": "http://localhost:6274"}, 200),
    ({"origin": "https://app.example.com"}, 200),
    ({"origin": "https://app.example.com.evil.example"}, 403),
    ({"origin": "https://evil.example"}, 403),
    ({"origin": "null"}, 403),
    ({"content-type": "text/plain"}, 400),
]


@pytest.mark.parametrize("era", ["2025-06-18", "2026-07-28"])
async def test_names_and_pages_that_are_not_ours_are_refused(tmp_path: Path, era: str) -> None:
    settings = settings_for(
        tmp_path,
        allowed_hosts=("mcp.example.com", "intra:8443"),
        allowed_origins=("https://app.example.com",),
    )
    async with served(settings) as http:
        for headers, status in HEADERS:
            given = {**LIST["headers"], "mcp-protocol-version": era, **headers}
            response = await http.post("/mcp", json=LIST["json"], headers=given)
            assert response.status_code == status, headers


@pytest.mark.parametrize(
    ("address", "expected"),
    [("0.0.0.0:80", False), ("[::]:80", False), ("192.168.1.5:80", True), ("[fd00::1]:80", True)],
)
def test_the_address_itself_is_a_name_of_ours(
    tmp_path: Path, address: str, *, expected: bool
) -> None:
    where = read_address(address)
    hosts = protection(settings_for(tmp_path), where).allowed_hosts
    assert (f"{where.name}:*" in hosts) == (where.name in hosts) == expected


async def test_a_page_that_may_call_is_told_so_beforehand(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, allowed_origins=("https://app.example.com",))
    asking = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,mcp-protocol-version",
    }
    async with served(settings) as http:
        for origin, status in [
            ("https://app.example.com", 200),
            ("http://localhost:6274", 200),
            ("http://localhost.evil.example", 400),
            ("https://evil.example", 400),
        ]:
            answer = await http.options("/mcp", headers={**asking, "origin": origin})
            assert answer.status_code == status
            allowed = answer.headers.get("access-control-allow-origin")
            assert allowed == (origin if status == 200 else None)


async def test_a_body_may_not_be_huge(tmp_path: Path) -> None:
    async with served(settings_for(tmp_path)) as http:
        body = b" " * (MAX_BODY + 1)
        headers = {**LIST["headers"], "content-type": "application/json"}
        assert (await http.post("/mcp", content=body, headers=headers)).status_code == 413


async def test_requests_per_minute_are_limited_for_each(tmp_path: Path) -> None:
    text = entry("alice", TOKEN, requests_per_minute=2) + entry("bob", OTHER)
    path = write_tokens(tmp_path / "t.toml", text)
    issuer = Issuer()
    network = issuer.verifier().keys.network
    async with served(settings_for(tmp_path, tokens_file=path), network=network) as http:
        for _ in range(2):
            assert (await http.post("/mcp", **bearing(TOKEN, **LIST))).status_code == 200
        answer = await http.post("/mcp", **bearing(TOKEN, **LIST))
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "30"
        assert answer.json()["error"] == "too_many_requests"
        for _ in range(4):
            assert (await http.post("/mcp", **bearing(OTHER, **LIST))).status_code == 200
        issuer.now += 30.0
        assert (await http.post("/mcp", **bearing(TOKEN, **LIST))).status_code == 200
        assert (await http.post("/mcp", **bearing(TOKEN, **LIST))).status_code == 429


def test_the_usual_address_is_loopback() -> None:
    assert HERE.is_loopback


def legacy(method: str, **params: Any) -> dict[str, Any]:  # noqa: ANN401 - any parameter
    """Write a request of 2025-06-18."""
    return {
        "json": {"jsonrpc": "2.0", "id": 1, "method": method, "params": params},
        "headers": {**LIST["headers"], "mcp-protocol-version": "2025-06-18"},
    }


def legacy_answer(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"].startswith("text/event-stream")
    [line] = [line for line in response.text.splitlines() if line.startswith("data: {")]
    answer: dict[str, Any] = json.loads(line.removeprefix("data: "))["result"]
    return answer


async def test_older_hosts_are_not_asked_in_a_call_but_say_confirm(tmp_path: Path) -> None:
    async with served(settings_for(tmp_path, confirm="always")) as http:
        wanted = {"prompt": "a fox"}
        body = legacy("tools/call", name="generate_image", arguments=wanted)
        answer = legacy_answer(await http.post("/mcp", **body))
        assert answer["structuredContent"]["error"]["code"] == "confirmation_needed"
        body = legacy("tools/call", name="generate_image", arguments={**wanted, "confirm": True})
        answer = legacy_answer(await http.post("/mcp", **body))
    assert answer["structuredContent"]["status"] == "completed"


async def test_older_hosts_are_not_offered_subscriptions_that_nobody_would_serve(
    tmp_path: Path,
) -> None:
    hello = legacy(
        "initialize",
        protocolVersion="2025-06-18",
        capabilities={},
        clientInfo={"name": "older", "version": "1"},
    )
    async with served(settings_for(tmp_path)) as http:
        offered = legacy_answer(await http.post("/mcp", **hello))["capabilities"]
        body = legacy("resources/subscribe", uri="evolink://tasks")
        refused = await http.post("/mcp", **body)
    assert not offered["resources"].get("subscribe")
    assert '"code":-32601' in refused.text.replace(" ", "")
