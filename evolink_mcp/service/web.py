"""The web application: MCP at `/mcp`, and the questions of those who run it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol, cast
from urllib.parse import urlsplit

from mcp.server import MCPServer
from mcp.server.auth.middleware.bearer_auth import RequireAuthMiddleware
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route, request_response

from evolink_mcp.api.network import Network
from evolink_mcp.server.app import App
from evolink_mcp.server.build import Gate, build_server, offer_nothing
from evolink_mcp.server.links import Links
from evolink_mcp.server.principals import KEY_HEADER
from evolink_mcp.server.upload_links import UploadLinks
from evolink_mcp.server.waits import Waits
from evolink_mcp.service.address import Address
from evolink_mcp.service.callbacks import callbacks_for
from evolink_mcp.service.identities import Identities
from evolink_mcp.service.keys import TakeKeys
from evolink_mcp.service.limits import WAITING, WAITING_EACH, LimitRequests
from evolink_mcp.service.pictures import Pictures
from evolink_mcp.service.probes import Probes
from evolink_mcp.service.traffic import CountTraffic, Traffic
from evolink_mcp.service.uploads import uploads_for
from evolink_mcp.settings import Settings

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes of a request."""

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_LOOPBACK_ORIGIN = r"http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
_WITH_PORT = re.compile(r":\d+$")

_HEADERS = (
    "authorization",
    "content-type",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    KEY_HEADER.lower(),
)
"""What clients in web pages send (MCP 2025-11-25 and 2026-07-28)."""


def build_web(
    settings: Settings,
    address: Address,
    *,
    network: Network,
    identities: Identities | None,
    links: Links | None = None,
    offer: Callable[[MCPServer[App]], None] = offer_nothing,
) -> Starlette:
    """Put the application together; its lifespan is that of the MCP server.

    Both eras are stateless: any process may answer any request, and a client that goes away
    ends its call. For that, hosts before 2026-07-28 give up what needs a session: being asked
    for consent in the middle of a call (`confirm` takes its place) and `resources/subscribe`.
    `offer` adds what else the server is to offer.

    Raises:
        SettingInvalid: A setting names what does not exist.
    """
    probes = Probes(traffic := Traffic(), network.clock)
    parts, waits = _parts(settings, links), Waits(WAITING, WAITING_EACH)
    gate = Gate(
        verifier=identities.verifier if identities else None,
        auth=identities.auth if identities else None,
        opened=partial(_opened, (probes, *parts), waits),
    )
    web = build_server(settings, network=network, gate=gate, offer=offer).streamable_http_app(
        stateless_http=True,
        json_response=False,
        max_request_body_size=MAX_BODY,
        transport_security=protection(settings, address),
    )
    web.state.waits = waits
    web.router.routes.extend(_routes(probes, identities))
    web.router.routes.extend(part.route() for part in parts)
    web.user_middleware.append(Middleware(LimitRequests, clock=network.clock))
    web.user_middleware.append(Middleware(TakeKeys))
    web.user_middleware.insert(0, _cors(settings))
    web.user_middleware.insert(0, Middleware(CountTraffic, traffic=traffic))
    return web


def waits_of(web: Starlette) -> Waits:
    """Return the waiting of an application's calls, for whoever ends it."""
    return cast("Waits", web.state.waits)


class Part(Protocol):
    """What is served beside MCP."""

    def opened(self, app: App) -> None:
        """Take the app that it belongs to."""
        ...


class RoutedPart(Part, Protocol):
    """A part with a way of its own."""

    def route(self) -> Route:
        """Return the way."""
        ...


def _parts(settings: Settings, links: Links | None) -> tuple[RoutedPart, ...]:
    if links is None:
        return ()
    uploads = UploadLinks(base_url=links.base_url, secret=links.secret, now=links.now)
    callbacks = callbacks_for(settings, secret=links.secret)
    parts = (Pictures(links), uploads_for(settings, uploads), callbacks)
    return tuple(part for part in parts if part is not None)


def _opened(parts: Sequence[Part], waits: Waits, app: App) -> None:  # noqa: PLR0917
    app.waits = waits
    for part in parts:
        part.opened(app)


def protection(settings: Settings, address: Address) -> TransportSecuritySettings:
    """Say which names of ours and which web pages are answered.

    An attacker's page can lead its own name to any address of ours, but no name of ours.
    """
    ours = (*_LOOPBACK, *settings.allowed_hosts, *_public_name(settings))
    if not address.host.is_unspecified:
        ours = (*ours, address.name)
    wildcards = [f"{name}:*" for name in ours if not _WITH_PORT.search(name)]
    local = [f"http://{name}" for name in _LOOPBACK]
    return TransportSecuritySettings(
        allowed_hosts=[*ours, *wildcards],
        allowed_origins=[*local, *(f"{name}:*" for name in local), *settings.allowed_origins],
    )


def _public_name(settings: Settings) -> tuple[str, ...]:
    """Return the name in PUBLIC_URL, as it stands there: with its port, if it has one."""
    return (urlsplit(settings.public_url).netloc.lower(),) if settings.public_url else ()


def _routes(probes: Probes, identities: Identities | None) -> list[Route]:
    if identities is None:
        figures = Route("/metrics", probes.metrics_here)
    else:
        guard = partial(RequireAuthMiddleware, request_response(probes.metrics))
        figures = Route("/metrics", guard(identities.auth.required_scopes or []))
    return [Route("/healthz", probes.healthz), Route("/readyz", probes.readyz), figures]


def _cors(settings: Settings) -> Middleware:
    """Let the pages that may call read the answers."""
    return Middleware(
        CORSMiddleware,
        allow_origins=settings.allowed_origins,
        allow_origin_regex=_LOOPBACK_ORIGIN,
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=_HEADERS,
        expose_headers=["www-authenticate"],
    )
