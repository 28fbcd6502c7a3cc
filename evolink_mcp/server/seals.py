"""Tokens that only this service can make: what they say is not secret, but cannot be forged."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

SECRET_BYTES: Final = 32
"""Of the secret that seals are made with."""

_SEAL_BYTES: Final = 32


def seal(content: bytes, *, purpose: bytes, secret: bytes) -> bytes:
    """Return the seal of a content, 32 bytes (HMAC-SHA256).

    `purpose` keeps what is sealed for one from being taken for another: none may begin with
    another one's.
    """
    return hmac.digest(secret, purpose + content, hashlib.sha256)


def write_sealed(content: bytes, *, purpose: bytes, secret: bytes) -> str:
    """Return a token that holds a content and its seal, in characters of base64url."""
    return _encoded(content + seal(content, purpose=purpose, secret=secret))


def open_sealed(token: str, *, purpose: bytes, secret: bytes) -> bytes | None:
    """Return what a token holds; None if it was not sealed with this secret for this purpose."""
    sealed = _decoded(token)
    content, found = sealed[:-_SEAL_BYTES], sealed[-_SEAL_BYTES:]
    valid = hmac.compare_digest(found, seal(content, purpose=purpose, secret=secret))
    return content if valid else None


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decoded(token: str) -> bytes:
    """Return what a token holds; nothing where it is written in any other way than ours."""
    try:
        content = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return b""
    return content if _encoded(content) == token else b""
