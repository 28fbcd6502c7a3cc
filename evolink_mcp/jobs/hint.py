"""What a callback is to a job: a hint that a look at its task is worthwhile."""

from __future__ import annotations

import math
from dataclasses import dataclass

import anyio

from evolink_mcp.api.network import Sleep
from evolink_mcp.api.wire import TaskId


@dataclass(slots=True, eq=False)
class Hint:
    """Whether a callback says that one task is over; only a reading tells whether it is."""

    expected: bool = False
    """Whether one is to come: this process has asked for it."""
    came: bool = False
    """Whether one came at all."""
    fresh: bool = False
    """Whether one came since the last reading began."""
    name: TaskId | None = None
    """The task that one has named while the answer to the purchase was still out."""
    fruitless: int = 0
    """Readings since the last one came that did not find the end."""
    _followed: float = -math.inf
    """The clock's seconds when a reading was last made because of one."""
    _rest: anyio.CancelScope | None = None

    def come(self) -> None:
        """Take a callback; however many come before the next reading, they count as one."""
        self.came = self.fresh = True
        self.fruitless = 0
        self.wake()

    def take_name(self) -> TaskId | None:
        """Return the name that a callback has given to the task, once."""
        name, self.name = self.name, None
        return name

    def wake(self) -> None:
        """End the rest that is going on, if there is one."""
        if self._rest is not None:
            self._rest.cancel()

    async def rest(self, seconds: float, *, sleep: Sleep) -> None:
        """Sleep so many seconds, or until a callback comes or somebody wakes us."""
        with anyio.CancelScope() as self._rest:
            await sleep(seconds)

    def too_soon(self, now: float, *, apart: float) -> float:
        """Return the seconds until a reading may follow a callback, that many after the last."""
        return max(0.0, self._followed + apart - now)

    def follow(self, now: float) -> None:
        """Note that a reading is made because of it."""
        self.fresh = False
        self._followed = now
