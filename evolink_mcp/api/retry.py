"""Repeating safe requests, and only those."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from evolink_mcp.api.network import Sleep
from evolink_mcp.errors import EvolinkError, RefusedByEvolink

TRIES = 3
"""How often a safe request is made at most."""

FIRST_PAUSE = 0.5
"""Seconds before the second try; the next pause is twice as long."""

LONGEST_PAUSE = 30.0
"""Seconds; a longer `Retry-After` is left to the caller."""

_Answer = TypeVar("_Answer")


async def repeat_safely(
    ask: Callable[[], Awaitable[_Answer]], *, sleep: Sleep = anyio.sleep
) -> _Answer:
    """Make a request that changes nothing until it succeeds or tries run out.

    Raises:
        EvolinkError: What the last try raised.
    """
    for attempt in range(1, TRIES):
        try:
            return await ask()
        except EvolinkError as error:
            pause = pause_after(error, attempt=attempt)
            if pause is None:
                raise
        await sleep(pause)
    return await ask()


def pause_after(error: EvolinkError, *, attempt: int) -> float | None:
    """Return the seconds to wait before the same request again; None where that is no use."""
    asked = error.retry_after if isinstance(error, RefusedByEvolink) else None
    if not error.retryable or (asked is not None and asked > LONGEST_PAUSE):
        return None
    return asked if asked is not None else FIRST_PAUSE * 2 ** (attempt - 1)
