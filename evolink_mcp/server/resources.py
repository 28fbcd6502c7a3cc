"""Jobs and their pictures as resources, and news of them to whoever subscribed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
from mcp.server import MCPServer
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.server.mcpserver.resources import FunctionResource
from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourceUpdated, ServerEvent
from mcp.types import (
    EmptyResult,
    SubscribeRequestParams,
    UnsubscribeRequestParams,
)

from evolink_mcp.api.wire import TaskId, read_task_id
from evolink_mcp.errors import EvolinkError, InvalidRequest
from evolink_mcp.jobs.job import Job, Principal
from evolink_mcp.server.app import App
from evolink_mcp.server.lists import read_list
from evolink_mcp.server.principals import current_principal
from evolink_mcp.server.results import handle_of, recorded

LIST_URI = "evolink://tasks"
TASK_URI = "evolink://tasks/{task_id}"
IMAGE_URI = "evolink://tasks/{task_id}/images/{n}"

LISTED = 50
"""Jobs in the list that is a resource."""


@dataclass(frozen=True, slots=True)
class Subscriber:
    """Who wants to hear of a resource."""

    session: ServerSession
    principal: Principal


class PrivateBus:
    """A subscription bus on which everybody hears of their own jobs only.

    Whose a listener is, is known when it subscribes, which happens within its request.
    """

    def __init__(self) -> None:
        """Start without listeners."""
        self._buses: defaultdict[Principal, InMemorySubscriptionBus] = defaultdict(
            InMemorySubscriptionBus
        )

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Register a listener of whoever is calling."""
        return self._buses[current_principal()].subscribe(listener)

    async def tell(self, principal: Principal, event: ServerEvent) -> None:
        """Deliver an event to one principal's listeners."""
        if principal in self._buses:
            await self._buses[principal].publish(event)

    async def publish(self, event: ServerEvent) -> None:
        """Deliver an event to everybody: for news that are nobody's own."""
        for bus in tuple(self._buses.values()):
            await bus.publish(event)


@dataclass(slots=True)
class News:
    """Tells subscribers of both protocol eras that a job has moved."""

    bus: PrivateBus = field(default_factory=PrivateBus)
    """For `subscriptions/listen` (2026-07-28)."""
    _sessions: dict[str, dict[int, Subscriber]] = field(
        default_factory=lambda: defaultdict[str, dict[int, Subscriber]](dict)
    )
    """For `resources/subscribe`: by address, then by connection."""

    async def moved(self, job: Job) -> None:
        """Announce that a job, and with it the list, has changed."""
        uris = [LIST_URI, f"{LIST_URI}/{job.task_id}"] if job.task_id else [LIST_URI]
        for uri in uris:
            await self.bus.tell(job.principal, ResourceUpdated(uri=uri))
            for subscriber in tuple(self._sessions.get(uri, {}).values()):
                if subscriber.principal == job.principal:
                    await subscriber.session.send_resource_updated(uri)

    def offer_subscriptions(self, server: MCPServer[App]) -> None:
        """Serve `resources/subscribe`, which the SDK offers on the server underneath only."""
        below = server._lowlevel_server  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        below.add_request_handler("resources/subscribe", SubscribeRequestParams, self._subscribe)
        below.add_request_handler(
            "resources/unsubscribe", UnsubscribeRequestParams, self._unsubscribe
        )

    async def _subscribe(
        self, ctx: ServerRequestContext[App, Any], params: SubscribeRequestParams
    ) -> EmptyResult:
        subscriber = Subscriber(ctx.session, current_principal())
        self._sessions[str(params.uri)][_connection(ctx)] = subscriber
        return EmptyResult()

    async def _unsubscribe(
        self, ctx: ServerRequestContext[App, Any], params: UnsubscribeRequestParams
    ) -> EmptyResult:
        self._sessions[str(params.uri)].pop(_connection(ctx), None)
        return EmptyResult()


def _connection(ctx: ServerRequestContext[App, Any]) -> int:
    """Name a connection: sessions are made for each request, what a client said first is kept."""
    return id(ctx.session.client_params)


def offer_tasks(server: MCPServer[App]) -> None:
    """Offer each job, and each of its pictures, under an address of its own."""
    server.resource(
        TASK_URI,
        title="An image task",
        description="What is known of a task of generate_image, and where its pictures are.",
        mime_type="application/json",
    )(task)
    server.resource(
        IMAGE_URI,
        title="A picture",
        description="The whole picture, as EvoLink made it; n counts from 1.",
        mime_type="image/png",
    )(image)


def offer_list(server: MCPServer[App], app: App) -> None:
    """Offer the list of jobs; only a resource at a fixed address is listed itself."""

    async def tasks() -> str:
        try:
            answer = await read_list(app, limit=LISTED)
        except EvolinkError as error:
            raise ResourceError(app.caller().without_paths(error.message)) from error
        return answer.model_dump_json(exclude_none=True)

    server.add_resource(
        FunctionResource.from_function(
            tasks,
            uri=LIST_URI,
            title="Image tasks",
            description=f"The newest {LISTED} jobs, also those under way or of unknown outcome.",
            mime_type="application/json",
        )
    )


async def task(task_id: str, ctx: Context[App]) -> str:
    """Return what is known of a task, as `get_task` answers it."""
    caller = ctx.request_context.lifespan_context.caller()
    return recorded(await _find(task_id, ctx), caller=caller).model_dump_json(exclude_none=True)


async def image(task_id: str, n: str, ctx: Context[App]) -> bytes:  # noqa: PLR0917 - the SDK's order
    """Return the bytes of a picture."""
    job = await _find(task_id, ctx)
    for picture in job.pictures:
        if str(picture.n) == n and picture.path is not None:
            try:
                return await anyio.Path(picture.path).read_bytes()
            except OSError:
                break
    uri = handle_of(task_id, n=n)
    raise ResourceNotFoundError(
        f"{uri} is not on disk: call get_task with this task id to have it fetched."
    )


async def _find(task_id: str, ctx: Context[App]) -> Job:
    app = ctx.request_context.lifespan_context
    try:
        job = await (await app.journal()).find(_read(task_id))
    except EvolinkError as error:
        raise ResourceError(app.caller().without_paths(error.message)) from error
    if job is None or job.principal != current_principal():
        raise ResourceNotFoundError(f"No task {task_id[:120]} is on record here.")
    return job


def _read(task_id: str) -> TaskId:
    try:
        return read_task_id(task_id)
    except InvalidRequest as error:
        raise ResourceNotFoundError(error.message) from error
