"""How tasks fail: EvoLink's business codes, what they mean and what to do.

Meanings and advice: EvoLink docs, the error-code page. Retryable is what the docs call
so without a condition; what they leave to a person (support, "submit again if") is not,
since a retry is a new, paid request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evolink_mcp.api.wire import Task
from evolink_mcp.errors import TaskFailed, quote_foreign


@dataclass(frozen=True, slots=True)
class _Failure:
    meaning: str
    advice: str
    retryable: bool = False


_AGAIN = " A new call is a new, paid request: ask the user first."

_FAILURES: Mapping[str, _Failure] = {
    "content_policy_violation": _Failure(
        "EvoLink's safety filter blocked the picture",
        "Change the prompt or the reference images (real faces, celebrities, brands, nudity, "
        "violence and minors are common causes); the same request will fail again.",
    ),
    "invalid_parameters": _Failure(
        "EvoLink did not accept a parameter or a file",
        "Check prompt length, the size of the reference images (240 to 7680 pixels a side) "
        "and their type, then call again.",
    ),
    "image_processing_error": _Failure(
        "EvoLink could not read a reference image",
        "Use addresses that are open to everybody and lead straight to a JPEG, PNG or WebP.",
    ),
    "image_dimension_mismatch": _Failure(
        "A reference image does not fit the wanted size",
        "Resize the reference image or choose another size.",
    ),
    "request_cancelled": _Failure(
        "The task was cancelled",
        "Call generate_image again only if the user did not mean to cancel.",
    ),
    "generation_failed_no_content": _Failure(
        "The model returned no picture",
        "Make the prompt more precise; removing watermarks and protected content fail like this."
        + _AGAIN,
        retryable=True,  # a plain retry sometimes works, say the docs; a later client of theirs: no
    ),
    "service_error": _Failure(
        "EvoLink had an internal error", "Wait 30 to 60 seconds." + _AGAIN, retryable=True
    ),
    "generation_timeout": _Failure(
        "EvoLink did not finish in time",
        "Wait a little, or simplify the prompt." + _AGAIN,
        retryable=True,
    ),
    "resource_exhausted": _Failure(
        "EvoLink has no capacity at the moment", "Wait 1 to 5 minutes." + _AGAIN, retryable=True
    ),
    "quota_exceeded": _Failure(
        "A limit of the account was reached: rate, tasks at once, or credits",
        "Wait until running tasks have ended, or ask the user to top up." + _AGAIN,
        retryable=True,
    ),
    "service_unavailable": _Failure(
        "EvoLink's service is not available", "Wait some minutes." + _AGAIN, retryable=True
    ),
    "resource_not_found": _Failure(
        "EvoLink does not find the task any more", "Check the task id; it may have expired."
    ),
    "unknown_error": _Failure(
        "EvoLink could not say why", "Ask the user to write to EvoLink, with the task id."
    ),
}

_OTHER = _Failure(
    "The task failed for a reason that is not documented",
    "Show the user what EvoLink says; do not repeat the request on your own.",
)


def failure_of(task: Task) -> TaskFailed:
    """Explain a failed or cancelled task."""
    code = _code(task)
    failure = _FAILURES.get(code, _OTHER)
    said = task.error.message if task.error else ""
    quoted = f" EvoLink says: {quote_foreign(said)}." if said else ""
    return TaskFailed(
        task_id=task.id,
        code=code if code in _FAILURES else "task_failed",
        message=f"{failure.meaning} ({quote_foreign(code)[1:-1]}).{quoted} "
        "EvoLink charges for the pictures that were made: none.",
        next_step=failure.advice,
        retryable=failure.retryable,
    )


def _code(task: Task) -> str:
    if task.error and task.error.code:
        return task.error.code.lower()
    return "request_cancelled" if task.status == "cancelled" else "unknown_error"
