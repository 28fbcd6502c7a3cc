"""Fetching paid pictures and putting them on disk, whole or not at all."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from evolink_mcp.api.egress import Downloads
from evolink_mcp.api.wire import Task, TaskId
from evolink_mcp.errors import FileUnavailable, SettingInvalid
from evolink_mcp.jobs.job import Job, Picture
from evolink_mcp.jobs.pictures import Inspected, NotAPicture, inspect

logger = logging.getLogger(__name__)

MAX_PICTURE_BYTES = 100_000_000
"""Largest file that is fetched; a 4K PNG has about a third of it."""

AT_ONCE = 4
"""Pictures of a task that are held in memory at the same time."""

RESULT_LIFETIME = timedelta(hours=24)
"""How long result links live (EvoLink docs, every image page)."""

ROOM_NEEDED = 64_000_000
"""Bytes that must be free before a picture is bought."""

_DAMAGED = ".damaged"
"""Stands in the name of a file that ends early or cannot be decoded."""


async def prepare_folder(folder: Path) -> None:
    """Make sure, before money is spent, that pictures can be saved there.

    Raises:
        SettingInvalid: The folder cannot be made or written, or its disk is full.
    """
    try:
        free = await to_thread.run_sync(_prepare, folder)
    except OSError as error:
        raise _folder_invalid(folder, reason=error.strerror or type(error).__name__) from error
    if free < ROOM_NEEDED:
        raise _folder_invalid(folder, reason=f"only {free // 1_000_000} MB are free")


async def collect(
    job: Job, *, task: Task, downloads: Downloads, folder: Path
) -> tuple[Picture, ...]:
    """Fetch and save every picture of a completed task.

    One that could not be fetched or saved comes back with its `problem`; the others do
    not suffer from it. What is on disk already is not fetched again. A damaged one is laid
    aside under a name that says so, and fetched again as long as its link lives.
    """
    pictures = [_uncollected(task, n=n, url=url) for n, url in task.numbered_links]

    at_once = anyio.CapacityLimiter(AT_ONCE)

    async def one(index: int) -> None:
        async with at_once:
            picture = pictures[index]
            saved = await _saved_before(job, n=picture.n)
            pictures[index] = saved or await _collect_one(
                picture, task_id=task.task_id, downloads=downloads, folder=folder
            )

    async with anyio.create_task_group() as group:
        for index in range(len(pictures)):
            group.start_soon(one, index)
    return tuple(pictures)


async def _saved_before(job: Job, *, n: int) -> Picture | None:
    found = [picture for picture in job.pictures if picture.n == n]
    return found[0] if found and await all_on_disk(found) else None


async def all_on_disk(pictures: Sequence[Picture]) -> bool:
    """Tell whether every picture was saved and is still where it was saved."""
    paths = [picture.path for picture in pictures]
    return await to_thread.run_sync(_are_files, paths)


def _are_files(paths: Sequence[Path | None]) -> bool:
    try:
        return all(path is not None and path.is_file() for path in paths)
    except OSError:  # a folder that may not be looked into
        return False


def _uncollected(task: Task, *, n: int, url: str) -> Picture:
    """Describe a result; its link is taken to be as old as the task, which is on the safe side."""
    return Picture(n=n, url=url, expires_at=_expiry(task.created) if task.created else None)


def _expiry(created: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(created, UTC) + RESULT_LIFETIME
    except (ValueError, OverflowError, OSError):  # no time of any calendar
        return None


async def _collect_one(
    picture: Picture, *, task_id: TaskId, downloads: Downloads, folder: Path
) -> Picture:
    stem = folder / f"{task_id}-{picture.n}"
    try:
        content = await downloads.read(picture.url, limit=MAX_PICTURE_BYTES)
        told = await to_thread.run_sync(partial(_keep, picture, content=content, stem=stem))
    except (FileUnavailable, NotAPicture) as error:
        told = await to_thread.run_sync(partial(_unfetched, picture, error=error, stem=stem))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        told = replace(picture, problem=f"It could not be saved in {folder} ({reason}).")
    if told.path is None:
        logger.warning("task %s: picture %d is not on disk", task_id, picture.n)
    else:
        logger.info("task %s: picture %d saved, %d bytes", task_id, picture.n, told.size)
    return told


def _keep(picture: Picture, *, content: bytes, stem: Path) -> Picture:
    """Save what came; of a picture that came damaged more than once, the longest."""
    found = inspect(content)
    if found.damaged:
        path = stem.with_name(f"{stem.name}{_DAMAGED}.{found.extension}")
        if not path.exists() or path.stat().st_size < len(content):
            _write(path, content=content)
        problem = f"it is cut off or broken: what came of it is kept as {path.name}, and it is "
        return replace(picture, problem=f"{problem}fetched again while its link lives")
    whole = content + found.missing
    path = stem.with_name(f"{stem.name}.{found.extension}")
    _write(path, content=whole)
    with suppress(OSError):
        for damaged in _damaged_before(stem):
            damaged.unlink()
    return _saved(picture, path=path, found=found, size=len(whole))


def _unfetched(picture: Picture, *, error: FileUnavailable | NotAPicture, stem: Path) -> Picture:
    """Say why there is no picture; once its link is dead, a damaged one is all there will be."""
    dead = isinstance(error, FileUnavailable) and error.code == "link_expired"
    told = replace(picture, expires_at=None) if dead else picture
    kept = _laid_aside(told, stem)
    if kept is None or kept.path is None:
        return replace(told, problem=str(error))
    if dead:
        return kept
    return replace(told, problem=f"{error} A damaged one is kept as {kept.path.name}.")


def _laid_aside(picture: Picture, stem: Path) -> Picture | None:
    """Return the picture as it came damaged at an earlier look."""
    with suppress(OSError, NotAPicture):
        for path in _damaged_before(stem):
            content = path.read_bytes()
            return _saved(picture, path=path, found=inspect(content), size=len(content))
    return None


def _damaged_before(stem: Path) -> list[Path]:
    return sorted(stem.parent.glob(f"{stem.name}{_DAMAGED}.*"))


def _saved(picture: Picture, *, path: Path, found: Inspected, size: int) -> Picture:
    return replace(
        picture,
        path=path,
        media_type=found.media_type,
        width=found.width,
        height=found.height,
        size=size,
    )


def _write(path: Path, *, content: bytes) -> None:
    """Write a file so that it is there whole, or not at all, whatever happens meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}-{secrets.token_hex(4)}.part")
    try:
        with unfinished.open("xb") as part:
            part.write(content)
            part.flush()
            os.fsync(part.fileno())
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name durable too, where the system can do that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _prepare(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return shutil.disk_usage(folder).free


def _folder_invalid(folder: Path, *, reason: str) -> SettingInvalid:
    return SettingInvalid(
        setting="EVOLINK_OUTPUT_DIR",
        code="output_folder_unusable",
        message=f"Pictures cannot be saved in {folder} ({reason}). Nothing was sent to EvoLink.",
        next_step="Ask the user to make room or to set EVOLINK_OUTPUT_DIR to a folder that can "
        "be written, and to restart this server.",
    )
