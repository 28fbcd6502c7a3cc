"""From a call to its picture on disk, over stdio, against bare HTTP requests that do the same.

Both ask the same sandbox, a process of its own at high speed, by turns, at the same
cadence, with previews off. Aim: at most 25 ms added at the median.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import httpx2 as httpx
from mcp import Client, StdioServerParameters

from evolink_mcp.api.wire import read_task
from evolink_mcp.jobs.cadence import next_reading

ROUNDS = 40
SPEED = 1000
KEY = "sk-sandbox"


@contextmanager
def sandbox(speed: float) -> Generator[str]:
    """Run a sandbox as a process of its own, and yield its address."""
    words = ["sandbox", "--port", "0", "--speed", str(speed), "--credits", "1000000"]
    with subprocess.Popen(
        [sys.executable, "-m", "evolink_mcp", *words], stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        yield program.stdout.readline().removeprefix("Sandbox: ").strip()
        program.terminate()


@asynccontextmanager
async def server(url: str, folder: Path) -> AsyncGenerator[Client]:
    """Connect to our server, a process of its own."""
    settings = {
        "EVOLINK_BASE_URL": url,
        "EVOLINK_API_KEY": KEY,
        "EVOLINK_OUTPUT_DIR": str(folder / "pictures"),
        "EVOLINK_PREVIEW": "none",
    }
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "evolink_mcp"], env=settings
    )
    async with Client(command) as client:
        yield client


async def through_the_server(client: Client, prompt: str) -> float:
    """Return the seconds of one call."""
    started = time.perf_counter()
    result = await client.call_tool("generate_image", {"prompt": prompt})
    assert not result.is_error, result.content
    return time.perf_counter() - started


async def bare(http: httpx.AsyncClient, prompt: str, *, path: Path) -> float:
    """Return the seconds of the same by hand: buy, read until it is over, fetch, save."""
    started = time.perf_counter()
    bought = await http.post("/v1/images/generations", json={"prompt": prompt})
    task = read_task(bought.content)
    expected = task.estimated_seconds
    while task.status != "completed":
        elapsed = time.perf_counter() - started
        await anyio.sleep(next_reading(elapsed=elapsed, estimated=expected, progress=task.progress))
        task = read_task((await http.get(f"/v1/tasks/{task.id}")).content)
    picture = await http.get(task.links[0])
    await anyio.Path(path).write_bytes(picture.content)
    return time.perf_counter() - started


async def measure(url: str, folder: Path) -> None:
    """Measure both by turns and print."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with (
        server(url, folder) as client,
        httpx.AsyncClient(base_url=url, headers=headers) as http,
    ):
        await through_the_server(client, "warm up")
        pairs = [
            (
                await through_the_server(client, f"a fox {number}"),
                await bare(http, f"a fox {number}", path=folder / "bare.png"),
            )
            for number in range(ROUNDS)
        ]
    ours, by_hand = (statistics.median(times) for times in zip(*pairs, strict=True))
    added = statistics.median(mine - other for mine, other in pairs)
    print(f"call to picture: {ours * 1e3:.0f} ms, bare requests {by_hand * 1e3:.0f} ms")
    print(
        f"ratio {ours / by_hand:.2f}; added at the median of {ROUNDS}: {added * 1e3:.0f} ms, aim 25"
    )


def main() -> None:
    """Measure and print."""
    with sandbox(SPEED) as url, TemporaryDirectory() as folder:
        anyio.run(measure, url, Path(folder))


if __name__ == "__main__":
    main()
