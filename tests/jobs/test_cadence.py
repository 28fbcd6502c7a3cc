from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot

from evolink_mcp.jobs.cadence import FLOOR, LONGEST_LATE, SHORTEST, next_reading

SECONDS = st.floats(min_value=0, max_value=1e9)
ESTIMATES = st.none() | st.floats(allow_nan=False, allow_infinity=False)


def readings(*, takes: float, estimated: float | None, moves: bool = True) -> list[float]:
    """Say when a task is read until its end, if its progress rises evenly or not at all."""
    elapsed, progress, times = 0.0, 0.0, list[float]()
    while elapsed < takes:
        elapsed += next_reading(elapsed=elapsed, estimated=estimated, progress=progress)
        progress = min(99.0, 100 * elapsed / takes) if moves else 0.0
        times.append(round(elapsed, 1))
    return times


def test_a_task_of_100_seconds_is_read_often_enough_and_not_too_often() -> None:
    assert readings(takes=100, estimated=100) == snapshot(
        [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 86.7, 91.1, 94.1, 97.1, 100.1]
    )


def test_a_task_whose_estimate_is_not_told() -> None:
    assert readings(takes=70, estimated=None, moves=False) == snapshot(
        [10.0, 20.0, 30.0, 40.0, 46.7, 51.1, 54.1, 57.1, 60.1, 63.1, 66.3, 69.6, 73.1]
    )


def test_a_task_that_is_late_is_read_less_and_less() -> None:
    times = readings(takes=1200, estimated=60, moves=False)
    pauses = [after - before for before, after in pairwise(times)]
    assert max(pauses) == pytest.approx(LONGEST_LATE, abs=0.11)
    assert len(times) < 150


def test_a_task_that_is_quicker_than_its_estimate_is_found_soon() -> None:
    """Progress knows better than the estimate."""
    assert readings(takes=30, estimated=100) == snapshot([10.0, 16.7, 21.1, 24.1, 27.1, 30.1])


def test_a_quick_sandbox_is_read_in_proportion() -> None:
    assert readings(takes=0.45, estimated=0.45) == snapshot([0.1, 0.2, 0.3, 0.4, 0.4, 0.5])


@pytest.mark.parametrize("estimated", [45.0, 60.0, 100.0, 165.0, 3600.0, None])
@given(elapsed=SECONDS, progress=st.floats(0, 100))
def test_no_real_task_is_read_faster_than_evolinks_own_sample(
    estimated: float | None, elapsed: float, progress: float
) -> None:
    pause = next_reading(elapsed=elapsed, estimated=estimated, progress=progress)
    assert SHORTEST == 3.0 <= pause <= LONGEST_LATE


@given(elapsed=SECONDS, estimated=ESTIMATES, progress=st.floats(0, 100))
def test_every_pause_is_bounded(elapsed: float, estimated: float | None, progress: float) -> None:
    pause = next_reading(elapsed=elapsed, estimated=estimated, progress=progress)
    assert 0 < FLOOR <= pause <= LONGEST_LATE
    assert math.isfinite(pause)


@given(estimated=st.floats(0, 1000), moves=st.booleans())
def test_no_estimate_makes_a_task_be_read_without_pause(estimated: float, *, moves: bool) -> None:
    assert len(readings(takes=100, estimated=estimated, moves=moves)) <= 200
