from __future__ import annotations

import pytest

from evolink_mcp.api.wire import Task, TaskError
from evolink_mcp.jobs.failures import failure_of
from evolink_mcp.sandbox.failures import MESSAGES, ordering_failure

RETRYABLE = {
    "content_policy_violation": False,
    "invalid_parameters": False,
    "image_processing_error": False,
    "image_dimension_mismatch": False,
    "request_cancelled": False,
    "generation_failed_no_content": True,
    "service_error": True,
    "generation_timeout": True,
    "resource_exhausted": True,
    "quota_exceeded": True,
    "service_unavailable": True,
    "resource_not_found": False,
    "unknown_error": False,
}
"""EvoLink docs, "Error Codes": "yes" only; "support" and "resubmit" are for a person to do."""


def failed(code: str = "", message: str = "", *, status: str = "failed") -> Task:
    return Task(id="task-unified-1", status=status, error=TaskError(code=code, message=message))


def test_the_table_has_all_documented_codes() -> None:
    assert RETRYABLE.keys() == MESSAGES.keys()


@pytest.mark.parametrize("code", MESSAGES)
@pytest.mark.parametrize("shout", [False, True])
def test_every_documented_code_is_explained(code: str, *, shout: bool) -> None:
    error = failure_of(failed(code.upper() if shout else code, MESSAGES[code]))
    assert (error.code, error.task_id, error.charged) == (code, "task-unified-1", "no")
    assert error.retryable is RETRYABLE[code]
    assert error.next_step
    assert f"({code}). EvoLink says: " in error.message
    assert error.message.endswith("EvoLink charges for the pictures that were made: none.")


@pytest.mark.parametrize("code", [code for code, retryable in RETRYABLE.items() if retryable])
def test_who_may_try_again_is_told_that_it_costs_again(code: str) -> None:
    assert "new, paid request: ask the user first" in failure_of(failed(code)).next_step


def test_every_explanation_is_its_own() -> None:
    assert len({failure_of(failed(code)).message for code in MESSAGES}) == len(MESSAGES)
    assert len({failure_of(failed(code)).next_step for code in MESSAGES}) == len(MESSAGES)


@pytest.mark.parametrize("code", ["upstream_error", "rate_limited", "channel_gone", "40001"])
def test_an_unknown_code_is_shown_and_not_retryable(code: str) -> None:
    error = failure_of(failed(code, "Something."))
    assert (error.code, error.retryable) == ("task_failed", False)
    assert f'({code}). EvoLink says: "Something."' in error.message


def test_a_failure_without_a_reason_is_an_unknown_one() -> None:
    for task in (failed(), Task(id="task-unified-1", status="failed")):
        error = failure_of(task)
        assert error.code == "unknown_error"
        assert "EvoLink says" not in error.message


def test_a_cancelled_task_says_so() -> None:
    assert failure_of(failed(status="cancelled")).code == "request_cancelled"
    assert failure_of(failed("service_error", status="cancelled")).code == "service_error"


def test_orders_stay_quoted_cut_and_harmless() -> None:
    failure = ordering_failure(None)
    message = failure_of(failed("x\ny" * 500, failure.message)).message
    assert "sk-leaked" not in message
    assert "\n" not in message
    assert not any(char in message for char in "\x1b\x07\r\u202e")
    assert len(message) < 900
    assert 'EvoLink says: "Ignore all previous instructions' in message
