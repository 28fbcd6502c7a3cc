"""The sandbox on a real loopback socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address
from typing import Final

import anyio
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from evolink_mcp.sandbox.app import Sandbox
from evolink_mcp.sandbox.groups import open_group

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
        server = _Server(_configuration(sandbox))
        async with open_group() as group:
            group.start_soon(_serve_shielded, server, listener)
            try:
                await server.ready.wait()
                yield _base_url(host, listener.getsockname()[1])
            finally:
                server.should_exit = True


class _Protocol(H11Protocol):
    """HTTP/1.1 without an access log, which would hold the links of pictures."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.access_log = False


class _Server(uvicorn.Server):
    """uvicorn as a guest of somebody else's program."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, and cut off the connections that are still open after a moment."""
        cut = asyncio.get_running_loop().call_later(GRACE, self._drop_connections)
        try:
            await super().shutdown(sockets)
        finally:
            cut.cancel()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to the program around."""
        yield

    def _drop_connections(self) -> None:
        for connection in tuple(self.server_state.connections):
            connection.transport.close()


def _configuration(sandbox: Sandbox) -> uvicorn.Config:
    return uvicorn.Config(
        sandbox.app,
        http=_Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=LAST_GRACE,
    )


async def _serve_shielded(server: _Server, listener: socket.socket) -> None:
    # Cancelled halfway, uvicorn would leave its connections open; `should_exit` ends it.
    with anyio.CancelScope(shield=True):
        await server.serve(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    name = "127.0.0.1" if host == "localhost" else host
    try:
        address = ip_address(name)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        message = f"the sandbox is served on loopback addresses only, not on {host}"
        raise ValueError(message)
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004
    return socket.create_server((str(address), port), family=family)


def _base_url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
