"""Purchases of unknown outcome, found again by the task that EvoLink's callback names.

Nothing else is taken from a callback, and this for a question only: the task is read, and counts
if it was made when the purchase was, and is on record as nobody's purchase.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Final

from evolink_mcp.api.client import EvolinkApi
from evolink_mcp.api.wire import Task, TaskId
from evolink_mcp.errors import EvolinkError, JournalUnusable
from evolink_mcp.jobs.job import Job, JobId, advanced
from evolink_mcp.jobs.journal import Journal

logger = logging.getLogger(__name__)

MOST: Final = 1000
"""Purchases that are kept in mind; the oldest makes way for another."""

TRIES: Final = 8
"""Looks after one purchase; EvoLink sends a callback four times at most (docs, `callback_url`)."""

EARLIEST: Final = -120.0
LATEST: Final = 600.0
"""Seconds from the record of a purchase to the making of its task: two clocks tell them, and a
request may be sent again after a pause."""


@dataclass(slots=True)
class Lost:
    """A purchase whose outcome nobody knows."""

    job: Job
    tries: int = TRIES
    """Looks that are left."""
    sought: bool = False
    """Whether somebody is looking just now."""


@dataclass(slots=True, kw_only=True)
class LostPurchases:
    """The purchases of one key whose outcome nobody knows."""

    api: EvolinkApi
    journal: Journal
    most: int = MOST
    _lost: OrderedDict[JobId, Lost] = field(default_factory=OrderedDict[JobId, Lost])

    def __contains__(self, job_id: object) -> bool:
        """Tell whether a callback may still find a purchase."""
        return job_id in self._lost

    def add(self, job: Job) -> None:
        """Keep a purchase in mind."""
        self._lost[job.id] = Lost(job)
        if len(self._lost) > self.most:
            self._lost.popitem(last=False)

    def begin(self, job_id: JobId) -> Lost | None:
        """Return a purchase to look for with `find`; None where there is none, or somebody does."""
        lost = self._lost.get(job_id)
        if lost is None or lost.sought:
            return None
        lost.sought, lost.tries = True, lost.tries - 1
        return lost

    async def find(self, lost: Lost, task_id: TaskId) -> Job | None:
        """Return a purchase with the task that is said to be its own, recorded and taken on.

        None where it is not, or cannot be looked at.
        """
        found = None
        try:
            found = await self._find(lost.job, task_id)
        finally:
            lost.sought = False
            if found is not None or lost.tries == 0:
                self._lost.pop(lost.job.id, None)
        return found

    async def look(self, job: Job, task_id: TaskId) -> Task | None:
        """Read the task that is said to be a purchase's; None where it is not. Does not fail."""
        try:
            task = await self.api.task(task_id)
            known = await self.journal.find_of_any_key(task_id)
        except EvolinkError as error:
            logger.warning("job %s: the task that its callback names: %s", job.id, error.code)
            return None
        is_anothers = any(other.request is not None for other in known)
        if is_anothers or not EARLIEST <= (task.created or 0.0) - job.created <= LATEST:
            logger.warning("job %s: the task that its callback names is not its own", job.id)
            return None
        return task

    async def _find(self, job: Job, task_id: TaskId) -> Job | None:
        if (task := await self.look(job, task_id)) is None:
            return None
        try:
            return await self.journal.adopt(advanced(replace(job, error=None), task))
        except JournalUnusable as error:
            logger.warning("%s", error)
            return None
