"""What a person at a terminal sees."""

from __future__ import annotations

import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import click
from mcp.types import ElicitRequestParams, ElicitResult
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from evolink_mcp.errors import EvolinkError, PurchaseDeclined
from evolink_mcp.server.answers import Answer, ImageAnswer
from evolink_mcp.server.texts import pixels_of

_YES = frozenset({"y", "yes"})
_NOTHING_SPENT = "No credits were spent."
_UNASKED = (
    "Nobody is asked with EVOLINK_CONFIRM=never, or with EVOLINK_CONFIRM=above:N for up to N "
    "credits; EVOLINK_DAILY_CREDITS caps what a day may cost."
)


@dataclass(slots=True)
class Bar:
    """Progress as a person sees it: a bar on a terminal, else a line each."""

    drawn: Progress
    task: TaskID
    left: bool = False
    """Whether the person has left with Ctrl-C when asked."""

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
        try:
            if not _agrees(params.message):
                return ElicitResult(action="decline")
        except KeyboardInterrupt:
            self.left = True
            return ElicitResult(action="cancel")
        self.drawn.start()
        return ElicitResult(action="accept", content={"buy": True})


def _agrees(question: str) -> bool:
    """Put a question, for which everything waits; nothing but a yes is one."""
    typed = ""
    try:
        typed = _typed_after(f"{question} [y/N]: ")
    finally:
        if not typed:  # Ctrl-C and Ctrl-D leave the line open
            click.echo(err=True)
    return typed.strip().lower() in _YES


def _typed_after(question: str) -> str:
    """Read what is typed, in this thread: one that waits for a line cannot be cancelled.

    The loop's handler would only note a Ctrl-C and let the reading go on, so another one is in
    its place before anybody can see the question.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        click.echo(question, nl=False, err=True)
        return sys.stdin.readline()
    finally:
        signal.signal(signal.SIGINT, before)


def not_bought() -> EvolinkError:
    """Tell a person that the question was not answered with yes, or who could not answer it."""
    told = _NOTHING_SPENT if sys.stdin.isatty() else _UNASKED
    return EvolinkError(code=PurchaseDeclined.code, message="Not bought.", next_step=told)


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
    """Print the paths of the pictures on stdout, one a line, and what else there is to say.

    Raises:
        EvolinkError: A picture is not on disk.
    """
    images = answer.images or []
    for image in images:
        if image.path is not None:
            click.echo(image.path)
            click.echo(f"  {_facts(image)}", err=True)
    for note in answer.notes or ():
        click.echo(note, err=True)
    lost = [image for image in images if image.path is None]
    if lost:
        raise EvolinkError(
            message=" ".join(f"Picture {image.n}: {image.problem}" for image in lost),
            next_step=f"Its address: {lost[0].url}",
        )


def _facts(image: ImageAnswer) -> str:
    return f"{pixels_of(image)}{image.media_type}, {image.bytes:,} bytes"
