from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import anyio
import httpx2 as httpx
import pydantic
import pytest

import evolink_mcp.api.files as files_module
from evolink_mcp.api.client import MAX_ANSWER_BYTES
from evolink_mcp.api.files import FileQuota, FilesApi, Uploaded, connect_files
from evolink_mcp.api.network import Network
from evolink_mcp.errors import (
    AccessDenied,
    AnswerLost,
    AnswerUnreadable,
    CreditExhausted,
    EvolinkError,
    FileQuotaReached,
    KeyRejected,
    NeverSent,
    RateLimited,
    RefusedByEvolink,
    RequestRejected,
    ServiceFailed,
)
from evolink_mcp.sandbox import Sandbox, serve, uploads
from tests.api.wires import KEY, Pieces, answering, port_of
from tests.sandbox.desk import BASE_URL, DAY, Clock, picture

CALLS = "POST /api/v1/files"
FILES_URL = "https://files-api.test"
LINK = "https://files.test/1.png"


@asynccontextmanager
async def files_over(
    transport: httpx.AsyncBaseTransport | None,
    *,
    clock: Clock | None = None,
    url: str = BASE_URL,
    key: str = KEY,
) -> AsyncGenerator[FilesApi]:
    """Open the Files API; pauses pass at once."""
    network = Network(transport=transport, tls=False, sleep=(clock or Clock()).sleep)
    async with connect_files(url, key=key, network=network) as files:
        yield files


def to_sandbox(sandbox: Sandbox) -> httpx.ASGITransport:
    return httpx.ASGITransport(app=sandbox.app)


async def upload(files: FilesApi, content: bytes | None = None, name: str = "a.png") -> Uploaded:
    content = picture() if content is None else content
    return await files.upload(content, name=name, media_type="image/png")


def stored(**fields: object) -> bytes:
    return json.dumps({"success": True, "code": 200, "data": {"file_url": LINK, **fields}}).encode()


def refusing(code: object, *, status: int = 200, message: str = "So it is.") -> httpx.MockTransport:
    body = {"success": False, "code": code, "msg": message}
    return answering(json.dumps(body).encode(), status=status)


async def refusal_over(transport: httpx.AsyncBaseTransport) -> RefusedByEvolink:
    async with files_over(transport) as files:
        with pytest.raises(RefusedByEvolink) as caught:
            await upload(files)
    return caught.value


async def test_a_file_is_uploaded_and_everybody_can_read_it() -> None:
    clock = Clock()
    transport = to_sandbox(Sandbox(now=clock))
    content = picture("WEBP")
    async with files_over(transport) as files:
        uploaded = await upload(files, content, "fresh.webp")
    async with httpx.AsyncClient(transport=transport) as somebody:
        assert (await somebody.get(uploaded.url)).content == content
    assert uploaded.url.startswith(f"{BASE_URL}/files/uploads/")
    assert uploaded.file_id.startswith("file_")
    assert uploaded.size == len(content)
    assert uploaded.expires_at == datetime.fromtimestamp(clock.now + 3 * DAY, UTC)


async def test_a_large_file_is_uploaded_over_a_real_socket() -> None:
    content = picture() + bytes(3_000_000)
    with anyio.fail_after(20):
        async with serve(Sandbox()) as url, files_over(None, url=url) as files:
            uploaded = await upload(files, content)
            async with httpx.AsyncClient() as somebody:
                assert (await somebody.get(uploaded.url)).content == content
    assert uploaded.url.startswith(url)


async def test_an_upload_goes_to_the_host_of_files_with_the_key_and_a_form() -> None:
    seen: list[tuple[httpx.Request, bytes]] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request, await request.aread()))
        return httpx.Response(200, content=stored())

    async with files_over(httpx.MockTransport(answer), url=f"{FILES_URL}/proxy") as files:
        await files.upload(b"PICTURE", name="fresh.png", media_type="image/png")
        await files.quota()
    (sent, form), (question, nothing) = seen
    assert str(sent.url) == f"{FILES_URL}/proxy/api/v1/files/upload/stream"
    assert (question.method, str(question.url)) == ("GET", f"{FILES_URL}/proxy/api/v1/files/quota")
    assert sent.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b'name="file"; filename="fresh.png"\r\nContent-Type: image/png\r\n\r\nPICTURE' in form
    assert not nothing
    for request in (sent, question):
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["user-agent"].startswith("evolink-mcp/")
        assert request.headers["accept"] == "application/json"


async def test_the_quota_is_read() -> None:
    async with files_over(to_sandbox(Sandbox(file_quota=7))) as files:
        await upload(files)
        assert await files.quota() == FileQuota(used_files=1, max_files=7)


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({"used_files": 35, "max_files": 2000, "remain_files": 65}, (35, 2000)),
        ({"used_files": "35", "max_files": None}, (35, None)),
        ({"used_files": -1, "max_files": [1]}, (None, None)),
        ({}, (None, None)),
        ([], (None, None)),
    ],
)
async def test_a_quota_may_leave_things_out(
    fields: object, counts: tuple[int | None, int | None]
) -> None:
    async with files_over(answering(json.dumps({"data": fields}).encode())) as files:
        quota = await files.quota()
    assert (quota.used_files, quota.max_files) == counts


REFUSALS: list[tuple[int, type[EvolinkError], str]] = [
    (400, RequestRejected, "Change"),
    (401, KeyRejected, "EVOLINK_API_KEY"),
    (402, CreditExhausted, "top up"),
    (403, AccessDenied, "what this key is allowed"),
    (404, RequestRejected, "EVOLINK_FILES_URL"),
    (413, RequestRejected, "smaller picture"),
    (415, RequestRejected, "JPEG, PNG, GIF or WebP"),
    (429, RateLimited, "Wait"),
    (500, ServiceFailed, "minutes"),
    (40001, RequestRejected, "smaller picture"),
    (40002, RequestRejected, "JPEG, PNG, GIF or WebP"),
    (40003, FileQuotaReached, "72 hours"),
    (40004, RequestRejected, "Change"),
    (50001, ServiceFailed, "minutes"),
]


@pytest.mark.parametrize(("code", "kind", "words"), REFUSALS)
@pytest.mark.parametrize("always_ok", [True, False])
async def test_every_code_has_its_class_and_a_next_step(
    code: int, kind: type[EvolinkError], words: str, *, always_ok: bool
) -> None:
    status = int(str(code)[:3])
    error = await refusal_over(refusing(code, status=200 if always_ok else status))
    assert type(error) is kind
    assert (error.status, error.upstream_code, error.charged) == (status, str(code), "no")
    assert words in error.next_step
    assert error.message.endswith('EvoLink says: "So it is.".')


async def test_a_refusal_without_a_code_is_one_too() -> None:
    error = await refusal_over(answering(b'{"success": false, "msg": "no"}'))
    assert type(error) is RequestRejected


async def test_a_refusal_is_untrusted_text() -> None:
    error = await refusal_over(refusing(40002, message="Call\nme\x1b[31m sk-leaked-1234567890"))
    assert 'EvoLink says: "Call me [31m [redacted]"' in error.message


@pytest.mark.parametrize(
    ("content", "quota", "kind"),
    [
        (picture("BMP"), 9, RequestRejected),
        (b"", 9, RequestRejected),
        (picture(), 0, FileQuotaReached),
    ],
)
async def test_what_the_sandbox_refuses_is_not_tried_again(
    content: bytes, quota: int, kind: type[EvolinkError]
) -> None:
    sandbox = Sandbox(file_quota=quota)
    async with files_over(to_sandbox(sandbox)) as files:
        with pytest.raises(kind):
            await upload(files, content)
    assert sandbox.requests == {CALLS: 1}


async def test_a_file_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "SIZE_LIMIT", 100)
    async with files_over(to_sandbox(Sandbox())) as files:
        with pytest.raises(RequestRejected, match="too large") as caught:
            await upload(files, picture() + bytes(100))
    assert caught.value.upstream_code == "40001"


async def test_a_wrong_key_is_told_at_once() -> None:
    sandbox = Sandbox(key="sk-another")
    async with files_over(to_sandbox(sandbox)) as files:
        with pytest.raises(KeyRejected):
            await upload(files)
        with pytest.raises(KeyRejected):
            await files.quota()
    assert sandbox.requests == {CALLS: 1, "GET /api/v1/files": 1}


def failing_twice(fail: Callable[[], httpx.Response]) -> tuple[httpx.MockTransport, list[bytes]]:
    """Fail two requests, then store; keeps what it was sent."""
    bodies: list[bytes] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        bodies.append(body)
        return fail() if len(bodies) < 3 else httpx.Response(200, content=stored())

    return httpx.MockTransport(answer), bodies


def break_off() -> httpx.Response:
    message = "gone"
    raise httpx.ReadError(message)


@pytest.mark.parametrize(
    "fail",
    [
        break_off,
        lambda: httpx.Response(502, content=b"<html>"),
        lambda: httpx.Response(200, json={"success": False, "code": 50001, "msg": "storage"}),
        lambda: httpx.Response(200, json={"success": True, "data": {"file_url": None}}),
    ],
    ids=["broken", "gateway", "storage", "unreadable"],
)
async def test_an_upload_is_repeated_whole(fail: Callable[[], httpx.Response]) -> None:
    clock = Clock()
    transport, bodies = failing_twice(fail)
    async with files_over(transport, clock=clock) as files:
        assert (await files.upload(b"PICTURE", name="a.png", media_type="image/png")).url == LINK
    assert [b"PICTURE" in body for body in bodies] == [True, True, True]
    assert clock.slept == [0.5, 1.0]


async def test_a_host_that_is_not_there_was_never_sent_anything() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = port_of(listener)
    async with files_over(None, url=f"http://127.0.0.1:{port}") as files:
        with anyio.fail_after(10), pytest.raises(NeverSent) as caught:
            await upload(files)
    assert "EVOLINK_FILES_URL" in caught.value.next_step
    assert "EVOLINK_BASE_URL" not in caught.value.next_step


@pytest.mark.parametrize(
    ("url", "link"),
    [
        (FILES_URL, "https://files.evolink.ai/images/1.png"),
        (FILES_URL, "HTTPS://files.evolink.ai/1.png"),
        (FILES_URL, "https://files.evolink.ai/a%20b.png?sign=x"),
        ("http://127.0.0.1:8123", "http://127.0.0.1:8123/files/1.png"),
        ("http://localhost:8123", "http://localhost:8123/files/1.png"),
        ("http://[::1]:8123", "http://[::1]:8123/files/1.png"),
        ("http://127.0.0.1:8123", "https://files.evolink.ai/1.png"),
        ("http://127.0.0.1:8123", "http://127.0.0.1:8123/@1.png"),
        (FILES_URL, "https://files.evolink.ai/@1.png?to=a@b"),
    ],
)
async def test_an_address_at_https_or_at_the_sandbox_is_taken(url: str, link: str) -> None:
    async with files_over(answering(stored(file_url=link)), url=url) as files:
        assert (await upload(files)).url == link


@pytest.mark.parametrize(
    ("url", "link"),
    [
        (FILES_URL, "http://files.evolink.ai/1.png"),
        (FILES_URL, "http://files-api.test/1.png"),
        (FILES_URL, "http://127.0.0.1/1.png"),
        (FILES_URL, "file:///etc/passwd"),
        (FILES_URL, "//files.evolink.ai/1.png"),
        (FILES_URL, "/images/1.png"),
        (FILES_URL, "https://"),
        (FILES_URL, "https:///1.png"),
        (FILES_URL, "https://[::bad/1.png"),
        (FILES_URL, "https://files.evolink.ai@elsewhere.example/1.png"),
        (FILES_URL, "https://user:password@files.evolink.ai/1.png"),
        (FILES_URL, "https://@files.evolink.ai/1.png"),
        (FILES_URL, "https://127.0.0.1/1.png"),
        (FILES_URL, "https://10.0.0.1/1.png"),
        (FILES_URL, "https://0x7f.1/1.png"),
        (FILES_URL, "https://[::ffff:127.0.0.1]/1.png"),
        (FILES_URL, "https://169.254.169.254/latest/meta-data"),
        (FILES_URL, "https://localhost/1.png"),
        (FILES_URL, "https://files.internal/1.png"),
        (FILES_URL, "https://intranet/1.png"),
        ("http://127.0.0.1:8123", "http://user@127.0.0.1:8123/1.png"),
        ("http://127.0.0.1:8123", "https://127.0.0.1:8124/1.png"),
        ("https://10.0.0.1", "https://10.0.0.1/1.png"),
        (FILES_URL, "https://files.evolink.ai/" + "x" * 5000),
        (FILES_URL, ""),
        (FILES_URL, None),
        (FILES_URL, 17),
        (FILES_URL, [LINK]),
        ("http://127.0.0.1:8123", "http://127.0.0.1:8124/1.png"),
        ("http://127.0.0.1:8123", "http://10.0.0.1:8123/1.png"),
        ("http://10.0.0.1:8123", "http://10.0.0.1:8123/1.png"),
    ],
)
async def test_any_other_address_is_not_taken(url: str, link: object) -> None:
    async with files_over(answering(stored(file_url=link)), url=url) as files:
        with pytest.raises(AnswerUnreadable) as caught:
            await upload(files)
    assert "EVOLINK_FILES_URL" in caught.value.next_step


async def test_an_address_brings_no_lines_into_an_answer() -> None:
    async with files_over(answering(stored(file_url=f" {LINK}?\nNow call\u202e\n"))) as files:
        assert (await upload(files)).url == f"{LINK}?%0ANow%20call%E2%80%AE"


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>login</html>",
        b"",
        b"[]",
        b'{"success": true}',
        b'{"success": true, "data": []}',
        b'{"success": true, "data": {}}',
        b"x" * (MAX_ANSWER_BYTES + 1),
    ],
)
async def test_what_is_no_upload_is_unreadable(answer: bytes) -> None:
    async with files_over(answering(answer)) as files:
        with pytest.raises(AnswerUnreadable):
            await upload(files)


@pytest.mark.parametrize(
    ("field", "value", "attribute", "read"),
    [
        (
            "expires_at",
            "2025-10-12T00:00:00+08:00",
            "expires_at",
            datetime(2025, 10, 11, 16, tzinfo=UTC),
        ),
        ("expires_at", "2025-10-12T00:00:00Z", "expires_at", datetime(2025, 10, 12, tzinfo=UTC)),
        ("expires_at", "2025-10-12T00:00:00", "expires_at", None),
        ("expires_at", "in three days", "expires_at", None),
        ("expires_at", None, "expires_at", None),
        ("file_id", "file_1", "file_id", "file_1"),
        ("file_id", 17, "file_id", "17"),
        ("file_id", None, "file_id", ""),
        ("file_size", 2048, "size", 2048),
        ("file_size", "4096", "size", 4096),
        ("file_size", -1, "size", None),
        ("file_size", {}, "size", None),
    ],
)
async def test_a_field_of_another_type_is_read_or_counts_as_absent(
    field: str, value: object, attribute: str, read: object
) -> None:
    async with files_over(answering(stored(**{field: value}))) as files:
        assert getattr(await upload(files), attribute) == read


async def test_the_time_of_expiry_says_its_zone() -> None:
    async with files_over(to_sandbox(Sandbox())) as files:
        expires = (await upload(files)).expires_at
    assert expires is not None
    assert expires.utcoffset() == timedelta(0)


def test_an_upload_does_not_change() -> None:
    uploaded = Uploaded(url=LINK)
    assert (uploaded.expires_at, uploaded.file_id, uploaded.size) == (None, "", None)
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        uploaded.url = "https://elsewhere.test"  # type: ignore[misc]


async def test_no_redirect_is_followed_with_a_key() -> None:
    hosts: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        return httpx.Response(307, headers={"location": "https://elsewhere.example/"})

    async with files_over(httpx.MockTransport(answer)) as files:
        with pytest.raises(AnswerUnreadable):
            await upload(files)
    assert set(hosts) == {"sandbox.test"}


async def test_an_answer_that_trickles_for_ever_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "TOTAL_TIMEOUT", 0.05)
    transport = httpx.MockTransport(
        lambda _: httpx.Response(200, stream=Pieces([b""], repeated=True))
    )
    async with files_over(transport) as files:
        with anyio.fail_after(5), pytest.raises(AnswerLost):
            await upload(files)


async def test_nothing_of_a_file_is_logged_or_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with files_over(to_sandbox(Sandbox(key="sk-secret")), key="sk-secret") as files:
        uploaded = await upload(files, name="private.png")
    error = await refusal_over(refusing(40001))
    said = caplog.text + error.message + error.next_step
    for secret in ("sk-secret", "private", uploaded.url, uploaded.url.rpartition("/")[2]):
        assert secret not in said
