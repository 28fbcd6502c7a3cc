"""What becomes of answers on their connections.

A response that was written may never be read: its client may be gone already, or go while it is
under way. Nothing in HTTP tells, so the connection has to. Where it ends right after the last byte,
nobody can know; a proxy that took all of an answer and then lost its client looks no different.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from evolink_mcp.server.delivery import DELIVERY, Delivery, Fate

SETTLED_AFTER: Final = 1.0
"""Seconds that a connection has to live on after an answer, with every byte acknowledged."""

Answer = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI application, as uvicorn and Starlette each call it in their own words."""


@dataclass(slots=True)
class Connection:
    """One connection of a client, and the answers that go over it, one after the other."""

    transport: asyncio.Transport
    _answering: Delivery | None = None
    _sent: Delivery | None = None
    _buffered: bool = False
    """Whether a part of the answer was still here when the last of it was written."""
    _timer: asyncio.TimerHandle | None = None

    def watching(self, app: Answer) -> Answer:
        """Return an application that is told, for each of its requests, how to find out."""

        async def answer(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401, PLR0917 - ASGI's
            DELIVERY.set(self._begin())
            await app(scope, receive, send)

        return answer

    def sent(self) -> None:
        """Take note that the last byte of an answer was written."""
        self._sent, self._answering = self._answering, None
        self._buffered = self.transport.get_write_buffer_size() > 0
        self._look_later()

    def lost(self, error: Exception | None) -> None:
        """Take note that the connection has ended; `error` is what broke it."""
        if self._answering is not None:
            self._answering.decide("lost")
        cut_off = self._is_under_way() or (self._buffered and error is not None)
        self._decide("lost" if cut_off else "doubtful")

    def _begin(self) -> Delivery:
        """Begin to answer; who asks anew has read the answer before."""
        self._decide("received")
        self._answering = Delivery()
        return self._answering

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(SETTLED_AFTER, self._look)

    def _look(self) -> None:
        if self._is_under_way():
            self._look_later()
        else:
            self._decide("received")

    def _is_under_way(self) -> bool:
        buffered = self.transport.get_write_buffer_size() > 0
        return buffered or unacknowledged(self.transport) > 0

    def _decide(self, fate: Fate) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sent is not None:
            self._sent.decide(fate)
            self._sent = None


def unacknowledged(transport: asyncio.BaseTransport) -> int:
    """Return how many bytes the other end has not confirmed; 0 where the system does not tell."""
    if sys.platform != "linux":  # pragma: no cover - the gate runs on Linux
        return 0
    import fcntl  # noqa: PLC0415 - there is none on Windows
    import termios  # noqa: PLC0415

    with suppress(OSError):
        told = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(told, sys.byteorder)
    return 0
