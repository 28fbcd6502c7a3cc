"""What a thousand generations that wait at once cost: memory, CPU, readings and progress.

One client makes the calls over stdio, each with a progress token, to our server and then to
a bare MCPServer whose tool does nothing but report progress and sleep. The servers are processes
of their own; the client shares its process with the sandbox, which counts what arrives. The
tasks never end, so nothing but the wait is measured, once all of them are bought.

Aims: at most 50 KiB a waiting job, less than half a core, at most 5 readings a second, and
never more than 10 s without a message.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from mcp import Client, StdioServerParameters
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.types import CallToolResult

from evolink_mcp.api.pace import PER_SECOND
from evolink_mcp.sandbox import Sandbox, serve
from evolink_mcp.server.progress import AT_LEAST_EVERY

CALLS = 1000
ROUNDS = 3
SETTLE = 12.0
"""Seconds from the last purchase to the measurement: the burst of readings is over then."""

SPAN = 20.0
"""Seconds of the measurement."""

PATIENCE = 180.0
"""Seconds until all calls have their first message, at most."""

AIM_KIB, AIM_CORES = 50, 0.5


def bare() -> MCPServer:
    """Make a server whose tool only reports progress and sleeps."""
    server = MCPServer("bare", version="1")

    @server.tool()
    async def wait(prompt: str, ctx: Context) -> str:
        """Wait for ever."""
        for turn in range(1_000_000):
            await ctx.report_progress(turn, 1_000_000, "waiting")
            await anyio.sleep(AT_LEAST_EVERY)
        return prompt

    return server


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used up to a moment."""

    kib: float
    """Memory that is resident."""
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What waiting calls cost their server."""

    kib_a_call: float
    cores: float
    begun: float
    """Seconds until all calls had a first message."""
    readings: float
    """Requests a second that arrived at the sandbox."""
    silence: float
    """Seconds: the longest time that any call was without a message."""


@dataclass(slots=True)
class Arrivals:
    """When the messages of one call arrived."""

    begun: anyio.Event = field(default_factory=anyio.Event)
    times: list[float] = field(default_factory=list[float])

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG002, PLR0917 - the SDK's own
        """Take a message."""
        self.times.append(time.perf_counter())
        self.begun.set()

    def longest_gap(self, since: float, until: float) -> float:
        """Return the longest time without a message, in seconds; one that began before counts."""
        before = [each for each in self.times if each < since][-1:]
        within = [each for each in self.times if since <= each <= until]
        return max(later - earlier for earlier, later in pairwise([*before, *within, until]))


def usage(pid: int) -> Usage:
    """Read what a process uses."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(words[11]) + int(words[12])
    return Usage(pages * os.sysconf("SC_PAGE_SIZE") / 1024, ticks / os.sysconf("SC_CLK_TCK"))


def children() -> Iterator[int]:
    """Return the processes that this one has started and that still run."""
    for thread in Path("/proc/self/task").iterdir():
        yield from map(int, (thread / "children").read_text().split())


@asynccontextmanager
async def connected(command: StdioServerParameters) -> AsyncGenerator[tuple[Client, int]]:
    """Connect to a server, a process of its own, and yield its number too."""
    before = set(children())
    async with Client(command) as client:
        (pid,) = set(children()) - before
        yield client, pid


def ours(url: str, folder: Path) -> StdioServerParameters:
    """Say how our server is started."""
    settings = {
        "EVOLINK_BASE_URL": url,
        "EVOLINK_API_KEY": "sk-sandbox",
        "EVOLINK_OUTPUT_DIR": str(folder / "pictures"),
        "EVOLINK_DATA_DIR": str(folder / "data"),
        "EVOLINK_LOG_LEVEL": "ERROR",
    }
    return StdioServerParameters(command=sys.executable, args=["-m", "evolink_mcp"], env=settings)


def theirs() -> StdioServerParameters:
    """Say how the bare server is started."""
    program = "from bench.waiting import bare; bare().run('stdio')"
    return StdioServerParameters(command=sys.executable, args=["-c", program])


async def cost(command: StdioServerParameters, tool: str, *, sandbox: Sandbox) -> Cost:
    """Let calls wait, and measure the server."""
    found: list[Cost] = []
    async with connected(command) as (client, pid):
        await _warm_up(client, tool)
        arrivals = [Arrivals() for _ in range(CALLS)]
        before, began = usage(pid), time.perf_counter()
        async with anyio.create_task_group() as group:
            for number, each in enumerate(arrivals):
                call = partial(client.call_tool, tool, {"prompt": f"a fox {number} [stuck]"})
                group.start_soon(_wait, call, each)
            with anyio.fail_after(PATIENCE):
                for each in arrivals:
                    await each.begun.wait()
            begun = time.perf_counter() - began
            await anyio.sleep(SETTLE)
            found.append(
                await _measure(pid, before, arrivals=arrivals, sandbox=sandbox, begun=begun)
            )
            group.cancel_scope.cancel()
    return found[0]


async def _warm_up(client: Client, tool: str) -> None:
    """Have all that is loaded at the first call loaded."""
    with anyio.move_on_after(3):
        await client.call_tool(tool, {"prompt": "a fox [slow:1]"}, progress_callback=Arrivals())


async def _wait(call: Callable[..., Awaitable[CallToolResult]], arrivals: Arrivals) -> None:
    result = await call(progress_callback=arrivals)
    raise AssertionError(result.content)


async def _measure(
    pid: int, before: Usage, *, arrivals: Sequence[Arrivals], sandbox: Sandbox, begun: float
) -> Cost:
    asked, since, first = sandbox.requests.total(), time.perf_counter(), usage(pid)
    await anyio.sleep(SPAN)
    last, until = usage(pid), time.perf_counter()
    return Cost(
        kib_a_call=(last.kib - before.kib) / CALLS,
        cores=(last.cpu_seconds - first.cpu_seconds) / (until - since),
        begun=begun,
        readings=(sandbox.requests.total() - asked) / (until - since),
        silence=max(each.longest_gap(since, until) for each in arrivals),
    )


async def measure(folder: Path) -> None:
    """Measure both by turns and print medians."""
    sandbox = Sandbox(credits=1e6)
    pairs: list[tuple[Cost, Cost]] = []
    async with serve(sandbox) as url:
        for turn in range(ROUNDS):
            mine = await cost(ours(url, folder / str(turn)), "generate_image", sandbox=sandbox)
            pairs.append((mine, await cost(theirs(), "wait", sandbox=sandbox)))
    mine, other = map(_median, zip(*pairs, strict=True))
    print(
        f"{CALLS} calls wait; medians of {ROUNDS} rounds of {SPAN:.0f} s; bare: sleeps and reports"
    )
    _print_cost("ours", mine)
    _print_cost("bare", other)
    _print_ratios("memory", mine.kib_a_call, to_bare=other.kib_a_call, to_aim=AIM_KIB)
    _print_ratios("CPU", mine.cores, to_bare=other.cores, to_aim=AIM_CORES)
    _print_ratios("silence", mine.silence, to_bare=other.silence, to_aim=AT_LEAST_EVERY)
    print(
        f"readings: {mine.readings:.2f} a second, to the limit {mine.readings / PER_SECOND:.2f};"
        f" each task is read every {CALLS / mine.readings:.0f} s"
    )


def _median(costs: Sequence[Cost]) -> Cost:
    names = [each.name for each in fields(Cost)]
    return Cost(*(statistics.median(getattr(each, name) for each in costs) for name in names))


def _print_cost(name: str, found: Cost) -> None:
    print(
        f"{name}: {found.kib_a_call:.1f} KiB a call, {found.cores:.3f} cores, silence of"
        f" {found.silence:.2f} s at most; all begun after {found.begun:.1f} s"
    )


def _print_ratios(name: str, ours: float, *, to_bare: float, to_aim: float) -> None:
    print(f"{name}: ratio to bare {ours / to_bare:.2f}, to the aim {ours / to_aim:.2f}")


def main() -> None:
    """Measure and print."""
    with TemporaryDirectory() as folder:
        anyio.run(measure, Path(folder))


if __name__ == "__main__":
    main()
