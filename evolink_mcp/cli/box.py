"""The sandbox as a program of its own."""

from __future__ import annotations

import signal
from contextlib import AsyncExitStack

import anyio
import click

from evolink_mcp.errors import SettingInvalid
from evolink_mcp.sandbox import Sandbox, serve


async def run_sandbox(port: int, *, speed: float, balance: float, key: str) -> None:
    """Serve until a signal comes.

    Raises:
        SettingInvalid: The port cannot be had.
    """
    box = Sandbox(key=key, speed=speed, credits=balance)
    async with AsyncExitStack() as stack:
        try:
            url = await stack.enter_async_context(serve(box, port=port))
        except OSError as error:
            reason = (error.strerror or type(error).__name__).partition(" (")[0]
            raise _port_unusable(port, reason=reason) from error
        _say_hello(url, key=key)
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            await anext(signals)


def _say_hello(url: str, *, key: str) -> None:
    click.echo(f"Sandbox: {url}")
    click.echo(f"Use it: EVOLINK_BASE_URL={url} EVOLINK_API_KEY={key} evolink-mcp")
    click.echo(f"Faults on request, and more: {url}/   (Ctrl-C ends it)")


def _port_unusable(port: int, *, reason: str) -> SettingInvalid:
    return SettingInvalid(
        setting="--port",
        message=f"Port {port} cannot be used ({reason}).",
        next_step="Choose another one with --port; 0 takes any free one.",
    )
