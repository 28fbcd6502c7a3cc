"""The service on a real socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import anyio
import uvicorn
from anyio import to_thread
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from evolink_mcp.api.network import Network
from evolink_mcp.errors import SettingInvalid
from evolink_mcp.server.links import Links, load_secret
from evolink_mcp.service.address import Address
from evolink_mcp.service.identities import open_identities
from evolink_mcp.service.web import build_web
from evolink_mcp.settings import Settings

DRAIN: Final = 2.5
"""Seconds that calls under way get when the service stops; then their streams are closed, which
cancels the waiting and no job."""

LAST_DRAIN: Final = 4
"""Seconds until whatever does not notice that its client is gone is cancelled. The server's own
grace for paid steps (5 s) comes after it, and all of it within 10 s."""


@asynccontextmanager
async def serve(
    settings: Settings,
    address: Address,
    *,
    network: Network | None = None,
    open_to_anyone: bool = False,
) -> AsyncGenerator[str]:
    """Serve in this event loop, and yield the endpoint's URL; port 0 means any free one.

    Raises:
        SettingInvalid: A setting does not work, the port cannot be had, or the service would
            be open to everybody.
    """
    world = network or Network()
    identities = await open_identities(settings, world)
    if identities is None and not address.is_loopback and not open_to_anyone:
        raise _unguarded(address)
    with address.listen() as listener:
        url = address.url(listener.getsockname()[1])
        links = await _links(settings, url.removesuffix("/mcp"))
        web = build_web(settings, address, network=world, identities=identities, links=links)
        async with (
            web.router.lifespan_context(web),
            _served(_configuration(web, settings), listener),
        ):
            yield url


async def _links(settings: Settings, here: str) -> Links:
    """Make links to pictures; PUBLIC_URL says where callers find us, else where we listen."""
    secret = await to_thread.run_sync(load_secret, settings.data_folder())
    return Links(base_url=settings.public_url or here, secret=secret)


@asynccontextmanager
async def _served(config: uvicorn.Config, listener: socket.socket) -> AsyncGenerator[None]:
    server = _Server(config)
    async with anyio.create_task_group() as group:
        group.start_soon(_serve_shielded, server, listener)
        try:
            await server.ready.wait()
            yield
        finally:
            server.should_exit = True


class _Protocol(H11Protocol):
    """HTTP/1.1 without an access log, which would hold addresses that are secrets."""

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
        """Stop accepting, wait for calls under way, and close what is left of them."""
        cut = asyncio.get_running_loop().call_later(DRAIN, self._drop_connections)
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


def _configuration(web: ASGIApp, settings: Settings) -> uvicorn.Config:
    """Configure uvicorn; only trusted proxies are believed where a request comes from."""
    return uvicorn.Config(
        web,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=LAST_DRAIN,
    )


async def _serve_shielded(server: _Server, listener: socket.socket) -> None:
    # Cancelled halfway, uvicorn would leave its connections open; `should_exit` ends it.
    with anyio.CancelScope(shield=True):
        await server.serve(sockets=[listener])


def _unguarded(address: Address) -> SettingInvalid:
    return SettingInvalid(
        setting="--http",
        message=f"{address.name} can be reached from other machines, and nothing says who may "
        "call: anybody could spend your EvoLink credits.",
        next_step="Set EVOLINK_TOKENS_FILE (lines for it: evolink-mcp token NAME) or "
        "EVOLINK_OAUTH_ISSUER and EVOLINK_OAUTH_AUDIENCE; or listen on 127.0.0.1; or, if anybody "
        "may indeed, add --open-to-anyone.",
    )
