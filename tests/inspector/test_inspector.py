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

pytestmark = pytest.mark.inspector


@pytest.fixture
async def sandbox_url() -> AsyncIterator[str]:
    async with serve(Sandbox(speed=100)) as url:
        yield url


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_the_tools_are_listed(sandbox_url: str, tmp_path: Path, era: str) -> None:
    words = ("--method", "tools/list", "--protocol-era", era, "--strict")
    listed = await to_thread.run_sync(inspect, sandbox_url, tmp_path, words)
    assert [tool["name"] for tool in listed["tools"]] == [
        *("generate_image", "get_task", "list_tasks")
    ]


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_picture_is_made(sandbox_url: str, tmp_path: Path, era: str) -> None:
    call = ("--method", "tools/call", "--tool-name", "generate_image", "--protocol-era", era)
    arguments = ("--tool-arg", "prompt=a red fox", "--tool-arg", "n=2", "--tool-arg", "size=3:2")
    result = await to_thread.run_sync(inspect, sandbox_url, tmp_path, (*call, *arguments))
    assert result["structuredContent"]["status"] == "completed"
    paths = [image["path"] for image in result["structuredContent"]["images"]]
    assert sorted(paths) == sorted(map(str, tmp_path.glob("*.png")))
    assert len(paths) == 2


def inspect(url: str, folder: Path, words: tuple[str, ...]) -> dict[str, Any]:
    """Run the Inspector against our server and return what it printed."""
    settings = {
        "EVOLINK_BASE_URL": url,
        "EVOLINK_API_KEY": "sk-sandbox",
        "EVOLINK_OUTPUT_DIR": str(folder),
        "EVOLINK_DATA_DIR": str(folder / "data"),
    }
    given = [word for name, value in settings.items() for word in ("-e", f"{name}={value}")]
    server = (sys.executable, "-m", "evolink_mcp")
    command = [os.environ["INSPECTOR"], "--cli", *given, *server, *words]
    run = subprocess.run(command, capture_output=True, check=True, timeout=60)
    printed: dict[str, Any] = json.loads(run.stdout)
    return printed
