"""What all tests stand on: one event loop, no blocking call in it, pictures drawn in no time."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import pytest
from blockbuster import BlockBuster

from evolink_mcp.sandbox.drawing import draw

import_module("evolink_mcp.server.calls")  # a server does it at its first call

SMOOTH = draw.SUPERSAMPLING


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_blocking_in_the_event_loop() -> Iterator[None]:
    # At a terminal one person waits for one thing: printing may take its time there.
    guard = BlockBuster(scanned_modules=["evolink_mcp"], excluded_modules=["evolink_mcp.cli"])
    # Small files of the package, read once when something is built.
    reading = guard.functions["io.TextIOWrapper.read"]
    reading.can_block_in("spec.py", {"load_models"})
    reading.can_block_in("service/uploads.py", {"__post_init__"})
    reading.can_block_in("hosts.py", {"load_hosts"})
    reading.can_block_in("httpcore2/__init__.py", {"<module>"})
    guard.functions["threading.Lock.acquire"].can_block_in("coverage/collector.py", {"lock_data"})
    guard.activate()
    yield
    guard.deactivate()


@pytest.fixture(autouse=True)
def rough_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sandbox draw in an eighth of its time; few tests look at what is in a picture."""
    monkeypatch.setattr(draw, "SUPERSAMPLING", 1)


@pytest.fixture
def smooth_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sandbox draw as it does for people; such files are three times as large."""
    monkeypatch.setattr(draw, "SUPERSAMPLING", SMOOTH)
