"""Fetching what a request points to: the sandbox's own files, or public ones over HTTP."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Final
from urllib.parse import SplitResult, unquote

import anyio
import anyio.to_thread
import httpx2 as httpx

from evolink_mcp.catalog.addresses import is_inner_host, split_url
from evolink_mcp.sandbox.files import FileDenied, FileStore

TIMEOUT: Final = 10.0
"""Seconds, for one exchange with another server as a whole."""

_log = logging.getLogger(__name__)

_OWN_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Unfetched(Exception):
    """The address gave no file; the text says why."""


class KeptTransport(httpx.AsyncBaseTransport):
    """Somebody else's transport, for a client of ours to use and not to close."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        """Send through `inner`."""
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        return await self._inner.handle_async_request(request)


async def open_client(transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
    """Return a client that follows no redirects; without a transport it uses the real network."""
    # In a thread: a client for the real network reads certificates from the disk.
    return await anyio.to_thread.run_sync(_make_client, transport)


class Fetcher:
    """Fetches reference images and masks."""

    def __init__(self, files: FileStore, transport: httpx.AsyncBaseTransport | None) -> None:
        """Take own files from `files` and others through `transport`."""
        self._files = files
        self._transport = transport

    async def fetch(self, url: str, *, base_url: str, limit: int) -> bytes:
        """Return the file of an address, or its beginning where it has more than `limit` bytes.

        Raises:
            Unfetched: The address is an inner one, or nothing usable came from it.
        """
        parts, own = split_url(url), split_url(base_url)
        if parts and own and _origin(parts) == _origin(own):
            return await self._read_own(unquote(parts.path))
        if parts is None or is_inner_host(parts.hostname or ""):
            raise Unfetched("it is not at a public address")
        return await self._download(url, limit)

    async def _read_own(self, path: str) -> bytes:
        try:
            return (await self._files.read(path)).content
        except FileDenied as denied:
            raise Unfetched(f"its address answered {denied.status}") from None

    async def _download(self, url: str, limit: int) -> bytes:
        try:
            with anyio.fail_after(TIMEOUT):
                return await self._read_foreign(url, limit)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            _log.info("an input file could not be fetched: %s", type(error).__name__)
            raise Unfetched("its address could not be reached") from None

    async def _read_foreign(self, url: str, limit: int) -> bytes:
        content = bytearray()
        async with (
            await open_client(self._transport) as client,
            client.stream("GET", url) as answer,
        ):
            if answer.status_code != HTTPStatus.OK:
                raise Unfetched(f"its address answered {answer.status_code}")
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > limit:
                    break
        return bytes(content)


def _make_client(transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
    kept = KeptTransport(transport) if transport else None
    return httpx.AsyncClient(transport=kept, timeout=TIMEOUT, follow_redirects=False)


def _origin(parts: SplitResult) -> tuple[str, int | None]:
    """Return host and port; the names of this machine count as one."""
    name = parts.hostname or ""
    host = "localhost" if name in _OWN_NAMES else name
    return host, parts.port or _DEFAULT_PORTS.get(parts.scheme)
