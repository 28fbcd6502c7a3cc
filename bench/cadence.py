"""How soon the end of a task is noticed, and with how many readings: a simulation.

Tasks are drawn, seeded, from worlds: how long they take, as a share of the estimate, and
what their progress tells. `next_reading` stands against fixed intervals and an oracle that
reads once, exactly at the end.

A fixed interval buys a short delay with readings, or few readings with delay. So the last
columns look for the fixed interval, of any length, that needs as many readings as
`next_reading`, and take its delay. Aim: a ratio below 1 over all worlds, and less of both
than EvoLink's own sample, which reads every 3 s.

Less of both than 3 s and than 5 s at once asks for a delay times readings below 25.5 over
these worlds (ours: below 32). A search over free-form cadences fitted to these very worlds
came no lower than 28, so it stays out of reach.
"""

from __future__ import annotations

import math
import random
import statistics
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from evolink_mcp.jobs.cadence import next_reading

SEED = 3
TASKS = 2000
"""Tasks in each world."""

ESTIMATES = (45.0, 60.0, 100.0)
"""Seconds, as in the examples of EvoLink's docs."""

UNTOLD = 0.25
"""The part of the tasks whose estimate is not told."""

INTERVALS = tuple(step / 20 for step in range(10, 601))
"""Seconds: the fixed intervals from 0.5 to 30; the oracle is compared with the last."""

_MILESTONES = 40
_PACES = (0.8, 1.6)
"""Between progress that drags at first and the sandbox's, which drags at the end."""


@dataclass(frozen=True, slots=True)
class SimulatedTask:
    """What EvoLink tells of a task, and what is true of it."""

    estimated: float | None
    seconds: float
    milestones: Sequence[float]
    """When its progress moves, as rising shares of its time."""


@dataclass(frozen=True, slots=True)
class Noticed:
    """How the end of a task was noticed: seconds after it, with the last of some readings."""

    delay: float
    readings: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What watching many tasks came to, for each."""

    delay: float
    delay_p95: float
    readings: float


Draw = Callable[[random.Random], float]
Tell = Callable[[SimulatedTask, float], float]
World = tuple[Sequence[SimulatedTask], Tell]


def log_normal(median: float, spread: float) -> Draw:
    """Return durations that are skewed to the long side."""
    return lambda lot: median * lot.lognormvariate(0, spread)


def near(lot: random.Random) -> float:
    """Take about as long as told, as the sandbox does."""
    return lot.uniform(0.6, 1.3)


def heavy_tail(lot: random.Random) -> float:
    """Take about as long as told, but one time in ten 5 to 10 times as long."""
    return lot.uniform(5, 10) if lot.random() < 0.1 else near(lot)  # noqa: PLR2004


def bimodal(lot: random.Random) -> float:
    """Come from a cache two times in five, else take a little longer than told."""
    return lot.uniform(0.1, 0.25) if lot.random() < 0.4 else lot.uniform(0.8, 1.5)  # noqa: PLR2004


def truth(task: SimulatedTask, elapsed: float) -> float:
    """Tell progress that is noisy, but rises with the work done."""
    passed = bisect_right(task.milestones, elapsed / task.seconds)
    return min(99, 100 * passed // len(task.milestones))


def stuck_at(percent: float) -> Tell:
    """Return progress that says nothing."""
    return lambda _task, _elapsed: percent


DURATIONS: Mapping[str, Draw] = {
    "near the estimate": near,
    "log-normal around half": log_normal(0.5, 0.5),
    "log-normal around it": log_normal(1, 0.5),
    "log-normal around twice": log_normal(2, 0.5),
    "heavy tail": heavy_tail,
    "bimodal": bimodal,
}
WIDE_DURATIONS: Mapping[str, Draw] = {
    "wide log-normal around half": log_normal(0.5, 0.8),
    "wide log-normal around it": log_normal(1, 0.8),
    "wide log-normal around twice": log_normal(2, 0.8),
}
TELLINGS: Mapping[str, Tell] = {
    "truth": truth,
    "0 until the end": stuck_at(0),
    "stuck at 50": stuck_at(50),
}
MISLEADING: Mapping[str, Tell] = {f"stuck at {each}": stuck_at(each) for each in (60, 90, 99)}


def drawn_tasks(draw: Draw, *, count: int, seed: int = SEED) -> list[SimulatedTask]:
    """Draw tasks: the same again in every run."""
    lot = random.Random(seed)  # noqa: S311 - nothing to protect
    return [_drawn_task(draw, lot) for _ in range(count)]


def _drawn_task(draw: Draw, lot: random.Random) -> SimulatedTask:
    estimate, pace = lot.choice(ESTIMATES), lot.uniform(*_PACES)
    return SimulatedTask(
        estimated=None if lot.random() < UNTOLD else estimate,
        seconds=estimate * draw(lot),
        milestones=sorted(1 - lot.random() ** (1 / pace) for _ in range(_MILESTONES)),
    )


def noticed_by_cadence(task: SimulatedTask, tell: Tell) -> Noticed:
    """Watch a task as the watchers do."""
    elapsed, readings = 0.0, 0
    while elapsed < task.seconds:
        elapsed += next_reading(
            elapsed=elapsed, estimated=task.estimated, progress=tell(task, elapsed)
        )
        readings += 1
    return Noticed(elapsed - task.seconds, readings)


def noticed_by_interval(task: SimulatedTask, interval: float) -> Noticed:
    """Watch a task at a fixed interval, in seconds."""
    readings = math.ceil(task.seconds / interval)
    return Noticed(readings * interval - task.seconds, readings)


def cadence(worlds: Iterable[World]) -> Figures:
    """Measure `next_reading`."""
    return _figures([noticed_by_cadence(task, tell) for tasks, tell in worlds for task in tasks])


def fixed(worlds: Iterable[World], interval: float) -> Figures:
    """Measure a fixed interval, in seconds."""
    return _figures([noticed_by_interval(task, interval) for tasks, _ in worlds for task in tasks])


def _figures(noticed: Sequence[Noticed]) -> Figures:
    delays = [each.delay for each in noticed]
    return Figures(
        delay=statistics.fmean(delays),
        delay_p95=statistics.quantiles(delays, n=20)[-1],
        readings=statistics.fmean(each.readings for each in noticed),
    )


def interval_with_readings(worlds: Sequence[World], readings: float) -> float:
    """Return the longest fixed interval that needs at least so many readings a task."""
    seconds = [task.seconds for tasks, _ in worlds for task in tasks]

    def fewness(interval: float) -> float:
        return -statistics.fmean(math.ceil(each / interval) for each in seconds)

    return INTERVALS[bisect_right(INTERVALS, -readings, key=fewness) - 1]


def drawn_worlds(
    durations: Mapping[str, Draw], tellings: Mapping[str, Tell], *, count: int = TASKS
) -> dict[str, World]:
    """Draw a world for each pair, under the names of both."""
    tasks = {name: drawn_tasks(draw, count=count) for name, draw in durations.items()}
    return {
        f"{name}; {progress}": (tasks[name], tellings[progress])
        for name, progress in product(durations, tellings)
    }


def main() -> None:
    """Simulate and print."""
    aimed_at = drawn_worlds(DURATIONS, TELLINGS)
    everything = list(aimed_at.values())
    print(f"cadence: {len(aimed_at)} worlds of {TASKS} simulated tasks; delays in seconds")
    _print_head("all worlds together")
    _print_row("next_reading", cadence(everything), worlds=everything)
    for interval in (3, 5):
        _print_row(f"every {interval} s", fixed(everything, interval), worlds=everything)
    _print_row("oracle", Figures(0, 0, 1), worlds=everything)
    _print_worlds("next_reading in each world", aimed_at)
    _print_worlds("harder: wider spread", drawn_worlds(WIDE_DURATIONS, TELLINGS))
    _print_worlds("harder: misleading progress", drawn_worlds(DURATIONS, MISLEADING))


def _print_worlds(title: str, worlds: Mapping[str, World]) -> None:
    _print_head(title)
    for name, world in worlds.items():
        _print_row(name, cadence([world]), worlds=[world])


def _print_head(title: str) -> None:
    print(
        f"\n{title:44} {'delay':>6} {'p95':>5} {'reads':>6}"
        f" | {'to 3 s':>6} {'reads':>5} | {'to 5 s':>6} {'reads':>5}"
        f" | {'as many reads: every':>20} {'delay':>6} {'ratio':>6}"
    )


def _print_row(name: str, ours: Figures, *, worlds: Sequence[World]) -> None:
    three, five = fixed(worlds, 3), fixed(worlds, 5)
    interval = interval_with_readings(worlds, ours.readings)
    same = fixed(worlds, interval)
    print(
        f"{name:44} {ours.delay:6.2f} {ours.delay_p95:5.1f} {ours.readings:6.1f}"
        f" | {ours.delay / three.delay:6.2f} {ours.readings / three.readings:5.2f}"
        f" | {ours.delay / five.delay:6.2f} {ours.readings / five.readings:5.2f}"
        f" | {interval:18.2f} s {same.delay:6.2f} {ours.delay / same.delay:6.2f}"
    )


if __name__ == "__main__":
    main()
