"""Where servers die: a sandbox that goes on, and what they left behind."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters

from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.answers import Entry, TaskList
from tests.pipes import initialize, request, send, started

POSTS = "POST /v1/images/generations"
CALL: Mapping[str, Any] = {"name": "generate_image", "arguments": {"prompt": "a red fox"}}
VICTIM = Path(__file__).with_name("victim.py")


@dataclass(frozen=True)
class Scene:
    sandbox: Sandbox
    url: str
    folder: Path

    @property
    def settings(self) -> dict[str, str]:
        return {
            "EVOLINK_BASE_URL": self.url,
            "EVOLINK_API_KEY": "sk-sandbox",
            "EVOLINK_OUTPUT_DIR": str(self.folder / "pictures"),
            "EVOLINK_DATA_DIR": str(self.folder / "data"),
            "EVOLINK_PREVIEW": "none",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }

    @property
    def posts(self) -> int:
        return self.sandbox.requests[POSTS]

    @property
    def pictures(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "pictures").glob("[!.]*"))

    @property
    def trail(self) -> list[str]:
        """The steps that were passed, each the first time."""
        passed = (self.folder / "trail").read_text("utf-8").splitlines()
        return list(dict.fromkeys(passed))

    def victim(
        self, *, name: str = "victim", dies_at: str = "", **more: str
    ) -> StdioServerParameters:
        """Say how the server is started that notes its steps and may die at one."""
        measured = {key: value for key, value in os.environ.items() if key.startswith("COVERAGE_")}
        told = {
            "VICTIM_NAME": name,
            "VICTIM_DIES_AT": dies_at,
            "VICTIM_TRAIL": str(self.folder / "trail"),
        }
        return StdioServerParameters(
            command=sys.executable,
            args=[str(VICTIM)],
            env={**measured, **self.settings, **told, **more},
        )

    async def die_at(self, step: str) -> list[dict[str, Any]]:
        """Let a server die in a call; return what it said before."""
        async with started({}, program=self.victim(dies_at=step)) as (server, lines):
            await send(server, initialize())
            await send(server, request(2, "tools/call", dict(CALL)))
            said = [message async for message in lines]
            assert await server.wait() == -9
        return said


async def entries_of(host: Client, **which: str) -> list[Entry]:
    result = await host.call_tool("list_tasks", {**which, "limit": 100})
    return TaskList.model_validate(result.structured_content).tasks or []


async def until_nothing_runs(host: Client) -> list[Entry]:
    """Ask again and again, without a pause, until no job is under way any more."""
    while await entries_of(host, status="running"):
        pass
    return await entries_of(host)
