"""Purchases whose answer was lost, and the tasks that callbacks name for them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx2 as httpx
import pytest

from evolink_mcp.api.wire import TaskId
from evolink_mcp.errors import JournalUnusable
from evolink_mcp.jobs.job import Job, JobId, Watch, new_job_id
from evolink_mcp.jobs.leases import LEASE_SECONDS
from evolink_mcp.jobs.lost import EARLIEST, LATEST, TRIES, LostPurchases
from tests.jobs.shop import Shop, answer_lost, open_shop, wanted

LOST = answer_lost(httpx.ReadTimeout("t"))


def url_of(job_id: JobId) -> str:
    return f"https://mcp.example.com/callbacks/{job_id}"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with (
        open_shop(tmp_path / "pictures", callback_url=url_of) as shop,
        shop.sandbox.running(),
    ):
        yield shop


async def lose(shop: Shop, prompt: str = "a fox") -> Job:
    """Buy a picture without hearing of it."""
    shop.line.breaks = [LOST]
    job = await shop.buy(prompt)
    assert (job.state, job.task_id) == ("unknown", None)
    return job


def newest(shop: Shop) -> TaskId:
    return TaskId([*shop.sandbox.tasks][-1])


def call_back(shop: Shop, job: Job, task_id: TaskId) -> bool:
    """Send a callback as the service takes it; return whether its body was of use."""
    of_use = shop.watchers.called_back(job.id)
    if of_use:
        shop.watchers.named(job.id, task_id)
    return of_use


async def looked(shop: Shop, lost: Job, times: int = 1) -> None:
    """Wait until callbacks have been looked into so many times."""
    with anyio.fail_after(10):
        while (kept := shop.watchers._lost._lost.get(lost.id)) and (
            kept.sought or kept.tries > TRIES - times
        ):
            await anyio.lowlevel.checkpoint()


async def test_a_purchase_without_an_answer_is_found_again_by_its_callback(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lost = await lose(shop)
    assert lost.error is not None
    assert lost.error.next_step.startswith("Look with list_tasks in two minutes")
    assert call_back(shop, lost, newest(shop))
    found = await shop.becomes(lost, "collected")
    assert (found.task_id, found.error, found.booked) == (newest(shop), None, 2.5)
    [picture] = found.pictures
    assert picture.path is not None
    assert picture.path.exists()
    assert shop.requests[0] == 1
    assert [job.state for job in shop.heard] == ["unknown", "processing", "collected"]
    assert f"job {lost.id}: EvoLink took it, as task {found.task_id}" in caplog.messages
    assert not call_back(shop, lost, newest(shop))


async def test_what_goes_wrong_while_one_is_sought_harms_no_other(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(job: Job) -> Job | None:
        raise ZeroDivisionError(job.id)

    lost = await lose(shop)
    with monkeypatch.context() as patched:
        patched.setattr(shop.journal, "adopt", broken)
        call_back(shop, lost, newest(shop))
        await looked(shop, lost)
    assert f"job {lost.id}: broken off" in caplog.messages
    assert call_back(shop, lost, newest(shop))
    await shop.becomes(lost, "collected")


async def test_whoever_asks_again_gets_the_picture_that_was_found(shop: Shop) -> None:
    lost = await lose(shop)
    shop.watchers.answered(Watch(lost, 0.0))  # with the doubt
    await shop.journal.mark_delivered()
    call_back(shop, lost, newest(shop))
    await shop.becomes(lost, "collected")
    again = await shop.purchase()
    assert again.joined
    assert (await shop.end(again.watch)).pictures
    assert shop.requests[0] == 1


async def test_one_that_comes_while_the_answer_is_out_saves_the_doubt(shop: Shop) -> None:
    def first(answer: httpx.Response | None) -> httpx.Response | None:
        if answer is not None:
            [job_id] = shop.watchers._by_job
            assert shop.watchers.called_back(job_id)
            shop.watchers.named(job_id, newest(shop))
        return LOST(answer)

    shop.line.breaks = [first]
    job = await shop.buy()
    assert (job.state, job.task_id, shop.requests[0]) == ("collected", newest(shop), 1)
    assert "unknown" not in [heard.state for heard in shop.heard]


async def test_one_that_comes_while_the_doubt_is_recorded_counts(shop: Shop) -> None:
    record = shop.journal.record

    async def named_meanwhile(job: Job, *, release: bool = False) -> None:
        await record(job, release=release)
        if job.state == "unknown":
            assert call_back(shop, job, newest(shop))

    shop.journal.record = named_meanwhile  # type: ignore[method-assign]
    lost = await lose(shop)
    await shop.becomes(lost, "collected")


async def test_an_answer_that_comes_goes_before_a_name(shop: Shop) -> None:
    other = await shop.buy("an owl")

    def first(answer: httpx.Response | None) -> None:
        if answer is not None:
            [job_id] = shop.watchers._by_job
            shop.watchers.named(job_id, other.task_id or newest(shop))

    shop.line.breaks = [first]
    assert (await shop.buy("a fox")).task_id == newest(shop) != other.task_id


async def test_what_crashed_in_a_purchase_is_found_by_the_next_process(
    tmp_path: Path, shop: Shop
) -> None:
    async with open_shop(tmp_path / "other", beside=shop) as other:
        intent = Job(id=new_job_id(), request=wanted())
        crashed = (await other.journal.admit(intent, budget=shop.budget)).job
    task = await post(shop)
    shop.clock.now += LEASE_SECONDS
    await shop.watchers.tend()
    await shop.becomes(crashed, "unknown")
    assert call_back(shop, crashed, task)
    assert (await shop.becomes(crashed, "collected")).task_id == task


async def post(shop: Shop) -> TaskId:
    """Buy a task past our record."""
    task = await shop.watchers.api.submit(wanted(), idempotency_key="elsewhere")
    return task.task_id


async def test_a_task_of_another_time_is_not_believed(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    earlier = await post(shop)
    shop.clock.now -= EARLIEST - 1
    lost = await lose(shop)
    own = newest(shop)
    shop.clock.now += LATEST + 1
    for times, task in enumerate((earlier, await post(shop)), start=1):
        call_back(shop, lost, task)
        await looked(shop, lost, times)
        assert await shop.recorded(task) is None
    told = [message for message in caplog.messages if "not its own" in message]
    assert told == [f"job {lost.id}: the task that its callback names is not its own"] * 2
    call_back(shop, lost, own)
    await shop.becomes(lost, "collected")


async def test_another_ones_task_stays_its_own(shop: Shop) -> None:
    own = await shop.buy("an owl")
    lost = await lose(shop)
    assert own.task_id is not None
    call_back(shop, lost, own.task_id)
    await looked(shop, lost)
    assert (await shop.becomes(lost, "unknown")).task_id is None
    assert await shop.recorded(own.task_id) == own


async def test_between_the_look_and_the_record_it_may_become_anothers(shop: Shop) -> None:
    lost = await lose(shop)
    task_id = newest(shop)
    task = await shop.watchers.api.task(task_id)
    adopted = await shop.journal.adopt(replace(lost, state="processing", task=task, error=None))
    assert adopted is not None
    assert adopted.task_id == task_id
    assert await shop.journal.adopt(replace(adopted, state="processing")) is None  # once
    second = await lose(shop, "an owl")
    assert await shop.journal.adopt(replace(second, task=task)) is None


async def test_a_look_at_the_task_before_its_callback_is_in_nobodys_way(shop: Shop) -> None:
    lost = await lose(shop)
    looked_at = await shop.end(await shop.watchers.follow(newest(shop)))
    assert looked_at.request is None
    call_back(shop, lost, newest(shop))
    found = await shop.becomes(lost, "collected")
    assert found.task_id == newest(shop)
    assert await shop.journal.look(looked_at.id) is None


async def test_a_task_that_cannot_be_read_is_looked_at_again_but_not_for_ever(shop: Shop) -> None:
    lost = await lose(shop)
    nothing = TaskId("task-unified-1-nothing")
    for times in range(1, TRIES + 1):
        for _ in range(100):  # while one look is made there is no other
            assert call_back(shop, lost, nothing)
        await looked(shop, lost, times)
        assert len(shop.line.seen) == 1 + times
    assert not call_back(shop, lost, newest(shop))
    assert (await shop.becomes(lost, "unknown")).task_id is None


async def test_without_the_record_it_is_found_by_a_later_callback(shop: Shop) -> None:
    lost = await lose(shop)
    adopt = shop.journal.adopt

    async def fail(job: Job) -> Job | None:
        raise JournalUnusable(message=f"No room for {job.id}.", next_step="Make some.")

    shop.journal.adopt = fail  # type: ignore[method-assign]
    call_back(shop, lost, newest(shop))
    await looked(shop, lost)
    shop.journal.adopt = adopt  # type: ignore[method-assign]
    call_back(shop, lost, newest(shop))
    await shop.becomes(lost, "collected")


async def test_only_purchases_that_were_sent_with_our_address_are_kept_in_mind(
    tmp_path: Path, shop: Shop
) -> None:
    own = replace(wanted(), callback_url="https://hooks.example.com/evolink")
    shop.line.breaks = [LOST]
    bought = await shop.watchers.buy(own, budget=shop.budget)
    theirs = await shop.end(bought.watch)
    assert not call_back(shop, theirs, newest(shop))
    assert theirs.error is not None
    assert theirs.error.next_step.startswith("Do not call")
    async with open_shop(tmp_path / "deaf") as deaf:
        assert not call_back(deaf, await lose(deaf), newest(deaf))


async def test_so_many_are_kept_in_mind_and_no_more(shop: Shop) -> None:
    lost = LostPurchases(api=shop.watchers.api, journal=shop.journal, most=2)
    jobs = [Job(id=JobId(f"run_{n}"), request=wanted()) for n in range(3)]
    for job in jobs:
        lost.add(job)
    assert [job.id in lost for job in jobs] == [False, True, True]
    assert [lost.begin(job.id) is not None for job in jobs] == [False, True, True]
