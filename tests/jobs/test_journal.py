from __future__ import annotations

from dataclasses import replace

from evolink_mcp.api.wire import Task, TaskId
from evolink_mcp.jobs.job import Job, JobId
from evolink_mcp.jobs.journal import MemoryJournal

TASK = Task(id="task-unified-1", status="pending")


async def test_a_job_is_found_by_its_task_in_its_newest_state() -> None:
    journal, job = MemoryJournal(), Job(id=JobId("run_1"))
    await journal.record(job)
    assert await journal.find(TaskId("task-unified-1")) is None
    await journal.record(replace(job, task=TASK, state="submitted"))
    newest = replace(job, task=TASK, state="collected")
    await journal.record(newest)
    assert await journal.find(TaskId("task-unified-1")) == newest
    assert await journal.find(TaskId("task-unified-2")) is None
