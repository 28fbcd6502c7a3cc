"""The waiting of calls, which ends when the server does: nobody is left without an answer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import anyio

from evolink_mcp.errors import ServerStopping
from evolink_mcp.jobs.job import LOCAL, Principal

LAST_WORD = 2.0
"""Seconds that work gets whose end is worth waiting for once the server begins to stop."""


@dataclass(slots=True)
class Waits:
    """Every wait of a call that is under way, so that all of them can be ended at once.

    `most` calls may wait for the end of their task at a time, `most_each` of one principal who is
    not the one that runs the server.
    """

    most: float = math.inf
    most_each: float = math.inf
    _waiting: Counter[Principal] = field(default_factory=Counter[Principal])
    _graces: WeakKeyDictionary[anyio.CancelScope, float] = field(
        default_factory=WeakKeyDictionary[anyio.CancelScope, float]
    )
    """Seconds that each wait still gets once the server begins to stop."""
    _ended_at: float = math.inf

    @property
    def over(self) -> bool:
        """Whether the server has begun to stop."""
        return self._ended_at < math.inf

    def end(self) -> None:
        """Begin to stop: waits end now, and later ones as soon as they begin."""
        self._ended_at = anyio.current_time()
        for scope, grace in self._graces.items():
            scope.deadline = min(scope.deadline, self._ended_at + grace)

    def within(self, seconds: float, *, grace: float = 0.0) -> anyio.CancelScope:
        """Return a scope for work of so many seconds at most, and `grace` once the server stops."""
        deadline = min(anyio.current_time() + seconds, self._ended_at + grace)
        scope = anyio.CancelScope(deadline=deadline)
        self._graces[scope] = grace
        return scope

    async def in_turn(
        self, seconds: float, work: Callable[[], Awaitable[None]], *, principal: Principal
    ) -> None:
        """As `within`, but over at once where too many wait already."""
        left = seconds if self._has_room(principal) else 0.0
        self._waiting[principal] += 1
        try:
            with self.within(left):
                await work()
        finally:
            self._waiting[principal] -= 1
            self._waiting += Counter()  # forgets whom nobody waits for

    def _has_room(self, principal: Principal) -> bool:
        each = self.most_each if principal != LOCAL else math.inf
        return self._waiting.total() < self.most and self._waiting[principal] < each


def stopped_before_purchase() -> ServerStopping:
    """Say that the server stops, and that nothing was bought."""
    return ServerStopping(
        message="This server is stopping; nothing was bought.",
        next_step="Call again with the same arguments in a minute, when the server is back.",
    )


def stopped_in_purchase() -> ServerStopping:
    """Say that the server stops while EvoLink has a request and has not answered."""
    return ServerStopping(
        message="This server is stopping while EvoLink is asked for the picture, and EvoLink has "
        "not answered yet.",
        next_step="Call generate_image again with exactly the same arguments in a minute, when the "
        "server is back: that joins this purchase and buys nothing new. Change nothing in them.",
        charged="unknown",
    )


def stopped_before_looking(tool: str) -> ServerStopping:
    """Say that the server stops before EvoLink has told what a tool is asked for."""
    return ServerStopping(
        message="This server is stopping, and EvoLink has not answered yet.",
        next_step=f"Call {tool} again in a minute, when the server is back.",
    )
