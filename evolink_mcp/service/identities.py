"""Who may come in, put together from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.auth.settings import AuthSettings

from evolink_mcp.api.network import Network
from evolink_mcp.errors import SettingInvalid
from evolink_mcp.service.issuer import IssuerKeys
from evolink_mcp.service.jwt import JwtVerifier
from evolink_mcp.service.tokens import TokenFile
from evolink_mcp.settings import Settings

_NOWHERE: Final = "https://nowhere.invalid"
"""The SDK wants an issuer; without a resource it is published nowhere."""


@dataclass(frozen=True, slots=True)
class Identities:
    """What tells whose a token is, and what the SDK says of it to clients."""

    verifier: TokenVerifier
    auth: AuthSettings


@dataclass(frozen=True, slots=True)
class AnyOf(TokenVerifier):
    """Asks one verifier after the other."""

    verifiers: tuple[TokenVerifier, ...]

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return whose a token is, as the first says that knows it."""
        for verifier in self.verifiers:
            if found := await verifier.verify_token(token):
                return found
        return None


async def open_identities(settings: Settings, network: Network) -> Identities | None:
    """Return what the settings say of callers; None if they say nothing.

    Raises:
        SettingInvalid: The file of tokens does not work, or half of OAuth is set.
    """
    verifiers: list[TokenVerifier] = []
    if settings.tokens_file is not None:
        tokens = TokenFile(settings.tokens_file, scopes=settings.oauth_scopes, clock=network.clock)
        await tokens.load()
        verifiers.append(tokens)
    if (issuer := _issuer(settings, network)) is not None:
        verifiers.append(issuer)
    return Identities(AnyOf(tuple(verifiers)), _auth(settings)) if verifiers else None


def _issuer(settings: Settings, network: Network) -> JwtVerifier | None:
    issuer, audience = settings.oauth_issuer, settings.oauth_audience
    if issuer is None and audience is None:
        return None
    if issuer is None or audience is None:
        missing = "EVOLINK_OAUTH_ISSUER" if issuer is None else "EVOLINK_OAUTH_AUDIENCE"
        raise SettingInvalid(
            setting=missing,
            message="EVOLINK_OAUTH_ISSUER and EVOLINK_OAUTH_AUDIENCE go together, and "
            f"{missing} is not set.",
            next_step=f"Set {missing}, or remove the other one.",
        )
    keys = IssuerKeys(issuer=issuer, network=network)
    return JwtVerifier(issuer=issuer, audience=audience, keys=keys)


def _auth(settings: Settings) -> AuthSettings:
    """Say what is asked of a token; the audience of a JWT is checked where the JWT is."""
    return AuthSettings.model_validate(
        {
            "issuer_url": settings.oauth_issuer or _NOWHERE,
            "resource_server_url": settings.oauth_audience,
            "required_scopes": list(settings.oauth_scopes),
            "validate_token_resource": False,
        }
    )
