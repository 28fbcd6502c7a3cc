"""The record of jobs."""

from __future__ import annotations

from typing import Protocol

from evolink_mcp.api.wire import TaskId
from evolink_mcp.jobs.job import Job, JobId


class Journal(Protocol):
    """Keeps jobs; what is recorded before a step is known after a crash in it."""

    async def record(self, job: Job) -> None:
        """Keep the job's newest state."""
        ...

    async def find(self, task_id: TaskId) -> Job | None:
        """Return the job that bought a task, where it is known."""
        ...


class MemoryJournal:
    """A journal for the life of one process."""

    def __init__(self) -> None:
        self._jobs: dict[JobId, Job] = {}
        self._by_task: dict[TaskId, JobId] = {}

    async def record(self, job: Job) -> None:
        """Keep the job's newest state."""
        self._jobs[job.id] = job
        if job.task_id is not None:
            self._by_task[job.task_id] = job.id

    async def find(self, task_id: TaskId) -> Job | None:
        """Return the job that bought a task, where it is known."""
        job_id = self._by_task.get(task_id)
        return self._jobs[job_id] if job_id is not None else None
