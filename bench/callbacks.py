"""How long after a task's end its caller has the answer, with callbacks and without.

One client makes the calls over HTTP: to a server that EvoLink can call back, to the same one
without previews, and to one that EvoLink cannot call; each is a process of its own. The sandbox
shares the client's process, runs at EvoLink's own speed and leads callbacks to the server's
port, as a proxy with TLS would. Every task has the same picture, drawn beforehand: drawing takes
longer than all the rest.

Aims, with callbacks: at most 100 ms at the median, and at most 2 readings a task.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import PIPE
from tempfile import TemporaryDirectory

import anyio
import httpx2 as httpx
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from evolink_mcp.sandbox import Sandbox, serve
from evolink_mcp.sandbox.drawing import draw_picture

CALLS = 40
"""Tasks at once; they take 27 to 58 s, as the sandbox draws it."""

PROMPT = "a red fox in the snow"
KEY = "sk-sandbox"
READ = "GET /v1/tasks"
HELLO = "Serving MCP at "
PATIENCE = 180.0
"""Seconds for all calls of a run."""

AIM_SECONDS, AIM_READINGS = 0.1, 2


@dataclass(slots=True)
class Proxy(httpx.AsyncBaseTransport):
    """Leads callbacks to the port of a server."""

    http: httpx.AsyncClient
    port: int = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass a callback on."""
        path, content = request.url.raw_path.decode(), await request.aread()
        return await self.http.post(f"http://127.0.0.1:{self.port}{path}", content=content)


class OnePicture:
    """Answers with the same picture whatever result is asked for."""

    def __init__(self, app: ASGIApp, picture: bytes) -> None:
        self._app = app
        self._answer = Response(picture, media_type="image/png")

    async def __call__(  # noqa: PLR0917 - ASGI's order
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request."""
        is_result = scope.get("path", "").startswith("/files/results/")
        await (self._answer if is_result else self._app)(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run came to."""

    delays: list[float]
    """Seconds from the end of a task to its answer."""
    readings: float
    """For each task."""

    @property
    def median(self) -> float:
        """The middle delay."""
        return statistics.median(self.delays)

    @property
    def p95(self) -> float:
        """The delay that 1 in 20 passes."""
        return statistics.quantiles(self.delays, n=20)[-1]


@asynccontextmanager
async def server(url: str, folder: Path, **changes: str) -> AsyncGenerator[str]:
    """Start our server, a process of its own, and yield its address."""
    settings = {
        "EVOLINK_BASE_URL": url,
        "EVOLINK_API_KEY": KEY,
        "EVOLINK_OUTPUT_DIR": str(folder / "pictures"),
        "EVOLINK_DATA_DIR": str(folder / "data"),
        "EVOLINK_WAIT_SECONDS": str(PATIENCE),
        "EVOLINK_LOG_LEVEL": "ERROR",
        **changes,
    }
    command = [sys.executable, "-m", "evolink_mcp", "serve", "--http", "127.0.0.1:0"]
    async with await anyio.open_process(command, env=settings, stderr=PIPE) as process:
        assert process.stderr is not None
        stream = BufferedByteReceiveStream(process.stderr)
        first = (await stream.receive_until(b"\n", 10_000)).decode()
        assert first.startswith(HELLO), first
        yield first.removeprefix(HELLO).split()[0]
        process.terminate()


async def run(folder: Path, **changes: str) -> Figures:
    """Make the calls to a server with some settings, and measure."""
    answered = dict[str, float]()
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as http:
        proxy = Proxy(http)
        sandbox = Sandbox(key=KEY, credits=1e6, callback_transport=proxy)
        picture = draw_picture(PROMPT, width=1024, height=1024)
        sandbox.app.add_middleware(OnePicture, picture=picture)
        async with serve(sandbox) as url, server(url, folder, **changes) as endpoint:
            proxy.port = httpx.URL(endpoint).port or 0
            async with Client(streamable_http_client(endpoint, http_client=http)) as client:
                await _call(client, "warm up [slow:1]", answered=answered)
                answered.clear()
                before = sandbox.requests[READ]
                await _call_all(client, answered=answered)
            readings = (sandbox.requests[READ] - before) / CALLS
    return Figures([at - sandbox.tasks[name].ends for name, at in answered.items()], readings)


async def _call_all(client: Client, *, answered: dict[str, float]) -> None:
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            for number in range(CALLS):
                prompt = f"{PROMPT} {number}"
                group.start_soon(partial(_call, client, prompt, answered=answered))


async def _call(client: Client, prompt: str, *, answered: dict[str, float]) -> None:
    result = await client.call_tool("generate_image", {"prompt": prompt})
    at = time.time()
    assert result.structured_content is not None
    assert result.structured_content["status"] == "completed", result.content
    answered[result.structured_content["task_id"]] = at


async def measure(folder: Path) -> None:
    """Measure all and print."""
    public = {"EVOLINK_PUBLIC_URL": "https://mcp.example.com"}
    ours = await run(folder / "a", **public)
    unseen = await run(folder / "b", **public, EVOLINK_PREVIEW="none")
    read = await run(folder / "c")
    print(f"{CALLS} tasks at once over HTTP; seconds from the end of a task to its answer")
    for name, found in (("callbacks", ours), ("no previews", unseen), ("no callbacks", read)):
        print(
            f"{name:12} median {found.median:.3f} (p95 {found.p95:.3f}),"
            f" {found.readings:.1f} readings a task"
        )
    print(
        f"ratio to no callbacks: delay {ours.median / read.median:.2f}, readings"
        f" {ours.readings / read.readings:.2f}; to the aims: delay"
        f" {ours.median / AIM_SECONDS:.2f}, readings {ours.readings / AIM_READINGS:.2f}"
    )


def main() -> None:
    """Measure and print."""
    with TemporaryDirectory() as folder:
        anyio.run(measure, Path(folder))


if __name__ == "__main__":
    main()
