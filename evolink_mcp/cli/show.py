"""What a person at a terminal sees."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import click
from anyio import to_thread
from mcp.types import ElicitRequestParams, ElicitResult
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from evolink_mcp.errors import EvolinkError
from evolink_mcp.server.answers import Answer, ImageAnswer


@dataclass(frozen=True, slots=True)
class Bar:
    """Progress as a person sees it: a bar on a terminal, else a line each."""

    drawn: Progress
    task: TaskID

    async def advance(self, progress: float, total: float | None, message: str | None) -> None:  # noqa: PLR0917 - the SDK's signature
        """Take a progress notification."""
        console = self.drawn.console
        self.drawn.update(self.task, completed=progress, total=total, description=message or "")
        if not console.is_terminal:
            console.print(message or "", markup=False, emoji=False, highlight=False, soft_wrap=True)

    async def ask(self, context: object, params: ElicitRequestParams) -> ElicitResult:  # noqa: ARG002 - the SDK names it
        """Put a server's question about money to whoever sits here; nobody means no."""
        if not sys.stdin.isatty():
            click.echo(f"{params.message}\nNobody is at the terminal to answer.", err=True)
            return ElicitResult(action="decline")
        self.drawn.stop()
        agreed = await to_thread.run_sync(partial(click.confirm, params.message, err=True))
        self.drawn.start()
        if not agreed:
            return ElicitResult(action="decline")
        return ElicitResult(action="accept", content={"buy": True})


@contextmanager
def drawn_progress(console: Console) -> Generator[Bar]:
    """Draw progress."""
    bar = Progress(
        TextColumn("{task.percentage:>3.0f} %"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        disable=not console.is_terminal,
    )
    task = bar.add_task("waiting for EvoLink", total=100)
    with bar:
        yield Bar(bar, task)


def show_pictures(answer: Answer) -> None:
    """Print the paths of the pictures on stdout, one a line.

    Raises:
        EvolinkError: A picture is not on disk.
    """
    images = answer.images or []
    for image in images:
        if image.path is not None:
            click.echo(image.path)
            click.echo(f"  {_facts(image)}", err=True)
    lost = [image for image in images if image.path is None]
    if lost:
        raise EvolinkError(
            message=" ".join(f"Picture {image.n}: {image.problem}" for image in lost),
            next_step=f"Its address: {lost[0].url}",
        )


def _facts(image: ImageAnswer) -> str:
    return f"{image.width}x{image.height} pixels, {image.media_type}, {image.bytes:,} bytes"
