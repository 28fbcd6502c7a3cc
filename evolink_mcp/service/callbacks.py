"""EvoLink's callbacks: let in without a word of theirs being read, for they are not signed."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Final

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from evolink_mcp.catalog.inputs import check_callback
from evolink_mcp.catalog.spec import CallbackRule
from evolink_mcp.jobs.job import JobId, new_job_id
from evolink_mcp.server.app import App
from evolink_mcp.server.seals import open_sealed, write_sealed
from evolink_mcp.settings import Settings

logger = logging.getLogger(__name__)

PREFIX: Final = "evc_"
"""What a token begins with, so that it is taken out of logs and quotes as other secrets are."""

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
        """Answer at once, without a look at the body: 204 for what is sealed, or else 404."""
        job_id = self._job_in(scope["path_params"]["token"]) if scope["method"] == "POST" else None
        if job_id is None:
            await _missing()(scope, receive, send)
            return
        if self._app is not None:
            self._app.called_back(job_id)
        await Response(status_code=204)(scope, receive, send)

    def _job_in(self, token: str) -> JobId | None:
        sealed = token.removeprefix(PREFIX)
        content = open_sealed(sealed, purpose=_PURPOSE, secret=self.secret)
        return JobId(content.decode()) if content is not None and sealed != token else None


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
