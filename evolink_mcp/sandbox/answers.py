"""The bodies of good answers, as EvoLink's docs show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import quote, urljoin

from evolink_mcp.sandbox.account import Account
from evolink_mcp.sandbox.outcomes import Outcome
from evolink_mcp.sandbox.tasks import SandboxTask, Stage
from evolink_mcp.sandbox.uploads import Upload, Uploads

Body = dict[str, object]


def submitted(task: SandboxTask) -> Body:
    """Return the answer to a POST (EvoLink docs, the model's page)."""
    usage = {
        "billing_rule": "per_call",
        "credits_reserved": task.credits_reserved,
        "user_group": "default",
    }
    return {
        **_task(task, status="pending", progress=0),
        "task_info": _under_way(task),
        "usage": usage,
    }


def unfinished(task: SandboxTask, stage: Stage) -> Body:
    """Return the answer to a GET before the end (EvoLink docs, "Query Task Status")."""
    return {
        **_task(task, status=stage.status, progress=stage.progress),
        "task_info": _under_way(task),
    }


def finished(task: SandboxTask, outcome: Outcome) -> Body:
    """Return the answer to a GET after the end; callbacks carry the same."""
    over = {"task_info": {"can_cancel": False}}
    if outcome.failure is not None:
        failure = outcome.failure
        error = {"code": failure.code, "message": failure.message, "type": "task_error"}
        return {**_task(task, status="failed"), **over, "error": error}
    if task.faults.status is not None:
        return {**_task(task, status=task.faults.status), **over}
    return {**_task(task, status="completed"), **over, **_results(task, outcome)}


def balance(account: Account) -> Body:
    """Return the answer about credits (EvoLink docs, "Query Credits")."""
    counts = {"remaining_credits": account.credits, "used_credits": account.used}
    token = {**counts, "unlimited_credits": False}
    return {"success": True, "message": "", "data": {"token": token, "user": counts}}


def models(ids: Iterable[str]) -> Body:
    """Return the answer about the models that a key may use (vendor client)."""
    return {"data": [{"id": model} for model in ids]}


def uploaded(upload: Upload, *, base_url: str) -> Body:
    """Return the answer to an upload (EvoLink docs, "File Stream Upload")."""
    url = urljoin(base_url, quote(upload.path))
    return _filed(
        "File uploaded successfully",
        {
            "file_id": upload.id,
            "file_name": upload.name,
            "original_name": upload.original_name,
            "file_size": upload.size,
            "mime_type": upload.media_type,
            "upload_path": upload.folder,
            "file_url": url,
            "download_url": url,
            "upload_time": _moment(upload.stored),
            "expires_at": _moment(upload.expires),
        },
    )


def file_quota(uploads: Uploads) -> Body:
    """Return the answer about the number of files (EvoLink docs, "Get File Quota")."""
    used = len(uploads.list())
    counts = {
        "user_group": "default",
        "used_files": used,
        "max_files": uploads.quota,
        "remain_files": uploads.quota - used,
        "is_custom": False,
        "quota_reason": "",
    }
    return _filed("Query successful", counts)


def file_list(uploads: Sequence[Upload], *, page: int, size: int) -> Body:
    """Return one page of the list of files (vendor client)."""
    files = [
        {
            "file_id": upload.id,
            "file_name": upload.name,
            "file_size": upload.size,
            "upload_time": _moment(upload.stored),
        }
        for upload in uploads[(page - 1) * size : page * size]
    ]
    return _filed("Query successful", {"total": len(uploads), "files": files})


def file_deleted(file_id: str) -> Body:
    """Return the answer to the deletion of a file (vendor client)."""
    return _filed("File deleted successfully", {"file_id": file_id})


def _filed(message: str, content: Mapping[str, object]) -> Body:
    return {"success": True, "code": 200, "msg": message, "data": content}


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _task(task: SandboxTask, *, status: str, progress: int = 100) -> Body:
    return {
        "created": int(task.created),
        "id": task.id,
        "model": task.request.model,
        "object": "image.generation.task",
        "progress": progress,
        "status": status,
        "type": "image",
    }


def _under_way(task: SandboxTask) -> Body:
    return {"can_cancel": True, "estimated_time": task.estimate}


def _results(task: SandboxTask, outcome: Outcome) -> Body:
    if "result-data" in task.faults.flags:
        return {"result_data": [{"image_url": url} for url in outcome.urls]}
    return {"results": list(outcome.urls)}
