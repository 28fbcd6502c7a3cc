"""Several servers of one user share a journal: who buys, who works, who takes over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from evolink_mcp.errors import JournalUnusable, NeverSent, OutcomeUnknown
from evolink_mcp.jobs.collect import all_on_disk
from evolink_mcp.jobs.database import Database
from evolink_mcp.jobs.job import LOCAL, Job, JobId, Watch
from evolink_mcp.jobs.leases import LEASE_SECONDS
from tests.jobs.shop import Shop, answered, open_shop, wanted


@pytest.fixture
async def other(tmp_path: Path, shop: Shop) -> AsyncIterator[Shop]:
    """Open a second server beside the first; waiting for others takes it no time."""
    async with open_shop(tmp_path / "other", beside=shop) as opened:
        opened.watchers.sleep = no_time_passes
        yield opened


async def no_time_passes(_: float) -> None:
    await anyio.lowlevel.checkpoint()


async def test_identical_calls_at_once_are_one_purchase(shop: Shop) -> None:
    shop.line.held = anyio.Event()
    first, second = [await shop.purchase("[slow:20]") for _ in range(2)]
    assert (first.joined, second.joined) == (False, True)
    assert first.watch is second.watch
    shop.line.held.set()
    await shop.end(first.watch)
    third = await shop.purchase("[slow:20]")
    assert (third.joined, third.watch.ended, third.watch.job) == (True, True, first.watch.job)
    assert shop.requests == (1, 7, 1)


async def test_a_call_that_joins_another_process_looks_on(shop: Shop, other: Shop) -> None:
    shop.line.held = anyio.Event()
    watch = await shop.start("[slow:20]")
    joined = await other.purchase("[slow:20]")
    assert (joined.joined, joined.watch.job.id) == (True, watch.job.id)
    await shop.arrived()
    assert (joined.watch.job.state, joined.watch.ended) == ("intent", False)
    shop.line.held.set()
    job = await other.end(joined.watch)
    assert job == await shop.end(watch)
    assert job.state == "collected"
    assert (shop.requests, other.line.seen) == ((1, 7, 1), [])
    assert other.heard[-1] == job


async def test_a_follower_of_another_processs_task_looks_on(shop: Shop, other: Shop) -> None:
    shop.line.held_gets = ("/v1/tasks/", anyio.Event())
    watch = await shop.start("[slow:20]")
    await shop.arrived(2)
    assert watch.job.task_id is not None
    follower = await other.watchers.follow(watch.job.task_id)
    assert follower is await other.watchers.follow(watch.job.task_id)
    shop.line.held_gets[1].set()
    assert (await other.end(follower)).state == "collected"
    assert other.line.seen == []


async def test_who_looks_on_takes_over_when_the_other_is_gone(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "pictures") as survivor:
        survivor.watchers.sleep = no_time_passes
        async with open_shop(tmp_path / "other", beside=survivor) as shop:
            shop.line.held_gets = ("/v1/tasks/", anyio.Event())
            watch = await shop.start("[slow:20]")
            await shop.arrived(2)
            joined = await survivor.start("[slow:20]")
        assert not joined.ended
        survivor.clock.now += LEASE_SECONDS
        job = await survivor.end(joined)
    assert (job.state, job.id) == ("collected", watch.job.id)
    assert job.pictures[0].path == survivor.folder / f"{job.task_id}-1.png"
    assert survivor.requests[0] == 1


async def test_a_lease_that_ran_out_is_taken_over_without_a_caller(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "pictures") as survivor:
        async with open_shop(tmp_path / "other", beside=survivor) as shop:
            shop.line.held_gets = ("/v1/tasks/", anyio.Event())
            watch = await shop.start("[slow:20]")
            await shop.arrived(2)
        survivor.clock.now += LEASE_SECONDS - 1
        await survivor.watchers.tend()
        assert survivor.line.seen == []
        survivor.clock.now += 1
        await survivor.watchers.tend()
        await survivor.becomes(watch.job, "collected")
    assert survivor.requests[0] == 1


async def test_who_leaves_lets_others_go_on_at_once(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "pictures") as survivor:
        async with open_shop(tmp_path / "other", beside=survivor) as shop:
            shop.line.held_gets = ("/v1/tasks/", anyio.Event())
            watch = await shop.start("[slow:20]")
            await shop.arrived(2)
            shop.watchers.answered(watch)
            await shop.watchers.leave()
        await survivor.watchers.tend()
        await survivor.becomes(watch.job, "collected")
        assert not (await survivor.purchase("[slow:20]")).joined


async def test_a_server_that_keeps_its_lease_keeps_its_jobs(shop: Shop, other: Shop) -> None:
    gate = anyio.Event()
    shop.line.held_gets = ("/v1/tasks/", gate)
    watch = await shop.start("[slow:20]")
    await shop.arrived(2)
    for _ in range(9):
        shop.clock.now += LEASE_SECONDS - 1
        await shop.watchers.tend()
        await other.watchers.tend()
    gate.set()
    assert (await shop.end(watch)).state == "collected"
    assert other.line.seen == []


async def test_a_purchase_that_nobody_saw_the_end_of_is_unknown(tmp_path: Path) -> None:
    async with open_shop(tmp_path / "pictures") as survivor:
        async with open_shop(tmp_path / "other", beside=survivor) as shop:
            shop.line.held = anyio.Event()
            await shop.start()
            await shop.arrived()
            shop.watchers.wind_down(0.0)
        survivor.clock.now += LEASE_SECONDS
        watch = await survivor.start()
        job = await survivor.end(watch)
        assert isinstance(job.error, OutcomeUnknown)
        assert "This server ended while it was buying" in job.error.message
        assert "Do not call generate_image again on your own" in job.error.next_step
        again = await survivor.purchase()
        assert (again.joined, str(again.watch.job.error)) == (True, str(job.error))
    assert (job.state, survivor.requests[0], survivor.line.seen) == ("unknown", 0, [])


async def test_a_job_that_was_lost_is_worked_on_no_more(shop: Shop, other: Shop) -> None:
    shop.line.held_gets = ("/v1/tasks/", anyio.Event())
    watch = await shop.start("[slow:20]")
    await shop.arrived(2)
    shop.clock.now += LEASE_SECONDS
    await other.watchers.tend()
    job = await other.becomes(watch.job, "collected")
    assert not watch.ended
    await shop.watchers.tend()
    assert await shop.end(watch) == job
    assert len(shop.line.seen) == 2
    assert await other.journal.leases.renew() == await shop.journal.leases.renew() == frozenset()


async def test_a_picture_that_is_on_its_way_comes_though_the_job_was_lost(
    shop: Shop, other: Shop
) -> None:
    shop.line.held_gets = ("/files/", anyio.Event())
    watch = await shop.start("[slow:20]")
    await shop.arrived(7)
    shop.clock.now += LEASE_SECONDS
    await other.watchers.tend()
    job = await other.becomes(watch.job, "collected")
    await shop.watchers.tend()
    assert not watch.ended
    shop.line.held_gets[1].set()
    assert (await shop.end(watch)).state == "collected"
    assert await all_on_disk([*watch.job.pictures, *job.pictures])
    assert await shop.journal.look(job.id) == job


async def suspended(shop: Shop, other: Shop) -> None:
    """Sleep as a closed laptop does, while another server goes on."""
    shop.clock.now += 10 * LEASE_SECONDS
    await other.watchers.tend()
    (job,) = await other.journal.newest(LOCAL, limit=9)
    await other.becomes(job, "unknown")


def when_the_purchase_pauses(shop: Shop, other: Shop) -> None:
    async def sleep(_: float) -> None:
        await suspended(shop, other)

    shop.watchers._pursuit = replace(shop.watchers._pursuit, sleep=sleep)


async def test_a_purchase_that_was_given_up_is_not_sent_again(shop: Shop, other: Shop) -> None:
    """Whoever asked was told that the outcome is unknown, and may have bought another one."""
    when_the_purchase_pauses(shop, other)
    shop.line.breaks = [answered(429, {"error": {"code": "rate_limit"}}, Retry_After="1")]
    job = await shop.buy()
    assert isinstance(job.error, NeverSent)
    assert (job.state, len(shop.line.seen)) == ("refused", 1)
    assert (await shop.becomes(job, "refused")).booked == 0.0


async def test_a_purchase_is_known_though_it_was_given_up(shop: Shop, other: Shop) -> None:
    shop.line.held = anyio.Event()
    watch = await shop.start("[slow:20]")
    await shop.arrived()
    await suspended(shop, other)
    shop.line.held.set()
    job = await shop.end(watch)
    assert job.state == "collected"
    assert await shop.recorded(job.task_id) == job
    assert shop.requests[0] == 1


async def test_without_the_journal_a_purchase_is_sent_again_all_the_same(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.line.breaks = [answered(429, {"error": {"code": "rate_limit"}}, Retry_After="1")]
    watch = await shop.start("[slow:20]")
    with monkeypatch.context() as patch:
        patch.setattr(Database, "transact", unusable)
        with anyio.fail_after(20):
            await watch.bought()
    assert (await shop.end(watch)).state == "collected"
    assert len([each for each in shop.line.seen if each.method == "POST"]) == 2


async def unusable(_: Database, __: object) -> None:
    raise JournalUnusable(message="The record is locked.", next_step="Wait.")


async def test_a_task_that_two_watchers_came_by_is_read_by_one(tmp_path: Path, shop: Shop) -> None:
    task = await shop.watchers.api.submit(wanted("[slow:20]"), idempotency_key="elsewhere")
    shop.line.held_gets = (task.id, anyio.Event())
    met = await shop.watchers.follow(task.task_id)
    await shop.arrived(2)
    async with open_shop(tmp_path / "other", beside=shop) as other:
        other.line.held_gets = (task.id, anyio.Event())
        await other.journal.enroll(
            replace(met.job, id=JobId("run_1"), task=task, state="submitted")
        )
        await other.watchers.leave()
    await shop.watchers.tend()
    adopted = shop.watchers._by_job[(await owned(shop)).id]
    await shop.arrived(3)
    assert adopted is not met
    shop.watchers.sleep = no_time_passes
    shop.line.held_gets[1].set()
    ends: list[Job] = [await shop.end(watch) for watch in (met, adopted)]
    assert ends[0] == ends[1]
    assert (ends[0].state, shop.requests[2]) == ("collected", 1)


async def owned(shop: Shop) -> Job:
    (job,) = await shop.journal.newest(LOCAL, limit=9)
    return job


async def test_followers_who_come_while_the_first_is_enrolled_share_its_watcher(shop: Shop) -> None:
    task = await shop.watchers.api.submit(wanted("[slow:20]"), idempotency_key="elsewhere")
    find = shop.journal.find
    watches: list[Watch] = []

    async def late(_: str) -> None:
        """Look before the first has recorded the task, and answer after it."""
        await shop.arrived(3)

    watches.append(await shop.watchers.follow(task.task_id))
    shop.journal.find = late  # type: ignore[assignment]
    watches.append(await shop.watchers.follow(task.task_id))
    shop.journal.find = find  # type: ignore[method-assign]
    assert watches[0] is watches[1]
    assert (await shop.end(watches[0])).state == "collected"


async def test_a_watcher_whose_record_was_replaced_says_so(
    shop: Shop, other: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One could not record its task id; the other met the task as one bought elsewhere."""
    shop.line.held = anyio.Event()
    shop.line.held_gets = ("/v1/tasks/", anyio.Event())
    other.line.held_gets = ("/v1/tasks/", anyio.Event())
    watch = await shop.start("[slow:20]")
    await shop.arrived()
    with monkeypatch.context() as patch:
        patch.setattr(Database, "transact", unusable)
        shop.line.held.set()
        await shop.arrived(2)
    assert (watch.job.state, watch.unsaved) == ("submitted", True)
    assert watch.job.task_id is not None
    follower = await other.watchers.follow(watch.job.task_id)
    await other.arrived()
    other.line.held_gets[1].set()
    other.line.held_gets = ("/v1/tasks/", anyio.Event())
    await other.arrived(2)
    await shop.watchers.tend()
    assert not watch.unsaved
    await other.watchers.tend()
    told = await other.end(follower)
    assert told.error is not None
    assert told.error.code == "internal_error"
    assert await other.recorded(watch.job.task_id) == watch.job
    again = await other.watchers.follow(watch.job.task_id)
    shop.line.held_gets[1].set()
    assert (await other.end(again)).state == (await shop.end(watch)).state == "collected"
