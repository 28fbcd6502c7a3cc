"""What lives as long as the server: settings, and connections once they are needed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from evolink_mcp.api.client import EvolinkApi, connect
from evolink_mcp.api.egress import Downloads, open_downloads
from evolink_mcp.api.network import Network, load_certificates
from evolink_mcp.catalog.spec import ModelSpec, find_model, load_models
from evolink_mcp.errors import SettingInvalid
from evolink_mcp.jobs.journal import MemoryJournal
from evolink_mcp.jobs.watch import Watchers
from evolink_mcp.server.hosts import Patience, load_hosts
from evolink_mcp.settings import Settings

GRACE = 5.0
"""Seconds for paid steps to come to an end after the host has gone."""


@dataclass(frozen=True, slots=True)
class Connected:
    """What needs a key and the network."""

    watchers: Watchers
    downloads: Downloads


class App:
    """Hands the tools what they work with.

    Connections are opened at the first call that needs them: loading certificates
    would take a tenth of the time a host allows for the start.
    """

    def __init__(
        self, settings: Settings, *, network: Network, group: TaskGroup, stack: AsyncExitStack
    ) -> None:
        self.settings = settings
        self.network = network
        self.spec = enabled_model(settings)
        self.patience = Patience(load_hosts(), settings)
        self._group = group
        self._stack = stack
        self._lock = anyio.Lock()
        self._connected: Connected | None = None

    async def connected(self) -> Connected:
        """Return the connections, opened by whoever comes first.

        Raises:
            KeyMissing: There is no key to connect with.
        """
        async with self._lock:
            if self._connected is None:
                self._connected = await self._connect()
            return self._connected

    def wind_down(self, grace: float) -> None:
        """Give paid steps that are under way `grace` seconds from now, and no more."""
        if self._connected is not None:
            self._connected.watchers.wind_down(grace)

    async def _open_network(self, key: str) -> tuple[EvolinkApi, Downloads]:
        """Open the clients.

        Raises:
            SettingInvalid: SSL_CERT_FILE, a proxy or the like does not work.
        """
        base_url, enter = self.settings.base_url, self._stack.enter_async_context
        try:
            tls = await to_thread.run_sync(load_certificates)
            network = replace(self.network, tls=tls)
            api = await enter(connect(base_url, key=key, network=network))
            return api, await enter(open_downloads(base_url, network))
        except (OSError, ValueError, ImportError) as error:
            raise _network_unusable(error) from error

    async def _connect(self) -> Connected:
        settings = self.settings
        key = settings.require_key()
        api, downloads = await self._open_network(key)
        watchers = Watchers(
            api=api,
            downloads=downloads,
            journal=MemoryJournal(),
            folder=settings.picture_folder(),
            group=self._group,
            sleep=self.network.sleep,
        )
        return Connected(watchers, downloads)


@asynccontextmanager
async def run_app(settings: Settings, network: Network) -> AsyncGenerator[App]:
    """Run an app; jobs that are under way are broken off at the end, but for paid steps."""
    async with AsyncExitStack() as stack, anyio.create_task_group() as group:
        app = App(settings, network=network, group=group, stack=stack)
        try:
            yield app
        finally:
            app.wind_down(GRACE)
            group.cancel_scope.cancel()


def _network_unusable(error: Exception) -> SettingInvalid:
    return SettingInvalid(
        setting="SSL_CERT_FILE",
        code="network_unusable",
        message=f"No connection can be set up ({type(error).__name__}): a certificate file or a "
        "proxy in this server's environment does not work. Nothing was sent to EvoLink.",
        next_step="Ask the user to check SSL_CERT_FILE, SSL_CERT_DIR, HTTPS_PROXY, HTTP_PROXY and "
        "ALL_PROXY in this server's configuration, and to restart it.",
    )


def enabled_model(settings: Settings) -> ModelSpec:
    """Return the model to offer.

    Raises:
        SettingInvalid: EVOLINK_MODELS does not name exactly one model that we know.
    """
    models = load_models()
    if len(settings.models) != 1 or settings.models[0] not in models:
        raise SettingInvalid(
            setting="EVOLINK_MODELS",
            message=f"EVOLINK_MODELS must name one model of: {', '.join(models)}.",
            next_step="Correct or remove EVOLINK_MODELS and restart this server.",
        )
    return find_model(models, settings.models[0])
