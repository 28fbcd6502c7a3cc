"""Clients that are slow, silent or too many, on real connections."""

from __future__ import annotations

import logging
import resource
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from evolink_mcp.service import protocol, serving
from evolink_mcp.service.traffic import CountTraffic, Traffic
from tests.servers import settings_for
from tests.service.rooms import HERE, LIMIT
from tests.service.test_serving import talk

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\n"


async def echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(await request.body())


def echoing(traffic: Traffic | None = None) -> ASGIApp:
    app = Starlette(routes=[Route("/", echo, methods=["POST"])])
    return CountTraffic(app, traffic or Traffic())


@asynccontextmanager
async def serving_it(web: ASGIApp, folder: Path) -> AsyncGenerator[int]:
    guest = serving.guest_of(web, settings_for(folder))
    with anyio.fail_after(LIMIT), HERE.listen() as listener:
        async with guest.on(listener):
            yield listener.getsockname()[1]


async def connected(port: int) -> anyio.abc.SocketStream:
    return await anyio.connect_tcp("127.0.0.1", port)


async def answer(stream: anyio.abc.ByteStream) -> bytes:
    """Read until the other side closes."""
    found = b""
    try:
        while True:
            found += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return found


@pytest.mark.parametrize("sent", [b"", b"GET / HT", HEAD, HEAD + b"1234"])
async def test_a_request_that_does_not_come_is_not_waited_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    sent: bytes,
) -> None:
    monkeypatch.setattr(protocol, "HEAD_START", 0.1)
    caplog.set_level(logging.INFO, "evolink_mcp")
    async with serving_it(echoing(), tmp_path) as port, await connected(port) as client:
        await client.send(sent)
        assert await answer(client) == b""
    assert "too slow" in caplog.text
    assert [record for record in caplog.records if record.exc_info] == []


async def test_a_request_that_comes_fast_enough_may_take_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_START", 0.1)
    monkeypatch.setattr(protocol, "SLOWEST", 1)  # what has arrived buys a second a byte
    async with serving_it(echoing(), tmp_path) as port, await connected(port) as client:
        for part in (HEAD, b"1234", b"5678"):
            await client.send(part)
            await anyio.sleep(0.15)
        assert (await client.receive()).startswith(b"HTTP/1.1 200")
        await client.send(HEAD)  # the next one has its own time
        await anyio.sleep(0.15)
        await client.send(b"12345678")
        assert b"200 OK" in await answer(client)


async def test_an_answer_that_is_not_read_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "STALLED", 0.1)
    traffic = Traffic()
    async with (
        serving_it(CountTraffic(talk, traffic), tmp_path) as port,
        await connected(port) as client,
    ):
        await client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await client.receive()
        while traffic.in_flight:
            await anyio.lowlevel.checkpoint()
        assert len(await answer(client)) < 50_000_000


async def test_an_answer_that_is_read_slowly_arrives(tmp_path: Path) -> None:
    async with (
        serving_it(CountTraffic(talk, Traffic()), tmp_path) as port,
        await connected(port) as client,
    ):
        await client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert len(await answer(client)) > 50_000_000


async def test_more_connections_than_there_is_room_for_are_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MOST", 1)
    monkeypatch.setattr(protocol, "_OTHER_FILES", 0)
    async with (
        serving_it(echoing(), tmp_path) as port,
        await connected(port) as first,
        await connected(port) as second,
    ):
        told = await answer(second)
        assert told.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 5" in told
        await first.send(HEAD + b"12345678")
        assert (await first.receive()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("files", "expected"), [(-1, 8192), (1024, 768), (1_000_000, 8192), (100, 64)]
)
def test_there_is_room_for_as_many_as_files_may_be_opened(
    monkeypatch: pytest.MonkeyPatch, files: int, expected: int
) -> None:
    def limit(_: int) -> tuple[int, int]:
        return files, -1

    monkeypatch.setattr(resource, "getrlimit", limit)
    assert protocol.room_for_connections() == expected
