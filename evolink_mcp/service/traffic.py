"""What goes through the service: counted, named for the log, held back where it is too much."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil

import anyio
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evolink_mcp.logs import REQUEST
from evolink_mcp.server.principals import ALLOWANCE_CLAIM, Allowance

_MINUTE = 60.0


@dataclass(slots=True)
class Traffic:
    """How many requests are being answered, and how many were, by status."""

    in_flight: int = 0
    answered: Counter[int] = field(default_factory=Counter[int])


class CountTraffic:
    """Counts requests and gives each a name for the log, as the outermost layer."""

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self._app = app
        self._traffic = traffic

    async def __call__(  # noqa: PLR0917 - ASGI's order
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request."""

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._traffic.answered[message["status"]] += 1
            await send(message)

        named = REQUEST.set(secrets.token_hex(6))
        self._traffic.in_flight += 1
        try:
            await self._app(scope, receive, count)
        finally:
            self._traffic.in_flight -= 1
            REQUEST.reset(named)


@dataclass(slots=True)
class _Bucket:
    """Requests that a caller may make at once; it fills again with time."""

    left: float
    filled_at: float


class LimitRequests:
    """Answers 429 where a caller passes the requests per minute of their allowance."""

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = anyio.current_time) -> None:
        self._app = app
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    async def __call__(  # noqa: PLR0917 - ASGI's order
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request."""
        wait = self._wait(scope.get("user"))
        if wait > 0:
            await _too_many(wait)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _wait(self, user: object) -> float:
        """Take one request out of the caller's bucket, or return the seconds until there is one."""
        if not isinstance(user, AuthenticatedUser):
            return 0.0
        allowance = (user.access_token.claims or {}).get(ALLOWANCE_CLAIM)
        if not isinstance(allowance, Allowance) or allowance.requests_per_minute is None:
            return 0.0
        return self._take(user.access_token.client_id, float(allowance.requests_per_minute))

    def _take(self, name: str, rate: float) -> float:
        now = self._clock()
        bucket = self._buckets.setdefault(name, _Bucket(rate, now))
        bucket.left = min(rate, bucket.left + (now - bucket.filled_at) * rate / _MINUTE)
        bucket.filled_at = now
        if bucket.left < 1:
            return (1 - bucket.left) * _MINUTE / rate
        bucket.left -= 1
        return 0.0


def _too_many(wait: float) -> JSONResponse:
    seconds = ceil(wait)
    text = f"These are more requests than you may make in a minute: again in {seconds} s."
    return JSONResponse(
        {"error": "too_many_requests", "error_description": text},
        status_code=429,
        headers={"Retry-After": str(seconds)},
    )
