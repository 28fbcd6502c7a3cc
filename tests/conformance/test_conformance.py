"""The official conformance suite, and the SDKs' clients; `make conformance` gets what is Node's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp import Client

from tests.conformance.serving import serve_sandboxed
from tests.servers import Era, Messages, answer_of

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

START_SECONDS = 30
SUITE_SECONDS = 240

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(SUITE_SECONDS + 60)]

BEYOND = {
    "2025-11-25": {"server-session-lifecycle"},
    "2026-07-28": {"http-header-validation", "http-custom-header-server-validation"},
}
"""Scenarios that a revision does not count yet, and that pass all the same."""


@pytest.fixture
async def profile(tmp_path: Path) -> AsyncIterator[str]:
    """The address of our server with the suite's fixtures, in a process of its own."""
    folders = {"EVOLINK_DATA_DIR": str(tmp_path / "data"), "EVOLINK_OUTPUT_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "tests.conformance.profile"]
    async with await anyio.open_process(command, cwd=ROOT, env=folders, stderr=None) as process:
        assert process.stdout is not None
        try:
            with anyio.fail_after(START_SECONDS):
                line = await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 200)
            yield line.decode()
        finally:
            if process.returncode is None:
                process.terminate()
        assert await process.wait() == 0


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_the_suite_finds_no_failure_that_is_not_expected(
    profile: str, tmp_path: Path, revision: str
) -> None:
    results = tmp_path / "results"
    run = await suite(
        *("--url", profile, "--requirements", revision, "--output-dir", str(results)),
        *("--expected-failures", str(HERE / "expected-failures.yml")),
    )
    failures = failures_by_scenario(results)
    assert run.returncode == 0, run.stdout.decode()
    assert len(failures) > 20
    assert {name: failures[name] for name in BEYOND[revision]} == dict.fromkeys(BEYOND[revision], 0)


@pytest.mark.parametrize("version", ["legacy", "2026-07-28"])
async def test_the_typescript_client_gets_its_pictures_and_their_progress(
    tmp_path: Path, version: str
) -> None:
    async with serve_sandboxed(tmp_path) as url:
        run = await node("--input-type=module", "-", url, version, given="ts_client.mjs")
    assert run.returncode == 0, run.stdout.decode()
    said: dict[str, Any] = json.loads(run.stdout)
    assert said["result"]["structuredContent"]["status"] == "completed"
    assert len(said["result"]["structuredContent"]["images"]) == 2
    assert_rising([step["progress"] for step in said["progress"]])


@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_the_python_client_gets_its_pictures_and_their_progress(
    tmp_path: Path, era: Era
) -> None:
    messages = Messages()
    call = {"prompt": "a red fox", "n": 2}
    async with serve_sandboxed(tmp_path) as url, Client(url, mode=era) as client:
        result = await client.call_tool("generate_image", call, progress_callback=messages)
    assert answer_of(result).status == "completed"
    assert len(answer_of(result).images or ()) == 2
    assert_rising([progress for progress, _, _ in messages.seen])


def assert_rising(steps: list[float]) -> None:
    assert steps
    assert steps == sorted(set(steps))


async def suite(*words: str) -> subprocess.CompletedProcess[bytes]:
    return await node(
        "node_modules/@modelcontextprotocol/conformance/dist/index.js", "server", *words
    )


async def node(*words: str, given: str | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a program where the packages are installed."""
    stdin = (HERE / given).read_bytes() if given else None
    folder = os.environ["CONFORMANCE"]
    with anyio.fail_after(SUITE_SECONDS):
        return await anyio.run_process(
            ["node", *words], cwd=folder, input=stdin, stderr=subprocess.STDOUT, check=False
        )


def failures_by_scenario(results: Path) -> dict[str, int]:
    """Count the failed checks of every scenario that was run."""
    counted: dict[str, int] = {}
    for file in results.glob("server-*/checks.json"):
        scenario = re.sub(r"^server-|-\d{4}-\d\d-\d\dT.*$", "", file.parent.name)
        checks = json.loads(file.read_bytes())
        counted[scenario] = sum(check["status"] == "FAILURE" for check in checks)
    return counted
