"""Buying a task: one request, sent again only where it provably bought nothing."""

from __future__ import annotations

from evolink_mcp.api.client import EvolinkApi
from evolink_mcp.api.network import Sleep
from evolink_mcp.api.refusals import ROUTE_CODES
from evolink_mcp.api.retry import pause_after
from evolink_mcp.api.wire import Task
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.errors import (
    EvolinkError,
    NeverSent,
    OutcomeUnknown,
    RefusedByEvolink,
)
from evolink_mcp.jobs.job import JobId

_TOO_MANY = 429
_UNAVAILABLE = 503
_TURNED_AWAY = frozenset({400, 401, 402, 403, 404, 405, 411, 413, 414, 415, 422, 429, 431})


async def submit(request: ImageRequest, *, job_id: JobId, api: EvolinkApi, sleep: Sleep) -> Task:
    """Buy a task; at most one request that can have been taken ever leaves.

    Raises:
        OutcomeUnknown: The request may have been taken; it must not be sent again.
        RefusedByEvolink: EvoLink said no; nothing was charged.
        NeverSent: EvoLink could not be reached; nothing was charged.
    """
    try:
        return await api.submit(request, idempotency_key=job_id)
    except EvolinkError as error:
        pause = pause_after(error, attempt=1) if may_be_repeated(error) else None
        if pause is None:
            raise _final(error) from error
    await sleep(pause)
    try:
        return await api.submit(request, idempotency_key=job_id)
    except EvolinkError as error:
        raise _final(error) from error


def bought_nothing(error: EvolinkError) -> bool:
    """Tell whether a failure proves that no task was made.

    It does where the request never left, and where it was turned away by a status that
    servers give before they act. A 503 proves it only in EvoLink's own words, for a proxy
    may give one behind which the request went through. A 409 is about an earlier try with
    the same key, and a time-out about nothing that can be known.
    """
    if not isinstance(error, RefusedByEvolink):
        return isinstance(error, NeverSent)
    if error.status == _UNAVAILABLE:
        return error.own_body and error.upstream_code in ROUTE_CODES
    return error.status in _TURNED_AWAY


def may_be_repeated(error: EvolinkError) -> bool:
    """Tell whether a purchase that bought nothing was turned away in passing only."""
    if isinstance(error, RefusedByEvolink):
        return bought_nothing(error) and error.status in {_TOO_MANY, _UNAVAILABLE}
    return isinstance(error, NeverSent)


def outcome_unknown(reason: str) -> OutcomeUnknown:
    """Say that nobody knows whether a request was taken, and what to check."""
    return OutcomeUnknown(
        message="The request was sent to EvoLink, but it is not known whether EvoLink took it: "
        f"{reason}",
        next_step="Do not call generate_image again on your own: that may buy the picture twice. "
        "Tell the user, who can look at evolink.ai whether a task was made a moment ago, "
        "and call again only if the user asks for it.",
    )


def _final(error: EvolinkError) -> EvolinkError:
    return error if bought_nothing(error) else outcome_unknown(error.message)
