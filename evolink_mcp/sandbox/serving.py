"""The sandbox on a real loopback socket."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Final

from evolink_mcp.guest import Guest, configure, listen_at
from evolink_mcp.sandbox.app import Sandbox

GRACE: Final = 0.5
"""Seconds that requests under way get when the server stops, before they are cut off."""

LAST_GRACE: Final = 3
"""Seconds until whatever does not notice that its client is gone is cancelled."""


@asynccontextmanager
async def serve(sandbox: Sandbox, *, host: str = "127.0.0.1", port: int = 0) -> AsyncGenerator[str]:
    """Serve the sandbox in this event loop, and yield its base URL; port 0 means any free one.

    It stops within seconds, whatever is under way.

    Raises:
        ValueError: `host` is not a loopback address.
        OSError: The port is in use or not allowed.
    """
    with _listen(host, port) as listener:
        config = configure(sandbox.app, last_drain=LAST_GRACE, lifespan=True)
        async with Guest(config, drain=GRACE).on(listener):
            yield _base_url(host, listener.getsockname()[1])


def _listen(host: str, port: int) -> socket.socket:
    name = "127.0.0.1" if host == "localhost" else host
    try:
        address = ip_address(name)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        message = f"the sandbox is served on loopback addresses only, not on {host}"
        raise ValueError(message)
    return listen_at(address, port)


def _base_url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
