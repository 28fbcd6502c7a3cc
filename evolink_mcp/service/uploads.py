"""Pictures sent to a link of ours, by a program or by a person with a browser."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from string import Template
from types import MappingProxyType
from typing import Final

import anyio
from anyio import to_thread
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from evolink_mcp.jobs.received import (
    FOLDER_NAME,
    MAX_BYTES,
    MOST_FILES,
    NotTaken,
    Received,
    Receiving,
    Trouble,
    holder_of,
)
from evolink_mcp.server.app import App
from evolink_mcp.server.principals import current_principal
from evolink_mcp.server.upload_links import UploadLinks, UploadTarget
from evolink_mcp.settings import Settings

LONGEST: Final = 600.0
"""Seconds that an upload may take."""

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Of every answer: a link is a secret."""

_POLICY: Final = (
    "default-src 'none'; connect-src 'self'; img-src blob:; style-src 'nonce-{nonce}'; "
    "script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_MISSING: Final = "There is no such upload link, or it has expired. Ask your assistant for another."
_BROKEN: Final = "The upload took too long or broke off. The link still works: try again."
_FULL: Final = "The server cannot store the picture at the moment. The link still works."

_TOO_MANY: Final = (
    f"You have sent as much as may be kept here ({MOST_FILES} pictures); the oldest are removed "
    "after 72 hours."
)
_NO_PICTURE: Final = (
    "This is no picture: send the bytes of a PNG, JPEG, WebP, GIF, AVIF, BMP, TIFF or HEIC file "
    "themselves (curl -T), not a form."
)

_TROUBLES: Final[Mapping[Trouble, tuple[int, str]]] = MappingProxyType(
    {
        "used": (409, "This link has been used. Ask your assistant for another one."),
        "too_large": (413, f"The file is larger than {MAX_BYTES // 1_000_000} MB."),
        "too_many": (507, _TOO_MANY),
        "no_picture": (415, _NO_PICTURE),
    }
)


@dataclass(slots=True, kw_only=True)
class Uploads:
    """Takes what is sent to a link of ours: one picture for each.

    A link works for whoever has it, but for a caller whose token is somebody else's. What
    breaks off leaves nothing behind, and the link as it was.
    """

    links: UploadLinks
    received: Received
    _page: Template = field(init=False)

    def __post_init__(self) -> None:
        """Read the page."""
        text = files("evolink_mcp.service").joinpath("upload.html").read_text("utf-8")
        self._page = Template(text)

    def opened(self, app: App) -> None:
        """Let callers of an app have links."""
        app.upload_links = self.links

    def route(self) -> Route:
        """Return the way to the links."""
        return Route("/uploads/{token:path}", self.answer, methods=["GET", "PUT", "POST"])

    async def answer(self, request: Request) -> Response:
        """Take a picture, or show a person how to send one."""
        target = self.links.read(request.path_params["token"])
        shows = request.method in {"GET", "HEAD"}
        if target is None or not _fits(target, request):
            return self._show(_MISSING, status=404) if shows else _told(404, _MISSING)
        return await (self._shown(target) if shows else self._taken(target, request))

    async def _shown(self, target: UploadTarget) -> Response:
        used = partial(self.received.is_used, target.holder, target.picture_id)
        if await to_thread.run_sync(used):
            return self._show(_TROUBLES["used"][1], status=409)
        return self._show("", handle=target.handle)

    def _show(self, trouble: str, *, status: int = 200, handle: str = "") -> Response:
        nonce = secrets.token_urlsafe(16)
        page = self._page.substitute(
            nonce=nonce, trouble=trouble, handle=handle, limit=f"{MAX_BYTES // 1_000_000} MB"
        )
        headers = {**_HEADERS, "Content-Security-Policy": _POLICY.format(nonce=nonce)}
        return HTMLResponse(page, status_code=status, headers=headers)

    async def _taken(self, target: UploadTarget, request: Request) -> Response:
        if _declared(request) > MAX_BYTES:
            return _refused("too_large")
        begin = partial(self.received.begin, target.holder, target.picture_id)
        try:
            with anyio.fail_after(LONGEST):
                await _receive(await to_thread.run_sync(begin), request.stream())
        except NotTaken as error:
            return _refused(error.trouble)
        except (ClientDisconnect, TimeoutError):
            return _told(408, _BROKEN)
        except OSError:
            return _told(507, _FULL)
        return JSONResponse({"handle": target.handle}, status_code=201, headers=_HEADERS)


def uploads_for(settings: Settings, links: UploadLinks) -> Uploads:
    """Return the way for pictures, which are kept in the data folder."""
    received = Received(folder=settings.data_folder() / FOLDER_NAME, now=links.now)
    return Uploads(links=links, received=received)


async def _receive(receiving: Receiving, pieces: AsyncIterator[bytes]) -> None:
    """Write down what comes; all of it, or nothing."""
    whole = False
    try:
        async for piece in pieces:
            await to_thread.run_sync(receiving.write, piece)
        await to_thread.run_sync(receiving.finish)
        whole = True
    finally:
        if not whole:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(receiving.give_up)


def _fits(target: UploadTarget, request: Request) -> bool:
    """Tell whether a link is the caller's, as far as the caller says who it is."""
    known = isinstance(request.scope.get("user"), AuthenticatedUser)
    return not known or holder_of(current_principal()) == target.holder


def _declared(request: Request) -> int:
    """Return how long the body is said to be; 0 where it is not said."""
    told = request.headers.get("content-length", "")
    return int(told) if told.isdecimal() else 0


def _refused(trouble: Trouble) -> Response:
    return _told(*_TROUBLES[trouble])


def _told(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status_code=status, headers=_HEADERS)
