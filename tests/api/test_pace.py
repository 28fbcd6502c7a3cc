from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest

from evolink_mcp.api.pace import BURST, LONGEST_REST, PER_SECOND, REST, Pace
from evolink_mcp.errors import EvolinkError, KeyRejected, RateLimited, ServiceFailed

SHORT = 1 / PER_SECOND


@dataclass
class Time:
    """A clock that goes on when everybody waits, to the next moment that somebody waits for."""

    now: float = 1000.0
    waiting: list[tuple[float, anyio.Event]] = field(
        default_factory=list[tuple[float, anyio.Event]]
    )

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        event = anyio.Event()
        self.waiting.append((self.now + seconds, event))
        await event.wait()

    async def go_on(self) -> None:
        """Let time pass until nobody waits for it."""
        await anyio.wait_all_tasks_blocked()
        while self.waiting:
            first = min(self.waiting, key=lambda each: each[0])
            self.waiting.remove(first)
            self.now = first[0]
            first[1].set()
            await anyio.wait_all_tasks_blocked()


@dataclass
class Crowd:
    """Readers who want their turn all at once; `turns` are who got it, and when."""

    pace: Pace
    time: Time
    group: anyio.abc.TaskGroup
    turns: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])

    def come(self, count: int) -> None:
        for n in range(count):
            self.group.start_soon(self._read, n)

    async def _read(self, n: int) -> None:
        await self.pace.turn()
        self.turns.append((n, self.time.now))

    @property
    def times(self) -> list[float]:
        return [when for _, when in self.turns]


@asynccontextmanager
async def crowd() -> AsyncGenerator[Crowd]:
    time = Time()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            yield Crowd(Pace(time.sleep, time), time, group)


def too_many(retry_after: float | None = None) -> RateLimited:
    return RateLimited(message="", next_step="", status=429, retry_after=retry_after)


async def test_a_burst_passes_at_once_and_the_rest_at_a_steady_pace_in_order() -> None:
    async with crowd() as readers:
        readers.come(BURST + 20)
        await readers.time.go_on()
    assert [n for n, _ in readers.turns] == list(range(BURST + 20))
    assert readers.times[:BURST] == [1000.0] * BURST
    later = [1000.0 + SHORT * n for n in range(1, 21)]
    assert readers.times[BURST:] == pytest.approx(later)


async def test_in_the_long_run_no_more_pass_than_allowed() -> None:
    async with crowd() as readers:
        for _ in range(10):
            readers.come(100)
            await readers.time.go_on()
            readers.time.now += 3.0
    seconds = readers.times[-1] - readers.times[0]
    assert len(readers.times) == 1000
    assert len(readers.times) <= BURST + seconds * PER_SECOND + 1


async def test_the_burst_comes_back_in_a_quiet_time() -> None:
    async with crowd() as readers:
        readers.come(BURST)
        await readers.time.go_on()
        readers.time.now += BURST * SHORT
        readers.come(BURST)
        await readers.time.go_on()
    assert readers.times[BURST:] == [1000.0 + BURST * SHORT] * BURST


@pytest.mark.parametrize(
    ("asked", "rest"), [(None, REST), (7.0, 7.0), (0.0, 0.0), (9999.0, LONGEST_REST)]
)
async def test_too_many_requests_silence_everybody(asked: float | None, rest: float) -> None:
    async with crowd() as readers:
        readers.pace.refused(too_many(asked))
        readers.come(3)
        await readers.time.go_on()
    assert readers.times == pytest.approx([1000 + rest + n * SHORT * bool(rest) for n in range(3)])


async def test_too_many_requests_silence_those_who_wait_already() -> None:
    async with crowd() as readers:
        readers.come(BURST + 5)
        await anyio.wait_all_tasks_blocked()
        assert len(readers.turns) == BURST
        readers.pace.refused(too_many(7.0))
        await readers.time.go_on()
    assert [n for n, _ in readers.turns] == list(range(BURST + 5))
    assert readers.times[BURST:] == pytest.approx([1007.0 + SHORT * n for n in range(1, 6)])


async def test_many_refusals_at_once_are_one_silence() -> None:
    async with crowd() as readers:
        for retry_after in (5.0, 7.0, 3.0):
            readers.pace.refused(too_many(retry_after))
        readers.come(2)
        await readers.time.go_on()
    assert readers.times == pytest.approx([1007.0, 1007.0 + SHORT])


@pytest.mark.parametrize(
    "error",
    [
        ServiceFailed(message="", next_step="", status=503, retry_after=60.0),
        KeyRejected(message="", next_step="", status=401),
        EvolinkError(message="", next_step=""),
    ],
)
async def test_other_errors_silence_nobody(error: EvolinkError) -> None:
    async with crowd() as readers:
        readers.pace.refused(error)
        readers.come(BURST)
        await readers.time.go_on()
    assert readers.times == [1000.0] * BURST
