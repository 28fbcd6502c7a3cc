"""Who may call, from a file of hashed bearer tokens.

A token has 256 random bits, so that a plain SHA-256 of it gives nothing away; the token itself
is nowhere kept.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import os
import re
import secrets
import stat
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import anyio
from anyio import to_thread
from mcp.server.auth.provider import AccessToken, TokenVerifier
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from evolink_mcp.errors import SettingInvalid
from evolink_mcp.server.principals import ALLOWANCE_CLAIM, Allowance

logger = logging.getLogger(__name__)

PREFIX: Final = "evm_"
"""How our tokens begin, so that people and scanners know them."""

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the file, at least: a token that was taken out of it counts no
longer than that."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")

_Version = tuple[int, int, int]
"""Tells one content of a file from another: inode, modification time in ns, bytes."""


class _Entry(BaseModel):
    """What the file says of one principal."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    daily_credits: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    concurrent_jobs: int | None = Field(default=None, ge=0)
    requests_per_minute: int | None = Field(default=None, ge=1)


_ENTRIES = TypeAdapter(dict[str, _Entry])


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose a token is, and what they may do."""

    name: str
    digest: bytes
    allowance: Allowance


class TokenFile(TokenVerifier):
    """Knows the holders of tokens; looks at the file again when it has changed."""

    def __init__(
        self,
        path: Path,
        *,
        scopes: tuple[str, ...] = (),
        clock: Callable[[], float] = anyio.current_time,
    ) -> None:
        self._path = path
        self._scopes = scopes
        self._clock = clock
        self._holders: tuple[Holder, ...] = ()
        self._version: _Version | None = None
        self._looked_at = -math.inf
        self._trouble = ""

    async def load(self) -> None:
        """Read the file for the first time.

        Raises:
            SettingInvalid: It cannot be read, or does not hold what it should.
        """
        try:
            await self._look()
        except (OSError, ValueError) as error:
            raise _unusable(error) from None
        self._looked_at = self._clock()

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return whose a token is; None if nobody's."""
        await self._look_if_due()
        holder = self._holder_of(token)
        if holder is None:
            return None
        return AccessToken(
            token=token,
            client_id=holder.name,
            scopes=list(self._scopes),
            subject=holder.name,
            claims={ALLOWANCE_CLAIM: holder.allowance},
        )

    def _holder_of(self, token: str) -> Holder | None:
        """Compare with every holder, so that the time taken tells nothing."""
        digest = _digest(token)
        found = [one for one in self._holders if hmac.compare_digest(one.digest, digest)]
        return found[0] if found else None

    async def _look_if_due(self) -> None:
        if self._clock() - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = math.inf  # while one looks, nobody else does
        try:
            await self._look()
            self._trouble = ""
        except (OSError, ValueError) as error:
            self._complain(_reason(error))
        finally:
            self._looked_at = self._clock()

    async def _look(self) -> None:
        found = await to_thread.run_sync(_read_anew, self._path, self._version)
        if found is not None:
            self._version, self._holders = found
            logger.info("%d tokens are known", len(self._holders))

    def _complain(self, reason: str) -> None:
        """Say once what is wrong; what the file said before goes on to count."""
        if reason != self._trouble:
            logger.error("EVOLINK_TOKENS_FILE is not read anew: %s", reason)
        self._trouble = reason


def new_token() -> str:
    """Make a token: 43 characters of randomness after the prefix."""
    return PREFIX + secrets.token_urlsafe(32)


def entry_of(name: str, token: str) -> str:
    """Return the lines for the file that let the holder of a token in.

    Raises:
        SettingInvalid: It is no name.
    """
    if not _NAME.fullmatch(name):
        raise SettingInvalid(
            setting="NAME",
            message="A name has letters, digits and . _ @ + -, at most 64 of them.",
            next_step="Choose another name, such as alice.",
        )
    return f'["{name}"]\nsha256 = "{_digest(token).hex()}"\n'


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _version_of(path: Path) -> _Version:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read_anew(path: Path, known: _Version | None) -> tuple[_Version, tuple[Holder, ...]] | None:
    """Read the file, unless it is as it was."""
    version = _version_of(path)
    return (version, _read(path)) if version != known else None


def _read(path: Path) -> tuple[Holder, ...]:
    """Read the file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no TOML, or does not hold what it should.
    """
    with path.open("rb") as file:
        if sys.platform != "win32":  # pragma: no branch - modes mean little there
            _warn_if_open(file.fileno())
        entries = _ENTRIES.validate_python(tomllib.load(file))
    if wrong := [name for name in entries if not _NAME.fullmatch(name)]:
        raise ValueError(f"{wrong[0][:64]!r} is no name")
    if len({entry.sha256 for entry in entries.values()}) < len(entries):
        raise ValueError("two names have the same token")
    return tuple(_holder(name, entry) for name, entry in entries.items())


def _warn_if_open(descriptor: int) -> None:
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    if mode & 0o077:
        logger.warning("EVOLINK_TOKENS_FILE may be read by others (mode %o): chmod 600 it", mode)


def _holder(name: str, entry: _Entry) -> Holder:
    allowance = Allowance(
        daily_credits=entry.daily_credits,
        concurrent_jobs=entry.concurrent_jobs,
        requests_per_minute=entry.requests_per_minute,
    )
    return Holder(name, bytes.fromhex(entry.sha256), allowance)


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "it is no TOML" if isinstance(error, tomllib.TOMLDecodeError) else str(error)


def _unusable(error: Exception) -> SettingInvalid:
    return SettingInvalid(
        setting="EVOLINK_TOKENS_FILE",
        message=f"EVOLINK_TOKENS_FILE does not work: {_reason(error)}.",
        next_step="Write it with the lines that `evolink-mcp token NAME` prints.",
    )
