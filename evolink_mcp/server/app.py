"""What lives as long as the server: settings, the record of jobs, and connections once needed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio

from evolink_mcp.api.network import Network
from evolink_mcp.api.wire import TaskId
from evolink_mcp.catalog.models import Catalogue, open_catalogue
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.errors import EvolinkError, InvalidRequest, SettingInvalid
from evolink_mcp.jobs.job import JobId, Moved, tell_nobody
from evolink_mcp.jobs.journal import Budget, Journal
from evolink_mcp.server.accounts import Accounts, Ground
from evolink_mcp.server.answers import Caller
from evolink_mcp.server.apart import Apart, Result
from evolink_mcp.server.consent import Consent
from evolink_mcp.server.hosts import Patience, load_hosts
from evolink_mcp.server.links import Links
from evolink_mcp.server.principals import current_allowance, current_principal
from evolink_mcp.server.upload_links import UploadLinks
from evolink_mcp.server.waits import Waits
from evolink_mcp.settings import Settings

if TYPE_CHECKING:  # off the way to the first answer
    from evolink_mcp.jobs.callbacks import CallbackUrl
    from evolink_mcp.server.connections import Connected

GRACE = 5.0
"""Seconds for paid steps to come to an end after the host has gone."""


class App:
    """Hands the tools what they work with.

    Connections are opened at the first call that needs them: loading certificates
    would take a tenth of the time a host allows for the start.
    """

    def __init__(
        self,
        ground: Ground,
    ) -> None:
        settings = ground.settings
        self.settings = settings
        self.network = ground.network
        self.catalogue = enabled_models(settings)
        self.consent = Consent(setting=settings.confirm, journal=self.journal)
        self.patience = Patience(load_hosts(), settings)
        self.links: Links | None = None
        """Makes download links; whoever serves over HTTP puts it here before the first call."""
        self.upload_links: UploadLinks | None = None
        """Makes links to send pictures to; as `links`."""
        self.waits = Waits()
        """The waiting of calls; as `links`."""
        self._ground = ground
        self._over_http = ground.over_http
        ours = (settings.picture_folder(), settings.data_folder())
        self._folders = ours if ground.over_http else ()
        self._accounts = Accounts(ground)

    def budget(self, request: ImageRequest) -> Budget:
        """Return what a purchase may cost.

        Raises:
            EvolinkError: Too many keys are in use.
        """
        allowance, spec = current_allowance(), self.catalogue.find(request.model)
        return Budget(
            a_picture=spec.expected_credits,
            is_priced=spec.typical_credits is not None,
            a_day=None if self._accounts.current().mark else self.settings.daily_credits,
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
        """Return the connections of the caller's account, opened by whoever comes first.

        Raises:
            KeyMissing: There is no key to connect with.
            EvolinkError: Too many keys are in use, or the network cannot be used.
        """
        return await self._accounts.current().connected()

    async def journal(self) -> Journal:
        """Return the record of the caller's account.

        Raises:
            JournalUnusable: It cannot be read or written.
            EvolinkError: Too many keys are in use.
        """
        return await self._accounts.current().journal()

    def require_key(self) -> None:
        """Check that there is an EvoLink key for the caller: their own, or the server's.

        Raises:
            KeyMissing: There is none.
        """
        self._accounts.current().require_key()

    def resume(self) -> None:
        """Take up what earlier processes left unfinished, once, beside everything else."""
        with suppress(EvolinkError):  # no room for the caller's key, as the answer has said
            self._accounts.current().resume()

    def ask_for_callbacks(self, url: CallbackUrl) -> None:
        """Have EvoLink call back about every job at an address of its own, from now on."""
        self._ground.callback_url = url

    def called_back(self, job_id: JobId) -> bool:
        """Take EvoLink's hint that a job's task is over; waits for nothing.

        Tells whether the task's name is of use, see `named`.
        """
        self.resume()  # after a restart it may be the first that we hear of a job of ours
        return self._accounts.called_back(job_id)

    def named(self, job_id: JobId, task_id: TaskId) -> None:
        """Take the name that a callback gives to a job's task; it is looked at before it counts."""
        self._accounts.named(job_id, task_id)

    def begin(self, work: Callable[[], Awaitable[Result]]) -> Apart[Result]:
        """Begin work that goes on though its caller leaves."""
        apart = Apart(work)
        self._ground.group.start_soon(apart.run)
        return apart

    def wind_down(self, grace: float) -> None:
        """Give paid steps that are under way `grace` seconds from now, and no more."""
        self._accounts.wind_down(grace)

    async def leave(self) -> None:
        """Write down what is left to write, and let the jobs go to other processes."""
        await self._accounts.leave()


@asynccontextmanager
async def run_app(
    settings: Settings, network: Network, *, moved: Moved = tell_nobody, over_http: bool = False
) -> AsyncGenerator[App]:
    """Run an app; jobs that are under way are left to others at the end, but for paid steps.

    Callers who come over HTTP have no files here: their paths are refused.
    """
    async with (
        AsyncExitStack() as stack,
        AsyncExitStack() as before,  # what is done once nobody works, and all is still open
        anyio.create_task_group() as group,
    ):
        app = App(
            Ground(
                settings=settings,
                network=network,
                group=group,
                stack=stack,
                moved=moved,
                over_http=over_http,
            )
        )
        before.push_async_callback(app.leave)
        try:
            yield app
        finally:
            app.wind_down(GRACE)
            group.cancel_scope.cancel()


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
