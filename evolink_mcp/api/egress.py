"""Where we may connect when an address was not chosen by the operator.

Result links come from EvoLink and reference images from a language model. Neither may
make this machine read from its own network: only public addresses are connected to,
and the base URL's own host and port, which the operator chose. Each hop of a redirect
is checked again, and the connection goes to the very address that was checked.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address

import anyio
import httpx2 as httpx

from evolink_mcp import __version__
from evolink_mcp.api.network import Network, Resolve, Sleep
from evolink_mcp.api.retry import repeat_safely
from evolink_mcp.catalog.addresses import is_inner_address, is_inner_host
from evolink_mcp.errors import FileUnavailable

TIMEOUT = httpx.Timeout(30.0, connect=10.0)
"""Seconds between two pieces of a file."""

TOTAL_TIMEOUT = 180.0
"""Seconds for a whole file."""

PEEK_TIMEOUT = 10.0
"""Seconds for the first bytes of a file; a host waits meanwhile, and nothing is bought yet."""

MAX_REDIRECTS = 5

_GONE = (403, 404, 410)
_PORTS = {"http": 80, "https": 443}
_HIGHEST_PORT = 65_535


class InnerAddressRefused(httpx.UnsupportedProtocol):
    """The address, or what its name stands for, lies inside a network."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first bytes of a file, and its whole size in bytes where the server tells."""

    content: bytes
    size: int | None


@dataclass(frozen=True, slots=True)
class Downloads:
    """Reads files from public addresses; never sends the API key."""

    client: httpx.AsyncClient
    sleep: Sleep = anyio.sleep

    async def read(self, url: str, *, limit: int) -> bytes:
        """Read a whole file of at most `limit` bytes; repeated where that may help.

        Raises:
            FileUnavailable: Gone, too large, refused, or the connection broke.
        """

        async def ask() -> bytes:
            with _translated(), anyio.fail_after(TOTAL_TIMEOUT):
                async with self.client.stream("GET", url) as response:
                    _require_success(response)
                    return await _read_all(response, limit=limit)

        return await repeat_safely(ask, sleep=self.sleep)

    async def peek(self, url: str, *, first: int) -> Beginning:
        """Read the first bytes of a file.

        Raises:
            FileUnavailable: Gone, refused, or the connection broke.
        """
        with _translated(), anyio.fail_after(PEEK_TIMEOUT):
            async with self.client.stream("GET", url) as response:
                _require_success(response)
                return Beginning(await _read_first(response, first=first), _size(response))


@contextmanager
def _translated() -> Generator[None]:
    """Turn the HTTP library's failures into ours.

    Addresses come from strangers: characters that cannot be encoded fail as a ValueError.
    TLS may fail as an OSError.
    """
    try:
        yield
    except InnerAddressRefused as error:
        raise _unavailable("its address is not a public one", code="inner_address") from error
    except (httpx.InvalidURL, ValueError) as error:
        raise _unavailable("its address is not a valid one") from error
    except (httpx.HTTPError, OSError) as error:
        reason = f"the connection failed ({type(error).__name__})"
        raise _unavailable(reason, retryable=True) from error


class PublicOnly(httpx.AsyncBaseTransport):
    """Connects to public addresses and to the operator's own base URL."""

    def __init__(self, inner: httpx.AsyncBaseTransport, *, base_url: str, resolve: Resolve) -> None:
        self._inner = inner
        self._own = _origin(httpx.URL(base_url))
        self._resolve = resolve

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request if its address may be connected to.

        Raises:
            InnerAddressRefused: It may not.
            InvalidURL: It is no address of the web.
        """
        _require_web(request.url)
        if _origin(request.url) != self._own:
            request = _pinned(request, address=await self._public_address(request.url))
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the transport below."""
        await self._inner.aclose()

    async def _public_address(self, url: httpx.URL) -> str:
        if is_inner_host(url.host):
            raise InnerAddressRefused(url.host)
        addresses = await self._resolve(_ascii_host(url), _origin(url)[2])
        if not addresses or any(is_inner_address(ip_address(address)) for address in addresses):
            raise InnerAddressRefused(url.host)
        return addresses[0]


@asynccontextmanager
async def open_downloads(base_url: str, network: Network) -> AsyncGenerator[Downloads]:
    """Open the client for files; connections are not kept: two names must not share one."""
    limits = httpx.Limits(max_keepalive_connections=0)
    inner = network.transport or httpx.AsyncHTTPTransport(
        verify=network.tls, limits=limits, trust_env=False
    )
    async with httpx.AsyncClient(
        transport=PublicOnly(inner, base_url=base_url, resolve=network.resolve),
        timeout=TIMEOUT,
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        headers={"User-Agent": f"evolink-mcp/{__version__}"},
        trust_env=False,
    ) as client:
        yield Downloads(client, network.sleep)


def _require_web(url: httpx.URL) -> None:
    """Refuse what the library would fail at in ways of its own."""
    if url.scheme not in _PORTS or _origin(url)[2] > _HIGHEST_PORT:
        reason = "neither http nor https, or a port that cannot be"
        raise httpx.InvalidURL(reason)


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or _PORTS.get(url.scheme, 0)


def _pinned(request: httpx.Request, *, address: str) -> httpx.Request:
    """Aim the request at a literal address, its Host header and TLS name unchanged."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": _ascii_host(request.url)},
    )


def _ascii_host(url: httpx.URL) -> str:
    """Return the host as it stands in the Host header; the resolver and TLS would encode others."""
    return url.raw_host.decode("ascii")


def _size(response: httpx.Response) -> int | None:
    length = response.headers.get("content-length", "")
    return int(length) if length.isdecimal() else None


async def _read_all(response: httpx.Response, *, limit: int) -> bytes:
    content = bytearray()
    async for piece in response.aiter_bytes():
        content += piece
        if len(content) > limit:
            raise _unavailable(f"it is larger than {limit} bytes")
    return bytes(content)


async def _read_first(response: httpx.Response, *, first: int) -> bytes:
    content = bytearray()
    async for piece in response.aiter_bytes():
        content += piece
        if len(content) >= first:
            break
    return bytes(content[:first])


def _require_success(response: httpx.Response) -> None:
    status = response.status_code
    if status in _GONE:
        reason = f"its link has expired or is not open to all (HTTP {status})"
        raise _unavailable(reason, code="link_expired")
    if not response.is_success:
        raise _unavailable(f"its server answered HTTP {status}", retryable=response.is_server_error)


def _unavailable(
    reason: str, *, retryable: bool = False, code: str = "file_unavailable"
) -> FileUnavailable:
    return FileUnavailable(
        code=code,
        message=f"The file could not be fetched: {reason}.",
        next_step="Check the address; result links live 24 hours.",
        retryable=retryable,
    )
