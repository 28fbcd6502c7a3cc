"""Serving over stdio or HTTP, with a clean end on EOF, SIGTERM and SIGINT."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NoReturn

import anyio

from evolink_mcp.server.app import GRACE
from evolink_mcp.server.build import build_server
from evolink_mcp.settings import Settings

SANDBOX_KEY = "sk-sandbox"
"""The key that a sandbox takes unless it is told another one."""

SANDBOX_SPEED = 10.0
"""How much faster than EvoLink the sandbox is where somebody waits for it."""


async def serve(settings: Settings) -> None:
    """Serve over stdio, with a sandbox in this process where the operator wants one.

    Raises:
        SettingInvalid: A setting names what does not exist.
    """
    async with evolink_of(settings) as aimed:
        await serve_stdio(aimed)


@asynccontextmanager
async def evolink_of(settings: Settings) -> AsyncGenerator[Settings]:
    """Yield settings that lead to EvoLink, or to a sandbox where the operator wants one."""
    if settings.sandbox:
        from evolink_mcp import sandbox  # noqa: PLC0415 - seldom needed, and heavy

        async with sandbox.serve(sandbox.Sandbox(speed=SANDBOX_SPEED)) as url:
            yield settings.aimed_at(url, key=SANDBOX_KEY)
    else:
        yield settings


async def serve_stdio(settings: Settings) -> None:
    """Serve until the host closes stdin or a signal comes.

    Raises:
        SettingInvalid: A setting names what does not exist.
    """
    stopped = anyio.Event()
    server = build_server(settings, stopped=stopped)
    async with anyio.create_task_group() as group:

        async def leave_on_signal() -> None:
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                await anext(signals)
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True), anyio.move_on_after(GRACE + 1):
                await stopped.wait()
            _leave()

        if (
            sys.platform != "win32"
        ):  # pragma: no branch - Windows hosts close stdin, no signal comes
            group.start_soon(leave_on_signal)
        await server.run_stdio_async()
        group.cancel_scope.cancel()


def _leave() -> NoReturn:
    """End the process at once: the thread that reads stdin cannot be cancelled."""
    sys.stderr.flush()
    os._exit(0)
