"""A host of our own: starts the server as any host would and calls its tools."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import anyio
import click
from mcp import Client, StdioServerParameters
from mcp.shared.dispatcher import ProgressFnT
from mcp.types import CallToolResult, Implementation, TextContent
from rich.console import Console

from evolink_mcp import __version__
from evolink_mcp.cli.serve import SANDBOX_KEY
from evolink_mcp.cli.show import drawn_progress
from evolink_mcp.errors import EvolinkError
from evolink_mcp.sandbox import Sandbox, serve
from evolink_mcp.server.answers import Answer, NextCall
from evolink_mcp.settings import Settings

Arguments = Mapping[str, object]

PAUSE = 1.0
"""Seconds between two calls for one task, each of which may wait by itself."""


async def run_demo(settings: Settings, arguments: Arguments, *, speed: float) -> Answer:
    """Go the whole way against a sandbox: a loopback socket, a server over stdio, a picture.

    Raises:
        EvolinkError: What the server answered.
    """
    async with serve(Sandbox(speed=speed)) as url:
        aimed = settings.aimed_at(url, key=SANDBOX_KEY)
        return await _generate(aimed, arguments, origin="a sandbox here: no key, no cost")


async def run_generate(settings: Settings, arguments: Arguments) -> Answer:
    """Buy pictures from EvoLink.

    Raises:
        EvolinkError: What the server answered, or a key is missing.
    """
    if not settings.sandbox:
        settings.require_key()
    origin = "a sandbox: no key, no cost" if settings.sandbox else settings.base_url
    return await _generate(settings, arguments, origin=origin)


async def _generate(settings: Settings, arguments: Arguments, *, origin: str) -> Answer:
    click.echo(f"Asking {origin}", err=True)
    async with Client(_server(settings), client_info=_ourselves()) as client:
        with drawn_progress(Console(stderr=True)) as advance:
            result = await _call_to_the_end(client, arguments, advance=advance)
            if not result.is_error:
                await advance(100.0, 100.0, "done")
    return answer_in(result)


async def _call_to_the_end(
    client: Client, arguments: Arguments, *, advance: ProgressFnT
) -> CallToolResult:
    """Call `generate_image`, then whatever call each answer names next."""
    result = await client.call_tool("generate_image", dict(arguments), progress_callback=advance)
    while (call := _next_call(result)) is not None:
        await anyio.sleep(PAUSE)
        result = await client.call_tool(
            call.tool, call.arguments.model_dump(), progress_callback=advance
        )
    return result


def _next_call(result: CallToolResult) -> NextCall | None:
    going_on = result.structured_content is not None and not result.is_error
    return Answer.model_validate(result.structured_content).next_call if going_on else None


def _server(settings: Settings) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable, args=["-m", "evolink_mcp"], env=settings.environment()
    )


def _ourselves() -> Implementation:
    return Implementation(name="evolink-mcp-cli", version=__version__)


def answer_in(result: CallToolResult) -> Answer:
    """Read an answer; its failure becomes ours again."""
    if result.structured_content is None:
        raise _unexplained(result)
    answer = Answer.model_validate(result.structured_content)
    if answer.error is not None:
        error = answer.error
        task = f" Task: {answer.task_id}." if answer.task_id else ""
        raise EvolinkError(code=error.code, message=error.message + task, next_step=error.next_step)
    return answer


def _unexplained(result: CallToolResult) -> EvolinkError:
    texts = [block.text for block in result.content if isinstance(block, TextContent)]
    return EvolinkError(message=" ".join(texts), next_step="See the log above.")
