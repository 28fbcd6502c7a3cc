from __future__ import annotations

import logging
import signal
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import httpx2 as httpx
import pytest
from anyio.abc import SocketStream

from evolink_mcp.sandbox import Sandbox, serve, serving
from tests.sandbox.desk import GENERATIONS, picture, size_of

HEADERS = {"authorization": "Bearer sk-sandbox"}


@asynccontextmanager
async def served(sandbox: Sandbox, host: str = "127.0.0.1") -> AsyncGenerator[httpx.AsyncClient]:
    with anyio.fail_after(20):
        async with (
            serve(sandbox, host=host) as url,
            httpx.AsyncClient(base_url=url, headers=HEADERS) as http,
        ):
            yield http


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_picture_comes_over_a_real_socket(host: str) -> None:
    sandbox = Sandbox(speed=1e6)
    async with served(sandbox, host) as http:
        assert http.base_url.host == host
        edit = str(http.base_url.join(sandbox.publish(picture(), "photo.png")))
        answer = await http.post(GENERATIONS, json={"prompt": "a fox", "image_urls": [edit]})
        task = (await http.get(f"/v1/tasks/{answer.json()['id']}")).json()
        file = await http.get(task["results"][0])
    assert task["results"][0].startswith(f"http://{host}:")
    assert size_of(file.content) == (1024, 1024)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
async def test_the_other_loopback_address_is_written_in_brackets() -> None:
    async with served(Sandbox(), "::1") as http:
        assert str(http.base_url).startswith("http://[::1]:")
        assert (await http.get("/v1/credits")).status_code == 200


def test_its_sockets_name_their_protocol_so_that_asyncio_sends_without_delay() -> None:
    with serving._listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


async def test_a_cut_answer_breaks_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    sandbox = Sandbox()
    async with served(sandbox) as http:
        with pytest.raises(httpx.RemoteProtocolError, match=r"incomplete|without sending"):
            await http.post(GENERATIONS, json={"prompt": "[cut-after-accept]"})
        assert (await http.get("/v1/credits")).status_code == 200
    assert len(sandbox.tasks) == 1
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_client_that_gives_up_on_a_hanging_answer_leaves_the_task_paid() -> None:
    sandbox = Sandbox()
    async with served(sandbox) as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.post(GENERATIONS, json={"prompt": "[hang]"}, timeout=0.1)
    assert sandbox.credits == 997.5


async def test_a_hanging_answer_does_not_hold_up_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sandbox = Sandbox()

    async def hang(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, headers=HEADERS) as http:
            with pytest.raises(httpx.RemoteProtocolError):
                await http.post(GENERATIONS, json={"prompt": "[hang]"})

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group, serve(sandbox) as url:
            group.start_soon(hang, url)
            while not sandbox.tasks:
                await anyio.lowlevel.checkpoint()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_served_sandbox_sends_callbacks() -> None:
    called = anyio.Event()

    def take(_: httpx.Request) -> httpx.Response:
        called.set()
        return httpx.Response(204)

    sandbox = Sandbox(speed=1e6, callback_transport=httpx.MockTransport(take))
    async with served(sandbox) as http:
        body = {"prompt": "a fox", "callback_url": "https://hooks.example/"}
        assert (await http.post(GENERATIONS, json=body)).status_code == 200
        await called.wait()


async def test_a_port_in_use_is_the_callers_to_know(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await serve(Sandbox(), port=taken.getsockname()[1]).__aenter__()
    assert not caplog.records


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.com", ""])  # noqa: S104
async def test_only_this_machine_is_served(host: str) -> None:
    with pytest.raises(ValueError, match="loopback addresses only"):
        await serve(Sandbox(), host=host).__aenter__()


async def test_signals_and_logs_stay_as_they_were(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    access = logging.getLogger("uvicorn.access")
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    logs = access.propagate, tuple(access.handlers), access.level
    async with served(Sandbox()) as http:
        await http.get("/files/samples/mask.png")
        during = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        assert during == before
        assert (access.propagate, tuple(access.handlers), access.level) == logs
    ours = [record for record in caplog.records if not record.name.startswith("httpx")]
    assert not [record for record in ours if "/files" in record.getMessage()]


async def test_an_error_inside_comes_out_as_it_is() -> None:
    with pytest.raises(LookupError):
        async with served(Sandbox()):
            raise LookupError


async def test_a_cancellation_closes_port_and_connections() -> None:
    connections: list[SocketStream] = []
    ports: list[int] = []
    with anyio.CancelScope() as scope:
        async with serve(Sandbox()) as url:
            ports.append(httpx.URL(url).port or 0)
            connections.append(await anyio.connect_tcp("127.0.0.1", ports[0]))
            await connections[0].send(b"GET /v1/credits HTTP/1.1\r\nhost: a\r\n\r\n")
            await connections[0].receive()
            scope.cancel()
            await anyio.sleep_forever()
    with anyio.fail_after(5):
        async with connections[0] as connection:
            assert [chunk async for chunk in connection] == []
    socket.create_server(("127.0.0.1", ports[0])).close()


async def test_a_cancellation_during_the_start_ends_it_too() -> None:
    async def start() -> None:
        await serve(Sandbox()).__aenter__()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(start)
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
