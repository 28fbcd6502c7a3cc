"""Jobs and failures as tool results: every fact in the text and in the structured form.

A caller who is not here gets links where others get paths: `Caller.told` sees to that.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from anyio import to_thread
from mcp.types import CallToolResult, ContentBlock, ImageContent, ResourceLink, TextContent

from evolink_mcp.api.wire import TaskId
from evolink_mcp.errors import EvolinkError, OutcomeUnknown, TaskFailed
from evolink_mcp.jobs.cadence import next_reading
from evolink_mcp.jobs.job import Job, Picture, State, Watch
from evolink_mcp.jobs.preview import BASE64_BUDGET, Preview, reduced, whole
from evolink_mcp.server.answers import (
    HERE,
    Answer,
    Caller,
    Entry,
    Failure,
    ImageAnswer,
    NextCall,
    NextCallArguments,
    Shown,
    Status,
    TaskList,
)
from evolink_mcp.server.texts import failed_text, finished_text, list_text, unfinished_text
from evolink_mcp.settings import Preview as PreviewSetting

logger = logging.getLogger(__name__)

_SHORTEST_PAUSE = 3
"""Seconds to the next call: get_task waits by itself, so there is no need to hurry."""


_JOINED = (
    "This call joined an identical earlier one whose answer may not have been delivered; nothing "
    "new was bought. To buy another picture, call generate_image again in a few seconds."
)
_UNSAVED = (
    "The record of this job could not be written (see this server's log). Keep the task id: it is "
    "how the pictures are found again."
)

_SHOWN: Mapping[State, Shown] = {
    "intent": "running",
    "submitted": "running",
    "processing": "running",
    "completed": "unsaved",
    "collected": "completed",
    "expired": "unsaved",
    "failed": "failed",
    "declined": "declined",
    "refused": "refused",
    "unknown": "unknown",
}

_PROMPT_SHOWN = 80
"""Characters of a prompt in a list."""


@dataclass(frozen=True, slots=True)
class Call:
    """What an answer says of the call that it answers."""

    seconds: float
    """How long it has waited."""
    joined: bool = False
    """Whether it joined what an earlier call had bought."""
    notes: tuple[str, ...] = ()
    """What else there is to say of it."""


async def finished(
    watch: Watch, call: Call, *, preview: PreviewSetting, caller: Caller = HERE
) -> CallToolResult:
    """Answer with the pictures of a completed task."""
    answer = caller.told(_completed(watch.job, call, notes=_call_notes(watch, call)))
    pictures = watch.job.pictures
    blocks = [*await _previews(pictures, preview), *_links(answer)]
    return _result(answer, text=finished_text(answer), blocks=blocks)


def unfinished(watch: Watch, call: Call) -> CallToolResult:
    """Answer that the task goes on, with the exact next call; not an error."""
    answer = _going_on(watch.job, call, notes=_call_notes(watch, call))
    return _result(answer, text=unfinished_text(answer))


def failed(
    error: EvolinkError, *, job: Job | None = None, joined: bool = False, caller: Caller = HERE
) -> CallToolResult:
    """Answer with what happened, whether it cost anything and what to do now."""
    answer = caller.told(_failed(error, job=job, notes=[_JOINED] if joined else []))
    return _result(answer, text=failed_text(answer), is_error=True)


def unread(error: EvolinkError, *, task_id: TaskId, caller: Caller = HERE) -> CallToolResult:
    """Answer that a task could not be looked at; it may well be a paid one."""
    answer = Answer(
        status="unknown",
        task_id=task_id,
        next_call=_get_task(task_id),
        error=Failure.of(error, charged="unknown"),
    )
    told = caller.told(answer)
    return _result(told, text=failed_text(told), is_error=True)


def recorded(job: Job, *, caller: Caller = HERE) -> Answer:
    """Say what the journal knows of a job."""
    return caller.told(_recorded(job))


def _recorded(job: Job) -> Answer:
    if job.error is not None:
        return _failed(job.error, job=job, notes=[])
    if job.pictures:
        return _completed(job, None, notes=[])
    return _going_on(job, Call(0), notes=[])


def tasks_listed(answer: TaskList) -> CallToolResult:
    """Answer with a list of jobs."""
    return _result(answer, text=list_text(answer))


def list_failed(error: EvolinkError, *, caller: Caller = HERE) -> CallToolResult:
    """Answer that there is no list."""
    told = caller.told(TaskList(error=Failure.of(error)))
    text = failed_text(Answer(status="refused", error=told.error))
    return _result(told, text=text, is_error=True)


def listed(
    jobs: Sequence[Job], *, spent: float, cap: float | None, caller: Caller = HERE
) -> TaskList:
    """Describe jobs in a list."""
    entries = [_entry(job) for job in jobs]
    return caller.told(TaskList(tasks=entries, spent_today=round(spent, 4), daily_credits=cap))


def states_shown_as(shown: Shown | None) -> list[State]:
    """Return the states that a list calls so; none for all of them."""
    return [state for state, word in _SHOWN.items() if word == shown]


def handle_of(task_id: str, *, n: int | str) -> str:
    """Return a picture's name here."""
    return f"evolink://tasks/{task_id}/images/{n}"


def _completed(job: Job, call: Call | None, *, notes: list[str]) -> Answer:
    return Answer(
        status="completed",
        task_id=job.task_id,
        model=job.task.model if job.task else None,
        progress=100,
        seconds=round(call.seconds, 1) if call else None,
        images=[_image(picture, task_id=job.task_id or "") for picture in job.pictures],
        credits_reserved=job.task.credits_reserved if job.task else None,
        notes=[*_notes(job), *notes] or None,
    )


def _going_on(job: Job, call: Call, *, notes: list[str]) -> Answer:
    task, task_id = job.task, job.task_id
    assert task is not None, "a wait begins with a task"  # noqa: S101
    pause = next_reading(
        elapsed=call.seconds, estimated=task.estimated_seconds, progress=task.progress
    )
    return Answer(
        status="pending" if task.status == "pending" else "processing",
        task_id=task_id,
        model=task.model,
        progress=task.progress,
        seconds=round(call.seconds, 1),
        credits_reserved=task.credits_reserved,
        notes=notes or None,
        next_poll_seconds=max(_SHORTEST_PAUSE, math.ceil(pause)),
        next_call=_get_task(task.id),
    )


def _failed(error: EvolinkError, *, job: Job | None, notes: list[str]) -> Answer:
    task_id = job.task_id if job else None
    paid = task_id is not None and not isinstance(error, TaskFailed)
    over = job is not None and job.state == "expired"
    charged = "yes" if paid and error.charged == "no" else error.charged
    return Answer(
        status="expired" if over else _failure_status(error, paid=paid),
        task_id=task_id,
        credits_reserved=job.task.credits_reserved if job and job.task else None,
        notes=notes or None,
        next_call=_get_task(task_id) if paid and task_id and not over else None,
        error=Failure.of(error, charged=charged),
    )


def _entry(job: Job) -> Entry:
    request, task = job.request, job.task
    prompt = " ".join(request.prompt.split()) if request else ""
    problems = (picture.problem for picture in job.pictures if picture.problem)
    return Entry(
        status=_SHOWN[job.state],
        job_id=job.id,
        task_id=job.task_id,
        created=_moment(job.created),
        model=(task.model if task else None) or (request.model if request else None),
        prompt=(prompt[: _PROMPT_SHOWN - 1] + "…" if len(prompt) > _PROMPT_SHOWN else prompt)
        or None,
        n=job.asked or None,
        credits=job.booked if task and task.credits_reserved is not None else None,
        paths=[str(picture.path) for picture in job.pictures if picture.path] or None,
        problem=job.error.message if job.error else " ".join(dict.fromkeys(problems)) or None,
    )


def _moment(created: float) -> str:
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="minutes")


def _call_notes(watch: Watch, call: Call) -> list[str]:
    notes = {_JOINED: call.joined, _UNSAVED: watch.unsaved}
    return [*(note for note, applies in notes.items() if applies), *call.notes]


def _links(answer: Answer) -> list[ContentBlock]:
    """Link the whole pictures, for hosts that read resources."""
    return [
        ResourceLink(
            type="resource_link",
            uri=image.handle,
            name=f"{answer.task_id}-{image.n}",
            mime_type=image.media_type,
            size=image.bytes,
        )
        for image in answer.images or ()
        if image.saved
    ]


def _failure_status(error: EvolinkError, *, paid: bool) -> Status:
    if isinstance(error, OutcomeUnknown) or (error.charged == "unknown" and not paid):
        return "unknown"
    if isinstance(error, TaskFailed):
        return "failed"
    return "processing" if paid else "refused"


def _result(
    answer: Answer | TaskList,
    *,
    text: str,
    blocks: Sequence[ContentBlock] = (),
    is_error: bool = False,
) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text=text), *blocks],
        structured_content=answer.model_dump(mode="json", exclude_none=True),
        is_error=is_error,
    )


def _get_task(task_id: str) -> NextCall:
    return NextCall(tool="get_task", arguments=NextCallArguments(task_id=task_id))


def _image(picture: Picture, *, task_id: str) -> ImageAnswer:
    saved = picture.path is not None
    expires = picture.expires_at
    return ImageAnswer(
        n=picture.n,
        handle=handle_of(task_id, n=picture.n),
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
    asked, made, unsaved = (
        job.asked,
        len(job.pictures),
        [picture for picture in job.pictures if picture.path is None],
    )
    notes: list[str] = []
    if asked > made:
        notes.append(f"EvoLink made {made} of {asked} pictures; it charges for those it made.")
    if unsaved and job.state == "expired":
        notes.append(
            "Not every picture could be saved while its link lived (24 hours), and the link has "
            "expired. What is not on disk cannot be fetched any more."
        )
    elif unsaved:
        notes.append(
            "Not every picture is on disk. Where the cause can be mended (room, rights, network), "
            "mend it and call get_task with this task id again; nothing is charged for that."
        )
    return notes


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
