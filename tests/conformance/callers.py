"""Other people's clients, each buying two pictures over HTTP with a token of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from evolink_mcp.server.answers import Answer
from tests.servers import Era, Messages, answer_of
from tests.service.rooms import host_at

HERE = Path(__file__).parent

LIMIT = 60
"""Seconds for one call, with the start of the program that makes it."""


@dataclass(frozen=True)
class Bought:
    """What a client got."""

    answer: Answer
    progress: list[float] | None
    """What it was told on the way; None for a client that does not ask for it."""


Caller = Callable[[str, str, str], Awaitable[Bought]]
"""Takes the address of a service, a token and a prompt."""


async def by_python(url: str, token: str, prompt: str, *, era: Era) -> Bought:
    messages = Messages()
    async with host_at(url, token, era=era) as host:
        result = await host.call_tool(
            "generate_image", {"prompt": prompt, "n": 2}, progress_callback=messages
        )
    return Bought(answer_of(result), [progress for progress, _, _ in messages.seen])


async def by_typescript(url: str, token: str, prompt: str, *, version: str) -> Bought:
    words = ("--input-type=module", "-", url, version, token, prompt)
    run = await node(*words, given="ts_client.mjs")
    assert run.returncode == 0, run.stdout.decode()
    said: dict[str, Any] = json.loads(run.stdout)
    answer = Answer.model_validate(said["result"]["structuredContent"])
    return Bought(answer, [step["progress"] for step in said["progress"]])


async def by_inspector(url: str, token: str, prompt: str, *, era: str) -> Bought:
    # Its command line asks for no progress.
    arguments = ("--tool-arg", f"prompt={prompt}", "--tool-arg", "n=2")
    call = ("--method", "tools/call", "--tool-name", "generate_image", *arguments)
    result = await inspect(*over_http(url, token), *call, "--protocol-era", era)
    return Bought(Answer.model_validate(result["structuredContent"]), None)


CALLERS: dict[str, Caller] = {
    "python-modern": partial(by_python, era="auto"),
    "python-legacy": partial(by_python, era="legacy"),
    "typescript-modern": partial(by_typescript, version="2026-07-28"),
    "typescript-legacy": partial(by_typescript, version="legacy"),
    "inspector-modern": partial(by_inspector, era="modern"),
    "inspector-legacy": partial(by_inspector, era="legacy"),
}


def over_http(url: str, token: str) -> tuple[str, ...]:
    """Tell the Inspector where a service is."""
    header = f"Authorization: Bearer {token}"
    return ("--transport", "http", "--server-url", url, "--header", header)


async def inspect(*words: str) -> dict[str, Any]:
    """Run the Inspector and return what it printed."""
    command = ["node_modules/.bin/mcp-inspector", "--cli", *words]
    with anyio.fail_after(LIMIT):
        run = await anyio.run_process(command, cwd=packages(), check=False)
    assert run.returncode == 0, run.stderr.decode()
    printed: dict[str, Any] = json.loads(run.stdout)
    return printed


async def node(*words: str, given: str | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a program where the packages are installed; `given` is a file for its stdin."""
    stdin = (HERE / given).read_bytes() if given else None
    return await anyio.run_process(
        ["node", *words], cwd=packages(), input=stdin, stderr=subprocess.STDOUT, check=False
    )


def packages() -> str:
    """Return where `make conformance` has put what is Node's."""
    return os.environ["CONFORMANCE"]
