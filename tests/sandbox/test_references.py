from __future__ import annotations

import json
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import PurePosixPath

import httpx2 as httpx
import pytest
from PIL import Image

from evolink_mcp.sandbox import Sandbox, fetching, outcomes
from tests.sandbox.desk import BASE_URL, Body, Clock, Desk, picture, urls_of

HOST = "https://pictures.example"
MEGABYTE = 1_000_000


class Elsewhere(httpx.AsyncBaseTransport):
    """Another server with pictures; counts what it is asked, and is closed by whoever made it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        match PurePosixPath(request.url.path).name:
            case "moved.png":
                return httpx.Response(302, headers={"location": f"{HOST}/photo.png"})
            case "gone.png":
                return httpx.Response(404)
            case "dead.png":
                message = "no route"
                raise httpx.ConnectError(message)
            case "silent.png":
                raise TimeoutError
            case "endless.png":
                return httpx.Response(200, content=self._endless())
            case _:
                return httpx.Response(200, content=picture())

    async def aclose(self) -> None:
        self.closed = True

    async def _endless(self) -> AsyncIterator[bytes]:
        while True:
            yield bytes(MEGABYTE)


@pytest.fixture
def elsewhere() -> Elsewhere:
    return Elsewhere()


@pytest.fixture
async def desk(clock: Clock, elsewhere: Elsewhere) -> AsyncIterator[Desk]:
    sandbox = Sandbox(now=clock, sleep=clock.sleep, callback_transport=elsewhere)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=sandbox.app),
        base_url=BASE_URL,
        headers={"authorization": "Bearer sk-sandbox"},
    ) as http:
        yield Desk(sandbox, clock, http)
    await elsewhere.aclose()


def publish(desk: Desk, content: bytes, name: str = "photo") -> str:
    return BASE_URL + desk.sandbox.publish(content, name)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
async def test_pictures_of_all_three_types_are_taken(desk: Desk, form: str) -> None:
    body = await desk.outcome(image_urls=[publish(desk, picture(form))] * 5)
    assert body["status"] == "completed"


async def test_references_and_mask_reach_the_drawing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, object] = {}

    def draw(_prompt: str, **how: object) -> bytes:
        given.update(how)
        return picture()

    monkeypatch.setattr(outcomes, "draw_picture", draw)
    photo, mask = picture("PNG", (20, 10)), picture("PNG", (20, 10))
    body = await desk.outcome(
        image_urls=[publish(desk, photo)], mask_url=publish(desk, mask), size="3:2"
    )
    await desk.http.get(urls_of(body)[0])
    assert given == {
        "width": 1536,
        "height": 1024,
        "index": 0,
        "references": (photo,),
        "mask": mask,
    }


async def test_the_samples_can_be_edited(desk: Desk) -> None:
    samples = f"{BASE_URL}/files/samples"
    body = await desk.outcome(image_urls=[f"{samples}/photo.png"], mask_url=f"{samples}/mask.png")
    answer = await desk.http.get(urls_of(body)[0])
    assert answer.status_code == 200


async def test_a_result_can_be_edited_further(desk: Desk) -> None:
    first = await desk.outcome()
    assert (await desk.outcome(image_urls=urls_of(first)))["status"] == "completed"


async def test_a_picture_with_references_takes_longer(desk: Desk) -> None:
    answer = await desk.post(image_urls=[publish(desk, picture())])
    assert answer.json()["task_info"]["estimated_time"] == 60


async def test_a_public_picture_is_fetched_once_when_the_end_is_looked_at(
    desk: Desk, elsewhere: Elsewhere
) -> None:
    task = await desk.buy(image_urls=[f"{HOST}/photo.png"])
    await desk.read(task)
    assert not elsewhere.asked
    for _ in range(2):
        assert (await desk.finish(task))["status"] == "completed"
    assert elsewhere.asked == ["/photo.png"]
    assert not elsewhere.closed


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone.png", "its address answered 404"),
        ("moved.png", "its address answered 302"),
        ("dead.png", "its address could not be reached"),
        ("silent.png", "its address could not be reached"),
    ],
)
async def test_a_picture_that_cannot_be_fetched_fails_the_task(
    desk: Desk, elsewhere: Elsewhere, name: str, reason: str
) -> None:
    error = await desk.failure(image_urls=[f"{HOST}/photo.png", f"{HOST}/{name}"])
    assert error["code"] == "image_processing_error"
    assert error["message"] == f"Cannot get reference image 2: {reason}."
    assert sorted(elsewhere.asked) == sorted(["/photo.png", f"/{name}"])
    assert desk.sandbox.credits == 1000


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/photo.png",
        "http://10.0.0.1/photo.png",
        "http://2130706433/photo.png",
        "http://router.local/photo.png",
        "https://sandbox.test:81/files/samples/photo.png",
    ],
)
async def test_inner_addresses_are_not_visited(desk: Desk, elsewhere: Elsewhere, url: str) -> None:
    elsewhere_is_public = "sandbox.test" in url
    body = await desk.outcome(image_urls=[url])
    assert (body["status"] == "completed") == elsewhere_is_public
    assert bool(elsewhere.asked) == elsewhere_is_public


async def test_the_names_of_this_machine_mean_the_same_sandbox(desk: Desk) -> None:
    path = desk.sandbox.publish(picture(), "photo.png")
    answer = await desk.http.post(
        "/v1/images/generations",
        content=json.dumps({"prompt": "a fox", "image_urls": [f"http://localhost:8123{path}"]}),
        headers={"host": "127.0.0.1:8123"},
    )
    task = desk.sandbox.tasks[answer.json()["id"]]
    assert (await desk.finish(task))["status"] == "completed"


async def test_an_own_file_that_is_not_there_fails_the_task(desk: Desk) -> None:
    error = await desk.failure(image_urls=[f"{BASE_URL}/files/uploads/x/photo.png"])
    assert error["code"] == "image_processing_error"
    assert error["message"] == "Cannot get reference image 1: its address answered 404."


@pytest.mark.parametrize(
    "content",
    [b"<html>", b"", picture("GIF"), picture("BMP"), picture("PNG", (90, 90))[:-60]],
    ids=["page", "empty", "gif", "bmp", "truncated"],
)
async def test_a_file_that_is_no_picture_of_the_three_types_fails_the_task(
    desk: Desk, content: bytes
) -> None:
    error = await desk.failure(image_urls=[publish(desk, content)])
    assert error["code"] == "image_processing_error"
    assert error["message"].startswith("Cannot read reference image 1: ")


@pytest.mark.parametrize(("extra", "fails"), [(0, False), (1, True)])
async def test_a_reference_may_have_ten_megabytes(desk: Desk, extra: int, *, fails: bool) -> None:
    content = picture()
    padded = content + bytes(10 * MEGABYTE - len(content) + extra)
    body = await desk.outcome(image_urls=[publish(desk, padded)])
    assert (body["status"] == "failed") == fails


async def test_a_foreign_file_is_read_to_the_limit_and_no_further(desk: Desk) -> None:
    error = await desk.failure(image_urls=[f"{HOST}/endless.png"])
    assert error == {
        "code": "invalid_parameters",
        "message": "The file of reference image 1 has more than 10000000 bytes.",
        "type": "task_error",
    }


async def test_a_mask_may_have_four_megabytes(desk: Desk) -> None:
    mask = picture() + bytes(4 * MEGABYTE)
    error = await desk.failure(image_urls=[publish(desk, picture())], mask_url=publish(desk, mask))
    assert error["code"] == "invalid_parameters"
    assert error["message"] == "The file of the mask has more than 4000000 bytes."


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (picture("JPEG"), picture(), "Mask and reference image must both be PNG files."),
        (picture(), picture("WEBP"), "Mask and reference image must both be PNG files."),
        (picture(), picture("PNG", (48, 33)), "The mask has 48x33 pixels, the image 48x32."),
    ],
    ids=["reference", "mask", "size"],
)
async def test_mask_and_reference_must_fit_each_other(
    desk: Desk, image: bytes, mask: bytes, message: str
) -> None:
    error = await desk.failure(image_urls=[publish(desk, image)], mask_url=publish(desk, mask))
    assert error == {"code": "invalid_parameters", "message": message, "type": "task_error"}


async def test_a_mask_that_is_no_picture_fails_the_task(desk: Desk) -> None:
    error = await desk.failure(
        image_urls=[publish(desk, picture())], mask_url=publish(desk, b"none")
    )
    assert error["code"] == "image_processing_error"
    assert error["message"].startswith("Cannot read the mask: ")


async def test_a_task_that_fails_on_request_fetches_nothing(
    desk: Desk, elsewhere: Elsewhere
) -> None:
    await desk.failure("[fail:service_error]", image_urls=[f"{HOST}/photo.png"])
    assert not elsewhere.asked


async def test_without_a_transport_the_real_network_is_used() -> None:
    async with await fetching.open_client(None) as client:
        assert client.timeout == httpx.Timeout(10)
        assert not client.follow_redirects


def clear_mask(size: tuple[int, int] = (48, 32)) -> bytes:
    stream = BytesIO()
    Image.new("RGBA", size, (0, 0, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


async def test_a_mask_of_another_family_is_drawn_anew_where_it_is_clear(desk: Desk) -> None:
    async def outcome(mask: bytes) -> Body:
        urls = [publish(desk, picture())]
        return await desk.outcome(
            model="gpt-image-2", image_urls=urls, mask_url=publish(desk, mask)
        )

    body = await outcome(clear_mask())
    answer = await desk.http.get(urls_of(body)[0])
    assert answer.status_code == 200
    assert (await outcome(picture()))["error"] == {
        "code": "invalid_parameters",
        "message": "The mask has no alpha channel.",
        "type": "task_error",
    }


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((383, 400), "an edge has less than 384 pixels"),
        ((400, 3073), "an edge has more than 3072 pixels"),
    ],
)
async def test_a_reference_keeps_to_the_limits_of_its_model(
    desk: Desk, size: tuple[int, int], said: str
) -> None:
    url = publish(desk, picture("PNG", size))
    error = await desk.failure(model="qwen-image-edit", image_urls=[url])
    assert (error["code"], error["message"]) == (
        "invalid_parameters",
        f"Of reference image 1 {said}.",
    )
