"""Keeping what happens to jobs, even while the journal cannot be written."""

from __future__ import annotations

import logging
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field

from evolink_mcp.api.wire import TaskId
from evolink_mcp.errors import JournalUnusable
from evolink_mcp.jobs.job import Job, JobId, Moved, Watch
from evolink_mcp.jobs.journal import Journal

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """What a job has come to, not written yet."""

    watch: Watch
    job: Job
    ended: bool


@dataclass(slots=True)
class Keeper:
    """Writes states down; what could not be written is kept here and written later."""

    journal: Journal
    moved: Moved
    _newest: dict[JobId, _State] = field(default_factory=dict[JobId, _State])
    """What is not written yet. An older state must never be written over a newer one."""

    @property
    def unwritten(self) -> AbstractSet[JobId]:
        """The jobs whose newest state is not written yet."""
        return self._newest.keys()

    def unwritten_of(self, task_id: TaskId) -> Job | None:
        """Return the job of a task where its newest state is not written yet."""
        jobs = (state.job for state in self._newest.values())
        return next((job for job in jobs if job.task_id == task_id), None)

    async def keep(self, watch: Watch, job: Job, *, ended: bool = False) -> None:
        """Record the job, then show it to those who look on."""
        state = self._newest[job.id] = _State(watch, job, ended)
        with suppress(JournalUnusable):  # it is told, and tried again
            await self._write(state)
        watch.update(job, ended=ended)
        await self.moved(job)

    async def flush(self) -> None:
        """Try again what could not be written before.

        Raises:
            JournalUnusable: At the first of them; the others would fail alike, after a long wait.
        """
        for job_id in tuple(self._newest):
            await self.flush_one(job_id)

    async def flush_one(self, job_id: JobId) -> None:
        """Try again for one job.

        Raises:
            JournalUnusable: What is known of it is not written yet.
        """
        if state := self._newest.get(job_id):
            await self._write(state)

    def give_up(self, job_id: JobId) -> None:
        """Leave a job as it is recorded: what is known of it cannot be written at all."""
        if state := self._newest.pop(job_id, None):
            words = "job %s, task %s: %s is not recorded"
            job, about = state.job, {"job": job_id}
            logger.error(words, job_id, job.task_id, job.state, extra=about)

    async def _write(self, state: _State) -> None:
        job = state.job
        try:
            await self.journal.record(job, release=state.ended)
        except JournalUnusable as error:
            words = "job %s, task %s: %s is not recorded (%s)"
            about = {"job": job.id}
            logger.error(words, job.id, job.task_id, job.state, error, extra=about)  # noqa: TRY400 - its words are ours
            state.watch.unsaved = True
            raise
        if self._newest.get(job.id) is state:
            del self._newest[job.id]
            state.watch.unsaved = False
