"""A caller's own EvoLink key, which comes in a header of each request and is kept nowhere."""

from __future__ import annotations

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from evolink_mcp.server.principals import KEY_HEADER, brought_key
from evolink_mcp.settings_values import read_key


class TakeKeys:
    """Lets a request work with the EvoLink key that it brings.

    A header without a usable key is refused: the server's own key must not pay for a caller
    who meant to pay.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(  # noqa: PLR0917 - ASGI's order
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request."""
        given = Headers(scope=scope).getlist(KEY_HEADER)
        if not given:
            await self._app(scope, receive, send)
        elif (key := _read(given)) is None:
            await _unusable()(scope, receive, send)
        else:
            with brought_key(key):
                await self._app(scope, receive, send)


def _read(given: list[str]) -> str | None:
    """Return the one key there is, None where there is none or more."""
    try:
        key = read_key(SecretStr(given[0])) if len(given) == 1 else None
    except ValueError:
        return None
    return key.get_secret_value() if key else None


def _unusable() -> JSONResponse:
    text = (
        f"The header {KEY_HEADER} must hold one EvoLink key, one word of plain ASCII characters "
        "as evolink.ai/dashboard/keys shows it; leave it out to use the server's own key, where it "
        "has one."
    )
    return JSONResponse({"error": "invalid_key", "error_description": text}, status_code=400)
