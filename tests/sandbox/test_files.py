from __future__ import annotations

import anyio
import pytest

from evolink_mcp.sandbox import Sandbox, outcomes
from evolink_mcp.sandbox.files import FileStore, media_type
from tests.sandbox.desk import BASE_URL, DAY, Clock, Desk, picture, size_of, urls_of


@pytest.mark.parametrize(
    ("size", "pixels"),
    [(None, (1024, 1024)), ("2:3", (1024, 1536)), ("1536x1024", (1536, 1024))],
)
async def test_a_picture_has_the_size_that_was_asked_for(
    desk: Desk, size: str | None, pixels: tuple[int, int]
) -> None:
    (url,) = urls_of(await desk.outcome(size=size))
    answer = await desk.http.get(url, headers={"authorization": ""})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert size_of(answer.content) == pixels


async def test_a_picture_is_drawn_once_from_the_prompt_without_its_markers(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[str, object]] = []

    def draw(prompt: str, **how: object) -> bytes:
        drawn.append((prompt, how["index"]))
        return picture()

    monkeypatch.setattr(outcomes, "draw_picture", draw)
    first, second = urls_of(await desk.outcome("a fox [slow:1]", n=2))
    assert not drawn
    async with anyio.create_task_group() as group:
        for url in (first, first, second):
            group.start_soon(desk.http.get, url)
    await desk.http.get(first)
    assert sorted(drawn, key=str) == [("a fox", 0), ("a fox", 1)]


async def test_links_have_the_host_that_was_asked(desk: Desk) -> None:
    answer = await desk.http.post(
        "/v1/images/generations", json={"prompt": "a fox"}, headers={"host": "127.0.0.1:8123"}
    )
    task = desk.sandbox.tasks[answer.json()["id"]]
    (url,) = urls_of(await desk.finish(task))
    assert url == f"https://127.0.0.1:8123/files/results/{task.folder}/1.png"


async def test_a_link_lives_a_day_from_the_end_of_its_task(desk: Desk) -> None:
    task = await desk.buy()
    (url,) = urls_of(await desk.finish(task))
    desk.clock.now = task.ends + DAY - 1
    assert (await desk.http.get(url)).status_code == 200
    desk.clock.now = task.ends + DAY
    answer = await desk.http.get(url)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/xml"
    assert "<Code>AccessDenied</Code>" in answer.text


async def test_a_late_reader_finds_the_link_expired(desk: Desk) -> None:
    task = await desk.buy()
    desk.clock.now = task.ends + DAY
    (url,) = urls_of(await desk.read(task))
    assert (await desk.http.get(url)).status_code == 403


async def test_a_file_that_is_not_there_is_said_to_be_missing(desk: Desk) -> None:
    answer = await desk.http.get("/files/results/f/1.png")
    assert answer.status_code == 404
    assert "<Code>NoSuchKey</Code>" in answer.text


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
async def test_a_published_file_is_served_as_what_it_is(desk: Desk, form: str) -> None:
    content = picture(form)
    path = desk.sandbox.publish(content, "photo")
    answer = await desk.http.get(path, headers={"authorization": ""})
    assert answer.content == content
    assert answer.headers["content-type"] == f"image/{form.lower()}"


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("a fox.png", "/a%20fox.png"),
        ("../../secret.png", "/secret.png"),
        ("\u05e9?#.png", "/%D7%A9%3F%23.png"),
        ("", "/file"),
    ],
)
async def test_a_published_file_may_have_any_name(desk: Desk, name: str, ending: str) -> None:
    path = desk.sandbox.publish(b"text", name)
    assert path.startswith("/files/uploads/")
    assert path.endswith(ending)
    answer = await desk.http.get(BASE_URL + path)
    assert answer.content == b"text"
    assert answer.headers["content-type"] == "application/octet-stream"


def test_a_file_can_be_published_before_anything_runs() -> None:
    sandbox = Sandbox()
    paths = {sandbox.publish(b"same", "same.txt") for _ in range(2)}
    assert len(paths) == 2


@pytest.mark.parametrize(
    ("name", "kind"),
    [("photo.png", "image/png"), ("photo.jpg", "image/jpeg"), ("mask.png", "image/png")],
)
async def test_samples_are_there_from_the_start(desk: Desk, name: str, kind: str) -> None:
    answer = await desk.http.get(f"/files/samples/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type(answer.content) == kind
    assert size_of(answer.content) == (1024, 1024)


async def test_a_file_is_kept_after_it_was_made(clock: Clock) -> None:
    made: list[bytes] = []

    def make() -> bytes:
        made.append(b"x")
        return b"".join(made)

    files = FileStore(clock)
    files.put("/files/x", make, media_type="text/plain")
    found = [await files.read("/files/x") for _ in range(2)]
    assert [file.content for file in found] == [b"x", b"x"]
