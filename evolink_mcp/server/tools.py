"""The tools as hosts see them: names, descriptions, schemas."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.types import CallToolResult, InputRequiredResult, ToolAnnotations
from pydantic import BaseModel

from evolink_mcp.catalog.models import Catalogue
from evolink_mcp.catalog.request import unknown_fields
from evolink_mcp.errors import EvolinkError, InvalidRequest
from evolink_mcp.server.answers import Answer, TaskList
from evolink_mcp.server.app import App
from evolink_mcp.server.arguments import (
    generate_image_schema,
    get_task_schema,
    list_tasks_schema,
    read_list_tasks,
)
from evolink_mcp.server.consent import with_confirm
from evolink_mcp.server.credits import DESCRIPTION as CREDITS_DESCRIPTION
from evolink_mcp.server.credits import SCHEMA as CREDITS_SCHEMA
from evolink_mcp.server.credits import CreditsAnswer, get_credits
from evolink_mcp.server.lists import read_list
from evolink_mcp.server.models import ModelList, read_models
from evolink_mcp.server.results import failed, list_failed, states_shown_as, tasks_listed
from evolink_mcp.server.schema import portable_schema
from evolink_mcp.server.uploading import DESCRIPTION as UPLOAD_DESCRIPTION
from evolink_mcp.server.uploading import SCHEMA as UPLOAD_SCHEMA
from evolink_mcp.server.uploading import UploadAnswer, upload_link
from evolink_mcp.server.words import ELSEWHERE, HERE, Words
from evolink_mcp.settings import NEVER, Confirm

Arguments = dict[str, object]

_GENERATE = """\
Make pictures from a text, or edit and combine pictures, with EvoLink's {title}. Costs EvoLink \
credits: each call is a new purchase{price}.

Waits until the pictures are ready (usually 30 to 120 seconds), {ending}. \
If they are not ready in time, the answer is a success with a task_id: call get_task with it, \
and do not call this tool again for the same picture. Call again only for another picture or when \
the user asks for one.

To change an earlier picture, pass its evolink:// handle in image_urls, however old it is, and \
say in the prompt what to change. {files}, \
and public for 72 hours to whoever has its address. Write the prompt in full sentences: subject, \
setting, style, light. Text that should appear in the picture goes in quotes."""

_GET_TASK = """\
Look at a task of generate_image and wait for its pictures. Costs nothing. Gives the same answer \
as generate_image once the task is done: {pictures}, addresses and previews. \
If it is still not done, the answer says when to call again. Also fetches pictures again that \
could not be saved."""


_LIST_TASKS = """\
List what was bought with this server, newest first: what is still running, what is {ready}, \
what failed, and requests of which nobody knows whether EvoLink took them. Costs nothing \
and asks nobody. Use it when a task id was lost, when the user asks for an earlier picture, or \
before calling generate_image again after a break. Go on with get_task and a task_id of the list."""


_LIST_MODELS = """\
List the image models that are enabled: what each one takes, what a picture cost last, and whether \
this key may use it. Costs nothing. Call it before naming a model or a parameter you are not sure \
of."""


class _AsTheyCome(FuncMetadata):
    """Hands a tool its arguments unread, so that their errors are ours.

    The SDK would drop unknown arguments and answer broken rules with the values in them.
    """

    def validate_arguments(self, arguments_to_validate: Arguments) -> dict[str, Any]:
        """Pass the arguments on."""
        return {"arguments": arguments_to_validate}


def make_tools(
    catalogue: Catalogue, confirm: Confirm = NEVER, *, over_http: bool = False
) -> list[Tool]:
    """Make the tools for the models that are enabled.

    Over HTTP callers have no files here: pictures leave by links, and come in by links.
    """
    words = ELSEWHERE if over_http else HERE
    own = [
        _tool(
            generate_image,
            title="Generate or edit images",
            description=_describe_generate(catalogue, words),
            parameters=with_confirm(generate_image_schema(catalogue, inputs=words.inputs), confirm),
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
            description=_GET_TASK.format(pictures=words.pictures),
            parameters=get_task_schema(),
            annotations=_reads("Wait for an image task", open_world=True),
        ),
        _tool(
            list_tasks,
            title="List image tasks",
            description=_LIST_TASKS.format(ready=words.ready),
            parameters=list_tasks_schema(),
            annotations=_reads("List image tasks", open_world=False),
            answer=TaskList,
        ),
        _tool(
            list_models,
            title="List image models",
            description=_LIST_MODELS,
            parameters={"type": "object", "properties": {}},
            annotations=_reads("List image models", open_world=True),
            answer=ModelList,
        ),
        _tool(
            get_credits,
            title="Look at the credits",
            description=CREDITS_DESCRIPTION,
            parameters=dict(CREDITS_SCHEMA),
            annotations=_reads("Look at the credits", open_world=True),
            answer=CreditsAnswer,
        ),
    ]
    return [*own, _upload_link()] if over_http else own


def _upload_link() -> Tool:
    return _tool(
        upload_link,
        title="Get an upload link",
        description=UPLOAD_DESCRIPTION,
        parameters=dict(UPLOAD_SCHEMA),
        annotations=_reads("Get an upload link", open_world=False),
        answer=UploadAnswer,
    )


async def generate_image(
    arguments: Arguments, ctx: Context[App]
) -> CallToolResult | InputRequiredResult:
    """Buy pictures and wait for them, or ask the user first."""
    from evolink_mcp.server.calls import ToolCall  # noqa: PLC0415 - off the way to the first answer

    call = ToolCall(ctx)
    return await call.answer(partial(call.generate, arguments))


async def get_task(arguments: Arguments, ctx: Context[App]) -> CallToolResult | InputRequiredResult:
    """Join a task and wait for it."""
    from evolink_mcp.server.calls import ToolCall  # noqa: PLC0415 - off the way to the first answer

    call = ToolCall(ctx)
    return await call.answer(partial(call.follow, arguments))


async def list_tasks(arguments: Arguments, ctx: Context[App]) -> CallToolResult:
    """List jobs; the journal is all that is asked."""
    app = ctx.request_context.lifespan_context
    try:
        status, limit = read_list_tasks(arguments)
        return tasks_listed(await read_list(app, states=states_shown_as(status), limit=limit))
    except EvolinkError as error:
        return list_failed(error, caller=app.caller())


async def list_models(arguments: Arguments, ctx: Context[App]) -> CallToolResult:
    """List the enabled models."""
    if problems := unknown_fields(arguments, ()):
        return failed(InvalidRequest(problems=problems))
    return await read_models(ctx.request_context.lifespan_context)


def _reads(title: str, *, open_world: bool) -> ToolAnnotations:
    return ToolAnnotations(
        title=title,
        read_only_hint=True,
        destructive_hint=False,
        idempotent_hint=True,
        open_world_hint=open_world,
    )


def _describe_generate(catalogue: Catalogue, words: Words) -> str:
    only = catalogue.only
    title = only.title if only else f"{len(catalogue.models)} image models (see list_models)"
    price = (
        f", about {only.typical_credits:g} credits a picture"
        if only and only.typical_credits
        else ""
    )
    return _GENERATE.format(title=title, price=price, ending=words.ending, files=words.files)


def _tool(
    call: Callable[[Arguments, Context[App]], Awaitable[CallToolResult | InputRequiredResult]],
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
