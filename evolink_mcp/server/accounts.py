"""EvoLink accounts: the server's own key, and keys that callers bring; each with its own record."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
from anyio.abc import TaskGroup

from evolink_mcp.api.network import Network
from evolink_mcp.api.wire import TaskId
from evolink_mcp.errors import EvolinkError, JournalUnusable, KeyMissing
from evolink_mcp.jobs.database import FILE_NAME
from evolink_mcp.jobs.job import JobId, Moved
from evolink_mcp.jobs.journal import Journal, open_journal
from evolink_mcp.logs import REQUEST
from evolink_mcp.server.principals import KEY_HEADER, current_key
from evolink_mcp.settings import Settings, key_missing

if TYPE_CHECKING:  # off the way to the first answer
    from evolink_mcp.jobs.callbacks import CallbackUrl
    from evolink_mcp.jobs.watch import Watchers
    from evolink_mcp.server.connections import Clients, Connected

logger = logging.getLogger(__name__)

MOST_ACCOUNTS: Final = 256
"""Keys of callers that are in use at once; the one that rests longest makes way for another."""

LOOK_EVERY: Final = 10.0
"""Seconds between two looks for a job that nobody works on, as long as nothing is connected."""


@dataclass(slots=True, kw_only=True)
class Ground:
    """What all accounts stand on: one file for the record, one set of connections."""

    settings: Settings
    network: Network
    group: TaskGroup
    stack: AsyncExitStack
    moved: Moved
    over_http: bool
    callback_url: CallbackUrl | None = None
    """Makes callback addresses, where EvoLink can reach them; set before the first call."""
    _lock: anyio.Lock = field(default_factory=anyio.Lock)
    _network_lock: anyio.Lock = field(default_factory=anyio.Lock)
    _journal: Journal | None = None
    _spare: Journal | None = None
    _clients: Clients | None = None

    async def journal(self) -> Journal:
        """Return the record of the server's own jobs, opened by whoever comes first.

        Raises:
            JournalUnusable: It cannot be read or written.
        """
        async with self._lock:
            if self._journal is None:
                path = self.settings.data_folder() / FILE_NAME
                self._journal = await self.stack.enter_async_context(
                    open_journal(path, origin=self.settings.base_url)
                )
            return self._journal

    async def spare_journal(self) -> Journal:
        """Return a journal in memory, to look at paid tasks with; there is one for all keys."""
        async with self._lock:
            if self._spare is None:
                self._spare = await self.stack.enter_async_context(
                    open_journal(None, origin=self.settings.base_url)
                )
            return self._spare

    async def clients(self, key: str) -> Clients:
        """Return the clients, made for a key; their connections are everybody's.

        Raises:
            SettingInvalid: SSL_CERT_FILE, a proxy or the like does not work.
        """
        async with self._network_lock:
            if self._clients is None:
                from evolink_mcp.server.connections import open_clients  # noqa: PLC0415 - heavy

                self._clients = await self.stack.enter_async_context(
                    open_clients(self.settings, self.network, key=key)
                )
            return self._clients.with_key(key)


@dataclass(slots=True, kw_only=True)
class Account:
    """One EvoLink key: its part of the record, and what works with it once it is needed.

    Jobs of one key are unknown to the others: with another key EvoLink would not tell of them
    either, and what a caller's own key pays counts against no cap of the server's key.
    """

    ground: Ground
    key: str | None = field(default=None, repr=False)
    """None where the server has no key of its own."""
    mark: str = ""
    """Names a caller's key in the record; empty for the server's own."""
    _lock: anyio.Lock = field(default_factory=anyio.Lock)
    _journal: Journal | None = None
    _connected: Connected | None = None
    _connecting: int = 0
    """Callers who wait for the connections."""
    _resuming: bool = False
    _scopes: list[anyio.CancelScope] = field(default_factory=list[anyio.CancelScope])
    _watchers: tuple[Watchers, ...] = ()

    @property
    def is_idle(self) -> bool:
        """Whether nobody works on a job of this key here, or is about to."""
        return not self._connecting and all(watchers.is_idle for watchers in self._watchers)

    def require_key(self) -> str:
        """Return the key.

        Raises:
            KeyMissing: There is none.
        """
        if self.key is None:
            raise _no_key_came() if self.ground.over_http else key_missing()
        return self.key

    async def journal(self) -> Journal:
        """Return this key's part of the record.

        Raises:
            JournalUnusable: It cannot be read or written.
        """
        common = await self.ground.journal()
        if not self.mark:
            return common
        if self._journal is None:
            self._journal = self._part_of(common)
        return self._journal

    async def connected(self) -> Connected:
        """Return the connections, opened by whoever comes first.

        A journal that could not be used is tried again: what was wrong may be mended.

        Raises:
            KeyMissing: There is no key to connect with.
            SettingInvalid: The network cannot be used.
        """
        self._connecting += 1
        try:
            async with self._lock:
                if self._connected is None or self._connected.watchers.refusal is not None:
                    self._connected = await self._connect(self._connected)
                return self._connected
        finally:
            self._connecting -= 1

    def resume(self) -> None:
        """Take up what earlier processes left unfinished, once, beside everything else."""
        if not self._resuming and self.key is not None:
            self._resuming = True
            self._begin(self._resume)

    def wind_down(self, grace: float) -> None:
        """Give paid steps that are under way `grace` seconds from now, and no more."""
        if self._connected is not None:
            self._connected.watchers.wind_down(grace)

    def called_back(self, job_id: JobId) -> bool:
        """Take EvoLink's hint that a task is over, if it is one of a job here.

        Tells whether the task's name is of use, see `named`.
        """
        return self._connected is not None and self._connected.watchers.called_back(job_id)

    def named(self, job_id: JobId, task_id: TaskId) -> None:
        """Take the name that a callback gives to the task of a job, if it is one here."""
        if self._connected is not None:
            self._connected.watchers.named(job_id, task_id)

    async def leave(self) -> None:
        """Write down what is left to write, and let the jobs go to whoever takes them."""
        for scope in self._scopes:
            scope.cancel()
        with anyio.CancelScope(shield=True):
            for watchers in self._watchers:
                await watchers.leave()

    async def _connect(self, before: Connected | None) -> Connected:
        """Put the watchers together; without the user's journal they may look, but not buy."""
        from evolink_mcp.server.connections import connect_account  # noqa: PLC0415 - heavy

        clients = await self.ground.clients(self.require_key())
        try:
            journal, refusal = await self.journal(), None
        except JournalUnusable as error:
            if before is not None:
                before.watchers.refusal = error
                return before
            journal, refusal = self._part_of(await self.ground.spare_journal()), error
        connected = connect_account(self.ground, journal, clients=clients, mark=self.mark)
        connected.watchers.refusal = refusal
        self._watchers += (connected.watchers,)
        self._begin(connected.watchers.tend_for_ever)
        return connected

    def _part_of(self, common: Journal) -> Journal:
        return common.of_key(self.mark) if self.mark else common

    async def _resume(self) -> None:
        """Connect as soon as there is a job that nobody works on; the watchers do the rest."""
        REQUEST.set("")  # it goes on for all, long after the request in which it begins
        path = anyio.Path(self.ground.settings.data_folder() / FILE_NAME)
        try:
            while self._connected is None:
                if await path.exists() and await (await self.journal()).waits_for_somebody():
                    await self.connected()
                await self.ground.network.sleep(LOOK_EVERY)
        except (EvolinkError, OSError) as error:
            logger.warning("unfinished jobs are not taken up: %s", error)

    def _begin(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something until this account leaves."""
        scope = anyio.CancelScope()
        self._scopes.append(scope)
        self.ground.group.start_soon(partial(_within, scope, work))


class Accounts:
    """Finds the account of the request that is being answered."""

    def __init__(self, ground: Ground, *, most: int = MOST_ACCOUNTS) -> None:
        key = ground.settings.api_key
        self.own: Final = Account(ground=ground, key=key.get_secret_value() if key else None)
        self._own_mark = mark_of(self.own.key) if self.own.key else None
        self._ground = ground
        self._most = most
        self._brought: dict[str, Account] = {}

    def current(self) -> Account:
        """Return the account of the key that came with the request, else the server's own.

        The server's own key stays that, with its record and its cap, whoever sends it.

        Raises:
            EvolinkError: Too many keys are in use.
        """
        key = current_key()
        if key is None or (mark := mark_of(key)) == self._own_mark:
            return self.own
        account = self._brought.pop(mark, None)
        if account is None:
            self._make_room()
            account = Account(ground=self._ground, key=key, mark=mark)
        self._brought[mark] = account  # the last one is the one that was used last
        return account

    def wind_down(self, grace: float) -> None:
        """Give paid steps that are under way `grace` seconds from now, and no more."""
        for account in (self.own, *self._brought.values()):
            account.wind_down(grace)

    def called_back(self, job_id: JobId) -> bool:
        """Take EvoLink's hint that a task is over, whichever key bought it.

        Tells whether the task's name is of use, see `named`.
        """
        accounts = (self.own, *self._brought.values())
        return any(account.called_back(job_id) for account in accounts)

    def named(self, job_id: JobId, task_id: TaskId) -> None:
        """Take the name that a callback gives to the task of a job."""
        for account in (self.own, *self._brought.values()):
            account.named(job_id, task_id)

    async def leave(self) -> None:
        """Let the jobs of every key go."""
        for account in (self.own, *self._brought.values()):
            await account.leave()

    def _make_room(self) -> None:
        if len(self._brought) < self._most:
            return
        for mark, account in self._brought.items():
            if account.is_idle:
                del self._brought[mark]
                self._ground.group.start_soon(account.leave)
                return
        raise _too_many_keys()


def mark_of(key: str) -> str:
    """Name a key: the same for the same one, and of no use to find it out."""
    return hashlib.sha256(b"evolink-mcp account 1\0" + key.encode()).hexdigest()[:32]


def _no_key_came() -> KeyMissing:
    return KeyMissing(
        setting=KEY_HEADER,
        message="This server has no EvoLink key of its own, and the request brought none.",
        next_step="Ask the user to make a key at evolink.ai/dashboard/keys and to have the "
        f"program that calls send it as the HTTP header {KEY_HEADER}; or whoever runs this server "
        "sets EVOLINK_API_KEY.",
    )


async def _within(scope: anyio.CancelScope, work: Callable[[], Awaitable[None]]) -> None:
    with scope:
        await work()


def _too_many_keys() -> EvolinkError:
    return EvolinkError(
        code="too_many_keys",
        retryable=True,
        message="Too many EvoLink keys have jobs under way at this server. Nothing was sent to "
        "EvoLink.",
        next_step="Call again in a few minutes.",
    )
