"""A TCP proxy that cuts connections at chosen moments, or anywhere."""

from __future__ import annotations

import re
import socket
import struct
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from typing import Literal, Protocol

import anyio
from anyio.abc import SocketAttribute, SocketStream

Moment = Literal["request", "wait", "progress", "before", "within", "after"]
"""Where a call is cut: its request on the way, some time later, after the first progress, before
its answer, in the middle of it, after the last byte of it."""

_ANSWER = b'"result"'
"""Is in the answer to a call, and in no progress before it."""

_PROGRESS = b"notifications/progress"
_PURCHASE = re.compile(rb'^POST /v1/images/generations .*"prompt": ?"([^"]*)"', re.DOTALL)
_HALF = 0.5
_RESET = struct.pack("ii", 1, 0)


class Judge(Protocol):
    """Looks at what goes through one connection.

    Returns what is let through of a piece, and after how many seconds the connection is cut.
    """

    @property
    def resets(self) -> bool:
        """Whether a cut is a reset, as after a crash, or an orderly end."""
        ...

    def forth(self, piece: bytes) -> tuple[bytes, float | None]:
        """Look at a piece of a request."""
        ...

    def back(self, piece: bytes) -> tuple[bytes, float | None]:
        """Look at a piece of an answer."""
        ...


@dataclass(frozen=True, slots=True)
class AtMoment:
    """Cuts the only call of a connection."""

    moment: Moment | None
    seconds: float = 0.0
    """After a request, for `wait`."""
    resets: bool = False

    def forth(self, piece: bytes) -> tuple[bytes, float | None]:
        if self.moment == "request":
            return piece[: len(piece) // 2], 0.0
        return piece, self.seconds if self.moment == "wait" else None

    def back(self, piece: bytes) -> tuple[bytes, float | None]:
        if _ANSWER not in piece:
            return piece, 0.0 if self.moment == "progress" and _PROGRESS in piece else None
        let = {"before": 0, "within": len(piece) // 2, "after": len(piece)}
        if self.moment not in let:
            return piece, None
        return piece[: let[self.moment]], 0.0


@dataclass(slots=True)
class Upstream:
    """What goes from the service to EvoLink: every purchase, and those that were cut."""

    lot: Random
    pieces: int = 40
    """After which a connection is cut, at the latest."""
    purchases: Counter[str] = field(default_factory=Counter[str])
    """By prompt."""
    in_doubt: set[str] = field(default_factory=set[str])
    """Prompts whose purchase was cut off before its answer had come through."""

    def judge(self) -> Anywhere:
        return Anywhere(self, self.lot.randrange(1, self.pieces), resets=self.lot.random() < _HALF)


@dataclass(slots=True)
class Anywhere:
    """Cuts a connection in the middle of a piece, whichever it is."""

    upstream: Upstream
    left: int
    resets: bool
    _buying: str = ""

    def forth(self, piece: bytes) -> tuple[bytes, float | None]:
        if found := _PURCHASE.search(piece):
            self._buying = found[1].decode()
            self.upstream.purchases[self._buying] += 1
        return self._carry(piece)

    def back(self, piece: bytes) -> tuple[bytes, float | None]:
        carried = self._carry(piece)
        if self.left:
            self._buying = ""
        return carried

    def _carry(self, piece: bytes) -> tuple[bytes, float | None]:
        self.left -= 1
        if self.left:
            return piece, None
        self.upstream.in_doubt.update(filter(None, [self._buying]))
        return piece[: len(piece) // 2], 0.0


@asynccontextmanager
async def cutting(port: int, judge: Callable[[], Judge]) -> AsyncGenerator[int]:
    """Stand between clients and a port of this machine, and yield the port of one's own."""

    async def carry(near: SocketStream) -> None:
        with suppress(OSError):  # nobody is there any more
            await _Line(near, await anyio.connect_tcp("127.0.0.1", port), judge()).run()

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, carry)
        yield listener.extra(SocketAttribute.local_port)  # noqa: S610 - no Django
        group.cancel_scope.cancel()


@dataclass(slots=True)
class _Line:
    """One connection through the proxy."""

    near: SocketStream
    far: SocketStream
    judge: Judge
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    async def run(self) -> None:
        async with self.near, self.far:
            with self.scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._carry, self.near, self.far, self.judge.forth)
                    group.start_soon(self._carry, self.far, self.near, self.judge.back)
            if self.judge.resets:
                for end in (self.near, self.far):
                    given = end.extra(SocketAttribute.raw_socket)  # noqa: S610 - no Django
                    given.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    async def _carry(
        self,
        source: SocketStream,
        sink: SocketStream,
        look: Callable[[bytes], tuple[bytes, float | None]],
    ) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                piece, until_cut = look(await source.receive())
                await sink.send(piece)
                if until_cut is not None:
                    await anyio.sleep(until_cut)
                    break
        self.scope.cancel()
