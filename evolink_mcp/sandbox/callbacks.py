"""Callbacks: telling the caller's own server that a task is over."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import anyio
import httpx2 as httpx

from evolink_mcp.sandbox.fetching import TIMEOUT, open_client

RETRY_PAUSES: Final = (1.0, 2.0, 4.0)
"""Seconds before each repeat (EvoLink docs, `callback_url`)."""

_log = logging.getLogger(__name__)


async def send_callback(
    url: str,
    body: Mapping[str, object],
    *,
    transport: httpx.AsyncBaseTransport | None,
    sleep: Callable[[float], Awaitable[None]],
) -> None:
    """POST a task's final answer, again after 1, 2 and 4 seconds unless a 2xx comes back.

    There is no signature, as with the API.
    """
    for pause in (*RETRY_PAUSES, None):
        if await _is_taken(url, body, transport=transport):
            return
        if pause is not None:
            await sleep(pause)
    _log.warning("callback of task %s given up", body.get("id"))


async def _is_taken(
    url: str, body: Mapping[str, object], *, transport: httpx.AsyncBaseTransport | None
) -> bool:
    try:
        with anyio.fail_after(TIMEOUT):
            async with (
                await open_client(transport) as client,
                client.stream("POST", url, json=body) as answer,
            ):
                return answer.is_success
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        _log.info("callback of task %s: %s", body.get("id"), type(error).__name__)
        return False
