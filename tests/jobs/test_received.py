from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from evolink_mcp.jobs import received as module
from evolink_mcp.jobs.job import Principal
from evolink_mcp.jobs.received import (
    LIFETIME,
    LONGEST_WRITING,
    MAX_BYTES,
    MOST_FILES,
    NotTaken,
    Received,
    holder_of,
    new_picture_id,
)

ALICE, BOB = Principal("alice"), Principal("bob")
PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 92


@pytest.fixture
def received(tmp_path: Path) -> Received:
    return Received(folder=tmp_path / "received")


def send(received: Received, principal: Principal, content: bytes = PNG) -> str:
    picture_id = new_picture_id()
    receiving = received.begin(holder_of(principal), picture_id)
    receiving.write(content)
    receiving.finish()
    return picture_id


def age(path: Path, seconds: float) -> None:
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def test_a_picture_is_found_by_whose_it_is(received: Received) -> None:
    picture_id = send(received, ALICE)
    path = received.find(ALICE, picture_id)
    assert path is not None
    assert path.read_bytes() == PNG
    assert path.stat().st_mode & 0o777 == 0o600
    for folder in (path.parent, received.folder):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert received.find(BOB, picture_id) is None
    assert "alice" not in str(path)


@pytest.mark.parametrize("name", ["", "..", "../x", "a" * 31, "A" * 32, "a" * 32, f"{'a' * 32}/.."])
def test_what_is_no_name_of_ours_is_found_nowhere(received: Received, name: str) -> None:
    send(received, ALICE)
    assert received.find(ALICE, name) is None


def test_a_picture_is_kept_for_72_hours(received: Received) -> None:
    picture_id = send(received, ALICE)
    path = received.find(ALICE, picture_id)
    assert path is not None
    age(path, LIFETIME - 60)
    received.sweep()
    assert received.find(ALICE, picture_id) == path
    age(path, LIFETIME + 60)
    assert received.find(ALICE, picture_id) is None
    assert path.exists()
    received.sweep()
    assert not path.exists()


def test_what_a_crash_left_is_removed_and_what_is_being_written_is_not(received: Received) -> None:
    left = received.begin(holder_of(ALICE), new_picture_id())
    under_way = received.begin(holder_of(BOB), new_picture_id())
    age(left.part, LONGEST_WRITING + 1)
    received.sweep()
    assert not left.part.exists()
    assert under_way.part.exists()
    under_way.give_up()
    left.give_up()


def test_a_folder_that_is_not_there_has_nothing_to_sweep(received: Received) -> None:
    received.sweep()
    (received.folder).mkdir()
    (received.folder / "a file").touch()
    received.sweep()
    assert (received.folder / "a file").exists()


def test_a_name_is_used_once(received: Received) -> None:
    picture_id = send(received, ALICE)
    assert received.is_used(holder_of(ALICE), picture_id)
    with pytest.raises(NotTaken, match="used"):
        received.begin(holder_of(ALICE), picture_id)


def test_of_two_that_end_at_once_the_first_wins(received: Received) -> None:
    picture_id = new_picture_id()
    first, second = (received.begin(holder_of(ALICE), picture_id) for _ in range(2))
    first.write(PNG)
    second.write(PNG + b"another")
    first.finish()
    with pytest.raises(NotTaken, match="used"):
        second.finish()
    second.give_up()
    path = received.find(ALICE, picture_id)
    assert path is not None
    assert path.read_bytes() == PNG
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "pieces", [[b"<html>" + b"x" * 90], [b"GIF"], [b"x"] * 70, [], [b"\x89PN", b"G no"]]
)
def test_what_is_no_picture_is_not_taken(received: Received, pieces: list[bytes]) -> None:
    receiving = received.begin(holder_of(ALICE), new_picture_id())
    with pytest.raises(NotTaken, match="no_picture"):
        write(receiving, pieces)
    receiving.give_up()
    assert list(receiving.part.parent.iterdir()) == []


def write(receiving: module.Receiving, pieces: list[bytes]) -> None:
    for piece in pieces:
        receiving.write(piece)
    receiving.finish()


def test_a_small_picture_may_be_shorter_than_what_tells_its_type(received: Received) -> None:
    assert received.find(ALICE, send(received, ALICE, PNG[:40])) is not None


def test_a_picture_has_a_largest_size(received: Received, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 150)
    receiving = received.begin(holder_of(ALICE), new_picture_id())
    receiving.write(PNG)
    with pytest.raises(NotTaken, match="too_large"):
        receiving.write(PNG)
    receiving.give_up()


def test_a_principal_has_a_largest_number(
    received: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_FILES", 2)
    send(received, ALICE)
    send(received, ALICE)
    with pytest.raises(NotTaken, match="too_many"):
        received.begin(holder_of(ALICE), new_picture_id())
    send(received, BOB)
    assert MOST_FILES > 2


def test_a_principal_has_a_largest_sum(received: Received, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", MAX_BYTES + 150)
    send(received, ALICE)
    other = received.begin(holder_of(ALICE), new_picture_id())  # it may become the largest
    receiving = received.begin(holder_of(ALICE), new_picture_id())
    with pytest.raises(NotTaken, match="too_many"):
        receiving.write(PNG)
    receiving.give_up()
    other.give_up()
    send(received, ALICE, PNG[:50])
