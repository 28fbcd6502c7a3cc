"""Our server over Streamable HTTP on a loopback socket, for tests."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import uvicorn
from mcp.server import MCPServer

from evolink_mcp.sandbox import Sandbox, serve
from evolink_mcp.server.app import App
from evolink_mcp.server.build import Gate, build_server
from tests.servers import settings_for

LAST_GRACE = 3
"""Seconds until a stream that its client keeps open is cut off at the end."""


@asynccontextmanager
async def serve_sandboxed(folder: Path) -> AsyncGenerator[str]:
    """Serve what everybody gets, with a sandbox for EvoLink, and yield the address."""
    async with serve(Sandbox(speed=100)) as evolink:
        settings = settings_for(folder, base_url=evolink)
        async with serve_http(build_server(settings, gate=Gate())) as url:
            yield url


@asynccontextmanager
async def serve_http(server: MCPServer[App], *, port: int = 0) -> AsyncGenerator[str]:
    """Serve in this event loop, and yield the address; port 0 means any free one."""
    config = uvicorn.Config(
        server.streamable_http_app(),
        ws="none",
        lifespan="on",
        log_config=None,
        timeout_graceful_shutdown=LAST_GRACE,
    )
    guest = _Guest(config)
    with socket.create_server(("127.0.0.1", port)) as listener:
        async with anyio.create_task_group() as group:
            group.start_soon(guest.serve, [listener])
            await guest.ready.wait()
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
            finally:
                guest.should_exit = True


class _Guest(uvicorn.Server):
    """uvicorn in somebody else's program: it says when it listens, and leaves signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield
