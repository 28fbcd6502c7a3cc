from __future__ import annotations

import asyncio
import socket

import anyio
import pytest

from evolink_mcp.errors import SettingInvalid
from evolink_mcp.service import read_address
from tests.service.rooms import LIMIT


@pytest.mark.parametrize(
    ("given", "url", "loopback"),
    [
        ("127.0.0.1:0", "http://127.0.0.1:80/mcp", True),
        ("localhost:8080", "http://127.0.0.1:80/mcp", True),
        ("[::1]:65535", "http://[::1]:80/mcp", True),
        ("::1:1", "http://[::1]:80/mcp", True),
        ("0.0.0.0:8080", "http://0.0.0.0:80/mcp", False),
        ("[::]:8080", "http://[::]:80/mcp", False),
        ("192.168.1.5:8080", "http://192.168.1.5:80/mcp", False),
    ],
)
def test_an_address_is_read(given: str, url: str, *, loopback: bool) -> None:
    address = read_address(given)
    assert address.url(80) == url
    assert address.is_loopback == loopback


@pytest.mark.parametrize(
    "given",
    [
        "",
        "8080",
        ":8080",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "example.com:80",
        "http://127.0.0.1:80",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(given: str) -> None:
    with pytest.raises(SettingInvalid) as raised:
        read_address(given)
    assert raised.value.setting == "--http"
    assert "--http 127.0.0.1:8080" in raised.value.next_step


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingInvalid, match=f"127.0.0.1:{port} cannot be used"):
            read_address(f"127.0.0.1:{port}").listen()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_the_other_loopback_address_can_be_had() -> None:
    with read_address("[::1]:0").listen() as listener:
        assert listener.family == socket.AF_INET6


async def test_what_is_answered_there_is_sent_without_delay() -> None:
    found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        found.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with anyio.fail_after(LIMIT), read_address("127.0.0.1:0").listen() as listener:
        async with await asyncio.start_server(note, sock=listener) as server:
            port = server.sockets[0].getsockname()[1]
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await found
            writer.close()
