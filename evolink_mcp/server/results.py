"""Jobs and failures as tool results: every fact in the text and in the structured form."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import partial

from anyio import to_thread
from mcp.types import CallToolResult, ContentBlock, ImageContent, TextContent

from evolink_mcp.api.wire import TaskId
from evolink_mcp.errors import Charged, EvolinkError, OutcomeUnknown, TaskFailed
from evolink_mcp.jobs.cadence import next_reading
from evolink_mcp.jobs.job import Job, Picture
from evolink_mcp.jobs.preview import BASE64_BUDGET, Preview, reduced, whole
from evolink_mcp.server.answers import (
    Answer,
    Failure,
    ImageAnswer,
    NextCall,
    NextCallArguments,
    Status,
)
from evolink_mcp.settings import Preview as PreviewSetting

logger = logging.getLogger(__name__)

_SHORTEST_PAUSE = 3
"""Seconds to the next call: get_task waits by itself, so there is no need to hurry."""


async def finished(job: Job, *, seconds: float, preview: PreviewSetting) -> CallToolResult:
    """Answer with the pictures of a completed task."""
    answer = Answer(
        status="completed",
        task_id=job.task_id,
        model=job.task.model if job.task else None,
        progress=100,
        seconds=round(seconds, 1),
        images=[_image(picture) for picture in job.pictures],
        credits_reserved=job.task.credits_reserved if job.task else None,
        notes=_notes(job) or None,
    )
    blocks = await _previews(job.pictures, preview)
    return _result(answer, text=_finished_text(answer), blocks=blocks)


def unfinished(job: Job, *, seconds: float) -> CallToolResult:
    """Answer that the task goes on, with the exact next call; not an error."""
    task, task_id = job.task, job.task_id
    assert task is not None, "a wait begins with a task"  # noqa: S101
    pause = next_reading(elapsed=seconds, estimated=task.estimated_seconds, progress=task.progress)
    answer = Answer(
        status="pending" if task.status == "pending" else "processing",
        task_id=task_id,
        model=task.model,
        progress=task.progress,
        seconds=round(seconds, 1),
        credits_reserved=task.credits_reserved,
        next_poll_seconds=max(_SHORTEST_PAUSE, math.ceil(pause)),
        next_call=_get_task(task.id),
    )
    return _result(answer, text=_unfinished_text(answer))


def failed(error: EvolinkError, *, job: Job | None = None) -> CallToolResult:
    """Answer with what happened, whether it cost anything and what to do now."""
    task_id = job.task_id if job else None
    paid = task_id is not None and not isinstance(error, TaskFailed)
    charged = "yes" if paid and error.charged == "no" else error.charged
    answer = Answer(
        status=_failure_status(error, paid=paid),
        task_id=task_id,
        credits_reserved=job.task.credits_reserved if job and job.task else None,
        next_call=_get_task(task_id) if paid and task_id else None,
        error=_failure(error, charged=charged),
    )
    return _result(answer, text=_failed_text(answer), is_error=True)


def unread(error: EvolinkError, *, task_id: TaskId) -> CallToolResult:
    """Answer that a task could not be looked at; it may well be a paid one."""
    answer = Answer(
        status="unknown",
        task_id=task_id,
        next_call=_get_task(task_id),
        error=_failure(error, charged="unknown"),
    )
    return _result(answer, text=_failed_text(answer), is_error=True)


def _failure(error: EvolinkError, *, charged: Charged) -> Failure:
    return Failure(
        code=error.code,
        message=error.message,
        retryable=error.retryable,
        charged=charged,
        next_step=error.next_step,
    )


def _failure_status(error: EvolinkError, *, paid: bool) -> Status:
    if isinstance(error, OutcomeUnknown):
        return "unknown"
    if isinstance(error, TaskFailed):
        return "failed"
    return "processing" if paid else "refused"


def _result(
    answer: Answer, *, text: str, blocks: Sequence[ContentBlock] = (), is_error: bool = False
) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text=text), *blocks],
        structured_content=answer.model_dump(mode="json", exclude_none=True),
        is_error=is_error,
    )


def _get_task(task_id: str) -> NextCall:
    return NextCall(tool="get_task", arguments=NextCallArguments(task_id=task_id))


def _image(picture: Picture) -> ImageAnswer:
    saved = picture.path is not None
    expires = picture.expires_at
    return ImageAnswer(
        n=picture.n,
        url=picture.url,
        url_expires_at=expires.isoformat(timespec="minutes") if expires else None,
        path=str(picture.path) if saved else None,
        media_type=picture.media_type or None,
        width=picture.width or None,
        height=picture.height or None,
        bytes=picture.size or None,
        problem=picture.problem or None,
    )


def _notes(job: Job) -> list[str]:
    asked = (job.request.n or 1) if job.request else 0
    made, unsaved = len(job.pictures), [p for p in job.pictures if p.path is None]
    notes: list[str] = []
    if asked > made:
        notes.append(f"EvoLink made {made} of {asked} pictures; it charges for those it made.")
    if unsaved:
        notes.append(
            "Not every picture is on disk. Where the cause can be mended (room, rights, network), "
            "mend it and call get_task with this task id again; nothing is charged for that."
        )
    return notes


def _finished_text(answer: Answer) -> str:
    images = answer.images or []
    facts = [f"task {answer.task_id}", answer.model, f"{answer.seconds:g} s", _credits(answer)]
    lines = [f"{_count(images)} ({', '.join(filter(None, facts))})."]
    for image in images:
        lines += _image_lines(image)
    lines += answer.notes or []
    lines.append(
        "Tell the user the path or address: many programs do not show pictures from tools. "
        "Describe a picture only if you can see it."
    )
    return "\n".join(lines)


def _count(images: Sequence[ImageAnswer]) -> str:
    made, saved = len(images), sum(image.path is not None for image in images)
    if saved < made:
        return f"EvoLink made {made}, and {saved} of them could be saved"
    return "1 picture is ready" if made == 1 else f"{made} pictures are ready"


def _image_lines(image: ImageAnswer) -> list[str]:
    until = f" (until {image.url_expires_at})" if image.url_expires_at else ""
    where = f"{image.n}. {image.path}" if image.path else f"{image.n}. NOT SAVED: {image.problem}"
    facts = f"   {image.width}x{image.height} pixels, {image.media_type}, {image.bytes} bytes"
    return [where, *([facts] if image.path else []), f"   {image.url}{until}"]


def _unfinished_text(answer: Answer) -> str:
    credit = _credits(answer)
    return (
        f"Not ready yet, and not an error: task {answer.task_id} is {answer.status} "
        f"({answer.progress:.0f} %, {answer.seconds:g} s so far{', ' + credit if credit else ''}). "
        f"It is paid for and goes on by itself. Call get_task with "
        f'{{"task_id": "{answer.task_id}"}} in {answer.next_poll_seconds} s. '
        "Do not call generate_image again for it: that would buy another picture."
    )


def _failed_text(answer: Answer) -> str:
    error = answer.error
    assert error is not None, "only for answers that hold one"  # noqa: S101
    task = f"Task: {answer.task_id}. " if answer.task_id else ""
    call = (
        f'Next call: get_task with {{"task_id": "{answer.task_id}"}}.' if answer.next_call else ""
    )
    retryable = "yes" if error.retryable else "no"
    lines = (
        error.message,
        f"{task}Code: {error.code}. Charged: {error.charged}. Retryable: {retryable}.",
        f"Next step: {error.next_step} {call}".rstrip(),
    )
    return "\n".join(lines)


def _credits(answer: Answer) -> str:
    reserved = answer.credits_reserved
    return f"{reserved:g} credits reserved" if reserved is not None else ""


async def _previews(pictures: Sequence[Picture], setting: PreviewSetting) -> list[ContentBlock]:
    if setting == "none" or not pictures:
        return []
    share = BASE64_BUDGET // len(pictures)
    made = [await _preview(picture, setting=setting, share=share) for picture in pictures]
    return [
        ImageContent(type="image", data=preview.base64, mime_type=preview.media_type)
        for preview in made
        if preview is not None
    ]


async def _preview(picture: Picture, *, setting: PreviewSetting, share: int) -> Preview | None:
    """Make a preview; a picture that vanished from the disk meanwhile goes without."""
    if picture.path is None:
        return None
    make = (
        partial(reduced, picture.path, share=share)
        if setting == "preview"
        else partial(whole, picture.path, media_type=picture.media_type, share=share)
    )
    try:
        return await to_thread.run_sync(make)
    except OSError:
        logger.warning("picture %d of a task could not be read for its preview", picture.n)
        return None
