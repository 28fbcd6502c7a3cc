"""What goes through the service: counted, and named for the log."""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evolink_mcp.logs import REQUEST

logger = logging.getLogger(__name__)


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
        except ClientDisconnect:
            logger.info("a client left in the middle of its request")
        finally:
            self._traffic.in_flight -= 1
            REQUEST.reset(named)
