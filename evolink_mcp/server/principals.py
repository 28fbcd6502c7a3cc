"""Whom a call acts for, and what they may spend."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import principal_components

from evolink_mcp.jobs.job import LOCAL, Principal


def current_principal() -> Principal:
    """Return whom the request that is being answered acts for.

    Over HTTP that is whoever the token was issued to: client, issuer and subject together,
    since a subject is unique for its issuer only. Without a token, which is how stdio and a
    server on loopback work, it is the one who runs the server.
    """
    token = get_access_token()
    if token is None:
        return LOCAL
    client, issuer, subject = principal_components(token)
    return Principal(json.dumps([client, issuer, subject]))


ALLOWANCE_CLAIM = "evolink_allowance"
"""Under which name a verifier of tokens puts an `Allowance` among an access token's claims."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What one principal may do; None for no limit of its own."""

    daily_credits: float | None = None
    concurrent_jobs: int | None = None
    requests_per_minute: int | None = None


def current_allowance() -> Allowance:
    """Return what the request that is being answered may spend."""
    token = get_access_token()
    found = (token.claims or {}).get(ALLOWANCE_CLAIM) if token else None
    return found if isinstance(found, Allowance) else Allowance()


KEY_HEADER = "X-EvoLink-Key"
"""HTTP header in which a caller sends an EvoLink key of their own."""

_BROUGHT: ContextVar[str | None] = ContextVar("evolink_key", default=None)


def current_key() -> str | None:
    """Return the EvoLink key that came with the request that is being answered, if one did."""
    return _BROUGHT.get()


@contextmanager
def brought_key(key: str) -> Generator[None]:
    """Let what happens meanwhile, and what it begins, work with a caller's own EvoLink key."""
    before = _BROUGHT.set(key)
    try:
        yield
    finally:
        _BROUGHT.reset(before)
