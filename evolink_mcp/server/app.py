"""What lives as long as the server: settings, the journal, and connections once they are needed."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from evolink_mcp.api.client import EvolinkApi, connect
from evolink_mcp.api.egress import Downloads, open_downloads
from evolink_mcp.api.files import FilesApi, connect_files
from evolink_mcp.api.network import Network, load_certificates
from evolink_mcp.catalog.models import Catalogue, open_catalogue
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.errors import EvolinkError, InvalidRequest, JournalUnusable, SettingInvalid
from evolink_mcp.jobs.database import FILE_NAME
from evolink_mcp.jobs.inputs import Inputs
from evolink_mcp.jobs.journal import Budget, Journal, open_journal
from evolink_mcp.jobs.keep import Moved
from evolink_mcp.jobs.local import OpenedFolders
from evolink_mcp.jobs.uploads import Uploads
from evolink_mcp.jobs.watch import BEAT_SECONDS, Watchers, tell_nobody
from evolink_mcp.server.answers import Caller
from evolink_mcp.server.apart import Apart, Result
from evolink_mcp.server.consent import Consent
from evolink_mcp.server.hosts import Patience, load_hosts
from evolink_mcp.server.links import Links
from evolink_mcp.server.principals import current_allowance, current_principal
from evolink_mcp.settings import Settings

logger = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds for paid steps to come to an end after the host has gone."""


@dataclass(frozen=True, slots=True)
class Connected:
    """What needs a key and the network."""

    watchers: Watchers
    downloads: Downloads
    api: EvolinkApi
    inputs: Inputs


@dataclass(frozen=True, slots=True)
class Clients:
    """EvoLink's two APIs, and the way to files of anybody."""

    api: EvolinkApi
    files: FilesApi
    downloads: Downloads


class App:
    """Hands the tools what they work with.

    Connections are opened at the first call that needs them: loading certificates
    would take a tenth of the time a host allows for the start.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        network: Network,
        group: TaskGroup,
        stack: AsyncExitStack,
        moved: Moved = tell_nobody,
        over_http: bool = False,
    ) -> None:
        self.settings = settings
        self.network = network
        self.catalogue = enabled_models(settings)
        self.consent = Consent(setting=settings.confirm, journal=self.journal)
        self.patience = Patience(load_hosts(), settings)
        self.links: Links | None = None
        """Makes download links; whoever serves over HTTP puts it here before the first call."""
        self._group = group
        self._stack = stack
        self._moved = moved
        self._over_http = over_http
        self._folders = (settings.picture_folder(), settings.data_folder()) if over_http else ()
        self._lock = anyio.Lock()
        self._network_lock = anyio.Lock()
        self._clients: Clients | None = None
        self._journal: Journal | None = None
        self._connected: Connected | None = None
        self._resuming = False

    def budget(self, request: ImageRequest) -> Budget:
        """Return what a purchase may cost."""
        allowance, spec = current_allowance(), self.catalogue.find(request.model)
        return Budget(
            a_picture=spec.expected_credits,
            is_priced=spec.typical_credits is not None,
            a_day=self.settings.daily_credits,
            a_day_each=allowance.daily_credits,
            at_once=allowance.concurrent_jobs,
        )

    def caller(self) -> Caller:
        """Return to whom the request that is being answered is answered."""
        return Caller(
            principal=current_principal(),
            remote=self._over_http,
            links=self.links,
            folders=self._folders,
        )

    async def connected(self) -> Connected:
        """Return the connections, opened by whoever comes first.

        A journal that could not be used is tried again: what was wrong may be mended.

        Raises:
            KeyMissing: There is no key to connect with.
        """
        async with self._network_lock:
            if self._connected is None or self._connected.watchers.refusal is not None:
                self._connected = await self._connect(self._connected)
            return self._connected

    async def journal(self) -> Journal:
        """Return the record of jobs, opened by whoever comes first.

        Raises:
            JournalUnusable: It cannot be read or written.
        """
        async with self._lock:
            if self._journal is None:
                path = self.settings.data_folder() / FILE_NAME
                self._journal = await self._stack.enter_async_context(
                    open_journal(path, origin=self.settings.base_url)
                )
            return self._journal

    def resume(self) -> None:
        """Take up what earlier processes left unfinished, once, beside everything else."""
        if not self._resuming and self.settings.api_key is not None:
            self._resuming = True
            self._group.start_soon(self._resume)

    def begin(self, work: Callable[[], Awaitable[Result]]) -> Apart[Result]:
        """Begin work that goes on though its caller leaves."""
        apart = Apart(work)
        self._group.start_soon(apart.run)
        return apart

    def wind_down(self, grace: float) -> None:
        """Give paid steps that are under way `grace` seconds from now, and no more."""
        if self._connected is not None:
            self._connected.watchers.wind_down(grace)

    async def _resume(self) -> None:
        """Connect as soon as there is a job that nobody works on; the watchers do the rest."""
        path = anyio.Path(self.settings.data_folder() / FILE_NAME)
        try:
            while self._connected is None:
                if await path.exists() and await (await self.journal()).waits_for_somebody():
                    await self.connected()
                await self.network.sleep(BEAT_SECONDS)
        except (EvolinkError, OSError) as error:
            logger.warning("unfinished jobs are not taken up: %s", error)

    async def _open_network(self) -> Clients:
        """Open the clients.

        Raises:
            KeyMissing: There is no key.
            SettingInvalid: SSL_CERT_FILE, a proxy or the like does not work.
        """
        key = self.settings.require_key()
        base_url, enter = self.settings.base_url, self._stack.enter_async_context
        try:
            tls = await to_thread.run_sync(load_certificates)
            network = replace(self.network, tls=tls)
            api = await enter(connect(base_url, key=key, network=network))
            files = await enter(
                connect_files(self.settings.files_address(), key=key, network=network)
            )
            return Clients(api, files, await enter(open_downloads(base_url, network)))
        except (OSError, ValueError, ImportError) as error:
            raise _network_unusable(error) from error

    async def _connect(self, before: Connected | None) -> Connected:
        """Put the watchers together; without the user's journal they may look, but not buy."""
        if self._clients is None:
            self._clients = await self._open_network()
        try:
            journal, refusal = await self.journal(), None
        except JournalUnusable as error:
            if before is not None:
                before.watchers.refusal = error
                return before
            journal, refusal = await self._spare_journal(), error
        api, downloads = self._clients.api, self._clients.downloads
        watchers = Watchers(
            api=api,
            downloads=downloads,
            journal=journal,
            folder=self.settings.picture_folder(),
            group=self._group,
            refusal=refusal,
            moved=self._moved,
            sleep=self.network.sleep,
            clock=self.network.clock,
        )
        self._group.start_soon(watchers.tend_for_ever)
        self._stack.push_async_callback(partial(_leave, watchers))
        return Connected(watchers, downloads, api, self._inputs(journal, self._clients.files))

    def _inputs(self, journal: Journal, files: FilesApi) -> Inputs:
        """Put together where inputs may come from: what we saved may always be used again."""
        folders = (*self.settings.input_dirs, self.settings.picture_folder())
        uploads = Uploads(
            database=journal.database,
            origin=self.settings.files_address(),
            now=journal.now,
            upload=files.upload,
        )
        return Inputs(
            folders=OpenedFolders(folders, allowed=not self._over_http),
            journal=journal,
            uploads=uploads,
        )

    async def _spare_journal(self) -> Journal:
        """Open a journal in memory, to look at paid tasks with."""
        spare = open_journal(None, origin=self.settings.base_url)
        return await self._stack.enter_async_context(spare)


@asynccontextmanager
async def run_app(
    settings: Settings, network: Network, *, moved: Moved = tell_nobody, over_http: bool = False
) -> AsyncGenerator[App]:
    """Run an app; jobs that are under way are left to others at the end, but for paid steps.

    Callers who come over HTTP have no files here: their paths are refused.
    """
    async with AsyncExitStack() as stack, anyio.create_task_group() as group:
        app = App(
            settings, network=network, group=group, stack=stack, moved=moved, over_http=over_http
        )
        try:
            yield app
        finally:
            app.wind_down(GRACE)
            group.cancel_scope.cancel()


async def _leave(watchers: Watchers) -> None:
    with anyio.CancelScope(shield=True):
        await watchers.leave()


def _network_unusable(error: Exception) -> SettingInvalid:
    return SettingInvalid(
        setting="SSL_CERT_FILE",
        code="network_unusable",
        message=f"No connection can be set up ({type(error).__name__}): a certificate file or a "
        "proxy in this server's environment does not work. Nothing was sent to EvoLink.",
        next_step="Ask the user to check SSL_CERT_FILE, SSL_CERT_DIR, HTTPS_PROXY, HTTP_PROXY and "
        "ALL_PROXY in this server's configuration, and to restart it.",
    )


def enabled_models(settings: Settings) -> Catalogue:
    """Return the models to offer.

    Raises:
        SettingInvalid: EVOLINK_DEFAULT_MODEL is not one of EVOLINK_MODELS.
    """
    try:
        return open_catalogue(settings.models, default=settings.default_model)
    except InvalidRequest as error:
        raise SettingInvalid(
            setting="EVOLINK_DEFAULT_MODEL",
            message=f"EVOLINK_DEFAULT_MODEL must be one of EVOLINK_MODELS. {error.message}",
            next_step="Correct or remove EVOLINK_DEFAULT_MODEL and restart this server.",
        ) from error
