"""Reference images and masks as they are given, turned into addresses that EvoLink can read.

In two phases, so that nothing leaves the machine of a request that is refused: everything is
read, judged and made to fit first, and published after that.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import SplitResult

from anyio import to_thread

from evolink_mcp.api.wire import TaskId
from evolink_mcp.catalog.addresses import is_inner_host, split_url
from evolink_mcp.catalog.wording import shown
from evolink_mcp.errors import InvalidRequest, Problem
from evolink_mcp.jobs.convert import Fitted, Kind, Limits, check_mask_fits, fit
from evolink_mcp.jobs.job import LOCAL, Picture, Principal
from evolink_mcp.jobs.journal import Journal
from evolink_mcp.jobs.local import LocalFile, OpenedFolders
from evolink_mcp.jobs.received import Received
from evolink_mcp.jobs.uploads import Uploads

PUBLIC_NOTE = "Uploaded files are public to anyone who has their address, for 72 hours."
"""EvoLink docs, "File Upload"; vendor client. Said of whatever was uploaded."""

MAX_INPUT_BYTES = 100_000_000
"""Largest file that is read; it may be reduced before it is sent."""

LIFE_NEEDED = timedelta(minutes=10)
"""Life that the link of an earlier picture must have left: a task may wait before it reads it."""

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):", re.IGNORECASE)
_HANDLE = re.compile(r"evolink://tasks/([A-Za-z0-9_-]{1,128})/images/([1-9][0-9]{0,3})")


_UPLOAD = re.compile(r"evolink://uploads/")
_SENT = "the handle of a picture that was sent to an upload link (upload_link) within 72 hours"


_PNG = Limits(formats=("png",))


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskLimits:
    """What a model takes as a mask, and of the first reference image beside it."""

    mask: Limits = _PNG
    reference_formats: tuple[str, ...] = ()
    """None where they are those of any reference image."""
    same_size: bool = True


@dataclass(frozen=True, slots=True)
class Resolved:
    """Addresses that EvoLink can read, and sentences about them for the answer."""

    image_urls: tuple[str, ...]
    mask_url: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Link:
    """A picture that EvoLink can read where it is."""

    url: str
    name: str
    """What it is, whatever its address: as it was given."""
    size: tuple[int, int] | None = None
    """Pixels, where they are known."""
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _File:
    """A picture that has to be uploaded."""

    fitted: Fitted
    name: str
    """What it is, whatever its address: its handle, or a digest of its content."""

    @property
    def size(self) -> tuple[int, int]:
        return self.fitted.width, self.fitted.height

    @property
    def changes(self) -> tuple[str, ...]:
        return self.fitted.changes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """One input as it was given, and what it has to be."""

    field: str
    given: str
    rule: Limits
    kind: Kind

    def refusal(self, rule: str, allowed: str) -> InvalidRequest:
        problem = Problem(self.field, f"{shown(self.given)} {rule}", allowed)
        return InvalidRequest(problems=(problem,))


@dataclass(frozen=True, slots=True)
class Prepared:
    """Inputs that fit, none of them sent yet."""

    inputs: Mapping[str, _Link | _File]
    """By field: `image_urls[0]` and so on, `mask_url`."""
    uploads: Uploads

    @property
    def to_publish(self) -> tuple[str, ...]:
        """The fields whose files will be public, for whoever has to agree to that."""
        return tuple(name for name, each in self.inputs.items() if isinstance(each, _File))

    @property
    def names(self) -> tuple[tuple[str, ...], str | None]:
        """Name what the reference images and the mask are: the same for the same pictures.

        Addresses of uploads cannot: they differ from one upload to the next.
        """
        names = {name: each.name for name, each in self.inputs.items()}
        mask = names.pop("mask_url", None)
        return tuple(names.values()), mask

    async def publish(self) -> Resolved:
        """Upload what is not at an address yet.

        Raises:
            EvolinkError: A file could not be uploaded.
        """
        urls = {name: await self._url_of(each) for name, each in self.inputs.items()}
        mask = urls.pop("mask_url", None)
        return Resolved(tuple(urls.values()), mask, tuple(self._notes()))

    async def _url_of(self, each: _Link | _File) -> str:
        if isinstance(each, _Link):
            return each.url
        fitted = each.fitted
        return (await self.uploads.url_of(fitted.content, media_type=fitted.media_type)).url

    def _notes(self) -> Iterator[str]:
        for name, each in self.inputs.items():
            if each.changes:
                yield f"{name}: {', '.join(each.changes)}."
        if self.to_publish:
            yield PUBLIC_NOTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Where inputs are found: the web, earlier pictures, files of this machine."""

    folders: OpenedFolders
    journal: Journal
    uploads: Uploads
    received: Received

    async def prepare(
        self,
        image_urls: Sequence[str],
        mask_url: str | None = None,
        *,
        limits: Limits,
        mask_limits: MaskLimits | None = None,
        principal: Principal = LOCAL,
    ) -> Prepared:
        """Find, read and fit everything, and send nothing.

        Addresses of the web pass as they are, unless they are spelled as inner ones; what
        their names stand for is checked where a connection is made.

        Raises:
            InvalidRequest: With the problems of all inputs.
        """
        rules = mask_limits or MaskLimits()
        found: dict[str, _Link | _File] = {}
        problems: list[Problem] = []
        for wanted in _wanted(image_urls, mask_url, limits=limits, rules=rules):
            try:
                found[wanted.field] = await self._find(wanted, principal)
            except InvalidRequest as error:
                problems.extend(error.problems)
        problems.extend(_check_sizes(found, rules))
        if problems:
            raise InvalidRequest(problems=tuple(problems))
        return Prepared(found, self.uploads)

    async def _find(self, wanted: _Wanted, principal: Principal) -> _Link | _File:
        scheme = _SCHEME.match(wanted.given)
        match scheme[1].lower() if scheme else "file":
            case "http" | "https":
                return self._address(wanted)
            case "evolink" if _UPLOAD.match(wanted.given):
                return await self._sent(wanted, principal)
            case "evolink":
                return await self._earlier(wanted, principal)
            case "file":
                file = await self.folders.read(
                    wanted.given, limit=MAX_INPUT_BYTES, field=wanted.field
                )
                return await _fitted(file, wanted)
            case _:
                raise wanted.refusal(
                    "is an address of a kind that is not taken",
                    "an https:// address, an evolink:// handle, or the path of a picture in an "
                    "opened folder",
                )

    def _address(self, wanted: _Wanted) -> _Link:
        parts = split_url(wanted.given)
        inner = parts is None or is_inner_host(parts.hostname or "")
        if inner and (parts is None or _place(parts) != _place(split_url(self.journal.origin))):
            raise wanted.refusal(
                "is not a public address", "an address that EvoLink's servers can read"
            )
        return _Link(wanted.given, wanted.given)

    async def _earlier(self, wanted: _Wanted, principal: Principal) -> _Link | _File:
        picture = await self._picture(wanted.given, principal)
        if picture is None:
            raise wanted.refusal("is no picture that is known here", _HANDLES)
        if self._is_alive(picture) and _fits(picture, wanted.rule):
            size = (picture.width, picture.height) if picture.width else None
            return _Link(picture.url, wanted.given, size)
        if picture.path is None:
            raise wanted.refusal("was not saved, and its link has no life left", _HANDLES)
        return await _fitted(await _saved(picture.path, wanted), wanted, name=wanted.given)

    async def _sent(self, wanted: _Wanted, principal: Principal) -> _File:
        """Read a picture that its principal has sent to an upload link."""
        picture_id = wanted.given.partition("/uploads/")[2]
        find = partial(self.received.find, principal, picture_id)
        path = await to_thread.run_sync(find)
        if path is None:
            raise wanted.refusal("is no picture that was sent here, or is kept no longer", _SENT)
        return await _fitted(await _saved(path, wanted, allowed=_SENT), wanted)

    async def _picture(self, given: str, principal: Principal) -> Picture | None:
        handle = _HANDLE.fullmatch(given)
        job = await self.journal.find(TaskId(handle[1])) if handle else None
        if handle is None or job is None or job.principal != principal:
            return None
        return next((each for each in job.pictures if each.n == int(handle[2])), None)

    def _is_alive(self, picture: Picture) -> bool:
        now = datetime.fromtimestamp(self.journal.now(), UTC)
        return picture.expires_at is not None and picture.expires_at - now >= LIFE_NEEDED


def _place(parts: SplitResult | None) -> tuple[str, str | None, int | None] | None:
    return (parts.scheme, parts.hostname, parts.port) if parts else None


_HANDLES = (
    "evolink://tasks/{task_id}/images/{n} of a saved picture: list_tasks knows the task ids, and "
    "get_task saves pictures as long as their links live"
)


def _wanted(
    image_urls: Sequence[str], mask_url: str | None, *, limits: Limits, rules: MaskLimits
) -> Iterator[_Wanted]:
    beside_mask = replace(limits, formats=rules.reference_formats or limits.formats)
    for position, given in enumerate(image_urls):
        first = mask_url is not None and position == 0
        yield _Wanted(
            field=f"image_urls[{position}]",
            given=given,
            rule=beside_mask if first else limits,
            kind="reference",
        )
    if mask_url is not None:
        yield _Wanted(field="mask_url", given=mask_url, rule=rules.mask, kind="mask")


async def _saved(path: Path, wanted: _Wanted, *, allowed: str = _HANDLES) -> LocalFile:
    """Read a picture that was saved, if it is still there itself and no link took its place."""
    try:
        return await OpenedFolders((path.parent,)).read(str(path), limit=MAX_INPUT_BYTES)
    except InvalidRequest as error:  # which tells of a path that the caller has not named
        raise wanted.refusal("is not where it was saved any more", allowed) from error


async def _fitted(file: LocalFile, wanted: _Wanted, *, name: str | None = None) -> _File:
    fitting = partial(fit, file.content, wanted.rule, kind=wanted.kind, field=wanted.field)
    fitted = await to_thread.run_sync(fitting, abandon_on_cancel=True)
    if name is None:
        name = await to_thread.run_sync(_digest, fitted.content)
    return _File(fitted, name)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _fits(picture: Picture, rule: Limits) -> bool:
    """Tell whether a picture fits as it is; one that was never fetched may be of any kind."""
    if not picture.media_type:
        return True
    return rule.take(
        media_type=picture.media_type,
        width=picture.width,
        height=picture.height,
        size=picture.size,
    )


def _check_sizes(found: Mapping[str, _Link | _File], rules: MaskLimits) -> Iterator[Problem]:
    mask, image = found.get("mask_url"), found.get("image_urls[0]")
    if not rules.same_size or mask is None or image is None:
        return
    if mask.size and image.size:
        problem = check_mask_fits(mask.size, image.size, changes=image.changes)
        if problem is not None:
            yield problem
