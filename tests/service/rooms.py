"""The service for tests: over ASGI with a sandbox for EvoLink, or as a process."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Any, TypeVar

import anyio
import httpx2 as httpx
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from evolink_mcp.api.network import Network
from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.links import Links
from evolink_mcp.service.address import Address, read_address
from evolink_mcp.service.identities import open_identities
from evolink_mcp.service.web import build_web
from evolink_mcp.settings import Settings
from tests.servers import Era, network_of, process

ANYWHERE = "0.0.0.0:0"

LIMIT = 30
"""Seconds after which a test is taken to hang."""

Found = TypeVar("Found")

HELLO = "Serving MCP at "

TOKEN = "evm_" + "a" * 43
OTHER = "evm_" + "b" * 43

HERE = read_address("127.0.0.1:0")
URL = "http://127.0.0.1:8080"


def entry(name: str, token: str, **limits: object) -> str:
    lines = [f"[{name}]", f'sha256 = "{hashlib.sha256(token.encode()).hexdigest()}"']
    return "\n".join([*lines, *(f"{key} = {value}" for key, value in limits.items()), ""])


def write_tokens(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


async def apart(work: Callable[[], Awaitable[Found]]) -> Found:
    """Do something in a task of its own, as a server does with a request.

    Where an exception is thrown into a task, Python 3.11 stops tracing the frames that it passes
    by, and coverage would miss the rest of a test.
    """
    found: list[Found] = []

    async def run() -> None:
        found.append(await work())

    async with anyio.create_task_group() as group:
        group.start_soon(run)
    return found[0]


class ApartTransport(httpx.AsyncBaseTransport):
    """Answers each request in a task of its own."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await apart(partial(self._inner.handle_async_request, request))


@asynccontextmanager
async def served(
    settings: Settings,
    *,
    sandbox: Sandbox | None = None,
    network: Network | None = None,
    address: Address = HERE,
    peer: str = "127.0.0.1",
    links: Links | None = None,
) -> AsyncGenerator[httpx.AsyncClient]:
    """Run the application without a socket."""
    world = network or network_of(sandbox or Sandbox(speed=1000))
    identities = await open_identities(settings, world)
    web = build_web(settings, address, network=world, identities=identities, links=links)
    transport = ApartTransport(httpx.ASGITransport(app=web, client=(peer, 5000)))
    with anyio.fail_after(LIMIT):
        async with (
            web.router.lifespan_context(web),
            httpx.AsyncClient(transport=transport, base_url=URL) as http,
        ):
            yield http


def call(name: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - any argument
    """Write a request of 2026-07-28."""
    meta: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params: dict[str, Any] = {"name": name, "arguments": arguments, "_meta": meta}
    body: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": name,
    }
    return {"json": body, "headers": headers}


def bearing(token: str, **request: Any) -> dict[str, Any]:  # noqa: ANN401 - what httpx takes
    headers = {**request.get("headers", {}), "authorization": f"Bearer {token}"}
    return {**request, "headers": headers}


@asynccontextmanager
async def started(
    settings: Mapping[str, str],
    *words: str,
    log: Path,
    address: str = "127.0.0.1:0",
    program: Sequence[str] = (),
) -> AsyncGenerator[tuple[Process, str]]:
    """Start the service as a process, and hand out its URL."""
    given = process(settings)
    command = [given.command, *(program or given.args), "serve", "--http", address, *words]
    with anyio.fail_after(LIMIT):
        async with await anyio.open_process(command, env=given.env, stderr=PIPE) as running:
            assert running.stderr is not None
            stream = BufferedByteReceiveStream(running.stderr)
            first = ""
            while not first.startswith(HELLO):
                first = (await stream.receive_until(b"\n", 10_000)).decode()
            async with anyio.create_task_group() as group:
                group.start_soon(_copy, stream, log)
                try:
                    yield running, first.removeprefix(HELLO).split()[0]
                finally:
                    with suppress(ProcessLookupError):  # it has ended
                        running.terminate()
                await running.wait()


async def _copy(stream: BufferedByteReceiveStream, log: Path) -> None:
    with suppress(anyio.EndOfStream):
        while True:
            text = await stream.receive()
            async with await anyio.open_file(log, "ab") as file:
                await file.write(text)


@asynccontextmanager
async def host_at(url: str, token: str, *, era: Era = "auto") -> AsyncGenerator[Client]:
    """Connect the SDK's client, as a host over HTTP would."""
    headers = {"authorization": f"Bearer {token}"}
    async with (
        httpx.AsyncClient(headers=headers, timeout=LIMIT, trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http), mode=era) as client,
    ):
        yield client
