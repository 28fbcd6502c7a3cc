"""EvoLink's Files API: pictures put where EvoLink can read them.

What is uploaded is public to anyone who has its address, for 72 hours (EvoLink docs,
"File Stream Upload"; vendor client).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, TypeVar

import anyio
import httpx2 as httpx
from pydantic import (
    AliasPath,
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    ValidationError,
)

from evolink_mcp.api.client import authorization_of, exchange, headers_of
from evolink_mcp.api.figures import Figures
from evolink_mcp.api.network import Network, Sleep
from evolink_mcp.api.refusals import Advice, Advices
from evolink_mcp.api.retry import repeat_safely
from evolink_mcp.api.wire import Answer, Lenient, Text, read_object, unreadable, web_address
from evolink_mcp.catalog.addresses import is_inner_host, split_url
from evolink_mcp.errors import (
    AccessDenied,
    AnswerUnreadable,
    FileQuotaReached,
    NeverSent,
    RequestRejected,
)

TIMEOUT = httpx.Timeout(60.0, connect=10.0)
"""Seconds between two pieces of a file, and for its storing."""

TOTAL_TIMEOUT = 180.0
"""Seconds for a whole upload."""

_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})

_TOO_LARGE = Advice(
    RequestRejected,
    "The file is too large for EvoLink's Files API",
    "Use a smaller picture.",
)
_WRONG_TYPE = Advice(
    RequestRejected,
    "EvoLink's Files API does not take files of this type",
    "Use a picture of type JPEG, PNG, GIF or WebP.",
)
_ADVICES: Advices = MappingProxyType(
    {
        "40001": _TOO_LARGE,
        "413": _TOO_LARGE,
        "40002": _WRONG_TYPE,
        "415": _WRONG_TYPE,
        "40003": Advice(
            FileQuotaReached,
            "This EvoLink account stores as many files as it may",
            "Uploads expire after 72 hours. Until then use pictures that have an https address, "
            "or ask the user to delete uploads at EvoLink.",
        ),
        "403": Advice(
            AccessDenied,
            "The API key may not use EvoLink's Files API",
            "Ask the user to check what this key is allowed at evolink.ai/dashboard/keys.",
        ),
        "404": Advice(
            RequestRejected,
            "There is nothing at this address of EvoLink's",
            "Ask the user to check EVOLINK_FILES_URL.",
        ),
    }
)
"""By the codes of the Files API (vendor client); the others mean what they mean elsewhere."""

_Read = TypeVar("_Read")


def _address(value: object) -> str:
    """Return a web address in plain ASCII; the rest of the answer is of no use without it."""
    link = web_address(value) if isinstance(value, str) else ""
    if not link:
        message = "no web address"
        raise ValueError(message)
    return link


class _FilesAnswer(Answer):
    model_config = ConfigDict(validate_by_name=True)


class Uploaded(_FilesAnswer):
    """A file that EvoLink can read now (EvoLink docs, "File Stream Upload")."""

    url: Annotated[str, BeforeValidator(_address)] = Field(
        validation_alias=AliasPath("data", "file_url")
    )
    """Public: whoever has it can read the file."""
    expires_at: Annotated[AwareDatetime | None, Lenient] = Field(
        default=None, validation_alias=AliasPath("data", "expires_at")
    )
    """72 hours after the upload; None where EvoLink does not tell the time zone or anything."""
    file_id: Text = Field(default="", validation_alias=AliasPath("data", "file_id"))
    size: Annotated[NonNegativeInt | None, Lenient] = Field(
        default=None, validation_alias=AliasPath("data", "file_size")
    )
    """Bytes that EvoLink says it has stored."""


class FileQuota(_FilesAnswer):
    """How many files are stored, and how many may be (EvoLink docs, "Get File Quota").

    The docs' example contradicts itself about how many are left: that is not read.
    """

    used_files: Annotated[NonNegativeInt | None, Lenient] = Field(
        default=None, validation_alias=AliasPath("data", "used_files")
    )
    max_files: Annotated[NonNegativeInt | None, Lenient] = Field(
        default=None, validation_alias=AliasPath("data", "max_files")
    )


@dataclass(frozen=True, slots=True)
class FilesApi:
    """EvoLink's Files API with one key."""

    client: httpx.AsyncClient
    sleep: Sleep = anyio.sleep
    figures: Figures = field(default_factory=Figures)
    key: str = field(default="", repr=False)
    """Goes before the one of the connections, where there is one."""

    def with_key(self, key: str) -> FilesApi:
        """Return the same endpoints with another key, over the same connections."""
        return replace(self, key=key)

    async def upload(self, content: bytes, *, name: str, media_type: str) -> Uploaded:
        """Upload a file (EvoLink docs, "File Stream Upload"); repeated where that may help.

        `name` has to be a fresh one, since a file of the same name may be overwritten (vendor
        client): so a repeat is harmless, and overwrites at most what its first try stored.

        Raises:
            RefusedByEvolink: EvoLink answered with an error: `FileQuotaReached`, or
                `RequestRejected` for a file that is too large or of another type.
            NoUsableAnswer: No answer came, or none with an address at https, in several tries.
        """

        def request() -> httpx.Request:
            files = {"file": (name, content, media_type)}
            return self.client.build_request(
                "POST",
                "/api/v1/files/upload/stream",
                files=files,
                headers=authorization_of(self.key),
            )

        return await self._ask(request, read=self._read_uploaded)

    async def quota(self) -> FileQuota:
        """Read the limit of files (EvoLink docs, "Get File Quota"); repeated where that may help.

        Raises:
            RefusedByEvolink: EvoLink answered with an error.
            NoUsableAnswer: No readable answer came, in several tries.
        """

        def request() -> httpx.Request:
            return self.client.build_request(
                "GET", "/api/v1/files/quota", headers=authorization_of(self.key)
            )

        return await self._ask(request, read=_read_quota)

    async def _ask(
        self, request: Callable[[], httpx.Request], *, read: Callable[[bytes], _Read]
    ) -> _Read:
        async def ask() -> _Read:
            try:
                with self.figures.noting_errors():
                    sent = exchange(self.client, request(), within=TOTAL_TIMEOUT, advices=_ADVICES)
                    return read(await sent)
            except (NeverSent, AnswerUnreadable) as error:
                error.next_step = (
                    "Check the network and EVOLINK_FILES_URL, and whether a proxy or a login page "
                    "stands between, then call again."
                )
                raise

        return await repeat_safely(ask, sleep=self.sleep)

    def _read_uploaded(self, body: bytes) -> Uploaded:
        try:
            uploaded = Uploaded.model_validate(read_object(body))
        except ValidationError as error:
            raise unreadable("it has no readable address of the file") from error
        if not _is_safe(uploaded.url, own=self.client.base_url):
            raise unreadable("the file's address is no public one at https")
        return uploaded


@asynccontextmanager
async def connect_files(files_url: str, *, key: str, network: Network) -> AsyncGenerator[FilesApi]:
    """Open the Files API for one key; `files_url` is another server than that of the images."""
    async with httpx.AsyncClient(
        base_url=files_url,
        headers=headers_of(key),
        transport=network.transport,
        verify=network.tls,
        timeout=TIMEOUT,
    ) as client:
        yield FilesApi(client, network.sleep, network.figures)


def _read_quota(body: bytes) -> FileQuota:
    return FileQuota.model_validate(read_object(body))


def _is_safe(url: str, *, own: httpx.URL) -> bool:
    """Tell whether an address is public and https, or that of the sandbox here which gave it.

    One that names a user may be written to look like another host's.
    """
    parts = split_url(url)
    if parts is None or not parts.hostname or "@" in parts.netloc:
        return False
    if own.host in _THIS_MACHINE and (parts.hostname, parts.port) == (own.host, own.port):
        return True
    return parts.scheme == "https" and not is_inner_host(parts.hostname)
