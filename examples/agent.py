"""Give an agent the power to make pictures (Pydantic AI).

pip install "pydantic-ai-slim[mcp,openai]"
EVOLINK_SANDBOX=1 OPENAI_API_KEY=... python examples/agent.py "Illustrate a haiku about snow"
"""

from __future__ import annotations

import os
import sys

import anyio
from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.models import Model

INSTRUCTIONS = "Make the pictures that the user asks for. Give the path of each picture."


def pictures() -> MCPToolset[object]:
    """Start the server over stdio; it gets its settings from our environment.

    A failed call must not be repeated by the framework on its own, for each one may
    cost credits: the model reads what happened and what to do instead.
    """
    settings = {name: value for name, value in os.environ.items() if name.startswith("EVOLINK_")}
    transport = StdioTransport(sys.executable, ["-m", "evolink_mcp"], env=settings)
    return MCPToolset(transport, tool_error_behavior="failed", max_retries=0, read_timeout=600)


async def illustrate(task: str, *, model: Model | str) -> str:
    """Let the agent work on a task and return what it says in the end."""
    agent = Agent(model, toolsets=[pictures()], instructions=INSTRUCTIONS)
    result = await agent.run(task)
    return result.output


async def main(task: str) -> None:
    """Work on the task from the command line."""
    print(await illustrate(task, model="openai:gpt-5"))


if __name__ == "__main__":
    anyio.run(main, " ".join(sys.argv[1:]) or "Draw a red fox in the snow")
