"""Pictures over HTTP, for callers who share no disk with this server."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Final

from anyio import to_thread
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from evolink_mcp.errors import JournalUnusable
from evolink_mcp.jobs.job import Job
from evolink_mcp.jobs.pictures import type_of
from evolink_mcp.server.app import App
from evolink_mcp.server.links import Links, LinkTarget
from evolink_mcp.server.principals import current_principal

_CHUNK: Final = 256 * 1024
"""Bytes that are read and sent at a time."""

_RETRY_AFTER: Final = 60
"""Seconds after which to ask again while the journal cannot be read."""

_EXTENSIONS: Final = {"png": "png", "jpeg": "jpg", "webp": "webp", "gif": "gif"}
"""What is handed out as a picture; anything else is a file of bytes."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")

_HEADERS: Final = {
    "Cache-Control": "private, no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}
"""Of every answer: a link is a secret, and what lies behind it is shown by nobody as a page."""


@dataclass(slots=True)
class Pictures:
    """Hands out what a link of ours leads to.

    A link works for whoever has it, but for a caller whose token is somebody else's. Every
    link that does not work is answered alike, so that nothing can be learned by trying.
    """

    links: Links
    _app: App | None = None

    def opened(self, app: App) -> None:
        """Take the app whose pictures these are, and let its answers carry links."""
        app.links = self.links
        self._app = app

    def route(self) -> Route:
        """Return the way to the pictures."""
        return Route("/pictures/{token:path}", self.picture)

    async def picture(self, request: Request) -> Response:
        """Return a picture as a file to be saved."""
        target = self.links.read(request.path_params["token"])
        if target is None or self._app is None:
            return _missing()
        try:
            jobs = await (await self._app.journal()).find_of_any_key(target.task_id)
        except JournalUnusable:
            headers = {**_HEADERS, "Retry-After": str(_RETRY_AFTER)}
            return PlainTextResponse("not now\n", status_code=503, headers=headers)
        fitting = (job for job in jobs if self._fits(job, target, request=request))
        path = next((_path_of(job, target) for job in fitting), None)
        file = await to_thread.run_sync(_open, path) if path else None
        return _Download(file, target) if file else _missing()

    def _fits(self, job: Job, target: LinkTarget, *, request: Request) -> bool:
        """Tell whether link, job and caller are of one principal, as far as the caller says."""
        known = isinstance(request.scope.get("user"), AuthenticatedUser)
        if known and current_principal() != job.principal:
            return False
        return self.links.is_for(target, job.principal)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A picture's file, held open: whatever happens to its name, these are its bytes."""

    content: BufferedReader
    size: int
    kind: str


class _Download(Response):
    """Sends a file piece by piece."""

    def __init__(self, file: _Opened, target: LinkTarget) -> None:
        self._content = file.content
        extension = _EXTENSIONS.get(file.kind, "bin")
        name = f"{_NOT_IN_NAMES.sub('_', target.task_id)}-{target.n}.{extension}"
        headers = {
            **_HEADERS,
            "Content-Length": str(file.size),
            "Content-Disposition": f'attachment; filename="{name}"',
        }
        known = file.kind in _EXTENSIONS
        media_type = f"image/{file.kind}" if known else "application/octet-stream"
        super().__init__(headers=headers, media_type=media_type)

    async def __call__(  # noqa: PLR0917 - ASGI's order
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Send it; for HEAD only what it is."""
        del receive
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        with self._content:
            await send(start)
            while scope["method"] != "HEAD" and (piece := await self._piece()):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _piece(self) -> bytes:
        return await to_thread.run_sync(self._content.read, _CHUNK)


def _missing() -> Response:
    text = "There is no such picture, or its link has expired.\n"
    return PlainTextResponse(text, status_code=404, headers=_HEADERS)


def _path_of(job: Job, target: LinkTarget) -> Path | None:
    return next((picture.path for picture in job.pictures if picture.n == target.n), None)


def _open(path: Path) -> _Opened | None:
    """Open a file that is one, and no link to another; blocking."""
    only_itself = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | only_itself
    try:
        descriptor = os.open(path, flags)
    except OSError:  # not there any more, or a link
        return None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        return None
    file = os.fdopen(descriptor, "rb")
    return _Opened(file, found.st_size, type_of(file.peek(64)[:64]))
