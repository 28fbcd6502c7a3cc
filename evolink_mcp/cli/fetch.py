"""Fetching, from a terminal, what was bought and is not on disk yet."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial

import anyio
import click

from evolink_mcp.api.network import Network
from evolink_mcp.cli.listing import LOOK_AT_EVOLINK, open_record
from evolink_mcp.errors import EvolinkError
from evolink_mcp.jobs.job import LOCAL, UNFINISHED, Job
from evolink_mcp.jobs.watch import LOOK_SECONDS, MOST_ORPHANS, Watchers
from evolink_mcp.server.app import run_app
from evolink_mcp.server.progress import Progress
from evolink_mcp.settings import Settings

LOOKS = 60
"""After a job that is being bought; a process that died meanwhile has lost its lease by then."""


async def collect_tasks(settings: Settings, network: Network) -> None:
    """See every unfinished job to its end, and print where its pictures are.

    Works beside servers: what one of them works on is looked at until it is done.

    Raises:
        EvolinkError: Pictures are not on disk, a key is missing, or the record of jobs
            cannot be used.
    """
    jobs = await _unfinished(settings)
    if not jobs:
        click.echo("Nothing is left to fetch.", err=True)
        return
    settings.require_key()
    with single_failure():
        unsaved = await _collect(settings, jobs, network=network)
    if unsaved:
        raise EvolinkError(
            message=f"{unsaved} of {len(jobs)} could not be fetched.",
            next_step="See the lines above, or: evolink-mcp tasks",
        )


@contextmanager
def single_failure() -> Generator[None]:
    """Take the first failure of ours out of the groups that task groups put around it."""
    try:
        yield
    except ExceptionGroup as group:
        ours = group.subgroup(EvolinkError)
        if ours is None:
            raise
        raise _first(ours) from group


def _first(group: ExceptionGroup[EvolinkError]) -> EvolinkError:
    first = group.exceptions[0]
    return first if isinstance(first, EvolinkError) else _first(first)


async def _unfinished(settings: Settings) -> list[Job]:
    async with open_record(settings) as journal:
        if journal is None:
            return []
        return await journal.newest(LOCAL, states=UNFINISHED, limit=MOST_ORPHANS)


async def _collect(settings: Settings, jobs: Sequence[Job], *, network: Network) -> int:
    """Return how many jobs are not on disk."""
    ended: list[Job] = []

    async def see_through(job: Job, watchers: Watchers) -> None:
        ended.append(await _end_of(job, watchers, network=network))
        _report(ended[-1])

    async with run_app(settings, network) as app, anyio.create_task_group() as group:
        watchers = (await app.connected()).watchers
        for job in jobs:
            group.start_soon(see_through, job, watchers)
    return sum(job.state != "collected" for job in ended)


async def _end_of(job: Job, watchers: Watchers, *, network: Network) -> Job:
    """Follow a job to its end while progress streams."""
    job = await _bought(job, watchers, network=network)
    if job.task_id is None:
        return job
    watch = await watchers.follow(job.task_id)
    await Progress(_say, partial(watchers.elapsed, watch)).follow(watch)
    return watch.job


async def _bought(job: Job, watchers: Watchers, *, network: Network) -> Job:
    """Wait for a job's task id, which another process may get at this moment.

    Where that process has died, the watchers settle the job by themselves.
    """
    for _ in range(LOOKS):
        if job.state != "intent":
            break
        await network.sleep(LOOK_SECONDS)
        job = await watchers.journal.look(job.id) or job
    return job


async def _say(_progress: float, _total: float, message: str) -> None:
    click.echo(message, err=True)


def _report(job: Job) -> None:
    """Print paths on stdout and trouble on stderr."""
    for picture in job.pictures:
        if picture.path is not None:
            click.echo(picture.path)
    if job.state != "collected":
        click.echo(f"{job.task_id or job.id}: {_trouble(job)}", err=True)


def _trouble(job: Job) -> str:
    if job.state == "unknown":
        return LOOK_AT_EVOLINK
    if job.state == "intent":
        return "another process is still buying it; look again in a minute"
    problems = [picture.problem for picture in job.pictures if picture.problem]
    return job.error.message if job.error else " ".join(dict.fromkeys(problems))
