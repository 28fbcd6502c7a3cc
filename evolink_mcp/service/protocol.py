"""HTTP/1.1 with an end to the patience with clients who keep a connection and do not use it."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Final

from evolink_mcp.guest import Protocol
from evolink_mcp.service.connections import Connection

logger = logging.getLogger(__name__)

HEAD_START: Final = 20.0
"""Seconds for a request to arrive, and longer by what has arrived at `SLOWEST`."""

SLOWEST: Final = 4096
"""Bytes in a second that a client has to send."""

STALLED: Final = 60.0
"""Seconds in which a client has to take some 50 KB of an answer that waits for it."""

MOST: Final = 8192
"""Connections, if this process may have as many."""

_OTHER_FILES: Final = 256
"""Open files that are none of clients: EvoLink's connections, the journal, pictures."""

_UNFINISHED: Final = ("IDLE", "SEND_BODY")
"""h11's names for the states of a client whose request is not all there."""

_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 21\r\n\r\ntoo many connections\n"
)


def room_for_connections() -> int:
    """Return how many connections there may be, by how many files this process may open."""
    if sys.platform == "win32":  # pragma: no cover - there is no such limit
        return MOST
    import resource  # noqa: PLC0415 - not on every system

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MOST if soft == resource.RLIM_INFINITY else soft - _OTHER_FILES
    return max(_OTHER_FILES // 4, min(MOST, allowed))


class Patient(Protocol):
    """HTTP/1.1 whose patience with a client ends, and that finds out what becomes of answers."""

    _late: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _began = 0.0
    _received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, unless there are too many who do."""
        super().connection_made(transport)
        self._connection = Connection(transport)
        self.app = self._connection.watching(self.app)
        if len(self.connections) > room_for_connections():
            transport.write(_FULL)
            transport.close()
        else:
            self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._connection.lost(exc)
        self._stop_late()
        self._stop_stalled()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a piece of a request; the first of one begins to count the seconds."""
        super().data_received(data)
        if str(self.conn.their_state) not in _UNFINISHED:
            self._stop_late()
            return
        if self._late is None:
            self._expect_request()
        self._received += len(data)

    def on_response_complete(self) -> None:
        """Find out from here on whether the answer arrives."""
        self._connection.sent()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Begin to count the seconds in which a client does not read."""
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client reads."""
        super().resume_writing()
        self._stop_stalled()

    def _expect_request(self) -> None:
        self._began, self._received = self.loop.time(), 0
        self._late = self.loop.call_later(HEAD_START, self._judge)

    def _judge(self) -> None:
        """Close a connection whose request does not come, or comes too slowly."""
        left = self._began + HEAD_START + self._received / SLOWEST - self.loop.time()
        if left > 0 or self.flow.read_paused:  # it comes, or it is we who do not read
            self._late = self.loop.call_later(max(left, 1.0), self._judge)
        else:
            logger.info("a client was too slow with its request")
            self._late = None
            self.transport.close()

    def _stop_late(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _stop_stalled(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
