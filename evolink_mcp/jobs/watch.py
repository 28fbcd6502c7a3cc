"""The life of jobs: bought, watched and collected, whoever still waits for them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from evolink_mcp.api.client import EvolinkApi
from evolink_mcp.api.egress import Downloads
from evolink_mcp.api.network import Sleep
from evolink_mcp.api.wire import Task, TaskId
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.errors import (
    EvolinkError,
    OutcomeUnknown,
    RefusedByEvolink,
    TaskFailed,
    WaitAbandoned,
    quote_foreign,
)
from evolink_mcp.jobs.cadence import next_reading
from evolink_mcp.jobs.collect import all_on_disk, collect
from evolink_mcp.jobs.failures import failure_of
from evolink_mcp.jobs.job import Job, State, Watch, advanced, new_job_id
from evolink_mcp.jobs.journal import Journal
from evolink_mcp.jobs.submit import submit

logger = logging.getLogger(__name__)

LONGEST_WATCH = 3600.0
"""Seconds after which a task that does not end is left to a later `get_task`."""

LONGEST_SILENCE = 300.0
"""Seconds after which a task is read again, whatever a `Retry-After` asks for."""

_RUNNING = frozenset({"pending", "processing"})
_FAILED = frozenset({"failed", "cancelled"})


@dataclass(slots=True, kw_only=True)
class Watchers:
    """One watcher a task, however many callers wait; each lives on after its callers."""

    api: EvolinkApi
    downloads: Downloads
    journal: Journal
    folder: Path
    group: TaskGroup
    sleep: Sleep = anyio.sleep
    clock: Callable[[], float] = anyio.current_time
    _by_task: dict[TaskId, Watch] = field(default_factory=dict[TaskId, Watch])
    _paid_steps: set[anyio.CancelScope] = field(default_factory=set[anyio.CancelScope])

    async def buy(self, request: ImageRequest) -> Watch:
        """Record the intent, then buy the task and see it through, apart from the caller."""
        watch = self._watch(Job(id=new_job_id(), request=request))
        await self.journal.record(watch.job)
        self.group.start_soon(self._supervise, watch, partial(self._see_through, watch))
        return watch

    async def follow(self, task_id: TaskId) -> Watch:
        """Join whoever watches the task; else take it up, unless all of it is known."""
        job = await self.journal.find(task_id)
        settled = job is not None and await _is_settled(job)
        if task_id in self._by_task:
            return self._by_task[task_id]
        watch = self._watch(job or Job(id=new_job_id()))
        if settled:
            watch.update(watch.job, ended=True)
            return watch
        self._by_task[task_id] = watch
        self.group.start_soon(self._supervise, watch, partial(self._take_up, watch, task_id))
        return watch

    def wind_down(self, grace: float) -> None:
        """Give paid steps that are under way `grace` seconds from now, and no more."""
        for task_id in self._by_task:
            logger.warning("%s is left under way; get_task finds it by this id", task_id)
        for scope in self._paid_steps:
            scope.deadline = anyio.current_time() + grace

    def elapsed(self, watch: Watch) -> float:
        """Return the seconds since we began to look."""
        return self.clock() - watch.started

    def _watch(self, job: Job) -> Watch:
        return Watch(job, self.clock())

    async def _supervise(self, watch: Watch, life: Callable[[], Awaitable[None]]) -> None:
        """Live through a job; whatever goes wrong with one must not end the others."""
        try:
            await life()
        except Exception:
            logger.exception("job %s: broken off", watch.job.id)
            self._release(watch, replace(watch.job, error=_broken_off()), task_id=watch.job.task_id)

    async def _see_through(self, watch: Watch) -> None:
        await self._pay(partial(self._buy, watch))
        await self._pursue(watch)

    async def _pay(self, step: Callable[[], Awaitable[None]]) -> None:
        """Shield a paid step from callers who leave, and for a while from the server's end."""
        scope = anyio.CancelScope(shield=True)
        self._paid_steps.add(scope)
        try:
            with scope:
                await step()
        finally:
            self._paid_steps.discard(scope)

    async def _buy(self, watch: Watch) -> None:
        job = watch.job
        assert job.request is not None, "only jobs with a request are bought"  # noqa: S101
        try:
            task = await submit(job.request, job_id=job.id, api=self.api, sleep=self.sleep)
        except EvolinkError as error:
            state: State = "unknown" if isinstance(error, OutcomeUnknown) else "refused"
            logger.warning("job %s: %s (%s)", job.id, state, error.code)
            await self._end(watch, replace(job, state=state, error=error))
        else:
            self._by_task[task.task_id] = watch
            await self._advance(watch, task)

    async def _take_up(self, watch: Watch, task_id: TaskId) -> None:
        try:
            task = await self.api.task(task_id)
        except EvolinkError as error:
            self._release(watch, replace(watch.job, error=error), task_id=task_id)
        else:
            await self._advance(watch, task)
            await self._pursue(watch)

    async def _pursue(self, watch: Watch) -> None:
        """Watch a bought task to its end and collect its pictures."""
        task = watch.job.task
        if task is None:
            return
        try:
            ended = await self._until_ended(watch, task=task)
            await self._collect(watch, task=ended)
        except TaskFailed as error:
            await self._end(watch, replace(watch.job, state="failed", error=error))
        except EvolinkError as error:
            self._release(watch, replace(watch.job, error=error), task_id=task.task_id)

    async def _until_ended(self, watch: Watch, *, task: Task) -> Task:
        while task.status in _RUNNING:
            await self._pause(watch, task)
            task = await self._advance(watch, await self._read_again(task))
        if task.status in _FAILED:
            raise failure_of(task)
        if task.status != "completed" and not task.links:
            raise _unknown_status(task)
        return task

    async def _pause(self, watch: Watch, task: Task) -> None:
        elapsed = self.elapsed(watch)
        if elapsed > LONGEST_WATCH:
            raise _too_long(task)
        await self.sleep(
            next_reading(elapsed=elapsed, estimated=task.estimated_seconds, progress=task.progress)
        )

    async def _read_again(self, task: Task) -> Task:
        """Read the task; trouble on the way says nothing about the task itself."""
        try:
            return await self.api.task(task.task_id)
        except EvolinkError as error:
            if not error.retryable:
                raise
            logger.warning("task %s: not readable at the moment (%s)", task.id, error.code)
            asked = error.retry_after if isinstance(error, RefusedByEvolink) else None
            await self.sleep(min(asked or 0.0, LONGEST_SILENCE))
            return task

    async def _collect(self, watch: Watch, *, task: Task) -> None:
        if not task.links:
            raise _no_pictures(task)
        await self._pay(partial(self._save, watch, task=task))

    async def _save(self, watch: Watch, *, task: Task) -> None:
        pictures = await collect(watch.job, task=task, downloads=self.downloads, folder=self.folder)
        saved = all(picture.path for picture in pictures)
        state: State = "collected" if saved else "completed"
        await self._end(watch, replace(watch.job, state=state, pictures=pictures, error=None))

    async def _advance(self, watch: Watch, task: Task) -> Task:
        """Take a reading up, and return it with what earlier ones said beyond it."""
        task = task.filled_from(watch.job.task)
        job = advanced(watch.job, task)
        if job.state != watch.job.state:
            logger.info("task %s: %s", task.id, job.state)
            await self.journal.record(job)
        watch.update(job)
        return task

    async def _end(self, watch: Watch, job: Job) -> None:
        logger.info("job %s: %s", job.id, job.state)
        await self.journal.record(job)
        self._release(watch, job, task_id=job.task_id)

    def _release(self, watch: Watch, job: Job, *, task_id: TaskId | None) -> None:
        if task_id is not None:
            self._by_task.pop(task_id, None)
        watch.update(job, ended=True)


async def _is_settled(job: Job) -> bool:
    """Tell whether a job has ended and needs no second look at EvoLink."""
    if job.state == "collected":
        return await all_on_disk(job.pictures)
    return job.state == "failed"


def _broken_off() -> EvolinkError:
    return EvolinkError(
        code="internal_error",
        message="Something went wrong inside this server; its log says where.",
        next_step="If there is a task id, call get_task with it; do not start the same generation "
        "again.",
        charged="unknown",
    )


def _no_pictures(task: Task) -> WaitAbandoned:
    return WaitAbandoned(
        code="no_pictures",
        message=f"EvoLink calls the task {quote_foreign(task.status)}, but lists no pictures.",
        next_step="Call get_task with this task id again in a minute; if there are still none, "
        "the user should write to EvoLink with the task id.",
        charged="unknown",
    )


def _unknown_status(task: Task) -> WaitAbandoned:
    return WaitAbandoned(
        code="unknown_status",
        message=f"EvoLink reports a status that is not documented: {quote_foreign(task.status)}.",
        next_step="Call get_task with this task id again in a minute; do not start the same "
        "generation again.",
        charged="unknown",
    )


def _too_long(task: Task) -> WaitAbandoned:
    return WaitAbandoned(
        message=f"The task has not ended after {LONGEST_WATCH / 60:.0f} minutes "
        f"({task.progress:.0f} %).",
        next_step="Call get_task with this task id later; do not start the same generation again.",
    )
