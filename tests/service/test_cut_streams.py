"""Streams cut at random, and clients that ask again: no picture is bought twice, none is lost."""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import anyio
import httpx2 as httpx
import pytest

from evolink_mcp.api.network import Network
from evolink_mcp.sandbox import Sandbox
from evolink_mcp.sandbox import serve as serve_sandbox
from evolink_mcp.service import serve
from tests.servers import settings_for
from tests.service.crowd import Hurry, Told, messages_in, picture_of, quick_disk, small_pictures
from tests.service.cutting import AtMoment, Moment, Upstream, cutting
from tests.service.rooms import HERE, LIMIT, TOKEN, bearing, call, entry, write_tokens

__all__ = ["quick_disk", "small_pictures"]

logger = logging.getLogger(__name__)

CALLS = 200
AT_ONCE = 20
MOMENTS: tuple[Moment, ...] = ("request", "wait", "progress", "before", "within", "after")
CUT_SHARE = 0.6
"""Of the attempts; the others go through."""

HALF = 0.5
LONGEST_PAUSE = 0.2
"""Seconds until a `wait` is cut; a call takes about as long."""

ONE_CALL_EACH = httpx.Limits(max_connections=None, max_keepalive_connections=0)
PATIENCE = 100


@pytest.fixture
def lot() -> Random:
    seed = secrets.randbits(32)
    logger.warning("the seed of the cuts is %d", seed)
    return Random(seed)  # noqa: S311 - it only chooses where to cut


@dataclass(slots=True)
class Host:
    """A client that asks again, by a new request, until it has an answer."""

    url: str
    http: httpx.AsyncClient
    """Makes every call over a connection of its own."""
    attempts: Counter[str] = field(default_factory=Counter[str])

    async def ask(self, prompt: str) -> Told:
        while True:
            self.attempts[prompt] += 1
            try:
                return await self._try(prompt)
            except httpx.TransportError:
                continue

    async def _try(self, prompt: str) -> Told:
        """Make one call.

        Raises:
            httpx2.TransportError: It was cut.
        """
        written = bearing(TOKEN, **call("generate_image", prompt=prompt))
        number = self.attempts[prompt]
        written["json"]["id"] = f"{prompt}: {number}"
        written["json"]["params"]["_meta"]["progressToken"] = f"{prompt}: {number}"
        response = await self.http.post(self.url, **written)
        assert response.status_code == 200, response.text
        *_, last = messages_in(response)
        assert last["id"] == written["json"]["id"]
        result: Told = last["result"]
        return result


@dataclass(slots=True)
class Stage:
    """A service between two proxies that cut: one to its clients, one to EvoLink."""

    url: str
    """Of the service, past the proxy."""
    host: Host
    sandbox: Sandbox
    upstream: Upstream


@asynccontextmanager
async def staged(folder: Path, lot: Random) -> AsyncGenerator[Stage]:
    sandbox, hurry, upstream = Sandbox(speed=1000, credits=1e6), Hurry(50), Upstream(lot)
    tokens = write_tokens(folder / "tokens.toml", entry("alice", TOKEN))

    def judge() -> AtMoment:
        moment = lot.choice(MOMENTS) if lot.random() < CUT_SHARE else None
        return AtMoment(moment, lot.uniform(0, LONGEST_PAUSE), resets=lot.random() < HALF)

    async with (
        serve_sandbox(sandbox) as evolink,
        cutting(port_of(evolink), upstream.judge) as far,
    ):
        settings = settings_for(
            folder / "pictures",
            base_url=f"http://127.0.0.1:{far}",
            tokens_file=tokens,
            preview="none",
        )
        network = Network(sleep=hurry.sleep, clock=hurry.clock)
        async with (
            serve(settings, HERE, network=network) as url,
            cutting(port_of(url), judge) as near,
            httpx.AsyncClient(trust_env=False, timeout=LIMIT, limits=ONE_CALL_EACH) as http,
        ):
            host = Host(f"http://127.0.0.1:{near}/mcp", http)
            yield Stage(url.removesuffix("/mcp"), host, sandbox, upstream)


def port_of(url: str) -> int:
    port = httpx.URL(url).port
    assert port is not None
    return port


@pytest.mark.timeout(PATIENCE + 20)
@pytest.mark.usefixtures("small_pictures", "quick_disk")
async def test_whatever_is_cut_each_picture_is_bought_once_and_delivered(
    tmp_path: Path, lot: Random, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = [f"a fox, number {number}" for number in range(CALLS)]
    answers: dict[str, Told] = {}
    turns = anyio.CapacityLimiter(AT_ONCE)

    async def get(stage: Stage, prompt: str) -> None:
        async with turns:
            answers[prompt] = (await stage.host.ask(prompt))["structuredContent"]

    with anyio.fail_after(PATIENCE):
        async with staged(tmp_path, lot) as stage:
            async with anyio.create_task_group() as group:
                for prompt in prompts:
                    group.start_soon(get, stage, prompt)
            logger.warning(
                "%d attempts; %d purchases in doubt",
                stage.host.attempts.total(),
                len(stage.upstream.in_doubt),
            )
            assert stage.host.attempts.total() > CALLS * 1.2
            assert stage.upstream.purchases == Counter(prompts)
            for prompt, answer in answers.items():
                await its_picture_came(stage, prompt, answer)
            assert [record for record in caplog.records if record.exc_info] == []


async def its_picture_came(stage: Stage, prompt: str, answer: Told) -> None:
    """Only who bought while the way to EvoLink was cut has no picture, and knows that."""
    if answer["status"] != "completed":
        assert prompt in stage.upstream.in_doubt
        assert answer["error"]["code"] == "outcome_unknown"
        return
    task = stage.sandbox.tasks[answer["task_id"]]
    assert task.request.prompt == prompt
    url = httpx.URL(answer["images"][0]["download_url"])
    assert (await stage.host.http.get(stage.url + url.path)).content == picture_of(task.id)
