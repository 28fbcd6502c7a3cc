from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from evolink_mcp.api.wire import TaskId
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.errors import CapReached, ConfirmationNeeded, PurchaseDeclined
from evolink_mcp.jobs.job import LOCAL, Job, Picture, Principal, State, settled
from evolink_mcp.jobs.journal import JOIN_SECONDS, Budget, Journal
from evolink_mcp.jobs.submit import outcome_unknown
from tests.jobs.records import FOX, NO_CAP, admitted, new_job, open_record, submitted
from tests.sandbox.desk import DAY, Clock

A_DAY_OF_TEN = Budget(a_picture=2.5, a_day=10.0)


async def joins(journal: Journal, job: Job, earlier: Job) -> bool:
    admission = await journal.admit(job, budget=NO_CAP)
    assert admission.job.id == (earlier.id if admission.joined else job.id)
    return admission.joined


def four(prompt: str) -> Job:
    return new_job(replace(FOX, prompt=prompt, n=4))


async def test_an_intent_is_recorded_with_its_time_and_its_expected_price() -> None:
    clock = Clock()
    async with open_record(None, clock) as journal:
        job = new_job(replace(FOX, n=2))
        admission = await journal.admit(job, budget=NO_CAP)
        assert admission.job == replace(job, created=clock.now, booked=5.0)
        assert await journal.look(job.id) == admission.job
        assert await journal.find(TaskId("task-unified-1")) is None


@pytest.mark.parametrize(
    "state",
    ["intent", "unknown", "submitted", "processing", "completed", "collected", "failed", "expired"],
)
async def test_the_same_wish_joins_a_job_whose_answer_nobody_got(state: State) -> None:
    async with open_record(None, Clock()) as journal:
        earlier = await admitted(journal)
        await journal.record(replace(submitted(earlier), state=state))
        assert await joins(journal, new_job(), earlier)


async def test_a_refused_wish_is_not_joined() -> None:
    async with open_record(None, Clock()) as journal:
        earlier = await admitted(journal)
        await journal.record(replace(earlier, state="refused"), release=True)
        assert not await joins(journal, new_job(), earlier)


async def test_a_declined_purchase_leaves_a_line_and_nothing_else() -> None:
    clock = Clock()
    no = PurchaseDeclined(message="It answered no.", next_step="Tell the user.")
    declined = replace(new_job(), state="declined", error=no, booked=2.5)
    async with open_record(None, clock) as journal:
        await journal.decline(declined)
        [line] = await journal.newest(LOCAL, states=("declined",), limit=9)
        assert (line.id, line.created, line.booked) == (declined.id, clock.now, 0.0)
        assert (line.request, str(line.error)) == (FOX, "It answered no.")
        assert await journal.spent_today() == 0.0
        assert (await journal.price(FOX, budget=NO_CAP)).source == "catalogue"
        assert await journal.leases.renew() == frozenset()
        assert not await journal.waits_for_somebody()
        assert await journal.orphans(limit=9) == []
        assert not await journal.would_join(new_job())
        assert not await joins(journal, new_job(), declined)


async def test_who_would_join_is_told_so_while_the_answer_is_not_out() -> None:
    async with open_record(None, Clock()) as journal:
        assert not await journal.would_join(new_job())
        earlier = await admitted(journal)
        assert await journal.would_join(new_job())
        assert not await journal.would_join(new_job(principal=Principal("somebody else")))
        journal.answered(earlier.id)
        assert not await journal.would_join(new_job())
        assert not await joins(journal, new_job(), earlier)


@pytest.mark.parametrize("agreed", [5.0, 9.0, None])
async def test_what_was_agreed_to_is_bought(agreed: float | None) -> None:
    async with open_record(None, Clock()) as journal:
        job = new_job(replace(FOX, n=2))
        assert not (await journal.admit(job, budget=replace(NO_CAP, agreed=agreed))).joined
        assert await journal.spent_today() == 5.0


@pytest.mark.parametrize("agreed", [4.9, 0.0])
async def test_nothing_is_bought_for_more_than_was_agreed_to(agreed: float) -> None:
    async with open_record(None, Clock()) as journal:
        with pytest.raises(ConfirmationNeeded) as refused:
            await journal.admit(new_job(replace(FOX, n=2)), budget=replace(NO_CAP, agreed=agreed))
        assert await journal.newest(LOCAL, limit=9) == []
    assert refused.value.message == (
        f"This costs about 5 credits by now, and no more than {agreed:g} are agreed to "
        "(EVOLINK_CONFIRM). Nothing was sent to EvoLink."
    )


async def test_who_agreed_to_nothing_joins_what_is_paid() -> None:
    async with open_record(None, Clock()) as journal:
        earlier = await admitted(journal)
        admission = await journal.admit(new_job(), budget=replace(NO_CAP, agreed=0.0))
        assert (admission.joined, admission.job) == (True, earlier)


async def test_an_unknown_outcome_is_said_again() -> None:
    async with open_record(None, Clock()) as journal:
        earlier = await admitted(journal)
        error = outcome_unknown("it broke.")
        await journal.record(replace(earlier, state="unknown", error=error), release=True)
        again = (await journal.admit(new_job(), budget=NO_CAP)).job
        assert again.error is not None
        assert (type(again.error), again.error.message) == (type(error), error.message)


async def test_a_wish_is_joined_while_it_is_under_way_and_for_ten_minutes_after_its_end() -> None:
    clock = Clock()
    async with open_record(None, clock) as journal:
        earlier = await admitted(journal)
        clock.now += JOIN_SECONDS + 1
        assert await joins(journal, new_job(), earlier)
        await journal.record(submitted(earlier))
        clock.now += DAY
        assert await joins(journal, new_job(), earlier)
        await journal.record(replace(submitted(earlier), state="collected"))
        clock.now += JOIN_SECONDS
        assert await joins(journal, new_job(), earlier)
        clock.now += 1
        assert not await joins(journal, new_job(), earlier)


async def test_a_clock_that_is_set_back_does_not_buy_twice() -> None:
    clock = Clock()
    async with open_record(None, clock) as journal:
        earlier = await admitted(journal)
        clock.now -= 3600
        assert await joins(journal, new_job(), earlier)


@pytest.mark.parametrize(
    "other",
    [
        new_job(replace(FOX, prompt="a dog")),
        new_job(replace(FOX, size="1:1")),
        new_job(replace(FOX, n=2)),
        new_job(replace(FOX, image_urls=("https://example.com/fox.png",))),
        new_job(principal=Principal("somebody else")),
    ],
)
async def test_another_wish_is_not_joined(other: Job) -> None:
    async with open_record(None, Clock()) as journal:
        earlier = await admitted(journal)
        assert not await joins(journal, other, earlier)


async def test_jobs_of_another_evolink_are_not_seen(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "journal"
    async with (
        open_record(path, clock) as journal,
        open_record(path, clock, origin="https://other.test") as other,
    ):
        earlier = submitted(await admitted(journal))
        await journal.record(earlier)
        assert not await joins(other, new_job(), earlier)
        assert await other.find(TaskId("task-unified-1")) is None
        assert await other.look(earlier.id) is None
        assert len(await other.newest(LOCAL, limit=9)) == 1
        await journal.leases.leave()
        assert await other.orphans(limit=9) == []


@pytest.mark.parametrize("written", [False, True])
async def test_what_was_answered_is_not_joined(written: bool) -> None:  # noqa: FBT001 - a case
    async with open_record(None, Clock()) as journal:
        earlier = await admitted(journal)
        journal.answered(earlier.id)
        if written:
            await journal.mark_delivered()
        assert not await joins(journal, new_job(), earlier)


async def test_an_answer_counts_for_other_processes_once_it_is_written(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "journal"
    async with open_record(path, clock) as journal, open_record(path, clock) as other:
        earlier = await admitted(journal)
        journal.answered(earlier.id)
        assert await joins(other, new_job(), earlier)
        await journal.mark_delivered()
        await journal.mark_delivered()
        assert not await joins(other, new_job(), earlier)


async def test_a_refusal_forgets_no_delivery() -> None:
    async with open_record(None, Clock()) as journal:
        earlier = await admitted(journal)
        journal.answered(earlier.id)
        with pytest.raises(CapReached):
            await journal.admit(new_job(), budget=Budget(a_picture=2.5, a_day=0.0))
        assert not await joins(journal, new_job(), earlier)


async def test_the_cap_is_reached_and_not_passed() -> None:
    async with open_record(None, Clock()) as journal:
        for prompt in ("a", "b", "c"):
            await journal.admit(new_job(replace(FOX, prompt=prompt)), budget=A_DAY_OF_TEN)
        with pytest.raises(CapReached) as refused:
            await journal.admit(new_job(replace(FOX, prompt="d", n=2)), budget=A_DAY_OF_TEN)
        await journal.admit(new_job(replace(FOX, prompt="d")), budget=A_DAY_OF_TEN)
        assert await journal.spent_today() == 10.0
        assert len(await journal.newest(LOCAL, limit=9)) == 4
    assert "cap of 10 credits" in refused.value.message
    assert "7.5 are spent or reserved today, and this costs about 5" in refused.value.message


async def test_fractions_of_credits_fill_the_cap_too() -> None:
    budget = Budget(a_picture=0.1, a_day=0.3)
    async with open_record(None, Clock()) as journal:
        for prompt in ("a", "b", "c"):
            await journal.admit(new_job(replace(FOX, prompt=prompt)), budget=budget)
        with pytest.raises(CapReached):
            await journal.admit(new_job(replace(FOX, prompt="d")), budget=budget)


async def test_a_cap_of_nothing_allows_nothing_and_joins_what_is_paid() -> None:
    nothing = Budget(a_picture=2.5, a_day=0.0)
    async with open_record(None, Clock()) as journal:
        with pytest.raises(CapReached):
            await journal.admit(new_job(), budget=nothing)
        earlier = await admitted(journal)
        admission = await journal.admit(new_job(), budget=nothing)
        assert (admission.joined, admission.job) == (True, earlier)


async def test_what_a_picture_costs_is_learned_from_the_last_purchase() -> None:
    clock = Clock()
    async with open_record(None, clock) as journal:
        first = await admitted(journal, four("a"))
        assert first.booked == 10.0
        await journal.record(settled(submitted(first, "1", credits_reserved=6.0)))
        assert await journal.spent_today() == 6.0
        clock.now += 1
        assert (await admitted(journal, four("b"))).booked == 6.0
        other_model = new_job(ImageRequest(model="another", prompt="a"))
        assert (await admitted(journal, other_model)).booked == 2.5


@pytest.mark.parametrize(
    ("state", "spent"),
    [("declined", 0.0), ("refused", 0.0), ("failed", 0.0), ("unknown", 2.5), ("intent", 2.5)],
)
async def test_what_was_not_charged_does_not_count(state: State, spent: float) -> None:
    async with open_record(None, Clock()) as journal:
        job = await admitted(journal)
        await journal.record(settled(replace(job, state=state)))
        assert await journal.spent_today() == spent


async def test_a_price_below_0_in_an_old_record_makes_no_room_for_others() -> None:
    async with open_record(None, Clock()) as journal:
        old = await admitted(journal, four("a"))
        await journal.record(replace(submitted(old, "1"), booked=-1000.0))
        await admitted(journal, four("b"))
        assert await journal.spent_today() == 10.0
        with pytest.raises(CapReached):
            await journal.admit(four("c"), budget=A_DAY_OF_TEN)


async def test_only_the_pictures_that_were_made_count() -> None:
    async with open_record(None, Clock()) as journal:
        job = submitted(await admitted(journal, four("a")), credits_reserved=10.0)
        assert job.task is not None
        task = job.task.model_copy(update={"status": "completed", "results": ("https://a/1",)})
        await journal.record(settled(replace(job, state="collected", task=task)))
        assert await journal.spent_today() == 2.5


async def test_each_day_has_its_own_credits() -> None:
    clock = Clock()
    async with open_record(None, clock) as journal:
        for day in range(3):
            await journal.admit(four(str(day)), budget=A_DAY_OF_TEN)
            clock.now += DAY
        assert await journal.spent_today() == 0.0


async def test_many_calls_at_once_do_not_pass_the_cap(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "journal"
    outcomes: list[bool] = []

    async def call(journal: Journal, prompt: str) -> None:
        try:
            await journal.admit(new_job(replace(FOX, prompt=prompt)), budget=A_DAY_OF_TEN)
            outcomes.append(True)
        except CapReached:
            outcomes.append(False)

    async with open_record(path, clock) as one, open_record(path, clock) as two:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for n in range(50):
                    group.start_soon(call, (one, two)[n % 2], f"fox {n}")
        assert (len(outcomes), sum(outcomes)) == (50, 4)
        assert await one.spent_today() == await two.spent_today() == 10.0


async def test_many_calls_at_once_do_not_pass_what_was_agreed_to(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "journal"
    outcomes: dict[float, list[bool]] = {2.5: [], 4.0: []}

    async def call(journal: Journal, prompt: str, agreed: float) -> None:
        budget = Budget(a_picture=2.5, a_day=44.0, agreed=agreed)
        try:
            await journal.admit(new_job(replace(FOX, prompt=prompt)), budget=budget)
            outcomes[agreed].append(True)
        except (CapReached, ConfirmationNeeded):
            outcomes[agreed].append(False)

    async with open_record(path, clock) as one, open_record(path, clock) as two:
        await one.record(settled(submitted(await admitted(one), credits_reserved=4.0)))
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for n in range(50):
                    group.start_soon(call, (one, two)[n % 2], f"fox {n}", (2.5, 4.0)[n // 2 % 2])
        assert await one.spent_today() == await two.spent_today() == 44.0
    assert (len(outcomes[2.5]), sum(outcomes[2.5])) == (26, 0)
    assert (len(outcomes[4.0]), sum(outcomes[4.0])) == (24, 10)


async def test_many_identical_calls_are_one_purchase(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "journal"
    ids: list[str] = []

    async def call(journal: Journal) -> None:
        ids.append((await journal.admit(new_job(), budget=NO_CAP)).job.id)

    async with open_record(path, clock) as one, open_record(path, clock) as two:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for n in range(20):
                    group.start_soon(call, (one, two)[n % 2])
    assert (len(ids), len(set(ids))) == (20, 1)


async def test_the_newest_jobs_come_first() -> None:
    clock = Clock()
    async with open_record(None, clock) as journal:
        jobs: list[Job] = []
        for prompt in "abcd":
            jobs.insert(0, await admitted(journal, new_job(replace(FOX, prompt=prompt))))
            clock.now += 1
        await admitted(journal, new_job(principal=Principal("somebody else")))
        failed = replace(jobs[1], state="failed", booked=0.0)
        unknown = replace(jobs[3], state="unknown")
        for job in (failed, unknown):
            await journal.record(job)
        assert await journal.newest(LOCAL, limit=3) == [jobs[0], failed, jobs[2]]
        assert await journal.newest(LOCAL, states=("failed", "unknown"), limit=9) == [
            failed,
            unknown,
        ]
        assert await journal.newest(LOCAL, states=("collected",), limit=9) == []


async def test_a_task_is_enrolled_once(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "journal"
    async with open_record(path, clock) as one, open_record(path, clock) as two:
        job, later = (replace(submitted(new_job()), request=None) for _ in range(2))
        assert await one.enroll(job) == replace(job, created=clock.now)
        assert (await two.enroll(later)).id == job.id
        assert len(await one.newest(LOCAL, limit=9)) == 1
        assert await one.spent_today() == 0.0


async def test_a_task_that_is_not_on_record_is_enrolled_by_who_takes_it_on() -> None:
    clock = Clock()
    async with open_record(None, clock) as journal:
        job, later = (replace(submitted(new_job()), request=None) for _ in range(2))
        assert await journal.claim(job) == replace(job, created=clock.now)
        assert await journal.claim(later) is None
        assert await journal.claim(new_job()) is None


async def test_who_takes_a_job_on_learns_what_has_become_of_it(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "journal"
    async with open_record(path, clock) as one, open_record(path, clock) as two:
        intent = await admitted(one)
        assert await two.claim(intent) is None
        await one.record(submitted(intent), release=True)
        assert await two.claim(intent) == submitted(intent)


async def test_nobody_takes_a_task_id_away(tmp_path: Path) -> None:
    """One process was taken for dead while it bought, and lived."""
    clock = Clock()
    path = tmp_path / "journal"
    async with open_record(path, clock) as one, open_record(path, clock) as two:
        intent = await admitted(one)
        clock.now += 60
        assert await two.claim(intent) == intent
        await one.record(submitted(intent))
        await two.record(replace(intent, state="unknown"), release=True)
        assert await one.look(intent.id) == submitted(intent)


async def test_who_has_lost_a_job_writes_over_no_later_state(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "journal"
    async with open_record(path, clock) as one, open_record(path, clock) as two:
        job = submitted(await admitted(one))
        await one.record(job)
        clock.now += 60
        assert await two.claim(job) == job
        await one.record(replace(job, state="processing"))
        assert await two.look(job.id) == job
        picture = Picture(n=1, url="https://a/1", expires_at=None, path=Path("/a/1.png"))
        collected = replace(job, state="collected", pictures=(picture,))
        await two.record(collected, release=True)
        lost = replace(picture, path=None, problem="late")
        await one.record(replace(job, state="expired", pictures=(lost,)), release=True)
        assert await one.look(job.id) == collected


async def test_a_purchase_takes_the_place_of_the_same_task_bought_elsewhere() -> None:
    """The task was looked at before the journal could take its id up."""
    async with open_record(None, Clock()) as journal:
        job = await admitted(journal)
        stranger = replace(submitted(new_job()), request=None)
        await journal.enroll(stranger)
        picture = Picture(n=1, url="https://a/1", expires_at=None)
        await journal.record(replace(stranger, pictures=(picture,)))
        await journal.record(submitted(job))
        assert await journal.newest(LOCAL, limit=9) == [
            replace(submitted(job), pictures=(picture,))
        ]
        await journal.record(stranger)
        assert (await journal.newest(LOCAL, limit=9))[0].id == job.id
