"""How often a key reads: one limit over all its tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio

from evolink_mcp.api.network import Sleep
from evolink_mcp.errors import EvolinkError, RateLimited

PER_SECOND = 5.0
"""Readings a second in the long run. EvoLink publishes no limit."""

BURST = 50
"""Readings that may be made at once after a quiet time."""

REST = 2.0
"""Seconds of silence after a refusal for too many requests that names no time."""

LONGEST_REST = 30.0
"""Seconds; a longer `Retry-After` is left to the watcher of the one task."""

_AT_ONCE = 0.001
"""Seconds that nobody has to wait for: a clock that counts from 1970 is not finer."""


@dataclass(slots=True)
class Pace:
    """Lets readings through one after the other, in the order they came."""

    sleep: Sleep = anyio.sleep
    clock: Callable[[], float] = anyio.current_time
    _free_at: float = 0.0
    """The clock's seconds at which the whole burst is there again."""
    _silent_until: float = 0.0
    _delay: float = 0.0
    """Seconds by which refusals have put off those who wait, all in all."""

    async def turn(self) -> None:
        """Wait until another reading may be made."""
        now, delay = self.clock(), self._delay
        self._free_at = max(self._free_at, now) + 1 / PER_SECOND
        wait = self._free_at - now - BURST / PER_SECOND
        while wait > _AT_ONCE:
            await self.sleep(wait)
            wait, delay = self._delay - delay, self._delay

    def refused(self, error: EvolinkError) -> None:
        """Rest after a refusal for too many requests, those who wait already too.

        The burst is used up then.
        """
        if not isinstance(error, RateLimited):
            return
        rest = min(REST if error.retry_after is None else error.retry_after, LONGEST_REST)
        begins = max(self._silent_until, self.clock())
        ends = self.clock() + rest
        if ends > begins:
            waiting = max(0.0, self._free_at - begins - BURST / PER_SECOND)
            self._free_at = ends + waiting + (BURST - 1) / PER_SECOND
            self._delay += ends - begins
            self._silent_until = ends
