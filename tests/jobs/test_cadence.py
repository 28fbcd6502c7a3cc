from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from inline_snapshot import snapshot

from bench.cadence import (
    DURATIONS,
    TELLINGS,
    World,
    cadence,
    drawn_worlds,
    fixed,
    interval_with_readings,
)
from evolink_mcp.jobs.cadence import next_reading

SECONDS = st.floats(0, 1e9)
ESTIMATES = st.none() | st.floats(allow_nan=False, allow_infinity=False)
REAL_ESTIMATES = st.none() | st.floats(45, 1e9)
PROGRESS = st.floats(0, 100)

WORLDS = drawn_worlds(DURATIONS, TELLINGS, count=300)


def readings(*, takes: float, estimated: float | None, moves: bool = True) -> list[float]:
    """Say when a task is read until its end, if its progress rises evenly or not at all."""
    elapsed, progress, times = 0.0, 0.0, list[float]()
    while elapsed < takes:
        elapsed += next_reading(elapsed=elapsed, estimated=estimated, progress=progress)
        progress = min(99.0, 100 * elapsed / takes) if moves else 0.0
        times.append(round(elapsed, 2))
    return times


def test_a_task_of_100_seconds_is_read_often_enough_and_not_too_often() -> None:
    assert readings(takes=100, estimated=100) == snapshot(
        [
            7.5,
            15.0,
            22.5,
            30.0,
            37.5,
            45.0,
            52.5,
            59.29,
            65.1,
            70.09,
            74.36,
            78.53,
            82.69,
            86.86,
            91.03,
            95.19,
            97.84,
            99.34,
            100.84,
        ]
    )


def test_a_task_of_45_seconds_is_read_often_enough_and_not_too_often() -> None:
    assert readings(takes=45, estimated=45) == snapshot(
        [
            6.43,
            11.94,
            16.66,
            20.71,
            24.18,
            27.15,
            29.7,
            31.89,
            33.76,
            35.64,
            37.51,
            39.39,
            41.26,
            43.14,
            44.64,
            46.14,
        ]
    )


def test_a_task_that_never_tells_its_progress_is_read_around_its_estimate() -> None:
    told, untold = (readings(takes=100, estimated=100, moves=moves) for moves in (True, False))
    assert untold[:-2] == [each for each in told if each < 97]
    assert untold[-2:] == snapshot([99.36, 103.53])


def test_a_task_whose_estimate_is_not_told_is_read_like_one_of_a_minute() -> None:
    untold = readings(takes=70, estimated=None, moves=False)
    assert untold == readings(takes=70, estimated=60, moves=False)
    assert (len(untold), untold[-1]) == snapshot((20, 72.2))


def test_a_task_that_is_quicker_than_its_estimate_is_found_soon() -> None:
    """Progress knows better than the estimate."""
    assert readings(takes=30, estimated=100) == snapshot(
        [7.5, 15.0, 22.5, 26.62, 28.48, 29.98, 31.48]
    )


def test_a_task_that_is_slower_than_its_estimate_is_not_pressed() -> None:
    """Progress knows better than the estimate, here too."""
    assert readings(takes=200, estimated=60) == snapshot(
        [
            7.5,
            15.0,
            21.43,
            26.94,
            31.66,
            35.71,
            39.18,
            42.15,
            44.7,
            47.2,
            49.7,
            52.2,
            54.7,
            57.2,
            59.7,
            62.2,
            64.7,
            67.2,
            69.7,
            72.2,
            74.7,
            77.2,
            79.7,
            82.2,
            84.7,
            87.2,
            89.7,
            92.2,
            94.7,
            97.2,
            99.7,
            102.2,
            106.46,
            110.9,
            115.52,
            120.33,
            125.35,
            130.57,
            136.01,
            141.68,
            147.58,
            153.73,
            160.13,
            166.81,
            173.76,
            181.0,
            188.54,
            194.84,
            197.68,
            199.66,
            201.65,
        ]
    )


def test_a_quick_sandbox_is_read_in_proportion() -> None:
    assert readings(takes=4.5, estimated=4.5) == snapshot(
        [0.64, 1.19, 1.67, 2.07, 2.42, 2.72, 2.97, 3.19, 3.38, 3.56, 3.75, 3.94, 4.13, 4.31, 4.5]
    )


def test_the_quickest_sandbox_is_read_twenty_times_a_second_at_most() -> None:
    assert readings(takes=0.2, estimated=0.1) == snapshot([0.05, 0.1, 0.15, 0.2])


def test_a_task_that_is_late_is_read_less_and_less() -> None:
    late = [next_reading(elapsed=each, estimated=60, progress=0) for each in range(60, 3600, 20)]
    assert late == sorted(late)
    assert (late[0], late[-1]) == (2.5, 30)


@pytest.mark.parametrize("percent", [0.0, 50.0, 90.0, 99.0, 100.0])
def test_an_hour_of_a_task_that_is_stuck_costs_few_readings(percent: float) -> None:
    elapsed, count = 0.0, 0
    while elapsed < 3600:
        elapsed += next_reading(elapsed=elapsed, estimated=60, progress=percent)
        count += 1
    assert count < 450


@given(estimated=REAL_ESTIMATES, elapsed=SECONDS, progress=PROGRESS)
def test_no_real_task_is_read_faster_than_evolink_asks_for(
    estimated: float | None, elapsed: float, progress: float
) -> None:
    assert next_reading(elapsed=elapsed, estimated=estimated, progress=progress) >= 1.5


@given(estimated=st.floats(1e-3, 1e9), share=st.floats(0, 1, exclude_max=True), progress=PROGRESS)
def test_a_host_sees_progress_move_until_the_expected_end(
    estimated: float, share: float, progress: float
) -> None:
    elapsed = share * estimated
    assert next_reading(elapsed=elapsed, estimated=estimated, progress=progress) <= 7.5


@given(estimated=ESTIMATES, elapsed=SECONDS, progress=PROGRESS)
@example(estimated=60, elapsed=60, progress=51)
@example(estimated=900, elapsed=1000, progress=0)
def test_no_task_is_noticed_later_than_a_bound(
    estimated: float | None, elapsed: float, progress: float
) -> None:
    pause = next_reading(elapsed=elapsed, estimated=estimated, progress=progress)
    assert pause <= 30


@given(
    estimated=st.none() | st.floats(),
    elapsed=st.floats(allow_nan=False, allow_infinity=False),
    progress=PROGRESS,
)
@example(estimated=0, elapsed=0, progress=0)
@example(estimated=1e308, elapsed=1e308, progress=100)
def test_every_pause_is_positive_and_finite(
    estimated: float | None, elapsed: float, progress: float
) -> None:
    pause = next_reading(elapsed=elapsed, estimated=estimated, progress=progress)
    assert math.isfinite(pause)
    assert pause >= 0.05


@pytest.mark.parametrize("odd", [0.0, -1.0, -1e9, math.nan])
@given(elapsed=SECONDS, progress=PROGRESS)
def test_an_estimate_that_says_nothing_counts_as_not_told(
    odd: float, elapsed: float, progress: float
) -> None:
    untold = next_reading(elapsed=elapsed, estimated=None, progress=progress)
    assert next_reading(elapsed=elapsed, estimated=odd, progress=progress) == untold


@given(estimated=st.floats(1e-3, 44), moves=st.booleans())
def test_a_small_estimate_costs_no_more_readings_than_a_real_one(
    estimated: float, *, moves: bool
) -> None:
    assert len(readings(takes=estimated, estimated=estimated, moves=moves)) <= 16


@pytest.mark.parametrize("name", WORLDS)
def test_no_fixed_interval_with_as_many_readings_notices_sooner(name: str) -> None:
    assert delay_to_the_best_fixed([WORLDS[name]]) < 1


def test_over_all_worlds_a_fifth_of_the_best_fixed_delay_is_saved() -> None:
    assert delay_to_the_best_fixed(list(WORLDS.values())) < 0.8


def test_evolinks_own_sample_needs_more_readings_and_notices_later() -> None:
    """It reads every 3 s."""
    ours, sample = cadence(list(WORLDS.values())), fixed(list(WORLDS.values()), 3)
    assert ours.delay < sample.delay
    assert ours.readings < sample.readings


def test_fixed_intervals_are_no_straw_men() -> None:
    """A task of T seconds costs them about T / d + 1/2 readings, and d / 2 of delay."""
    worlds = list(WORLDS.values())
    seconds = [task.seconds for tasks, _ in worlds for task in tasks]
    five = fixed(worlds, 5)
    assert five.delay == pytest.approx(2.5, abs=0.1)
    assert five.readings == pytest.approx(math.fsum(seconds) / len(seconds) / 5 + 0.5, abs=0.1)
    assert interval_with_readings(worlds, five.readings) == 5


def delay_to_the_best_fixed(worlds: list[World]) -> float:
    """Give our mean delay as a ratio to the fixed interval's that needs as many readings."""
    ours = cadence(worlds)
    same = fixed(worlds, interval_with_readings(worlds, ours.readings))
    assert same.readings >= ours.readings
    return ours.delay / same.delay
