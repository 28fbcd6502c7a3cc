"""The list of what was bought: a table on a terminal, plain lines anywhere else."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import anyio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.style import Style
from rich.table import Table
from rich.text import Text

from evolink_mcp.api.network import Sleep
from evolink_mcp.jobs.database import FILE_NAME, translated
from evolink_mcp.jobs.job import LOCAL, Job, State
from evolink_mcp.jobs.journal import Journal, open_journal
from evolink_mcp.server.answers import Entry, Shown, TaskList
from evolink_mcp.server.results import listed, states_shown_as
from evolink_mcp.settings import Settings

REDRAW_SECONDS = 1.0

STYLES: Mapping[Shown, str] = {
    "running": "cyan",
    "completed": "green",
    "unsaved": "yellow",
    "failed": "red",
    "declined": "dim",
    "refused": "red",
    "unknown": "bold yellow",
}

LOOK_AT_EVOLINK = (
    "unknown: nobody can tell whether EvoLink took the request. Look at evolink.ai whether a task "
    "was made at that time; nothing is sent again by itself."
)

_HINTS: Mapping[frozenset[State], str] = {
    frozenset({"intent", "submitted", "processing"}): "running: a server that runs goes on with "
    "it. Where none does: evolink-mcp tasks collect",
    frozenset({"completed"}): "unsaved: paid for, but not all on disk. Fetch it, at no cost: "
    "evolink-mcp tasks collect",
    frozenset({"expired"}): "unsaved, and out of reach: EvoLink keeps pictures for 24 hours. What "
    "is not on disk cannot be fetched any more.",
    frozenset({"unknown"}): LOOK_AT_EVOLINK,
}


@dataclass(frozen=True, slots=True)
class Choice:
    """Which jobs to show."""

    status: Shown | None
    limit: int


@dataclass(frozen=True, slots=True)
class Page:
    """What is shown at one moment."""

    entries: tuple[Entry, ...]
    notes: tuple[str, ...]
    """What to do about them, and what was spent."""
    running: bool
    """Whether any job goes on, shown or not."""


async def show_tasks(
    settings: Settings,
    choice: Choice,
    *,
    console: Console,
    watch: bool,
    sleep: Sleep = anyio.sleep,
) -> None:
    """Show jobs, newest first; `watch` shows them anew until nothing is running.

    Raises:
        JournalUnusable: The record of jobs cannot be read.
    """
    async with open_record(settings) as journal:
        if journal is None:
            text = f"Nothing was bought yet: there is no record in {settings.data_folder()}."
            console.print(Text(text), soft_wrap=True)
            return
        async with aclosing(_pages(journal, choice, settings=settings, sleep=sleep)) as pages:
            if watch and console.is_terminal:
                await _redraw(pages, console)
            elif watch:
                await _print_changes(pages, console)
            else:
                _print(await anext(pages), console)


@asynccontextmanager
async def open_record(settings: Settings) -> AsyncGenerator[Journal | None]:
    """Open the user's journal where there is one; none is made.

    Raises:
        JournalUnusable: It cannot be read.
    """
    path = settings.data_folder() / FILE_NAME
    if _exists(path):
        async with open_journal(path, origin=settings.base_url) as journal:
            yield journal
    else:
        yield None


def _exists(path: Path) -> bool:
    with translated(path):
        return path.exists()


async def _pages(
    journal: Journal, choice: Choice, *, settings: Settings, sleep: Sleep
) -> AsyncGenerator[Page]:
    """Read one page after the other until nothing is running."""
    page = await _read(journal, choice, cap=settings.daily_credits)
    yield page
    while page.running:
        await sleep(REDRAW_SECONDS)
        page = await _read(journal, choice, cap=settings.daily_credits)
        yield page


async def _read(journal: Journal, choice: Choice, *, cap: float | None) -> Page:
    states = states_shown_as(choice.status)
    jobs = await journal.newest(LOCAL, states=states, limit=choice.limit)
    running = await journal.newest(LOCAL, states=states_shown_as("running"), limit=1)
    told = listed(jobs, spent=await journal.spent_today(), cap=cap)
    none = [] if jobs else [f"Nothing is {choice.status}." if choice.status else "Nothing is here."]
    return Page(
        entries=tuple(told.tasks or ()),
        notes=(*none, *_hints(jobs), _spent(told)),
        running=bool(running),
    )


def _hints(jobs: list[Job]) -> list[str]:
    seen = {job.state for job in jobs}
    return [hint for states, hint in _HINTS.items() if states & seen]


def _spent(told: TaskList) -> str:
    cap = f" of {told.daily_credits:g}" if told.daily_credits is not None else ""
    note = "" if cap else " No cap is set (EVOLINK_DAILY_CREDITS)."
    return f"Spent or reserved today: {told.spent_today or 0:g}{cap} credits.{note}"


async def _redraw(pages: AsyncIterator[Page], console: Console) -> None:
    with Live(console=console, auto_refresh=False) as live:
        async for page in pages:
            live.update(_drawn(page), refresh=True)


async def _print_changes(pages: AsyncIterator[Page], console: Console) -> None:
    before: Page | None = None
    async for page in pages:
        if page != before:
            _print(page, console)
        before = page


def _print(page: Page, console: Console) -> None:
    if console.is_terminal:
        console.print(_drawn(page))
    else:
        console.print(_written(page), soft_wrap=True)


def _drawn(page: Page) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("When", "Status", "Credits"):
        table.add_column(name, no_wrap=True, justify="right" if name == "Credits" else "left")
    table.add_column("Task", overflow="fold")
    for entry in page.entries:
        status = Text(entry.status, style=STYLES[entry.status])
        table.add_row(_when(entry), status, _credits(entry), _facts(entry))
    notes = Group(*map(Text, page.notes))
    return Group(table, "", notes) if page.entries else notes


def _facts(entry: Entry) -> Text:
    lines = [Text(_name(entry))]
    if entry.prompt:
        lines.append(Text(_printable(entry.prompt), style="italic"))
    lines += [Text(path, style=Style(link=Path(path).as_uri())) for path in entry.paths or ()]
    if entry.problem:
        lines.append(Text(_printable(entry.problem), style="yellow"))
    return Text("\n").join(lines)


def _written(page: Page) -> Text:
    lines = [line for entry in page.entries for line in _lines(entry)]
    return Text("\n".join((*lines, *page.notes)))


def _lines(entry: Entry) -> list[str]:
    credit = f"{_credits(entry)} credits" if entry.credits is not None else ""
    facts = (_when(entry), entry.status, _name(entry), credit, _printable(entry.prompt or ""))
    beneath = (*(entry.paths or ()), _printable(entry.problem or ""))
    return ["  ".join(filter(None, facts)), *(f"  {line}" for line in beneath if line)]


def _when(entry: Entry) -> str:
    """Return the time where the user lives."""
    return f"{datetime.fromisoformat(entry.created).astimezone():%Y-%m-%d %H:%M}"


def _credits(entry: Entry) -> str:
    return f"{entry.credits:g}" if entry.credits is not None else ""


def _name(entry: Entry) -> str:
    return entry.task_id or entry.job_id


def _printable(text: str) -> str:
    """Keep a prompt from steering the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)
