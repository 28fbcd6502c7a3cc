from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from evolink_mcp.errors import SettingInvalid
from evolink_mcp.server.principals import ALLOWANCE_CLAIM, Allowance
from evolink_mcp.service.tokens import LOOK_EVERY, TokenFile, entry_of, new_token
from tests.service.rooms import OTHER, TOKEN, apart, entry, write_tokens


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tokens(tmp_path / "tokens.toml", entry("alice", TOKEN))


async def name_of(tokens: TokenFile, token: str) -> str | None:
    found = await apart(partial(tokens.verify_token, token))
    return found.subject if found else None


async def loaded(path: Path, clock: Clock) -> TokenFile:
    tokens = TokenFile(path, scopes=("images:buy",), clock=clock)
    await tokens.load()
    return tokens


async def test_a_token_is_its_holders(path: Path, clock: Clock) -> None:
    limits = {"daily_credits": 5, "concurrent_jobs": 2, "requests_per_minute": 60}
    write_tokens(path, entry("alice", TOKEN) + entry("bob", OTHER, **limits))
    tokens = await loaded(path, clock)
    alice, bob = await tokens.verify_token(TOKEN), await tokens.verify_token(OTHER)
    assert alice is not None
    assert bob is not None
    assert (alice.subject, alice.client_id, alice.scopes) == ("alice", "alice", ["images:buy"])
    assert alice.claims == {ALLOWANCE_CLAIM: Allowance()}
    assert bob.claims == {
        ALLOWANCE_CLAIM: Allowance(daily_credits=5.0, concurrent_jobs=2, requests_per_minute=60)
    }
    for wrong in ("", TOKEN[:-1], TOKEN + "a", TOKEN.upper(), "evm_", "ä"):
        assert await tokens.verify_token(wrong) is None


async def test_a_change_of_the_file_counts_within_a_second(path: Path, clock: Clock) -> None:
    tokens = await loaded(path, clock)
    write_tokens(path, entry("bob", OTHER))
    assert await name_of(tokens, TOKEN) == "alice"
    clock.now += LOOK_EVERY
    assert await name_of(tokens, TOKEN) is None
    assert await name_of(tokens, OTHER) == "bob"


async def test_a_file_that_did_not_change_is_not_read_again(path: Path, clock: Clock) -> None:
    tokens = await loaded(path, clock)
    before = path.stat()
    path.write_text(path.read_text().replace("alice", "carol"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    clock.now += LOOK_EVERY
    assert await name_of(tokens, TOKEN) == "alice"


@pytest.mark.parametrize("text", ["[alice", "[alice]\nsha256 = 'short'\n", None])
async def test_a_broken_file_leaves_the_last_good_one_in_force(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, text: str | None
) -> None:
    tokens = await loaded(path, clock)
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    for _ in range(3):
        clock.now += LOOK_EVERY
        assert await name_of(tokens, TOKEN) == "alice"
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "EVOLINK_TOKENS_FILE" in record.getMessage()
    write_tokens(path, entry("bob", OTHER))
    clock.now += LOOK_EVERY
    assert await name_of(tokens, OTHER) == "bob"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[alice", "it is no TOML"),
        ("alice = 1\n", "alice: "),
        ("[alice]\n", "alice.sha256: Field required"),
        (f'[alice]\nsha256 = "{TOKEN}"\n', "alice.sha256: "),
        (entry("alice", TOKEN, daily_credit=5), "alice.daily_credit: Extra"),
        (entry("alice", TOKEN, daily_credits=-1), "alice.daily_credits: "),
        (entry("alice", TOKEN, daily_credits="nan"), "alice.daily_credits: "),
        (entry("alice", TOKEN, concurrent_jobs=-1), "alice.concurrent_jobs: "),
        (entry("alice", TOKEN, requests_per_minute=0), "alice.requests_per_minute: "),
        (entry("alice", TOKEN, requests_per_minute="true"), "alice.requests_per_minute: "),
        (entry('"a b"', TOKEN), "'a b' is no name"),
        (entry("alice", TOKEN) + entry("bob", TOKEN), "two names have the same token"),
        (None, "No such file"),
    ],
)
async def test_a_file_that_does_not_work_stops_the_start_without_showing_a_token(
    path: Path, clock: Clock, text: str | None, reason: str
) -> None:
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(SettingInvalid) as raised:
        await loaded(path, clock)
    assert reason in raised.value.message
    assert TOKEN not in raised.value.message
    assert "evolink-mcp token NAME" in raised.value.next_step


@pytest.mark.parametrize(("mode", "told"), [(0o600, False), (0o640, True), (0o604, True)])
async def test_a_file_that_others_may_read_is_warned_of(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, mode: int, *, told: bool
) -> None:
    path.chmod(mode)
    await loaded(path, clock)
    assert ("chmod 600" in caplog.text) == told


@pytest.mark.parametrize("name", ["alice", "alice@example.com", "a.b"])
async def test_a_fresh_token_works_with_the_lines_for_it(
    path: Path, clock: Clock, name: str
) -> None:
    token = new_token()
    assert re.fullmatch(r"evm_[A-Za-z0-9_-]{43}", token)
    assert token != new_token()
    write_tokens(path, entry_of(name, token))
    assert await name_of(await loaded(path, clock), token) == name


@pytest.mark.parametrize("name", ["", "a b", '"', "ä", "-a", "a" * 65, "a\n"])
def test_what_is_no_name_gets_no_token(name: str) -> None:
    with pytest.raises(SettingInvalid, match="A name has"):
        entry_of(name, TOKEN)
