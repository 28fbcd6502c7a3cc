from __future__ import annotations

import json
import logging
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx2 as httpx
import pytest

from evolink_mcp.api.wire import TaskId
from evolink_mcp.errors import (
    CreditExhausted,
    JournalUnusable,
    KeyRejected,
    OutcomeUnknown,
    ServiceFailed,
    TaskFailed,
    TaskNotFound,
    WaitAbandoned,
)
from evolink_mcp.jobs.database import Database
from evolink_mcp.jobs.job import LOCAL, Job, State, Watch, tell_nobody
from evolink_mcp.jobs.leases import FIRST_RETRY, LEASE_SECONDS
from evolink_mcp.jobs.pursue import LONGEST_SILENCE, LONGEST_WATCH
from evolink_mcp.jobs.watch import BEAT_SECONDS, MARK_SECONDS
from evolink_mcp.sandbox.failures import MESSAGES
from tests.jobs.shop import Shop, answer_lost, answered, open_shop, wanted
from tests.sandbox.desk import DAY


async def test_a_job_goes_from_intent_to_saved_pictures(shop: Shop) -> None:
    watch = await shop.start("[slow:20]", n=2)
    assert (watch.job.state, watch.job.task_id) == ("intent", None)
    with anyio.fail_after(10):
        await watch.bought()
    assert watch.job.state == "submitted"
    job = await shop.end(watch)
    assert (job.state, job.error) == ("collected", None)
    assert [picture.n for picture in job.pictures] == [1, 2]
    for picture in job.pictures:
        assert picture.path == shop.folder / f"{job.task_id}-{picture.n}.png"
        assert (picture.width, picture.height) == (1024, 1024)
    assert await shop.recorded(job.task_id) == job
    assert 20 <= shop.watchers.elapsed(watch) <= 24


async def test_the_intent_is_recorded_before_anything_is_sent(shop: Shop) -> None:
    shop.line.held = anyio.Event()
    watch = await shop.start("[slow:20]")
    await shop.arrived()
    assert await shop.journal.newest(LOCAL, limit=9) == [watch.job]
    assert (watch.job.state, watch.job.task_id) == ("intent", None)
    shop.line.held.set()
    job = await shop.end(watch)
    assert [each.state for each in shop.heard] == ["submitted", "processing", "collected"]
    assert shop.heard[0].task_id == job.task_id is not None


async def test_many_followers_share_one_watcher(shop: Shop) -> None:
    watch = await shop.start("[slow:20]")
    with anyio.fail_after(10):
        await watch.bought()
        assert watch.job.task_id is not None
        followers = [await shop.watchers.follow(watch.job.task_id) for _ in range(20)]
        async with anyio.create_task_group() as group:
            for follower in followers:
                group.start_soon(follower.end)
    assert all(follower is watch for follower in followers)
    assert shop.requests == (1, 7, 1)


async def test_followers_of_a_task_that_was_bought_elsewhere_share_one_watcher(shop: Shop) -> None:
    task = await shop.watchers.api.submit(wanted("[slow:20]"), idempotency_key="elsewhere")
    one, two = [await shop.watchers.follow(task.task_id) for _ in range(2)]
    assert one is two
    job = await shop.end(one)
    assert (job.state, job.request, len(job.pictures)) == ("collected", None, 1)
    assert shop.requests == (1, 8, 1)


async def test_the_watcher_lives_on_after_the_caller_is_cancelled(shop: Shop) -> None:
    watch = await shop.start("[slow:20]")
    with anyio.CancelScope() as scope:
        await watch.bought()
        scope.cancel()
        await watch.end()
    assert not watch.ended
    assert (await shop.end(watch)).state == "collected"
    assert shop.requests[0] == 1


async def test_a_caller_who_leaves_during_the_purchase_loses_nothing(shop: Shop) -> None:
    shop.line.held = anyio.Event()
    watches: list[Watch] = []
    caller = anyio.CancelScope()

    async def call() -> None:
        with caller:
            watches.append(await shop.start("[slow:20]"))
            await watches[0].bought()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await shop.arrived()
            caller.cancel()
    assert caller.cancelled_caught
    assert len(shop.sandbox.tasks) == 0
    shop.line.held.set()
    job = await shop.end(watches[0])
    assert (job.state, [job.task_id]) == ("collected", list(shop.sandbox.tasks))
    assert await shop.recorded(job.task_id) == job
    assert shop.requests == (1, 7, 1)


async def test_the_end_of_the_server_breaks_no_purchase_off(tmp_path: Path) -> None:
    async with open_shop(tmp_path) as shop:
        shop.line.held = anyio.Event()
        watch = await shop.start()
        await shop.arrived()
        shop.group.cancel_scope.cancel()
        shop.line.held.set()
    assert [watch.job.task_id] == list(shop.sandbox.tasks)
    async with open_shop(tmp_path, beside=shop) as later:
        assert await later.recorded(watch.job.task_id) == watch.job
    assert (watch.job.state, watch.ended) == ("submitted", False)


@pytest.mark.parametrize(
    "fault",
    [
        "[poll:429x4]",
        "[poll:429x2+40]",
        "[poll:429+3600]",
        "[poll:429x3+9999]",
        "[poll:500x9]",
        "[poll:502x4]",
        "[poll:503x4]",
        "[poll:504x4]",
        "[pollhtml:502x4]",
        "[pollhtml:429x4]",
    ],
)
async def test_trouble_while_polling_never_fails_the_task(shop: Shop, fault: str) -> None:
    job = await shop.buy(f"[slow:20] {fault}")
    assert (job.state, job.error) == ("collected", None)
    assert shop.requests[0] == 1


async def test_a_reading_waits_as_long_as_evolink_asks_within_reason(shop: Shop) -> None:
    await shop.buy("[slow:20] [poll:429+40] [poll:429+9999]")
    assert 40.0 in shop.clock.slept
    assert max(shop.clock.slept) == LONGEST_SILENCE


@pytest.mark.parametrize(
    "body",
    [
        b"<html>login</html>",
        b'{"id": "task-unified-other", "status": "failed"}',
        b'{"status": "failed"}',
    ],
)
async def test_answers_of_somebody_else_never_fail_the_task(shop: Shop, body: bytes) -> None:
    answers = iter([body] * 5)
    arrives = shop.line.handle_async_request

    async def strange(request: httpx.Request) -> httpx.Response:
        strangers = next(answers, None) if request.method == "GET" else None
        return httpx.Response(200, content=strangers) if strangers else await arrives(request)

    shop.line.handle_async_request = strange  # type: ignore[method-assign]
    assert (await shop.buy("[slow:20]")).state == "collected"


async def test_a_wrong_key_ends_the_watch_and_not_the_task(shop: Shop) -> None:
    job = await shop.buy("[slow:20] [poll:401]")
    assert isinstance(job.error, KeyRejected)
    assert (job.state, job.pictures) == ("submitted", ())
    again = await shop.follow(job)
    assert (again.state, again.error, again.id) == ("collected", None, job.id)
    assert shop.requests[0] == 1


@pytest.mark.parametrize("code", MESSAGES)
async def test_a_failed_task_ends_the_job_with_its_code(shop: Shop, code: str) -> None:
    job = await shop.buy(f"[slow:20] [fail:{code}]")
    assert isinstance(job.error, TaskFailed)
    assert (job.state, job.error.code, job.error.task_id) == ("failed", code, job.task_id)
    counts = shop.requests
    again = (await shop.follow(job)).error
    assert (type(again), str(again)) == (TaskFailed, str(job.error))
    assert shop.requests == counts


async def test_an_unknown_status_ends_the_wait(shop: Shop) -> None:
    job = await shop.buy("[slow:20] [status:archived]")
    assert isinstance(job.error, WaitAbandoned)
    assert (job.error.code, job.error.charged) == ("unknown_status", "unknown")
    assert '"archived"' in job.error.message
    assert (await shop.follow(job)).error is not job.error


async def test_a_cancelled_task_has_failed(shop: Shop) -> None:
    job = await shop.buy("[slow:20] [status:cancelled]")
    assert isinstance(job.error, TaskFailed)
    assert (job.state, job.error.code) == ("failed", "request_cancelled")


async def test_a_completed_task_without_pictures_is_looked_at_again(shop: Shop) -> None:
    job = await shop.buy("[slow:20] [empty]")
    assert isinstance(job.error, WaitAbandoned)
    assert (job.error.code, job.error.charged) == ("no_pictures", "unknown")
    readings = shop.requests[1]
    await shop.follow(job)
    assert shop.requests[1] == readings + 1


async def test_fewer_pictures_than_were_asked_for_are_all_there_are(shop: Shop) -> None:
    job = await shop.buy("[slow:20] [partial:1]", n=4)
    assert (job.state, len(job.pictures)) == ("collected", 1)


async def test_pictures_may_stand_in_result_data(shop: Shop) -> None:
    job = await shop.buy("[slow:20] [result-data]", n=2)
    assert (job.state, len(job.pictures)) == ("collected", 2)


async def test_a_task_that_never_ends_is_left_to_a_later_call(shop: Shop) -> None:
    started = shop.clock.now
    job = await shop.buy("[stuck]")
    assert isinstance(job.error, WaitAbandoned)
    assert (job.error.charged, job.error.retryable) == ("yes", True)
    assert "60 minutes (40 %)" in job.error.message
    assert LONGEST_WATCH < shop.clock.now - started < LONGEST_WATCH + 60
    assert shop.requests[1] < 450
    await shop.follow(job)
    assert shop.requests[0] == 1


async def test_a_collected_task_needs_no_request(shop: Shop) -> None:
    job = await shop.buy("[slow:20]")
    counts = shop.requests
    assert await shop.follow(job) == job
    assert shop.requests == counts


async def test_a_deleted_picture_is_fetched_again(shop: Shop) -> None:
    job = await shop.buy("[slow:20]", n=2)
    first, second = [picture.path for picture in job.pictures]
    assert first
    assert second
    await anyio.Path(first).unlink()
    kept = await anyio.Path(second).stat()
    purchases, readings, files = shop.requests
    again = await shop.follow(job)
    assert (again.state, again.pictures) == ("collected", job.pictures)
    assert await anyio.Path(first).is_file()
    assert (await anyio.Path(second).stat()).st_ino == kept.st_ino
    assert shop.requests == (purchases, readings + 1, files + 1)


async def test_what_could_not_be_saved_is_saved_at_the_next_look(shop: Shop) -> None:
    await anyio.Path(shop.folder).mkdir()
    watch = await shop.start("[slow:20]", n=2)
    await watch.bought()
    blocked = anyio.Path(shop.folder / f"{watch.job.task_id}-2.png")
    await blocked.mkdir()
    job = await shop.end(watch)
    assert (job.state, job.error) == ("completed", None)
    assert [bool(picture.path) for picture in job.pictures] == [True, False]
    assert "could not be saved" in job.pictures[1].problem
    files = shop.requests[2]
    await blocked.rmdir()
    again = await shop.follow(job)
    assert again.state == "collected"
    assert again.pictures[0] == job.pictures[0]
    assert (again.pictures[1].path, again.pictures[1].problem) == (Path(blocked), "")
    assert shop.requests[2] == files + 1


async def test_links_that_have_expired_are_told_and_the_rest_is_kept(shop: Shop) -> None:
    job = await shop.buy("[slow:20]", n=2)
    path = job.pictures[0].path
    assert path
    await anyio.Path(path).unlink()
    shop.clock.now += 25 * 60 * 60
    again = await shop.follow(job)
    assert again.state == "expired"
    assert "expired" in again.pictures[0].problem
    assert again.pictures[1] == job.pictures[1]


async def test_price_and_model_survive_readings_without_them(shop: Shop) -> None:
    job = await shop.buy("[slow:20]", n=4)
    assert job.task
    assert (job.task.status, job.task.credits_reserved) == ("completed", 10.0)
    assert (job.task.estimated_seconds, job.task.model) == (45.0, "gpt-4o-image")


async def test_an_end_without_a_date_is_as_old_as_the_purchase(shop: Shop) -> None:
    """Every field but id and status is optional, the date of the last reading too."""
    arrives = shop.line.handle_async_request

    async def without_date(request: httpx.Request) -> httpx.Response:
        answer = await arrives(request)
        if "/v1/tasks/" not in str(request.url):
            return answer
        body: dict[str, object] = json.loads(await answer.aread())
        del body["created"], body["task_info"]
        return httpx.Response(200, json=body)

    shop.line.handle_async_request = without_date  # type: ignore[method-assign]
    job = await shop.buy("[slow:20]")
    expiry = job.pictures[0].expires_at
    assert expiry
    assert expiry.timestamp() == 1_700_000_000 + 24 * 60 * 60
    assert shop.clock.slept[0] == pytest.approx(45 / 7)


async def test_a_refused_purchase_ends_the_job(shop: Shop) -> None:
    job = await shop.buy("[http:402]")
    assert isinstance(job.error, CreditExhausted)
    assert (job.state, job.task_id, shop.requests) == ("refused", None, (1, 0, 0))


async def test_an_unknown_outcome_ends_the_job_and_is_recorded(shop: Shop) -> None:
    recorded: list[Job] = []
    record = shop.journal.record

    async def keep(job: Job, *, release: bool = False) -> None:
        recorded.append(job)
        await record(job, release=release)

    shop.journal.record = keep  # type: ignore[method-assign]
    shop.line.breaks = [answer_lost(httpx.ReadTimeout("t"))]
    watch = await shop.start()
    with anyio.fail_after(10):
        await watch.bought()
    job = await shop.end(watch)
    assert isinstance(job.error, OutcomeUnknown)
    assert (job.state, job.task_id, shop.requests) == ("unknown", None, (1, 0, 0))
    assert recorded[-1] == job


async def test_a_task_that_is_not_there_is_told(shop: Shop) -> None:
    watch = await shop.watchers.follow(TaskId("task-unified-1-nothing"))
    job = await shop.end(watch)
    assert isinstance(job.error, TaskNotFound)
    assert (job.task, shop.requests) == (None, (0, 1, 0))
    assert await shop.watchers.follow(TaskId("task-unified-1-nothing")) is not watch


async def test_trouble_at_the_first_look_is_told_and_the_next_look_works(shop: Shop) -> None:
    task = await shop.watchers.api.submit(wanted("[slow:20] [poll:500x3]"), idempotency_key="x")
    first = await shop.end(await shop.watchers.follow(task.task_id))
    assert isinstance(first.error, ServiceFailed)
    second = await shop.end(await shop.watchers.follow(task.task_id))
    assert second.state == "collected"


async def test_a_purchase_that_is_answered_with_its_end_needs_no_reading(shop: Shop) -> None:
    body = {"id": "task-unified-1", "status": "failed", "error": {"code": "service_error"}}
    shop.line.breaks = [answered(200, body)]
    job = await shop.buy()
    assert isinstance(job.error, TaskFailed)
    assert shop.requests == (0, 0, 0)


async def test_what_goes_on_is_logged_without_prompts_and_links(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="evolink_mcp.jobs"):
        job = await shop.buy("a secret fox [slow:20] [poll:500x3] [truncated]")
    assert f"task {job.task_id}: submitted" in caplog.messages
    assert f"task {job.task_id}: not readable at the moment (service_failed)" in caplog.messages
    assert f"task {job.task_id}: picture 1 is not on disk" in caplog.messages
    assert not any("secret" in line or "/files/" in line for line in caplog.messages)


async def test_one_job_that_breaks_inside_does_not_end_the_others(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    other = await shop.start("[slow:20] another")
    watch = await shop.start("[slow:20] a secret")
    record = shop.journal.record

    async def fail(job: Job, *, release: bool = False) -> None:
        if job.id == watch.job.id:
            raise ZeroDivisionError
        await record(job, release=release)

    shop.journal.record = fail  # type: ignore[method-assign]
    job = await shop.end(watch)
    assert job.error is not None
    assert (job.error.code, job.error.charged) == ("internal_error", "unknown")
    assert "do not start the same generation again" in job.error.next_step
    assert (await shop.end(other)).state == "collected"
    assert "secret" not in caplog.text


async def test_the_end_of_the_server_waits_for_a_purchase_and_not_for_ever(tmp_path: Path) -> None:
    with anyio.fail_after(10):
        async with open_shop(tmp_path) as shop:
            shop.line.held = anyio.Event()
            await shop.start()
            await shop.arrived()
            shop.watchers.wind_down(0.01)
            shop.group.cancel_scope.cancel()


async def test_a_purchase_that_begins_at_the_end_of_the_server_is_not_waited_for(
    tmp_path: Path,
) -> None:
    with anyio.fail_after(10) as waiting:
        async with open_shop(tmp_path) as shop:
            shop.line.held = anyio.Event()
            shop.watchers.wind_down(0.5)
            await shop.start()
            await shop.arrived()
            shop.group.cancel_scope.cancel()
    assert not waiting.cancel_called


async def test_what_could_not_be_saved_is_tried_again_when_it_is_due(shop: Shop) -> None:
    job, blocked = await completed(shop)
    await blocked.rmdir()
    counts = shop.requests
    shop.clock.now += FIRST_RETRY - 1
    await shop.watchers.tend()
    assert shop.watchers._by_job == {}
    assert shop.requests == counts
    shop.clock.now += 1
    await shop.watchers.tend()
    assert (await shop.becomes(job, "collected")).pictures[1].path == Path(blocked)
    assert shop.requests[0] == 1


async def test_what_could_not_be_saved_while_the_links_lived_has_expired(shop: Shop) -> None:
    job, _ = await completed(shop)
    shop.clock.now += DAY + 1
    await shop.watchers.tend()
    job = await shop.becomes(job, "expired")
    assert job.pictures[0].path is not None
    assert "has expired" in job.pictures[1].problem
    await shop.watchers.tend()
    assert await shop.journal.leases.renew() == frozenset()


async def completed(shop: Shop) -> tuple[Job, anyio.Path]:
    """Buy two pictures, of which the second cannot be saved."""
    await anyio.Path(shop.folder).mkdir()
    watch = await shop.start("[slow:20]", n=2)
    await watch.bought()
    blocked = anyio.Path(shop.folder / f"{watch.job.task_id}-2.png")
    await blocked.mkdir()
    job = await shop.end(watch)
    assert job.state == "completed"
    return job, blocked


@pytest.mark.parametrize(("age", "state"), [(DAY - 60, "submitted"), (DAY + 60, "expired")])
async def test_a_task_that_evolink_has_forgotten_is_expired_once_its_links_are(
    shop: Shop, age: float, state: State
) -> None:
    job = await shop.buy("[slow:20] [poll:401]")
    assert job.state == "submitted"
    shop.clock.now = job.created + age
    shop.sandbox._provider.tasks.clear()
    again = await shop.follow(job)
    assert isinstance(again.error, TaskNotFound)
    recorded = await shop.becomes(job, state)
    if state == "expired":
        assert recorded.error is not None
        assert "EvoLink does not know this task any more" in recorded.error.message
        assert "is a new purchase" in recorded.error.next_step
        assert recorded.error.charged == "yes"


async def test_a_task_that_was_met_without_the_journal_has_no_known_age(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unusable(_: Database, __: object) -> None:
        raise JournalUnusable(message="The record is locked.", next_step="Wait.")

    monkeypatch.setattr(Database, "transact", unusable)
    undated = httpx.Response(200, json={"id": "task-unified-1", "status": "processing"})
    gone = httpx.Response(404, json={"error": {"code": "task_not_found", "message": "No."}})
    answers = iter([undated, gone])

    async def answer(request: httpx.Request) -> httpx.Response:
        assert request.method == "GET"
        return next(answers)

    shop.line.handle_async_request = answer  # type: ignore[method-assign]
    job = await shop.end(await shop.watchers.follow(TaskId("task-unified-1")))
    assert isinstance(job.error, TaskNotFound)
    assert job.state == "processing"


async def test_nothing_is_bought_while_the_users_journal_cannot_be_used(shop: Shop) -> None:
    bought = await shop.watchers.api.submit(wanted("[slow:20]"), idempotency_key="elsewhere")
    shop.watchers.refusal = JournalUnusable(message="It is damaged.", next_step="Move it.")
    with pytest.raises(JournalUnusable) as refused:
        await shop.start()
    assert refused.value is shop.watchers.refusal
    assert (await shop.end(await shop.watchers.follow(bought.task_id))).state == "collected"
    assert shop.requests[0] == 1


async def test_an_answer_is_marked_once_it_has_gone_out(shop: Shop) -> None:
    watch = await shop.start("[slow:20]")
    await shop.end(watch)
    assert (await shop.purchase("[slow:20]")).joined
    slept = len(shop.clock.slept)
    shop.watchers.answered(watch)
    shop.watchers.answered(watch)
    with anyio.fail_after(20):
        while shop.journal._answered:
            await anyio.lowlevel.checkpoint()
    assert shop.clock.slept[slept:] == [MARK_SECONDS]
    shop.watchers.answered(watch)
    await anyio.wait_all_tasks_blocked()
    assert shop.clock.slept[slept:] == [MARK_SECONDS] * 2
    assert not (await shop.purchase("[slow:20]")).joined


async def test_an_answer_that_could_not_be_marked_is_marked_later(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = await shop.start("[slow:20]")
    await shop.end(watch)
    tried = anyio.Event()

    async def unusable(_: Database, __: object) -> None:
        tried.set()
        raise JournalUnusable(message="The record is locked.", next_step="Wait.")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "transact", unusable)
        shop.watchers.answered(watch)
        with anyio.fail_after(20):
            await tried.wait()
    await shop.watchers.leave()
    assert not (await shop.purchase("[slow:20]")).joined


async def test_whoever_wants_to_know_hears_how_a_job_moves(shop: Shop) -> None:
    job = await shop.buy("[slow:20]")
    assert [each.state for each in shop.heard] == ["submitted", "processing", "collected"]
    assert shop.heard[-1] == job
    await tell_nobody(job)


async def test_the_lease_is_tended_for_as_long_as_the_server_lives(shop: Shop) -> None:
    pauses: list[float] = []

    async def end_after_two_beats(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise ZeroDivisionError
        await anyio.lowlevel.checkpoint()

    shop.watchers.sleep = end_after_two_beats
    with pytest.raises(ZeroDivisionError):
        await shop.watchers.tend_for_ever()
    assert pauses == [BEAT_SECONDS] * 2
    assert BEAT_SECONDS * 2 < LEASE_SECONDS


async def test_a_purchase_that_was_turned_away_in_passing_is_sent_again_once(shop: Shop) -> None:
    shop.line.breaks = [answered(429, {"error": {"code": "rate_limit"}}, Retry_After="1")]
    job = await shop.buy("[slow:20]")
    assert (job.state, shop.requests[0]) == ("collected", 1)
    assert len([each for each in shop.line.seen if each.method == "POST"]) == 2


async def test_each_task_has_its_own_watcher(shop: Shop) -> None:
    shop.line.held_gets = ("/v1/tasks/", anyio.Event())
    watches = [await shop.start(prompt) for prompt in ("[slow:20] a", "[slow:20] b")]
    await shop.arrived(4)
    for watch in watches:
        assert watch.job.task_id is not None
        assert await shop.watchers.follow(watch.job.task_id) is watch


async def test_a_job_that_breaks_inside_stays_as_it_is_recorded(shop: Shop) -> None:
    async def fail(job: Job) -> Job | None:
        raise ZeroDivisionError(job.id)

    shop.journal.claim = fail  # type: ignore[method-assign]
    job = await shop.buy("[slow:20]")
    assert job.error is not None
    assert (job.error.code, shop.requests[0]) == ("internal_error", 1)
    assert (await shop.becomes(job, "submitted")).task_id == job.task_id
