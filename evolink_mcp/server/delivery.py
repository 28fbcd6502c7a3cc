"""Whether the answer to a request has arrived, as far as its connection tells."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, Literal

import anyio

from evolink_mcp.api.network import Sleep

Fate = Literal["received", "doubtful", "lost"]
"""What became of an answer; `doubtful` went out whole, but its connection ended right after it."""

DOUBT_SECONDS: Final = 10.0
"""How long a doubtful answer may be asked for again. A client that was cut off asks again at once,
as MCP 2026-07-28 tells it to; one that has read its answer and hung up needs a while to want
another picture."""


@dataclass(slots=True)
class Delivery:
    """The way of one answer to the client."""

    sleep: Sleep = anyio.sleep
    _fate: Fate = "lost"
    _decided: anyio.Event = field(default_factory=anyio.Event)

    def decide(self, fate: Fate) -> None:
        """Say what became of the answer."""
        self._fate = fate
        self._decided.set()

    async def arrived(self) -> bool:
        """Wait until it is clear whether the answer is to count as received."""
        await self._decided.wait()
        if self._fate == "doubtful":
            await self.sleep(DOUBT_SECONDS)
        return self._fate != "lost"


DELIVERY: ContextVar[Delivery | None] = ContextVar("delivery", default=None)
"""That of the request that is being answered; None where an answer that goes out arrives."""
