"""EvoLink's callbacks: when tasks are read because of them, and whether they can be relied on.

They are not signed (EvoLink docs, `callback_url`), so that one is a hint and nothing else: the
task is read, and only that is believed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from evolink_mcp.api.network import Sleep
from evolink_mcp.api.wire import Task
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.errors import EvolinkError, RefusedByEvolink
from evolink_mcp.jobs.cadence import (
    SHORTEST,
    next_reading,
    next_reading_after_callback,
    next_reading_before_callback,
)
from evolink_mcp.jobs.hint import Hint
from evolink_mcp.jobs.job import Job, JobId, Watch
from evolink_mcp.jobs.submit import bought_nothing

logger = logging.getLogger(__name__)

ALLOWANCE = 10.0
"""Seconds that a callback may come after the end that a reading has told: the repeats of one
that failed begin 1, 3 and 7 s after it (EvoLink docs, `callback_url`)."""

HARDEST_PROOF = 64
"""Callbacks in a row that it takes at most to rely on them again."""

CallbackUrl = Callable[[JobId], str]
"""Makes the address under which EvoLink tells the end of a job's task; it is a secret."""


@dataclass(slots=True, kw_only=True)
class Callbacks:
    """Knows whether the callbacks of one EvoLink arrive in this process.

    While they do, tasks are left alone until theirs comes, but for a look now and then. One
    that stays away sends all who wait back to the usual cadence, and each time it takes twice
    as many to rely on them again: where several processes share a public address, a callback
    may reach one that does not watch its job, and nobody can rely on them there.
    """

    url: CallbackUrl | None
    """None where EvoLink cannot reach us: none are asked for."""
    sleep: Sleep
    clock: Callable[[], float]
    arriving: bool = False
    _waiting: set[Hint] = field(default_factory=set[Hint])
    """Jobs that rely on their callback now."""
    _due: dict[JobId, float] = field(default_factory=dict[JobId, float])
    """Jobs that a reading found over before their callback came: until when it may come."""
    _in_a_row: int = 0
    _proof: int = 1
    """Callbacks in a row that it takes to rely on them."""

    def asked_for(self, watch: Watch, request: ImageRequest) -> ImageRequest:
        """Return a request with our address in it, unless the caller gave one of their own."""
        if self.url is None or request.callback_url is not None:
            return request
        watch.hint.expected = True
        return replace(request, callback_url=self.url(watch.job.id))

    def may_name(self, job: Job) -> bool:
        """Tell whether a callback of EvoLink's may name the task of a purchase."""
        return self.url is not None and job.request is not None and not job.request.callback_url

    def is_unwelcome(self, error: EvolinkError, *, hint: Hint) -> bool:
        """Tell whether EvoLink refused a request for our address, which then is told no more."""
        if not (hint.expected and isinstance(error, RefusedByEvolink) and bought_nothing(error)):
            return False
        if "callback" not in f"{error.said} {error.upstream_code}".lower():
            return False
        logger.warning("EvoLink refuses our callback address (EVOLINK_PUBLIC_URL): tasks are read")
        self.url, hint.expected = None, False
        return True

    def come(self, job_id: JobId, hint: Hint | None) -> None:
        """Take a callback for a job; `hint` where it is worked on here. Neither waits nor fails."""
        if self._due.pop(job_id, None) is not None:
            self._has_come()
        elif hint is not None:
            hint.come()

    async def pause(self, hint: Hint, task: Task, *, elapsed: float) -> None:
        """Wait until a task is to be read, `elapsed` seconds after its submission."""
        if not hint.fresh:
            await self._rest(hint, task, elapsed=elapsed)
        if hint.fresh:
            if (wait := hint.too_soon(self.clock(), apart=SHORTEST)) > 0:
                await self.sleep(wait)
            hint.follow(self.clock())

    def found_over(self, watch: Watch) -> None:
        """Learn from the end of a task, which a reading has just told."""
        if watch.hint.came:
            self._has_come()
        elif watch.hint.expected:
            self._due[watch.job.id] = self.clock() + ALLOWANCE

    def judge(self) -> None:
        """Give up waiting for callbacks that are overdue; to be called now and then."""
        now = self.clock()
        overdue = [job_id for job_id, until in self._due.items() if until <= now]
        for job_id in overdue:
            del self._due[job_id]
        if overdue:
            self._has_stayed_away()

    async def _rest(self, hint: Hint, task: Task, *, elapsed: float) -> None:
        estimated = task.estimated_seconds
        usual = next_reading(elapsed=elapsed, estimated=estimated, progress=task.progress)
        if hint.came:
            seconds = next_reading_after_callback(usual=usual, fruitless=hint.fruitless)
            hint.fruitless += 1
            await hint.rest(seconds, sleep=self.sleep)
        elif hint.expected and self.arriving:
            seconds = next_reading_before_callback(elapsed=elapsed, estimated=estimated)
            await self._rely(hint, seconds)
        else:
            await hint.rest(usual, sleep=self.sleep)

    async def _rely(self, hint: Hint, seconds: float) -> None:
        self._waiting.add(hint)
        try:
            await hint.rest(seconds, sleep=self.sleep)
        finally:
            self._waiting.discard(hint)

    def _has_come(self) -> None:
        self._in_a_row += 1
        if not self.arriving and self._in_a_row >= self._proof:
            self.arriving = True
            logger.info("callbacks arrive: tasks are read when theirs comes")

    def _has_stayed_away(self) -> None:
        self._in_a_row = 0
        if self.arriving:
            self.arriving = False
            self._proof = min(2 * self._proof, HARDEST_PROOF)
            logger.warning("callbacks do not arrive: tasks are read as if there were none")
            for hint in self._waiting:
                hint.wake()
