"""Work that goes on though its caller has gone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import anyio

from evolink_mcp.errors import EvolinkError

Result = TypeVar("Result")


@dataclass(slots=True)
class Apart(Generic[Result]):
    """One piece of work, run in a task group of the server's."""

    work: Callable[[], Awaitable[Result]]
    _done: anyio.Event = field(default_factory=anyio.Event)
    _results: list[Result] = field(default_factory=list[Result])
    _error: EvolinkError | None = None

    async def run(self) -> None:
        """Do the work, and keep what became of it."""
        try:
            self._results.append(await self.work())
        except EvolinkError as error:
            self._error = error
        finally:
            self._done.set()

    async def result(self) -> Result:
        """Wait for the end, and return what came of it.

        Raises:
            EvolinkError: What went wrong.
        """
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return self._results[0]
