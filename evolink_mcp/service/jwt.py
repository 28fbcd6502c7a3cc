"""Who may call, by the access tokens (JWT) of an OAuth issuer."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated, Final

import jwt
from mcp.server.auth.provider import AccessToken, TokenVerifier
from pydantic import BaseModel, BeforeValidator, StringConstraints

from evolink_mcp.service.issuer import ALGORITHMS, IssuerKeys

logger = logging.getLogger(__name__)

LEEWAY: Final = 30
"""Seconds that clocks may differ by."""

LONGEST: Final = 8192
"""Characters of a token."""


def _words(value: object) -> object:
    return value.split() if isinstance(value, str) else value


_Words = Annotated[list[str], BeforeValidator(_words)]


class _Header(BaseModel):
    kid: str


class _Claims(BaseModel):
    """RFC 9068, but for `scp`, which some issuers write instead of `scope`."""

    sub: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    exp: int | float
    scope: _Words = []
    scp: _Words = []


@dataclass(frozen=True, kw_only=True)
class JwtVerifier(TokenVerifier):
    """Accepts what the issuer signed for this server, while it is valid.

    Scopes are handed on; the SDK answers 403 where one is missing.
    """

    issuer: str
    audience: str
    keys: IssuerKeys

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return whose a token is; None if it does not count here."""
        if len(token) > LONGEST:
            return None
        try:
            header = _Header.model_validate(jwt.get_unverified_header(token))
            key = await self.keys.find(header.kid)
            claims = self._claims(token, key) if key else None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            logger.info("a JWT was refused: %s", type(error).__name__)
            return None
        return self._access(token, claims) if claims else None

    def _claims(self, token: str, key: jwt.PyJWK) -> _Claims:
        """Check a token.

        Raises:
            jwt.PyJWTError: It does not count.
            ValueError: Its subject or scopes are not what they should be.
        """
        told = jwt.decode(
            token,
            key,
            algorithms=ALGORITHMS,
            audience=self.audience,
            issuer=self.issuer,
            leeway=LEEWAY,
            options={
                "require": ["exp", "iss", "aud", "sub"],
                "enforce_minimum_key_length": True,
            },
        )
        return _Claims.model_validate(told)

    def _access(self, token: str, claims: _Claims) -> AccessToken:
        return AccessToken(
            token=token,
            client_id=claims.sub,
            scopes=[*claims.scope, *claims.scp],
            expires_at=int(claims.exp) + LEEWAY,
            resource=self.audience,
            subject=claims.sub,
            claims={"iss": self.issuer},
        )
