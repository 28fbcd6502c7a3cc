"""EvoLink's error answers, read in all their shapes and sorted into our errors.

Codes and meanings: EvoLink docs, the error tables of the two endpoints; the finer
codes are those of EvoLink's own clients.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import cast

import httpx2 as httpx

from evolink_mcp.api.wire import read_object
from evolink_mcp.errors import (
    AccessDenied,
    AnswerUnreadable,
    ContentBlocked,
    CreditExhausted,
    KeyRejected,
    RateLimited,
    RefusedByEvolink,
    RequestRejected,
    ServiceFailed,
    TaskNotFound,
    quote_foreign,
)

MODERATION_CODES = frozenset(
    {
        "content_policy_violation",
        "content_filter",
        "sensitive_content",
        "moderation_blocked",
        "input_moderation_failed",
    }
)
ROUTE_CODES = frozenset(
    {
        "no_available_channel",
        "model_unavailable",
        "channel_selection_failed",
        "service_unavailable",
    }
)

LONGEST_WAIT = 86_400.0
"""Seconds; what asks for a longer wait than a day is taken to ask for a day."""

_STATUS_OF_CODE: Mapping[str, int] = {
    "unauthorized": 401,
    "insufficient_quota": 402,
    "quota_exceeded": 402,
    "model_access_denied": 403,
    "permission_denied": 403,
    "task_not_found": 404,
    "rate_limit_exceeded": 429,
    "internal_error": 500,
}
"""For an error that comes with HTTP 200 all the same."""

_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Advice:
    """What a refusal is to us: the error, what it means, and what to do about it."""

    kind: type[RefusedByEvolink]
    meaning: str
    next_step: str


Advices = Mapping[str, Advice]
"""Advice by EvoLink's code or by HTTP status, for a call where the usual one does not fit."""


_REJECTED = Advice(
    RequestRejected,
    "EvoLink does not accept this request",
    "Change what EvoLink names and call again.",
)
NOTHING_THERE = Advice(
    RequestRejected,
    "There is nothing at this address of EvoLink's",
    "Ask the user to check EVOLINK_BASE_URL.",
)
_BLOCKED = Advice(
    ContentBlocked,
    "EvoLink's content filter blocked the request",
    "Change the prompt or the reference images; the same request will be blocked again.",
)
_NO_ROUTE = Advice(
    ServiceFailed,
    "EvoLink cannot reach this model at the moment",
    "Try again in some minutes.",
)
_FAILED = Advice(
    ServiceFailed,
    "EvoLink has an internal error",
    "Try again in some minutes.",
)
_BY_STATUS: Mapping[int, Advice] = {
    401: Advice(
        KeyRejected,
        "EvoLink does not accept the API key: it is wrong, disabled or expired",
        "Ask the user to put a working key into EVOLINK_API_KEY "
        "(keys are made at evolink.ai/dashboard/keys) and to restart this server.",
    ),
    402: Advice(
        CreditExhausted,
        "There are too few EvoLink credits for this request",
        "Ask the user to top up at evolink.ai, or to raise the limit of this key; "
        "do not call again before that.",
    ),
    403: Advice(
        AccessDenied,
        "The API key may not do this: another account's task, or a model it has no access to",
        "Ask the user to check what this key is allowed at evolink.ai/dashboard/keys.",
    ),
    404: Advice(
        TaskNotFound,
        "EvoLink knows no such task, or it has expired",
        "Check the task id; tasks and their links do not live for ever.",
    ),
    413: Advice(
        RequestRejected,
        "The request is too large for EvoLink",
        "Shorten the prompt or use fewer or smaller reference images.",
    ),
    415: Advice(
        RequestRejected,
        "EvoLink does not accept this type of media",
        "Use reference images of type JPEG, PNG or WebP.",
    ),
    429: Advice(
        RateLimited,
        "EvoLink takes no more requests at the moment (rate limit)",
        "Wait a little and call again.",
    ),
}


def refusal_of(
    response: httpx.Response, body: bytes, *, advices: Advices = MappingProxyType({})
) -> RefusedByEvolink:
    """Sort an error answer, of whatever shape, into our errors; `advices` come first."""
    fields = _error_fields(body)
    status = _status(response.status_code, fields)
    upstream_code = _code(fields)
    special = advices.get(upstream_code) or advices.get(str(status))
    buying = response.request.method == "POST"
    advice = special or _advice(status, upstream_code, buying=buying)
    wait = retry_after(response.headers)
    said = _word(fields, "message", "msg", "error_description", "error")
    return advice.kind(
        message=_message(advice.meaning, status=status, code=upstream_code, said=said),
        next_step=advice.next_step + (f" EvoLink asks to wait {wait:.0f} s." if wait else ""),
        retry_after=wait,
        status=status,
        upstream_code=upstream_code,
        said=said,
        request_id=_request_id(response.headers),
        own_body=bool(fields) and _is_own(body, upstream_code),
    )


def is_error_body(body: Mapping[str, object]) -> bool:
    """Tell whether an HTTP 200 is an error all the same; what has an id may be a paid task."""
    return "id" not in body and (body.get("success") is False or bool(body.get("error")))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After`, seconds or a date, as seconds from now; None where there is none."""
    value = headers.get("retry-after", "").strip()
    seconds = float(value) if _SECONDS.fullmatch(value) else _seconds_until(value)
    return None if seconds is None else min(max(0.0, seconds), LONGEST_WAIT)


def _seconds_until(date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - datetime.now(UTC)).total_seconds()


def _error_fields(body: bytes) -> Mapping[str, object]:
    """Find code and message in `{"error": {…}}`, `{"code", "msg"}` or `{"error": "…"}`."""
    try:
        answer = read_object(body)
    except AnswerUnreadable:
        return {}
    inner = answer.get("error")
    return cast("dict[str, object]", inner) if isinstance(inner, dict) else answer


def _is_own(body: bytes, code: str) -> bool:
    """Tell EvoLink's error object from the JSON of a proxy, which may have its own fields."""
    answer = read_object(body)
    return bool(code) and (isinstance(answer.get("error"), dict) or answer.get("success") is False)


def _code(fields: Mapping[str, object]) -> str:
    """Find EvoLink's word for the failure; in OAuth's shape it is the error itself."""
    names = ("code", "error") if "error_description" in fields else ("code",)
    return _word(fields, *names).lower()


def _status(status: int, fields: Mapping[str, object]) -> int:
    """Take an error that came with HTTP 200 by what its body says."""
    if status >= 400:  # noqa: PLR2004
        return status
    code = _code(fields)
    number = int(code[:3]) if re.fullmatch(r"[45][0-9]{2}(?:[0-9]{2})?", code) else status
    return _STATUS_OF_CODE.get(code, number)


def _advice(status: int, code: str, *, buying: bool) -> Advice:
    if code in MODERATION_CODES and status < 500:  # noqa: PLR2004
        return _BLOCKED
    if code in ROUTE_CODES:
        return _NO_ROUTE
    if status >= 500:  # noqa: PLR2004
        return _FAILED
    if status == 404 and buying:  # noqa: PLR2004
        return NOTHING_THERE
    return _BY_STATUS.get(status, _REJECTED)


def _word(fields: Mapping[str, object], *names: str) -> str:
    found = (fields.get(name) for name in names)
    return next((str(value) for value in found if isinstance(value, str | int) and value), "")


def _message(meaning: str, *, status: int, code: str, said: str) -> str:
    label = f"HTTP {status}, {quote_foreign(code)[1:-1]}" if code else f"HTTP {status}"
    quoted = f" EvoLink says: {quote_foreign(said)}." if said else ""
    return f"{meaning} ({label}).{quoted}"


def _request_id(headers: Mapping[str, str]) -> str:
    return headers.get("x-request-id") or headers.get("x-oneapi-request-id") or ""
