"""Arguments of calls, beyond those that the API itself takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast, get_args

from evolink_mcp.api.wire import TaskId, read_task_id
from evolink_mcp.catalog.inputs import Reach
from evolink_mcp.catalog.models import Catalogue
from evolink_mcp.catalog.request import ImageRequest, Json, read_request, unknown_fields
from evolink_mcp.catalog.schema import INPUTS, request_schema
from evolink_mcp.errors import InvalidRequest, Problem
from evolink_mcp.server.answers import Shown
from evolink_mcp.settings import Confirm

WAIT_SECONDS: Mapping[str, object] = {
    "type": "number",
    "description": "Answer after this many seconds at the latest, ready or not. Leave it out to "
    "wait as long as this program allows.",
    "minimum": 0,
}

TASK_ID: Mapping[str, object] = {
    "type": "string",
    "description": "The task_id that generate_image gave.",
    "minLength": 14,
    "maxLength": 120,
}


STATUS: Mapping[str, object] = {
    "type": "string",
    "description": "Only those: running, completed, unsaved (paid for, not all on disk), failed, "
    "declined (asked about, not bought), refused or unknown (nobody knows whether it was bought).",
    "enum": list(get_args(Shown)),
}

LIMIT: Mapping[str, object] = {
    "type": "integer",
    "description": "How many at most.",
    "minimum": 1,
    "maximum": 100,
    "default": 20,
}

USUAL_LIMIT, HIGHEST_LIMIT = 20, 100


def generate_image_schema(catalogue: Catalogue, *, inputs: str = INPUTS) -> dict[str, object]:
    """Return the input schema of `generate_image`: the models' own, and how long to wait.

    `inputs` says what may stand for a reference image.
    """
    schema = request_schema(catalogue)
    properties = {**schema["properties"], "wait_seconds": WAIT_SECONDS}
    if (images := properties.get("image_urls")) is not None:
        told = str(images["description"]).replace(INPUTS, inputs)
        properties["image_urls"] = {**images, "description": told}
    return {**schema, "properties": properties}


def get_task_schema() -> dict[str, object]:
    """Return the input schema of `get_task`."""
    return {
        "type": "object",
        "properties": {"task_id": TASK_ID, "wait_seconds": WAIT_SECONDS},
        "required": ["task_id"],
    }


def list_tasks_schema() -> dict[str, object]:
    """Return the input schema of `list_tasks`."""
    return {"type": "object", "properties": {"status": STATUS, "limit": LIMIT}}


def read_list_tasks(arguments: Json) -> tuple[Shown | None, int]:
    """Read the arguments of `list_tasks`.

    Raises:
        InvalidRequest: Unknown arguments, a status that does not exist, or no number.
    """
    fields = {name: value for name, value in arguments.items() if value is not None}
    status, limit = fields.get("status"), fields.get("limit", USUAL_LIMIT)
    problems = list(unknown_fields(fields, ("status", "limit")))
    if status is not None and status not in get_args(Shown):
        problems.append(Problem("status", "does not exist", ", ".join(get_args(Shown))))
    number = _whole_number(limit)
    if not 1 <= number <= HIGHEST_LIMIT:
        problems.append(Problem("limit", "must be a whole number", f"1 to {HIGHEST_LIMIT}"))
    if problems:
        raise InvalidRequest(problems=tuple(problems))
    return cast("Shown | None", status), number


def _whole_number(value: object) -> int:
    """Read a number that may come as a text or as 2.0; anything else counts as 0."""
    try:
        number = float(value) if isinstance(value, str | int | float) else 0.0
        return int(number) if not isinstance(value, bool) and number.is_integer() else 0
    except (ValueError, OverflowError):
        return 0


def _split_wait(arguments: Json) -> tuple[dict[str, object], float | None]:
    """Take `wait_seconds` out of the arguments.

    Raises:
        InvalidRequest: It is not a number of seconds.
    """
    fields = dict(arguments)
    value = fields.pop("wait_seconds", None)
    return fields, None if value is None else _seconds(value)


def read_generate_image(
    arguments: Json, catalogue: Catalogue, *, confirm: Confirm, remote: bool = False
) -> tuple[ImageRequest, float | None]:
    """Read the arguments of `generate_image`; a remote caller has no files here to name.

    Raises:
        InvalidRequest: Unknown arguments or broken rules.
    """
    fields, wait = _split_wait(arguments)
    beside = ("wait_seconds",) if confirm.mode == "never" else ("wait_seconds", "confirm")
    reach: Reach = "handles" if remote else "files"
    return read_request(fields, catalogue, beside=beside, reach=reach), wait


def read_get_task(arguments: Json) -> tuple[TaskId, float | None]:
    """Read the arguments of `get_task`.

    Raises:
        InvalidRequest: Unknown arguments, or no task id.
    """
    fields, wait = _split_wait(arguments)
    if problems := unknown_fields(fields, ("task_id", "wait_seconds")):
        raise InvalidRequest(problems=problems)
    task_id = fields.get("task_id")
    return read_task_id(task_id if isinstance(task_id, str) else ""), wait


def _seconds(value: object) -> float:
    try:
        seconds = float(value) if isinstance(value, str | int | float) else -1.0
    except (ValueError, OverflowError):
        seconds = -1.0
    if isinstance(value, bool) or not 0 <= seconds < math.inf:
        problem = Problem("wait_seconds", "must be a number of seconds", "0 or more")
        raise InvalidRequest(problems=(problem,))
    return seconds
