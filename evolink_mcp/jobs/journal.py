"""The durable record of jobs: what was wanted, what was bought, what has become of it.

One file for a user, shared by all of the user's servers at once. What is recorded before a
step is known after a crash in it. `origin` keeps the jobs of different EvoLinks apart: the
real one's, and those of sandboxes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from anyio import to_thread

from evolink_mcp.api.wire import TaskId
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.errors import CapReached, ConfirmationNeeded
from evolink_mcp.jobs.database import Database, open_database
from evolink_mcp.jobs.job import Job, JobId, Principal, State
from evolink_mcp.jobs.leases import LEASE_SECONDS, Leases, this_place
from evolink_mcp.jobs.prices import Price, last_price, price_of
from evolink_mcp.jobs.table import JOIN_SECONDS, JobTable, day_of, with_key

__all__ = ["JOIN_SECONDS", "Admission", "Budget", "Journal", "day_of", "open_journal", "with_key"]

_ROUNDING = 1e-6
"""Credits that sums of fractions may be wrong by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a purchase may cost."""

    a_picture: float
    """Credits to expect where no price was seen yet."""
    a_day: float | None
    """Credits that may be spent on one day; None for no limit."""
    agreed: float | None = None
    """Credits that the user has agreed to for this purchase; None where nobody is asked."""
    a_day_each: float | None = None
    """Credits that this principal may spend on one day; None for no limit of its own."""
    is_priced: bool = True
    """Whether somebody has told `a_picture`, instead of its being assumed."""
    at_once: int | None = None
    """Jobs that this principal may have under way; None for no limit."""

    def check_day(self, price: Price, *, spent: float) -> None:
        """Check a price against the credits of the day, of which some are spent.

        Raises:
            CapReached: They do not suffice.
        """
        if self.a_day is not None and spent + price.credits > self.a_day + _ROUNDING:
            raise _cap_reached(spent, price=price.credits, cap=self.a_day)

    def check_principal(self, price: Price, *, spent: float, running: int) -> None:
        """Check a price against what one principal may spend and have under way.

        Raises:
            CapReached: It is too much.
        """
        each = self.a_day_each
        if each is not None and spent + price.credits > each + _ROUNDING:
            raise _allowance_spent(spent, price=price.credits, each=each)
        if self.at_once is not None and running >= self.at_once:
            raise _too_many_running(running)

    def allows(self, price: Price) -> bool:
        """Tell whether the user has agreed to a price, or need not."""
        return self.agreed is None or price.credits <= self.agreed + _ROUNDING


@dataclass(frozen=True, slots=True)
class Admission:
    """A job that may go ahead, or an earlier one that an identical call joins."""

    job: Job
    joined: bool


@dataclass(kw_only=True)
class Journal:
    """The jobs of one EvoLink, and who works on them."""

    database: Database
    origin: str
    now: Callable[[], float]
    leases: Leases
    _table: JobTable = field(init=False)
    _answered: set[JobId] = field(default_factory=set[JobId])

    def __post_init__(self) -> None:
        """Put the table of jobs together."""
        self._table = JobTable(origin=self.origin, now=self.now, leases=self.leases)

    def of_key(self, mark: str) -> Journal:
        """Return the record of what another key buys, named by its mark, in the same file.

        Touches no connection: a transaction may be under way.
        """
        leases = Leases(self.database, self.now, self.leases.seconds, place=self.leases.place)
        origin = with_key(self.origin, mark)
        return Journal(database=self.database, origin=origin, now=self.now, leases=leases)

    async def admit(self, job: Job, *, budget: Budget) -> Admission:
        """Record an intent, unless an identical one still waits for its answer to be delivered.

        Everything in one transaction, so that neither two calls nor two processes can pass
        the day's cap or buy the same wish twice, and no price rises between the user's word
        and the purchase.

        Raises:
            CapReached: The day's credits do not suffice.
            ConfirmationNeeded: It costs more than the user has agreed to.
            JournalUnusable: It cannot be recorded, so nothing may be bought.
        """
        answered = tuple(self._answered)
        admission = await self.database.transact(
            partial(self._admit, job=job, budget=budget, answered=answered)
        )
        self._answered.difference_update(answered)
        return admission

    async def decline(self, job: Job) -> None:
        """Keep a line about a purchase that was asked about and declined; it costs nothing.

        Raises:
            JournalUnusable: It cannot be written.
        """
        await self.database.transact(partial(self._table.add_declined, job=job))

    async def join(self, job: Job) -> Job | None:
        """Return an earlier job that an identical one joins now, or None; nothing is bought."""
        answered = tuple(self._answered)
        earlier = await self.database.transact(partial(self._join, job=job, answered=answered))
        self._answered.difference_update(answered)
        return earlier

    async def would_join(self, job: Job) -> bool:
        """Tell whether a job would join an earlier one now, and so cost nothing."""
        answered = tuple(self._answered)
        return await self.database.transact(partial(self._would_join, job=job, answered=answered))

    async def price(self, request: ImageRequest, *, budget: Budget) -> Price:
        """Return what a request is expected to cost, as `admit` would book it."""
        return await self.database.transact(partial(self._price, request=request, budget=budget))

    async def last_prices(self, models: Iterable[str]) -> dict[str, float]:
        """Return what a picture cost last, in credits, for those models that were bought."""
        return await self.database.transact(partial(self._last_prices, models=tuple(models)))

    async def enroll(self, job: Job) -> Job:
        """Record a task that was bought elsewhere; return the job that has it."""
        return await self.database.transact(partial(self._table.enroll, job=job))

    async def adopt(self, job: Job) -> Job | None:
        """Give a purchase of unknown outcome its task, take it on, and return it.

        Its answer counts as not delivered, for what was delivered is the doubt: the same call
        joins it. None where it has its outcome by now, or the task is another purchase's.
        """
        adopted = await self.database.transact(partial(self._table.adopt, job=job))
        if adopted is not None:
            self._answered.discard(job.id)
        return adopted

    async def record(self, job: Job, *, release: bool = False) -> None:
        """Keep the job's newest state; `release` where nobody has to work on it any more.

        A process that has lost the job to another changes nothing, unless it alone knows
        the task id; and nobody takes a task id away.
        """
        await self.database.transact(partial(self._table.record, job=job, release=release))

    def answered(self, job_id: JobId) -> None:
        """Note that an answer about the job goes out; `mark_delivered` makes that durable.

        It is written after the answer, not before: a crash between the two lets the same
        call have the same picture again, instead of buying another one.
        """
        self._answered.add(job_id)

    async def mark_delivered(self) -> None:
        """Write down which jobs' answers have gone out."""
        if answered := tuple(self._answered):
            await self.database.transact(partial(self._table.deliver, job_ids=answered))
            self._answered.difference_update(answered)

    async def claim(self, job: Job) -> Job | None:
        """Take a job on, and return it as it is now; None while another process works on it.

        In one transaction: what we knew of it may be older than its task id.
        """
        return await self.database.transact(partial(self._table.claim, job=job))

    async def find(self, task_id: TaskId) -> Job | None:
        """Return the job that has a task, where it is known."""
        return await self.database.transact(
            partial(self._table.find, column="task_id", value=task_id)
        )

    async def find_of_any_key(self, task_id: TaskId) -> list[Job]:
        """Return the jobs that have a task, whichever key bought it here."""
        return await self.database.transact(partial(self._table.find_of_any_key, task_id=task_id))

    async def look(self, job_id: JobId) -> Job | None:
        """Return a job as it is recorded now."""
        return await self.database.transact(partial(self._table.find, column="id", value=job_id))

    async def newest(
        self, principal: Principal, *, states: Sequence[State] = (), limit: int
    ) -> list[Job]:
        """Return jobs, newest first; `states` empty for all."""
        return await self.database.transact(
            partial(self._table.newest, principal=principal, states=states, limit=limit)
        )

    async def overview(
        self, principal: Principal, *, states: Sequence[State] = (), limit: int
    ) -> tuple[list[Job], float]:
        """Return jobs, newest first, and the credits of the principal's that count today."""
        return await self.database.transact(
            partial(self._overview, principal=principal, states=states, limit=limit)
        )

    async def waits_for_somebody(self) -> bool:
        """Tell whether there are unfinished jobs that nobody works on and that are due."""
        return await self.database.transact(partial(self.leases.has_free, origin=self.origin))

    async def spent_today(self, principal: Principal | None = None) -> float:
        """Return the credits that count against today's cap, of all or of one principal."""
        return await self.database.transact(partial(self._table.spent, principal=principal))

    async def count_by_state(self) -> dict[State, int]:
        """Count the jobs of everybody, by how far they have come."""
        return await self.database.transact(self._table.count_by_state)

    async def orphans(self, *, limit: int) -> list[Job]:
        """Take over unfinished jobs that nobody works on and whose next try is due."""
        return await self.database.transact(partial(self._table.orphans, limit=limit))

    def _overview(
        self,
        connection: sqlite3.Connection,
        *,
        principal: Principal,
        states: Sequence[State],
        limit: int,
    ) -> tuple[list[Job], float]:
        jobs = self._table.newest(connection, principal=principal, states=states, limit=limit)
        return jobs, self._table.spent(connection, principal=principal)

    def _admit(
        self,
        connection: sqlite3.Connection,
        *,
        job: Job,
        budget: Budget,
        answered: Collection[JobId],
    ) -> Admission:
        self._table.deliver(connection, job_ids=answered)
        if earlier := self._table.joinable(connection, job):
            return Admission(earlier, joined=True)
        assert job.request is not None, "what is admitted is a request"  # noqa: S101
        price = self._price(connection, request=job.request, budget=budget)
        budget.check_day(price, spent=self._table.spent(connection))
        budget.check_principal(
            price,
            spent=self._table.spent(connection, principal=job.principal),
            running=self._table.running(connection, principal=job.principal),
        )
        if not budget.allows(price):
            raise _dearer(price, agreed=budget.agreed or 0.0)
        return Admission(self._table.add(connection, job, booked=price.credits), joined=False)

    def _join(
        self, connection: sqlite3.Connection, *, job: Job, answered: Collection[JobId]
    ) -> Job | None:
        self._table.deliver(connection, job_ids=answered)
        return self._table.joinable(connection, job)

    def _would_join(
        self, connection: sqlite3.Connection, *, job: Job, answered: Collection[JobId]
    ) -> bool:
        earlier = self._table.joinable(connection, job)
        return earlier is not None and earlier.id not in answered

    def _price(
        self, connection: sqlite3.Connection, *, request: ImageRequest, budget: Budget
    ) -> Price:
        return price_of(connection, request, origin=self.origin, expected=budget.a_picture)

    def _last_prices(
        self, connection: sqlite3.Connection, *, models: Sequence[str]
    ) -> dict[str, float]:
        prices = {model: last_price(connection, model, origin=self.origin) for model in models}
        return {model: price for model, price in prices.items() if price is not None}


@asynccontextmanager
async def open_journal(
    path: Path | None,
    *,
    origin: str,
    now: Callable[[], float] = time.time,
    lease_seconds: float | None = None,
) -> AsyncGenerator[Journal]:
    """Open the journal in a file, or in memory where `path` is None.

    Raises:
        JournalUnusable: It is damaged, newer, of another program, or cannot be read or written.
    """
    async with open_database(path) as database:
        place = await to_thread.run_sync(this_place)
        leases = Leases(database, now, lease_seconds or LEASE_SECONDS, place=place)
        leases.teach()
        yield Journal(database=database, origin=origin, now=now, leases=leases)


def _cap_reached(spent: float, *, price: float, cap: float) -> CapReached:
    return CapReached(
        message=f"This would pass the cap of {cap:g} credits a day (EVOLINK_DAILY_CREDITS): "
        f"{spent:g} are spent or reserved today, and this costs about {price:g}. Nothing was sent "
        "to EvoLink.",
        next_step="Tell the user. It is possible again tomorrow, or when the user raises "
        "EVOLINK_DAILY_CREDITS in this server's configuration and restarts it.",
    )


def _allowance_spent(spent: float, *, price: float, each: float) -> CapReached:
    return CapReached(
        code="allowance_spent",
        setting="EVOLINK_TOKENS_FILE",
        message=f"This would pass your allowance of {each:g} credits a day: {spent:g} are spent or "
        f"reserved today, and this costs about {price:g}. Nothing was sent to EvoLink.",
        next_step="Tell the user. It is possible again tomorrow, or when whoever runs this server "
        "raises the allowance.",
    )


def _too_many_running(running: int) -> CapReached:
    return CapReached(
        code="too_many_jobs",
        setting="EVOLINK_TOKENS_FILE",
        retryable=True,
        message=f"You have {running} jobs under way, and may have no more at once. Nothing was "
        "sent to EvoLink.",
        next_step="Wait for one of them with get_task, then call again.",
    )


def _dearer(price: Price, *, agreed: float) -> ConfirmationNeeded:
    return ConfirmationNeeded(
        message=f"This costs about {price.credits:g} credits by now, and no more than {agreed:g} "
        "are agreed to (EVOLINK_CONFIRM). Nothing was sent to EvoLink.",
        next_step="Call again to have the user asked about the new price.",
    )
