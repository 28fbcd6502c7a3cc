from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from evolink_mcp.sandbox import Sandbox, serve
from evolink_mcp.service.tokens import entry_of, new_token
from tests.conformance.callers import CALLERS
from tests.service.rooms import started, write_tokens


@dataclass
class Service:
    """The service as an operator starts it, and the sandbox behind it."""

    url: str
    tokens: dict[str, str]
    """One for each of `CALLERS`."""
    sandbox: Sandbox


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(speed=100)


@pytest.fixture
async def service(sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[Service]:
    tokens = {name: new_token() for name in CALLERS}
    entries = "\n".join(entry_of(name, token) for name, token in tokens.items())
    async with serve(sandbox) as evolink:
        settings = {
            "EVOLINK_BASE_URL": evolink,
            "EVOLINK_API_KEY": "sk-sandbox",
            "EVOLINK_OUTPUT_DIR": str(tmp_path / "pictures"),
            "EVOLINK_TOKENS_FILE": str(write_tokens(tmp_path / "tokens.toml", entries)),
        }
        async with started(settings, log=tmp_path / "log") as (_, url):
            yield Service(url, tokens, sandbox)
