"""What the tests of the API share: a client over any transport, and servers that misbehave."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import anyio.abc
import anyio.lowlevel
import httpx2 as httpx

from evolink_mcp.api.client import EvolinkApi, connect
from evolink_mcp.api.network import Network
from evolink_mcp.catalog.request import ImageRequest
from tests.sandbox.desk import BASE_URL, Clock

KEY = "sk-sandbox"
JOB = "run_0123456789abcdef0123456789abcdef"
TASK = b'{"id": "task-unified-1", "status": "pending"}'

Answer = Callable[[anyio.abc.ByteStream], Awaitable[None]]
"""Goes on with a connection whose first request has been read."""


def wanted(prompt: str = "a fox") -> ImageRequest:
    return ImageRequest(model="gpt-4o-image", prompt=prompt)


@asynccontextmanager
async def api_over(
    transport: httpx.AsyncBaseTransport | None,
    *,
    clock: Clock | None = None,
    base_url: str = BASE_URL,
) -> AsyncGenerator[EvolinkApi]:
    """Open a client; pauses pass at once."""
    clock = clock or Clock()
    network = Network(transport=transport, tls=False, sleep=clock.sleep, clock=clock)
    async with connect(base_url, key=KEY, network=network) as api:
        yield api


def answering(
    content: bytes = TASK, *, status: int = 200, headers: dict[str, str] | None = None
) -> httpx.MockTransport:
    """Answer every request alike."""
    return httpx.MockTransport(
        lambda _: httpx.Response(status, headers=headers, stream=Pieces([content]))
    )


@dataclass
class Pieces(httpx.AsyncByteStream):
    """A body in pieces; for ever, if the last one is to be `repeated`. Counts what was taken."""

    pieces: list[bytes]
    repeated: bool = False
    taken: int = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            self.taken += 1
            yield piece
        while self.repeated:
            self.taken += 1
            await anyio.lowlevel.checkpoint()
            yield self.pieces[-1]


@dataclass
class Connections:
    """A server on a real socket, and how many connections it took."""

    url: str = ""
    count: int = 0
    requests: list[bytes] = field(default_factory=list[bytes])


@asynccontextmanager
async def listening(answer: Answer) -> AsyncGenerator[Connections]:
    """Hand every connection, after its first request, to `answer`, and close it then."""
    seen = Connections()

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            seen.count += 1
            seen.requests.append(await stream.receive())
            await answer(stream)

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as group,
    ):
        seen.url = f"http://127.0.0.1:{port_of(listener)}"
        group.start_soon(listener.serve, serve)
        yield seen
        group.cancel_scope.cancel()


def port_of(listener: anyio.abc.Listener[anyio.abc.SocketStream]) -> int:
    return listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - anyio's, not Django's


def http_answer(body: bytes, *, length: int | None = None) -> bytes:
    """Write an answer that promises to keep the connection."""
    size = len(body) if length is None else length
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n%b" % (
        size,
        body,
    )
