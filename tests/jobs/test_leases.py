from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from anyio import from_thread

from evolink_mcp.jobs import leases
from evolink_mcp.jobs.job import Job, State
from evolink_mcp.jobs.journal import Journal
from evolink_mcp.jobs.leases import LEASE_SECONDS, LONGEST_RETRY, is_gone, this_place
from tests.jobs.records import FOX, admitted, new_job, open_record, submitted
from tests.sandbox.desk import Clock


@asynccontextmanager
async def two(folder: Path, clock: Clock) -> AsyncGenerator[tuple[Journal, Journal]]:
    """Open one record as two processes do."""
    path = folder / "journal"
    async with open_record(path, clock) as one, open_record(path, clock) as other:
        yield one, other


async def test_a_job_is_worked_on_by_one_process(tmp_path: Path) -> None:
    async with two(tmp_path, Clock()) as (one, other):
        job = await admitted(one)
        assert await one.leases.renew() == {job.id}
        assert await one.claim(job) == job
        assert await other.claim(job) is None
        await one.leases.release(job.id, in_trouble=False)
        assert await one.leases.renew() == frozenset()
        assert await other.claim(job) == job
        assert await one.claim(job) is None


async def test_a_key_that_comes_amid_a_transaction_waits_for_nothing(tmp_path: Path) -> None:
    begun, may_end = anyio.Event(), threading.Event()

    def work(connection: sqlite3.Connection) -> None:
        rows = connection.execute("VALUES (1), (2)")
        next(rows)  # SQLite is amid a statement
        from_thread.run_sync(begun.set)
        may_end.wait()

    async with (
        open_record(tmp_path / "journal", Clock()) as journal,
        anyio.create_task_group() as group,
    ):
        group.start_soon(journal.database.transact, work)
        await begun.wait()
        try:
            beside = journal.of_key("0" * 32)
        finally:
            may_end.set()
        assert await beside.leases.renew() == frozenset()


async def test_only_the_owner_lets_a_job_go(tmp_path: Path) -> None:
    async with two(tmp_path, Clock()) as (one, other):
        job = await admitted(one)
        await other.leases.release(job.id, in_trouble=False)
        assert await one.leases.renew() == {job.id}


async def test_what_has_ended_belongs_to_nobody(tmp_path: Path) -> None:
    async with two(tmp_path, Clock()) as (one, other):
        job = await admitted(one)
        await one.record(replace(job, state="unknown"), release=True)
        assert await one.leases.renew() == frozenset()
        assert await other.orphans(limit=9) == []
        assert not await other.waits_for_somebody()


async def test_a_lease_that_is_renewed_is_respected(tmp_path: Path) -> None:
    clock = Clock()
    async with two(tmp_path, clock) as (one, other):
        job = await admitted(one)
        for _ in range(10):
            clock.now += LEASE_SECONDS - 1
            await one.leases.renew()
            assert await other.claim(job) is None
            assert await other.orphans(limit=9) == []


async def test_the_jobs_of_a_lease_that_ran_out_are_taken_over(tmp_path: Path) -> None:
    clock = Clock()
    async with two(tmp_path, clock) as (one, other):
        job = await admitted(one)
        assert not await other.waits_for_somebody()
        clock.now += LEASE_SECONDS
        assert await other.waits_for_somebody()
        assert await other.orphans(limit=9) == [job]
        assert await one.leases.renew() == frozenset()
        assert not await one.waits_for_somebody()
        assert await one.orphans(limit=9) == []


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
async def test_a_clock_that_jumps_holds_nobody_up(tmp_path: Path, jump: float) -> None:
    clock = Clock()
    async with two(tmp_path, clock) as (one, other):
        job = await admitted(one)
        clock.now += jump
        assert await other.orphans(limit=9) == [job]


async def test_a_try_that_is_too_far_away_is_one_from_before_the_clock_jumped(
    tmp_path: Path,
) -> None:
    clock = Clock()
    async with two(tmp_path, clock) as (one, other):
        job = await admitted(one)
        await one.leases.release(job.id, in_trouble=True)
        clock.now -= 2 * LONGEST_RETRY
        assert await other.orphans(limit=9) == [job]


async def test_who_leaves_lets_others_go_on_at_once(tmp_path: Path) -> None:
    async with two(tmp_path, Clock()) as (one, other):
        jobs = [await admitted(one, new_job(replace(FOX, prompt=prompt))) for prompt in "abc"]
        await one.leases.leave()
        assert len(await other.orphans(limit=2)) == 2
        assert len(await other.orphans(limit=9)) == 1
        assert await other.leases.renew() == {job.id for job in jobs}


async def test_a_job_in_trouble_is_tried_again_ever_more_rarely(tmp_path: Path) -> None:
    clock = Clock()
    async with two(tmp_path, clock) as (one, other):
        job = await admitted(one)
        for pause in [60, 120, 240, 480, 960, 1920, *[3600] * 14]:
            await one.leases.release(job.id, in_trouble=True)
            clock.now += pause - 1
            assert await one.orphans(limit=9) == []
            assert not await other.waits_for_somebody()
            clock.now += 1
            assert await one.orphans(limit=9) == [job]


async def test_a_caller_need_not_wait_for_the_next_try(tmp_path: Path) -> None:
    async with two(tmp_path, Clock()) as (one, other):
        job = await admitted(one)
        await one.leases.release(job.id, in_trouble=True)
        assert await other.claim(job) == job


@pytest.mark.parametrize("state", ["submitted", "processing", "completed"])
async def test_a_process_has_no_orphans_of_its_own(tmp_path: Path, state: State) -> None:
    clock = Clock()
    async with two(tmp_path, clock) as (one, other):
        job: Job = replace(submitted(await admitted(one)), state=state)
        await one.record(job)
        clock.now += 60
        assert await one.orphans(limit=9) == []
        assert await other.orphans(limit=9) == [job]


async def test_the_jobs_of_a_process_that_is_gone_are_taken_over_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, Clock()) as (one, other):
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", ended_process)
            job = await admitted(one)
        assert await other.orphans(limit=9) == [job]


async def test_where_processes_cannot_be_told_apart_only_the_lease_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()

    def nowhere(_: str) -> Path:
        return tmp_path / "no" / "such" / "file"

    monkeypatch.setattr(leases, "Path", nowhere)
    assert this_place() == ""
    monkeypatch.setattr("evolink_mcp.jobs.journal.this_place", this_place)
    async with two(tmp_path, clock) as (one, other):
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", ended_process)
            job = await admitted(one)
        assert await other.orphans(limit=9) == []
        clock.now += LEASE_SECONDS
        assert await other.orphans(limit=9) == [job]


def ended_process() -> int:
    """Return an id that no process has."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_a_process_is_gone_when_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_gone(os.getpid())
    assert is_gone(ended_process())

    def forbidden(_: int, __: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    assert not is_gone(1)


def test_a_place_is_the_same_for_two_processes_here() -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "from evolink_mcp.jobs.leases import this_place; print(this_place())",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == this_place()
