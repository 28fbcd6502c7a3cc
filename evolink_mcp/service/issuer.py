"""The keys of an OAuth issuer: found by its metadata, kept, fetched anew when they change."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, TypeVar
from urllib.parse import urlsplit

import anyio
import httpx2 as httpx
from anyio import to_thread
from jwt import PyJWK
from jwt.exceptions import PyJWTError
from pydantic import AfterValidator, BaseModel, ValidationError

from evolink_mcp.api.network import Network, load_certificates
from evolink_mcp.settings_values import read_exact_address

logger = logging.getLogger(__name__)

ALGORITHMS: Final = ("RS256", "ES256")

ASK_AT_MOST_EVERY: Final = 60.0
"""Seconds between two fetches for the sake of an unknown key: anybody can name one."""

KEEP: Final = 3600.0
"""Seconds after which keys are fetched anew, so that a withdrawn one does not live on."""

TIMEOUT: Final = 10.0
"""Seconds for a whole fetch."""

LIMIT: Final = 262_144
"""Bytes that a document of the issuer's may have."""


class _Metadata(BaseModel):
    issuer: str
    jwks_uri: Annotated[str, AfterValidator(read_exact_address)]


class _KeySet(BaseModel):
    keys: list[dict[str, object]]


_Document = TypeVar("_Document", bound=BaseModel)


@dataclass(slots=True, kw_only=True)
class IssuerKeys:
    """Finds a key by its id."""

    issuer: str
    network: Network
    _keys: dict[str, PyJWK] = field(default_factory=dict[str, PyJWK])
    _asked_at: float = float("-inf")
    _lock: anyio.Lock = field(default_factory=anyio.Lock)

    async def find(self, kid: str) -> PyJWK | None:
        """Return a key; None where the issuer has none of that id, or cannot be reached."""
        if self._has_to_ask(kid):
            async with self._lock:
                if self._has_to_ask(kid):
                    await self._ask()
        return self._keys.get(kid)

    def _has_to_ask(self, kid: str) -> bool:
        passed = self.network.clock() - self._asked_at
        return passed >= (KEEP if kid in self._keys else ASK_AT_MOST_EVERY)

    async def _ask(self) -> None:
        """Fetch the keys; those known before stay where that fails.

        Shielded: whoever names an unknown key and hangs up must not keep others from theirs.
        """
        try:
            with anyio.fail_after(TIMEOUT, shield=True):
                self._keys = await _fetch_keys(self.issuer, self.network)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
            logger.warning("no keys of EVOLINK_OAUTH_ISSUER: %s", type(error).__name__)
        self._asked_at = self.network.clock()


async def _fetch_keys(issuer: str, network: Network) -> dict[str, PyJWK]:
    """Fetch the keys of an issuer.

    Raises:
        httpx2.HTTPError: It cannot be reached, or refuses.
        ValueError: An answer is not what it should be.
        OSError: It takes too long, or the certificates that we trust cannot be read.
    """
    trusting = network
    if network.transport is None and network.tls is True:
        trusting = replace(network, tls=await to_thread.run_sync(load_certificates))
    async with httpx.AsyncClient(transport=trusting.transport, verify=trusting.tls) as http:
        metadata = await _find_metadata(http, issuer)
        return _usable((await _read(http, metadata.jwks_uri, kind=_KeySet)).keys)


async def _find_metadata(http: httpx.AsyncClient, issuer: str) -> _Metadata:
    """Look where RFC 8414 has an issuer's metadata, then where OpenID Connect has it."""
    oauth, openid = _metadata_addresses(issuer)
    try:
        metadata = await _read(http, oauth, kind=_Metadata)
    except (httpx.HTTPStatusError, ValidationError):
        metadata = await _read(http, openid, kind=_Metadata)
    if metadata.issuer != issuer:
        raise ValueError("the metadata are another issuer's")
    return metadata


def _metadata_addresses(issuer: str) -> tuple[str, str]:
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    origin = f"{parts.scheme}://{parts.netloc}"
    return (
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}{path}/.well-known/openid-configuration",
    )


async def _read(http: httpx.AsyncClient, url: str, *, kind: type[_Document]) -> _Document:
    body = b""
    async with http.stream("GET", url) as response:
        response.raise_for_status()
        async for part in response.aiter_bytes():
            body += part
            if len(body) > LIMIT:
                raise ValueError("the document is too large")
    return kind.model_validate_json(body)


def _usable(keys: Iterable[dict[str, object]]) -> dict[str, PyJWK]:
    """Read the keys that sign with an algorithm of ours; others do not matter."""
    found: dict[str, PyJWK] = {}
    for given in keys:
        kid, use = given.get("kid"), given.get("use", "sig")
        if isinstance(kid, str) and use == "sig" and (key := _key(given)) is not None:
            found[kid] = key
    return found


def _key(given: dict[str, object]) -> PyJWK | None:
    try:
        key = PyJWK.from_dict(given)
    except (PyJWTError, ValueError, TypeError):
        return None
    return key if key.algorithm_name in ALGORITHMS else None
