"""The service as everybody gets it, and the conformance suite's fixtures on top.

Settings come from the environment, as ever. It prints its address once it listens, and ends
with SIGTERM or SIGINT:

    EVOLINK_DATA_DIR=/tmp/data python -m tests.conformance.profile [PORT]
"""

from __future__ import annotations

import signal
import sys

import anyio

from evolink_mcp import service
from evolink_mcp.settings import read_settings
from tests.conformance.fixtures import add_fixtures


async def main(port: int) -> None:
    """Serve until a signal comes."""
    address = service.read_address(f"127.0.0.1:{port}")
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with service.serve(read_settings(), address, offer=add_fixtures) as url:
            sys.stdout.write(f"{url}\n")
            sys.stdout.flush()
            await anext(signals)


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]) if sys.argv[1:] else 0)
