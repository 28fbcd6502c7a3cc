from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from evolink_mcp.sandbox import Sandbox, serve
from tests.recovery.door import Arrivals, Door
from tests.recovery.scene import Scene


@pytest.fixture
def arrivals() -> Arrivals:
    """What is done when requests arrive: nothing, unless a test says so."""
    return Arrivals()


@pytest.fixture
async def scene(tmp_path: Path, arrivals: Arrivals) -> AsyncIterator[Scene]:
    """A sandbox on a socket, and folders that processes share."""
    sandbox = Sandbox(speed=500)
    sandbox.app.add_middleware(Door, arrivals=arrivals)
    async with serve(sandbox) as url:
        yield Scene(sandbox, url, tmp_path)
