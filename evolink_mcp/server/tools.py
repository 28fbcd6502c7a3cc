"""The tools: buy pictures, go on waiting for them, list what was bought."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.types import CallToolResult, ToolAnnotations
from pydantic import BaseModel

from evolink_mcp.catalog.spec import ModelSpec
from evolink_mcp.errors import EvolinkError, TaskNotFound
from evolink_mcp.jobs.collect import prepare_folder
from evolink_mcp.jobs.job import LOCAL, Watch
from evolink_mcp.jobs.references import check_references
from evolink_mcp.jobs.watch import Watchers
from evolink_mcp.server.answers import Answer, TaskList
from evolink_mcp.server.app import App
from evolink_mcp.server.arguments import (
    generate_image_schema,
    get_task_schema,
    list_tasks_schema,
    read_generate_image,
    read_get_task,
    read_list_tasks,
)
from evolink_mcp.server.progress import Progress
from evolink_mcp.server.results import (
    Call,
    failed,
    finished,
    list_failed,
    listed,
    states_shown_as,
    tasks_listed,
    unfinished,
    unread,
)
from evolink_mcp.server.schema import portable_schema

Arguments = dict[str, object]

_GENERATE = """\
Make pictures from a text, or edit and combine pictures, with EvoLink's {title}. Costs EvoLink \
credits: each call is a new purchase, about {credits:g} credits a picture.

Waits until the pictures are ready (usually 30 to 120 seconds), saves them on the user's disk and \
answers with their paths, addresses and a small preview. If they are not ready in time, the \
answer is a success with a task_id: call get_task with it, and do not call this tool again for \
the same picture. Call again only for another picture or when the user asks for one.

To change an earlier picture, pass its address (url of an earlier answer, valid for 24 hours) in \
image_urls and say in the prompt what to change. Write the prompt in full sentences: subject, \
setting, style, light. Text that should appear in the picture goes in quotes."""

_GET_TASK = """\
Look at a task of generate_image and wait for its pictures. Costs nothing. Gives the same answer \
as generate_image once the task is done: paths, addresses and previews. If it is still not done, \
the answer says when to call again. Also fetches pictures again that could not be saved."""


_LIST_TASKS = """\
List what was bought with this server, newest first: what is still running, what is on disk and \
where, what failed, and requests of which nobody knows whether EvoLink took them. Costs nothing \
and asks nobody. Use it when a task id was lost, when the user asks for an earlier picture, or \
before calling generate_image again after a break. Go on with get_task and a task_id of the list."""


FIRST_LOOK = 5.0
"""Seconds that `get_task` gives a task to be read, however short it is to wait."""


class _AsTheyCome(FuncMetadata):
    """Hands a tool its arguments unread, so that their errors are ours.

    The SDK would drop unknown arguments and answer broken rules with the values in them.
    """

    def validate_arguments(self, arguments_to_validate: Arguments) -> dict[str, Any]:
        """Pass the arguments on."""
        return {"arguments": arguments_to_validate}


def make_tools(spec: ModelSpec) -> list[Tool]:
    """Make the tools for the model that is enabled."""
    return [
        _tool(
            generate_image,
            title="Generate or edit images",
            description=_GENERATE.format(title=spec.title, credits=spec.typical_credits),
            parameters=generate_image_schema(spec),
            annotations=ToolAnnotations(
                title="Generate or edit images",
                read_only_hint=False,
                destructive_hint=False,
                idempotent_hint=False,
                open_world_hint=True,
            ),
        ),
        _tool(
            get_task,
            title="Wait for an image task",
            description=_GET_TASK,
            parameters=get_task_schema(),
            annotations=ToolAnnotations(
                title="Wait for an image task",
                read_only_hint=True,
                destructive_hint=False,
                idempotent_hint=True,
                open_world_hint=True,
            ),
        ),
        _tool(
            list_tasks,
            title="List image tasks",
            description=_LIST_TASKS,
            parameters=list_tasks_schema(),
            annotations=ToolAnnotations(
                title="List image tasks",
                read_only_hint=True,
                destructive_hint=False,
                idempotent_hint=True,
                open_world_hint=False,
            ),
            answer=TaskList,
        ),
    ]


async def generate_image(arguments: Arguments, ctx: Context[App]) -> CallToolResult:
    """Buy pictures and wait for them."""
    call = _Call(ctx)
    return await call.answer(partial(call.generate, arguments))


async def get_task(arguments: Arguments, ctx: Context[App]) -> CallToolResult:
    """Join a task and wait for it."""
    call = _Call(ctx)
    return await call.answer(partial(call.follow, arguments))


async def list_tasks(arguments: Arguments, ctx: Context[App]) -> CallToolResult:
    """List jobs; the journal is all that is asked."""
    app = ctx.request_context.lifespan_context
    try:
        status, limit = read_list_tasks(arguments)
        journal = await app.journal()
        states = states_shown_as(status)
        jobs = await journal.newest(LOCAL, states=states, limit=limit)
        spent = await journal.spent_today()
    except EvolinkError as error:
        return list_failed(error)
    return tasks_listed(listed(jobs, spent=spent, cap=app.settings.daily_credits))


class _Call:
    """One tool call of a host."""

    def __init__(self, ctx: Context[App]) -> None:
        self._ctx = ctx
        self._app = ctx.request_context.lifespan_context
        self._started = anyio.current_time()

    async def answer(self, work: Callable[[], Awaitable[CallToolResult]]) -> CallToolResult:
        """Turn a failure that we anticipate into an answer."""
        try:
            return await work()
        except EvolinkError as error:
            return failed(error)

    async def generate(self, arguments: Arguments) -> CallToolResult:
        app = self._app
        app.settings.require_key()
        request, wait = read_generate_image(arguments, app.spec)
        connected = await app.connected()
        await prepare_folder(connected.watchers.folder)
        await check_references(request, spec=app.spec, downloads=connected.downloads)
        bought = await connected.watchers.buy(request)
        return await self._wait(bought.watch, connected.watchers, asked=wait, joined=bought.joined)

    async def follow(self, arguments: Arguments) -> CallToolResult:
        self._app.settings.require_key()
        task_id, wait = read_get_task(arguments)
        connected = await self._app.connected()
        watch = await connected.watchers.follow(task_id)
        await watch.bought()
        await watch.first_look(FIRST_LOOK)
        error = watch.job.error
        if watch.job.task is None and error is not None and not isinstance(error, TaskNotFound):
            return unread(error, task_id=task_id)
        return await self._wait(watch, connected.watchers, asked=wait, joined=False)

    async def _wait(
        self, watch: Watch, watchers: Watchers, *, asked: float | None, joined: bool
    ) -> CallToolResult:
        """Wait for the end while progress streams, as long as the host allows."""
        await watch.bought()
        progress = Progress(self._ctx.report_progress, self._elapsed)
        with anyio.move_on_after(self._patience(asked) - self._elapsed()):
            await progress.follow(watch)
        result = await self._result(watch, joined=joined)
        watchers.answered(watch)
        return result

    async def _result(self, watch: Watch, *, joined: bool) -> CallToolResult:
        job, call = watch.job, Call(self._elapsed(), joined)
        if watch.ended and job.error is not None:
            return failed(job.error, job=job, joined=joined)
        if watch.ended:
            return await finished(watch, call, preview=self._app.settings.preview)
        return unfinished(watch, call)

    def _patience(self, asked: float | None) -> float:
        params = self._ctx.session.client_params
        name = params.client_info.name if params else ""
        has_token = "progress_token" in (self._ctx.request_context.meta or {})
        return self._app.patience.limit(name, has_token=has_token, asked=asked)

    def _elapsed(self) -> float:
        return anyio.current_time() - self._started


def _tool(
    call: Callable[[Arguments, Context[App]], Awaitable[CallToolResult]],
    *,
    title: str,
    description: str,
    parameters: dict[str, object],
    annotations: ToolAnnotations,
    answer: type[BaseModel] = Answer,
) -> Tool:
    return Tool(
        fn=call,
        name=call.__name__,
        title=title,
        description=description,
        parameters=parameters,
        fn_metadata=_AsTheyCome(
            arg_model=ArgModelBase, output_schema=portable_schema(answer), output_model=answer
        ),
        is_async=True,
        context_kwarg="ctx",
        annotations=annotations,
    )
