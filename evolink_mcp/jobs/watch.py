"""The life of jobs: bought, watched and collected, whoever still waits for them."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from evolink_mcp.api.client import EvolinkApi
from evolink_mcp.api.egress import Downloads
from evolink_mcp.api.network import Sleep
from evolink_mcp.api.wire import TaskId
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.errors import EvolinkError, JournalUnusable, PicturesUnsaved, TaskNotFound
from evolink_mcp.jobs.callbacks import Callbacks, CallbackUrl
from evolink_mcp.jobs.collect import all_on_disk
from evolink_mcp.jobs.job import (
    LOCAL,
    UNFINISHED,
    Job,
    JobId,
    Moved,
    Principal,
    Watch,
    new_job_id,
    tell_nobody,
)
from evolink_mcp.jobs.journal import Budget, Journal
from evolink_mcp.jobs.keep import Keeper
from evolink_mcp.jobs.lost import Lost, LostPurchases
from evolink_mcp.jobs.pursue import Pursuit
from evolink_mcp.logs import JOB, REQUEST

logger = logging.getLogger(__name__)

BEAT_SECONDS = 10.0
"""Between two looks after the lease and after jobs that nobody works on."""

LOOK_SECONDS = 1.0
"""Between two looks at a job that another process works on."""

MARK_SECONDS = 1.0
"""After an answer, until its delivery is written down: it has to get out first."""

MOST_ORPHANS = 1000
"""Jobs that are taken over at a time."""


Arrived = Callable[[], Awaitable[bool]]
"""Waits until it is known whether an answer has arrived, and tells."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """A job that was bought, or an earlier one that the same call has joined."""

    watch: Watch
    joined: bool


@dataclass(slots=True, kw_only=True)
class Watchers:
    """One watcher a task, however many callers wait; each lives on after its callers."""

    api: EvolinkApi
    downloads: Downloads
    journal: Journal
    folder: Path
    group: TaskGroup
    refusal: JournalUnusable | None = None
    """Why nothing may be bought: the user's journal cannot be used, and this is another one."""
    moved: Moved = tell_nobody
    callback_url: CallbackUrl | None = None
    """None where EvoLink cannot reach us."""
    sleep: Sleep = anyio.sleep
    clock: Callable[[], float] = anyio.current_time
    _keeper: Keeper = field(init=False)
    _callbacks: Callbacks = field(init=False)
    _lost: LostPurchases = field(init=False)
    _pursuit: Pursuit = field(init=False)
    _by_job: dict[JobId, Watch] = field(default_factory=dict[JobId, Watch])
    _strangers: dict[TaskId, Watch] = field(default_factory=dict[TaskId, Watch])
    """Tasks that the journal does not know yet."""
    _works: dict[JobId, anyio.CancelScope] = field(default_factory=dict[JobId, anyio.CancelScope])
    _paid_steps: set[anyio.CancelScope] = field(default_factory=set[anyio.CancelScope])
    _deadline: float = math.inf
    _marking: bool = False
    _buying: int = 0
    """Purchases whose intent is just being recorded."""

    def __post_init__(self) -> None:
        """Put together what a job's life takes."""
        self._keeper = Keeper(self.journal, self.moved)
        self._callbacks = Callbacks(url=self.callback_url, sleep=self.sleep, clock=self.clock)
        self._lost = LostPurchases(api=self.api, journal=self.journal)
        self._pursuit = Pursuit(
            api=self.api,
            downloads=self.downloads,
            folder=self.folder,
            keeper=self._keeper,
            callbacks=self._callbacks,
            lost=self._lost,
            pay=self._pay,
            sleep=self.sleep,
            clock=self.clock,
        )

    @property
    def is_idle(self) -> bool:
        """Whether there is no job that is begun, worked on or still to be written down."""
        return not (self._buying or self._by_job or self._strangers or self._keeper.unwritten)

    async def buy(
        self, request: ImageRequest, *, budget: Budget, principal: Principal = LOCAL, wish: str = ""
    ) -> Purchase:
        """Record the intent, then buy the task and see it through, apart from the caller.

        Raises:
            CapReached: The day's credits do not suffice.
            JournalUnusable: The intent cannot be recorded, so nothing is bought.
        """
        if self.refusal is not None:
            raise self.refusal
        bought: list[Purchase] = []
        with anyio.CancelScope(shield=True):  # an intent on record must not be left alone
            bought.append(
                await self._purchase(
                    Job(id=new_job_id(), principal=principal, request=request, wish=wish), budget
                )
            )
        return bought[0]

    async def join(self, wanted: Job) -> Purchase | None:
        """Join an earlier purchase of what is wanted, where there is one; buys nothing.

        Raises:
            JournalUnusable: It cannot be looked up.
        """
        if self.refusal is not None:
            raise self.refusal
        earlier = await self.journal.join(wanted)
        return None if earlier is None else Purchase(await self._watch(earlier), joined=True)

    async def follow(self, task_id: TaskId, *, principal: Principal = LOCAL) -> Watch:
        """Join whoever watches the task; else take it up, unless all of it is known.

        Others than the one who runs the server see their own jobs only: a task that is not on
        record may be anybody's.

        Raises:
            TaskNotFound: It is another's, in the words for one that does not exist.
            JournalUnusable: Nobody can tell whose it is.
        """
        job, trouble = await self._find(task_id)
        if watch := self._watching(task_id):
            return _owned(watch, principal, task_id=task_id)
        if job := self._keeper.unwritten_of(task_id) or job:
            _check_owner(job, principal, task_id=task_id)
            return await self._watch(job)
        if principal != LOCAL:
            raise trouble or self.refusal or not_found(task_id)
        watch = self._strangers[task_id] = Watch(Job(id=new_job_id()), self.clock())
        self.group.start_soon(self._supervise, watch, partial(self._meet, watch, task_id))
        return watch

    def called_back(self, job_id: JobId) -> bool:
        """Take EvoLink's hint that a job's task is over: it is read soon, and only that counts.

        Costs nothing and waits for nothing, however many come. One for a job that has ended,
        or that another process works on, does nothing; that process goes on reading. Tells
        whether the task is not known here, so that its name is of use (`named`).
        """
        watch = self._by_job.get(job_id)
        self._callbacks.come(job_id, watch.hint if watch else None)
        return watch.job.task is None if watch else job_id in self._lost

    def named(self, job_id: JobId, task_id: TaskId) -> None:
        """Take the name that a callback gives to a job's task; it is looked at before it counts.

        Of use where the answer to the purchase was lost; as long as it may come, it goes first.
        """
        if watch := self._by_job.get(job_id):
            watch.hint.name = task_id
        elif lost := self._lost.begin(job_id):
            self.group.start_soon(self._regain, lost, task_id)

    def answered(self, watch: Watch, *, arrived: Arrived | None = None) -> None:
        """Note that an answer about a job goes out now.

        It counts at once, or, where it may be lost on its way, once it has `arrived`.
        """
        if arrived is None:
            self._note(watch.job.id)
        else:
            self.group.start_soon(self._note_arrival, watch.job.id, arrived)

    async def tend(self) -> None:
        """Keep the lease, write down what could not be written, take over what nobody works on."""
        self._callbacks.judge()
        try:
            worked_on = tuple(self._works.items())
            mine = await self.journal.leases.renew()
            for job_id, scope in worked_on:
                if job_id not in mine:
                    scope.cancel()
            await self._keeper.flush()
            for job_id in mine - self._by_job.keys() - self._keeper.unwritten:
                await self.journal.leases.release(job_id, in_trouble=True)
            for job in await self.journal.orphans(limit=MOST_ORPHANS):
                await self._watch(job)
        except JournalUnusable as error:
            logger.warning("%s", error)

    async def tend_for_ever(self) -> None:
        """Tend until cancelled, for everybody and not for the request in which that began."""
        REQUEST.set("")
        while True:
            await self.tend()
            await self.sleep(BEAT_SECONDS)

    def wind_down(self, grace: float) -> None:
        """Give paid steps `grace` seconds from now, and no more."""
        self._deadline = anyio.current_time() + grace
        for job_id, watch in self._by_job.items():
            about = {"job": job_id}
            logger.warning(
                "%s is left under way (%s)", watch.job.task_id or job_id, job_id, extra=about
            )
        for scope in self._paid_steps:
            scope.deadline = self._deadline

    async def leave(self) -> None:
        """Write down what is left to write, and let the jobs go to other processes."""
        try:
            await self._keeper.flush()
            await self.journal.mark_delivered()
            await self.journal.leases.leave()
        except JournalUnusable as error:
            logger.warning("%s", error)

    def elapsed(self, watch: Watch) -> float:
        """Return the seconds since we began to look."""
        return self.clock() - watch.started

    async def _purchase(self, wanted: Job, budget: Budget) -> Purchase:
        self._buying += 1
        try:
            admission = await self.journal.admit(wanted, budget=budget)
        finally:
            self._buying -= 1
        if admission.joined:
            joined = admission.job.id
            logger.info("job %s: joined by an identical call", joined, extra={"job": joined})
            return Purchase(await self._watch(admission.job), joined=True)
        return Purchase(self._begin(admission.job, self._buy), joined=False)

    async def _find(self, task_id: TaskId) -> tuple[Job | None, JournalUnusable | None]:
        """Look a task up; without the journal it is a stranger's."""
        try:
            return await self.journal.find(task_id), None
        except JournalUnusable as error:
            logger.warning("%s", error)
            return None, error

    def _watching(self, task_id: TaskId) -> Watch | None:
        for watch in self._by_job.values():
            if watch.job.task_id == task_id:
                return watch
        return self._strangers.get(task_id)

    async def _watch(self, job: Job) -> Watch:
        """Return the one watch of a job, begun where there is none and something left to do."""
        over = await _is_settled(job)
        if job.id in self._by_job:
            return self._by_job[job.id]
        if over:
            return Watch(job, self.clock(), ended=True)
        return self._begin(job, self._go_on)

    def _begin(self, job: Job, life: Callable[[Watch], Awaitable[None]]) -> Watch:
        watch = Watch(job, self.clock())
        self._by_job[job.id] = watch
        self.group.start_soon(self._supervise, watch, partial(life, watch))
        return watch

    async def _supervise(self, watch: Watch, life: Callable[[], Awaitable[None]]) -> None:
        """Live through a job; whatever goes wrong with one must not end the others."""
        JOB.set(watch.job.id)
        try:
            await life()
        except Exception:
            logger.exception("job %s: broken off", watch.job.id)
            self._keeper.give_up(watch.job.id)
            await self._let_go(watch, _broken_off())

    async def _buy(self, watch: Watch) -> None:
        await self._pay(partial(self._pursuit.buy, watch))
        await self._go_on(watch, fresh=True)

    async def _meet(self, watch: Watch, task_id: TaskId) -> None:
        """Look at a stranger's task; from then on it is a job like any other."""
        try:
            job = await self._pursuit.meet(task_id, job=watch.job)
        except EvolinkError as error:
            watch.update(replace(watch.job, error=error), ended=True)
        else:
            self._by_job.setdefault(job.id, watch)
            watch.update(job)
        finally:
            del self._strangers[task_id]
        await self._go_on(watch, fresh=True)

    async def _go_on(self, watch: Watch, *, fresh: bool = False) -> None:
        """Work on a job while it is ours, and look on while it is another process's."""
        while not watch.ended:
            if not await self._claim(watch):
                await self._look_on(watch)
            elif not watch.ended:
                await self._work(watch, fresh=fresh)
            fresh = False
        self._forget(watch)

    async def _regain(self, lost: Lost, task_id: TaskId) -> None:
        """Go on with a purchase whose outcome was unknown, if that is its task; harms no other."""
        JOB.set(lost.job.id)
        try:
            if (job := await self._lost.find(lost, task_id)) is not None:
                logger.info("job %s: EvoLink took it, as task %s", job.id, task_id)
                await self._watch(job)
                await self.moved(job)
        except Exception:
            logger.exception("job %s: broken off", lost.job.id)

    async def _claim(self, watch: Watch) -> bool:
        """Take a job on; without the journal we cannot ask, and lose nothing by reading a task.

        Only who has the intent knows what becomes of it.
        """
        try:
            await self._keeper.flush_one(watch.job.id)  # what we know before what is recorded
            job = await self.journal.claim(watch.job)
            if job is None:
                return False
            await self._catch_up(watch, job)
        except JournalUnusable as error:
            logger.warning("%s", error)
            if watch.job.task is None:
                return False
        return watch.job.id not in self._works

    async def _catch_up(self, watch: Watch, job: Job) -> None:
        """Take up what others have made of a job; there may be nothing left to do."""
        over = await _is_settled(job)
        if over or job != watch.job:
            await self._take_up(watch, job, ended=over)
        if over:
            await self.journal.leases.release(job.id, in_trouble=False)

    async def _work(self, watch: Watch, *, fresh: bool) -> None:
        """Work on a job until it ends, gets into trouble, or is another process's."""
        job_id = watch.job.id
        scope = self._works[job_id] = anyio.CancelScope()
        try:
            await self._finish(watch, scope=scope, fresh=fresh)
        finally:
            del self._works[job_id]

    async def _finish(self, watch: Watch, *, scope: anyio.CancelScope, fresh: bool) -> None:
        with scope:
            try:
                await self._pursuit.finish(watch, task=watch.job.task if fresh else None)
            except EvolinkError as error:
                await self._let_go(watch, error)

    async def _let_go(self, watch: Watch, error: EvolinkError) -> None:
        """Leave a job that is not over to a later look; its pictures tell their own trouble."""
        told = None if isinstance(error, PicturesUnsaved) else error
        try:
            await self.journal.leases.release(watch.job.id, in_trouble=True)
        except JournalUnusable as unusable:
            logger.warning("%s", unusable)
        self._forget(watch)
        watch.update(replace(watch.job, error=told), ended=True)

    async def _look_on(self, watch: Watch) -> None:
        if not watch.looked:
            watch.update(watch.job)  # what is on record is all that we shall learn for now
        await self.sleep(LOOK_SECONDS)
        try:
            job = await self.journal.look(watch.job.id)
        except JournalUnusable as error:
            logger.warning("%s", error)
            return
        if job is None:
            watch.update(replace(watch.job, error=_broken_off()), ended=True)
        elif job != watch.job and not watch.unsaved:
            await self._take_up(watch, job, ended=job.state not in UNFINISHED)

    async def _take_up(self, watch: Watch, job: Job, *, ended: bool) -> None:
        """Show what another process has recorded."""
        has_moved = job.state != watch.job.state
        watch.update(job, ended=ended)
        if has_moved:
            await self.moved(job)

    async def _pay(self, step: Callable[[], Awaitable[None]]) -> None:
        """Shield a paid step from callers who leave, and for a while from the server's end."""
        scope = anyio.CancelScope(shield=True, deadline=self._deadline)
        self._paid_steps.add(scope)
        try:
            with scope:
                await step()
        finally:
            self._paid_steps.discard(scope)

    async def _note_arrival(self, job_id: JobId, arrived: Arrived) -> None:
        if await arrived():
            self._note(job_id)

    def _note(self, job_id: JobId) -> None:
        self.journal.answered(job_id)
        if not self._marking:
            self._marking = True
            self.group.start_soon(self._mark)

    async def _mark(self) -> None:
        await self.sleep(MARK_SECONDS)
        self._marking = False
        try:
            await self.journal.mark_delivered()
        except JournalUnusable as error:
            logger.warning("%s", error)

    def _forget(self, watch: Watch) -> None:
        job = watch.job
        if self._by_job.get(job.id) is watch:
            del self._by_job[job.id]
        if job.state == "unknown" and self._callbacks.may_name(job):
            self._lost.add(job)
            if name := watch.hint.take_name():
                self.named(job.id, name)


async def _is_settled(job: Job) -> bool:
    """Tell whether a job has ended and needs no second look at EvoLink."""
    if job.state == "collected":
        return await all_on_disk(job.pictures)
    return job.state in {"failed", "refused", "unknown"}


def _owned(watch: Watch, principal: Principal, *, task_id: TaskId) -> Watch:
    _check_owner(watch.job, principal, task_id=task_id)
    return watch


def _check_owner(job: Job, principal: Principal, *, task_id: TaskId) -> None:
    if job.principal != principal:
        raise not_found(task_id)


def not_found(task_id: TaskId) -> TaskNotFound:
    """Say that a task is not on record, or that it is another's: the same words for both."""
    return TaskNotFound(
        status=404,
        message=f"No task {task_id} of yours is on record here.",
        next_step="Check the task id: list_tasks names yours.",
    )


def _broken_off() -> EvolinkError:
    return EvolinkError(
        code="internal_error",
        message="Something went wrong inside this server; its log says where.",
        next_step="If there is a task id, call get_task with it; do not start the same generation "
        "again.",
        charged="unknown",
    )
