"""The sandbox as an object: its application, its account, its tasks."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import MappingProxyType

import anyio
import anyio.abc
import httpx2 as httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware

from evolink_mcp.groups import open_group
from evolink_mcp.sandbox.account import Account
from evolink_mcp.sandbox.broken import ON_A_SOCKET
from evolink_mcp.sandbox.fetching import Fetcher
from evolink_mcp.sandbox.provider import Provider
from evolink_mcp.sandbox.routes import CountedRequests, Routes
from evolink_mcp.sandbox.samples import offer_samples
from evolink_mcp.sandbox.tasks import SandboxTask
from evolink_mcp.sandbox.upload_calls import UploadCalls
from evolink_mcp.sandbox.uploads import FILE_QUOTA, Uploads


class Sandbox:
    """An EvoLink in a box, for one account with one key.

    `credits` is the balance at the start. Tasks run `speed` times faster than the
    API's; nothing else does. `now` is the clock, in Unix seconds, and `sleep` the waiting
    that goes with it. Callbacks, and files at foreign addresses, go through
    `callback_transport`, or over the real network where it is None. The key may use the
    `models` of these ids, or every one where it is None; `file_quota` uploads may be
    stored at a time.
    """

    app: Starlette
    """For `httpx2.ASGITransport` or for a server; see also `serve`."""

    requests: Counter[str]
    """Every request that arrived, refused ones too: "GET /v1/tasks", "POST /api/v1/files"."""

    def __init__(  # noqa: PLR0913 - what can be set of the sandbox, each by its name
        self,
        *,
        key: str = "sk-sandbox",
        credits: float = 1000.0,  # noqa: A002 - EvoLink's own word
        speed: float = 1.0,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        callback_transport: httpx.AsyncBaseTransport | None = None,
        models: frozenset[str] | None = None,
        file_quota: int = FILE_QUOTA,
    ) -> None:
        """Open the account.

        Raises:
            ValueError: `speed` is not a positive number.
        """
        if not 0 < speed < math.inf:
            message = f"speed must be a positive number, not {speed}"
            raise ValueError(message)
        self._provider = Provider(
            Account(credits), speed=speed, now=now, sleep=sleep, transport=callback_transport
        )
        self._group: anyio.abc.TaskGroup | None = None
        offer_samples(self._provider.files)
        self.requests = Counter()
        files = self._provider.files
        uploads = UploadCalls(
            Uploads(files, now=now, quota=file_quota), Fetcher(files, callback_transport), key=key
        )
        self.app = self._make_app(key, models=models, uploads=uploads)

    @property
    def credits(self) -> float:
        """The balance; credits of a failed task are back once its end was looked at."""
        return self._provider.account.credits

    @credits.setter  # noqa: A003 - the property above, not the builtin
    def credits(self, amount: float) -> None:
        self._provider.account.credits = amount

    @property
    def tasks(self) -> Mapping[str, SandboxTask]:
        """What was bought, by task id, oldest first."""
        return MappingProxyType(self._provider.tasks)

    def publish(self, content: bytes, name: str) -> str:
        """Put a file onto the sandbox's file host, and return its path.

        Whoever knows the path can read it; nobody can guess it.
        """
        return self._provider.files.publish(content, name)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Send callbacks while this is entered; a server of `app` enters it by itself.

        Entered again within itself it does nothing. Callbacks that are still due at its
        end are dropped. Outside of it a POST with a `callback_url` raises RuntimeError,
        since its callback would silently never come; everything else works.
        """
        return self._running()

    @asynccontextmanager
    async def _running(self) -> AsyncGenerator[None]:
        if self._group is not None:
            yield
            return
        async with open_group() as group:
            self._group = group
            try:
                yield
            finally:
                self._group = None
                group.cancel_scope.cancel()

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncGenerator[dict[str, bool]]:
        async with self.running():
            yield {ON_A_SOCKET: True}

    def _make_app(
        self, key: str, *, models: frozenset[str] | None, uploads: UploadCalls
    ) -> Starlette:
        routes = Routes(
            self._provider,
            key=key,
            allowed=models,
            uploads=uploads,
            check_callback=self._check_callback,
            announce=self._announce,
        )
        counting = Middleware(CountedRequests, counter=self.requests)
        return Starlette(routes=routes.list(), middleware=[counting], lifespan=self._lifespan)

    def _check_callback(self) -> None:
        if self._group is None:
            message = "a callback_url needs `async with sandbox.running():` around the request"
            raise RuntimeError(message)

    def _announce(self, task: SandboxTask) -> None:
        url = task.request.callback_url
        if url is not None and self._group is not None and math.isfinite(task.ends):
            self._group.start_soon(self._provider.announce, task, url)
