"""What an account works with once it is needed: EvoLink's APIs, watchers, inputs.

Not imported before: it would take a good part of the time until the first answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from anyio import to_thread

from evolink_mcp.api.client import EvolinkApi, connect
from evolink_mcp.api.egress import Downloads, open_downloads
from evolink_mcp.api.files import FilesApi, connect_files
from evolink_mcp.api.network import Network, load_certificates
from evolink_mcp.errors import SettingInvalid
from evolink_mcp.jobs.inputs import Inputs
from evolink_mcp.jobs.journal import Journal, with_key
from evolink_mcp.jobs.local import OpenedFolders
from evolink_mcp.jobs.received import FOLDER_NAME, Received
from evolink_mcp.jobs.uploads import Uploads
from evolink_mcp.jobs.watch import Watchers
from evolink_mcp.server.accounts import Ground
from evolink_mcp.settings import Settings


@dataclass(frozen=True, slots=True)
class Clients:
    """EvoLink's two APIs, and the way to files of anybody."""

    api: EvolinkApi
    files: FilesApi
    downloads: Downloads

    def with_key(self, key: str) -> Clients:
        """Return them for another key, over the same connections."""
        return replace(self, api=self.api.with_key(key), files=self.files.with_key(key))


@dataclass(frozen=True, slots=True)
class Connected:
    """What needs a key and the network."""

    watchers: Watchers
    downloads: Downloads
    api: EvolinkApi
    inputs: Inputs


@asynccontextmanager
async def open_clients(
    settings: Settings, network: Network, *, key: str
) -> AsyncGenerator[Clients]:
    """Open the connections, made for a key.

    Raises:
        SettingInvalid: SSL_CERT_FILE, a proxy or the like does not work.
    """
    async with AsyncExitStack() as stack:
        yield await _open(settings, network, key=key, stack=stack)


async def _open(
    settings: Settings, network: Network, *, key: str, stack: AsyncExitStack
) -> Clients:
    base_url, files_url = settings.base_url, settings.files_address()
    enter = stack.enter_async_context
    try:
        trusting = replace(network, tls=await to_thread.run_sync(load_certificates))
        return Clients(
            api=await enter(connect(base_url, key=key, network=trusting)),
            files=await enter(connect_files(files_url, key=key, network=trusting)),
            downloads=await enter(open_downloads(base_url, trusting)),
        )
    except (OSError, ValueError, ImportError) as error:
        raise _network_unusable(error) from error


def connect_account(ground: Ground, journal: Journal, *, clients: Clients, mark: str) -> Connected:
    """Put together what works with one key; `mark` names it, empty for the server's own."""
    watchers = Watchers(
        api=clients.api,
        downloads=clients.downloads,
        journal=journal,
        folder=ground.settings.picture_folder(),
        group=ground.group,
        moved=ground.moved,
        callback_url=ground.callback_url,
        sleep=ground.network.sleep,
        clock=ground.network.clock,
    )
    inputs = _inputs(ground, journal, files=clients.files, mark=mark)
    return Connected(watchers, clients.downloads, clients.api, inputs)


def _inputs(ground: Ground, journal: Journal, *, files: FilesApi, mark: str) -> Inputs:
    """Put together where inputs may come from: what we saved may always be used again."""
    settings = ground.settings
    folders = (*settings.input_dirs, settings.picture_folder())
    address = settings.files_address()
    uploads = Uploads(
        database=journal.database,
        origin=with_key(address, mark) if mark else address,
        now=journal.now,
        upload=files.upload,
    )
    return Inputs(
        folders=OpenedFolders(folders, allowed=not ground.over_http),
        journal=journal,
        uploads=uploads,
        received=Received(folder=settings.data_folder() / FOLDER_NAME),
    )


def _network_unusable(error: Exception) -> SettingInvalid:
    return SettingInvalid(
        setting="SSL_CERT_FILE",
        code="network_unusable",
        message=f"No connection can be set up ({type(error).__name__}): a certificate file or a "
        "proxy in this server's environment does not work. Nothing was sent to EvoLink.",
        next_step="Ask the user to check SSL_CERT_FILE, SSL_CERT_DIR, HTTPS_PROXY, HTTP_PROXY and "
        "ALL_PROXY in this server's configuration, and to restart it.",
    )
