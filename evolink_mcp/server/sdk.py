"""The SDK's server, put right where it does not do what we need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mcp import MCPError
from mcp.server import MCPServer
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context
from mcp.types import INVALID_PARAMS, CallToolResult, InputRequiredResult
from pydantic import AnyUrl

from evolink_mcp.jobs.pictures import type_of
from evolink_mcp.server.app import App

_IMAGES = frozenset({"png", "jpeg", "webp", "gif", "avif", "bmp", "tiff", "heic"})


class Server(MCPServer[App]):
    """An MCP server that refuses unknown tools, and whose pictures have the type of their bytes."""

    async def call_tool(  # noqa: PLR0917 - the SDK's
        self,
        name: str,
        arguments: dict[str, Any],
        context: Context[App, Any] | None = None,
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool.

        Raises:
            MCPError: There is none of that name: the answer that the specification asks for,
                where the SDK has a tool error.
        """
        if self._tool_manager.get_tool(name) is None:
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {name[:64]}")
        return await super().call_tool(name, arguments, context)

    async def read_resource(
        self,
        uri: AnyUrl | str,
        context: Context[App, Any] | None = None,
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """Read a resource."""
        contents = await super().read_resource(uri, context)
        if isinstance(contents, InputRequiredResult):  # pragma: no cover - ours never ask
            return contents
        return [_typed(part) for part in contents]


def _typed(part: ReadResourceContents) -> ReadResourceContents:
    if not isinstance(part.content, bytes):
        return part
    kind = type_of(part.content[:64])
    media_type = f"image/{kind}" if kind in _IMAGES else "application/octet-stream"
    return ReadResourceContents(part.content, media_type, part.meta)
