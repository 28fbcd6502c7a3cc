"""The least that answers over stdio: an MCPServer with one tool."""

from __future__ import annotations

from mcp.server import MCPServer

server = MCPServer("bare", version="1")


@server.tool()
async def echo(text: str) -> str:
    """Say it again."""
    return text


if __name__ == "__main__":
    server.run("stdio")
