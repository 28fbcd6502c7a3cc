from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from evolink_mcp.cli import main
from evolink_mcp.settings import Settings


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        return self.err.splitlines()[-1]


class Terminal:
    """Runs commands as a shell would, in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfd

    @property
    def settings_are_empty(self) -> bool:
        return not any(name.startswith("EVOLINK_") for name in os.environ)

    def run(self, *words: str) -> Ended:
        self._monkeypatch.setattr(sys, "argv", ["evolink-mcp", *words])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = self._capfd.readouterr()
        return Ended(code, out, err)


@pytest.fixture
def terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Terminal]:
    """A terminal in an empty folder, at the home of a user without any setting or purchase."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"EVOLINK_{name.upper()}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home" / "data"))
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    yield Terminal(monkeypatch, capfd)
    root.level, root.handlers[:] = before


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch, terminal: Terminal) -> Iterator[str]:
    """A sandbox as a program of its own; the settings point to it."""
    with subprocess.Popen(
        [sys.executable, "-m", "evolink_mcp", "sandbox", "--port", "0", "--speed", "200"],
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        url = program.stdout.readline().removeprefix("Sandbox: ").strip()
        assert terminal.settings_are_empty
        monkeypatch.setenv("EVOLINK_BASE_URL", url)
        monkeypatch.setenv("EVOLINK_API_KEY", "sk-sandbox")
        yield url
        program.terminate()
        assert program.wait(10) == 0
