"""Fetching beside others: a server at work, a program that died, a network that is broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from anyio import from_thread

from evolink_mcp.api.network import Network
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.cli.fetch import collect_tasks
from evolink_mcp.errors import EvolinkError
from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.app import run_app
from evolink_mcp.settings import Settings, read_settings
from tests.cli.conftest import Terminal
from tests.servers import network_of, settings_for

FOX = ImageRequest(model="gpt-4o-image", prompt="a fox")


async def leave_behind(settings: Settings, network: Network) -> None:
    """Buy a picture and end before it is there."""
    async with run_app(settings, network) as app:
        bought = await (await app.connected()).watchers.buy(FOX, budget=app.budget(FOX))
        await bought.watch.bought()


@pytest.mark.usefixtures("box")
def test_what_an_ended_program_has_left_is_fetched_by_a_command(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EVOLINK_OUTPUT_DIR", str(tmp_path / "out"))
    with from_thread.start_blocking_portal() as portal:
        portal.call(leave_behind, read_settings(), Network())
    assert "  running  " in terminal.run("tasks").out
    ended = subprocess.run(
        [sys.executable, "-m", "evolink_mcp", "tasks", "collect"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    [picture] = (tmp_path / "out").glob("*.png")
    assert (ended.returncode, ended.stdout) == (0, f"{picture}\n")
    assert f"{picture.stem[:-2]}: " in ended.stderr


async def test_beside_a_server_that_works_on_it_nothing_is_fetched_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, sandbox = settings_for(tmp_path), Sandbox(speed=200)
    async with run_app(settings, network_of(sandbox)) as server:
        bought = await (await server.connected()).watchers.buy(FOX, budget=server.budget(FOX))
        with anyio.fail_after(20):
            await collect_tasks(settings, network_of(sandbox))
    [path] = tmp_path.glob("*.png")
    assert capsys.readouterr().out == f"{path}\n"
    assert path.name == f"{bought.watch.job.task_id}-1.png"
    assert sandbox.requests["GET /files"] == 1


async def test_a_network_that_cannot_be_set_up_is_one_clear_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(tmp_path)
    await leave_behind(settings, network_of(Sandbox()))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
    with pytest.raises(EvolinkError, match="No connection can be set up"):
        await collect_tasks(settings, Network())
