"""What a person at a terminal sees."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import click
from mcp.shared.dispatcher import ProgressFnT
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from evolink_mcp.errors import EvolinkError
from evolink_mcp.server.answers import Answer, ImageAnswer


@contextmanager
def drawn_progress(console: Console) -> Generator[ProgressFnT]:
    """Draw progress notifications: a bar on a terminal, else a line each."""
    bar = Progress(
        TextColumn("{task.percentage:>3.0f} %"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        disable=not console.is_terminal,
    )
    task = bar.add_task("waiting for EvoLink", total=100)

    async def advance(progress: float, total: float | None, message: str | None) -> None:  # noqa: PLR0917 - the SDK's signature
        bar.update(task, completed=progress, total=total, description=message or "")
        if not console.is_terminal:
            console.print(message or "", markup=False, emoji=False, highlight=False, soft_wrap=True)

    with bar:
        yield advance


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
