"""When to ask for a task again: a pure function.

Each reading makes EvoLink ask the provider (vendor client), so readings go where the end
is likely. `python -m bench` compares the figures here with every fixed interval.
"""

from __future__ import annotations

FALLBACK_ESTIMATE = 60.0
"""Seconds, where EvoLink does not tell; its examples for images lie between 45 and 100."""

LONGEST_EARLY = 7.5
"""Seconds between two readings before the expected end, so that progress moves."""

LONGEST_LATE = 30.0
"""Seconds between two readings after the expected end."""

SHORTEST = 1.5
"""Seconds; EvoLink asks for 1 to 2 s between two requests (EvoLink docs, "Error Codes").
A task that is expected to be over soon is read more often, in proportion."""

FLOOR = 0.05
"""Seconds between two readings, however soon a task is said to be over."""

_NEAR = 1 / 24
"""Share of the expected time: the pause near an end that only the estimate tells. Longer
tasks spread their ends wider. Progress that tells a far end may stretch the pause to the
same share of the time so far, and no further: it may be stuck."""

_APPROACH = 1 / 7
"""Share of the time that the estimate leaves."""

_APPROACH_BY_PROGRESS = 0.55
"""Share of the time that progress leaves; it misses by less than the estimate does."""

_LATENESS = 1 / 100
"""Share of the time so far: the longer a task runs, the less a second means to it."""

_OVERDUE = 3 / 2
"""Share of the expected time after which a callback that has not come is not waited for alone."""

_TRUSTED_PROGRESS = 50.0
"""Percent. A provider that does not know may show a fixed number up to here."""


def next_reading(*, elapsed: float, estimated: float | None, progress: float) -> float:
    """Return the seconds until a task is read again.

    Long pauses while the end is far, shorter ones as it comes near, and longer ones again
    the later the task is. Past the middle, progress tells the end better than the estimate:
    it knows how fast this very task runs. `elapsed` and `estimated` are seconds from
    submission, `progress` is a percentage.
    """
    expected = estimated if estimated and estimated > 0 else FALLBACK_ESTIMATE
    shortest = max(FLOOR, min(SHORTEST, expected * _NEAR))
    approach = _approach(elapsed=elapsed, expected=expected, progress=progress)
    pause = max(approach, elapsed * _LATENESS)
    return max(shortest, min(pause, _longest(elapsed=elapsed, expected=expected)))


def next_reading_before_callback(*, elapsed: float, estimated: float | None) -> float:
    """Return the seconds until a task is read whose end a callback is relied on to tell.

    Once when the end is well overdue, then now and then: callbacks get lost. `elapsed` and
    `estimated` are as for `next_reading`.
    """
    expected = estimated if estimated and estimated > 0 else FALLBACK_ESTIMATE
    left = _OVERDUE * expected - elapsed
    return max(FLOOR, left) if left > 0 else min(LONGEST_LATE, expected / 2)


def next_reading_after_callback(*, usual: float, fruitless: int) -> float:
    """Return the seconds until a task is read whose callback came, and that was not over then.

    Or could not be read. Its end is near, or the callback was none of EvoLink's: soon at
    first, then less and less often down to the `usual` pause. `fruitless` counts the readings
    since the callback.
    """
    return min(usual, SHORTEST * 2.0 ** min(fruitless, 8))


def _approach(*, elapsed: float, expected: float, progress: float) -> float:
    """Leave a part of the way to the end for later readings."""
    by_estimate = max(_APPROACH * (expected - elapsed), _NEAR * expected)
    if progress <= _TRUSTED_PROGRESS:
        return by_estimate
    by_progress = _APPROACH_BY_PROGRESS * elapsed * (100 - progress) / progress
    return min(by_progress, max(by_estimate, _NEAR * elapsed))


def _longest(*, elapsed: float, expected: float) -> float:
    return LONGEST_EARLY if elapsed < expected else LONGEST_LATE
