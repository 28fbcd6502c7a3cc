"""The bodies of good answers, as EvoLink's docs show them."""

from __future__ import annotations

from evolink_mcp.sandbox.account import Account
from evolink_mcp.sandbox.outcomes import Outcome
from evolink_mcp.sandbox.tasks import SandboxTask, Stage

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
