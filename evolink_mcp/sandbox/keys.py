"""The API key of a request."""

from __future__ import annotations

import secrets

from starlette.requests import Request


def carries_key(request: Request, key: str) -> bool:
    """Tell whether a request shows the key, as `Authorization: Bearer KEY`."""
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    right = secrets.compare_digest(shown.strip().encode(), key.encode())
    return right and scheme.lower() == "bearer"
