"""How long a call waits: below the limit of each host, and never longer than the operator says."""

from __future__ import annotations

from pathlib import Path

import pytest

from evolink_mcp.server.hosts import Patience, load_hosts
from tests.servers import settings_for

LONGEST = 600.0
UNKNOWN = 45.0


@pytest.fixture
def patience(tmp_path: Path) -> Patience:
    return Patience(load_hosts(), settings_for(tmp_path))


@pytest.mark.parametrize(
    ("name", "without_token", "with_token"),
    [
        ("claude-code", LONGEST, LONGEST),
        ("claude-ai", 40, 40),
        ("Visual Studio Code", 270, 270),
        ("Visual Studio Code - Insiders", 270, 270),
        ("cursor-vscode", 54, 54),
        ("codex-mcp-client", 270, 270),
        ("gemini-cli-mcp-client", 540, 540),
        ("Cline", 54, 54),
        ("opencode", 54, 54),
        ("inspector-cli", 54, LONGEST),
        ("somebody-s-own-host", UNKNOWN, LONGEST),
        ("", UNKNOWN, LONGEST),
    ],
)
def test_a_call_is_answered_before_its_host_cuts_it_off(
    patience: Patience, name: str, without_token: float, with_token: float
) -> None:
    assert patience.limit(name, has_token=False, asked=None) == without_token
    assert patience.limit(name, has_token=True, asked=None) == with_token


@pytest.mark.parametrize(("asked", "waits"), [(0, 0), (10, 10), (1000, 40)])
def test_a_caller_can_only_ask_for_less(patience: Patience, asked: float, waits: float) -> None:
    assert patience.limit("claude-ai", has_token=True, asked=asked) == waits


def test_the_operator_has_the_last_word(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, wait_seconds=7, max_wait_seconds=30)
    patience = Patience(load_hosts(), settings)
    assert patience.limit("unheard-of", has_token=False, asked=None) == 7
    assert patience.limit("unheard-of", has_token=True, asked=None) == 30
    assert patience.limit("claude-code", has_token=True, asked=100) == 30


def test_every_entry_of_the_table_is_written_in_lower_case() -> None:
    hosts = load_hosts()
    assert [name for name in hosts if name != name.lower()] == []
    assert all(host.call_seconds > 5 for host in hosts.values())
