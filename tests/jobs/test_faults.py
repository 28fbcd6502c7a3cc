"""Purchases on a network that breaks, in short; `python -m bench.faults` has ten thousand."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.faults import CALLERS, FAULTS, run
from evolink_mcp.errors import EvolinkError
from evolink_mcp.jobs import submit
from evolink_mcp.jobs.job import Job, Principal
from evolink_mcp.jobs.journal import Journal

EACH_ONCE = len(FAULTS)


@pytest.mark.parametrize("seed", [3, 4])
async def test_nothing_is_bought_twice_and_nothing_is_lost(tmp_path: Path, seed: int) -> None:
    report = await run(tmp_path, wishes=300, seed=seed)

    assert report.violations == ()
    assert list(report.by_fault) == [fault.name for fault in FAULTS]
    assert list(report.by_caller) == [caller.name for caller in CALLERS]
    assert all(counts["wishes"] for counts in report.by_fault.values())
    assert all(counts["wishes"] for counts in report.by_caller.values())


async def test_a_seed_always_gives_the_same_report(tmp_path: Path) -> None:
    once = await run(tmp_path / "once", wishes=EACH_ONCE, seed=5)
    again = await run(tmp_path / "again", wishes=EACH_ONCE, seed=5)
    other = await run(tmp_path / "other", wishes=EACH_ONCE, seed=6)

    assert once == again != other


async def test_a_request_that_is_repeated_after_its_answer_was_lost_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def repeat_all(error: EvolinkError) -> bool:
        return error.retryable

    monkeypatch.setattr(submit, "may_be_repeated", repeat_all)
    report = await run(tmp_path, wishes=EACH_ONCE, seed=3)

    assert any("ReadTimeout" in each and "more than one" in each for each in report.violations)


async def test_a_purchase_that_is_called_refused_and_was_made_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trust(error: EvolinkError) -> EvolinkError:
        return error

    monkeypatch.setattr(submit, "_final", trust)
    report = await run(tmp_path, wishes=EACH_ONCE, seed=3)

    assert any("ReadTimeout" in each and "not so" in each for each in report.violations)


async def test_a_purchase_that_is_not_on_record_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forget_one(journal: Journal, principal: Principal, *, limit: int) -> list[Job]:
        return (await newest(journal, principal, limit=limit))[1:]

    newest = Journal.newest
    monkeypatch.setattr(Journal, "newest", forget_one)
    report = await run(tmp_path, wishes=5, seed=3)

    assert any("missing" in each for each in report.violations)
