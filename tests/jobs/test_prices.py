"""What a purchase is expected to cost: learned from equal ones, else from the model's."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from evolink_mcp.api.wire import Task
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.jobs.database import APPLICATION, MIGRATIONS
from evolink_mcp.jobs.job import Job, State, settled
from evolink_mcp.jobs.journal import Journal
from evolink_mcp.jobs.prices import Price, terms_of
from tests.jobs.records import FOX, NO_CAP, admitted, new_job, open_record
from tests.sandbox.desk import BASE_URL, Clock

LARGE = replace(FOX, size="1024x1536")
FINE = replace(FOX, quality="high")


def bought(job: Job, *, made: int | None = None, **usage: float) -> Job:
    """Return a job that EvoLink has answered, with its price as it tells it."""
    body = {
        "id": f"task-unified-{job.id[4:]}",
        "status": "completed",
        "usage": usage,
        "results": [f"https://a/{n}" for n in range(job.asked if made is None else made)],
    }
    return settled(replace(job, state="collected", task=Task.model_validate(body)))


async def buy(
    journal: Journal, request: ImageRequest, credits_reserved: float, *, state: State = "collected"
) -> None:
    """Buy pictures that differ from all others in their prompt."""
    prompt = f"fox {await count(journal)}"
    job = await admitted(journal, new_job(replace(request, prompt=prompt)))
    job = replace(bought(job, credits_reserved=credits_reserved), state=state)
    await journal.record(settled(job), release=True)
    assert isinstance(journal.now, Clock)
    journal.now.now += 1


async def count(journal: Journal) -> int:
    return await journal.database.transact(
        lambda connection: int(connection.execute("SELECT count(*) FROM jobs").fetchone()[0])
    )


async def price_of(journal: Journal, request: ImageRequest = FOX) -> Price:
    return await journal.price(request, budget=NO_CAP)


@pytest.mark.parametrize(
    ("request_", "terms"),
    [
        (None, ""),
        (FOX, "{}"),
        (replace(FOX, prompt="a dog", n=4, image_urls=("https://a/1.png",)), "{}"),
        (
            replace(FOX, size="1:1", resolution="2K", quality="high"),
            '{"quality":"high","resolution":"2K","size":"1:1"}',
        ),
        (replace(FOX, model_params={"speed": "fast", "stylize": 3}), '{"speed":"fast"}'),
        (replace(FOX, model_params={"stylize": 3}), "{}"),
    ],
)
def test_what_decides_the_price_is_named(request_: ImageRequest | None, terms: str) -> None:
    assert terms_of(request_) == terms


async def test_a_first_purchase_costs_what_the_catalogue_expects() -> None:
    async with open_record(None, Clock()) as journal:
        assert await price_of(journal, replace(FOX, n=4)) == Price(10.0, 2.5, "catalogue")


async def test_an_equal_purchase_costs_what_the_last_one_did_for_each_picture() -> None:
    async with open_record(None, Clock()) as journal:
        await buy(journal, replace(LARGE, n=4), 40.0)
        await buy(journal, replace(LARGE, n=2), 12.0)
        await buy(journal, FOX, 90.0)
        assert await price_of(journal, replace(LARGE, n=4)) == Price(24.0, 6.0, "same terms")
        with_references = replace(LARGE, image_urls=("https://a/1.png",))
        assert await price_of(journal, with_references) == Price(6.0, 6.0, "same terms")


@pytest.mark.parametrize(
    "other",
    [
        replace(FOX, size="1:1"),
        replace(FOX, quality="low"),
        replace(FOX, resolution="4K"),
        replace(FOX, model_params={"speed": "turbo"}),
    ],
)
async def test_other_terms_cost_the_highest_of_the_last_twenty_prices(other: ImageRequest) -> None:
    async with open_record(None, Clock()) as journal:
        await buy(journal, LARGE, 99.0)
        await buy(journal, LARGE, 8.0)
        for _ in range(18):
            await buy(journal, FINE, 3.0)
        await buy(journal, FOX, 1.0)
        assert await price_of(journal, replace(other, n=2)) == Price(16.0, 8.0, "same model")
        await buy(journal, FOX, 1.0)
        assert await price_of(journal, other) == Price(3.0, 3.0, "same model")
        assert await price_of(journal) == Price(1.0, 1.0, "same terms")


async def test_another_model_and_another_evolink_teach_nothing(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "journal"
    async with (
        open_record(path, clock) as journal,
        open_record(path, clock, origin="https://other.test") as other,
    ):
        await buy(journal, FOX, 7.0)
        assert (await price_of(journal, replace(FOX, model="another"))).source == "catalogue"
        assert (await price_of(other)).source == "catalogue"
        assert await other.last_prices([FOX.model]) == {}


@pytest.mark.parametrize("state", ["failed", "refused"])
async def test_what_was_not_charged_teaches_nothing(state: State) -> None:
    async with open_record(None, Clock()) as journal:
        await buy(journal, FOX, 4.0)
        await buy(journal, FOX, 9.0, state=state)
        assert (await price_of(journal)).a_picture == 4.0


@pytest.mark.parametrize(
    ("asked", "made", "usage", "a_picture"),
    [
        (4, 4, {"credits_reserved": 10.0, "credits_used": 8.0}, 2.0),
        (4, 3, {"credits_reserved": 10.0, "credits_used": 6.0}, 2.0),
        (4, 0, {"credits_reserved": 10.0, "credits_used": 6.0}, 1.5),
        (1, 4, {"credits_reserved": 10.0, "credits_used": 8.0}, 8.0),
        (4, 3, {"credits_reserved": 10.0}, 2.5),
    ],
)
async def test_what_was_charged_goes_before_what_was_reserved(
    asked: int, made: int, usage: dict[str, float], a_picture: float
) -> None:
    async with open_record(None, Clock()) as journal:
        job = await admitted(journal, new_job(replace(FOX, n=asked)))
        await journal.record(bought(job, made=made, **usage))
        assert await price_of(journal) == Price(a_picture, a_picture, "same terms")


async def test_what_a_task_used_so_far_is_no_price() -> None:
    async with open_record(None, Clock()) as journal:
        job = bought(await admitted(journal), credits_reserved=5.0, credits_used=1.0)
        assert job.task is not None
        running = job.task.model_copy(update={"status": "processing"})
        await journal.record(replace(job, state="processing", task=running))
        assert (await price_of(journal)).a_picture == 5.0


async def test_a_purchase_whose_price_evolink_did_not_tell_is_passed_over() -> None:
    async with open_record(None, Clock()) as journal:
        await buy(journal, FOX, 4.0)
        silent = await admitted(journal, new_job(replace(FOX, prompt="silent")))
        await journal.record(bought(silent))
        assert await price_of(journal) == Price(4.0, 4.0, "same terms")
        assert await journal.last_prices([FOX.model]) == {FOX.model: 4.0}


async def test_a_task_of_which_only_the_name_is_known_teaches_nothing() -> None:
    def forget(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE jobs SET request=NULL")

    async with open_record(None, Clock()) as journal:
        await buy(journal, FOX, 4.0)
        await journal.database.transact(forget)
        assert (await price_of(journal)).source == "catalogue"


async def test_the_last_price_of_each_model_is_told() -> None:
    other = replace(FOX, model="another")
    async with open_record(None, Clock()) as journal:
        await buy(journal, replace(FOX, n=4), 10.0)
        await buy(journal, replace(LARGE, n=2), 8.0)
        await buy(journal, other, 1.5)
        told = await journal.last_prices([FOX.model, "another", "a third"])
        assert told == {FOX.model: 4.0, "another": 1.5}


async def test_the_price_is_booked_as_it_was_told() -> None:
    async with open_record(None, Clock()) as journal:
        await buy(journal, LARGE, 7.0)
        wanted = new_job(replace(LARGE, n=2))
        told = await price_of(journal, replace(LARGE, n=2))
        assert (await admitted(journal, wanted)).booked == told.credits == 14.0


async def test_prices_are_found_by_an_index_however_much_was_bought() -> None:
    statements: list[str] = []
    async with open_record(None, Clock()) as journal:
        journal.database.connection.set_trace_callback(statements.append)
        await price_of(journal)
        journal.database.connection.set_trace_callback(None)
        found = [sql for sql in statements if "FROM jobs" in sql]
        plans = [
            [
                row["detail"]
                for row in journal.database.connection.execute(f"EXPLAIN QUERY PLAN {sql}")
            ]
            for sql in found
        ]
    assert plans == [
        ["SEARCH jobs USING INDEX jobs_by_terms (origin=? AND model=? AND terms=?)"],
        ["SEARCH jobs USING INDEX jobs_by_price (origin=? AND model=?)"],
    ]


async def test_a_record_from_before_terms_were_kept_still_teaches_the_models_price(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal"
    task = '{"id": "task-unified-1", "usage": {"credits_reserved": 6.0}}'
    request = '{"model": "gpt-4o-image", "prompt": "a fox", "n": 2}'
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(MIGRATIONS[0] + MIGRATIONS[1])
        connection.execute("PRAGMA user_version=2")
        connection.execute(f"PRAGMA application_id={APPLICATION}")
        connection.execute(
            "INSERT INTO jobs VALUES ('run_1', ?, 'local', 'w', ?, 'gpt-4o-image', 'collected',"
            " 'task-unified-1', ?, NULL, 1, 2, '2026-11-24', 6.0, 3, NULL, 0, 0)",
            (BASE_URL, request, task),
        )
        connection.commit()
    async with open_record(path, Clock()) as journal:
        assert await price_of(journal) == Price(3.0, 3.0, "same model")
        await buy(journal, FOX, 4.0)
        assert await price_of(journal) == Price(4.0, 4.0, "same terms")
