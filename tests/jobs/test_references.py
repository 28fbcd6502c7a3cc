from __future__ import annotations

import anyio
import httpx2 as httpx
import pytest

from evolink_mcp.api.egress import open_downloads
from evolink_mcp.api.network import Network
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.catalog.spec import load_models
from evolink_mcp.errors import InvalidRequest
from evolink_mcp.jobs.references import check_references
from tests.sandbox.desk import picture

SPEC = load_models()["gpt-4o-image"]
LIMIT, MASK_LIMIT = 10_000_000, 4_000_000

File = tuple[bytes, dict[str, str]]

PLACE = "https://files.example.com"
FILES: dict[str, File | int | Exception] = {
    "/png": (picture("PNG"), {}),
    "/large.png": (picture("PNG"), {"content-length": str(LIMIT)}),
    "/larger.png": (picture("PNG"), {"content-length": str(LIMIT + 1)}),
    "/mask.png": (picture("PNG"), {"content-length": str(MASK_LIMIT)}),
    "/larger-mask.png": (picture("PNG"), {"content-length": str(MASK_LIMIT + 1)}),
    "/small.png": (picture("PNG", (24, 32)), {}),
    "/headless.png": (picture("PNG")[:20], {}),
    "/jpeg": (picture("JPEG"), {}),
    "/webp": (picture("WEBP"), {}),
    "/gif": (picture("GIF"), {}),
    "/page": (b"<!doctype html>", {"content-type": "image/png"}),
    "/json": (b"{}", {}),
    "/unknown": (b"words", {}),
    "/gone": 404,
    "/private": 403,
    "/broken": 500,
    "/silent": httpx.ReadTimeout("t"),
    "/tls": OSError("tls"),
}


def answer(request: httpx.Request) -> httpx.Response:
    found = FILES[request.url.path]
    if isinstance(found, Exception):
        raise found
    if isinstance(found, int):
        return httpx.Response(found)
    return httpx.Response(200, content=found[0], headers=found[1])


async def resolve(host: str, _: int) -> list[str]:
    return ["10.0.0.1"] if host == "inside.example.com" else ["93.184.216.34"]


async def problems_of(*names: str, mask: str | None = None) -> list[tuple[str, str]]:
    """Check references by path, or by whole addresses; the broken rules by field."""
    urls = tuple(name if "://" in name else PLACE + name for name in names)
    mask_url = PLACE + mask if mask else None
    request = ImageRequest(model=SPEC.id, prompt="x", image_urls=urls, mask_url=mask_url)
    network = Network(transport=httpx.MockTransport(answer), resolve=resolve)
    async with open_downloads("https://api.evolink.ai", network) as downloads:
        try:
            with anyio.fail_after(5):
                await check_references(request, spec=SPEC, downloads=downloads)
        except InvalidRequest as error:
            return sorted(
                (problem.field, problem.rule) for problem in error.problems if problem.allowed
            )
    return []


@pytest.mark.parametrize(
    ("names", "problems"),
    [
        ((), []),
        (("/png", "/jpeg", "/webp"), []),
        (("/large.png",), []),
        (("/larger.png",), [("image_urls[0]", "has 10000001 bytes")]),
        (("/png", "/gif"), [("image_urls[1]", "is a file of type gif")]),
        (("/page",), [("image_urls[0]", "is a file of type html")]),
        (("/json",), [("image_urls[0]", "is a file of type text")]),
        (
            ("/gif", "/png", "/larger.png", "/page"),
            [
                ("image_urls[0]", "is a file of type gif"),
                ("image_urls[2]", "has 10000001 bytes"),
                ("image_urls[3]", "is a file of type html"),
            ],
        ),
    ],
)
async def test_a_reference_that_breaks_a_rule_is_refused_by_its_place(
    names: tuple[str, ...], problems: list[tuple[str, str]]
) -> None:
    assert await problems_of(*names) == problems


@pytest.mark.parametrize(
    "name", ["/gone", "/private", "/broken", "/silent", "/tls", "/unknown", "https://\ud800.com/"]
)
async def test_what_cannot_be_judged_from_here_is_left_to_evolink(name: str) -> None:
    assert await problems_of(name) == []


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1/1.png",
        "http://localhost:8000/1.png",
        "http://169.254.169.254/latest",
        "http://[::1]/1.png",
        "https://inside.example.com/1.png",
    ],
)
async def test_an_inner_address_is_refused(address: str) -> None:
    assert await problems_of(address) == [("image_urls[0]", "is not a public address")]


@pytest.mark.parametrize(
    ("image", "mask", "problems"),
    [
        ("/png", "/png", []),
        ("/png", "/mask.png", []),
        ("/png", "/larger-mask.png", [("mask_url", "has 4000001 bytes")]),
        ("/png", "/jpeg", [("mask_url", "is a file of type jpeg")]),
        ("/jpeg", "/png", [("image_urls[0]", "is a file of type jpeg")]),
        (
            "/png",
            "/small.png",
            [("mask_url", "is 24x32 pixels, and the reference image is 48x32")],
        ),
        ("/gone", "/png", []),
        ("/png", "/gone", []),
        ("/jpeg", "/gone", []),
        ("/headless.png", "/small.png", []),
        ("/png", "/headless.png", []),
    ],
)
async def test_a_mask_and_its_image_fit_each_other(
    image: str, mask: str, problems: list[tuple[str, str]]
) -> None:
    assert await problems_of(image, mask=mask) == problems
