"""The list of what was bought: complete however narrow, and not steered by what it shows."""

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import anyio
import pytest
from rich.console import Console

from evolink_mcp.api.wire import Task
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.cli.listing import Choice, show_tasks
from evolink_mcp.jobs.database import FILE_NAME
from evolink_mcp.jobs.job import Job, Picture, State, new_job_id
from evolink_mcp.jobs.journal import Budget, Journal, open_journal
from evolink_mcp.settings import Settings
from tests.cli.conftest import Terminal
from tests.servers import BASE_URL, settings_for

ALL = Choice(status=None, limit=20)
PICTURE = Path("/home/somebody/Pictures/evolink/task-unified-1-a-1.png")
_LINK = re.compile(r"\x1b\]8;.*?\x1b\\")


def job_of(state: State, prompt: str = "a fox", *, task_id: str = "task-unified-1-a") -> Job:
    return Job(
        id=new_job_id(),
        request=ImageRequest(model="gpt-4o-image", prompt=prompt),
        state=state,
        task=Task(id=task_id),
        booked=2.5,
    )


async def put(journal: Journal, job: Job) -> None:
    budget = Budget(a_picture=2.5, a_day=None)
    await journal.admit(replace(job, state="intent", task=None), budget=budget)
    await journal.record(job, release=True)


async def shown(settings: Settings, job: Job, *, width: int) -> str:
    """Show a job on a terminal of some width; 0 for a pipe."""
    screen = StringIO()
    console = Console(file=screen, force_terminal=width > 0, width=width or 20, color_system=None)
    async with open_journal(settings.data_folder() / FILE_NAME, origin=BASE_URL) as journal:
        await put(journal, job)
    await show_tasks(settings, ALL, console=console, watch=False)
    return _LINK.sub("", screen.getvalue())


@pytest.mark.parametrize("width", [0, 60, 80, 120])
async def test_ids_and_paths_are_never_cut_off(tmp_path: Path, width: int) -> None:
    long_id = "task-unified-1757156493-" + "x" * 60
    picture = Picture(n=1, url=f"{BASE_URL}/1.png", expires_at=None, path=PICTURE)
    job = replace(job_of("collected", task_id=long_id), pictures=(picture,))
    unfolded = "".join((await shown(settings_for(tmp_path), job, width=width)).split())
    assert long_id in unfolded
    assert str(PICTURE) in unfolded


@pytest.mark.parametrize("width", [0, 120])
async def test_a_prompt_is_shown_as_it_was_typed_and_steers_nothing(
    tmp_path: Path, width: int
) -> None:
    job = job_of("collected", "[bold]two[/bold] :fox: \x1b[2J\u202eowls")
    page = await shown(settings_for(tmp_path), job, width=width)
    assert "[bold]two[/bold] :fox:  [2J owls" in page


@pytest.mark.parametrize("width", [0, 120])
async def test_a_task_that_was_bought_elsewhere_has_no_prompt(tmp_path: Path, width: int) -> None:
    settings, elsewhere = settings_for(tmp_path), replace(job_of("processing"), request=None)
    async with open_journal(settings.data_folder() / FILE_NAME, origin=BASE_URL) as journal:
        await journal.enroll(elsewhere)
    page = await shown(settings, job_of("failed", task_id="other"), width=width)
    assert "task-unified-1-a" in page


@pytest.mark.parametrize("width", [0, 200])
@pytest.mark.parametrize(
    ("state", "word", "said"),
    [
        ("intent", "running", "evolink-mcp tasks collect"),
        ("processing", "running", "evolink-mcp tasks collect"),
        ("completed", "unsaved", "at no cost: evolink-mcp tasks collect"),
        ("expired", "unsaved", "cannot be fetched any more"),
        ("unknown", "unknown", "Look at evolink.ai whether a task was made at that time"),
    ],
)
async def test_what_a_person_should_do_stands_under_the_list(
    tmp_path: Path, state: State, word: str, said: str, width: int
) -> None:
    page = await shown(settings_for(tmp_path), job_of(state), width=width)
    assert f"  {word}  " in page
    assert said in page


@pytest.mark.parametrize("width", [0, 120])
async def test_a_declined_purchase_is_shown_and_cost_nothing(tmp_path: Path, width: int) -> None:
    declined = replace(job_of("declined"), task=None, booked=0.0)
    page = await shown(settings_for(tmp_path), declined, width=width)
    assert "  declined  " in page
    assert "Spent or reserved today: 0 credits." in page


@pytest.mark.parametrize(("is_terminal", "pages"), [(True, ["running"] * 3), (False, ["running"])])
async def test_a_terminal_is_redrawn_and_anything_else_gets_what_has_changed(
    tmp_path: Path, *, is_terminal: bool, pages: list[str]
) -> None:
    settings, screen, naps = settings_for(tmp_path), StringIO(), list[float]()
    console = Console(file=screen, force_terminal=is_terminal, width=100, color_system=None)
    job = job_of("submitted")
    async with open_journal(settings.data_folder() / FILE_NAME, origin=BASE_URL) as journal:
        await put(journal, job)

        async def sleep(seconds: float) -> None:
            naps.append(seconds)
            await journal.record(replace(job, state="collected" if len(naps) == 3 else "submitted"))

        with anyio.fail_after(20):
            await show_tasks(settings, ALL, console=console, watch=True, sleep=sleep)
    assert naps == [1.0, 1.0, 1.0]
    assert re.findall(r"  (running)  ", screen.getvalue()) == pages
    assert "  completed  " in screen.getvalue().rpartition("running  ")[2]


def test_a_demo_is_recorded_where_the_operator_wants_it(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EVOLINK_DATA_DIR", str(tmp_path / "mine"))
    assert terminal.run("demo", "--speed", "100").code == 0
    assert (tmp_path / "mine" / FILE_NAME).exists()
