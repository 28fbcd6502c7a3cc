from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.sandbox import Sandbox, SandboxTask
from evolink_mcp.sandbox.faults import Faults, read_faults
from evolink_mcp.sandbox.tasks import drawn_seconds, estimated_seconds, new_task_id, stage_at

TEXT = ImageRequest(model="gpt-4o-image", prompt="a fox")
EDIT = ImageRequest(model="gpt-4o-image", prompt="a fox", image_urls=("https://a.example/a.png",))


def make_task(duration: float, prompt: str = "a fox", created: float = 0.0) -> SandboxTask:
    return SandboxTask(
        id="task-unified-1-abcdefgh",
        request=TEXT,
        faults=read_faults(prompt),
        created=created,
        estimate=45,
        duration=duration,
        credits_reserved=2.5,
        idempotency_key=None,
        base_url="https://sandbox.test",
        folder="f",
    )


durations = st.floats(min_value=0, max_value=1e6)
moments = st.floats(min_value=-1e6, max_value=1e9)
clocks = st.floats(min_value=0, max_value=4e9)


@settings(deadline=None)
@given(durations, clocks, st.lists(moments, min_size=2))
def test_progress_never_falls_and_reaches_100_at_the_end_only(
    duration: float, created: float, elapsed: list[float]
) -> None:
    task = make_task(duration, created=created)
    times = sorted(created + moment for moment in elapsed)
    stages = [stage_at(task, time) for time in times]
    progress = [stage.progress for stage in stages]
    assert progress == sorted(progress)
    for time, stage in zip(times, stages, strict=True):
        assert (stage.progress == 100) == (stage.status == "ended") == (time >= task.ends)
        assert (stage.progress == 0) == (stage.status == "pending")


@settings(deadline=None)
@given(durations, moments)
def test_a_stuck_task_stays_at_40_and_never_ends(duration: float, elapsed: float) -> None:
    task = make_task(duration, "[stuck]")
    assert stage_at(task, elapsed).status != "ended"
    assert stage_at(task, elapsed).progress <= 40
    assert stage_at(task, 2 * duration + 1).progress == 40


def test_a_task_waits_in_the_queue_for_a_twentieth_of_its_time() -> None:
    task = make_task(100)
    assert stage_at(task, 4.99).status == "pending"
    assert stage_at(task, 5.0).status == "processing"
    assert stage_at(task, 99.99).progress == 99


def test_the_last_moment_is_not_the_end() -> None:
    assert stage_at(make_task(1), math.nextafter(1, 0)).progress == 99


@pytest.mark.parametrize(
    ("request_", "speed", "seconds"),
    [(TEXT, 1, 45), (EDIT, 1, 60), (TEXT, 10, 4.5), (TEXT, 70, 0.643), (EDIT, 0.5, 120)],
)
def test_the_estimate_is_in_the_sandboxs_own_seconds(
    request_: ImageRequest, speed: float, seconds: float
) -> None:
    assert estimated_seconds(request_, speed) == seconds


def test_a_whole_estimate_is_an_integer() -> None:
    assert isinstance(estimated_seconds(TEXT, 1), int)


@settings(deadline=None)
@given(st.text(max_size=20), st.integers(min_value=0, max_value=10**6), st.floats(0.01, 1e4))
def test_a_task_takes_a_plausible_time_and_the_same_in_every_run(
    prompt: str, number: int, speed: float
) -> None:
    request = ImageRequest(model="gpt-4o-image", prompt=prompt)
    first, second = (
        drawn_seconds(request, faults=Faults(), speed=speed, number=number) for _ in range(2)
    )
    assert first == second
    assert first * speed == pytest.approx(0.95 * 45, abs=0.35 * 45 + 1e-6)


def test_the_same_prompt_takes_another_time_when_bought_again() -> None:
    faults = Faults()
    first, second = (
        drawn_seconds(EDIT, faults=faults, speed=1, number=number) for number in range(2)
    )
    assert first != second


def test_a_slow_task_takes_the_time_it_was_told() -> None:
    faults = read_faults("[slow:30]")
    assert drawn_seconds(TEXT, faults=faults, speed=10, number=0) == 3


def test_ids_differ() -> None:
    assert len({new_task_id(1.5) for _ in range(100)}) == 100


@pytest.mark.parametrize("speed", [0, -1, math.inf, math.nan])
def test_a_speed_that_is_no_positive_number_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="speed must be a positive number"):
        Sandbox(speed=speed)
