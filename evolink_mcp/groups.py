"""Task groups that leave the exceptions of their body as they are."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.abc


@asynccontextmanager
async def open_group() -> AsyncGenerator[anyio.abc.TaskGroup]:
    """Open a task group; a single exception comes out of it bare, not in a group."""
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as raised:
        if len(raised.exceptions) != 1:
            raise
        sole = raised.exceptions[0]
        raise sole from sole.__cause__
