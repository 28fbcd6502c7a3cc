"""MCP Inspector's command line as a host, over stdio and HTTP, in both eras."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from evolink_mcp.sandbox import Sandbox, serve
from tests.conformance.callers import LIMIT, inspect, over_http
from tests.conformance.conftest import Service

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(2 * LIMIT)]

ERAS = pytest.mark.parametrize("era", ["legacy", "modern"])

LIST = ("--method", "tools/list", "--strict")

BUY = (
    *("--method", "tools/call", "--tool-name", "generate_image", "--tool-arg", "prompt=a red fox"),
    *("--tool-arg", "n=2", "--tool-arg", "size=3:2"),
)

TOOLS = ["generate_image", "get_task", "list_tasks", "list_models", "get_credits"]


@ERAS
async def test_over_http_the_tools_are_listed_and_portable(service: Service, era: str) -> None:
    where = over_http(service.url, service.tokens["inspector-modern"])
    listed = await inspect(*where, *LIST, "--protocol-era", era)
    assert [tool["name"] for tool in listed["tools"]] == [*TOOLS, "upload_link"]


@ERAS
async def test_over_stdio_the_server_is_started_and_makes_pictures(
    tmp_path: Path, era: str
) -> None:
    async with serve(Sandbox(speed=100)) as url:
        settings = {
            "EVOLINK_BASE_URL": url,
            "EVOLINK_API_KEY": "sk-sandbox",
            "EVOLINK_OUTPUT_DIR": str(tmp_path),
            "EVOLINK_DATA_DIR": str(tmp_path / "data"),
        }
        given = [word for name, value in settings.items() for word in ("-e", f"{name}={value}")]
        server = (*given, sys.executable, "-m", "evolink_mcp")
        listed = await inspect(*server, *LIST, "--protocol-era", era)
        result = await inspect(*server, *BUY, "--protocol-era", era)
    assert [tool["name"] for tool in listed["tools"]] == TOOLS
    assert result["structuredContent"]["status"] == "completed"
    assert len(result["structuredContent"]["images"]) == 2
    assert len(list(tmp_path.glob("*.png"))) == 2
