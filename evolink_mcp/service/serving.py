"""The service on a real socket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

from anyio import to_thread
from mcp.server import MCPServer
from starlette.types import ASGIApp

from evolink_mcp.api.network import Network
from evolink_mcp.errors import SettingInvalid
from evolink_mcp.guest import Guest, configure
from evolink_mcp.server.app import App
from evolink_mcp.server.build import offer_nothing
from evolink_mcp.server.links import Links, load_secret
from evolink_mcp.server.waits import LAST_WORD, Waits
from evolink_mcp.service.address import Address
from evolink_mcp.service.identities import open_identities
from evolink_mcp.service.protocol import Patient
from evolink_mcp.service.web import build_web, waits_of
from evolink_mcp.settings import Settings

DRAIN: Final = LAST_WORD + 0.5
"""Seconds until streams that are still open when the service stops are closed, which cancels no
job. Calls that wait are answered at once, those that are about to learn something a bit later:
what is left is a client that does not read, or a call that asks EvoLink for something else."""

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
    offer: Callable[[MCPServer[App]], None] = offer_nothing,
) -> AsyncGenerator[str]:
    """Serve in this event loop, and yield the endpoint's URL; port 0 means any free one.

    `offer` adds what else the server is to offer.

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
        web = build_web(
            settings, address, network=world, identities=identities, links=links, offer=offer
        )
        async with (
            web.router.lifespan_context(web),
            guest_of(web, settings).on(listener),
            ending(waits_of(web)),
        ):
            yield url


async def _links(settings: Settings, here: str) -> Links:
    """Make links to pictures; PUBLIC_URL says where callers find us, else where we listen."""
    secret = await to_thread.run_sync(load_secret, settings.data_folder())
    return Links(base_url=settings.public_url or here, secret=secret)


def guest_of(web: ASGIApp, settings: Settings) -> Guest:
    """Make the server of an application; it ends in time whatever its clients do."""
    config = configure(
        web,
        last_drain=LAST_DRAIN,
        lifespan=False,
        proxies=settings.trusted_proxies,
        protocol=Patient,
    )
    return Guest(config, drain=DRAIN)


@asynccontextmanager
async def ending(waits: Waits) -> AsyncGenerator[None]:
    """End all waiting of calls first of all."""
    try:
        yield
    finally:
        waits.end()


def _unguarded(address: Address) -> SettingInvalid:
    return SettingInvalid(
        setting="--http",
        message=f"{address.name} can be reached from other machines, and nothing says who may "
        "call: anybody could spend your EvoLink credits.",
        next_step="Set EVOLINK_TOKENS_FILE (lines for it: evolink-mcp token NAME) or "
        "EVOLINK_OAUTH_ISSUER and EVOLINK_OAUTH_AUDIENCE; or listen on 127.0.0.1; or, if anybody "
        "may indeed, add --open-to-anyone.",
    )
