"""When to ask for a task again: a pure function."""

from __future__ import annotations

FALLBACK_ESTIMATE = 60.0
"""Seconds, where EvoLink does not tell; its examples for images lie between 45 and 100."""

LONGEST_EARLY = 10.0
"""Seconds between two readings before the expected end, so that progress moves."""

LONGEST_LATE = 15.0
"""Seconds between two readings after the expected end."""

SHORTEST = 3.0
"""Seconds; EvoLink's own sample polls every 3 s. A task that is expected to be over
sooner is read more often, in proportion."""

FLOOR = 0.05
"""Seconds between two readings, however soon a task is said to be over."""

_READINGS_AT_LEAST = 15
_APPROACH = 1 / 3
_LATENESS = 1 / 20
_TRUSTED_PROGRESS = 10.0


def next_reading(*, elapsed: float, estimated: float | None, progress: float) -> float:
    """Return the seconds until a task is read again.

    Long pauses while the end is far, shorter ones as it comes near, and longer ones
    again the later the task is. `elapsed` and `estimated` are seconds from submission,
    `progress` is a percentage.
    """
    expected = estimated if estimated and estimated > 0 else FALLBACK_ESTIMATE
    shortest = max(FLOOR, min(SHORTEST, expected / _READINGS_AT_LEAST))
    remaining = _remaining(elapsed=elapsed, expected=expected, progress=progress)
    pause, longest = (
        (remaining * _APPROACH, LONGEST_EARLY)
        if remaining > 0
        else (elapsed * _LATENESS, LONGEST_LATE)
    )
    return max(shortest, min(pause, longest))


def _remaining(*, elapsed: float, expected: float, progress: float) -> float:
    """Trust progress once there is some: it knows how fast this very task runs."""
    if progress < _TRUSTED_PROGRESS:
        return expected - elapsed
    return min(expected - elapsed, elapsed * (100 - progress) / progress)
