from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mcp import Client

from evolink_mcp.sandbox import Sandbox
from tests.servers import Era, host_of, settings_for


@pytest.fixture
def sandbox() -> Sandbox:
    """Tasks are over in the blink of an eye."""
    return Sandbox(speed=1000)


@pytest.fixture(params=["auto", "legacy"])
def era(request: pytest.FixtureRequest) -> Era:
    chosen: Era = request.param
    return chosen


@pytest.fixture
async def host(sandbox: Sandbox, tmp_path: Path, era: Era) -> AsyncIterator[Client]:
    """A host of either era, connected to a server with default settings."""
    async with host_of(sandbox, settings_for(tmp_path), era=era) as client:
        yield client
