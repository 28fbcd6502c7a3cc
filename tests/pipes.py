"""A server as a process, spoken to line by line."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp import StdioServerParameters

from tests.servers import process

LIMIT = 30
"""Seconds after which a test is taken to hang."""


@asynccontextmanager
async def started(
    settings: Mapping[str, str],
    *,
    log: Path | None = None,
    program: StdioServerParameters | None = None,
    limit: float = LIMIT,
) -> AsyncGenerator[tuple[Process, AsyncIterator[dict[str, Any]]]]:
    """Start the server and hand out its answers; end it with the end of its input."""
    server = program or process(settings)
    with (log or Path(os.devnull)).open("wb") as stderr, anyio.fail_after(limit):
        async with await anyio.open_process(
            [server.command, *server.args], env=server.env, stderr=stderr
        ) as running:
            yield running, answers(running)
            if running.returncode is None:
                await end(running, "EOF")


async def answers(server: Process) -> AsyncIterator[dict[str, Any]]:
    """Read the server's messages, but for the answer to `initialize`."""
    assert server.stdout is not None
    lines = BufferedByteReceiveStream(server.stdout)
    with suppress(anyio.IncompleteRead):  # it has ended
        while True:
            message = json.loads(await lines.receive_until(b"\n", 10_000_000))
            if message.get("id") != 1:
                yield message


async def send(server: Process, line: str) -> None:
    assert server.stdin is not None
    await server.stdin.send(line.encode())


async def end(server: Process, how: str | signal.Signals) -> None:
    assert server.stdin is not None
    if isinstance(how, signal.Signals):
        server.send_signal(how)
    else:
        await server.stdin.aclose()
    await server.wait()


def initialize() -> str:
    client = {"name": "test-host", "version": "1"}
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}
    return request(1, "initialize", hello)


def request(number: int, method: str, params: dict[str, Any]) -> str:
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    return json.dumps(message) + "\n"
