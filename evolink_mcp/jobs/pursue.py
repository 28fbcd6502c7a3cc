"""Seeing one bought task to its end: reading it until it is over, collecting its pictures."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from evolink_mcp.api.client import EvolinkApi
from evolink_mcp.api.egress import Downloads
from evolink_mcp.api.network import Sleep
from evolink_mcp.api.wire import Task, TaskId
from evolink_mcp.errors import (
    EvolinkError,
    JournalUnusable,
    NeverSent,
    OutcomeUnknown,
    PicturesUnsaved,
    RefusedByEvolink,
    TaskFailed,
    TaskNotFound,
    WaitAbandoned,
    quote_foreign,
)
from evolink_mcp.jobs.callbacks import Callbacks
from evolink_mcp.jobs.collect import RESULT_LIFETIME, collect
from evolink_mcp.jobs.failures import failure_of
from evolink_mcp.jobs.job import Job, Watch, advanced, settled
from evolink_mcp.jobs.keep import Keeper
from evolink_mcp.jobs.lost import LostPurchases
from evolink_mcp.jobs.submit import outcome_unknown, submit

logger = logging.getLogger(__name__)

LONGEST_WATCH = 3600.0
"""Seconds after which a task that does not end is left to a later look."""

LONGEST_SILENCE = 300.0
"""Seconds after which a task is read again, whatever a `Retry-After` asks for."""

_RUNNING = frozenset({"pending", "processing"})
_FAILED = frozenset({"failed", "cancelled"})

Pay = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]
"""Runs a paid step so that nobody who leaves breaks it off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pursuit:
    """What it takes to buy a task and to see it through."""

    api: EvolinkApi
    downloads: Downloads
    folder: Path
    keeper: Keeper
    callbacks: Callbacks
    lost: LostPurchases
    pay: Pay
    sleep: Sleep
    clock: Callable[[], float]

    async def buy(self, watch: Watch) -> None:
        """Send the request of a recorded intent, once, and record what came of it."""
        job = watch.job
        try:
            task = await self._submit(watch)
        except OutcomeUnknown as error:
            if (named := await self._named(watch)) is None:
                logger.warning("job %s: unknown (%s)", job.id, error.code)
                await self._end_unknown(watch, error)
                return
            task = named
        except EvolinkError as error:
            logger.warning("job %s: refused (%s)", job.id, error.code)
            await self._end(watch, replace(job, state="refused", error=error))
            return
        await self._advance(watch, task)

    async def _submit(self, watch: Watch) -> Task:
        """Send a request, with our callback address if EvoLink takes that.

        Raises:
            EvolinkError: As `submit` does.
        """
        job = watch.job
        assert job.request is not None, "only jobs with a request are bought"  # noqa: S101
        again = partial(self._wait_to_send_again, job)
        send = partial(submit, job_id=job.id, api=self.api, sleep=again)
        try:
            return await send(self.callbacks.asked_for(watch, job.request))
        except EvolinkError as error:
            if not self.callbacks.is_unwelcome(error, hint=watch.hint):
                raise
        return await send(job.request)

    async def _named(self, watch: Watch) -> Task | None:
        """Look for the task that a callback has named before its purchase was answered."""
        name = watch.hint.take_name()
        return None if name is None else await self.lost.look(watch.job, name)

    async def meet(self, task_id: TaskId, *, job: Job) -> Job:
        """Look for the first time at a task that was bought elsewhere.

        Raises:
            EvolinkError: It cannot be read.
        """
        met = advanced(job, await self.api.task(task_id))
        try:
            return await self.keeper.journal.enroll(met)
        except JournalUnusable as error:
            logger.warning("%s", error)
            return met

    async def finish(self, watch: Watch, *, task: Task | None) -> None:
        """See a job to its end; `task` is a reading of this very moment, where there is one.

        Raises:
            EvolinkError: It is not over, but cannot be gone on with now.
        """
        job = watch.job
        if job.task is None:
            await self._end_unknown(watch, outcome_unknown(_CRASHED))
            return
        try:
            task = task or await self._advance(watch, await self.api.task(job.task.task_id))
            await self._collect(watch, task=await self._until_ended(watch, task=task))
        except TaskFailed as error:
            await self._end(watch, replace(watch.job, state="failed", error=error))
        except TaskNotFound as error:
            if not self._is_over(watch.job):
                raise
            await self._end(watch, replace(watch.job, state="expired", error=_task_gone(error)))

    def _is_over(self, job: Job) -> bool:
        """Tell whether the links of a job's results are older than they get."""
        began = (job.task.created if job.task else None) or job.created or math.inf
        return self.keeper.journal.now() > began + RESULT_LIFETIME.total_seconds()

    async def _until_ended(self, watch: Watch, *, task: Task) -> Task:
        while task.status in _RUNNING:
            await self._pause(watch, task)
            task = await self._advance(watch, await self._read_again(task))
        self.callbacks.found_over(watch)
        if task.status in _FAILED:
            raise failure_of(task)
        if task.status != "completed" and not task.links:
            raise _unknown_status(task)
        return task

    async def _pause(self, watch: Watch, task: Task) -> None:
        elapsed = self.clock() - watch.started
        if elapsed > LONGEST_WATCH:
            raise _too_long(task)
        age = max(elapsed, self.keeper.journal.now() - (watch.job.created or math.inf))
        await self.callbacks.pause(watch.hint, task, elapsed=age)

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
        await self.pay(partial(self._save, watch, task=task))
        if watch.job.state == "completed":
            raise _unsaved_pictures(watch.job)

    async def _save(self, watch: Watch, *, task: Task) -> None:
        pictures = await collect(watch.job, task=task, downloads=self.downloads, folder=self.folder)
        job = replace(watch.job, pictures=pictures, error=None)
        if all(picture.path for picture in pictures):
            self._count(watch.job)
            await self._end(watch, replace(job, state="collected"))
        elif self._is_over(job):
            await self._end(watch, replace(job, state="expired"))
        else:
            await self.keeper.keep(watch, settled(replace(job, state="completed")))

    def _count(self, before: Job) -> None:
        """Note how long a picture took, but not how long after it was fetched once more."""
        again = bool(before.pictures) and all(picture.path for picture in before.pictures)
        if before.request is not None and not again:
            seconds = max(0.0, self.keeper.journal.now() - before.created)
            self.api.figures.pictured(before.request.model, seconds)

    async def _wait_to_send_again(self, job: Job, seconds: float) -> None:
        """Wait, unless another process took this one for dead meanwhile and gave the intent up.

        Raises:
            NeverSent: Whoever asked was told that the outcome is unknown, and may have bought anew.
        """
        await self.sleep(seconds)
        try:
            claimed = await self.keeper.journal.claim(job)
        except JournalUnusable as error:
            logger.warning("%s", error)
        else:
            if claimed is None or claimed.state != "intent":
                raise _given_up()

    async def _advance(self, watch: Watch, task: Task) -> Task:
        """Take a reading up, and return it with what earlier ones said beyond it."""
        task = task.filled_from(watch.job.task)
        job = advanced(watch.job, task)
        if job.state != watch.job.state:
            logger.info("task %s: %s", task.id, job.state)
            await self.keeper.keep(watch, job)
        else:
            watch.update(job)
        return task

    async def _end_unknown(self, watch: Watch, error: OutcomeUnknown) -> None:
        """End a purchase of which nobody knows whether it is one; a callback may still tell."""
        if self.callbacks.may_name(watch.job):
            error = replace(error, next_step=_MAY_TURN_UP + error.next_step)
        await self._end(watch, replace(watch.job, state="unknown", error=error))

    async def _end(self, watch: Watch, job: Job) -> None:
        logger.info("job %s: %s", job.id, job.state)
        await self.keeper.keep(watch, settled(job), ended=True)


def _given_up() -> NeverSent:
    return NeverSent(
        message="This computer slept while EvoLink was to be asked again, so the request was given "
        "up. EvoLink had not taken it.",
        next_step="Call again.",
    )


_MAY_TURN_UP = (
    "Look with list_tasks in two minutes: if EvoLink took the request, its picture most likely is "
    "there by then. If not: "
)


_CRASHED = "This server ended while it was buying."


def _unsaved_pictures(job: Job) -> PicturesUnsaved:
    problems = (picture.problem for picture in job.pictures if picture.problem)
    return PicturesUnsaved(message=" ".join(problems), next_step="")


def _task_gone(error: TaskNotFound) -> EvolinkError:
    return replace(
        error,
        message="EvoLink does not know this task any more, and its pictures were not saved while "
        "it did.",
        next_step="They cannot be fetched any more. Tell the user; a new call of generate_image "
        "is a new purchase.",
        charged="yes",
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
