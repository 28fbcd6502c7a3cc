from __future__ import annotations

import socket
import ssl

import anyio
import httpx2 as httpx
import pytest

from evolink_mcp.api.network import load_certificates, look_up


async def test_a_literal_address_stands_for_itself() -> None:
    assert await look_up("127.0.0.1", 443) == ["127.0.0.1"]


async def test_ipv4_comes_first_and_scopes_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def found(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        assert (host, port) == ("cdn.example.com", 443)
        return [
            (socket.AF_INET6, 1, 6, "", ("fe80::1%eth0", 443, 0, 2)),
            (socket.AF_INET, 1, 6, "", ("93.184.216.34", 443)),
            (socket.AF_INET6, 1, 6, "", ("2606:2800:220:1::1", 443, 0, 0)),
        ]

    monkeypatch.setattr(anyio, "getaddrinfo", found)
    found_addresses = await look_up("cdn.example.com", 443)
    assert found_addresses == ["93.184.216.34", "fe80::1", "2606:2800:220:1::1"]


@pytest.mark.parametrize("error", [socket.gaierror(-2, "unknown"), UnicodeError("label too long")])
async def test_an_unknown_name_is_no_connection(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(anyio, "getaddrinfo", fail)
    with pytest.raises(httpx.ConnectError):
        await look_up("nothing.example", 443)


def test_certificates_are_checked() -> None:
    context = load_certificates()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
