"""How the world is reached; tests put a sandbox in its place."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import httpx2 as httpx

from evolink_mcp.api.figures import Figures

Sleep = Callable[[float], Awaitable[None]]
"""Waits that many seconds."""

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Host name and port to literal addresses."""


async def look_up(host: str, port: int) -> list[str]:
    """Resolve a host name, IPv4 first: it is the one that works everywhere.

    Raises:
        httpx2.ConnectError: The name stands for nothing.
    """
    try:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        msg = "the host name is not known"
        raise httpx.ConnectError(msg) from error
    by_family = sorted(found, key=lambda entry: entry[0] != socket.AF_INET)
    return [str(address[0]).partition("%")[0] for *_, address in by_family]


def load_certificates() -> ssl.SSLContext:
    """Load the certificates that connections trust; blocking, some 50 ms."""
    return httpx.create_ssl_context()


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What stands between us and EvoLink."""

    transport: httpx.AsyncBaseTransport | None = None
    """None for real connections."""
    tls: ssl.SSLContext | bool = True
    """Whom to trust; True loads the usual certificates, which takes a while."""
    resolve: Resolve = look_up
    sleep: Sleep = anyio.sleep
    clock: Callable[[], float] = anyio.current_time
    """Seconds that pass with `sleep`."""
    figures: Figures = field(default_factory=Figures)
    """Counts what passes."""
