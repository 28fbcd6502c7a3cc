"""What is counted of jobs, and which job a line of the log is about."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from evolink_mcp.api.figures import BOUNDS
from evolink_mcp.logs import REQUEST, JsonFormatter
from tests.jobs.shop import Shop, wanted


async def test_a_saved_picture_is_counted_once_with_its_time(shop: Shop) -> None:
    job = await shop.buy("[slow:25]")
    figures = shop.watchers.api.figures
    durations = figures.to_picture["gpt-4o-image"]
    assert durations.counts[BOUNDS.index(30.0)] == sum(durations.counts) == 1
    assert 25 <= durations.seconds <= 30
    assert job.pictures[0].path is not None
    job.pictures[0].path.unlink()
    shop.clock.now += 900
    assert (await shop.follow(job)).pictures[0].path is not None
    assert sum(durations.counts) == 1  # fetched once more, a quarter of an hour later
    assert figures.readings == shop.requests[1]
    assert not figures.errors


async def test_a_task_that_was_bought_elsewhere_has_no_time(shop: Shop) -> None:
    task = await shop.watchers.api.submit(wanted(), idempotency_key="elsewhere")
    await shop.end(await shop.watchers.follow(task.task_id))
    assert not shop.watchers.api.figures.to_picture


async def test_failures_are_counted_by_kind(shop: Shop) -> None:
    await shop.buy("[slow:20] [poll:429x2+1] [poll:500]")
    await shop.buy("[http:402]")
    errors = shop.watchers.api.figures.errors
    assert errors == {"rate_limited": 2, "service_failed": 1, "credit_exhausted": 1}


async def test_jobs_are_counted_by_state(shop: Shop) -> None:
    await shop.buy()
    await shop.buy("[http:402]")
    await shop.buy("another")
    assert await shop.journal.count_by_state() == {"collected": 2, "refused": 1}


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream, package = io.StringIO(), logging.getLogger("evolink_mcp")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter("%(message)s"))
    package.addHandler(handler)
    package.setLevel("INFO")
    yield stream
    package.removeHandler(handler)
    package.setLevel(logging.NOTSET)


async def test_every_line_of_a_jobs_life_names_it_and_the_request_in_which_it_began(
    shop: Shop, lines: io.StringIO
) -> None:
    named = REQUEST.set("a1b2")
    job = await shop.buy()
    other = await shop.buy("another")
    REQUEST.reset(named)
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert {line["job"] for line in found} == {job.id, other.id}
    assert {line["request"] for line in found} == {"a1b2"}
    for line in found:
        own, foreign = (job, other) if line["job"] == job.id else (other, job)
        assert own.id in line["message"] or str(own.task_id) in line["message"]
        assert str(foreign.task_id) not in line["message"]


async def test_what_is_done_for_all_is_no_part_of_the_request_in_which_it_began(
    shop: Shop, lines: io.StringIO
) -> None:
    job = await shop.buy()
    await shop.journal.database.transact(
        lambda connection: connection.execute("UPDATE jobs SET state='processing', owner=NULL")
    )
    lines.truncate(0)
    named = REQUEST.set("a1b2")
    shop.group.start_soon(shop.watchers.tend_for_ever)
    REQUEST.reset(named)
    await shop.becomes(job, "collected")
    found = [json.loads(line) for line in lines.getvalue().strip("\0").splitlines()]
    assert {(line["job"], line.get("request")) for line in found} == {(job.id, None)}
