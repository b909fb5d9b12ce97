"""Tokens of identity providers: which are believed, and what is made of what they say."""

import base64
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from libs.common.access.principal import Role
from libs.common.errors import Unauthenticated, Unavailable
from services.auth.identity_tokens import OF_IDENTITIES, OF_PROGRAMS, identity_of, name_of, verified, verified_id_token
from services.auth.provider_client import KEYS_AGAIN_SECONDS, PAUSE_SECONDS, ProviderClient
from tests.support.identity_provider import AUDIENCE, CLIENT, FakeProvider


@pytest.fixture(scope="module")
def shared() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
def provider(shared: FakeProvider) -> FakeProvider:
    """One for all, since its key takes a while to make."""
    shared.asked.clear()
    shared.is_away = False
    return shared


async def of_program(client: ProviderClient, token: str) -> Mapping[str, Any]:
    return await verified(client, token, AUDIENCE, OF_PROGRAMS)


async def why_not(client: ProviderClient, token: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await of_program(client, token)
    assert caught.value.reason == "BAD_IDENTITY"
    return caught.value.message


async def test_a_token_of_the_issuers_for_this_audience_is_believed(provider: FakeProvider) -> None:
    client = provider.client()
    for audience in (AUDIENCE, [AUDIENCE], ["other", AUDIENCE]):
        assert (await of_program(client, provider.token(aud=audience)))["sub"] == "ada"
    for kind in ("JWT", "at+jwt", "AT+JWT", "application/at+jwt"):
        assert await of_program(client, provider.sign(provider.claims(), typ=kind))


@pytest.mark.parametrize(("claim", "seconds"), [("exp", -50), ("nbf", 50), ("iat", 50)])
async def test_clocks_may_differ_by_a_minute_and_no_more(provider: FakeProvider, claim: str, seconds: int) -> None:
    client, further = provider.client(), 20 if seconds > 0 else -20

    assert await of_program(client, provider.token(**{claim: int(time.time()) + seconds}))
    assert await why_not(client, provider.token(**{claim: int(time.time()) + seconds + further}))


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.example.com"},
        {"iss": "https://id.example.com/"},
        {"aud": "another"},
        {"aud": CLIENT},
        {"aud": []},
        {"aud": None},
        {"exp": None},
        {"iat": None},
        {"sub": None},
        {"iss": None},
        {"exp": "soon"},
        {"exp": float("inf")},
        {"iat": float("nan")},
        {"cnf": {"jkt": "x"}},
    ],
    ids=str,
)
async def test_a_token_of_another_issuer_or_audience_or_that_lacks_what_it_needs_is_refused(
    provider: FakeProvider, claims: dict[str, Any]
) -> None:
    assert await why_not(provider.client(), provider.token(**claims))


@pytest.mark.parametrize("kind", ["logout+jwt", "secevent+jwt", "dpop+jwt", "kiln-service+jwt", "x"])
async def test_a_token_of_another_kind_is_refused(provider: FakeProvider, kind: str) -> None:
    assert "another kind" in await why_not(provider.client(), provider.sign(provider.claims(), typ=kind))


async def test_nobody_but_the_issuer_signs(provider: FakeProvider) -> None:
    client, claims = provider.client(), provider.claims()
    stranger = FakeProvider()
    public = RSAAlgorithm.from_jwk(provider.public_keys()[0]).public_bytes(  # type: ignore[union-attr]
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head, body, signature = provider.sign(claims).split(".")
    none = jwt.encode(claims, "", algorithm="none", headers={"kid": provider.key_id})
    shared = _hs256(claims, public, provider.key_id)

    for token in (
        stranger.sign(claims),
        none,
        shared,
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-8]}AAAAAAAA",
        "",
        ".",
        "a.b.c",
        "é.é.é",
    ):
        assert await why_not(client, token)
    for headers in ({"kid": "another"}, {"crit": ["x"], "x": 1}):
        assert await why_not(client, provider.sign(claims, **headers))


def _hs256(claims: Mapping[str, Any], secret: bytes, key_id: str) -> str:
    """A token that is signed with the public key as if it were a secret, which PyJWT itself does not make."""

    def encoded(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    head = encoded(json.dumps({"alg": "HS256", "typ": "JWT", "kid": key_id}).encode())
    text = f"{head}.{encoded(json.dumps(claims).encode())}"
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), 'sha256'))}"


async def test_a_megabyte_is_refused_before_anybody_is_asked(provider: FakeProvider) -> None:
    assert "too long" in await why_not(provider.client(), provider.sign(provider.claims(more="x" * (1 << 20))))
    assert provider.asked == []


async def test_keys_of_other_kinds_verify_as_well(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    elliptic, edwards = generate_ec(SECP256R1()), Ed25519PrivateKey.generate()
    keys = [
        {**ECAlgorithm.to_jwk(elliptic.public_key(), as_dict=True), "kid": "ec"},
        {**OKPAlgorithm.to_jwk(edwards.public_key(), as_dict=True), "kid": "ed", "alg": "EdDSA"},
        {**provider.public_keys()[0], "kid": "for-encryption", "use": "enc"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
    ]
    monkeypatch.setattr(provider, "public_keys", lambda: keys)
    client, claims = provider.client(), provider.claims()

    assert await of_program(client, provider.sign(claims, elliptic, "ES256", kid="ec"))
    assert await of_program(client, provider.sign(claims, edwards, "EdDSA", kid="ed"))
    for token in (
        provider.sign(claims, kid="for-encryption"),
        provider.sign(claims, kid="ec"),
        provider.sign(claims, elliptic, "ES256", kid="ed"),
        _hs256(claims, b"secret", "secret"),
    ):
        assert await why_not(client, token)


# ID tokens


async def test_an_id_token_of_another_client_or_login_signs_nobody_in(provider: FakeProvider) -> None:
    client = provider.client()
    own = provider.claims(CLIENT, nonce="n")

    assert await verified_id_token(client, provider.sign(own), "n")
    assert await verified_id_token(client, provider.sign({**own, "aud": [CLIENT, "api"], "azp": CLIENT}), "n")
    for claims in (
        {**own, "aud": "another"},
        {**own, "aud": ["another"], "azp": CLIENT},
        {**own, "azp": "another"},
        {**own, "aud": [CLIENT, "another"]},
        {**own, "aud": [CLIENT, "another"], "azp": "another"},
        {**own, "aud": AUDIENCE},
        {**own, "nonce": "m"},
    ):
        with pytest.raises(Unauthenticated):
            await verified_id_token(client, provider.sign(claims), "n")
    with pytest.raises(Unauthenticated, match="another kind"):
        await verified(client, provider.sign(own, typ="at+jwt"), CLIENT, OF_IDENTITIES)


# What is asked, and how often


async def test_what_a_provider_has_told_is_asked_once(provider: FakeProvider) -> None:
    client = provider.client()
    for _ in range(3):
        await of_program(client, provider.token())

    assert sorted(provider.asked) == ["/.well-known/openid-configuration", "/keys"]


async def test_keys_that_nobody_knows_are_asked_for_again_but_only_each_half_minute() -> None:
    provider = FakeProvider()
    client = provider.client()
    await of_program(client, provider.token())
    provider.new_key("key-2")

    early = await why_not(client, provider.token())
    provider.now += KEYS_AGAIN_SECONDS
    assert await of_program(client, provider.token())
    for number in range(20):
        await why_not(client, provider.sign(provider.claims(), kid=f"made-up-{number}"))

    assert "key" in early
    assert provider.asked.count("/keys") == 2


async def test_a_provider_that_is_away_is_left_alone_for_a_while_and_what_it_told_goes_on_to_count() -> None:
    provider = FakeProvider()
    client = provider.client()
    provider.is_away = True
    for _ in range(5):
        with pytest.raises(Unavailable, match="cannot be asked now"):
            await of_program(client, provider.token())
    asked_while_away = len(provider.asked)
    provider.is_away = False
    provider.now += PAUSE_SECONDS
    await of_program(client, provider.token())

    provider.is_away = True
    provider.now += 23 * 3600
    day_later = await of_program(client, provider.token())
    provider.now += 2 * 3600

    assert asked_while_away == 1
    assert day_later
    with pytest.raises(Unavailable):
        await of_program(client, provider.token())


@pytest.mark.parametrize(
    "changed",
    [
        {"issuer": "https://other.example.com"},
        {"issuer": None},
        {"jwks_uri": "http://id.example.com/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": None},
        {"jwks_uri": 1},
    ],
    ids=str,
)
async def test_what_a_provider_says_of_itself_must_be_safe(changed: dict[str, Any]) -> None:
    provider = FakeProvider()
    provider.metadata |= changed

    with pytest.raises(Unavailable):
        await of_program(provider.client(), provider.token())


# What is made of claims


def test_roles_and_groups_are_found_where_the_settings_say(provider: FakeProvider) -> None:
    mapping = provider.provider(roleClaim="realm_access.roles", adminValues=["boss"], groupsClaim="https://acme.example/groups")

    one = identity_of(
        mapping, provider.claims(**{"realm_access": {"roles": ["x", "boss"]}, "https://acme.example/groups": ["crew", 1, None]})
    )
    nobody = identity_of(mapping, provider.claims(realm_access="boss"))
    without = identity_of(provider.provider(), provider.claims(role="boss", groups=["crew"]))

    assert (one.role, one.groups) == (Role.ADMIN, frozenset({"crew"}))
    assert (nobody.role, nobody.groups) == (Role.DEV, frozenset())
    assert (without.role, without.groups) == (None, None)


@pytest.mark.parametrize("subject", ["", "x" * 256, "a\0b", "a\nb"], ids=repr)
def test_a_subject_must_be_something_that_can_be_kept(provider: FakeProvider, subject: str) -> None:
    with pytest.raises(Unauthenticated, match="subject"):
        identity_of(provider.provider(), provider.claims(sub=subject))


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"preferred_username": "ada"}, "ada"),
        ({"preferred_username": "Ada Lovelace"}, "ada-lovelace"),
        ({"preferred_username": "ada@example.com"}, "ada"),
        ({"preferred_username": "Åda"}, "da"),
        ({"preferred_username": "42", "email": "grace.hopper@example.com"}, "grace.hopper"),
        ({"preferred_username": ["ada"], "email": "grace@example.com"}, "grace"),
        ({"preferred_username": "../../etc"}, "etc"),
        ({"preferred_username": "x" * 500}, "x" * 40),
        ({"preferred_username": "f47ac10b-58cc-4372-a567-0e02b2c3d479"}, "user"),
        ({}, "user"),
    ],
    ids=str,
)
def test_a_name_is_made_of_what_may_be_in_one(claims: dict[str, Any], name: str) -> None:
    assert name_of(claims, "preferred_username") == name


@pytest.mark.parametrize("expires_at", [1_800_000_000_000, 253_402_300_799, 253_402_300_740])
def test_a_token_that_is_good_for_longer_than_there_are_years_is_good_for_as_long_as_there_are(
    provider: FakeProvider, expires_at: int
) -> None:
    assert identity_of(provider.provider(), provider.claims(exp=expires_at)).expires_at.year == 9999


def test_a_group_that_cannot_be_is_none(provider: FakeProvider) -> None:
    mapping = provider.provider(groupsClaim="groups")

    identity = identity_of(mapping, provider.claims(groups=["crew", "a\0b", "\ud800", "", "Not One", "x" * 64]))

    assert identity.groups == frozenset({"crew"})
