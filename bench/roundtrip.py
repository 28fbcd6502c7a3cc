"""From a call to its picture on disk, over stdio, against bare HTTP requests that do the same.

Both ask the same sandbox, a process of its own at high speed, by turns, at the same
cadence, with previews off; every task takes the same time. The server keeps a journal and
syncs the picture to the disk; bare requests are measured twice, as most people write them
and with a sync of the picture. Aim: at most 25 ms added to the former, at the median.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import httpx2 as httpx
from anyio import to_thread
from mcp import Client, StdioServerParameters

from evolink_mcp.api.wire import read_task
from evolink_mcp.jobs.cadence import next_reading

ROUNDS = 42
SPEED = 1000
KEY = "sk-sandbox"
SAME_TIME = "[slow:40]"
"""Makes a task take 40 ms, so that its end is found at the first reading by all."""


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
        "EVOLINK_DATA_DIR": str(folder / "data"),
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


async def bare(http: httpx.AsyncClient, prompt: str, *, path: Path, durable: bool) -> float:
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
    if durable:
        await to_thread.run_sync(_sync, path)
    return time.perf_counter() - started


def _sync(path: Path) -> None:
    with path.open("rb") as picture:
        os.fsync(picture.fileno())


async def measure(url: str, folder: Path) -> None:
    """Measure all by turns and print."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with (
        server(url, folder) as client,
        httpx.AsyncClient(base_url=url, headers=headers) as http,
    ):
        await through_the_server(client, "warm up")
        rounds = [
            await _one_round(client, http, number=number, folder=folder) for number in range(ROUNDS)
        ]
    ours, plain, durable = (statistics.median(times) * 1e3 for times in zip(*rounds, strict=True))
    print(f"call to picture: {ours:.0f} ms; bare requests {plain:.0f} ms, synced {durable:.0f} ms")
    for name, added in (
        ("bare requests", [mine - other for mine, other, _ in rounds]),
        ("bare requests, synced", [mine - other for mine, _, other in rounds]),
    ):
        median, worst = statistics.median(added), statistics.quantiles(added, n=20)[-1]
        print(
            f"added to {name} at the median of {ROUNDS}: {median * 1e3:.0f} ms"
            f" (p95 {worst * 1e3:.0f}), aim 25"
        )
    print(f"ratio {ours / plain:.2f}, to synced {ours / durable:.2f}")


async def _one_round(
    client: Client, http: httpx.AsyncClient, *, number: int, folder: Path
) -> tuple[float, ...]:
    """Do the same in each way, every round beginning with the next: nobody is always last."""
    prompt = f"a fox {number} {SAME_TIME}"
    ways = (
        partial(through_the_server, client, prompt),
        partial(bare, http, prompt, path=folder / f"{number}.png", durable=False),
        partial(bare, http, prompt, path=folder / f"{number}-synced.png", durable=True),
    )
    seconds = [0.0] * len(ways)
    for turn in range(len(ways)):
        way = (number + turn) % len(ways)
        seconds[way] = await ways[way]()
    return tuple(seconds)


def main() -> None:
    """Measure and print."""
    with sandbox(SPEED) as url, TemporaryDirectory() as folder:
        anyio.run(measure, url, Path(folder))


if __name__ == "__main__":
    main()
