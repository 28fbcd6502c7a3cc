from __future__ import annotations

import os
import socket
import stat
from contextlib import chdir, closing, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from evolink_mcp.errors import InvalidRequest
from evolink_mcp.jobs.local import (
    MAX_PATH_CHARS,
    LocalFile,
    OpenedFolders,
    _below,
    _Refused,
    spelled_path,
)

CANARY = b"canary-4711-must-not-leave"
LIMIT = 1_000_000
OUTSIDE = "lies in no opened folder"


def secret_png() -> bytes:
    """Make a picture that would be taken anywhere, with the canary in it."""
    stream, text = BytesIO(), PngInfo()
    text.add_text("Comment", CANARY.decode())
    Image.new("RGB", (48, 32), "maroon").save(stream, "PNG", pnginfo=text)
    return stream.getvalue()


def good_png() -> bytes:
    stream = BytesIO()
    Image.new("RGB", (48, 32), "teal").save(stream, "PNG")
    return stream.getvalue()


@dataclass(frozen=True)
class Tree:
    """A folder that was opened, and secrets beside it, above it and hidden in it."""

    base: Path

    @property
    def pics(self) -> Path:
        return self.base / "pics"

    @property
    def folders(self) -> OpenedFolders:
        return OpenedFolders((self.pics,))

    async def refusal(self, given: object, *, limit: int = LIMIT) -> str:
        with pytest.raises(InvalidRequest) as refused:
            await self.folders.read(str(given), limit=limit, field="mask_url")
        await anyio.lowlevel.checkpoint()  # else coverage loses sight of who called
        assert CANARY.decode() not in str(refused.value)
        (problem,) = refused.value.problems
        assert problem.field == "mask_url"
        assert "EVOLINK_INPUT_DIRS" in problem.allowed
        return problem.rule


def plant(base: Path) -> Tree:
    """Make the tree: `pics` is opened, every file that is not good holds the canary."""
    tree = Tree(base)
    for folder in ("pics/sub", "pics/.ssh", "pics/sub/.git", "pics-private", "outside/deep", "pic"):
        (base / folder).mkdir(parents=True)
    for good in ("pics/a.png", "pics/sub/b.png", "pics/a b#1%20ü.png"):
        (base / good).write_bytes(good_png())
    for secret in (
        *("secret.png", "outside/secret.png", "outside/deep/secret.png", "pics-private/secret.png"),
        *("pic/secret.png", "pics/.secret.png", "pics/.ssh/id.png", "pics/sub/.git/a.png"),
        "outside/.env",
    ):
        (base / secret).write_bytes(secret_png())
    for link, target in (
        ("pics/inner.png", "sub/b.png"),
        ("pics/link.png", "../outside/secret.png"),
        ("pics/absolute.png", base / "outside/secret.png"),
        ("pics/chain.png", "chain2.png"),
        ("pics/chain2.png", "sub/chain3.png"),
        ("pics/sub/chain3.png", "../../outside/secret.png"),
        ("pics/out", "../outside"),
        ("pics/up", ".."),
        ("pics/dangling.png", "../outside/missing.png"),
        ("pics/loop.png", "loop.png"),
        ("pics/unhidden.png", ".secret.png"),
        ("pics/environ.png", "/proc/self/environ"),
        ("pics/zero.png", "/dev/zero"),
        ("door", "pics"),
    ):
        (base / link).symlink_to(target)
    os.mkfifo(base / "pics/fifo.png")
    with closing(socket.socket(socket.AF_UNIX)) as listener, chdir(base / "pics"):
        listener.bind("socket.png")
    return tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return plant(tmp_path)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("{pics}/a.png", "a.png"),
        ("{pics}//sub///b.png", "b.png"),
        ("{pics}/./sub/../a.png", "a.png"),
        ("{pics}/missing/../a.png", "a.png"),
        ("{base}/outside/../pics/a.png", "a.png"),
        ("{base}/door/a.png", "a.png"),
        ("{pics}/inner.png", "b.png"),
        ("{pics}/a b#1%20ü.png", "a b#1%20ü.png"),
        ("file://{pics}/a.png", "a.png"),
        ("FILE://LocalHost{pics}/a.png", "a.png"),
        ("file://{pics}/%61.png", "a.png"),
        ("file://{pics}/a%20b%231%2520%C3%BC.png", "a b#1%20ü.png"),
    ],
)
async def test_a_picture_in_an_opened_folder_is_read(tree: Tree, spelling: str, name: str) -> None:
    spelled = spelling.format(pics=tree.pics, base=tree.base)
    file = await tree.folders.read(spelled, limit=LIMIT)
    assert (file.name, file.content) == (name, good_png())
    assert file.path.is_relative_to(tree.pics)


@pytest.mark.parametrize(
    ("spelling", "rule"),
    [
        ("{base}/secret.png", OUTSIDE),
        ("{base}/missing.png", OUTSIDE),
        ("{pics}/../secret.png", OUTSIDE),
        ("{base}/pics-private/secret.png", OUTSIDE),
        ("{base}/pic/secret.png", OUTSIDE),
        ("{base}", OUTSIDE),
        ("/", OUTSIDE),
        ("{pics}/link.png", OUTSIDE),
        ("{pics}/absolute.png", OUTSIDE),
        ("{pics}/chain.png", OUTSIDE),
        ("{pics}/dangling.png", OUTSIDE),
        ("{pics}/out/secret.png", OUTSIDE),
        ("{pics}/out/missing.png", OUTSIDE),
        ("{pics}/up/secret.png", OUTSIDE),
        ("{pics}/environ.png", OUTSIDE),
        ("{pics}/zero.png", OUTSIDE),
        ("{pics}/.secret.png", "is hidden"),
        ("{pics}/.missing.png", "is hidden"),
        ("{pics}/unhidden.png", "is hidden"),
        ("{pics}/.ssh/id.png", "is hidden"),
        ("{pics}/sub/.git/a.png", "is hidden"),
        ("{pics}/missing.png", "does not exist"),
        ("{pics}/a.png/b.png", "does not exist"),
        ("{pics}/" + "x" * 300, "cannot be read (File name too long)"),
        ("{pics}", "is a folder"),
        ("{pics}/sub", "is a folder"),
        ("{pics}/loop.png", "is not a regular file"),
        ("{pics}/fifo.png", "is not a regular file"),
        ("{pics}/socket.png", "is not a regular file"),
        ("pics/a.png", "is not an absolute path"),
        ("~/a.png", "is not an absolute path"),
        ("$HOME/a.png", "is not an absolute path"),
        ("", "is not an absolute path"),
        ("C:\\pics\\a.png", "holds a backslash"),
        ("/" + "x" * MAX_PATH_CHARS, "has more than 4096 characters"),
        ("{pics}/a.png\x00.jpg", "holds control characters"),
        ("{pics}/a\u2028.png", "holds control characters"),
        ("{pics}/\udc61.png", "holds control characters"),
        ("file://{pics}/a.png%0a", "holds control characters"),
        ("//host{pics}/a.png", "network or a device"),
        ("\\\\host\\share\\a.png", "network or a device"),
        ("\\\\?\\C:\\a.png", "network or a device"),
        ("file:////host/share/a.png", "network or a device"),
        ("file://evil.example{pics}/a.png", "is not an address of this machine"),
        ("file://localhost:80{pics}/a.png", "is not an address of this machine"),
        ("file:{pics}/a.png", "is not an address of this machine"),
        ("file://", "is not an absolute path"),
        ("file://{pics}/a.png?x=1", "a query or a fragment"),
        ("file://{pics}/a.png#x", "a query or a fragment"),
        ("file://{pics}%2f..%2fsecret.png", "hides a slash"),
        ("file://{pics}/a.png%00", "hides a slash"),
        ("file://{pics}/..%5csecret.png", "hides a slash"),
        ("file://{pics}/100%.png", "a % that encodes nothing"),
        ("file://{pics}/%c0%ae%c0%ae/secret.png", "is not encoded in UTF-8"),
    ],
)
async def test_anything_else_is_refused_with_its_reason(
    tree: Tree, spelling: str, rule: str
) -> None:
    spelled = spelling.replace("{pics}", str(tree.pics)).replace("{base}", str(tree.base))
    assert rule in await tree.refusal(spelled)


async def test_nobody_learns_what_exists_outside(tree: Tree) -> None:
    there, missing = f"{tree.base}/outside/secret.png", f"{tree.base}/outside/nothing.png"
    denied = f"{tree.base}/outside/secret.png/x"
    for each in (there, missing, denied):
        assert (await tree.refusal(each)).rpartition('"')[2] == f" {OUTSIDE}"


async def test_a_refusal_names_the_folders_that_are_open(tmp_path: Path) -> None:
    folders = OpenedFolders((tmp_path / "one", tmp_path / "two"))
    with pytest.raises(InvalidRequest) as refused:
        await folders.read("/etc/hostname", limit=LIMIT)
    assert refused.value.problems[0].allowed == (
        f"the absolute path or file:// address of a picture in {tmp_path}/one or {tmp_path}/two; "
        "the setting EVOLINK_INPUT_DIRS opens folders"
    )
    with pytest.raises(InvalidRequest, match="there is none yet"):
        await OpenedFolders().read("/etc/hostname", limit=LIMIT)


@pytest.mark.parametrize("spelling", ["{}/pics/a.png", "file://{}/pics/a.png", "../a.png"])
async def test_over_http_there_are_no_local_files(tree: Tree, spelling: str) -> None:
    folders = OpenedFolders((tree.pics,), allowed=False)
    with pytest.raises(InvalidRequest, match="reached over HTTP") as refused:
        await folders.read(spelling.format(tree.base), limit=LIMIT)
    assert refused.value.problems[0].allowed == "an https:// address or an evolink:// handle"
    assert str(tree.pics) not in refused.value.problems[0].allowed


async def test_a_folder_may_be_opened_below_a_hidden_one_and_by_a_link(tree: Tree) -> None:
    for folder, path in ((".ssh", ".ssh/id.png"), ("out", "out/secret.png"), ("up", "a.png")):
        file = await OpenedFolders((tree.pics / folder,)).read(str(tree.pics / path), limit=LIMIT)
        assert file.content


async def test_what_is_hidden_for_one_folder_may_be_open_by_another(tree: Tree) -> None:
    folders = OpenedFolders((tree.pics, tree.pics / ".ssh", tree.base / "missing"))
    assert (await folders.read(f"{tree.pics}/.ssh/id.png", limit=LIMIT)).name == "id.png"


@pytest.mark.parametrize("path", ["/proc/self/environ", "/proc/version", "/dev/zero", "/dev/null"])
async def test_the_system_stays_closed_even_where_everything_is_open(path: str) -> None:
    with pytest.raises(InvalidRequest, match=OUTSIDE):
        await OpenedFolders((Path("/"), Path("/proc"), Path("/dev"))).read(path, limit=LIMIT)


async def test_a_file_that_is_too_large_is_not_read(tree: Tree) -> None:
    size = len(good_png())
    assert (await tree.folders.read(f"{tree.pics}/a.png", limit=size)).name == "a.png"
    assert f"has more than {size - 1} bytes" in await tree.refusal(
        f"{tree.pics}/a.png", limit=size - 1
    )


async def test_a_file_that_grows_while_it_is_read_is_refused(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(good_png())
    fstat = os.fstat

    def grows(descriptor: int) -> os.stat_result:
        status = fstat(descriptor)
        with (tree.pics / "a.png").open("ab") as file:
            file.write(b"more")
        return status

    monkeypatch.setattr(os, "fstat", grows)
    assert f"has more than {size} bytes" in await tree.refusal(f"{tree.pics}/a.png", limit=size)


async def test_a_file_that_is_known_to_be_too_large_is_not_begun(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = tree.base / "huge"
    huge.touch()
    os.truncate(huge, LIMIT + 1)
    status = huge.stat()

    def tells(_: int) -> os.stat_result:
        return status

    monkeypatch.setattr(os, "fstat", tells)
    assert f"has more than {LIMIT} bytes" in await tree.refusal(tree.pics / "a.png")


async def test_a_file_without_rights_is_said_to_be_unreadable(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    assert "cannot be read (Permission denied)" in await tree.refusal(tree.pics / "a.png")


async def test_a_fifo_does_not_keep_anybody_waiting(tree: Tree) -> None:
    """One that takes a file's place after the look at it."""
    looked = os.lstat(tree.pics / "a.png")

    def look(_: Path) -> os.stat_result:
        return looked

    with pytest.MonkeyPatch.context() as patch, anyio.fail_after(5):
        patch.setattr(os, "lstat", look)
        assert "is not a regular file" in await tree.refusal(tree.pics / "fifo.png")


def swap_for_link(where: Path, target: Path) -> None:
    where.rename(where.with_name("moved"))
    where.symlink_to(target)


@pytest.mark.parametrize("proc", [True, False])
@pytest.mark.parametrize(
    ("swapped", "rule"), [("sub", OUTSIDE), ("sub/secret.png", "cannot be read")]
)
async def test_what_is_swapped_for_a_link_between_look_and_opening_is_refused(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, *, proc: bool, swapped: str, rule: str
) -> None:
    (tree.pics / "sub/secret.png").write_bytes(good_png())
    opening = os.open
    outside = tree.base / "outside"

    def swaps(path: str, flags: int) -> int:
        target = outside if swapped == "sub" else outside / "secret.png"
        swap_for_link(tree.pics / swapped, target)
        return opening(path, flags)

    monkeypatch.setattr(os, "open", swaps)
    if not proc:
        without_proc(monkeypatch)
    assert rule in await tree.refusal(tree.pics / "sub/secret.png")


def without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    readlink = os.readlink

    def no_proc(path: str) -> str:
        if str(path).startswith("/proc/"):
            raise FileNotFoundError(path)
        return readlink(path)

    monkeypatch.setattr(os, "readlink", no_proc)


async def test_other_systems_tell_by_the_identity_of_the_file(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = os.open

    def swaps(path: str, flags: int) -> int:
        """Show the secret for a moment, and then the good file again."""
        good = tree.pics / "a.png"
        good.rename(tree.pics / "kept")
        (tree.base / "outside/secret.png").rename(good)
        descriptor = opening(path, flags)
        good.unlink()
        (tree.pics / "kept").rename(good)
        return descriptor

    without_proc(monkeypatch)
    assert (await tree.folders.read(f"{tree.pics}/a.png", limit=LIMIT)).content == good_png()
    monkeypatch.setattr(os, "open", swaps)
    assert "was replaced" in await tree.refusal(tree.pics / "a.png")


@pytest.mark.parametrize(
    ("real", "same", "below"),
    [
        ("/Home/Pics/a.png", True, ("a.png",)),
        ("/home/PICS/sub/a.png", True, ("sub", "a.png")),
        ("/Home/Pics/a.png", False, None),
        ("/home/pics-private/a.png", True, None),
        ("/home/pic/a.png", True, None),
        ("/home", True, None),
        ("/home/pics", True, ()),
    ],
)
def test_names_that_differ_in_case_are_the_same_where_the_disk_says_so(
    monkeypatch: pytest.MonkeyPatch, real: str, *, same: bool, below: tuple[str, ...] | None
) -> None:
    asked: list[tuple[Path, Path]] = []

    def samefile(one: Path, other: Path) -> bool:
        asked.append((one, other))
        return same

    monkeypatch.setattr(Path, "samefile", samefile)
    assert _below(Path(real), folder=Path("/home/pics")) == below
    assert all(str(one).lower() == str(other) == "/home/pics" for one, other in asked)


def test_this_disk_is_asked_about_case(tree: Tree) -> None:
    (tree.base / "Pics").mkdir(exist_ok=True)
    folds = (tree.base / "Pics").samefile(tree.pics)
    assert (_below(tree.base / "Pics/a.png", folder=tree.pics) is not None) == folds
    assert _below(tree.base / "PICS-PRIVATE/secret.png", folder=tree.pics) is None
    (tree.base / "Pics").rmdir()
    assert _below(tree.base / "Pics/a.png", folder=tree.pics) is None


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("C:\\pics\\a.png", "C:\\pics\\a.png"),
        ("c:/pics/../other/./a.png", "c:\\other\\a.png"),
        ("file:///C:/pics/a%20b.png", "C:\\pics\\a b.png"),
        ("file://localhost/C:/pics/a.png", "C:\\pics\\a.png"),
    ],
)
def test_windows_paths_are_read_on_windows(given: str, path: str) -> None:
    assert spelled_path(given, windows=True) == path


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ("/pics/a.png", "with a drive"),
        ("C:a.png", "with a drive"),
        ("\\pics\\a.png", "with a drive"),
        ("\\??\\C:\\a.png", "with a drive"),
        ("file:///pics/a.png", "with a drive"),
        ("C:\\pics\\a.png:secret", "in another way"),
        ("C:\\pics\\a.png::$DATA", "in another way"),
        ("C:\\pics\\*.png", "in another way"),
        ("C:\\pics\\NUL", "in another way"),
        ("C:\\pics\\con.png", "in another way"),
        ("C:\\pics\\COM1", "in another way"),
        ("C:\\pics\\lpt¹.png", "in another way"),
        ("C:\\pics\\aux \\a.png", "in another way"),
        ("C:\\pics\\.. \\a.png", "in another way"),
        ("C:\\pics\\...\\a.png", "in another way"),
        ("C:\\pics\\a.png.", "in another way"),
        ("\\\\host\\share\\a.png", "network or a device"),
        ("\\\\.\\PhysicalDrive0", "network or a device"),
        ("\\\\?\\UNC\\host\\share\\a.png", "network or a device"),
        ("/\\host/share", "network or a device"),
        ("\\/host/share", "network or a device"),
        ("//host/share", "network or a device"),
        ("file://host/share/a.png", "not an address of this machine"),
        ("file:////host/share/a.png", "network or a device"),
        ("file:///C:%5Cpics", "hides a slash"),
    ],
)
def test_what_windows_reads_in_another_way_is_refused(given: str, rule: str) -> None:
    with pytest.raises(_Refused, match=rule):
        spelled_path(given, windows=True)


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return plant(tmp_path_factory.mktemp("forest"))


SEGMENTS = st.sampled_from(
    [
        *("..", ".", "", "...", ".. ", "pics", "pics-private", "PICS", "sub", "out", "up", "door"),
        *("a.png", "b.png", "secret.png", "link.png", "chain.png", "absolute.png", "inner.png"),
        *(".ssh", ".secret.png", "id.png", "outside", "deep", "%2e%2e", "%2E.", "..%2f", "..\\"),
        *("\u2024\u2024", "\uff0e\uff0e", "a.png\x00", "missing", "unhidden.png", "environ.png"),
    ]
)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    segments=st.lists(st.one_of(SEGMENTS, st.text(max_size=6)), max_size=8),
    beginning=st.sampled_from(["{pics}/", "{base}/", "file://{pics}/", "file://{base}/", "/", ""]),
    encoded=st.booleans(),
)
@example(segments=["sub", "..", "a.png"], beginning="{pics}/", encoded=False)
@example(segments=["..", "secret.png"], beginning="file://{pics}/", encoded=True)
def test_no_path_leads_out(
    forest: Tree, segments: list[str], beginning: str, *, encoded: bool
) -> None:
    path = "/".join(segments)
    if encoded:
        path = quote(path.encode("utf-8", "surrogatepass"))
    given_path = beginning.format(pics=forest.pics, base=forest.base) + path
    file = read_now(forest, given_path)
    if file is not None:
        assert file.content == good_png()
        assert CANARY not in file.content
        assert stat.S_ISREG(file.path.lstat().st_mode)
        assert forest.pics in file.path.parents


def read_now(tree: Tree, given_path: str) -> LocalFile | None:
    try:
        return tree.folders._read(spelled_path(given_path, windows=False), limit=LIMIT)
    except _Refused:
        return None


@given(
    st.sampled_from(["", "/", "C:\\", "file:///", "file:///C:/"]),
    st.lists(st.one_of(SEGMENTS, st.text(max_size=6))).map("/".join),
)
@example("C:\\", "pics/../a.png")
@example("/", "pics/../a.png")
def test_a_spelling_is_refused_or_names_one_place(beginning: str, rest: str) -> None:
    for windows, separator in ((True, "\\"), (False, "/")):
        with suppress(_Refused):
            path = spelled_path(beginning + rest, windows=windows)
            assert ".." not in path.split(separator)
            assert "\x00" not in path


@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"], exclude_characters="/\\")))
def test_an_address_means_the_path_it_encodes(name: str) -> None:
    assert spelled_path(f"file:///pics/x{quote(name)}", windows=False) == f"/pics/x{name}"
    assert spelled_path(f"/pics/x{name}", windows=False) == f"/pics/x{name}"
