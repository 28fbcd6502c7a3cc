"""Ask for a picture from Python and show how it comes along.

EVOLINK_SANDBOX=1 python examples/picture.py "a red fox in the snow"    no key, no cost
EVOLINK_API_KEY=sk-... python examples/picture.py "a red fox in the snow"
"""

from __future__ import annotations

import os
import sys
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult, TextContent


def evolink() -> StdioServerParameters:
    """Say how the server is started; it gets its settings from our environment."""
    settings = {name: value for name, value in os.environ.items() if name.startswith("EVOLINK_")}
    return StdioServerParameters(command=sys.executable, args=["-m", "evolink_mcp"], env=settings)


async def show(progress: float, total: float | None, message: str | None) -> None:
    """Draw one progress notification."""
    print(f"{progress:5.1f} / {total:.0f}  {message}")


def next_call(result: CallToolResult) -> tuple[str, dict[str, Any]] | None:
    """Read from an answer how to go on, where there is something to go on with."""
    answer: dict[str, Any] = result.structured_content or {}
    call = answer.get("next_call")
    return (call["tool"], call["arguments"]) if call and not result.is_error else None


async def main(prompt: str) -> None:
    """Make a picture and print where it is."""
    async with Client(evolink()) as client:
        arguments: dict[str, Any] = {"prompt": prompt, "size": "3:2"}
        result = await client.call_tool("generate_image", arguments, progress_callback=show)
        # A task that takes longer than the call may last is a success with a task id:
        # go on waiting for it, never buy it again.
        while call := next_call(result):
            tool, arguments = call
            await anyio.sleep(1)
            result = await client.call_tool(tool, arguments, progress_callback=show)
        for block in result.content:
            if isinstance(block, TextContent):
                print(block.text)
        if result.is_error:
            sys.exit(1)


if __name__ == "__main__":
    anyio.run(main, " ".join(sys.argv[1:]) or "a red fox in the snow")
