"""Download links: what they lead to, for whom, how long; and answers that hold them."""

from __future__ import annotations

import base64
import hmac
import stat
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolink_mcp.api.wire import Task, TaskId
from evolink_mcp.errors import JournalUnusable, SettingInvalid
from evolink_mcp.jobs.job import Job, JobId, Picture, Principal, Watch
from evolink_mcp.server.answers import HERE, Caller
from evolink_mcp.server.links import FILE_NAME, LIFETIME, Link, Links, LinkTarget, load_secret
from evolink_mcp.server.results import (
    Call,
    failed,
    finished,
    list_failed,
    listed,
    recorded,
    tasks_listed,
    unread,
)
from tests.servers import answer_of, text_of

ALICE, BOB = Principal("alice"), Principal("bob")
TASK = TaskId("task-unified-1756817821-4x3rx6ny")
BASE = "https://pictures.example"
MADE = 1_800_000_000.0


@dataclass
class Clock:
    now: float = MADE

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def links(clock: Clock) -> Links:
    return Links(base_url=BASE, secret=bytes(range(32)), now=clock)


def token_of(link: Link) -> str:
    return link.url.removeprefix(f"{BASE}/pictures/")


def target_of(links: Links, token: str) -> LinkTarget:
    target = links.read(token)
    assert target is not None
    return target


def test_a_link_leads_to_its_picture_and_is_its_principals(links: Links) -> None:
    link = links.url_of(TASK, n=3, principal=ALICE)
    assert link.url.startswith(f"{BASE}/pictures/")
    target = target_of(links, token_of(link))
    assert (target.task_id, target.n) == (TASK, 3)
    assert links.is_for(target, ALICE)
    assert not links.is_for(target, BOB)


def test_a_link_tells_nobody_whose_it_is(links: Links) -> None:
    link = links.url_of(TASK, n=1, principal=ALICE)
    sealed = base64.urlsafe_b64decode(token_of(link) + "==")
    assert b"alice" not in sealed
    assert link.url not in repr(link)
    assert str(links.secret) not in repr(links)


def test_a_base_address_may_have_a_path_and_a_slash_at_its_end(links: Links) -> None:
    behind = replace(links, base_url="https://example.com/evolink/")
    link = behind.url_of(TASK, n=1, principal=ALICE)
    assert link.url.startswith("https://example.com/evolink/pictures/")


def test_a_link_dies_when_it_says_and_not_before(links: Links, clock: Clock) -> None:
    clock.now = MADE + 59.5
    link = links.url_of(TASK, n=1, principal=ALICE)
    assert link.expires_at == datetime.fromtimestamp(MADE + LIFETIME, UTC)
    clock.now = MADE + LIFETIME - 0.1
    assert links.read(token_of(link)) is not None
    clock.now = MADE + LIFETIME
    assert links.read(token_of(link)) is None


def test_every_letter_of_a_link_counts(links: Links) -> None:
    token = token_of(links.url_of(TASK, n=1, principal=ALICE))
    for place, letter in enumerate(token):
        for other in ("A" if letter != "A" else "B", "_" if letter != "_" else "-", "", "=", "/"):
            assert links.read(token[:place] + other + token[place + 1 :]) is None
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert [last for last in alphabet if links.read(token[:-1] + last)] == [token[-1]]


def test_what_is_cut_off_or_longer_leads_nowhere(links: Links) -> None:
    token = token_of(links.url_of(TASK, n=1, principal=ALICE))
    for end in range(len(token)):
        assert links.read(token[:end]) is None
    for wrong in (token + "A", token + "=", token + "==", f" {token}", f"{token}\n", f"{token}/.."):
        assert links.read(wrong) is None


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_what_was_not_made_here_leads_nowhere(token: str) -> None:
    assert Links(base_url=BASE, secret=bytes(32)).read(token) is None


def test_parts_of_links_make_no_link(links: Links) -> None:
    one, other = (links.url_of(TASK, n=n, principal=ALICE) for n in (1, 2))
    payload, seal = (base64.urlsafe_b64decode(token_of(part) + "==") for part in (one, other))
    mixed = base64.urlsafe_b64encode(payload[:-32] + seal[-32:]).rstrip(b"=").decode()
    assert links.read(mixed) is None


def test_the_seal_of_a_principal_is_none_of_a_link(links: Links) -> None:
    """Whoever chooses their own name must not have a payload of theirs sealed as one."""
    payload = base64.urlsafe_b64decode(token_of(links.url_of(TASK, n=1, principal=ALICE)) + "==")
    bare = hmac.digest(links.secret, payload[:-32], "sha256")
    token = base64.urlsafe_b64encode(payload[:-32] + bare).rstrip(b"=").decode()
    assert links.read(token) is None


def test_another_secret_reads_nothing(links: Links) -> None:
    token = token_of(links.url_of(TASK, n=1, principal=ALICE))
    assert replace(links, secret=bytes(32)).read(token) is None


def test_the_secret_is_private_and_the_same_after_a_restart(tmp_path: Path, links: Links) -> None:
    folder = tmp_path / "data" / "deep"
    secret = load_secret(folder)
    assert len(secret) == 32
    assert load_secret(folder) == secret != load_secret(tmp_path / "other")
    assert stat.S_IMODE((folder / FILE_NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == [FILE_NAME]
    link = replace(links, secret=secret).url_of(TASK, n=1, principal=ALICE)
    again = replace(links, secret=load_secret(folder))
    assert target_of(again, token_of(link)).task_id == TASK


def test_a_secret_that_others_could_read_is_made_private(tmp_path: Path) -> None:
    load_secret(tmp_path)
    (tmp_path / FILE_NAME).chmod(0o644)
    load_secret(tmp_path)
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


def test_of_two_that_make_the_secret_at_once_the_first_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_secret(tmp_path)

    def not_there(_: Path) -> bool:
        return False  # as the second has just seen

    monkeypatch.setattr(Path, "exists", not_there)
    assert load_secret(tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


SHARED = """
import sys
from pathlib import Path
from evolink_mcp.server.links import load_secret
sys.stdin.read(1)
print(load_secret(Path(sys.argv[1])).hex())
"""


def test_processes_that_start_at_once_share_one_secret(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SHARED, str(tmp_path / "data")]
    pipe = subprocess.PIPE
    others = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(3)]
    told = {other.communicate("\n", timeout=60)[0].strip() for other in others}
    assert told == {load_secret(tmp_path / "data").hex()}


def test_a_secret_that_cannot_be_used_is_the_operators_matter(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"short")
    with pytest.raises(SettingInvalid, match="5 bytes instead of 32"):
        load_secret(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(SettingInvalid, match="directory"):
        load_secret(tmp_path)


FOLDER = Path("/srv/pictures")
SAVED = Picture(
    n=1,
    url="https://evolink.example/1",
    expires_at=None,
    path=FOLDER / "fox-1.png",
    media_type="image/png",
    width=8,
    height=8,
    size=100,
)
LOST = Picture(
    n=2,
    url="https://evolink.example/2",
    expires_at=None,
    problem=f"It could not be saved in {FOLDER} (No space left on device).",
)
JOB = Job(
    id=JobId("run_1"),
    principal=ALICE,
    state="collected",
    task=Task(id=TASK, status="completed"),
    pictures=(SAVED, LOST),
)
BROKEN = JournalUnusable(
    message=f"The record ({FOLDER}/data/journal) cannot be used.", next_step=f"Look at {FOLDER}."
)


@pytest.fixture
def caller(links: Links) -> Caller:
    return Caller(principal=ALICE, remote=True, links=links, folders=(FOLDER,))


async def test_over_http_an_answer_has_links_in_the_place_of_paths(
    caller: Caller, links: Links
) -> None:
    result = await finished(Watch(JOB, 0), Call(1), preview="none", caller=caller)
    saved, lost = answer_of(result).images or []
    link = links.url_of(TASK, n=1, principal=ALICE)
    assert (saved.download_url, saved.download_expires_at) == (link.url, "2027-01-16T08:00+00:00")
    assert (lost.download_url, lost.download_expires_at) == (None, None)
    text = text_of(result)
    assert f"1. Download link: {link.url} (until 2027-01-16T08:00+00:00)" in text
    assert "2. NOT SAVED: It could not be saved in its folder on the server (No space" in text
    assert "Give the user the download link" in text
    assert [block.type for block in result.content] == ["text", "resource_link"]
    assert str(FOLDER) not in result.model_dump_json()


async def test_over_http_without_links_no_path_is_told_either() -> None:
    caller = Caller(principal=ALICE, remote=True, folders=(FOLDER,))
    result = await finished(Watch(JOB, 0), Call(1), preview="none", caller=caller)
    [saved, _] = answer_of(result).images or []
    assert (saved.path, saved.download_url, saved.saved) == (None, None, True)
    assert "1. on the server's disk" in text_of(result)
    assert str(FOLDER) not in result.model_dump_json()


async def test_here_paths_are_told_and_no_links() -> None:
    result = await finished(Watch(JOB, 0), Call(1), preview="none")
    assert f"1. {SAVED.path}\n" in text_of(result)
    assert f"2. NOT SAVED: {LOST.problem}" in text_of(result)
    assert "download" not in result.model_dump_json(exclude_none=True)
    assert HERE.without_paths(LOST.problem) == LOST.problem


def test_what_is_on_record_has_links_too(caller: Caller) -> None:
    answer = recorded(JOB, caller=caller)
    assert [bool(image.download_url) for image in answer.images or ()] == [True, False]
    unread_job = replace(JOB, pictures=(), state="processing")
    entries = listed([JOB, unread_job], spent=0, cap=None, caller=caller)
    assert [entry.paths for entry in entries.tasks or ()] == [None, None]
    for told in (answer, entries, tasks_listed(entries), recorded(unread_job, caller=caller)):
        assert str(FOLDER) not in told.model_dump_json()
    here = listed([JOB], spent=0, cap=None)
    assert [entry.paths for entry in here.tasks or ()] == [[str(SAVED.path)]]
    assert f"\n  {SAVED.path}\n" in text_of(tasks_listed(here))


def test_over_http_no_failure_names_a_folder(caller: Caller) -> None:
    for told in (
        failed(BROKEN, caller=caller),
        unread(BROKEN, task_id=TASK, caller=caller),
        list_failed(BROKEN, caller=caller),
        recorded(replace(JOB, pictures=(), error=BROKEN), caller=caller),
    ):
        assert str(FOLDER) not in told.model_dump_json()
        assert "its folder on the server/data/journal" in told.model_dump_json()
    assert str(FOLDER) in failed(BROKEN).model_dump_json()
