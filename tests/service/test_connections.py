"""An answer counts as delivered once its connection says so, and not before."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import cast

import anyio
import httpx2 as httpx
import pytest

from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server import delivery
from evolink_mcp.server.delivery import DELIVERY, Delivery
from evolink_mcp.service import connections, serve
from evolink_mcp.service.connections import Connection, unacknowledged
from tests.servers import network_of, settings_for
from tests.service.crowd import Told, in_legacy, messages_in, small_pictures
from tests.service.cutting import AtMoment, cutting
from tests.service.rooms import HERE, LIMIT, call

__all__ = ["small_pictures"]

RESET = struct.pack("ii", 1, 0)
MUCH = bytes(50_000_000)
"""More than any two sockets hold."""

SOME = bytes(100_000)
"""What the sender's socket holds, and the receiver's does not."""

BUY = call("generate_image", prompt="a fox")


class Answering(asyncio.Protocol):
    """Writes one answer to whoever connects, and keeps what becomes of it."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.delivery = Delivery()
        self.connected = anyio.Event()

    async def _app(self, *_: object) -> None:
        found = DELIVERY.get()
        assert found is not None
        self.delivery = found

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        given = transport.get_extra_info("socket")
        given.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * len(SOME))
        self.connection = Connection(cast("asyncio.Transport", transport))
        self.connection.transport.write(self._answer)
        self.connected.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.connection.lost(exc)

    async def begin(self) -> Delivery:
        await self.connection.watching(self._app)({}, None, None)
        return self.delivery

    async def answer(self) -> None:
        await self.begin()
        self.connection.sent()

    async def fate(self) -> str:
        await self.delivery._decided.wait()
        return self.delivery._fate


@asynccontextmanager
async def answered(answer: bytes = b"ok") -> AsyncGenerator[tuple[Answering, socket.socket]]:
    """Answer a client that has not read anything yet."""
    server = Answering(answer)
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: server, "127.0.0.1", 0)
    with anyio.fail_after(LIMIT), socket.socket() as client:
        client.setblocking(False)  # noqa: FBT003 - the standard library's own
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, len(SOME) // 20)
        await loop.sock_connect(client, listener.sockets[0].getsockname())
        await server.connected.wait()
        await server.answer()
        yield server, client
        listener.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SETTLED_AFTER", 0.05)


async def test_an_answer_has_arrived_when_the_connection_lives_on() -> None:
    async with answered() as (server, _):
        assert await server.fate() == "received"
        assert await server.delivery.arrived()


async def test_an_answer_has_arrived_when_the_client_asks_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "SETTLED_AFTER", LIMIT)
    async with answered() as (server, _):
        first = server.delivery
        await server.answer()
        assert await first.arrived()


@pytest.mark.parametrize("how", ["an end", "a reset"])
async def test_an_answer_is_in_doubt_when_the_connection_ends_after_it(how: str) -> None:
    async with answered() as (server, client):
        assert await asyncio.get_running_loop().sock_recv(client, 10) == b"ok"
        if how == "a reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
        assert await server.fate() == "doubtful"


@pytest.mark.parametrize(
    ("answer", "tells"), [(SOME, True), (MUCH, True), (MUCH, False)], ids=["some", "much", "blind"]
)
async def test_an_answer_of_which_a_part_did_not_get_out_is_lost(
    monkeypatch: pytest.MonkeyPatch, *, answer: bytes, tells: bool
) -> None:
    """On some systems only what is still in this process is known."""
    if not tells:
        monkeypatch.setattr(connections, "unacknowledged", nothing_under_way)
    async with answered(answer) as (server, client):
        transport = server.connection.transport
        assert (transport.get_write_buffer_size() > 0) == (answer is MUCH)
        assert unacknowledged(transport) > 0
        await anyio.sleep(3 * connections.SETTLED_AFTER)  # nobody takes it for received meanwhile
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
        assert await server.fate() == "lost"
        assert not await server.delivery.arrived()


def nothing_under_way(_: asyncio.BaseTransport) -> int:
    return 0


async def test_an_answer_that_is_read_slowly_has_arrived_in_the_end() -> None:
    async with answered(SOME) as (server, client):
        await anyio.sleep(3 * connections.SETTLED_AFTER)
        left = len(SOME)
        while left:
            left -= len(await asyncio.get_running_loop().sock_recv(client, left))
        assert await server.fate() == "received"


async def test_an_answer_that_was_not_finished_is_lost() -> None:
    async with answered() as (server, client):
        begun = await server.begin()
        client.close()
        assert not await begun.arrived()


async def test_where_the_system_does_not_tell_nothing_is_under_way(tmp_path: Path) -> None:
    class Transport:
        def get_extra_info(self, _: str) -> object:
            return file

    with (tmp_path / "no socket").open("wb") as file:
        assert unacknowledged(cast("asyncio.Transport", Transport())) == 0


@asynccontextmanager
async def bought_at(folder: Path) -> AsyncGenerator[tuple[Sandbox, str]]:
    """Serve on a real socket."""
    sandbox = Sandbox(speed=1000)
    settings = settings_for(folder, preview="none")
    with anyio.fail_after(LIMIT):
        async with serve(settings, HERE, network=network_of(sandbox)) as url:
            yield sandbox, url


async def told(http: httpx.AsyncClient, url: str, request: Told) -> Told:
    response = await http.post(url, **request)
    found: Told = messages_in(response)[-1]["result"]["structuredContent"]
    assert found["status"] == "completed"
    return found


@pytest.mark.usefixtures("small_pictures")
@pytest.mark.parametrize("request_", [BUY, in_legacy(BUY)], ids=["2026", "2025"])
async def test_who_has_read_an_answer_and_asks_again_gets_another_picture(
    tmp_path: Path, request_: Told
) -> None:
    async with bought_at(tmp_path) as (sandbox, url), httpx.AsyncClient(trust_env=False) as http:
        first = await told(http, url, request_)
        assert (await told(http, url, request_))["task_id"] != first["task_id"]
        assert len(sandbox.tasks) == 2


@pytest.mark.usefixtures("small_pictures")
@pytest.mark.parametrize("request_", [BUY, in_legacy(BUY)], ids=["2026", "2025"])
async def test_who_was_cut_off_and_asks_again_gets_the_same_picture(
    tmp_path: Path, request_: Told
) -> None:
    async with bought_at(tmp_path) as (sandbox, url), httpx.AsyncClient(trust_env=False) as http:
        port = httpx.URL(url).port or 0
        for judge in (partial(AtMoment, "before"), partial(AtMoment, "within")):
            async with cutting(port, judge) as cut:
                with pytest.raises(httpx.TransportError):
                    await http.post(f"http://127.0.0.1:{cut}/mcp", **request_)
        found = await told(http, url, request_)
        assert list(sandbox.tasks) == [found["task_id"]]
        [note] = found["notes"]
        assert "joined an identical earlier one" in note


@pytest.mark.usefixtures("small_pictures")
@pytest.mark.parametrize(("doubt", "bought"), [(LIMIT, 1), (0.0, 2)])
async def test_a_client_that_hangs_up_each_time_may_want_another_picture_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, doubt: float, bought: int
) -> None:
    monkeypatch.setattr(delivery, "DOUBT_SECONDS", doubt)
    once = httpx.Limits(max_keepalive_connections=0)
    async with (
        bought_at(tmp_path) as (sandbox, url),
        httpx.AsyncClient(trust_env=False, limits=once) as http,
    ):
        await told(http, url, BUY)
        await anyio.sleep(3 * connections.SETTLED_AFTER)
        await told(http, url, BUY)
        assert len(sandbox.tasks) == bought
