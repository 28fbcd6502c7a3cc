"""Reading a POST: from bytes to a checked request, or to the refusal EvoLink would give."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, cast

from starlette.requests import Request

from evolink_mcp.catalog.checks import check_request
from evolink_mcp.catalog.request import ImageRequest, fields_of, request_in
from evolink_mcp.catalog.spec import MEGABYTE, ModelSpec
from evolink_mcp.sandbox.refusals import SUBMIT_REASONS, Reason, Refused, invalid_request

BODY_LIMIT: Final = 64 * MEGABYTE
"""Bytes of JSON that one POST may have (EvoLink docs, on some pages)."""

DEFAULT_MODEL: Final = "gpt-4o-image"


async def read_submission(request: Request, models: Mapping[str, ModelSpec]) -> ImageRequest:
    """Return the pictures that a POST asks for.

    Raises:
        Refused: 400, 403 or 413, with the first broken rule as message.
    """
    given = _parsed(await _read_body(request))
    asked = {name: _whole(value) for name, value in given.items() if value is not None}
    spec = _find_spec(asked.get("model", DEFAULT_MODEL), models)
    problems = check_request(asked, spec)
    if problems:
        raise invalid_request(str(problems[0]), param=problems[0].field)
    taken = {name: asked[name] for name in fields_of(spec) if name in asked}
    return request_in({**taken, "model": spec.id})


async def _read_body(request: Request) -> bytes:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > BODY_LIMIT:
            raise Refused(status=413, reason=SUBMIT_REASONS[413])
    return bytes(content)


def _parsed(content: bytes) -> dict[str, object]:
    try:
        body: object = json.loads(content)
    except (ValueError, RecursionError):
        raise invalid_request("The body is not JSON.") from None
    if not isinstance(body, dict):
        raise invalid_request("The body has to be a JSON object.")
    return cast("dict[str, object]", body)


def _whole(value: object) -> object:
    """Take 2.0 for 2, as JSON does."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _find_spec(model: object, models: Mapping[str, ModelSpec]) -> ModelSpec:
    if not isinstance(model, str):
        raise invalid_request("model: must be a text.", param="model")
    if model not in models:
        denied = SUBMIT_REASONS[403]
        reason = Reason(denied.code, denied.type, f"This key may not use the model {model[:80]!r}.")
        raise Refused(status=403, reason=reason)
    return models[model]
