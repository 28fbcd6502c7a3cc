"""The official conformance suite against the service; `make conformance` gets what is Node's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.conformance.callers import HERE, node

ROOT = HERE.parents[1]

START_SECONDS = 30
SUITE_SECONDS = 240

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(SUITE_SECONDS + 60)]

BEYOND = {
    "2025-11-25": {"json-schema-2020-12"},
    "2026-07-28": {
        "json-schema-2020-12",
        "http-header-validation",
        "http-custom-header-server-validation",
    },
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


async def suite(*words: str) -> subprocess.CompletedProcess[bytes]:
    program = "node_modules/@modelcontextprotocol/conformance/dist/index.js"
    with anyio.fail_after(SUITE_SECONDS):
        return await node(program, "server", *words)


def failures_by_scenario(results: Path) -> dict[str, int]:
    """Count the failed checks of every scenario that was run."""
    counted: dict[str, int] = {}
    for file in results.glob("server-*/checks.json"):
        scenario = re.sub(r"^server-|-\d{4}-\d\d-\d\dT.*$", "", file.parent.name)
        checks = json.loads(file.read_bytes())
        counted[scenario] = sum(check["status"] == "FAILURE" for check in checks)
    return counted
