"""Where our server is not the SDK's; unknown tools and media types have tests of their own."""

from __future__ import annotations

from pathlib import Path

from mcp import Client
from mcp.server import MCPServer

from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.app import App
from evolink_mcp.server.build import build_server
from tests.servers import Era, network_of, settings_for


async def test_what_else_is_offered_can_be_called(
    sandbox: Sandbox, tmp_path: Path, era: Era
) -> None:
    async def ping_pong() -> str:
        return "pong"

    def offer(server: MCPServer[App]) -> None:
        server.tool()(ping_pong)

    server = build_server(settings_for(tmp_path), network=network_of(sandbox), offer=offer)
    async with Client(server, mode=era) as host:
        result = await host.call_tool("ping_pong", {})
    assert result.structured_content == {"result": "pong"}
