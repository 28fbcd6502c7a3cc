"""What is too much: requests at once and in a minute, by caller and by address."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from math import ceil
from typing import Final

import anyio
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from evolink_mcp.server.principals import ALLOWANCE_CLAIM, Allowance

AT_ONCE: Final = 2048
"""MCP requests under way. A call that waits takes some 100 KB; a load balancer in front that
allows more gets a 503."""

AT_ONCE_EACH: Final = 128
"""MCP requests of one holder of a token under way."""

WAITING: Final = 1536
WAITING_EACH: Final = 96
"""Calls that may wait for their task, of all and of one holder: fewer than may be under way, so
that there is always room to buy, to look and to list. Further ones are answered at once, with the
handle of their task."""

UNKNOWN_A_MINUTE: Final = 600
"""Requests of one address that come without a token, or with one that does not count."""

MOST_BUCKETS: Final = 10_000
"""Callers whose requests per minute are remembered; whoever asked longest ago is forgotten."""

AGAIN_IN: Final = 5
"""Seconds after which to try again where there were too many at once."""

_MINUTE: Final = 60.0
_MCP: Final = "/mcp"
_FREE: Final = ("/healthz", "/readyz", "/callbacks/")
"""What costs next to nothing, and must not be missed because of others behind the same address."""


@dataclass(slots=True)
class _Bucket:
    """Requests that a caller may make at once; it fills again with time."""

    left: float
    filled_at: float


@dataclass(slots=True)
class Buckets:
    """How many requests callers have left."""

    clock: Callable[[], float] = anyio.current_time
    most: int = MOST_BUCKETS
    _buckets: OrderedDict[str, _Bucket] = field(default_factory=OrderedDict[str, _Bucket])

    def take(self, name: str, *, a_minute: float) -> float:
        """Take one request out of a bucket, or return the seconds until there is one."""
        now = self.clock()
        bucket = self._buckets.setdefault(name, _Bucket(a_minute, now))
        self._buckets.move_to_end(name)
        if len(self._buckets) > self.most:
            self._buckets.popitem(last=False)
        refilled = bucket.left + (now - bucket.filled_at) * a_minute / _MINUTE
        bucket.left, bucket.filled_at = min(a_minute, refilled), now
        if bucket.left < 1:
            return (1 - bucket.left) * _MINUTE / a_minute
        bucket.left -= 1
        return 0.0


class LimitRequests:
    """Answers 429 or 503, with a time, to what is too much."""

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = anyio.current_time) -> None:
        self._app = app
        self._known = Buckets(clock)
        self._unknown = Buckets(clock)
        self._under_way: Counter[str] = Counter()

    async def __call__(  # noqa: PLR0917 - ASGI's order
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request."""
        token = _token_of(scope)
        name = token.client_id if token else ""
        refusal = self._too_often(scope, token) or self._too_many_now(scope, name)
        if refusal is not None:
            await refusal(scope, receive, send)
        elif scope["path"] == _MCP:
            await self._count(name, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _count(  # noqa: PLR0917 - ASGI's order
        self, name: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._under_way[name] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way[name] -= 1
            if not self._under_way[name]:
                del self._under_way[name]

    def _too_often(self, scope: Scope, token: AccessToken | None) -> JSONResponse | None:
        wait = self._wait_known(token) if token else self._wait_unknown(scope)
        return _too_many(ceil(wait)) if wait > 0 else None

    def _too_many_now(self, scope: Scope, name: str) -> JSONResponse | None:
        if scope["path"] != _MCP:
            return None
        if name and self._under_way[name] >= AT_ONCE_EACH:
            return _too_many_at_once()
        return _full() if self._under_way.total() >= AT_ONCE else None

    def _wait_known(self, token: AccessToken) -> float:
        """Return the seconds until the holder of a token may ask again; 0 for now."""
        rate = _allowance_of(token).requests_per_minute
        return self._known.take(token.client_id, a_minute=float(rate)) if rate is not None else 0.0

    def _wait_unknown(self, scope: Scope) -> float:
        network = _network_of(scope)
        if network is None or scope["path"].startswith(_FREE):
            return 0.0
        return self._unknown.take(network, a_minute=float(UNKNOWN_A_MINUTE))


def _token_of(scope: Scope) -> AccessToken | None:
    """Return the token that came with a request, if it counts."""
    user = scope.get("user")
    return user.access_token if isinstance(user, AuthenticatedUser) else None


def _allowance_of(token: AccessToken) -> Allowance:
    found = (token.claims or {}).get(ALLOWANCE_CLAIM)
    return found if isinstance(found, Allowance) else Allowance()


def _network_of(scope: Scope) -> str | None:
    """Return where a request comes from: an address, or the network that one caller has with IPv6.

    None for this machine: a program of ours, or a proxy that EVOLINK_TRUSTED_PROXIES does not
    name, behind which everybody has one address.
    """
    client = HTTPConnection(scope).client
    try:
        address = ip_address(client.host if client else "")
    except ValueError:
        return ""
    if address.version == 6:  # noqa: PLR2004
        address = address.ipv4_mapped or address
    if address.is_loopback:
        return None
    return str(ip_network((address, 32 if address.version == 4 else 64), strict=False))  # noqa: PLR2004


def _too_many(seconds: int) -> JSONResponse:
    return _refused(
        429,
        "too_many_requests",
        f"These are more requests than you may make in a minute: again in {seconds} s.",
        seconds=seconds,
    )


def _too_many_at_once() -> JSONResponse:
    return _refused(
        429,
        "too_many_requests_at_once",
        f"You have {AT_ONCE_EACH} requests under way, and may have no more at once: let one end.",
        seconds=AGAIN_IN,
    )


def _full() -> JSONResponse:
    return _refused(
        503,
        "too_busy",
        f"This server has {AT_ONCE} requests under way, and takes no more at once: again in "
        f"{AGAIN_IN} s. Nothing was bought.",
        seconds=AGAIN_IN,
    )


def _refused(status: int, error: str, text: str, *, seconds: int) -> JSONResponse:  # noqa: PLR0917
    return JSONResponse(
        {"error": error, "error_description": text},
        status_code=status,
        headers={"Retry-After": str(seconds)},
    )
