"""What answers say in words: the text beside the structured form."""

from __future__ import annotations

from collections.abc import Sequence

from evolink_mcp.server.answers import Answer, Entry, ImageAnswer, TaskList

_LOOK = "Describe a picture only if you can see it."
_TELL_PATH = (
    "Tell the user the path or address: many programs do not show pictures from tools. " + _LOOK
)
_TELL_LINK = (
    "Give the user the download link as it is: many programs do not show pictures from tools. "
    "Whoever has it gets the picture; get_task makes a new one when it has died. " + _LOOK
)


def finished_text(answer: Answer) -> str:
    """Say where the pictures are."""
    images = answer.images or []
    facts = [f"task {answer.task_id}", answer.model, f"{answer.seconds:g} s", _credits(answer)]
    lines = [f"{_count(images)} ({', '.join(filter(None, facts))})."]
    for image in images:
        lines += _image_lines(image)
    lines += answer.notes or []
    lines.append(_TELL_LINK if any(image.download_url for image in images) else _TELL_PATH)
    return "\n".join(lines)


def _count(images: Sequence[ImageAnswer]) -> str:
    made, saved = len(images), sum(image.saved for image in images)
    if saved < made:
        return f"EvoLink made {made}, and {saved} of them could be saved"
    return "1 picture is ready" if made == 1 else f"{made} pictures are ready"


def pixels_of(image: ImageAnswer) -> str:
    """Say how large a picture is, where that is known."""
    return f"{image.width}x{image.height} pixels, " if image.width else ""


def _image_lines(image: ImageAnswer) -> list[str]:
    until = f" (until {image.url_expires_at})" if image.url_expires_at else ""
    facts = f"   {pixels_of(image)}{image.media_type}, {image.bytes} bytes"
    lines = [f"{image.n}. {_where(image)}", *([facts] if image.saved else [])]
    return [*lines, f"   {image.url}{until}", f"   {image.handle}"]


def _where(image: ImageAnswer) -> str:
    if image.download_url:
        return f"Download link: {image.download_url} (until {image.download_expires_at})"
    if image.saved:
        return image.path or "on the server's disk"
    return f"NOT SAVED: {image.problem}"


def unfinished_text(answer: Answer) -> str:
    """Say how far it is and when to call again."""
    credit = _credits(answer)
    return (
        f"Not ready yet, and not an error: task {answer.task_id} is {answer.status} "
        f"({answer.progress:.0f} %, {answer.seconds:g} s so far{', ' + credit if credit else ''}). "
        f"It is paid for and goes on by itself. Call get_task with "
        f'{{"task_id": "{answer.task_id}"}} in {answer.next_poll_seconds} s. '
        "Do not call generate_image again for it: that would buy another picture."
        + "".join(f" {note}" for note in answer.notes or ())
    )


def failed_text(answer: Answer) -> str:
    """Say what happened and what to do."""
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
        *(answer.notes or ()),
    )
    return "\n".join(lines)


def _credits(answer: Answer) -> str:
    reserved = answer.credits_reserved
    return f"{reserved:g} credits reserved" if reserved is not None else ""


def list_text(answer: TaskList) -> str:
    """Say what was bought, in a few lines each."""
    entries = answer.tasks or []
    lines = [line for entry in entries for line in _entry_lines(entry)]
    cap = f" of {answer.daily_credits:g}" if answer.daily_credits is not None else ""
    lines.append(f"Spent or reserved today: {answer.spent_today or 0:g}{cap} credits.")
    head = f"{len(entries)} of what was bought, newest first:" if entries else "Nothing is here."
    return "\n".join([head, *lines])


def _entry_lines(entry: Entry) -> list[str]:
    name = entry.task_id or entry.job_id
    credit = f", {entry.credits:g} credits" if entry.credits is not None else ""
    told = f": {entry.prompt}" if entry.prompt else ""
    lines = [f"- {entry.status}, {entry.created}, {name}{credit}{told}"]
    lines += [f"  {path}" for path in entry.paths or ()]
    return [*lines, f"  {entry.problem}"] if entry.problem else lines
