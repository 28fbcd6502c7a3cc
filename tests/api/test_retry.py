from __future__ import annotations

import pytest

from evolink_mcp.api.retry import pause_after, repeat_safely
from evolink_mcp.errors import (
    AnswerLost,
    EvolinkError,
    FileUnavailable,
    KeyRejected,
    NeverSent,
    RateLimited,
    ServiceFailed,
)
from tests.sandbox.desk import Clock

LOST = AnswerLost(message="lost", next_step="again")
WRONG_KEY = KeyRejected(message="no", next_step="key", status=401)


def limited(seconds: float | None) -> RateLimited:
    return RateLimited(message="slow down", next_step="wait", status=429, retry_after=seconds)


@pytest.mark.parametrize(
    ("error", "attempt", "pause"),
    [
        pytest.param(LOST, 1, 0.5, id="first"),
        pytest.param(LOST, 2, 1.0, id="second"),
        pytest.param(NeverSent(message="", next_step=""), 1, 0.5, id="never sent"),
        pytest.param(ServiceFailed(message="", next_step="", status=500), 2, 1.0, id="500"),
        pytest.param(limited(None), 1, 0.5, id="429"),
        pytest.param(limited(0.0), 2, 0.0, id="429 at once"),
        pytest.param(limited(7.0), 2, 7.0, id="429 in 7"),
        pytest.param(limited(30.0), 1, 30.0, id="429 in 30"),
        pytest.param(limited(30.1), 1, None, id="429 beyond"),
        pytest.param(limited(3600.0), 1, None, id="429 in an hour"),
        pytest.param(WRONG_KEY, 1, None, id="401"),
        pytest.param(FileUnavailable(message="", next_step=""), 1, None, id="gone"),
    ],
)
def test_the_pause_before_the_same_request(
    error: EvolinkError, attempt: int, pause: float | None
) -> None:
    assert pause_after(error, attempt=attempt) == pause


@pytest.mark.parametrize(
    ("answers", "asked", "slept"),
    [
        pytest.param(["good"], 1, [], id="at once"),
        pytest.param([LOST, "good"], 2, [0.5], id="second"),
        pytest.param([LOST, limited(7.0), "good"], 3, [0.5, 7.0], id="third"),
        pytest.param([LOST, LOST, LOST, "good"], 3, [0.5, 1.0], id="never"),
        pytest.param([LOST, WRONG_KEY, "good"], 2, [0.5], id="no use"),
        pytest.param([limited(31.0), "good"], 1, [], id="too long"),
    ],
)
async def test_a_safe_request_is_made_three_times_at_most(
    answers: list[EvolinkError | str], asked: int, slept: list[float]
) -> None:
    clock, left = Clock(), iter(answers)
    last = answers[asked - 1]

    async def ask() -> str:
        answer = next(left)
        if isinstance(answer, EvolinkError):
            raise answer
        return answer

    if isinstance(last, EvolinkError):
        with pytest.raises(EvolinkError) as caught:
            await repeat_safely(ask, sleep=clock.sleep)
        assert caught.value is last
    else:
        assert await repeat_safely(ask, sleep=clock.sleep) == last
    assert list(left) == answers[asked:]
    assert clock.slept == slept
