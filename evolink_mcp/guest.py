"""An HTTP server that is a guest of somebody else's program, as uvicorn by itself is not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import IPv4Address, IPv6Address

import anyio
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from evolink_mcp.groups import open_group


class Protocol(H11Protocol):
    """HTTP/1.1 without an access log, which would hold addresses that are secrets."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection."""
        super().connection_made(transport)
        self.access_log = False


class Guest(uvicorn.Server):
    """uvicorn that leaves signals and logs alone, says when it is ready, and ends in time.

    `drain` is how many seconds requests under way get when it stops, before their connections
    are closed.
    """

    def __init__(self, config: uvicorn.Config, *, drain: float) -> None:
        super().__init__(config)
        self.ready = anyio.Event()
        self._drain = drain

    @asynccontextmanager
    async def on(self, listener: socket.socket) -> AsyncGenerator[None]:
        """Serve in this event loop on a socket that listens, as long as the block runs."""
        async with open_group() as group:
            group.start_soon(self._serve_shielded, listener)
            try:
                await self.ready.wait()
                yield
            finally:
                self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start accepting."""
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, wait for requests under way, and close what is left of them."""
        cut = asyncio.get_running_loop().call_later(self._drain, self._drop_connections)
        try:
            await super().shutdown(sockets)
        finally:
            cut.cancel()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to the program around."""
        yield

    async def _serve_shielded(self, listener: socket.socket) -> None:
        # Cancelled halfway, uvicorn would leave its connections open; `should_exit` ends it.
        with anyio.CancelScope(shield=True):
            await self.serve(sockets=[listener])

    def _drop_connections(self) -> None:
        """Close what is still open; whoever has not read their answer by now does not get it."""
        for connection in tuple(self.server_state.connections):
            transport = connection.transport
            if transport.get_write_buffer_size():
                transport.abort()
            else:
                transport.close()


def listen_at(host: IPv4Address | IPv6Address, port: int) -> socket.socket:
    """Listen at an address; port 0 means any free one.

    Raises:
        OSError: The port is in use or not allowed.
    """
    family = socket.AF_INET if host.version == 4 else socket.AF_INET6  # noqa: PLR2004
    listener = socket.create_server((str(host), port), family=family)
    # asyncio sends without delay (TCP_NODELAY) only where a socket names its protocol; an answer
    # would else wait some 40 ms for its head to be acknowledged.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=listener.detach())


def configure(
    web: ASGIApp,
    *,
    last_drain: int,
    lifespan: bool,
    proxies: tuple[str, ...] = (),
    protocol: type[Protocol] = Protocol,
) -> uvicorn.Config:
    """Configure uvicorn for a guest.

    `last_drain` is how many seconds what was closed gets to notice it, before it is cancelled.
    `lifespan` says whether uvicorn runs the application's. Only `proxies`, addresses or networks,
    are believed where a request comes from.
    """
    return uvicorn.Config(
        web,
        http=protocol,
        ws="none",
        lifespan="on" if lifespan else "off",
        log_config=None,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        timeout_graceful_shutdown=last_drain,
    )
