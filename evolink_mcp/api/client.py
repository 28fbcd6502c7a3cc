"""The image endpoints and the account: buy a task, read a task, ask what is left."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import quote

import anyio
import httpx2 as httpx

from evolink_mcp import __version__
from evolink_mcp.api.account import Credits, read_credits, read_models
from evolink_mcp.api.figures import Figures
from evolink_mcp.api.network import Network, Sleep
from evolink_mcp.api.pace import Pace
from evolink_mcp.api.refusals import NOTHING_THERE, Advices, is_error_body, refusal_of
from evolink_mcp.api.retry import repeat_safely
from evolink_mcp.api.wire import Task, TaskId, read_object, read_task, unreadable
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.errors import (
    AnswerLost,
    AnswerUnreadable,
    EvolinkError,
    NeverSent,
    NoUsableAnswer,
    RefusedByEvolink,
)

READ_TIMEOUT = httpx.Timeout(15.0, connect=10.0)
"""Seconds for reading a task, as EvoLink's own clients have it."""

SUBMIT_TIMEOUT = httpx.Timeout(40.0, connect=10.0)
"""Seconds for buying a task. Longer than EvoLink's clients wait (30), because giving
up early makes the outcome unknown; shorter than the hosts' shortest common limit."""

TOTAL_TIMEOUT = 45.0
"""Seconds for a whole exchange, however slowly it trickles."""

MAX_ANSWER_BYTES = 1_000_000
"""Longest answer that is read; a task is a few hundred bytes."""

_TASKS = "/v1/tasks/"

_USUAL: Advices = MappingProxyType({})
_NOT_A_TASK: Advices = MappingProxyType({"404": NOTHING_THERE})
_NOT_TOLD = (403, 404, 405)
"""Statuses of an endpoint that is not there, or not for this key."""

_Read = TypeVar("_Read")

_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
)


@dataclass(frozen=True, slots=True)
class EvolinkApi:
    """EvoLink's image endpoints with one key."""

    reads: httpx.AsyncClient
    """Safe requests; keeps connections alive."""
    purchases: httpx.AsyncClient
    """Paid requests, each on a connection of its own: one that was kept alive may be
    closed under the request, and then nobody knows whether it was taken."""
    sleep: Sleep = anyio.sleep
    pace: Pace = field(default_factory=Pace)
    """The rhythm of all readings."""
    figures: Figures = field(default_factory=Figures)
    """Counts what passes."""
    key: str = field(default="", repr=False)
    """Goes before the one of the connections, where there is one."""

    def with_key(self, key: str) -> EvolinkApi:
        """Return the same endpoints with another key, over the same connections."""
        return replace(self, key=key, pace=Pace(self.pace.sleep, self.pace.clock))

    async def submit(self, request: ImageRequest, *, idempotency_key: str) -> Task:
        """Buy a task (EvoLink docs, "gpt-4o-image"); never repeated here.

        `idempotency_key` goes along as a courtesy that nothing relies on (vendor client).

        Raises:
            RefusedByEvolink: EvoLink answered with an error.
            NoUsableAnswer: `NeverSent`, or the outcome is not known.
        """
        purchase = self.purchases.build_request(
            "POST",
            "/v1/images/generations",
            json=request.body(),
            headers={"Idempotency-Key": idempotency_key, **authorization_of(self.key)},
        )
        with self.figures.noting_errors():
            return read_task(await exchange(self.purchases, purchase, within=TOTAL_TIMEOUT))

    async def task(self, task_id: TaskId) -> Task:
        """Read a task (EvoLink docs, "Query Task Status"); repeated where that may help.

        Raises:
            RefusedByEvolink: EvoLink answered with an error.
            NoUsableAnswer: No readable answer came, in several tries.
        """

        def read(body: bytes) -> Task:
            task = read_task(body)
            if task.id != task_id:
                raise unreadable("it is about another task")
            return task

        return await self._ask(f"{_TASKS}{quote(task_id, safe='')}", read=read)

    async def credits(self) -> Credits:
        """Read the balance (EvoLink docs, "Query Credits"); repeated where that may help.

        Raises:
            RefusedByEvolink: EvoLink answered with an error.
            NoUsableAnswer: No readable answer came, in several tries.
        """
        return await self._ask("/v1/credits", read=read_credits, advices=_NOT_A_TASK)

    async def models(self) -> frozenset[str] | None:
        """Read which models the key may use (vendor client); repeated where that may help.

        None where EvoLink does not tell: no documentation promises this endpoint.

        Raises:
            RefusedByEvolink: EvoLink answered with an error.
            NoUsableAnswer: No answer came, in several tries.
        """
        try:
            return await self._ask("/v1/models", read=read_models)
        except AnswerUnreadable:
            return None
        except RefusedByEvolink as refusal:
            if refusal.status in _NOT_TOLD:
                return None
            raise

    async def _ask(
        self, path: str, *, read: Callable[[bytes], _Read], advices: Advices = _USUAL
    ) -> _Read:
        async def ask() -> _Read:
            await self.pace.turn()
            self.figures.readings += path.startswith(_TASKS)
            request = self.reads.build_request("GET", path, headers=authorization_of(self.key))
            with self.figures.noting_errors():
                try:
                    body = await exchange(
                        self.reads, request, within=TOTAL_TIMEOUT, advices=advices
                    )
                except EvolinkError as error:
                    self.pace.refused(error)
                    raise
                return read(body)

        return await repeat_safely(ask, sleep=self.sleep)


@asynccontextmanager
async def connect(base_url: str, *, key: str, network: Network) -> AsyncGenerator[EvolinkApi]:
    """Open the clients of one key."""
    client = partial(
        httpx.AsyncClient,
        base_url=base_url,
        headers=headers_of(key),
        transport=network.transport,
        verify=network.tls,
    )
    fresh = httpx.Limits(max_keepalive_connections=0)
    async with (
        client(timeout=READ_TIMEOUT) as reads,
        client(timeout=SUBMIT_TIMEOUT, limits=fresh) as purchases,
    ):
        pace = Pace(network.sleep, network.clock)
        yield EvolinkApi(reads, purchases, network.sleep, pace, network.figures)


def headers_of(key: str) -> dict[str, str]:
    """Return the headers of every request to EvoLink."""
    return {
        **authorization_of(key),
        "User-Agent": f"evolink-mcp/{__version__}",
        "Accept": "application/json",
    }


def authorization_of(key: str) -> dict[str, str]:
    """Return the header that says whose a request is; nothing where there is no key."""
    return {"Authorization": f"Bearer {key}"} if key else {}


async def exchange(
    client: httpx.AsyncClient,
    request: httpx.Request,
    *,
    within: float,
    advices: Advices = _USUAL,
) -> bytes:
    """Send one request, and return the body of EvoLink's answer if it is a success.

    `within` is how many seconds the whole exchange may take, however slowly it trickles.

    Raises:
        RefusedByEvolink: EvoLink answered with an error, whatever the HTTP status.
        NoUsableAnswer: `NeverSent`, or what became of the request is not known.
    """
    try:
        with anyio.fail_after(within):
            response = await client.send(request, stream=True)
            try:
                body = await _read_body(response)
            finally:
                await response.aclose()
    except (httpx.HTTPError, OSError) as error:
        raise translated(error) from error
    _require_success(response, body, advices=advices)
    return body


async def _read_body(response: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise unreadable("it is far too long")
    return bytes(body)


def _require_success(response: httpx.Response, body: bytes, *, advices: Advices) -> None:
    if not response.is_success and not response.is_error:
        raise unreadable(f"it is HTTP {response.status_code}, a redirect or the like")
    if response.is_error or is_error_body(read_object(body)):
        raise refusal_of(response, body, advices=advices)


def translated(error: httpx.HTTPError | OSError) -> NoUsableAnswer:
    """Turn a failure of the HTTP library into ours, by whether the request can have left.

    An OSError is our own time limit, or one of TLS, which the library lets through.
    """
    name = type(error).__name__
    if isinstance(error, _NEVER_SENT):
        return NeverSent(
            message=f"EvoLink could not be reached ({name}).",
            next_step="Check the network and EVOLINK_BASE_URL, then call again.",
        )
    if isinstance(error, httpx.DecodingError):
        return unreadable("its encoding is broken")
    return AnswerLost(
        message=f"The connection to EvoLink broke before an answer came ({name}).",
        next_step="Call again in a minute.",
    )
