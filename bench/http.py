"""Calls over HTTP, against a bare MCPServer whose tools do the same, by turns in the same run.

The trivial call is `upload_link`, against a tool that returns the same and does nothing;
`list_tasks`, which reads the record of jobs, stands against one whose list is always there;
`generate_image` against one that buys, reads until it is over, fetches and saves, with httpx and
nothing else. Ours asks for a token and keeps its promises: a journal, pictures that were looked
through and are synced to the disk. Previews are off.

Both are processes of their own in the same uvicorn with the same settings, stateless, and speak
MCP 2026-07-28. So is the sandbox, in which every task takes the same time, and whose picture is
drawn once. The clients write and read bare bytes, each over a connection of its own: the machine
is to be the servers', not theirs. Readings of all tasks of a key are limited in the long run; the
rounds of generations stay within the burst, and ours rests until it is there again.

Generations take 30 s, which is quick for a model. Beside them stand some of 40 ms, where all that
is left is the work that ours does for its promises.

Aim: at least 0.8 of the bare server's calls a second for the trivial call and for generations of
30 s, with one client and with 16 at once.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import httpx2 as httpx
import uvicorn
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp.server import MCPServer
from pydantic import BaseModel

from bench.roundtrip import KEY, SAME_TIME, SPEED, bare
from evolink_mcp.api.pace import PER_SECOND
from evolink_mcp.sandbox import Sandbox, outcomes, serve
from evolink_mcp.sandbox.drawing.draw import draw_picture
from evolink_mcp.service.tokens import entry_of, new_token

CLIENTS = (1, 16)
ROUNDS = 9

CALLS = 480
"""Trivial calls of a round, over all clients."""

GENERATIONS = 32
"""Generations of 40 ms in a round; each is read once, or twice where the machine is slow."""

USUAL_TIME = "[slow:30000]"
"""Makes a task take 30 s."""

USUAL_ROUNDS = 2

LISTED = 5
"""Tasks in a list."""

REST = 2 * GENERATIONS / PER_SECOND
"""Seconds between two rounds of ours, after which the burst is there again."""

AIM = 0.8

Bodies = Callable[[], dict[str, Any]]
"""Makes the parameters of one tool call after the other."""


class Listed(BaseModel):
    """What the bare list holds of a task."""

    status: str
    job_id: str
    task_id: str
    created: str
    model: str
    prompt: str
    n: int
    credits: float


class Link(BaseModel):
    """The bare answer to the trivial call."""

    upload_url: str
    handle: str
    expires_at: str


class Tasks(BaseModel):
    """The bare list."""

    tasks: list[Listed]
    spent_today: float


def make_bare(url: str, folder: Path) -> MCPServer:
    """Make a server that does the same, in the simplest way."""
    server, numbers = MCPServer("bare", version="1", log_level="WARNING"), count()
    http = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {KEY}"})
    entry = Listed(
        status="completed",
        job_id=f"run_{'0' * 32}",
        task_id="task-unified-1757156493-imcg5zqt",
        created="2026-11-24T10:00+00:00",
        model="gpt-4o-image",
        prompt="a fox in the snow",
        n=1,
        credits=2.5,
    )

    link = Link(
        upload_url=f"http://127.0.0.1:8080/uploads/evup_{'A' * 96}",
        handle=f"evolink://uploads/{'0' * 32}",
        expires_at="2026-11-24T10:00:00+00:00",
    )

    @server.tool()
    async def upload_link() -> Link:
        """Return a link."""
        return link

    @server.tool()
    async def list_tasks(limit: int = LISTED) -> Tasks:
        """List tasks."""
        return Tasks(tasks=[entry] * limit, spent_today=2.5 * limit)

    @server.tool()
    async def generate_image(prompt: str) -> str:
        """Make a picture."""
        path = folder / f"{next(numbers)}.png"
        await bare(http, prompt, path=path, durable=False)
        return str(path)

    return server


def serve_bare(url: str, folder: str) -> None:
    """Serve the bare server as ours is served; uvicorn logs where."""
    web = make_bare(url, Path(folder)).streamable_http_app(stateless_http=True)
    uvicorn.run(web, port=0, http="h11", ws="none", access_log=False)


def serve_sandbox() -> None:
    """Serve a sandbox that draws one picture for all, and print where."""
    picture = cache(partial(draw_picture, "a fox in the snow"))

    def draw(_: str, *, width: int, height: int, **__: object) -> bytes:
        return picture(width=width, height=height)

    setattr(outcomes, draw_picture.__name__, draw)

    async def run() -> None:
        async with serve(Sandbox(speed=SPEED, credits=1e6)) as url:
            print(url, flush=True)
            await anyio.sleep_forever()

    anyio.run(run)


@dataclass(slots=True)
class Rounds:
    """What was measured of one server with so many clients."""

    rates: list[float] = field(default_factory=list[float])
    """Calls a second, by round."""
    seconds: list[float] = field(default_factory=list[float])
    """Of each call."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where to call, and as whom."""

    url: httpx.URL
    token: str = ""

    def request(self, params: dict[str, Any]) -> bytes:
        """Write a tool call as it goes over the wire."""
        meta: dict[str, Any] = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
        body = json.dumps({**message, "params": {**params, "_meta": meta}}).encode()
        lines = [
            "POST /mcp HTTP/1.1",
            f"host: 127.0.0.1:{self.url.port}",
            "accept: application/json, text/event-stream",
            "content-type: application/json",
            f"content-length: {len(body)}",
            "mcp-protocol-version: 2026-07-28",
            "mcp-method: tools/call",
            f"mcp-name: {params['name']}",
            f"authorization: Bearer {self.token}",
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body

    async def measure(self, rounds: Rounds, bodies: Bodies, *, calls: int, clients: int) -> None:
        """Make calls, as many at once as there are clients."""
        began = time.perf_counter()
        async with anyio.create_task_group() as group:
            for _ in range(clients):
                group.start_soon(self._call, rounds, bodies, calls // clients)
        rounds.rates.append(calls / (time.perf_counter() - began))

    async def _call(self, rounds: Rounds, bodies: Bodies, times: int) -> None:  # noqa: PLR0917 - a task's arguments
        """Make calls one after the other, over one connection."""
        assert self.url.port is not None
        async with await anyio.connect_tcp("127.0.0.1", self.url.port) as stream:
            answers = BufferedByteReceiveStream(stream)
            for _ in range(times):
                request = self.request(bodies())
                began = time.perf_counter()
                await stream.send(request)
                await _read_answer(answers)
                rounds.seconds.append(time.perf_counter() - began)


async def _read_stream(answers: BufferedByteReceiveStream) -> bytes:
    """Read what became a stream after a while without a word; its one event is the answer."""
    chunks = b""
    while (size := int(await answers.receive_until(b"\r\n", 20), 16)) > 0:
        chunks += await answers.receive_exactly(size)
        await answers.receive_exactly(2)
    await answers.receive_exactly(2)
    return chunks.partition(b"data: ")[2].strip()


async def _read_answer(answers: BufferedByteReceiveStream) -> None:
    head = (await answers.receive_until(b"\r\n\r\n", 10_000)).decode()
    status, *lines = head.lower().split("\r\n")
    lengths = [line.partition(":")[2] for line in lines if line.startswith("content-length:")]
    body = await (answers.receive_exactly(int(lengths[0])) if lengths else _read_stream(answers))
    answer = json.loads(body)
    assert " 200 " in status, answer
    assert not answer["result"].get("isError"), answer


def linking() -> dict[str, Any]:
    """Ask for a link."""
    return {"name": "upload_link", "arguments": {}}


def listing() -> dict[str, Any]:
    """Ask for a list."""
    return {"name": "list_tasks", "arguments": {"limit": LISTED}}


def buying(duration: str) -> Bodies:
    """Buy other pictures each time, which take so long."""
    numbers = count()

    def body() -> dict[str, Any]:
        prompt = f"a fox {time.time_ns()}-{next(numbers)} {duration}"
        return {"name": "generate_image", "arguments": {"prompt": prompt}}

    return body


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked of both servers."""

    bodies: Bodies
    calls: int
    """Of a round, over all clients; 0 for one of each client."""
    rounds: int = ROUNDS
    rest: float = 0.0
    """Seconds between two rounds of the same server."""


async def compare(servers: Sequence[Server], load: Load) -> None:
    """Measure both servers by turns, and print."""
    for clients in CLIENTS:
        found = [Rounds(), Rounds()]
        for turn in range(-1, load.rounds):
            rested = anyio.current_time() + load.rest
            for server, rounds in zip(servers, found, strict=True):
                into = rounds if turn >= 0 else Rounds()  # the first is to warm up
                calls = load.calls or clients
                await server.measure(into, load.bodies, calls=calls, clients=clients)
            await anyio.sleep_until(rested)
        ours, other = found
        ratio = statistics.median(
            mine / theirs for mine, theirs in zip(ours.rates, other.rates, strict=True)
        )
        print(f"  {clients:2} at once: ours {_told(ours)}; bare {_told(other)}; ratio {ratio:.2f}")


def _told(rounds: Rounds) -> str:
    hundredths = statistics.quantiles(rounds.seconds, n=100)
    return (
        f"{statistics.median(rounds.rates):.3g} a second,"
        f" p50 {hundredths[49] * 1e3:.1f} ms, p99 {hundredths[98] * 1e3:.1f} ms"
    )


LOADS = {
    "trivial (upload_link)": Load(bodies=linking, calls=CALLS),
    "generations of 30 s": Load(bodies=buying(USUAL_TIME), calls=0, rounds=USUAL_ROUNDS),
    "generations of 40 ms": Load(bodies=buying(SAME_TIME), calls=GENERATIONS, rest=REST),
    "list_tasks": Load(bodies=listing, calls=CALLS),
}


@contextmanager
def running(*command: str, env: dict[str, str] | None = None) -> Generator[str]:
    """Run a program that says where it serves."""
    with subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
    ) as program:
        assert program.stdout is not None
        words = (word for line in program.stdout for word in line.split())
        yield next(word for word in words if word.startswith("http://"))
        program.terminate()


def _ours(url: str, folder: Path, *, token: str) -> dict[str, str]:
    tokens = folder / "tokens.toml"
    tokens.write_text(entry_of("bench", token))
    tokens.chmod(0o600)
    return {
        "EVOLINK_BASE_URL": url,
        "EVOLINK_API_KEY": KEY,
        "EVOLINK_OUTPUT_DIR": str(folder / "ours"),
        "EVOLINK_DATA_DIR": str(folder / "data"),
        "EVOLINK_TOKENS_FILE": str(tokens),
        "EVOLINK_PREVIEW": "none",
    }


def main() -> None:
    """Measure and print."""
    token = new_token()
    with TemporaryDirectory() as given, ExitStack() as stack:
        folder = Path(given)
        (folder / "bare").mkdir()
        url = stack.enter_context(running("-c", "from bench.http import *; serve_sandbox()"))
        serving = ("-m", "evolink_mcp", "serve", "--http", "127.0.0.1:0")
        ours = stack.enter_context(running(*serving, env=_ours(url, folder, token=token)))
        program = f"from bench.http import *; serve_bare({url!r}, {str(folder / 'bare')!r})"
        other = stack.enter_context(running("-c", program))
        servers = (Server(httpx.URL(ours), token), Server(httpx.URL(other)))
        print(f"over HTTP, by turns, medians of {ROUNDS} rounds; aim: a ratio of {AIM} at least")
        for what, load in LOADS.items():
            print(f"{what}:")
            anyio.run(compare, servers, load)


if __name__ == "__main__":
    main()
