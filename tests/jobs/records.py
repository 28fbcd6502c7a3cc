"""What the tests of the journal share: a record in a file, jobs for it, readings of tasks."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from evolink_mcp.api.wire import Task
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.jobs.job import LOCAL, Job, Principal, new_job_id
from evolink_mcp.jobs.journal import Budget, Journal, open_journal
from tests.sandbox.desk import BASE_URL, Clock

NO_CAP = Budget(a_picture=2.5, a_day=None)

FOX = ImageRequest(model="gpt-4o-image", prompt="a fox")


@asynccontextmanager
async def open_record(
    path: Path | None, clock: Clock, *, origin: str = BASE_URL
) -> AsyncGenerator[Journal]:
    async with open_journal(path, origin=origin, now=clock) as journal:
        yield journal


def new_job(request: ImageRequest = FOX, *, principal: Principal = LOCAL) -> Job:
    return Job(id=new_job_id(), request=request, principal=principal)


async def admitted(journal: Journal, job: Job | None = None) -> Job:
    """Record an intent, whatever it costs."""
    admission = await journal.admit(job or new_job(), budget=NO_CAP)
    assert not admission.joined
    return admission.job


def submitted(job: Job, name: str = "1", *, credits_reserved: float | None = None) -> Job:
    """Return the job once EvoLink has taken it."""
    body = {"id": f"task-unified-{name}", "usage": {"credits_reserved": credits_reserved}}
    return replace(job, state="submitted", task=Task.model_validate(body))
