"""Callbacks as the watchers take them: hints, relied on as long as they arrive."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx2 as httpx
import pytest

from evolink_mcp.api.wire import Task
from evolink_mcp.errors import RequestRejected
from evolink_mcp.jobs.cadence import SHORTEST
from evolink_mcp.jobs.callbacks import ALLOWANCE, HARDEST_PROOF, Callbacks
from evolink_mcp.jobs.hint import Hint
from evolink_mcp.jobs.job import Job, JobId, Watch, new_job_id
from evolink_mcp.jobs.leases import LEASE_SECONDS
from tests.jobs.shop import Shop, answered, never_sent, open_shop, wanted
from tests.sandbox.desk import Clock

OWN = "https://hooks.example.com/evolink"
ESTIMATE = 45
"""Seconds, of the sandbox's tasks."""

UNDRAWN = "[slow:20] [fail:service_error]"
"""Ends as soon as any other, without the time that drawing takes."""

USUAL, RELIED_ON = pytest.approx(ESTIMATE / 7), pytest.approx(ESTIMATE * 1.5)
"""Seconds: the first rest of a task, and the one while callbacks are relied on."""


def url_of(job_id: JobId) -> str:
    return f"https://mcp.example.com/callbacks/{job_id}"


@dataclass
class Place:
    """A shop whose watchers rest until a test ends that; EvoLink calls when a test says so."""

    asked: list[float] = field(default_factory=list[float])
    """The rests that were begun, in seconds."""
    _over: anyio.Event = field(default_factory=anyio.Event)
    _shop: Shop | None = None

    @property
    def shop(self) -> Shop:
        assert self._shop is not None
        return self._shop

    @shop.setter
    def shop(self, shop: Shop) -> None:
        self._shop = shop

    @property
    def readings(self) -> int:
        return self.shop.requests[1]

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.asked.append(seconds)
            await self._over.wait()

    async def begins(self, prompt: str = "[slow:20]") -> Watch:
        """Buy a task like no other, and wait until its watcher rests."""
        before = len(self.asked)
        watch = await self.shop.start(f"{prompt} {before}")
        await self.rests(before + 1)
        return watch

    async def rests(self, count: int) -> None:
        """Wait until so many rests were begun in all."""
        await self.until(lambda: len(self.asked) >= count)
        assert len(self.asked) == count

    async def until(self, come: Callable[[], bool]) -> None:
        with anyio.fail_after(10):
            while not come():
                await anyio.lowlevel.checkpoint()

    async def passes(self) -> None:
        """Let the newest rest pass, and with it all the others."""
        self.shop.clock.now += self.asked[-1]
        over, self._over = self._over, anyio.Event()
        over.set()
        await anyio.lowlevel.checkpoint()

    def call_back(self, watch: Watch) -> None:
        self.shop.watchers.called_back(watch.job.id)

    async def ends_by_callback(self, watch: Watch) -> Job:
        self.shop.clock.now += 30
        self.call_back(watch)
        return await self.shop.end(watch)

    async def ends_without(self, watch: Watch) -> Job:
        await self.passes()
        return await self.shop.end(watch)

    def sent(self) -> list[dict[str, Any]]:
        """Return the bodies of the purchases."""
        return [json.loads(each.content) for each in self.shop.line.seen if each.method == "POST"]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    place = Place()
    async with AsyncExitStack() as stack:
        shop = open_shop(tmp_path / "pictures", sleep=place.sleep, callback_url=url_of)
        place.shop = await stack.enter_async_context(shop)
        place.shop.sandbox._provider._sleep = sleep_for_ever  # it does not call by itself
        await stack.enter_async_context(place.shop.sandbox.running())
        yield place


async def sleep_for_ever(_: float) -> None:
    await anyio.sleep_forever()


async def test_the_end_is_read_when_its_callback_comes(place: Place) -> None:
    watch = await place.begins()
    job = await place.ends_by_callback(watch)
    assert job.state == "collected"
    assert place.shop.requests == (1, 1, 1)
    assert place.asked == [USUAL]


async def test_our_address_is_in_what_is_sent_and_nowhere_else(place: Place) -> None:
    watch = await place.begins()
    place.shop.line.seen[0].read()
    [body] = place.sent()
    assert body == {**wanted("[slow:20] 0").body(), "callback_url": url_of(watch.job.id)}
    recorded = await place.shop.journal.look(watch.job.id)
    assert recorded is not None
    assert recorded.request == watch.job.request == wanted("[slow:20] 0")
    again = await place.shop.purchase("[slow:20] 0")  # the same wish, whatever the address
    assert again.joined
    assert again.watch is watch


async def test_as_long_as_callbacks_arrive_tasks_are_left_alone_until_theirs_comes(
    place: Place,
) -> None:
    await place.ends_by_callback(await place.begins())
    for _ in range(3):
        watch = await place.begins(UNDRAWN)
        assert (await place.ends_by_callback(watch)).state == "failed"
    assert place.asked == [USUAL, RELIED_ON, RELIED_ON, RELIED_ON]
    assert place.readings == 4


async def test_an_overdue_task_is_read_now_and_then_all_the_same(place: Place) -> None:
    await place.ends_by_callback(await place.begins())
    watch = await place.begins("[slow:100]")
    for count in (2, 3, 4):
        await place.rests(count)
        await place.passes()
    assert (await place.shop.end(watch)).state == "collected"
    assert place.asked == [USUAL, RELIED_ON, ESTIMATE / 2, ESTIMATE / 2]


async def test_one_that_stays_away_sends_all_back_to_the_usual_cadence(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    await place.ends_by_callback(await place.begins())
    lost = await place.begins()
    await place.ends_without(lost)
    long = await place.begins("[slow:500]")
    place.shop.clock.now += ALLOWANCE - 0.1
    await place.shop.watchers.tend()
    assert place.asked[1:] == [RELIED_ON, RELIED_ON]
    before = place.readings
    place.shop.clock.now += 0.1
    await place.shop.watchers.tend()
    await place.rests(4)
    assert place.readings == before + 1  # the one who relied on it was woken
    assert place.asked[3] == pytest.approx((ESTIMATE - ALLOWANCE) / 7)
    assert [each.message for each in caplog.records if "callbacks" in each.message] == [
        "callbacks do not arrive: tasks are read as if there were none"
    ]
    assert (await place.begins("[stuck] a")).job.task is not None
    assert place.asked[4] == USUAL
    place.call_back(lost)  # too late to count
    place.shop.clock.now += 500
    place.call_back(long)
    await place.shop.end(long)  # one is not enough any more
    assert (await place.begins("[stuck] b")).job.task is not None
    assert place.asked[5] == USUAL


async def test_they_are_relied_on_again_after_twice_as_many(place: Place) -> None:
    rests = [USUAL]
    await place.ends_by_callback(await place.begins(UNDRAWN))
    for proof in (2, 4):
        await place.ends_without(await place.begins(UNDRAWN))
        place.shop.clock.now += ALLOWANCE
        await place.shop.watchers.tend()
        for _ in range(proof):
            await place.ends_by_callback(await place.begins(UNDRAWN))
        rests += [RELIED_ON, *[USUAL] * proof]
    assert place.asked == rests
    await place.begins()
    assert place.asked[-1] == RELIED_ON


async def test_one_that_comes_soon_after_its_end_was_read_counts(place: Place) -> None:
    first = await place.begins("[slow:3]")
    await place.ends_without(first)
    place.call_back(first)
    place.shop.clock.now += ALLOWANCE
    await place.shop.watchers.tend()
    await place.begins()
    assert place.asked == [USUAL, RELIED_ON]
    assert place.readings == 1


async def test_one_that_comes_while_pictures_are_fetched_counts(place: Place) -> None:
    place.shop.line.held_gets = ("/files/", anyio.Event())
    first = await place.begins("[slow:3]")
    await place.passes()
    await place.until(lambda: "/files/" in str(place.shop.line.seen[-1].url))
    place.call_back(first)
    place.shop.line.held_gets[1].set()
    await place.shop.end(first)
    await place.begins()
    assert place.asked == [USUAL, RELIED_ON]


async def test_one_may_come_before_the_answer_to_the_purchase(place: Place) -> None:
    def first(answer: httpx.Response | None) -> None:
        if answer is not None:
            place.shop.clock.now += 20
            [job_id] = place.shop.watchers._by_job
            place.shop.watchers.called_back(job_id)

    place.shop.line.breaks = [first]
    job = await place.shop.buy("[slow:20]")
    assert job.state == "collected"
    assert (place.asked, place.readings) == ([], 1)


async def test_a_task_that_is_not_over_yet_is_looked_at_again_soon_then_less_often(
    place: Place,
) -> None:
    watch = await place.begins("[stuck]")
    place.call_back(watch)
    for count in range(2, 6):
        await place.rests(count)
        await place.passes()
    await place.rests(6)
    assert place.asked[1:3] == [SHORTEST, 2 * SHORTEST]
    assert place.asked[3:] == sorted(place.asked[3:], reverse=True)  # the usual cadence again
    assert 4 < place.asked[3] < USUAL.expected
    assert watch.job.state == "processing"


async def test_a_reading_that_fails_is_made_again(place: Place) -> None:
    watch = await place.begins("[slow:20] [poll:503x4]")
    place.shop.clock.now += 20
    place.call_back(watch)
    await place.rests(2)
    assert (place.asked[1], place.readings) == (SHORTEST, 3)
    await place.passes()
    assert (await place.shop.end(watch)).state == "collected"
    assert place.readings == 5


async def test_replays_make_us_read_no_more_than_once_in_a_while(place: Place) -> None:
    watch = await place.begins("[stuck]")
    for count in range(2, 6):
        for _ in range(1000):
            place.call_back(watch)
        await place.rests(count)
        assert (place.asked[-1], place.readings) == (SHORTEST, count - 1)
        for _ in range(1000):
            place.call_back(watch)
        await place.rests(count)
        await place.passes()
    assert watch.job.state == "processing"


async def test_late_ones_and_ones_for_unknown_jobs_do_nothing(place: Place) -> None:
    watch = await place.begins()
    job = await place.ends_by_callback(watch)
    seen = len(place.shop.line.seen)
    for job_id in (job.id, new_job_id()):
        place.shop.watchers.called_back(job_id)
    await anyio.wait_all_tasks_blocked()
    assert (len(place.shop.line.seen), watch.job) == (seen, job)
    assert place.asked == [USUAL]


async def test_a_callers_own_address_goes_along_instead_of_ours(place: Place) -> None:
    await place.ends_by_callback(await place.begins())  # they are relied on now
    own = replace(wanted("[slow:3]"), callback_url=OWN)
    bought = await place.shop.watchers.buy(own, budget=place.shop.budget)
    await place.rests(2)
    assert place.sent()[1]["callback_url"] == OWN
    await place.ends_without(bought.watch)
    place.shop.clock.now += ALLOWANCE
    await place.shop.watchers.tend()  # none of ours stays away
    await place.begins()
    assert place.asked == [USUAL, USUAL, RELIED_ON]


async def test_where_evolink_refuses_our_address_it_is_told_no_more(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    said = {"error": {"code": "invalid_parameter", "message": "callback_url is not public"}}
    place.shop.line.breaks = [answered(400, said)]
    first = await place.begins("[slow:20] a")
    await place.begins("[slow:20] b")
    assert ["callback_url" in body for body in place.sent()] == [True, False, False]
    assert place.asked == [USUAL, USUAL]
    assert first.job.state == "submitted"
    [warning] = [each.message for each in caplog.records if "callback" in each.message]
    assert "EVOLINK_PUBLIC_URL" in warning
    assert first.job.id not in warning


@pytest.mark.parametrize("url", [OWN, None])
async def test_another_refusal_is_the_callers(place: Place, url: str | None) -> None:
    message = "callback_url is not public" if url else "the prompt is too long"
    said = {"error": {"code": "invalid_parameter", "message": message}}
    place.shop.line.breaks = [answered(400, said)]
    request = replace(wanted(), callback_url=url)
    bought = await place.shop.watchers.buy(request, budget=place.shop.budget)
    job = await place.shop.end(bought.watch)
    assert (job.state, len(place.sent())) == ("refused", 1)
    assert isinstance(job.error, RequestRejected)


async def test_a_request_that_never_left_is_sent_again_with_the_same_address(place: Place) -> None:
    place.shop.line.breaks = [never_sent(httpx.ConnectError("callback"))]
    watch = await place.shop.start("[slow:20]")
    await place.rests(1)
    await place.passes()
    await place.rests(2)
    one, two = place.sent()
    assert one == two
    assert one["callback_url"] == url_of(watch.job.id)


async def test_after_a_restart_a_job_still_takes_its_callback(tmp_path: Path, place: Place) -> None:
    before = Place()
    async with open_shop(
        tmp_path / "pictures", beside=place.shop, sleep=before.sleep, callback_url=url_of
    ) as before.shop:
        watch = await before.begins("[slow:100]")
    place.shop.clock.now += LEASE_SECONDS
    await place.shop.watchers.tend()
    await place.rests(1)
    [taken_up] = place.shop.watchers._by_job.values()
    assert taken_up.job.id == watch.job.id
    place.shop.clock.now += 100
    place.call_back(watch)
    assert (await place.shop.end(taken_up)).state == "collected"


async def test_a_job_of_another_process_is_left_to_that(tmp_path: Path, place: Place) -> None:
    watch = await place.begins()
    other = Place()
    async with open_shop(
        tmp_path / "other", beside=place.shop, sleep=other.sleep, callback_url=url_of
    ) as other.shop:
        assert watch.job.task_id is not None
        follower = await other.shop.watchers.follow(watch.job.task_id)
        await other.rests(1)
        other.call_back(watch)
        await anyio.wait_all_tasks_blocked()
        assert (other.asked, other.shop.line.seen, follower.ended) == ([1.0], [], False)


@dataclass
class Ends:
    """Ends of tasks, with their callbacks or without."""

    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.callbacks = Callbacks(url=url_of, sleep=self.clock.sleep, clock=self.clock)

    def end(self, *, called: bool) -> bool:
        """Let a task end; return whether callbacks are relied on then."""
        watch = Watch(Job(id=new_job_id()), 0.0, hint=Hint(expected=True, came=called))
        self.callbacks.found_over(watch)
        self.clock.now += ALLOWANCE
        self.callbacks.judge()
        return self.callbacks.arriving


def test_however_often_they_stay_away_some_suffice_in_the_end() -> None:
    ends = Ends()
    for _ in range(20):
        assert [ends.end(called=True) for _ in range(HARDEST_PROOF)][-1]
        assert not ends.end(called=False)
    assert [ends.end(called=True) for _ in range(HARDEST_PROOF)].index(True) == HARDEST_PROOF - 1


def test_those_that_come_do_not_count_with_one_that_stays_away_between_them() -> None:
    ends = Ends()
    told = [ends.end(called=called) for called in (True, False, True, False, True, True)]
    assert told == [True, False, False, False, False, True]


async def test_a_short_task_is_not_read_sooner_than_a_moment_from_now() -> None:
    clock = Clock()
    callbacks = Callbacks(url=url_of, sleep=clock.sleep, clock=clock, arriving=True)
    task = Task.model_validate({"id": "task-unified-1-a", "task_info": {"estimated_time": 10}})
    for elapsed in (0.0, 14.999, 15.0, 100.0):
        await callbacks.pause(Hint(expected=True), task, elapsed=elapsed)
    assert clock.slept == [15.0, pytest.approx(0.05), 5.0, 5.0]
