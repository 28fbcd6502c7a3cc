"""Jobs as rows of the journal, and back."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import cast

from pydantic import TypeAdapter

from evolink_mcp.api.wire import Task
from evolink_mcp.catalog.request import ImageRequest, request_in
from evolink_mcp.errors import Charged, EvolinkError, OutcomeUnknown, TaskFailed
from evolink_mcp.jobs.job import Job, JobId, Picture, Principal, State

_BODY = TypeAdapter(dict[str, object])


def wish_of(request: ImageRequest | None) -> str:
    """Return a name for what is wanted: the same for identical requests; empty for none."""
    if request is None:
        return ""
    body = json.dumps(request.body(), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(body.encode()).hexdigest()


def request_text(request: ImageRequest | None) -> str | None:
    """Write a request."""
    return json.dumps(request.body()) if request else None


def task_text(task: Task | None) -> str | None:
    """Write a reading of a task."""
    return json.dumps(task.body()) if task else None


def error_text(error: EvolinkError | None) -> str | None:
    """Write what a job ended with."""
    if error is None:
        return None
    names = ("code", "message", "next_step", "retryable", "charged")
    return json.dumps({name: getattr(error, name) for name in names})


def picture_row(job_id: JobId, picture: Picture) -> tuple[object, ...]:
    """Write a picture."""
    return (
        job_id,
        picture.n,
        picture.url,
        picture.expires_at.isoformat() if picture.expires_at else None,
        str(picture.path) if picture.path else None,
        picture.media_type,
        picture.width,
        picture.height,
        picture.size,
        picture.problem,
    )


def job_in(row: sqlite3.Row, pictures: Iterable[sqlite3.Row]) -> Job:
    """Read a job."""
    request, task = row["request"], row["task"]
    return Job(
        id=JobId(row["id"]),
        principal=Principal(row["principal"]),
        request=request_in(_BODY.validate_json(request)) if request else None,
        created=row["created"],
        booked=row["booked"],
        state=cast("State", row["state"]),
        task=Task.model_validate_json(task) if task else None,
        pictures=tuple(map(_picture_in, pictures)),
        error=_error_in(row),
    )


def _picture_in(row: sqlite3.Row) -> Picture:
    expires, path = row["expires_at"], row["path"]
    return Picture(
        n=row["n"],
        url=row["url"],
        expires_at=datetime.fromisoformat(expires) if expires else None,
        path=Path(path) if path else None,
        media_type=row["media_type"],
        width=row["width"],
        height=row["height"],
        size=row["size"],
        problem=row["problem"],
    )


def _error_in(row: sqlite3.Row) -> EvolinkError | None:
    if row["error"] is None:
        return None
    told = json.loads(row["error"])
    error = EvolinkError(
        code=str(told["code"]),
        message=str(told["message"]),
        next_step=str(told["next_step"]),
        retryable=bool(told["retryable"]),
        charged=cast("Charged", told["charged"]),
    )
    if row["state"] == "unknown":
        return OutcomeUnknown(message=error.message, next_step=error.next_step)
    if row["state"] == "failed":
        return TaskFailed(
            task_id=str(row["task_id"]),
            code=error.code,
            message=error.message,
            next_step=error.next_step,
            retryable=error.retryable,
        )
    return error
