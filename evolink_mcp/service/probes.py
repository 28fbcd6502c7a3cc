"""Whether the service lives, whether it can work, and its figures."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import anyio
from prometheus_client.metrics_core import Metric
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from evolink_mcp.errors import JournalUnusable
from evolink_mcp.server.app import App
from evolink_mcp.service.metrics import TEXT, of_evolink, of_jobs, of_traffic, written
from evolink_mcp.service.traffic import Traffic

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the journal for `/readyz`, which anybody may ask."""

_PEERS = frozenset({"127.0.0.1", "::1"})
_NAME = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d+)?")
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


@dataclass(slots=True)
class Probes:
    """Answers the questions of those who run the service; an answer holds no secret and no id."""

    traffic: Traffic
    clock: Callable[[], float] = anyio.current_time
    _app: App | None = None
    _reason: str = ""
    _looked_at: float = float("-inf")
    _lock: anyio.Lock = field(default_factory=anyio.Lock)

    def opened(self, app: App) -> None:
        """Take what there is to ask about."""
        self._app = app

    async def healthz(self, _: Request) -> Response:
        """Say that the process answers."""
        return PlainTextResponse("ok\n")

    async def readyz(self, _: Request) -> Response:
        """Say whether pictures can be bought: 200, or 503 with the reason."""
        async with self._lock:
            if self.clock() - self._looked_at >= LOOK_EVERY:
                self._reason = await self._obstacle()
                self._looked_at = self.clock()
            reason = self._reason
        if reason:
            return JSONResponse({"ready": False, "reason": reason}, status_code=503)
        return JSONResponse({"ready": True})

    async def metrics(self, _: Request) -> Response:
        """Return figures as Prometheus reads them."""
        text = written([*of_traffic(self.traffic), *await self._of_app()])
        return Response(text, media_type=TEXT)

    async def metrics_here(self, request: Request) -> Response:
        """Return the figures to programs of this machine only: nobody has to prove who they are."""
        if not _is_local(request):
            return PlainTextResponse("only for programs of this machine\n", status_code=403)
        return await self.metrics(request)

    async def _obstacle(self) -> str:
        """Return what keeps us from buying, in a word; empty for nothing."""
        if self._app is None:
            return "starting"
        try:
            await (await self._app.journal()).spent_today()
        except JournalUnusable as error:
            return error.code
        return ""

    async def _of_app(self) -> list[Metric]:
        """Read the journal; nothing of it where it cannot be read, which `/readyz` says."""
        if self._app is None:
            return []
        found = of_evolink(self._app.network.figures)
        try:
            journal = await self._app.journal()
            spent, states = await journal.spent_today(), await journal.count_by_state()
        except JournalUnusable:
            return found
        return [*found, *of_jobs(states, spent=spent)]


def _is_local(request: Request) -> bool:
    """Tell whether a program of this machine asks: itself, and not for a page or behind a proxy."""
    peer = request.client.host if request.client else ""
    named = _NAME.fullmatch(request.headers.get("host", "")) is not None
    forwarded = any(header in request.headers for header in _FORWARDED)
    return peer in _PEERS and named and not forwarded
