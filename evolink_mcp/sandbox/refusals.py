"""HTTP errors of the two calls: statuses, codes, types and bodies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.responses import HTMLResponse, JSONResponse, Response


@dataclass(frozen=True, slots=True)
class Reason:
    """What EvoLink's error body says."""

    code: str
    type: str
    message: str


_INVALID = "invalid_request_error"

SUBMIT_REASONS: Mapping[int, Reason] = {
    400: Reason("invalid_request", _INVALID, "A parameter of the request is invalid."),
    401: Reason("unauthorized", "authentication_error", "The API key is missing or not valid."),
    402: Reason("insufficient_quota", "insufficient_quota", "The credits do not suffice."),
    403: Reason("model_access_denied", _INVALID, "This key may not use this model."),
    404: Reason("not_found", _INVALID, "There is nothing at this address."),
    409: Reason("idempotency_conflict", _INVALID, "This idempotency key was used otherwise."),
    413: Reason("request_too_large", _INVALID, "The body of the request is too large."),
    415: Reason("unsupported_media_type", _INVALID, "The body has to be application/json."),
    429: Reason("rate_limit_exceeded", "rate_limit_error", "Too many requests, slow down."),
    500: Reason("internal_error", "api_error", "Something went wrong on the server."),
    502: Reason("bad_gateway", "api_error", "The upstream service gave no valid answer."),
    503: Reason("service_unavailable", "api_error", "The service is not available right now."),
    504: Reason("gateway_timeout", "api_error", "The upstream service did not answer in time."),
}
"""Errors of `POST /v1/images/generations` (EvoLink docs, the model's page; 404, 409, 413, 415, 502
to 504: vendor clients)."""

QUERY_REASONS: Mapping[int, Reason] = {
    **SUBMIT_REASONS,
    400: Reason("invalid_task_id", _INVALID, "A task id begins with task-unified-."),
    402: Reason("quota_exceeded", "insufficient_quota", "The quota of this account is used up."),
    403: Reason("permission_denied", _INVALID, "This task belongs to another account."),
    404: Reason("task_not_found", _INVALID, "There is no such task, or it has expired."),
    429: Reason("rate_limit_exceeded", "evo_api_error", "Too many requests, slow down."),
}
"""Errors of `GET /v1/tasks/{task_id}` (EvoLink docs, "Query Task Status")."""

MODERATED = Reason(
    "content_policy_violation", _INVALID, "The prompt was blocked by the content safety filter."
)
"""A prompt that is stopped before it becomes a task (vendor client)."""

_PAGE = """<html>
<head><title>{status} {title}</title></head>
<body><center><h1>{status} {title}</h1></center><hr><center>gateway</center></body>
</html>
"""


@dataclass(kw_only=True, eq=False)
class Refused(Exception):
    """A request that gets an error for an answer."""

    status: int
    reason: Reason
    extra: Mapping[str, object] = field(default_factory=dict[str, object])
    """Further members of the error object, such as `param`."""
    retry_after: int | None = None
    """Seconds, for the header of that name."""
    html: bool = False
    """Answer with a page, as something between client and EvoLink would."""

    def answer(self) -> Response:
        """Return the HTTP answer."""
        waiting = self.retry_after is not None
        headers = {"retry-after": str(self.retry_after)} if waiting else {}
        if self.html:
            page = _PAGE.format(status=self.status, title=self.reason.code.replace("_", " "))
            return HTMLResponse(page, self.status, headers)
        return JSONResponse({"error": self._error()}, self.status, headers)

    def _error(self) -> dict[str, object]:
        reason = self.reason
        error = {"code": reason.code, "message": reason.message, "type": reason.type}
        return {**error, **self.extra}


def invalid_request(message: str, *, param: str | None = None) -> Refused:
    """Return the refusal of a request that breaks a rule, naming the field."""
    reason = Reason(SUBMIT_REASONS[400].code, _INVALID, message)
    return Refused(status=400, reason=reason, extra={"param": param} if param else {})
