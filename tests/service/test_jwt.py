from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2 as httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from evolink_mcp.api.network import Network
from evolink_mcp.service.issuer import ASK_AT_MOST_EVERY, KEEP, LIMIT, IssuerKeys
from evolink_mcp.service.jwt import LONGEST, JwtVerifier

ISSUER = "https://login.example/realm/"
AUDIENCE = "https://mcp.example/mcp"
OAUTH = "https://login.example/.well-known/oauth-authorization-server/realm"
OPENID = "https://login.example/realm/.well-known/openid-configuration"
JWKS = "https://keys.example/jwks"

RSA_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
STRANGE = rsa.generate_private_key(public_exponent=65_537, key_size=2048)


def public(kid: str, **more: object) -> dict[str, Any]:
    key = RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True)
    return {**key, "kid": kid, "alg": "RS256", "use": "sig", **more}


def public_ec(kid: str) -> dict[str, Any]:
    return {**ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True), "kid": kid}


@dataclass
class Issuer:
    """An issuer behind a transport."""

    keys: list[dict[str, Any]] = field(default_factory=lambda: [public("one"), public_ec("two")])
    now: float = 0.0
    pages: dict[str, Callable[[], httpx.Response]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pages[OAUTH] = lambda: httpx.Response(
            200, json={"issuer": ISSUER, "jwks_uri": JWKS, "more": 1}
        )
        self.pages[JWKS] = lambda: httpx.Response(200, json={"keys": self.keys})

    def answer(self, request: httpx.Request) -> httpx.Response:
        url = str(request.url)
        self.asked.append(url)
        return self.pages[url]() if url in self.pages else httpx.Response(404)

    def verifier(self) -> JwtVerifier:
        network = Network(transport=httpx.MockTransport(self.answer), clock=lambda: self.now)
        keys = IssuerKeys(issuer=ISSUER, network=network)
        return JwtVerifier(issuer=ISSUER, audience=AUDIENCE, keys=keys)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


class FromNow(int):
    """Seconds from the moment a token is made, which is long after tests are collected."""


def claims(**changes: object) -> dict[str, Any]:
    usual = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "user-1",
        "exp": int(time.time()) + 300,
        "scope": "images:buy images:see",
    }
    told = {k: v for k, v in {**usual, **changes}.items() if v is not None}
    return {k: int(time.time()) + v if isinstance(v, FromNow) else v for k, v in told.items()}


PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | str | None


def token(
    told: dict[str, Any] | None = None,
    *,
    key: PrivateKey = RSA_KEY,
    alg: str = "RS256",
    kid: str = "one",
) -> str:
    return jwt.encode(told or claims(), key, algorithm=alg, headers={"kid": kid})  # type: ignore[arg-type]


async def test_a_token_of_the_issuer_is_its_subjects(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    exp = int(time.time()) + 300
    found = await verifier.verify_token(token(claims(exp=exp)))
    assert found is not None
    assert (found.subject, found.client_id) == ("user-1", "user-1")
    assert found.scopes == ["images:buy", "images:see"]
    assert found.claims == {"iss": ISSUER}
    assert found.expires_at == exp + 30
    assert issuer.asked == [OAUTH, JWKS]


async def test_both_algorithms_work_with_keys_fetched_once(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    for given in (token(), token(key=EC_KEY, alg="ES256", kid="two"), token()):
        assert await verifier.verify_token(given) is not None
    assert issuer.asked == [OAUTH, JWKS]


@pytest.mark.parametrize(
    ("changes", "scopes"),
    [
        ({"scope": None}, []),
        ({"scope": None, "scp": ["a", "b"]}, ["a", "b"]),
        ({"scope": None, "scp": "a b"}, ["a", "b"]),
        ({"aud": ["https://other.example", AUDIENCE]}, ["images:buy", "images:see"]),
        ({"exp": FromNow(-5)}, ["images:buy", "images:see"]),
        ({"nbf": FromNow(20)}, ["images:buy", "images:see"]),
    ],
)
async def test_what_issuers_write_differently_is_understood(
    issuer: Issuer, changes: dict[str, object], scopes: list[str]
) -> None:
    found = await issuer.verifier().verify_token(token(claims(**changes)))
    assert found is not None
    assert found.scopes == scopes


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://login.example/realm"},
        {"iss": None},
        {"aud": "https://other.example/mcp"},
        {"aud": AUDIENCE + "/"},
        {"aud": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 256},
        {"exp": None},
        {"exp": FromNow(-40)},
        {"exp": 1e400},
        {"exp": [1]},
        {"nbf": FromNow(60)},
        {"scope": 7},
    ],
)
async def test_a_token_with_a_wrong_claim_does_not_count(
    issuer: Issuer, changes: dict[str, object]
) -> None:
    assert await issuer.verifier().verify_token(token(claims(**changes))) is None


def forged() -> list[str]:
    head, body, signature = token().split(".")
    secret = "s" * 32
    return [
        "",
        "x",
        "evm_" + "a" * 43,
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{head}.{body[:-2]}AA.{signature}",
        token(key=STRANGE),
        token(key=EC_KEY, alg="ES256"),  # the key that is named signs otherwise
        token(key=RSA_KEY, alg="RS512"),
        token(key=RSA_KEY, alg="PS256"),
        token(key=secret, alg="HS256"),
        token(key=None, alg="none"),
        jwt.encode(claims(), RSA_KEY, algorithm="RS256"),
        jwt.encode(claims(), RSA_KEY, algorithm="RS256", headers={"kid": "one", "crit": ["x"]}),
        "x" * (LONGEST + 1),
        urlsafe_b64encode(b"[" * 3999).decode() + ".e30.AA",
    ]


@pytest.mark.parametrize("number", range(len(forged())))
async def test_a_forged_token_does_not_count(issuer: Issuer, number: int) -> None:
    assert await issuer.verifier().verify_token(forged()[number]) is None


async def test_an_unknown_key_is_asked_for_once_a_minute(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    issuer.keys = [public("one")]
    assert await verifier.verify_token(token()) is not None
    issuer.keys = [public("new")]
    assert await verifier.verify_token(token(kid="new")) is None
    assert issuer.asked.count(JWKS) == 1
    issuer.now += ASK_AT_MOST_EVERY
    assert await verifier.verify_token(token(kid="new")) is not None
    assert await verifier.verify_token(token(kid="one")) is None
    assert issuer.asked.count(JWKS) == 2


async def test_a_withdrawn_key_does_not_live_on(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    assert await verifier.verify_token(token()) is not None
    issuer.keys = []
    issuer.now += KEEP
    assert await verifier.verify_token(token()) is None


GOOD = {"issuer": ISSUER, "jwks_uri": JWKS}


@pytest.mark.parametrize(
    ("page", "answer"),
    [
        (OAUTH, httpx.Response(500)),
        (OAUTH, httpx.Response(302, headers={"location": OPENID})),
        (OAUTH, httpx.Response(200, json={**GOOD, "issuer": "https://login.example/realm"})),
        (OAUTH, httpx.Response(200, json={**GOOD, "jwks_uri": "http://keys.example/jwks"})),
        (OAUTH, httpx.Response(200, text="<html>")),
        (JWKS, httpx.Response(503)),
        (JWKS, httpx.Response(200, json={"keys": {}})),
        (JWKS, httpx.Response(200, content=b" " * (LIMIT + 1))),
    ],
)
async def test_an_issuer_in_trouble_leaves_the_known_keys_in_force(
    issuer: Issuer, caplog: pytest.LogCaptureFixture, page: str, answer: httpx.Response
) -> None:
    verifier = issuer.verifier()
    assert await verifier.verify_token(token()) is not None
    good, issuer.pages[page] = issuer.pages[page], lambda: answer
    issuer.now += KEEP
    assert await verifier.verify_token(token()) is not None
    assert "EVOLINK_OAUTH_ISSUER" in caplog.text
    issuer.pages[page] = good


async def test_an_issuer_that_cannot_be_reached_lets_nobody_in(issuer: Issuer) -> None:
    def refuse() -> httpx.Response:
        raise httpx.ConnectError("refused")

    issuer.pages[OAUTH] = refuse
    assert await issuer.verifier().verify_token(token()) is None


async def test_metadata_may_lie_where_openid_has_them(issuer: Issuer) -> None:
    issuer.pages[OPENID] = issuer.pages.pop(OAUTH)
    assert await issuer.verifier().verify_token(token()) is not None
    assert issuer.asked == [OAUTH, OPENID, JWKS]


@pytest.mark.parametrize(
    "strange",
    [
        public("one", use="enc"),
        public("one", alg="RS512"),
        {**public("one"), "kid": 1},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "one"},
        {"kty": "RSA", "kid": "one", "n": "!", "e": "AQAB"},
        {"kty": "??", "kid": "one"},
        {"kid": "one"},
    ],
    ids=json.dumps,
)
async def test_a_key_that_is_none_for_us_is_passed_over(
    issuer: Issuer, strange: dict[str, Any]
) -> None:
    issuer.keys = [strange, public_ec("two")]
    verifier = issuer.verifier()
    assert await verifier.verify_token(token()) is None
    assert await verifier.verify_token(token(key=EC_KEY, alg="ES256", kid="two")) is not None


async def test_certificates_are_loaded_for_a_real_connection() -> None:
    network = Network(clock=lambda: 0.0)
    keys = IssuerKeys(issuer="https://127.0.0.1:1", network=network)
    assert await keys.find("one") is None


async def test_many_who_need_the_keys_at_once_ask_for_them_once(issuer: Issuer) -> None:
    """Those who come while they are fetched wait for them, even if who asked first is gone."""
    verifier, found = issuer.verifier(), list[object]()
    asked, go_on = anyio.Event(), anyio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.set()
        await go_on.wait()
        return issuer.answer(request)

    verifier.keys.network = Network(transport=httpx.MockTransport(answer), clock=lambda: 0.0)

    async def verify() -> None:
        found.append(await verifier.verify_token(token()))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group, anyio.create_task_group() as impatient:
            impatient.start_soon(verify)
            await asked.wait()
            group.start_soon(verify)
            group.start_soon(verify)
            await anyio.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
            go_on.set()
    assert len(found) >= 2
    assert None not in found
    assert issuer.asked == [OAUTH, JWKS]
