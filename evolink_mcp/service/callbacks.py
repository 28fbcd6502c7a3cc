"""EvoLink's callbacks: let in without a word of theirs being believed, for they are not signed."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from evolink_mcp.api.wire import TaskId, read_task
from evolink_mcp.catalog.inputs import check_callback
from evolink_mcp.catalog.spec import CallbackRule
from evolink_mcp.errors import AnswerUnreadable
from evolink_mcp.jobs.job import JobId, new_job_id
from evolink_mcp.server.app import App
from evolink_mcp.server.seals import open_sealed, write_sealed
from evolink_mcp.settings import Settings

logger = logging.getLogger(__name__)

PREFIX: Final = "evc_"
"""What a token begins with, so that it is taken out of logs and quotes as other secrets are."""

MOST_BYTES: Final = 65_536
"""Of a body that is read; a task with all its links has some thousands."""

PATIENCE: Final = 10.0
"""Seconds for it to arrive, as long as EvoLink waits for the answer."""

_PURPOSE: Final = b"evolink-mcp callback 1\0"


@dataclass(slots=True, kw_only=True)
class Callbacks:
    """Makes callback addresses, and answers what comes there.

    An address holds the job's id under a seal: no table is needed, and after a restart it still
    works. Who knows it can have that one job's task read, once every 1.5 s, and nothing else.
    Where several processes share the address, one may reach a process that does not work on the
    job: nothing happens there, and the other one goes on reading.
    """

    base_url: str
    """Under which address EvoLink reaches this server."""
    secret: bytes = field(repr=False)
    """32 bytes, see `load_secret`."""
    _app: App | None = None

    def opened(self, app: App) -> None:
        """Take the app whose jobs these are, and let it ask for callbacks."""
        app.ask_for_callbacks(self.url_of)
        self._app = app

    def route(self) -> Route:
        """Return the way for callbacks."""
        return Route("/callbacks/{token:path}", self)

    def url_of(self, job_id: JobId) -> str:
        """Make the address for a job."""
        token = write_sealed(job_id.encode(), purpose=_PURPOSE, secret=self.secret)
        return f"{self.base_url}/callbacks/{PREFIX}{token}"

    async def __call__(  # noqa: PLR0917 - ASGI's order
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer 204 to what is sealed, or else 404.

        Without a look at the body, unless it may name a task whose purchase got no answer.
        """
        job_id = self._job_in(scope["path_params"]["token"]) if scope["method"] == "POST" else None
        if job_id is None:
            await _missing()(scope, receive, send)
            return
        await self._take(job_id, Request(scope, receive))
        await Response(status_code=204)(scope, receive, send)

    async def _take(self, job_id: JobId, request: Request) -> None:
        app = self._app
        if app and app.called_back(job_id) and (task_id := await _task_in(request)):
            app.named(job_id, task_id)

    def _job_in(self, token: str) -> JobId | None:
        sealed = token.removeprefix(PREFIX)
        content = open_sealed(sealed, purpose=_PURPOSE, secret=self.secret)
        return JobId(content.decode()) if content is not None and sealed != token else None


async def _task_in(request: Request) -> TaskId | None:
    """Return the id in a body that has the form of a task; None where there is none."""
    content = bytearray()
    with suppress(AnswerUnreadable, ClientDisconnect, TimeoutError), anyio.fail_after(PATIENCE):
        async for piece in request.stream():
            content += piece
            if len(content) > MOST_BYTES:
                return None
        return read_task(bytes(content)).task_id
    return None


def callbacks_for(settings: Settings, *, secret: bytes) -> Callbacks | None:
    """Return the way for callbacks; None where EvoLink would not take the address."""
    if settings.public_url is None:
        return None
    callbacks = Callbacks(base_url=settings.public_url, secret=secret)
    sample = {"callback_url": callbacks.url_of(new_job_id())}
    if problems := [*check_callback(sample, CallbackRule())]:
        reason = f"{problems[0].rule} (allowed: {problems[0].allowed})"
        logger.warning("EvoLink is asked for no callbacks: EVOLINK_PUBLIC_URL %s", reason)
        return None
    return callbacks


def _missing() -> Response:
    return PlainTextResponse("There is nothing here.\n", status_code=404)
