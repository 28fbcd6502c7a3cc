"""Answers that never arrive, break off or cannot be read, though the task was made and paid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from evolink_mcp.sandbox.faults import Faults

ON_A_SOCKET: Final = "on_a_socket"
"""Key of the lifespan's state; only a server that holds real connections sets that state."""

_GARBAGE = b"\x1f\x8b\x00 this is no JSON \xff"


class NoAnswer(Response):
    """Waits until the client hangs up, and says nothing."""

    async def __call__(  # noqa: PLR0917 - ASGI's signature
        self,
        scope: Scope,  # noqa: ARG002
        receive: Receive,
        send: Send,  # noqa: ARG002
    ) -> None:
        """Wait; the body of the request has been read, so the next message is the goodbye."""
        await receive()


class CutAnswer(JSONResponse):
    """Declares its whole length, and breaks off halfway."""

    async def __call__(  # noqa: PLR0917 - ASGI's signature
        self,
        scope: Scope,
        receive: Receive,  # noqa: ARG002
        send: Send,
    ) -> None:
        """Send the first half.

        A server that is left before the body's end closes the connection; httpx's ASGI
        transport has none to close, and gets a short body.
        """
        half = bytes(self.body)[: len(self.body) // 2]
        unfinished = ON_A_SOCKET in scope.get("state", {})
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        await send({"type": "http.response.body", "body": half, "more_body": unfinished})


def submit_response(body: Mapping[str, object], faults: Faults) -> Response:
    """Return the answer to a POST, broken in the way that the prompt asks for."""
    if "hang" in faults.flags:
        return NoAnswer()
    if "cut-after-accept" in faults.flags:
        return CutAnswer(body)
    if "garbage" in faults.flags:
        return Response(_GARBAGE, media_type="application/json")
    return JSONResponse(body)
