"""A journal that fails after the purchase must not lose the task."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from evolink_mcp.errors import JournalUnusable
from evolink_mcp.jobs.database import Database
from evolink_mcp.jobs.job import Job, Watch
from tests.jobs.shop import Shop, open_shop, wanted


@dataclass
class Trouble:
    """How often the journal cannot be used from now on, and how often it could not."""

    left: float = 0
    tries: int = 0


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trouble]:
    transact = Database._transact
    seen = Trouble()

    def may_fail(database: Database, work: object) -> object:
        if seen.left:
            seen.left -= 1
            seen.tries += 1
            raise JournalUnusable(message="The record is locked.", next_step="Wait.")
        return transact(database, work)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Database, "_transact", may_fail)
        yield seen


async def bought_in_trouble(shop: Shop, trouble: Trouble, prompt: str = "[slow:20]") -> Watch:
    """Buy while the journal cannot be written, and stop before the task is read."""
    shop.line.held, shop.line.held_gets = anyio.Event(), ("/v1/tasks/", anyio.Event())
    arrived = len(shop.line.seen)
    watch = await shop.start(prompt)
    await shop.arrived(arrived + 1)
    trouble.left = math.inf
    shop.line.held.set()
    await shop.arrived(arrived + 2)
    return watch


def go_on(shop: Shop) -> None:
    assert shop.line.held_gets is not None
    shop.line.held_gets[1].set()


async def test_a_task_that_could_not_be_recorded_is_seen_through(
    shop: Shop, trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    watch = await bought_in_trouble(shop, trouble)
    assert (watch.job.state, watch.unsaved) == ("submitted", True)
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert str(watch.job.task_id) in told[0].getMessage()
    go_on(shop)
    job = await shop.end(watch)
    assert (job.state, watch.unsaved) == ("collected", True)
    trouble.left = 0
    assert await shop.recorded(job.task_id) is None
    await shop.watchers.tend()
    assert await shop.recorded(job.task_id) == job
    assert not watch.unsaved
    assert await shop.journal.leases.renew() == frozenset()


async def test_the_next_state_makes_up_for_one_that_was_not_recorded(
    shop: Shop, trouble: Trouble
) -> None:
    watch = await bought_in_trouble(shop, trouble)
    trouble.left = 0
    go_on(shop)
    job = await shop.end(watch)
    assert not watch.unsaved
    assert await shop.recorded(job.task_id) == job


async def test_what_could_not_be_recorded_is_when_the_server_leaves(
    tmp_path: Path, trouble: Trouble
) -> None:
    async with open_shop(tmp_path / "pictures") as survivor:
        async with open_shop(tmp_path / "other", beside=survivor) as shop:
            watch = await bought_in_trouble(shop, trouble)
            trouble.left = 0
            await shop.watchers.leave()
        assert await survivor.recorded(watch.job.task_id) == watch.job
        await survivor.watchers.tend()
        await survivor.becomes(watch.job, "collected")


async def test_a_write_that_is_broken_off_is_made_good(tmp_path: Path, trouble: Trouble) -> None:
    """The beat that would have written the task id ended with the server."""
    async with open_shop(tmp_path / "pictures") as survivor:
        async with open_shop(tmp_path / "other", beside=survivor) as shop:
            watch = await bought_in_trouble(shop, trouble)
            trouble.left = 0
            with anyio.CancelScope() as beat:
                beat.cancel()
                await shop.watchers.tend()
            await shop.watchers.leave()
        assert await survivor.recorded(watch.job.task_id) == watch.job


async def test_a_journal_that_fails_is_asked_once_a_beat(shop: Shop, trouble: Trouble) -> None:
    watches: list[Watch] = []
    for prompt in ("[slow:20] a", "[slow:20] b"):
        watches.append(await bought_in_trouble(shop, trouble, prompt))
        trouble.left = 0
    trouble.left, trouble.tries = math.inf, 0
    with pytest.raises(JournalUnusable):
        await shop.watchers._keeper.flush()
    assert trouble.tries == 1
    trouble.left = 0
    await shop.watchers._keeper.flush()
    for watch in watches:
        assert await shop.recorded(watch.job.task_id) == watch.job


async def test_an_older_state_is_not_written_over_a_newer_one(shop: Shop, trouble: Trouble) -> None:
    watches: list[Watch] = []
    for prompt in ("[slow:20] a", "[slow:20] b"):
        watches.append(await bought_in_trouble(shop, trouble, prompt))
        trouble.left = 0
    keeper, (_, watch) = shop.watchers._keeper, watches
    newer = replace(watch.job, state="processing")
    async with anyio.create_task_group() as group:
        group.start_soon(keeper.flush)
        group.start_soon(keeper.keep, watch, newer)
    assert await shop.recorded(watch.job.task_id) == newer
    assert keeper.unwritten == set()


async def test_a_newer_state_is_not_forgotten_when_an_older_one_is_written(
    shop: Shop, trouble: Trouble
) -> None:
    watch = await bought_in_trouble(shop, trouble)
    trouble.left = 0
    keeper, record = shop.watchers._keeper, shop.journal.record
    newer = replace(watch.job, state="processing")
    failed = anyio.Event()

    async def fail_at_the_newer(job: Job, *, release: bool = False) -> None:
        if job is newer:
            failed.set()
            raise JournalUnusable(message="The record is locked.", next_step="Wait.")
        await failed.wait()
        await record(job, release=release)

    shop.journal.record = fail_at_the_newer  # type: ignore[method-assign]
    async with anyio.create_task_group() as group:
        group.start_soon(keeper.flush)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(keeper.keep, watch, newer)
    assert (keeper.unwritten, watch.unsaved) == ({watch.job.id}, True)
    shop.journal.record = record  # type: ignore[method-assign]
    await keeper.flush()
    assert await shop.recorded(watch.job.task_id) == newer


async def test_a_job_that_cannot_be_let_go_is_tried_again(shop: Shop, trouble: Trouble) -> None:
    shop.line.held_gets = ("/v1/tasks/", anyio.Event())
    watch = await shop.start("[slow:20] [poll:401]")
    await shop.arrived(2)
    trouble.left = math.inf
    go_on(shop)
    assert (await shop.end(watch)).error is not None
    trouble.left = 0
    assert await shop.journal.leases.renew() == {watch.job.id}
    await shop.watchers.tend()
    assert await shop.journal.leases.renew() == frozenset()
    shop.clock.now += 60
    await shop.watchers.tend()
    await shop.becomes(watch.job, "collected")
    assert shop.requests[0] == 1


async def test_a_task_can_be_followed_without_the_journal(shop: Shop, trouble: Trouble) -> None:
    task = await shop.watchers.api.submit(wanted("[slow:20]"), idempotency_key="elsewhere")
    trouble.left = math.inf
    shop.line.held_gets = (task.id, anyio.Event())
    watch = await shop.watchers.follow(task.task_id)
    await shop.arrived(2)
    go_on(shop)
    job = await shop.end(watch)
    assert (job.state, len(job.pictures), watch.unsaved) == ("collected", 1, True)


async def test_a_task_that_was_met_without_the_journal_is_enrolled_later(
    shop: Shop, trouble: Trouble
) -> None:
    task = await shop.watchers.api.submit(wanted("[slow:20]"), idempotency_key="elsewhere")
    trouble.left = math.inf
    shop.line.held_gets = (task.id, anyio.Event())
    watch = await shop.watchers.follow(task.task_id)
    await shop.arrived(2)
    go_on(shop)
    shop.line.held_gets = (task.id, anyio.Event())
    await shop.arrived(3)
    trouble.left = 0
    assert await shop.recorded(task.task_id) is None
    await shop.watchers.tend()
    go_on(shop)
    job = await shop.end(watch)
    found = await shop.recorded(task.task_id)
    assert found is not None
    assert (found.id, found.state, found.pictures) == (job.id, "collected", job.pictures)


async def test_without_the_journal_nothing_is_bought(shop: Shop, trouble: Trouble) -> None:
    trouble.left = math.inf
    with pytest.raises(JournalUnusable):
        await shop.start()
    assert shop.line.seen == []


async def test_a_beat_survives_a_journal_that_fails(
    shop: Shop, trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    trouble.left = math.inf
    await shop.watchers.tend()
    await anyio.lowlevel.checkpoint()
    await shop.watchers.leave()
    await anyio.lowlevel.checkpoint()
    assert caplog.messages == ["The record is locked."] * 2


@pytest.fixture
async def other(tmp_path: Path, shop: Shop, trouble: Trouble) -> AsyncIterator[Shop]:
    """Open a second server beside the first; while it waits for others, the journal breaks."""

    async def break_it(_: float) -> None:
        await anyio.lowlevel.checkpoint()
        trouble.left = not trouble.tries

    async with open_shop(tmp_path / "other", beside=shop) as opened:
        opened.watchers.sleep = break_it
        yield opened


async def test_who_looks_on_survives_a_journal_that_fails(
    shop: Shop, other: Shop, trouble: Trouble
) -> None:
    shop.line.held_gets = ("/v1/tasks/", anyio.Event())
    watch = await shop.start("[slow:20]")
    await shop.arrived(2)
    joined = await other.start("[slow:20]")
    await until_tried(trouble)
    go_on(shop)
    assert (await other.end(joined)).state == (await shop.end(watch)).state == "collected"
    assert other.line.seen == []


async def test_an_intent_of_another_process_is_left_to_it_without_the_journal(
    shop: Shop, other: Shop, trouble: Trouble
) -> None:
    shop.line.held = anyio.Event()
    watch = await shop.start("[slow:20]")
    await shop.arrived()
    joined = await other.start("[slow:20]")
    trouble.left = 1
    await until_tried(trouble)
    shop.line.held.set()
    assert (await other.end(joined)).state == (await shop.end(watch)).state == "collected"
    assert (other.line.seen, shop.requests[0]) == ([], 1)


async def until_tried(trouble: Trouble) -> None:
    with anyio.fail_after(20):
        while not trouble.tries:
            await anyio.lowlevel.checkpoint()
