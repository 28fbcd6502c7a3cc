from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2 as httpx
import pytest

from evolink_mcp.sandbox import Sandbox
from tests.sandbox.desk import BASE_URL, Clock, Desk


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def desk(clock: Clock) -> AsyncIterator[Desk]:
    sandbox = Sandbox(now=clock, sleep=clock.sleep)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=sandbox.app),
        base_url=BASE_URL,
        headers={"authorization": "Bearer sk-sandbox"},
    ) as http:
        yield Desk(sandbox, clock, http)
