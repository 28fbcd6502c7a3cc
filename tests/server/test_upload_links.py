from __future__ import annotations

from dataclasses import dataclass

import pytest

from evolink_mcp.api.wire import TaskId
from evolink_mcp.jobs.job import Principal
from evolink_mcp.jobs.received import holder_of
from evolink_mcp.server.links import Links
from evolink_mcp.server.upload_links import LIFETIME, PREFIX, UploadLinks

ALICE = Principal("alice")
BASE = "https://mcp.example"


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def links(clock: Clock, secret: bytes = b"s" * 32) -> UploadLinks:
    return UploadLinks(base_url=f"{BASE}/", secret=secret, now=clock)


def token_of(url: str) -> str:
    assert url.startswith(f"{BASE}/uploads/{PREFIX}")
    return url.rpartition("/")[2]


def test_a_link_says_for_whom_and_for_what_it_is() -> None:
    ours = links(Clock())
    link = ours.make(ALICE)
    target = ours.read(token_of(link.url))
    assert target is not None
    assert target.holder == holder_of(ALICE)
    assert target.handle == link.handle
    assert link.url not in repr(link)
    assert ours.make(ALICE).handle != link.handle


def test_a_link_ends_after_a_quarter_of_an_hour() -> None:
    clock = Clock()
    ours = links(clock)
    link = ours.make(ALICE)
    assert link.expires_at.timestamp() == clock.now + LIFETIME
    clock.now += LIFETIME - 1
    assert ours.read(token_of(link.url)) is not None
    clock.now += 1
    assert ours.read(token_of(link.url)) is None


@pytest.mark.parametrize("change", ["", "x", "-1", "+1", "/..", "?", "=", "\n"])
def test_what_is_not_exactly_a_link_is_none(change: str) -> None:
    ours = links(Clock())
    token = token_of(ours.make(ALICE).url)
    for wrong in (token.removeprefix(PREFIX), token[:-1] + change, token + (change or "A"), change):
        assert ours.read(wrong) is None


def test_a_link_of_another_secret_or_purpose_is_none() -> None:
    clock = Clock()
    assert links(clock).read(token_of(links(clock, b"t" * 32).make(ALICE).url)) is None
    pictures = Links(base_url=BASE, secret=b"s" * 32, now=clock)
    link = pictures.url_of(TaskId("task-unified-1"), n=1, principal=ALICE).url
    assert links(clock).read(PREFIX + link.rpartition("/")[2]) is None
    assert pictures.read(token_of(links(clock).make(ALICE).url).removeprefix(PREFIX)) is None
