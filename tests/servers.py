"""A server for tests: ours in memory or as a process, EvoLink as a sandbox."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx2 as httpx
from anyio.lowlevel import checkpoint
from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult, Implementation, TextContent

from evolink_mcp.api.network import Network
from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.answers import Answer
from evolink_mcp.server.build import build_server
from evolink_mcp.settings import Settings

BASE_URL = "https://sandbox.test"

Era = Literal["auto", "legacy"]
"""How a client opens: `auto` speaks 2026-07-28, `legacy` shakes hands."""


def settings_for(folder: Path, **changes: Any) -> Settings:  # noqa: ANN401 - any setting
    fixed = {
        "api_key": "sk-sandbox",
        "base_url": BASE_URL,
        "output_dir": folder,
        "data_dir": folder.with_name(f"{folder.name}-data"),
    }
    return Settings.model_validate({**fixed, **changes})


def network_of(sandbox: Sandbox) -> Network:
    """Put a sandbox in the place of the world."""
    return Network(transport=httpx.ASGITransport(app=sandbox.app))


@asynccontextmanager
async def host_of(
    sandbox: Sandbox,
    settings: Settings,
    *,
    era: Era = "auto",
    name: str = "test-host",
) -> AsyncGenerator[Client]:
    """Connect a host to a server in memory that has the sandbox for EvoLink."""
    server = build_server(settings, network=network_of(sandbox))
    info = Implementation(name=name, version="1")
    async with Client(server, mode=era, client_info=info) as client:
        yield client
    # Where the end cancelled something, Python 3.11 traces on only after a switch (CPython's issue
    # 106749), and coverage would miss the rest of a test.
    await checkpoint()


def process(settings: Mapping[str, str]) -> StdioServerParameters:
    """Say how our server is started as a process; its record lies beside its pictures."""
    beside = {"EVOLINK_DATA_DIR": str(Path(settings["EVOLINK_OUTPUT_DIR"]) / "data")}
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return StdioServerParameters(
        command=sys.executable, args=["-m", "evolink_mcp"], env={**measured, **beside, **settings}
    )


def answer_of(result: CallToolResult) -> Answer:
    return Answer.model_validate(result.structured_content)


def text_of(result: CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


@dataclass(slots=True)
class Messages:
    """Progress notifications as a host receives them."""

    seen: list[tuple[float, float | None, str]] = field(default_factory=list)

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        self.seen.append((progress, total, message or ""))
