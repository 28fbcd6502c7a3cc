from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import cast

import httpx2 as httpx
import pytest
from PIL import Image
from starlette.types import Message

from evolink_mcp.sandbox import Sandbox, uploads
from tests.sandbox.desk import BASE_URL, DAY, Body, Clock, Desk, picture, urls_of

API = "/api/v1/files"
STREAM, BASE64, URL = (f"{API}/upload/{way}" for way in ("stream", "base64", "url"))
PICTURE = picture()
PHOTO = {"file": ("photo.png", PICTURE, "image/png")}
EVERY_CALL = [
    ("POST", STREAM),
    ("POST", BASE64),
    ("POST", URL),
    ("GET", f"{API}/quota"),
    ("GET", f"{API}/list"),
    ("DELETE", f"{API}/file_1"),
]


@asynccontextmanager
async def open_desk(sandbox: Sandbox, clock: Clock) -> AsyncGenerator[Desk]:
    headers = {"authorization": "Bearer sk-sandbox"}
    transport = httpx.ASGITransport(app=sandbox.app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL, headers=headers) as http:
        yield Desk(sandbox, clock, http)


def data_of(answer: httpx.Response) -> Body:
    body = answer.json()
    assert answer.status_code == 200, body
    assert (body["success"], body["code"]) == (True, 200), body
    return cast("Body", body["data"])


def refusal_of(answer: httpx.Response) -> tuple[int, int, str]:
    body = answer.json()
    assert set(body) == {"success", "code", "msg"}
    assert body["success"] is False
    return answer.status_code, body["code"], body["msg"]


async def upload(desk: Desk, content: bytes = PICTURE, /, **fields: str) -> Body:
    return data_of(await desk.http.post(STREAM, files={"file": ("a.png", content)}, data=fields))


async def file_at(desk: Desk, url: object) -> httpx.Response:
    return await desk.http.get(str(url), headers={"authorization": ""})


async def used_files(desk: Desk) -> object:
    return data_of(await desk.http.get(f"{API}/quota"))["used_files"]


async def test_a_streamed_file_is_answered_as_documented(desk: Desk) -> None:
    answer = await desk.http.post(STREAM, files=PHOTO)
    body = answer.json()
    content = body.pop("data")
    url = content.pop("file_url")
    assert body == {"success": True, "code": 200, "msg": "File uploaded successfully"}
    assert re.fullmatch(r"file_[0-9a-f]{16}", content.pop("file_id"))
    name = content.pop("file_name")
    assert re.fullmatch(r"[0-9a-f]{16}\.png", name)
    assert re.fullmatch(rf"{BASE_URL}/files/uploads/[0-9a-f]{{32}}/{name}", url)
    assert content == {
        "original_name": "photo.png",
        "file_size": len(PICTURE),
        "mime_type": "image/png",
        "upload_path": "images",
        "download_url": url,
        "upload_time": "2023-11-14T22:13:20+00:00",
        "expires_at": "2023-11-17T22:13:20+00:00",
    }


async def test_an_upload_has_the_host_that_was_asked(desk: Desk) -> None:
    answer = await desk.http.post(STREAM, files=PHOTO, headers={"host": "127.0.0.1:8123"})
    assert str(data_of(answer)["file_url"]).startswith("https://127.0.0.1:8123/files/uploads/")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP"])
async def test_all_four_types_are_taken_and_served_as_what_they_are(desk: Desk, form: str) -> None:
    content = picture(form)
    answer = await desk.http.post(STREAM, files={"file": ("x.txt", content, "text/plain")})
    stored = data_of(answer)
    file = await file_at(desk, stored["file_url"])
    assert file.content == content
    assert file.headers["content-type"] == stored["mime_type"] == f"image/{form.lower()}"


def heic(brand: bytes) -> bytes:
    return b"\x00\x00\x00\x18ftyp" + brand + bytes(100)


@pytest.mark.parametrize(
    "content",
    [heic(b"heic"), heic(b"avif"), picture("BMP"), picture("TIFF"), b"<html>", b"", b"\x89PNG"],
    ids=["heic", "avif", "bmp", "tiff", "page", "empty", "short"],
)
async def test_other_types_are_refused_whatever_they_are_called(desk: Desk, content: bytes) -> None:
    answer = await desk.http.post(STREAM, files={"file": ("a.png", content, "image/png")})
    status, code, message = refusal_of(answer)
    assert (status, code) == (200, 40002)
    assert message.endswith("not supported: image/jpeg, image/png, image/gif, image/webp only.")


@pytest.mark.parametrize(("method", "path"), EVERY_CALL)
@pytest.mark.parametrize("header", ["", "Bearer sk-wrong", "Basic sk-sandbox", "sk-sandbox"])
async def test_without_the_right_key_nothing_is_answered(
    desk: Desk, method: str, path: str, header: str
) -> None:
    answer = await desk.http.request(method, path, headers={"authorization": header})
    assert refusal_of(answer) == (401, 401, "The API key is missing or not valid.")


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,", "DATA:;base64,"])
async def test_a_file_in_base64_is_taken_as_a_data_url_or_bare(desk: Desk, prefix: str) -> None:
    text = prefix + b64encode(PICTURE).decode()
    stored = data_of(await desk.http.post(BASE64, json={"base64_data": text}))
    assert (await file_at(desk, stored["file_url"])).content == PICTURE
    assert stored["original_name"] == stored["file_name"]


@pytest.mark.parametrize("text", ["*", "abc", "data:image/png,abcd", "\u00e9", "AA==\n"])
async def test_what_is_no_base64_is_refused(desk: Desk, text: str) -> None:
    answer = await desk.http.post(BASE64, json={"base64_data": text})
    assert refusal_of(answer) == (400, 400, "base64_data is not base64.")


@pytest.mark.parametrize("path", [BASE64, URL])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "The body is not JSON."),
        (b"{", "The body is not JSON."),
        (b"\xff", "The body is not JSON."),
        (b"[" * 100_000, "The body is not JSON."),
        (b"[]", "The body has to be a JSON object."),
        (b"null", "The body has to be a JSON object."),
    ],
    ids=["empty", "cut", "binary", "deep", "list", "null"],
)
async def test_a_body_that_is_no_object_is_refused(
    desk: Desk, path: str, content: bytes, message: str
) -> None:
    answer = await desk.http.post(path, content=content)
    assert refusal_of(answer) == (400, 400, message)


async def test_a_field_of_another_type_counts_as_absent(desk: Desk) -> None:
    answer = await desk.http.post(BASE64, json={"base64_data": 17})
    assert refusal_of(answer)[1] == 40002
    text = b64encode(PICTURE).decode()
    answer = await desk.http.post(BASE64, json={"base64_data": text, "file_name": ["a"]})
    assert data_of(answer)["upload_path"] == "images"


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"{}", "application/json", "The body has to be multipart/form-data."),
        (b"", "multipart/form-data", "Missing boundary in multipart."),
        (b"none", "multipart/form-data; boundary=x", "Invalid multipart data."),
        (b"--x--\r\n", "multipart/form-data; boundary=x", "The form has no file named file."),
    ],
)
async def test_a_form_that_cannot_be_read_is_refused(
    desk: Desk, content: bytes, kind: str, message: str
) -> None:
    answer = await desk.http.post(STREAM, content=content, headers={"content-type": kind})
    assert refusal_of(answer) == (400, 400, message)


async def test_a_body_without_a_type_is_no_form(desk: Desk) -> None:
    assert refusal_of(await desk.http.post(STREAM))[:2] == (400, 400)


async def test_a_text_in_place_of_the_file_is_refused(desk: Desk) -> None:
    answer = await desk.http.post(STREAM, data={"file": "text"}, files={"other": PICTURE})
    assert refusal_of(answer) == (400, 400, "The form has no file named file.")


async def test_one_file_is_taken_a_request(desk: Desk) -> None:
    two = [("file", ("a.png", PICTURE)), ("file", ("b.png", PICTURE))]
    answer = await desk.http.post(STREAM, files=two)
    assert refusal_of(answer)[:2] == (400, 400)
    assert await used_files(desk) == 0


def test_a_file_may_have_ninety_five_mebibytes() -> None:
    assert uploads.SIZE_LIMIT == 99_614_720


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(uploads, "SIZE_LIMIT", 3_000_000)
    return 3_000_000


@pytest.mark.parametrize(("extra", "code"), [(0, 200), (1, 40001), (1_100_000, 40001)])
async def test_a_file_of_the_limit_is_taken_and_a_larger_one_refused(
    desk: Desk, small_limit: int, extra: int, code: int
) -> None:
    content = PICTURE + bytes(small_limit - len(PICTURE) + extra)
    sent = [
        await desk.http.post(STREAM, files={"file": ("a.png", content)}),
        await desk.http.post(BASE64, json={"base64_data": b64encode(content).decode()}),
        await desk.http.post(URL, json={"file_url": BASE_URL + desk.sandbox.publish(content, "a")}),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in sent] == [(200, code)] * 3


async def test_a_body_without_end_is_not_read_to_its_end(desk: Desk, small_limit: int) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 100_000
            yield bytes(100_000)

    answer = await desk.http.post(BASE64, content=endless())
    assert refusal_of(answer) == (200, 40001, "The file has more than 3000000 bytes.")
    assert sent < 2 * small_limit


@pytest.mark.parametrize(
    "names",
    [
        {"upload_path": "/photos/2024/", "file_name": "a fox.png"},
        {"uploadPath": "photos/2024", "fileName": "album/a fox.png"},
        {"upload_path": "photos/2024", "file_name": "C:\\album\\a fox.png"},
    ],
)
async def test_a_name_and_a_path_may_be_given_in_both_spellings(
    desk: Desk, names: dict[str, str]
) -> None:
    in_json = {"base64_data": b64encode(PICTURE).decode(), **names}
    for stored in (
        await upload(desk, **names),
        data_of(await desk.http.post(BASE64, json=in_json)),
    ):
        assert (stored["upload_path"], stored["file_name"]) == ("photos/2024", "a fox.png")
        assert str(stored["file_url"]).endswith("/a%20fox.png")
        assert (await file_at(desk, stored["file_url"])).content == PICTURE


@pytest.mark.parametrize("name", ["", ".", "..", "../..", "/", "..\\"])
async def test_a_name_that_is_none_is_replaced(desk: Desk, name: str) -> None:
    stored = await upload(desk, file_name=name)
    assert re.fullmatch(r"[0-9a-f]{16}\.png", str(stored["file_name"]))


@pytest.mark.parametrize(
    "name", ["\u05e9?#.png", "x" * 1000 + ".png", '"quoted".png', "half\ud83e"]
)
async def test_a_file_may_have_any_name(desk: Desk, name: str) -> None:
    fields = {"base64_data": b64encode(PICTURE).decode(), "file_name": name, "upload_path": name}
    answer = await desk.http.post(BASE64, content=json.dumps(fields))
    assert (await file_at(desk, data_of(answer)["file_url"])).content == PICTURE


async def test_the_same_name_in_the_same_path_overwrites(desk: Desk) -> None:
    first = await upload(desk, file_name="a.png", upload_path="x")
    desk.clock.now += DAY
    newer = picture("JPEG")
    second = await upload(desk, newer, file_name="a.png", upload_path="x")
    assert second["file_url"] == first["file_url"]
    assert second["file_id"] != first["file_id"]
    assert second["expires_at"] == "2023-11-18T22:13:20+00:00"
    file = await file_at(desk, first["file_url"])
    assert (file.content, file.headers["content-type"]) == (newer, "image/jpeg")
    assert await used_files(desk) == 1


async def test_the_same_name_elsewhere_is_another_file(desk: Desk) -> None:
    stored = [
        await upload(desk, file_name="a.png", upload_path="x"),
        await upload(desk, file_name="a.png", upload_path="y"),
        await upload(desk, file_name="a.png"),
        await upload(desk),
        await upload(desk),
    ]
    assert len({str(one["file_url"]) for one in stored}) == await used_files(desk) == 5


async def test_an_upload_lives_three_days(desk: Desk) -> None:
    stored = await upload(desk, file_name="a.png")
    desk.clock.now += 3 * DAY - 1
    assert (await file_at(desk, stored["file_url"])).status_code == 200
    assert await used_files(desk) == 1
    desk.clock.now += 1
    assert (await file_at(desk, stored["file_url"])).status_code == 403
    assert await used_files(desk) == 0
    answer = await desk.http.delete(f"{API}/{stored['file_id']}")
    assert refusal_of(answer) == (404, 404, "There is no such file, or it has expired.")
    again = await upload(desk, file_name="a.png")
    assert again["file_url"] != stored["file_url"]


async def test_the_quota_counts_what_is_stored(clock: Clock) -> None:
    async with open_desk(Sandbox(now=clock, file_quota=2), clock) as desk:
        await upload(desk, file_name="a.png")
        assert (await desk.http.get(f"{API}/quota")).json() == {
            "success": True,
            "code": 200,
            "msg": "Query successful",
            "data": {
                "user_group": "default",
                "used_files": 1,
                "max_files": 2,
                "remain_files": 1,
                "is_custom": False,
                "quota_reason": "",
            },
        }
        desk.clock.now += DAY
        await upload(desk)
        answer = await desk.http.post(STREAM, files=PHOTO)
        assert refusal_of(answer) == (200, 40003, "The quota of 2 files is used up.")
        await upload(desk, file_name="a.png")
        desk.clock.now += 3 * DAY - 1
        assert refusal_of(await desk.http.post(STREAM, files=PHOTO))[1] == 40003
        desk.clock.now += 1
        await upload(desk)


async def test_an_account_may_store_two_thousand_files(desk: Desk) -> None:
    assert data_of(await desk.http.get(f"{API}/quota"))["max_files"] == 2000


async def test_the_list_shows_the_newest_first_a_page_at_a_time(desk: Desk) -> None:
    for number in range(5):
        await upload(desk, file_name=f"{number}.png")
        desk.clock.now += 1

    async def names(query: str) -> list[str]:
        listed = data_of(await desk.http.get(f"{API}/list{query}"))
        assert listed["total"] == 5
        return [file["file_name"] for file in cast("list[dict[str, str]]", listed["files"])]

    assert await names("") == ["4.png", "3.png", "2.png", "1.png", "0.png"]
    assert await names("?page=1&pageSize=2") == ["4.png", "3.png"]
    assert await names("?page=3&pageSize=2") == ["0.png"]
    assert await names("?page=4&pageSize=2") == []
    assert await names("?pageSize=100") == ["4.png", "3.png", "2.png", "1.png", "0.png"]


async def test_the_list_says_of_a_file_what_vendors_read(desk: Desk) -> None:
    stored = await upload(desk)
    listed = data_of(await desk.http.get(f"{API}/list"))
    names = ("file_id", "file_name", "file_size", "upload_time")
    assert listed == {"total": 1, "files": [{name: stored[name] for name in names}]}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("page=0", "page"),
        ("page=-1", "page"),
        ("page=two", "page"),
        ("page=", "page"),
        ("page=\u0661", "page"),
        ("page=" + "9" * 5000, "page"),
        ("pageSize=0", "pageSize"),
        ("pageSize=101", "pageSize"),
    ],
)
async def test_a_page_that_cannot_be_is_refused(desk: Desk, query: str, field: str) -> None:
    answer = await desk.http.get(f"{API}/list?{query}")
    status, code, message = refusal_of(answer)
    assert (status, code) == (400, 400)
    assert message.startswith(f"{field} has to be a number from 1 to ")


async def test_a_deleted_file_is_gone(desk: Desk) -> None:
    kept, stored = await upload(desk), await upload(desk)
    answer = await desk.http.delete(f"{API}/{stored['file_id']}")
    assert data_of(answer) == {"file_id": stored["file_id"]}
    assert (await file_at(desk, stored["file_url"])).status_code == 404
    assert (await file_at(desk, kept["file_url"])).status_code == 200
    assert await used_files(desk) == 1
    again = await desk.http.delete(f"{API}/{stored['file_id']}")
    assert refusal_of(again) == (404, 404, "There is no such file, or it has expired.")


class Elsewhere(httpx.AsyncBaseTransport):
    """Another server: a picture at one path, nothing at the others."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        found = request.url.path == "/a photo.png"
        return httpx.Response(200, content=PICTURE) if found else httpx.Response(404)


@pytest.fixture
def elsewhere() -> Elsewhere:
    return Elsewhere()


@pytest.fixture
async def connected(clock: Clock, elsewhere: Elsewhere) -> AsyncIterator[Desk]:
    sandbox = Sandbox(now=clock, sleep=clock.sleep, callback_transport=elsewhere)
    async with open_desk(sandbox, clock) as desk:
        yield desk


async def test_a_public_file_is_fetched(connected: Desk, elsewhere: Elsewhere) -> None:
    link = "https://pictures.example/a%20photo.png?sign=x"
    stored = data_of(await connected.http.post(URL, json={"file_url": link}))
    assert (await file_at(connected, stored["file_url"])).content == PICTURE
    assert stored["original_name"] == "a photo.png"
    assert elsewhere.asked == ["/a photo.png"]


async def test_a_file_of_the_sandbox_itself_is_fetched(
    connected: Desk, elsewhere: Elsewhere
) -> None:
    (link,) = urls_of(await connected.outcome())
    stored = data_of(await connected.http.post(URL, json={"file_url": link, "file_name": "x"}))
    assert stored["file_name"] == "x"
    assert stored["original_name"] == "1.png"
    assert not elsewhere.asked


@pytest.mark.parametrize(
    ("link", "reason", "asked"),
    [
        ("https://pictures.example/gone.png", "its address answered 404", 1),
        (f"{BASE_URL}/files/gone.png", "its address answered 404", 0),
        ("http://127.0.0.1:9/a.png", "it is not at a public address", 0),
        ("http://169.254.169.254/latest", "it is not at a public address", 0),
        ("http://router.local/a.png", "it is not at a public address", 0),
        ("https://", "it is not at a public address", 0),
    ],
)
async def test_a_source_that_cannot_be_fetched_is_refused(
    connected: Desk, elsewhere: Elsewhere, link: str, reason: str, *, asked: int
) -> None:
    answer = await connected.http.post(URL, json={"file_url": link})
    assert refusal_of(answer) == (200, 40004, f"Cannot get the file: {reason}.")
    assert len(elsewhere.asked) == asked


@pytest.mark.parametrize("link", [None, "", "ftp://pictures.example/a.png", "photo.png", 17])
async def test_an_address_that_is_not_of_the_web_is_refused(desk: Desk, link: object) -> None:
    answer = await desk.http.post(URL, json={"file_url": link})
    assert refusal_of(answer) == (400, 400, "file_url has to be an http or https address.")


async def test_an_upload_can_be_edited(desk: Desk) -> None:
    big = Image.new("RGB", (64, 64), "teal")
    stream = BytesIO()
    big.save(stream, "PNG")
    stored = await upload(desk, stream.getvalue())
    body = await desk.outcome(image_urls=[stored["file_url"]])
    assert body["status"] == "completed"


async def test_every_call_counts_as_one_path(desk: Desk) -> None:
    for method, path in EVERY_CALL:
        await desk.http.request(method, path)
    assert desk.sandbox.requests == {
        "POST /api/v1/files": 3,
        "GET /api/v1/files": 2,
        "DELETE /api/v1/files": 1,
    }


async def test_a_client_that_hangs_up_while_sending_stores_nothing(desk: Desk) -> None:
    sent: list[Message] = []
    incoming: list[Message] = [
        {"type": "http.request", "body": b'--x\r\nContent-Disposition: form-data; name="file"'},
        {"type": "http.disconnect"},
    ]
    incoming[0]["more_body"] = True

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    kind = (b"content-type", b"multipart/form-data; boundary=x")
    scope = {
        "type": "http",
        "method": "POST",
        "path": STREAM,
        "headers": [(b"authorization", b"Bearer sk-sandbox"), kind],
        "query_string": b"",
    }
    await desk.sandbox.app(scope, receive, send)
    assert sent[0]["status"] == 400
    assert await used_files(desk) == 0


async def test_the_front_page_names_the_calls(desk: Desk) -> None:
    page = (await desk.http.get("/")).text
    for words in (f"POST {API}/upload/stream", f"GET  {API}/quota", f"DELETE {API}/FILE_ID"):
        assert words in page
