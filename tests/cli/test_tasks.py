"""`evolink-mcp tasks`: what was bought, for a person, and what is still to be fetched."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from io import StringIO
from pathlib import Path

import anyio
import pytest
from rich.console import Console

from evolink_mcp.api.wire import Task
from evolink_mcp.cli import fetch
from evolink_mcp.cli.fetch import collect_tasks, single_failure
from evolink_mcp.cli.listing import Choice, show_tasks
from evolink_mcp.errors import EvolinkError, KeyMissing
from evolink_mcp.jobs.database import FILE_NAME
from evolink_mcp.jobs.job import Job, State, new_job_id
from evolink_mcp.jobs.journal import Budget, Journal, open_journal
from evolink_mcp.jobs.submit import outcome_unknown
from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.answers import Shown
from evolink_mcp.settings import Settings
from tests.cli.conftest import Terminal
from tests.jobs.shop import wanted
from tests.server.test_waiting import sandbox_task
from tests.servers import BASE_URL, host_of, network_of, settings_for

ALL = Choice(status=None, limit=20)


@asynccontextmanager
async def record_of(settings: Settings) -> AsyncGenerator[Journal]:
    async with open_journal(settings.data_folder() / FILE_NAME, origin=BASE_URL) as journal:
        yield journal


async def put(journal: Journal, prompt: str, *, state: State = "intent", task_id: str = "") -> Job:
    """Put a job into the record, as a process that is gone would have left it."""
    budget = Budget(a_picture=2.5, a_day=None)
    admitted = await journal.admit(Job(id=new_job_id(), request=wanted(prompt)), budget=budget)
    task = Task(id=task_id, status="processing") if task_id else None
    error = outcome_unknown("The line broke.") if state == "unknown" else None
    job = replace(admitted.job, state=state, task=task, error=error)
    await journal.record(job, release=True)
    return job


async def shown(
    settings: Settings,
    choice: Choice = ALL,
    *,
    watch: bool = False,
    terminal: bool = False,
    width: int = 80,
    until: anyio.Event | None = None,
) -> str:
    """Return what is printed; each pause ends what is running."""
    page = StringIO()
    console = Console(file=page, force_terminal=terminal, width=width, no_color=True)

    async def sleep(_: float) -> None:
        assert until is not None
        if until.is_set():
            async with record_of(settings) as journal:
                for job in await journal.newest(Job(id=new_job_id()).principal, limit=9):
                    await journal.record(replace(job, state="failed"))
        until.set()

    await show_tasks(settings, choice, console=console, watch=watch, sleep=sleep)
    return page.getvalue()


def test_where_nothing_was_bought_no_record_is_made(terminal: Terminal, tmp_path: Path) -> None:
    ended = terminal.run("tasks")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("Nothing was bought yet: there is no record in ")
    assert not list(tmp_path.rglob(FILE_NAME))


def test_what_was_bought_is_listed_whole(
    terminal: Terminal, box: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert terminal.run("generate", "--output-dir", "out", "a red fox " * 20).code == 0
    assert terminal.run("generate", "[fail:service_error] a fox").code == 1
    monkeypatch.setenv("EVOLINK_DAILY_CREDITS", "9")
    ended = terminal.run("tasks")
    [picture] = (tmp_path / "out").glob("*.png")
    assert (ended.code, ended.err) == (0, "")
    newest, trouble, first, path, spent = ended.out.splitlines()
    assert "  failed  " in newest
    assert "EvoLink had an internal error" in trouble
    assert "  completed  " in first
    assert picture.stem.rpartition("-")[0] in first
    assert "2.5 credits" in first
    assert path == f"  {picture}"
    assert spent == "Spent or reserved today: 2.5 of 9 credits."
    assert box
    assert terminal.run("tasks", "--status", "unknown").out.startswith("Nothing is unknown.\n")
    assert len(terminal.run("tasks", "--limit", "1").out.splitlines()) == 3


def test_a_demo_leaves_nothing_among_real_purchases(terminal: Terminal) -> None:
    assert terminal.run("demo", "--speed", "200").code == 0
    assert terminal.run("tasks").out.startswith("Nothing was bought yet")


def test_a_damaged_record_is_one_line_and_a_failure(terminal: Terminal, tmp_path: Path) -> None:
    folder = tmp_path / "home" / "data" / "evolink-mcp"
    folder.mkdir(parents=True)
    (folder / FILE_NAME).write_bytes(b"no database" * 1000)
    ended = terminal.run("tasks")
    assert (ended.code, ended.out) == (1, "")
    assert "it is damaged" in ended.last_line


async def test_a_record_that_was_never_written_to_is_empty(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    async with record_of(settings):
        page = await shown(settings)
    assert page.splitlines()[0] == "Nothing is here."
    assert "No cap is set (EVOLINK_DAILY_CREDITS)." in page


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("width", [80, 120])
async def test_what_needs_a_person_says_what_to_do(
    tmp_path: Path, *, terminal: bool, width: int
) -> None:
    settings = settings_for(tmp_path)
    async with record_of(settings) as journal:
        lost = await put(journal, "lost\x1b[2J [b]fox[/b]", state="unknown")
        unsaved = await put(journal, "unsaved", state="completed", task_id="task-unified-1-a")
    page = " ".join((await shown(settings, terminal=terminal, width=width)).split())
    assert lost.id in page
    assert str(unsaved.task_id) in page
    assert "[b]fox[/b]" in page
    assert "\x1b[2J" not in page
    assert "Look at evolink.ai whether a task was made" in page
    assert "at no cost: evolink-mcp tasks collect" in page


async def test_a_table_shows_status_and_files(tmp_path: Path) -> None:
    sandbox, settings = Sandbox(speed=1000), settings_for(tmp_path)
    async with host_of(sandbox, settings) as host:
        await host.call_tool("generate_image", {"prompt": "a fox"})
        elsewhere = await sandbox_task(sandbox, "another fox")
        await host.call_tool("get_task", {"task_id": elsewhere})
    page = await shown(settings, terminal=True, width=400)
    pictures = map(str, tmp_path.glob("*.png"))
    for fact in ("When", "Status", "Credits", "completed", "2.5", elsewhere, *pictures):
        assert fact in page


@pytest.mark.parametrize("terminal", [False, True])
async def test_watching_goes_on_until_nothing_runs(tmp_path: Path, *, terminal: bool) -> None:
    settings, until = settings_for(tmp_path), anyio.Event()
    async with record_of(settings) as journal:
        await put(journal, "running", state="submitted", task_id="task-unified-1-a")
    with anyio.fail_after(10):
        page = await shown(settings, watch=True, terminal=terminal, until=until)
    assert ("running" in page, "failed" in page) == (True, True)
    assert terminal or page.count("task-unified-1-a") == 2


def test_nothing_to_fetch_is_no_failure(terminal: Terminal) -> None:
    ended = terminal.run("tasks", "collect")
    assert (ended.code, ended.out, ended.last_line) == (0, "", "Nothing is left to fetch.")


async def test_what_a_dead_process_left_is_fetched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox, settings = Sandbox(speed=1000), settings_for(tmp_path)
    task_id = await sandbox_task(sandbox, "a fox")
    async with record_of(settings) as journal:
        await put(journal, "a fox", state="submitted", task_id=task_id)
    with anyio.fail_after(20):
        await collect_tasks(settings, network_of(sandbox))
    [picture] = tmp_path.glob("*.png")
    assert capsys.readouterr().out == f"{picture}\n"
    with anyio.fail_after(20):
        await collect_tasks(settings, network_of(sandbox))
    assert capsys.readouterr().err == "Nothing is left to fetch.\n"


async def test_what_cannot_be_fetched_is_told_and_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox, settings = Sandbox(speed=1000), settings_for(tmp_path)
    async with record_of(settings) as journal:
        for fault in ("[truncated]", "[poll:403]"):
            task_id = await sandbox_task(sandbox, f"{fault} fox")
            await put(journal, fault, state="submitted", task_id=task_id)
        intent = await put(journal, "never heard of again")
    with anyio.fail_after(20), pytest.raises(EvolinkError, match="3 of 3 could not be fetched"):
        await collect_tasks(settings, network_of(sandbox))
    told = capsys.readouterr().err
    for words in ("cut off or broken", "another account", f"{intent.id}: unknown: nobody can"):
        assert words in told


async def test_what_another_process_is_buying_is_left_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "LOOKS", 1)
    sandbox, settings = Sandbox(speed=1000), settings_for(tmp_path)
    async with record_of(settings) as journal:
        budget = Budget(a_picture=2.5, a_day=None)
        await journal.admit(Job(id=new_job_id(), request=wanted()), budget=budget)
        with anyio.fail_after(20), pytest.raises(EvolinkError, match="1 of 1"):
            await collect_tasks(settings, network_of(sandbox))
    assert "another process is still buying it" in capsys.readouterr().err


async def test_fetching_needs_a_key(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, api_key="")
    async with record_of(settings) as journal:
        await put(journal, "a fox", state="submitted", task_id="task-unified-1-a")
    with pytest.raises(KeyMissing):
        await collect_tasks(settings, network_of(Sandbox()))


def test_a_failure_of_ours_comes_out_of_its_groups() -> None:
    ours = EvolinkError(message="ours", next_step="")
    with pytest.raises(EvolinkError, match="ours"), single_failure():
        raise ExceptionGroup("", [ExceptionGroup("", [ours])])
    with pytest.raises(ExceptionGroup), single_failure():
        raise ExceptionGroup("", [ZeroDivisionError()])


def test_every_status_can_be_asked_for(terminal: Terminal) -> None:
    words: tuple[Shown, ...] = ("running", "completed", "unsaved", "failed", "refused", "unknown")
    assert all(word in terminal.run("tasks", "--help").out for word in words)
