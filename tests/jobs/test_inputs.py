from __future__ import annotations

import tomllib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx2 as httpx
import pytest
from PIL import Image

from evolink_mcp.api.egress import Downloads, open_downloads
from evolink_mcp.api.files import connect_files
from evolink_mcp.api.network import Network
from evolink_mcp.catalog.request import ImageRequest
from evolink_mcp.catalog.spec import load_models
from evolink_mcp.errors import InvalidRequest, RefusedByEvolink
from evolink_mcp.jobs.convert import Limits
from evolink_mcp.jobs.inputs import MAX_INPUT_BYTES, PUBLIC_NOTE, Inputs, MaskLimits, Resolved
from evolink_mcp.jobs.job import LOCAL, Picture, Principal
from evolink_mcp.jobs.journal import Journal
from evolink_mcp.jobs.local import OpenedFolders
from evolink_mcp.jobs.received import Received
from evolink_mcp.jobs.references import check_references
from evolink_mcp.jobs.uploads import Uploads
from tests.jobs.records import FOX, admitted, new_job, open_record, submitted
from tests.jobs.test_convert import MOVING, REMOVED, SECRET, clear, photo, plain, written
from tests.jobs.test_local import CANARY, Tree, good_png, plant, secret_png
from tests.jobs.test_pictures import png_of
from tests.sandbox.desk import BASE_URL, Clock

FILES_URL = "https://files-api.example.com"
SPEC = load_models()["gpt-4o-image"]
LIMITS = Limits(formats=("jpeg", "jpg", "png", "webp"), max_bytes=10_000_000)
MASKS = MaskLimits(mask=Limits(formats=("png",), max_bytes=4_000_000), reference_formats=("png",))
THEIRS = Principal("somebody-else")
WEB = "https://public.example.com/a.png"

Corpus = dict[str, list[dict[str, list[str]]]]


@dataclass
class Wire(httpx.AsyncBaseTransport):
    """The network: the Files API answers, and every byte that is sent is kept."""

    requests: list[tuple[httpx.Request, bytes]]
    broken: bool = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append((request, await request.aread()))
        if self.broken:
            return httpx.Response(400, json={"success": False, "code": 40002, "msg": "no"})
        url = f"https://files.example.com/{len(self.requests)}"
        data = {"file_url": url, "expires_at": "2099-01-01T00:00:00+00:00"}
        return httpx.Response(200, json={"success": True, "code": 200, "msg": "", "data": data})

    @property
    def sent(self) -> bytes:
        """Return everything that left, addresses and headers as well."""
        heads = (f"{request.url} {request.headers}".encode() for request, _ in self.requests)
        return b"\n".join([*heads, *(body for _, body in self.requests)])


@dataclass
class Desk:
    """Who resolves inputs, over a tree of files and a journal."""

    tree: Tree
    inputs: Inputs
    journal: Journal
    wire: Wire
    clock: Clock

    async def resolve(
        self, *urls: object, mask: object = None, limits: Limits = LIMITS
    ) -> Resolved:
        prepared = await self.inputs.prepare(
            [str(url) for url in urls],
            None if mask is None else str(mask),
            limits=limits,
            mask_limits=MASKS,
        )
        assert self.wire.requests == []
        return await prepared.publish()

    async def problems(self, *urls: object, mask: object = None) -> list[str]:
        with pytest.raises(InvalidRequest) as refused:
            await self.resolve(*urls, mask=mask)
        await anyio.lowlevel.checkpoint()  # else coverage loses sight of who called
        assert self.wire.requests == []
        return [str(problem) for problem in refused.value.problems]

    async def bought(self, name: str, *pictures: Picture, principal: Principal = LOCAL) -> None:
        wish = new_job(replace(FOX, prompt=name), principal=principal)
        job = submitted(await admitted(self.journal, wish), name)
        await self.journal.record(replace(job, state="collected", pictures=pictures))

    def picture(self, n: int = 1, *, path: Path | None, minutes: float = 60) -> Picture:
        expires = datetime.fromtimestamp(self.clock.now, UTC) + timedelta(minutes=minutes)
        url = f"https://results.example.com/{n}.png"
        if path is None:
            return Picture(n=n, url=url, expires_at=expires)
        return Picture(
            n=n,
            url=url,
            expires_at=expires,
            path=path,
            media_type="image/png",
            width=48,
            height=32,
            size=len(good_png()),
        )

    def put(self, name: str, content: bytes) -> Path:
        path = self.tree.pics / name
        path.write_bytes(content)
        return path


@asynccontextmanager
async def open_desk(tree: Tree, *, allowed: bool = True) -> AsyncGenerator[Desk]:
    wire, clock = Wire([]), Clock()
    async with (
        open_record(None, clock) as journal,
        connect_files(FILES_URL, key="sk-k", network=Network(transport=wire)) as files,
    ):
        uploads = Uploads(
            database=journal.database, origin=BASE_URL, now=clock, upload=files.upload
        )
        folders = OpenedFolders((tree.pics,), allowed=allowed)
        received = Received(folder=tree.base / "received")
        inputs = Inputs(folders=folders, journal=journal, uploads=uploads, received=received)
        yield Desk(tree, inputs, journal, wire, clock)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(plant(tmp_path)) as opened:
        yield opened


async def test_addresses_of_the_web_pass_as_they_are(desk: Desk) -> None:
    resolved = await desk.resolve(WEB, "http://public.example.com/b", mask=WEB)
    assert resolved == Resolved((WEB, "http://public.example.com/b"), WEB, ())
    assert desk.wire.requests == []


async def test_the_operators_own_address_passes_though_it_is_an_inner_one(desk: Desk) -> None:
    desk.journal.origin = "http://127.0.0.1:8080"
    for own in ("http://127.0.0.1:8080/files/1.png", "HTTP://127.0.0.1:8080/"):
        assert (await desk.resolve(own)).image_urls == (own,)
    for inner in ("http://127.0.0.1/1.png", "https://127.0.0.1:8080/1.png", "http://[::1]:8080/"):
        (problem,) = await desk.problems(inner)
        assert "is not a public address" in problem


async def test_files_are_uploaded_in_their_places_and_it_is_said(desk: Desk) -> None:
    a, b = desk.tree.pics / "a.png", desk.put("private-name.png", plain("JPEG"))
    resolved = await desk.resolve(a, WEB, f"file://{b}", a)
    first, second = "https://files.example.com/1", "https://files.example.com/2"
    assert resolved == Resolved((first, WEB, second, first), None, (PUBLIC_NOTE,))
    assert [str(request.url) for request, _ in desk.wire.requests] == [
        f"{FILES_URL}/api/v1/files/upload/stream"
    ] * 2
    assert good_png() in desk.wire.sent
    assert b"private-name" not in desk.wire.sent


async def test_a_file_is_not_sent_again_while_its_upload_lives(desk: Desk) -> None:
    first = await desk.resolve(desk.tree.pics / "a.png")
    desk.wire.requests.clear()
    assert await desk.resolve(desk.tree.pics / "sub/b.png") == first
    assert desk.wire.requests == []


async def test_what_was_done_to_a_file_is_said(desk: Desk) -> None:
    heic, large = desk.put("1.heic", plain("HEIC", (64, 64))), desk.put("2", plain("BMP", (64, 64)))
    resolved = await desk.resolve(
        WEB, heic, large, limits=replace(LIMITS, formats=("jpeg",), max_side=32)
    )
    assert resolved.notes == (
        "image_urls[1]: converted from HEIC to JPEG, reduced from 64x64 to 32x32 pixels.",
        "image_urls[2]: converted from BMP to JPEG, reduced from 64x64 to 32x32 pixels.",
        PUBLIC_NOTE,
    )


async def test_what_a_photo_or_a_mask_tells_of_its_maker_does_not_leave(desk: Desk) -> None:
    a, b = desk.put("a.png", photo("PNG")), desk.put("b.jpg", photo("JPEG"))
    resolved = await desk.resolve(a, b, mask=a)
    assert resolved.notes == (
        f"image_urls[0]: {REMOVED}.",
        f"image_urls[1]: {REMOVED}.",
        f"mask_url: {REMOVED}.",
        PUBLIC_NOTE,
    )
    assert len(desk.wire.requests) == 2
    assert SECRET not in desk.wire.sent


async def test_it_is_known_what_will_be_public_before_it_is(desk: Desk) -> None:
    a = str(desk.tree.pics / "a.png")
    prepared = await desk.inputs.prepare([WEB, a], a, limits=LIMITS)
    assert prepared.to_publish == ("image_urls[1]", "mask_url")
    assert desk.wire.requests == []


async def test_nothing_is_sent_of_a_request_with_a_problem_and_all_are_named(desk: Desk) -> None:
    a, odd = desk.tree.pics / "a.png", desk.put("odd.png", b"words")
    problems = await desk.problems(a, odd, "ftp://x.example/a.png", "b.png", mask="/etc/passwd")
    assert [problem.partition(":")[0] for problem in problems] == [
        "image_urls[1]",
        "image_urls[2]",
        "image_urls[3]",
        "mask_url",
    ]
    assert "is an address of a kind that is not taken" in problems[1]


async def test_a_failed_upload_is_told(desk: Desk) -> None:
    desk.wire.broken = True
    with pytest.raises(RefusedByEvolink):
        await desk.resolve(desk.tree.pics / "a.png")


async def test_over_http_there_are_no_paths_and_handles_still_work(tmp_path: Path) -> None:
    async with open_desk(plant(tmp_path), allowed=False) as desk:
        for given in (desk.tree.pics / "a.png", f"file://{desk.tree.pics}/a.png"):
            (problem,) = await desk.problems(given)
            assert "reached over HTTP" in problem
            assert "an https:// address or an evolink:// handle" in problem
        await desk.bought("mine", desk.picture(path=desk.tree.pics / "a.png", minutes=0))
        resolved = await desk.resolve("evolink://tasks/task-unified-mine/images/1")
    assert resolved.notes == (PUBLIC_NOTE,)


MINE = "evolink://tasks/task-unified-mine/images/1"


async def test_an_earlier_picture_is_read_from_its_link_while_that_lives(desk: Desk) -> None:
    path = desk.tree.pics / "a.png"
    await desk.bought("mine", desk.picture(path=path, minutes=10))
    linked = Resolved(("https://results.example.com/1.png",), None, ())
    assert await desk.resolve(MINE) == linked
    desk.clock.now += 1
    resolved = await desk.resolve(MINE)
    assert resolved == Resolved(("https://files.example.com/1",), None, (PUBLIC_NOTE,))
    assert good_png() in desk.wire.sent


async def test_an_earlier_picture_that_does_not_fit_is_made_to_fit(desk: Desk) -> None:
    path = desk.put("webp.png", plain("WEBP"))
    saved = replace(desk.picture(path=path), media_type="image/webp")
    await desk.bought("mine", saved)
    assert (await desk.resolve(MINE)).notes == ()
    resolved = await desk.resolve(MINE, mask=desk.tree.pics / "a.png")
    assert resolved.notes == ("image_urls[0]: converted from WEBP to PNG.", PUBLIC_NOTE)


async def test_a_picture_that_was_never_fetched_is_read_from_its_link(desk: Desk) -> None:
    await desk.bought("mine", desk.picture(path=None))
    assert (await desk.resolve(MINE)).image_urls == ("https://results.example.com/1.png",)
    small = desk.put("mask.png", plain("PNG", (8, 8)))
    mask = await desk.resolve(MINE, mask=small)  # whose image's size nobody knows
    assert mask.mask_url == "https://files.example.com/1"


async def test_a_saved_picture_may_lie_in_a_folder_that_is_not_open(desk: Desk) -> None:
    await desk.bought("mine", desk.picture(path=desk.tree.base / "outside/own.png", minutes=0))
    (desk.tree.base / "outside/own.png").write_bytes(good_png())
    assert (await desk.resolve(MINE)).notes == (PUBLIC_NOTE,)


@pytest.mark.parametrize(
    ("handle", "rule"),
    [
        ("evolink://tasks/task-unified-theirs/images/1", "is no picture that is known here"),
        ("evolink://tasks/task-unified-none/images/1", "is no picture that is known here"),
        ("evolink://tasks/task-unified-mine/images/9", "is no picture that is known here"),
        ("evolink://tasks/task-unified-mine", "is no picture that is known here"),
        ("evolink://tasks/task-unified-mine/images/1", "was not saved"),
        ("evolink://tasks/task-unified-mine/images/2", "is not where it was saved"),
        ("evolink://tasks/task-unified-mine/images/3", "is not where it was saved"),
        ("evolink://tasks/task-unified-mine/images/4", "is no picture that can be used"),
    ],
)
async def test_a_handle_that_leads_nowhere_says_what_to_do(
    desk: Desk, handle: str, rule: str
) -> None:
    pics = desk.tree.pics
    paths = (None, pics / "gone.png", pics / "link.png", desk.put("broken.png", b"words"))
    await desk.bought(
        "mine", *(desk.picture(n, path=path, minutes=0) for n, path in enumerate(paths, start=1))
    )
    await desk.bought("theirs", desk.picture(path=pics / "a.png"), principal=THEIRS)
    (problem,) = await desk.problems(handle)
    assert problem.startswith("image_urls[0]: ")
    assert rule in problem
    assert "list_tasks" in problem or "a picture of type jpeg" in problem
    assert str(pics) not in problem


async def test_each_principal_has_pictures_of_its_own(desk: Desk) -> None:
    await desk.bought("mine", desk.picture(path=None), principal=THEIRS)
    prepared = await desk.inputs.prepare([MINE], limits=LIMITS, principal=THEIRS)
    assert (await prepared.publish()).image_urls == ("https://results.example.com/1.png",)
    with pytest.raises(InvalidRequest):
        await desk.inputs.prepare([MINE], limits=LIMITS)


async def test_a_mask_goes_with_a_png_of_its_size(desk: Desk) -> None:
    image = desk.put("image.jpg", plain("JPEG"))
    mask = desk.put("mask.tif", written(clear(), "TIFF"))
    resolved = await desk.resolve(image, mask=mask)
    assert resolved.image_urls == ("https://files.example.com/1",)
    assert resolved.mask_url == "https://files.example.com/2"
    assert resolved.notes == (
        "image_urls[0]: converted from JPEG to PNG.",
        "mask_url: converted from TIFF to PNG.",
        PUBLIC_NOTE,
    )


async def test_only_the_image_of_a_mask_has_to_be_a_png(desk: Desk) -> None:
    image = desk.put("image.jpg", plain("JPEG"))
    resolved = await desk.resolve(image, image, mask=desk.tree.pics / "a.png")
    assert resolved.notes == ("image_urls[0]: converted from JPEG to PNG.", PUBLIC_NOTE)
    unmasked = await desk.inputs.prepare([str(image)], limits=LIMITS, mask_limits=MASKS)
    assert (await unmasked.publish()).notes == (PUBLIC_NOTE,)


async def test_a_mask_that_does_not_fit_its_image_is_refused_with_both_sizes(desk: Desk) -> None:
    small = desk.put("small.png", plain("PNG", (24, 32)))
    await desk.bought("mine", desk.picture(path=desk.tree.pics / "a.png"))
    for image in (desk.tree.pics / "a.png", MINE):
        (problem,) = await desk.problems(image, mask=small)
        assert problem == (
            "mask_url: is 24x32 pixels, and the reference image is 48x32; "
            "allowed: a mask of the same size as its reference image."
        )
    (problem,) = await desk.problems("/missing", mask=small)
    assert problem.startswith("image_urls[0]")
    assert (await desk.resolve(WEB, mask=small)).image_urls == (WEB,)  # whose size nobody knows


async def test_a_mask_may_have_a_size_of_its_own_where_the_model_allows_that(desk: Desk) -> None:
    small = str(desk.put("small.png", plain("PNG", (24, 32))))
    image = str(desk.tree.pics / "a.png")
    rules = replace(MASKS, same_size=False)
    prepared = await desk.inputs.prepare([image], small, limits=LIMITS, mask_limits=rules)
    assert len(prepared.to_publish) == 2


async def test_an_image_that_had_to_be_reduced_is_told_to_its_mask(desk: Desk) -> None:
    limits = replace(LIMITS, max_side=24)
    a = str(desk.tree.pics / "a.png")
    with pytest.raises(InvalidRequest, match=r"24x16 \(reduced from 48x32 to 24x16 pixels\)"):
        await desk.inputs.prepare([a], a, limits=limits, mask_limits=MASKS)


# --- the corpus ---


def corpus(kind: str) -> dict[str, list[str]]:
    """Return the entries of each group, by its name."""
    text = Path(__file__).with_name("hostile_inputs.toml").read_text("utf-8")
    groups: Corpus = tomllib.loads(text)
    return {str(group["kind"]): list(group["entries"]) for group in groups[kind]}


def plant_pictures(tree: Tree) -> None:
    """Put what is no picture, or more than one, into the opened folder."""
    heads = {
        "png": b"\x89PNG\r\n\x1a\n",
        "jpg": b"\xff\xd8\xff\xe0",
        "gif": b"GIF89a",
        "webp": b"RIFF\xff\x00\x00\x00WEBP",
        "bmp": b"BM",
        "tiff": b"II*\x00",
        "heic": b"\x00\x00\x00\x18ftypheic",
        "avif": b"\x00\x00\x00\x18ftypavif",
    }
    files = {f"head.{ending}": head + CANARY * 20 for ending, head in heads.items()}
    files |= {
        "env.png": b"API_KEY=" + CANARY,
        "key.jpg": b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + CANARY,
        "page.png": b"<!doctype html><p>" + CANARY,
        "drawing.png": b'<?xml version="1.0"?><svg><text>' + CANARY,
        "drawing.svg": b"<svg><text>" + CANARY,
        "archive.png": b"PK\x03\x04" + CANARY,
        "paper.png": b"%PDF-1.7\n" + CANARY,
        "program.png": b"\x7fELF" + CANARY,
        "script.gif": b"GIF89a=1;alert('" + CANARY + b"')",
        "json.webp": b'{"key": "' + CANARY + b'"}',
        "sqlite.png": b"SQLite format 3\x00" + CANARY,
        "nothing.png": b"",
        "cut.png": secret_png()[:120],
        "cut.jpg": plain("JPEG")[:300] + CANARY,
        "bomb.png": png_of(30_000, 30_000) + CANARY,
        "archive-behind.png": good_png() + b"PK\x03\x04" + CANARY,
    }
    for ending in ("png", "jpg", "gif", "webp", "bmp", "tiff"):
        kind = {"jpg": "JPEG"}.get(ending, ending.upper())
        files[f"behind.{ending}"] = plain(kind) + CANARY
    for name, content in files.items():
        (tree.pics / name).write_bytes(content)


@pytest.fixture
async def targets(desk: Desk) -> Desk:
    """Put everything in place that the corpus aims at."""
    plant_pictures(desk.tree)
    pics, theirs = desk.tree.pics, desk.tree.base / "outside/secret.png"
    swapped = (pics / "link.png", pics / "chain.png", pics / "fifo.png", pics / "sub")
    await desk.bought("mine", desk.picture(path=pics / "a.png"))
    await desk.bought("theirs", desk.picture(path=theirs), principal=THEIRS)
    await desk.bought(
        "swapped",
        *(desk.picture(n, path=path, minutes=0) for n, path in enumerate(swapped, start=1)),
    )
    return desk


def filled(desk: Desk, entry: str) -> str:
    return entry.replace("{pics}", str(desk.tree.pics)).replace("{base}", str(desk.tree.base))


async def refusal_of(desk: Desk, given: str, *, as_mask: bool) -> InvalidRequest:
    good = str(desk.tree.pics / "a.png")
    urls, mask = ([good], given) if as_mask else ([given], None)
    with pytest.raises(InvalidRequest) as refused, anyio.fail_after(20):
        await (await desk.inputs.prepare(urls, mask, limits=LIMITS, mask_limits=MASKS)).publish()
    return refused.value


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about what it finds broken
@pytest.mark.parametrize("as_mask", [False, True], ids=["image", "mask"])
@pytest.mark.parametrize("group", corpus("refused"))
async def test_a_hostile_input_is_refused_and_nothing_leaves(
    targets: Desk, group: str, *, as_mask: bool
) -> None:
    for entry in corpus("refused")[group]:
        error = await refusal_of(targets, filled(targets, entry), as_mask=as_mask)
        (problem,) = error.problems
        assert problem.field == ("mask_url" if as_mask else "image_urls[0]"), entry
        assert CANARY.decode() not in f"{error} {error.next_step}", entry
    assert targets.wire.requests == []


@pytest.mark.parametrize(
    "given", ["\ud800", "/\udc61", "file:///\udfff", "x" * 100_000, "/" * 9999]
)
async def test_what_no_file_can_hold_is_refused_too(targets: Desk, given: str) -> None:
    for entry in (given, f"{targets.tree.pics}/{given}", f"evolink://tasks/{given}/images/1"):
        assert (await refusal_of(targets, entry, as_mask=False)).problems
    assert targets.wire.requests == []


@pytest.mark.parametrize("as_mask", [False, True], ids=["image", "mask"])
@pytest.mark.parametrize("group", corpus("trimmed"))
async def test_nothing_but_the_picture_leaves(targets: Desk, group: str, *, as_mask: bool) -> None:
    entries = corpus("trimmed")[group]
    good = str(targets.tree.pics / "a.png")
    for entry in entries:
        given = filled(targets, entry)
        urls, mask = ([good], given) if as_mask else ([given], None)
        prepared = await targets.inputs.prepare(urls, mask, limits=LIMITS, mask_limits=MASKS)
        resolved = await prepared.publish()
        assert len(resolved.notes) == 2, entry
    assert len(targets.wire.requests) >= 3  # of as many contents
    assert CANARY not in targets.wire.sent


async def resolve_host(host: str, _: int) -> list[str]:
    found = {
        "inside.example.com": ["10.0.0.1"],
        "mixed.example.com": ["93.184.216.34", "10.0.0.1"],
    }
    return found.get(host, ["93.184.216.34"])


async def look_at(url: str, desk: Desk, downloads: Downloads) -> None:
    """Do what is done with an address before anything is bought."""
    await desk.inputs.prepare([url], limits=LIMITS)
    request = ImageRequest(model=SPEC.id, prompt="x", image_urls=(url,))
    await check_references(request, spec=SPEC, downloads=downloads)


@pytest.mark.parametrize("group", corpus("web"))
async def test_no_connection_is_made_to_a_hostile_address(targets: Desk, group: str) -> None:
    network = Network(transport=targets.wire, resolve=resolve_host)
    async with open_downloads("https://api.evolink.ai", network) as downloads:
        for entry in corpus("web")[group]:
            with pytest.raises(InvalidRequest, match="public"):
                await look_at(entry, targets, downloads)
    assert targets.wire.requests == []


async def test_the_corpus_would_notice_a_leak(targets: Desk) -> None:
    """What it watches is what an upload goes through, and its secrets are fit to be sent."""
    opened = OpenedFolders((targets.tree.base / "outside",))
    inputs = replace(targets.inputs, folders=opened)
    secret = targets.tree.base / "outside/secret.png"
    await (await inputs.prepare([str(secret)], limits=LIMITS)).publish()
    assert len(targets.wire.requests) == 1
    assert CANARY not in targets.wire.sent  # which is in a comment
    secret.write_bytes(showing(CANARY))
    await (await inputs.prepare([str(secret)], limits=LIMITS)).publish()
    assert CANARY in targets.wire.sent


def showing(secret: bytes) -> bytes:
    """Make a picture with a secret in its pixels, where nobody can take it out."""
    image = Image.frombytes("P", (64, 64), secret.ljust(64 * 64))
    image.putpalette(bytes(range(256)) * 3)
    return written(image, "PNG", compress_level=0)


def test_the_corpus_is_large_and_says_nothing_twice() -> None:
    entries = [
        entry
        for kind in ("refused", "trimmed", "web")
        for group in corpus(kind).values()
        for entry in group
    ]
    assert len(entries) == len(set(entries)) > 500


async def test_a_file_that_nobody_can_want_to_send_is_not_read(desk: Desk) -> None:
    path = desk.put("huge.png", good_png())
    with path.open("r+b") as file:
        file.truncate(MAX_INPUT_BYTES + 1)
    (problem,) = await desk.problems(path)
    assert "has more than 100000000 bytes" in problem


async def test_moving_pictures_are_sent_as_their_first_frame_where_only_that_is_taken(
    desk: Desk,
) -> None:
    gif = desk.put("a.gif", plain("GIF"))
    moving = desk.put("b.gif", moving_gif())
    resolved = await desk.resolve(gif, moving)
    assert resolved.notes == (
        "image_urls[0]: converted from GIF to PNG.",
        "image_urls[1]: only the first of its frames is used, converted from GIF to PNG.",
        PUBLIC_NOTE,
    )


def moving_gif() -> bytes:
    return written(clear().convert("RGB"), "GIF", **MOVING)
