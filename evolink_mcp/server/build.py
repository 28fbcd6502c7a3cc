"""The composition root: settings in, a server out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
from mcp.server import MCPServer
from mcp.server.auth.provider import TokenVerifier
from mcp.server.auth.settings import AuthSettings
from mcp.server.caching import CacheHint
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

from evolink_mcp import __version__
from evolink_mcp.api.network import Network
from evolink_mcp.server.app import App, enabled_models, run_app
from evolink_mcp.server.prompts import offer_prompts
from evolink_mcp.server.resources import News, offer_list, offer_tasks
from evolink_mcp.server.sdk import Server
from evolink_mcp.server.tools import make_tools
from evolink_mcp.server.words import ELSEWHERE, HERE, instructions
from evolink_mcp.settings import Settings

_AN_HOUR = 3_600_000


def _tell_nobody(_: App) -> None:
    """Keep to ourselves that an app runs."""


def offer_nothing(_: MCPServer[App]) -> None:
    """Leave a server as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """How callers come in over HTTP."""

    verifier: TokenVerifier | None = None
    """Knows whose a token is; None lets everybody in. It goes with `auth`."""
    auth: AuthSettings | None = None
    """What a token must be for, and where clients get one."""
    opened: Callable[[App], None] = _tell_nobody
    """Is given what the server works with, as soon as that lives."""


def build_server(
    settings: Settings,
    *,
    network: Network | None = None,
    stopped: anyio.Event | None = None,
    gate: Gate | None = None,
    offer: Callable[[MCPServer[App]], None] = offer_nothing,
) -> MCPServer[App]:
    """Put the server together; `stopped` is set when its lifespan has ended.

    Without a gate it is served over stdio; with one over HTTP, where callers have no files here.
    `offer` adds what else the server is to offer.

    Raises:
        SettingInvalid: A setting names what does not exist.
    """
    catalogue = enabled_models(settings)

    async def resume_after_the_first_answer(
        ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Take unfinished jobs up once the host has had an answer, not before."""
        try:
            return await call_next(ctx)
        finally:
            ctx.lifespan_context.resume()

    news, door = News(), gate or Gate()
    server = Server(
        "evolink-mcp",
        title="EvoLink images",
        version=__version__,
        instructions=instructions(ELSEWHERE if gate else HERE),
        tools=make_tools(catalogue, settings.confirm, over_http=gate is not None),
        lifespan=_lifespan(
            partial(
                run_app,
                settings,
                network or Network(),
                moved=news.moved,
                over_http=gate is not None,
            ),
            opened=door.opened,
            stopped=stopped,
        ),
        auth=door.auth,
        token_verifier=door.verifier,
        middleware=[resume_after_the_first_answer],
        cache_hints={"tools/list": CacheHint(ttl_ms=_AN_HOUR, scope="public")},
        subscriptions=news.bus,
        log_level=settings.log_level,
    )
    offer_tasks(server)
    offer_prompts(server, catalogue, remote=gate is not None)
    if gate is None:  # over HTTP no session lasts that could be told of anything
        news.offer_subscriptions(server)
    offer(server)
    return server


def _lifespan(
    run: Callable[[], AbstractAsyncContextManager[App]],
    *,
    opened: Callable[[App], None],
    stopped: anyio.Event | None,
) -> Callable[[MCPServer[App]], AbstractAsyncContextManager[App]]:
    @asynccontextmanager
    async def lifespan(server: MCPServer[App]) -> AsyncGenerator[App]:
        try:
            async with run() as app:
                offer_list(server, app)
                opened(app)
                yield app
        finally:
            if stopped is not None:
                stopped.set()

    return lifespan
