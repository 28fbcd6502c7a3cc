"""Our server with the conformance suite's fixtures, over Streamable HTTP.

Settings come from the environment, as ever. It prints its address once it listens, and ends
with SIGTERM or SIGINT:

    EVOLINK_DATA_DIR=/tmp/data python -m tests.conformance.profile [PORT]
"""

from __future__ import annotations

import signal
import sys
from typing import Any

import anyio
from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult, ServerMiddleware, ServerRequestContext

from evolink_mcp.server.app import App
from evolink_mcp.server.build import Gate, build_server
from evolink_mcp.settings import Settings, read_settings
from tests.conformance.fixtures import add_fixtures
from tests.conformance.serving import serve_http


def build(settings: Settings) -> MCPServer[App]:
    """Build the server as everybody gets it, then add the fixtures."""
    server = build_server(settings, gate=Gate())
    fixtures = add_fixtures(server)
    # This one refuses every tool that the server has not been made with.
    [place] = [
        place
        for place, middleware in enumerate(server.middleware)
        if getattr(middleware, "__name__", "") == "refuse_unknown_tools"
    ]
    server.middleware[place] = _but_for(fixtures, server.middleware[place])
    return server


def _but_for(fixtures: frozenset[str], refuse: ServerMiddleware[Any]) -> ServerMiddleware[Any]:
    async def refuse_but_for(
        ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        if ctx.method == "tools/call" and (ctx.params or {}).get("name") in fixtures:
            return await call_next(ctx)
        return await refuse(ctx, call_next)

    return refuse_but_for


async def main(port: int) -> None:
    """Serve until a signal comes."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with serve_http(build(read_settings()), port=port) as url:
            sys.stdout.write(f"{url}\n")
            sys.stdout.flush()
            await anext(signals)


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]) if sys.argv[1:] else 0)
