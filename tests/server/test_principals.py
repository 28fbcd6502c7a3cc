"""Whoever calls over HTTP sees and spends their own, whatever ids, handles and links they try."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.session import ServerSession
from mcp.server.subscriptions import ResourceUpdated, ServerEvent

from evolink_mcp.api.wire import TaskId
from evolink_mcp.errors import CapReached, InvalidRequest, JournalUnusable, TaskNotFound
from evolink_mcp.jobs.convert import Limits
from evolink_mcp.jobs.job import LOCAL, Job, Principal, new_job_id
from evolink_mcp.jobs.journal import Journal
from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.app import App, run_app
from evolink_mcp.server.credits import read_credits
from evolink_mcp.server.lists import read_list
from evolink_mcp.server.principals import (
    ALLOWANCE_CLAIM,
    Allowance,
    current_allowance,
    current_principal,
)
from evolink_mcp.server.resources import LIST_URI, News, PrivateBus, Subscriber
from tests.jobs.shop import Shop, open_shop, wanted
from tests.servers import network_of, settings_for

ALICE, BOB = Principal("alice"), Principal("bob")


@contextmanager
def calling(
    name: str, allowance: Allowance | None = None, issuer: str = ""
) -> Generator[Principal]:
    """Be whoever a token was issued to."""
    claims = {"iss": issuer, ALLOWANCE_CLAIM: allowance or Allowance()}
    token = AccessToken(token="t", client_id=name, scopes=[], subject=name, claims=claims)
    restore = auth_context_var.set(AuthenticatedUser(token))
    try:
        yield current_principal()
    finally:
        auth_context_var.reset(restore)


async def credits_of(app: App) -> dict[str, Any]:
    return cast("dict[str, Any]", (await read_credits(app)).structured_content)


def test_without_a_token_it_is_the_one_who_runs_the_server() -> None:
    assert current_principal() == LOCAL
    assert current_allowance() == Allowance()


def test_the_same_name_at_two_issuers_is_two_principals() -> None:
    with calling("alice", issuer="https://a.example") as one:
        pass
    with calling("alice", issuer="https://b.example") as other:
        pass
    assert len({one, other, LOCAL}) == 3


def test_a_token_says_what_it_may_spend() -> None:
    with calling("alice", Allowance(daily_credits=5)):
        assert current_allowance() == Allowance(daily_credits=5)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path / "pictures") as opened:
        yield opened


async def test_nobody_follows_anothers_task(shop: Shop) -> None:
    bought = await shop.watchers.buy(wanted("[slow:20]"), budget=shop.budget, principal=ALICE)
    with anyio.fail_after(20):
        await bought.watch.bought()
    task_id = bought.watch.job.task_id
    assert task_id is not None
    for principal in (BOB, LOCAL):
        with pytest.raises(TaskNotFound, match="of yours"):
            await shop.watchers.follow(task_id, principal=principal)
    assert await shop.watchers.follow(task_id, principal=ALICE) is bought.watch
    await shop.end(bought.watch)
    for principal in (BOB, LOCAL):
        with pytest.raises(TaskNotFound, match="of yours"):
            await shop.watchers.follow(task_id, principal=principal)
    assert (await shop.watchers.follow(task_id, principal=ALICE)).job.state == "collected"


async def test_while_the_record_cannot_be_read_that_is_said_and_not_that_a_task_is_unknown(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    bought = await shop.watchers.buy(wanted("[slow:20]"), budget=shop.budget, principal=ALICE)
    with anyio.fail_after(20):
        await bought.watch.bought()
    task_id = bought.watch.job.task_id
    assert task_id is not None

    async def unusable(*_: object) -> None:
        raise JournalUnusable(message="Damaged.", next_step="Mend it.")

    monkeypatch.setattr(Journal, "find", unusable)
    assert await shop.watchers.follow(task_id, principal=ALICE) is bought.watch
    with pytest.raises(TaskNotFound):
        await shop.watchers.follow(task_id, principal=BOB)
    with pytest.raises(JournalUnusable):
        await shop.watchers.follow(TaskId("task-unified-1-stranger"), principal=ALICE)


async def test_a_task_that_is_not_on_record_may_be_anybodys(shop: Shop) -> None:
    stranger = TaskId("task-unified-1-stranger")
    with pytest.raises(TaskNotFound):
        await shop.watchers.follow(stranger, principal=ALICE)
    assert shop.requests == (0, 0, 0)


async def test_identical_wishes_of_two_are_two_purchases(shop: Shop) -> None:
    first = await shop.watchers.buy(wanted("[slow:20]"), budget=shop.budget, principal=ALICE)
    other = await shop.watchers.buy(wanted("[slow:20]"), budget=shop.budget, principal=BOB)
    again = await shop.watchers.buy(wanted("[slow:20]"), budget=shop.budget, principal=BOB)
    assert (first.joined, other.joined, again.joined) == (False, False, True)
    for watch in (first.watch, other.watch):
        await shop.end(watch)
    assert await shop.journal.spent_today(ALICE) == await shop.journal.spent_today(BOB) == 2.5
    assert await shop.journal.spent_today() == 5.0


async def test_each_has_an_allowance_of_their_own(shop: Shop) -> None:
    budget = replace(shop.budget, a_day_each=5.0, at_once=2)
    for prompt in ("one [stuck]", "two [stuck]"):
        await shop.watchers.buy(wanted(prompt), budget=budget, principal=ALICE)
    with pytest.raises(CapReached, match="allowance of 5 credits a day") as spent:
        await shop.watchers.buy(wanted("three"), budget=budget, principal=ALICE)
    more = replace(budget, a_day_each=None)
    with pytest.raises(CapReached, match="2 jobs under way") as busy:
        await shop.watchers.buy(wanted("three"), budget=more, principal=ALICE)
    assert (spent.value.code, busy.value.code) == ("allowance_spent", "too_many_jobs")
    other = await shop.watchers.buy(wanted("three"), budget=budget, principal=BOB)
    assert not other.joined


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    settings = settings_for(tmp_path, daily_credits=100)
    async with run_app(settings, network_of(Sandbox(speed=1000)), over_http=True) as opened:
        yield opened


async def test_lists_and_credits_tell_each_their_own(app: App) -> None:
    with calling("alice", Allowance(daily_credits=20)) as alice:
        watchers = (await app.connected()).watchers
        bought = await watchers.buy(
            wanted("a fox"), budget=app.budget(wanted("a fox")), principal=alice
        )
        with anyio.fail_after(20):
            await bought.watch.end()
        mine = await read_list(app, limit=10)
        assert [entry.prompt for entry in mine.tasks or ()] == ["a fox"]
        assert (mine.spent_today, mine.daily_credits) == (2.5, 20)
        told = await credits_of(app)
        assert (told["left_today"], "account_remaining" in told) == (17.5, False)
    with calling("bob"):
        others = await read_list(app, limit=10)
        assert (others.tasks, others.spent_today, others.daily_credits) == ([], 0.0, None)
    operator = await credits_of(app)
    assert (operator["account_remaining"], operator["daily_credits"]) == (997.5, 100)


async def test_over_http_the_files_here_are_nobodys(app: App) -> None:
    inputs = (await app.connected()).inputs
    for given in ("/etc/hostname", str(app.settings.picture_folder() / "fox.png")):
        with pytest.raises(InvalidRequest, match="HTTP"):
            await inputs.prepare([given], limits=Limits())


async def test_everybody_hears_of_their_own_jobs_only() -> None:
    bus, heard = PrivateBus(), dict[str, list[ServerEvent]](alice=[], bob=[])
    with calling("alice") as alice:
        bus.subscribe(heard["alice"].append)
    with calling("bob") as bob:
        leave = bus.subscribe(heard["bob"].append)
    event = ResourceUpdated(uri="evolink://tasks")
    await bus.tell(alice, event)
    await bus.tell(LOCAL, event)
    assert heard == {"alice": [event], "bob": []}
    leave()
    await bus.tell(bob, event)
    await bus.publish(event)
    assert heard == {"alice": [event, event], "bob": []}


async def test_a_subscriber_of_before_2026_hears_of_their_own_jobs_only() -> None:
    told: list[str] = []

    class Session:
        async def send_resource_updated(self, uri: str) -> None:
            told.append(uri)

    news, session = News(), cast("ServerSession", Session())
    news._sessions[LIST_URI] = {  # pyright: ignore[reportPrivateUsage]
        1: Subscriber(session, ALICE),
        2: Subscriber(session, BOB),
    }
    await news.moved(Job(id=new_job_id(), principal=ALICE))
    assert told == [LIST_URI]
