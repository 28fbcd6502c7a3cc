"""A host of our own: starts the server as any host would and calls its tools."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import click
from mcp import Client, StdioServerParameters
from mcp.shared.dispatcher import ProgressFnT
from mcp.types import CallToolResult, Implementation, TextContent
from rich.console import Console

from evolink_mcp import __version__
from evolink_mcp.cli.serve import SANDBOX_KEY
from evolink_mcp.cli.show import drawn_progress, not_bought
from evolink_mcp.errors import EvolinkError, PurchaseDeclined
from evolink_mcp.sandbox import Sandbox, serve
from evolink_mcp.server.answers import Answer, NextCall
from evolink_mcp.settings import Settings

Arguments = Mapping[str, object]

PAUSE = 1.0
"""Seconds between two calls for one task, each of which may wait by itself."""

_GOING_ON = frozenset({"pending", "processing"})


async def run_demo(settings: Settings, arguments: Arguments, *, speed: float) -> Answer:
    """Go the whole way against a sandbox: a loopback socket, a server over stdio, a picture.

    Its record of jobs ends with it, unless the operator has set a place for one.

    Raises:
        EvolinkError: What the server answered.
    """
    async with serve(Sandbox(speed=speed)) as url:
        with _passing_folder() as passing:
            aimed = _recording_in(settings.data_dir or passing, settings).aimed_at(
                url, key=SANDBOX_KEY
            )
            return await _generate(aimed, arguments, origin="a sandbox here: no key, no cost")


async def run_generate(settings: Settings, arguments: Arguments) -> Answer:
    """Buy pictures from EvoLink.

    Raises:
        EvolinkError: What the server answered, or a key is missing.
    """
    if not settings.sandbox:
        settings.require_key()
    origin = "a sandbox: no key, no cost" if settings.sandbox else settings.base_url
    ours = _recording_in(settings.data_folder(), settings)
    return await _generate(ours, arguments, origin=origin)


@contextmanager
def _passing_folder() -> Generator[Path]:
    with TemporaryDirectory(prefix="evolink-mcp-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _recording_in(folder: Path, settings: Settings) -> Settings:
    """Name the folder for the record: a server's environment may lead it to another one."""
    return settings.model_copy(update={"data_dir": folder})


async def _generate(settings: Settings, arguments: Arguments, *, origin: str) -> Answer:
    click.echo(f"Asking {origin}", err=True)
    console = Console(stderr=True)
    with drawn_progress(console) as bar:
        client = Client(
            _server(settings),
            client_info=_ourselves(),
            elicitation_callback=bar.ask,
        )
        try:
            async with client:
                result = await _call_to_the_end(client, arguments, advance=bar.advance)
                if not result.is_error:
                    await bar.advance(100.0, 100.0, "done")
        finally:
            if bar.left:  # whatever the server made of it
                raise click.Abort
    return answer_in(result)


async def _call_to_the_end(
    client: Client, arguments: Arguments, *, advance: ProgressFnT
) -> CallToolResult:
    """Call `generate_image`, then whatever call each answer that is not final names next."""
    result = await client.call_tool("generate_image", dict(arguments), progress_callback=advance)
    while (call := _next_call(result)) is not None:
        await anyio.sleep(PAUSE)
        result = await client.call_tool(
            call.tool, call.arguments.model_dump(), progress_callback=advance
        )
    return result


def _next_call(result: CallToolResult) -> NextCall | None:
    if result.structured_content is None or result.is_error:
        return None
    answer = Answer.model_validate(result.structured_content)
    return answer.next_call if answer.status in _GOING_ON else None


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
        if error.code == PurchaseDeclined.code:
            raise not_bought()
        task = f" Task: {answer.task_id}." if answer.task_id else ""
        raise EvolinkError(code=error.code, message=error.message + task, next_step=error.next_step)
    return answer


def _unexplained(result: CallToolResult) -> EvolinkError:
    texts = [block.text for block in result.content if isinstance(block, TextContent)]
    return EvolinkError(message=" ".join(texts), next_step="See the log above.")
