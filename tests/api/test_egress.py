from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager

import anyio
import httpx2 as httpx
import pytest

import evolink_mcp.api.egress as egress_module
from evolink_mcp.api.egress import MAX_REDIRECTS, Beginning, Downloads, open_downloads
from evolink_mcp.api.network import Network
from evolink_mcp.errors import FileUnavailable
from evolink_mcp.sandbox import Sandbox, serve
from tests.api.wires import Pieces
from tests.sandbox.desk import Clock, picture

PUBLIC = "93.184.216.34"
NAMES: Mapping[str, list[str]] = {
    "cdn.example.com": [PUBLIC],
    "six.example.com": ["2606:2800:220:1:248:1893:25c8:1946"],
    "xn--fa-hia.example": [PUBLIC],
    "one-inside.example.com": [PUBLIC, "10.0.0.7"],
    "inside.example.com": ["192.168.1.1"],
    "loop.example.com": ["127.0.0.1"],
    "loop6.example.com": ["::1"],
    "mapped.example.com": ["::ffff:127.0.0.1"],
    "metadata.example.com": ["169.254.169.254"],
    "nowhere.example.com": [],
}
URL = "https://cdn.example.com/1.png"
LIMIT = 1_000_000

Respond = Callable[[httpx.Request], httpx.Response]


class Web:
    """The outer network: answers of `respond`, and a record of names and requests."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.requests: list[httpx.Request] = []
        self.resolved: list[tuple[str, int]] = []
        self.clock = Clock()

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.respond(request)

    async def resolve(self, host: str, port: int) -> list[str]:
        self.resolved.append((host, port))
        return NAMES[host]

    @asynccontextmanager
    async def downloads(
        self, base_url: str = "https://api.evolink.ai"
    ) -> AsyncGenerator[Downloads]:
        network = Network(
            transport=httpx.MockTransport(self.answer),
            resolve=self.resolve,
            sleep=self.clock.sleep,
        )
        async with open_downloads(base_url, network) as downloads:
            yield downloads

    async def failure(
        self, url: str = URL, *, base_url: str = "https://api.evolink.ai"
    ) -> FileUnavailable:
        async with self.downloads(base_url) as downloads:
            with anyio.fail_after(5), pytest.raises(FileUnavailable) as caught:
                await downloads.read(url, limit=LIMIT)
        assert caught.value.next_step
        return caught.value


def good(
    content: bytes = b"picture", *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Respond:
    return lambda _: httpx.Response(status, headers=headers, stream=Pieces([content]))


def redirect(target: str) -> Respond:
    return lambda _: httpx.Response(302, headers={"location": target})


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """A name that is resolved again for the connection could lead inside by then."""
    web = Web(good())
    async with web.downloads() as downloads:
        assert await downloads.read(URL, limit=LIMIT) == b"picture"
    (request,) = web.requests
    assert web.resolved == [("cdn.example.com", 443)]
    assert str(request.url) == f"https://{PUBLIC}/1.png"
    assert request.headers["host"] == "cdn.example.com"
    assert request.extensions["sni_hostname"] == "cdn.example.com"
    assert set(request.extensions["timeout"]) == {"connect", "read", "write", "pool"}


@pytest.mark.parametrize(
    ("url", "aimed_at", "host", "name"),
    [
        (
            "https://six.example.com:8443/1.png?sig=a%2Fb",
            "https://[2606:2800:220:1:248:1893:25c8:1946]:8443/1.png?sig=a%2Fb",
            "six.example.com:8443",
            "six.example.com",
        ),
        (
            "http://CDN.example.com/1.png",
            f"http://{PUBLIC}/1.png",
            "cdn.example.com",
            "cdn.example.com",
        ),
        (
            "https://fa\u00df.example/1.png",
            f"https://{PUBLIC}/1.png",
            "xn--fa-hia.example",
            "xn--fa-hia.example",
        ),
    ],
)
async def test_an_address_is_pinned_whole(url: str, aimed_at: str, host: str, name: str) -> None:
    web = Web(good())
    async with web.downloads() as downloads:
        await downloads.read(url, limit=LIMIT)
    (request,) = web.requests
    assert (str(request.url), request.headers["host"]) == (aimed_at, host)
    assert request.extensions["sni_hostname"] == name


async def test_the_key_is_never_sent_to_a_download_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVOLINK_API_KEY", "sk-secret-0123456789")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    web = Web(good())
    async with web.downloads() as downloads:
        await downloads.read(URL, limit=LIMIT)
        await downloads.read("https://api.evolink.ai/files/1.png", limit=LIMIT)
    for request in web.requests:
        assert "authorization" not in request.headers
        assert "sk-secret" not in str(request.headers)
        assert request.headers["user-agent"].startswith("evolink-mcp/")


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/1.png",
        "http://LOCALHOST./1.png",
        "http://printer/1.png",
        "http://db.internal/1.png",
        "http://127.0.0.1/1.png",
        "http://127.1/1.png",
        "http://2130706433/1.png",
        "http://0x7f000001/1.png",
        "http://0.0.0.0/1.png",
        "http://10.0.0.1/1.png",
        "http://172.16.0.1/1.png",
        "http://192.168.0.1/1.png",
        "http://169.254.169.254/latest/meta-data",
        "http://100.64.0.1/1.png",
        "http://[::1]/1.png",
        "http://[::ffff:10.0.0.1]/1.png",
        "http://[fe80::1]/1.png",
        "http://[fc00::1]/1.png",
        "http://[64:ff9b::7f00:1]/1.png",
        "http://user:password@127.0.0.1/1.png",
        "http://one-inside.example.com/1.png",
        "http://inside.example.com/1.png",
        "http://loop.example.com/1.png",
        "http://loop6.example.com/1.png",
        "http://mapped.example.com/1.png",
        "http://metadata.example.com/1.png",
        "http://nowhere.example.com/1.png",
    ],
)
async def test_inner_addresses_are_never_connected_to(url: str) -> None:
    web = Web(good())
    error = await web.failure(url)
    assert (error.code, error.retryable, web.requests) == ("inner_address", False, [])
    web = Web(redirect(url))
    error = await web.failure()
    assert (error.code, error.retryable) == ("inner_address", False)
    assert [request.url.host for request in web.requests] == [PUBLIC]


@pytest.mark.parametrize(
    "url", ["", "1.png", "file:///etc/passwd", "http://0177.0.0.1/1.png", "gopher://127.0.0.1/1"]
)
async def test_what_is_no_address_is_never_connected_to(url: str) -> None:
    web = Web(good())
    await web.failure(url)
    assert web.requests == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://0177.0.0.1/1.png", "data:,x"])
async def test_a_redirect_to_what_is_no_address_is_not_followed(url: str) -> None:
    web = Web(redirect(url))
    await web.failure()
    assert {str(request.url) for request in web.requests} == {f"https://{PUBLIC}/1.png"}


BASE = "http://127.0.0.1:8765"


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        (BASE, f"{BASE}/files/1.png"),
        ("http://127.0.0.1:8765/evolink", f"{BASE}/files/1.png"),
        ("http://localhost:8765", "http://LOCALHOST:8765/1.png"),
        ("http://[::1]:8765", "http://[::1]:8765/1.png"),
        ("http://10.1.2.3", "http://10.1.2.3:80/1.png"),
        ("https://evolink.internal", "https://evolink.internal:443/1.png"),
    ],
)
async def test_the_operators_own_base_url_may_be_inside(base_url: str, url: str) -> None:
    web = Web(good())
    async with web.downloads(base_url) as downloads:
        assert await downloads.read(url, limit=LIMIT) == b"picture"
    (request,) = web.requests
    assert request.url == httpx.URL(url)
    assert web.resolved == []


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:8765/1.png",
        "http://127.0.0.1:8766/1.png",
        "http://127.0.0.1/1.png",
        "http://127.0.0.2:8765/1.png",
        "http://localhost:8765/1.png",
        "http://127.1:8765/1.png",
        "http://[::1]:8765/1.png",
    ],
)
async def test_only_exactly_the_base_url_may_be_inside(url: str) -> None:
    web = Web(good())
    assert (await web.failure(url, base_url=BASE)).code == "inner_address"
    assert web.requests == []


async def test_redirects_are_followed_hop_by_hop() -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        if request.headers["host"] == "cdn.example.com":
            return redirect("//six.example.com/2.png")(request)
        return good()(request)

    web = Web(respond)
    async with web.downloads() as downloads:
        assert await downloads.read(URL, limit=LIMIT) == b"picture"
    assert [host for host, _ in web.resolved] == ["cdn.example.com", "six.example.com"]


async def test_redirects_without_end_end() -> None:
    web = Web(redirect(URL))
    assert "TooManyRedirects" in (await web.failure()).message
    assert len(web.requests) % (MAX_REDIRECTS + 1) == 0


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_a_link_that_has_expired_is_not_asked_again(status: int) -> None:
    web = Web(good(b"<Error/>", status=status))
    error = await web.failure()
    assert "expired" in error.message
    assert (error.retryable, len(web.requests)) == (False, 1)
    assert "24 hours" in error.next_step


@pytest.mark.parametrize(
    ("status", "tries"), [(400, 1), (401, 1), (304, 1), (429, 1), (500, 3), (502, 3), (503, 3)]
)
async def test_a_server_in_trouble_is_asked_again(status: int, tries: int) -> None:
    web = Web(good(status=status))
    error = await web.failure()
    assert f"HTTP {status}" in error.message
    assert len(web.requests) == tries
    assert web.clock.slept == [0.5, 1.0][: tries - 1]


async def test_a_download_that_breaks_off_is_made_again() -> None:
    failures: list[Exception] = [httpx.ReadError("cut"), OSError("tls")]

    def respond(request: httpx.Request) -> httpx.Response:
        if failures:
            raise failures.pop()
        return good()(request)

    web = Web(respond)
    async with web.downloads() as downloads:
        assert await downloads.read(URL, limit=LIMIT) == b"picture"
    assert len(web.requests) == 3


@pytest.mark.parametrize(
    "error",
    [httpx.ConnectError("x"), httpx.ReadTimeout("x"), httpx.RemoteProtocolError("x"), OSError()],
)
async def test_a_connection_that_fails_is_a_file_that_is_not_there(error: Exception) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    found = await Web(fail).failure()
    assert found.retryable
    assert type(error).__name__ in found.message


@pytest.mark.parametrize(
    "url",
    [
        "https://cdn.example.com/\ud800.png",
        "https://cdn\ud800.example.com/1.png",
        "https://cdn.example.com/\x00.png",
        "https://cdn.example.com:port/1.png",
        "https://cdn.example.com/" + "a" * 70_000,
    ],
)
async def test_an_address_that_is_none_is_a_file_that_is_not_there(url: str) -> None:
    error = await Web(good()).failure(url)
    assert (error.code, error.retryable) == ("file_unavailable", False)


async def test_a_port_that_cannot_be_is_a_file_that_is_not_there() -> None:
    """Over real sockets: the library would answer with a group of exceptions."""
    url = "http://127.0.0.1:70000"
    async with open_downloads(url, Network(tls=False)) as downloads:
        with anyio.fail_after(5), pytest.raises(FileUnavailable) as caught:
            await downloads.read(url, limit=LIMIT)
    assert not caught.value.retryable


@pytest.mark.parametrize("excess", [0, 1])
async def test_a_file_may_have_exactly_the_limit(excess: int) -> None:
    web = Web(good(b"x" * (LIMIT + excess)))
    if excess:
        error = await web.failure()
        assert "larger than 1000000 bytes" in error.message
        assert (error.retryable, len(web.requests)) == (False, 1)
    else:
        async with web.downloads() as downloads:
            assert len(await downloads.read(URL, limit=LIMIT)) == LIMIT


async def test_a_file_without_end_is_not_read_to_its_end() -> None:
    body = Pieces([b"x" * 100_000], repeated=True)
    await Web(lambda _: httpx.Response(200, headers={"content-length": "5"}, stream=body)).failure()
    assert body.taken == 11


async def test_a_compressed_file_is_read_and_a_bomb_is_not() -> None:
    zipped = {"content-encoding": "gzip, gzip"}
    twice = gzip.compress(gzip.compress(b"picture"))
    async with Web(good(twice, headers=zipped)).downloads() as downloads:
        assert await downloads.read(URL, limit=LIMIT) == b"picture"
    bomb = gzip.compress(gzip.compress(bytes(200 * LIMIT)))
    tracemalloc.start()
    try:
        error = await Web(good(bomb, headers=zipped)).failure()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "larger" in error.message
    assert peak < 20 * LIMIT


async def test_broken_compression_is_a_failed_connection() -> None:
    web = Web(good(b"no gzip", headers={"content-encoding": "gzip"}))
    assert "DecodingError" in (await web.failure()).message


async def test_a_download_that_trickles_for_ever_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress_module, "TOTAL_TIMEOUT", 0.02)
    web = Web(lambda _: httpx.Response(200, stream=Pieces([b""], repeated=True)))
    assert "TimeoutError" in (await web.failure()).message


async def test_a_look_that_trickles_for_ever_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress_module, "PEEK_TIMEOUT", 0.02)
    web = Web(lambda _: httpx.Response(200, stream=Pieces([b""], repeated=True)))
    async with web.downloads() as downloads:
        with anyio.fail_after(5), pytest.raises(FileUnavailable):
            await downloads.peek(URL, first=64)


@pytest.mark.parametrize(
    ("headers", "size"),
    [
        ({"content-length": "999"}, 999),
        ({}, None),
        ({"content-length": "-1"}, None),
        ({"content-length": "many"}, None),
    ],
)
async def test_a_look_reads_the_beginning_and_the_size(
    headers: dict[str, str], size: int | None
) -> None:
    body = Pieces([b"ab", b"cd"], repeated=True)
    web = Web(lambda _: httpx.Response(200, headers=headers, stream=body))
    async with web.downloads() as downloads:
        assert await downloads.peek(URL, first=5) == Beginning(b"abcdc", size)
    assert body.taken == 3


async def test_a_look_at_a_short_file_reads_all_of_it() -> None:
    async with Web(good(b"ab")).downloads() as downloads:
        assert await downloads.peek(URL, first=5) == Beginning(b"ab", None)


async def test_a_look_at_a_missing_file_is_not_repeated() -> None:
    web = Web(good(status=503))
    async with web.downloads() as downloads:
        with pytest.raises(FileUnavailable):
            await downloads.peek(URL, first=5)
    assert len(web.requests) == 1


async def test_files_come_over_a_real_socket() -> None:
    sandbox = Sandbox()
    path = sandbox.publish(picture(), "1.png")
    async with serve(sandbox) as url, open_downloads(url, Network(tls=False)) as downloads:
        with anyio.fail_after(10):
            assert await downloads.read(url + path, limit=LIMIT) == picture()
            with pytest.raises(FileUnavailable) as caught:
                await downloads.read(url.replace("127.0.0.1", "localhost") + path, limit=LIMIT)
    assert caught.value.code == "inner_address"
