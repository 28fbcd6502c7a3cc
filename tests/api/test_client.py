from __future__ import annotations

import gzip
import ssl
from collections.abc import Iterator
from contextlib import suppress

import anyio
import anyio.abc
import httpx2 as httpx
import pytest

import evolink_mcp.api.client as client_module
import evolink_mcp.api.egress as egress_module
from evolink_mcp.api.client import MAX_ANSWER_BYTES, connect, translated
from evolink_mcp.api.network import Network
from evolink_mcp.api.wire import TaskId, read_task_id
from evolink_mcp.errors import (
    AnswerLost,
    AnswerUnreadable,
    KeyRejected,
    NeverSent,
    NoUsableAnswer,
    RateLimited,
    RefusedByEvolink,
    RequestRejected,
    ServiceFailed,
)
from evolink_mcp.sandbox import Sandbox, serve
from evolink_mcp.sandbox.refusals import QUERY_REASONS, SUBMIT_REASONS
from tests.api.wires import (
    JOB,
    KEY,
    TASK,
    Pieces,
    answering,
    api_over,
    http_answer,
    listening,
    port_of,
    wanted,
)
from tests.sandbox.desk import Clock

A_TASK = read_task_id("task-unified-1")
POSTS, GETS = "POST /v1/images/generations", "GET /v1/tasks"

NEVER_SENT = {
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
    egress_module.InnerAddressRefused,
}
MAYBE_SENT = {
    httpx.HTTPError,
    httpx.RequestError,
    httpx.TransportError,
    httpx.TimeoutException,
    httpx.ReadTimeout,
    httpx.WriteTimeout,
    httpx.NetworkError,
    httpx.ReadError,
    httpx.WriteError,
    httpx.CloseError,
    httpx.ProtocolError,
    httpx.RemoteProtocolError,
    httpx.TooManyRedirects,
    httpx.SSEError,
    httpx.HTTPStatusError,
}


def family(kind: type[httpx.HTTPError]) -> Iterator[type[httpx.HTTPError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from family(child)


FAMILY = sorted(set(family(httpx.HTTPError)), key=str)


def made(kind: type[httpx.HTTPError]) -> httpx.HTTPError:
    if issubclass(kind, httpx.HTTPStatusError):
        request = httpx.Request("GET", "https://api.evolink.ai")
        return kind("secret detail", request=request, response=httpx.Response(500))
    return kind("secret detail")


def test_every_failure_of_the_http_library_is_known_as_never_sent_or_maybe_sent() -> None:
    assert set(FAMILY) == NEVER_SENT | MAYBE_SENT | {httpx.DecodingError}


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.__name__) for kind in FAMILY])
def test_every_failure_of_the_http_library_is_translated(kind: type[httpx.HTTPError]) -> None:
    error = translated(made(kind))
    unreadable = AnswerUnreadable if kind is httpx.DecodingError else AnswerLost
    assert type(error) is (NeverSent if kind in NEVER_SENT else unreadable)
    assert error.next_step
    assert "secret" not in error.message


@pytest.mark.parametrize("error", [TimeoutError(), ssl.SSLError("bad record"), OSError()])
def test_our_own_time_limit_and_broken_tls_lose_the_answer(error: OSError) -> None:
    assert type(translated(error)) is AnswerLost


async def test_a_purchase_and_a_reading_carry_what_evolink_needs() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=TASK)

    async with api_over(httpx.MockTransport(answer), base_url="https://proxy.test/evolink") as api:
        await api.submit(wanted(), idempotency_key=JOB)
        await api.task(A_TASK)
    purchase, reading = seen
    assert str(purchase.url) == "https://proxy.test/evolink/v1/images/generations"
    assert purchase.content == b'{"model":"gpt-4o-image","prompt":"a fox"}'
    assert purchase.headers["idempotency-key"] == JOB
    assert str(reading.url) == "https://proxy.test/evolink/v1/tasks/task-unified-1"
    assert "idempotency-key" not in reading.headers
    for request in seen:
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["user-agent"].startswith("evolink-mcp/")
        assert request.headers["accept"] == "application/json"
        limits = request.extensions["timeout"]
        assert set(limits) == {"connect", "read", "write", "pool"}
        assert all(0 < limit <= 40 for limit in limits.values())


async def test_a_task_is_bought_and_read() -> None:
    sandbox = Sandbox()
    async with api_over(httpx.ASGITransport(app=sandbox.app)) as api:
        task = await api.submit(wanted(), idempotency_key=JOB)
        again = await api.task(task.task_id)
    assert sandbox.tasks[task.id].idempotency_key == JOB
    assert (task.status, task.credits_reserved, task.estimated_seconds) == ("pending", 2.5, 45.0)
    assert (again.id, again.status, again.credits_reserved) == (task.id, "pending", None)


@pytest.mark.parametrize("status", SUBMIT_REASONS)
async def test_a_refused_purchase_is_never_repeated_here(status: int) -> None:
    sandbox, clock = Sandbox(), Clock()
    async with api_over(httpx.ASGITransport(app=sandbox.app), clock=clock) as api:
        with pytest.raises(RefusedByEvolink) as caught:
            await api.submit(wanted(f"[http:{status}]"), idempotency_key=JOB)
    assert (caught.value.status, caught.value.upstream_code) == (
        status,
        SUBMIT_REASONS[status].code,
    )
    assert sandbox.requests == {POSTS: 1}
    assert clock.slept == []


@pytest.mark.parametrize("status", QUERY_REASONS)
async def test_a_refused_reading_is_repeated_where_that_may_help(status: int) -> None:
    sandbox = Sandbox()
    async with api_over(httpx.ASGITransport(app=sandbox.app)) as api:
        task = await api.submit(wanted(f"[poll:{status}x2]"), idempotency_key=JOB)
        if status == 429 or status >= 500:
            assert (await api.task(task.task_id)).id == task.id
            assert sandbox.requests[GETS] == 3
        else:
            with pytest.raises(RefusedByEvolink):
                await api.task(task.task_id)
            assert sandbox.requests[GETS] == 1


@pytest.mark.parametrize(
    ("fault", "readings", "slept", "error"),
    [
        ("[poll:500x2]", 3, [0.5, 1.0], None),
        ("[pollhtml:502x2]", 3, [0.5, 1.0], None),
        ("[poll:429x2+7]", 3, [7.0, 7.0], None),
        ("[poll:429+30]", 2, [30.0], None),
        ("[poll:500x3]", 3, [0.5, 1.0], ServiceFailed),
        ("[poll:429+31]", 1, [], RateLimited),
        ("[poll:503+3600]", 1, [], ServiceFailed),
    ],
)
async def test_a_reading_is_repeated_as_evolink_asks(
    fault: str, readings: int, slept: list[float], error: type[Exception] | None
) -> None:
    sandbox, clock = Sandbox(), Clock()
    async with api_over(httpx.ASGITransport(app=sandbox.app), clock=clock) as api:
        task = await api.submit(wanted(fault), idempotency_key=JOB)
        if error:
            with pytest.raises(error):
                await api.task(task.task_id)
        else:
            await api.task(task.task_id)
    assert (sandbox.requests[GETS], clock.slept) == (readings, slept)


async def test_a_wrong_key_is_told_at_once() -> None:
    sandbox = Sandbox(key="sk-another")
    async with api_over(httpx.ASGITransport(app=sandbox.app)) as api:
        with pytest.raises(KeyRejected):
            await api.submit(wanted(), idempotency_key=JOB)
        with pytest.raises(KeyRejected):
            await api.task(A_TASK)
    assert sandbox.requests == {POSTS: 1, GETS: 1}


@pytest.mark.parametrize(
    ("content", "status", "error"),
    [
        (b"<html>login</html>", 200, AnswerUnreadable),
        (b"", 200, AnswerUnreadable),
        (b"[]", 200, AnswerUnreadable),
        (b"", 204, AnswerUnreadable),
        (b'{"error": null, "data": {"id": "task-unified-1"}}', 200, AnswerUnreadable),
        (b"x" * (MAX_ANSWER_BYTES + 1), 200, AnswerUnreadable),
        (b"x" * (MAX_ANSWER_BYTES + 1), 502, AnswerUnreadable),
        (b'{"success": false, "code": 40001, "msg": "no"}', 200, RequestRejected),
        (b'{"error": {"code": "internal_error"}}', 200, ServiceFailed),
    ],
)
async def test_an_answer_that_is_no_task(
    content: bytes, status: int, error: type[Exception]
) -> None:
    async with api_over(answering(content, status=status)) as api:
        with pytest.raises(error):
            await api.submit(wanted(), idempotency_key=JOB)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 304])
async def test_no_redirect_is_followed_with_a_key(status: int) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.host)
        return httpx.Response(status, headers={"location": "https://elsewhere.example/"})

    async with api_over(httpx.MockTransport(answer)) as api:
        with pytest.raises(AnswerUnreadable, match=f"HTTP {status}"):
            await api.submit(wanted(), idempotency_key=JOB)
        with pytest.raises(AnswerUnreadable):
            await api.task(A_TASK)
    assert set(seen) == {"sandbox.test"}


async def test_an_answer_about_another_task_is_not_taken() -> None:
    async with api_over(answering()) as api:
        with pytest.raises(AnswerUnreadable, match="another task"):
            await api.task(TaskId("task-unified-2"))


async def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    body = Pieces([b" " * 50_000], repeated=True)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=body))
    async with api_over(transport) as api:
        with anyio.fail_after(5), pytest.raises(AnswerUnreadable, match="too long"):
            await api.submit(wanted(), idempotency_key=JOB)
    assert body.taken == 21


async def test_an_answer_that_trickles_for_ever_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "TOTAL_TIMEOUT", 0.05)
    body = Pieces([b""], repeated=True)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=body))
    async with api_over(transport) as api:
        with anyio.fail_after(5), pytest.raises(AnswerLost):
            await api.submit(wanted(), idempotency_key=JOB)


async def test_a_compressed_answer_is_read_and_a_bomb_is_not() -> None:
    zipped = {"content-encoding": "gzip"}
    async with api_over(answering(gzip.compress(TASK), headers=zipped)) as api:
        assert (await api.submit(wanted(), idempotency_key=JOB)).id == A_TASK
    bomb = gzip.compress(b" " * 50 * MAX_ANSWER_BYTES)
    async with api_over(answering(bomb, headers=zipped)) as api:
        with pytest.raises(AnswerUnreadable, match="too long"):
            await api.submit(wanted(), idempotency_key=JOB)
    async with api_over(answering(b"no gzip", headers=zipped)) as api:
        with pytest.raises(AnswerUnreadable, match="encoding"):
            await api.submit(wanted(), idempotency_key=JOB)


async def test_a_task_is_bought_over_a_real_socket() -> None:
    async with serve(Sandbox()) as url, api_over(None, base_url=url) as api:
        with anyio.fail_after(10):
            tasks = [await api.submit(wanted(), idempotency_key=JOB) for _ in range(2)]
            assert (await api.task(tasks[0].task_id)).id == tasks[0].id


async def test_a_purchase_whose_answer_is_cut_off_may_have_been_taken() -> None:
    sandbox = Sandbox()
    async with serve(sandbox) as url, api_over(None, base_url=url) as api:
        with anyio.fail_after(10), pytest.raises(AnswerLost):
            await api.submit(wanted("[cut-after-accept]"), idempotency_key=JOB)
    assert len(sandbox.tasks) == 1


async def test_each_purchase_has_a_connection_of_its_own() -> None:
    """The server promises to keep its connections, and hangs up at the second request."""

    async def answer_once(stream: anyio.abc.ByteStream) -> None:
        await stream.send(http_answer(TASK))
        with suppress(anyio.EndOfStream):
            await stream.receive()

    async with listening(answer_once) as server, api_over(None, base_url=server.url) as api:
        with anyio.fail_after(10):
            for _ in range(3):
                assert (await api.submit(wanted(), idempotency_key=JOB)).id == A_TASK
    assert server.count == 3


async def test_readings_share_a_connection_and_survive_its_end() -> None:
    """The server answers two readings on a connection and closes it at the third."""

    async def answer_twice(stream: anyio.abc.ByteStream) -> None:
        await stream.send(http_answer(TASK))
        await stream.receive()
        await stream.send(http_answer(TASK))
        await stream.receive()

    async with listening(answer_twice) as server, api_over(None, base_url=server.url) as api:
        with anyio.fail_after(10):
            for _ in range(3):
                assert (await api.task(A_TASK)).id == A_TASK
    assert server.count == 2


async def test_a_server_that_is_not_there_was_never_sent_anything() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = port_of(listener)
    async with api_over(None, base_url=f"http://127.0.0.1:{port}") as api:
        with anyio.fail_after(10), pytest.raises(NeverSent):
            await api.submit(wanted(), idempotency_key=JOB)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9\r\n", http_answer(TASK, length=999)])
async def test_a_server_that_hangs_up_loses_the_answer(answer: bytes) -> None:
    async def hang_up(stream: anyio.abc.ByteStream) -> None:
        await stream.send(answer)

    async with listening(hang_up) as server, api_over(None, base_url=server.url) as api:
        with anyio.fail_after(10), pytest.raises(NoUsableAnswer) as caught:
            await api.submit(wanted(), idempotency_key=JOB)
    assert type(caught.value) is AnswerLost
    assert server.count == 1


async def test_the_key_stays_out_of_what_a_failure_says() -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(str(request.headers), request=request)

    network = Network(transport=httpx.MockTransport(fail))
    async with connect("https://api.evolink.ai", key="sk-very-secret", network=network) as api:
        with pytest.raises(NeverSent) as caught:
            await api.submit(wanted(), idempotency_key=JOB)
    assert "secret" not in caught.value.message + caught.value.next_step + repr(api)
