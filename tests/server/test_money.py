"""Caps and consent, through the tools, under many calls at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from mcp import Client
from mcp.types import (
    CallToolResult,
    ElicitRequestFormParams,
    ElicitResult,
    Implementation,
    InputRequiredResult,
)

from evolink_mcp.sandbox import Sandbox
from evolink_mcp.server.build import build_server
from evolink_mcp.settings import Settings
from tests.sandbox.desk import picture
from tests.servers import Era, answer_of, host_of, network_of, settings_for, text_of

POSTS = "POST /v1/images/generations"
CALLS = 50


@dataclass
class User:
    """Agrees to every second question."""

    asked: list[str] = field(default_factory=list[str])

    async def __call__(self, _context: object, params: object) -> ElicitResult:
        assert isinstance(params, ElicitRequestFormParams)
        self.asked.append(params.message)
        if "odd" in params.message:
            return ElicitResult(action="decline")
        return ElicitResult(action="accept", content={"buy": True})


def client_of(sandbox: Sandbox, settings: Settings, *, era: Era, user: User) -> Client:
    server = build_server(settings, network=network_of(sandbox))
    info = Implementation(name="test-host", version="1")
    return Client(server, mode=era, client_info=info, elicitation_callback=user)  # type: ignore[arg-type]


def told_in(result: CallToolResult) -> dict[str, Any]:
    return cast("dict[str, Any]", result.structured_content)


async def codes_of(host: Client, prompts: list[str]) -> list[str]:
    """Ask for all of them at once; say how each call ended."""
    ended: list[str] = []

    async def ask(prompt: str) -> None:
        result = await host.call_tool("generate_image", {"prompt": prompt})
        answer = answer_of(result)
        ended.append(answer.error.code if answer.error else answer.status)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for prompt in prompts:
                group.start_soon(ask, prompt)
    return ended


async def test_cap_and_consent_hold_under_50_calls_at_once(tmp_path: Path, era: Era) -> None:
    user, box = User(), Sandbox(speed=1000)
    settings = settings_for(tmp_path, confirm="always", daily_credits=25)
    prompts = [f"fox {number}, {'odd' if number % 2 else 'even'}" for number in range(CALLS)]
    async with client_of(box, settings, era=era, user=user) as host:
        ended = await codes_of(host, prompts)
        listed = await host.call_tool("list_tasks", {"status": "declined", "limit": 100})
    counts = {code: ended.count(code) for code in set(ended)}
    assert counts["completed"] == 10  # of 2.5 credits each
    assert box.requests[POSTS] == 10
    assert box.credits == 1000 - 25
    assert set(counts) <= {"completed", "declined", "daily_cap_reached"}
    declined = told_in(listed)["tasks"]
    assert len(declined) == counts["declined"] > 0
    assert all("task_id" not in line and "credits" not in line for line in declined)


async def test_a_declined_photo_is_not_uploaded(tmp_path: Path, era: Era) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "fox.png").write_bytes(picture())
    user, box = User(), Sandbox(speed=1000)
    settings = settings_for(tmp_path / "out", confirm="above:1", input_dirs=str(photos))
    async with client_of(box, settings, era=era, user=user) as host:
        asked: dict[str, Any] = {"prompt": "odd", "image_urls": [str(photos / "fox.png")]}
        result = await host.call_tool("generate_image", asked)
        error = answer_of(result).error
        assert error is not None
        assert (error.code, error.charged) == ("declined", "no")
        assert not box.requests
        agreed = await host.call_tool("generate_image", {**asked, "prompt": "even"})
        assert answer_of(agreed).status == "completed"
    assert len(user.asked) == 2
    assert "about 2.5 credits" in user.asked[0]


async def test_a_host_that_cannot_ask_is_told_to_pass_confirm(
    sandbox: Sandbox, tmp_path: Path, era: Era
) -> None:
    async with host_of(sandbox, settings_for(tmp_path, confirm="always"), era=era) as host:
        refused = await host.call_tool("generate_image", {"prompt": "a fox"})
        assert "confirmation_needed" in text_of(refused)
        assert not sandbox.requests
        bought = await host.call_tool("generate_image", {"prompt": "a fox", "confirm": True})
        assert answer_of(bought).status == "completed"


async def test_confirm_is_an_argument_only_where_the_operator_wants_to_be_asked(
    sandbox: Sandbox, tmp_path: Path, era: Era
) -> None:
    for setting, published in {"never": False, "always": True, "above:5": True}.items():
        async with host_of(sandbox, settings_for(tmp_path, confirm=setting), era=era) as host:
            tool = (await host.list_tools()).tools[0]
            assert ("confirm" in tool.input_schema["properties"]) == published
    async with host_of(sandbox, settings_for(tmp_path), era=era) as host:
        refused = await host.call_tool("generate_image", {"prompt": "a fox", "confirm": True})
        assert '"confirm": is not an argument' in text_of(refused)


async def test_a_question_of_the_modern_era_is_the_result_of_the_call(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    user = User()
    settings = settings_for(tmp_path, confirm="always")
    async with client_of(sandbox, settings, era="auto", user=user) as host:
        first = await host.session.call_tool(
            "generate_image", {"prompt": "a fox"}, allow_input_required=True
        )
        assert isinstance(first, InputRequiredResult)
        assert not sandbox.requests


async def test_get_credits_tells_balance_spending_and_rules(
    sandbox: Sandbox, tmp_path: Path, era: Era
) -> None:
    settings = settings_for(tmp_path, daily_credits=20, confirm="above:5")
    async with host_of(sandbox, settings, era=era) as host:
        await host.call_tool("generate_image", {"prompt": "a fox", "n": 2})
        await host.call_tool("generate_image", {"prompt": "[garbage] a fox"})
        result = await host.call_tool("get_credits", {})
    told = told_in(result)
    assert (told["account_remaining"], told["spent_today"]) == (992.5, 7.5)
    assert (told["daily_credits"], told["left_today"]) == (20, 12.5)
    assert [each["expected_credits"] for each in told["unknown_outcomes"]] == [2.5]
    assert "992.5 left" in text_of(result)


async def test_confirm_counts_for_a_price_that_was_told_and_once(
    sandbox: Sandbox, tmp_path: Path, era: Era
) -> None:
    async with host_of(sandbox, settings_for(tmp_path, confirm="always"), era=era) as host:

        async def ask(prompt: str) -> str:
            asked = {"prompt": prompt, "confirm": True}
            answer = answer_of(await host.call_tool("generate_image", asked))
            return answer.error.code if answer.error else answer.status

        assert [await ask("a fox") for _ in range(4)] == [
            *("confirmation_needed", "completed", "confirmation_needed", "completed")
        ]
        assert await ask("a crow") == "confirmation_needed"
    assert sandbox.requests[POSTS] == 2


async def test_of_a_price_that_nobody_knows_the_user_is_asked(tmp_path: Path, era: Era) -> None:
    user, box = User(), Sandbox(speed=1000)
    settings = settings_for(tmp_path, confirm="above:1000", models=("mj-v8.1", "gpt-4o-image"))
    async with client_of(box, settings, era=era, user=user) as host:
        for asked in (
            {"prompt": "a fox"},
            {"prompt": "a fox"},
            {"prompt": "a fox", "quality": "hd"},
            {"prompt": "a fox", "model": "gpt-4o-image"},
        ):
            assert not (await host.call_tool("generate_image", asked)).is_error
    assert len(user.asked) == 2
    assert "(assumed: its price is not known yet)" in user.asked[0]
    assert "none was bought with these settings before" in user.asked[1]


async def test_the_question_says_what_becomes_public(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "fox.png").write_bytes(picture())
    user, box = User(), Sandbox(speed=1000)
    settings = settings_for(tmp_path / "out", confirm="always", input_dirs=str(photos))
    async with client_of(box, settings, era="auto", user=user) as host:
        await host.call_tool(
            "generate_image", {"prompt": "a fox", "image_urls": [str(photos / "fox.png")]}
        )
        assert "Uploads 1 file of yours, public for 72 hours" in user.asked[0]


@pytest.mark.parametrize("status", ["declined"])
async def test_nothing_declined_is_an_empty_list(
    sandbox: Sandbox, tmp_path: Path, status: str
) -> None:
    async with host_of(sandbox, settings_for(tmp_path)) as host:
        result = await host.call_tool("list_tasks", {"status": status})
        assert told_in(result)["tasks"] == []
