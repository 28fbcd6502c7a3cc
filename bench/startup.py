"""From the start of the process to the first answer over stdio, against a bare MCPServer.

Both are started by turns, so that whatever else the machine does falls on both.
Aim: a ratio of at most 1.15.
"""

from __future__ import annotations

import compileall
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import bench
import evolink_mcp

ROUNDS = 21

OURS = ("evolink_mcp",)
BARE = ("bench.bare",)

_HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "bench", "version": "1"},
    },
}


def first_answer(module: Sequence[str]) -> float:
    """Return the seconds until a server has answered `initialize`."""
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", *module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(_HELLO) + "\n")
        server.stdin.flush()
        answer = server.stdout.readline()
        seconds = time.perf_counter() - started
        assert json.loads(answer)["id"] == 1
        server.stdin.close()
        server.wait()
    return seconds


def main() -> None:
    """Measure and print."""
    for package in (evolink_mcp, bench):
        compileall.compile_dir(Path(package.__file__ or "").parent, quiet=1)
    for module in (OURS, BARE):  # both are in the file cache from here on
        first_answer(module)
    pairs = [(first_answer(OURS), first_answer(BARE)) for _ in range(ROUNDS)]
    ours, bare = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(mine / other for mine, other in pairs)
    print(f"start to first answer: {ours * 1e3:.0f} ms, bare MCPServer {bare * 1e3:.0f} ms")
    print(f"ratio (median of {ROUNDS} pairs): {ratio:.2f}, aim: at most 1.15")


if __name__ == "__main__":
    main()
