"""MCP Inspector's command line as a host, in both eras; `make inspector` installs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread

from evolink_mcp.sandbox import Sandbox, serve
from tests.conformance.serving import serve_sandboxed

pytestmark = pytest.mark.inspector

Words = tuple[str, ...]


@pytest.fixture
async def over_stdio(tmp_path: Path) -> AsyncIterator[Words]:
    """What the Inspector is told to start our server itself."""
    async with serve(Sandbox(speed=100)) as url:
        settings = {
            "EVOLINK_BASE_URL": url,
            "EVOLINK_API_KEY": "sk-sandbox",
            "EVOLINK_OUTPUT_DIR": str(tmp_path),
            "EVOLINK_DATA_DIR": str(tmp_path / "data"),
        }
        given = [word for name, value in settings.items() for word in ("-e", f"{name}={value}")]
        yield (*given, sys.executable, "-m", "evolink_mcp")


@pytest.fixture
async def over_http(tmp_path: Path) -> AsyncIterator[Words]:
    """What the Inspector is told to find our server, which runs."""
    async with serve_sandboxed(tmp_path) as url:
        yield ("--transport", "http", "--server-url", url)


@pytest.fixture(params=["over_stdio", "over_http"])
def server(request: pytest.FixtureRequest) -> Words:
    chosen: Words = request.getfixturevalue(request.param)
    return chosen


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_the_tools_are_listed(server: Words, era: str) -> None:
    words = ("--method", "tools/list", "--protocol-era", era, "--strict")
    listed = await to_thread.run_sync(inspect, (*server, *words))
    assert [tool["name"] for tool in listed["tools"]] == [
        *("generate_image", "get_task", "list_tasks", "list_models", "get_credits")
    ]


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_pictures_are_made(server: Words, tmp_path: Path, era: str) -> None:
    call = ("--method", "tools/call", "--tool-name", "generate_image", "--protocol-era", era)
    arguments = ("--tool-arg", "prompt=a red fox", "--tool-arg", "n=2", "--tool-arg", "size=3:2")
    result = await to_thread.run_sync(inspect, (*server, *call, *arguments))
    assert result["structuredContent"]["status"] == "completed"
    assert len(result["structuredContent"]["images"]) == 2
    assert len(list(tmp_path.glob("*.png"))) == 2


def inspect(words: Words) -> dict[str, Any]:
    """Run the Inspector and return what it printed."""
    command = [os.environ["INSPECTOR"], "--cli", *words]
    run = subprocess.run(command, capture_output=True, check=True, timeout=60)
    printed: dict[str, Any] = json.loads(run.stdout)
    return printed
