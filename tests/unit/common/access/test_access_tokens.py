"""Nothing is an access token but what the auth service signed for this purpose and for now."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from libs.common.access import access_tokens
from libs.common.access.access_tokens import AccessToken, expiry, sign, verify
from libs.common.access.principal import Principal, Role
from libs.common.access.service_tokens import ServiceTokens
from libs.common.errors import Unauthenticated
from tests.support.access import SERVICE_SECRET, Signer
from tests.support.callers import ADMIN, dev

SIGNER = Signer()
REQUIRED = ("iss", "aud", "sub", "exp", "iat", "name", "role", "rev")
Forged = Callable[[dict[str, Any]], str]


def refusal(text: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        verify(text, SIGNER.public)
    assert caught.value.reason == "BAD_TOKEN"
    return caught.value.message


def encoded(part: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def with_header(claims: dict[str, Any], **headers: Any) -> str:
    """A token that is well signed, with headers that JWT libraries would not write."""
    signing = f"{encoded({'alg': 'EdDSA', 'kid': SIGNER.key_id, 'typ': 'at+jwt', **headers})}.{encoded(claims)}"
    signature = base64.urlsafe_b64encode(SIGNER.key.sign(signing.encode())).rstrip(b"=").decode()
    return f"{signing}.{signature}"


def public_pem() -> bytes:
    return SIGNER.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def hmac_by_public_key(key: bytes) -> Forged:
    """HS256 with what everyone knows as the secret; made by hand, since the library refuses to."""

    def forged(claims: dict[str, Any]) -> str:
        signing = f"{encoded({'alg': 'HS256', 'kid': SIGNER.key_id, 'typ': 'at+jwt'})}.{encoded(claims)}"
        signature = hmac.new(key, signing.encode(), hashlib.sha256).digest()
        return f"{signing}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"

    return forged


def signed_with(key: Any, algorithm: str, **headers: Any) -> Forged:
    return lambda claims: jwt.encode(claims, key, algorithm=algorithm, headers={"kid": SIGNER.key_id, "typ": "at+jwt", **headers})


def unsigned(algorithm: str, signature: str = "") -> Forged:
    header = {"alg": algorithm, "kid": SIGNER.key_id, "typ": "at+jwt"}
    return lambda claims: f"{encoded(header)}.{encoded(claims)}.{signature}"


OTHER = Signer(SIGNER.key_id)
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def jwk_of(signer: Signer) -> dict[str, str]:
    return {"kty": "OKP", "crv": "Ed25519", "x": signer.jwk.x, "kid": signer.key_id}


FORGED: dict[str, Forged] = {
    "alg none": unsigned("none"),
    "alg None": unsigned("None"),
    "alg NONE with a signature": unsigned("NONE", "AAAA"),
    "no alg": lambda claims: f"{encoded({'kid': SIGNER.key_id, 'typ': 'at+jwt'})}.{encoded(claims)}.",
    "EdDSA without a signature": unsigned("EdDSA"),
    "HS256 with the public key as PEM": hmac_by_public_key(public_pem()),
    "HS256 with the public key's bytes": hmac_by_public_key(SIGNER.key.public_key().public_bytes_raw()),
    "HS256 with the public key as the key set tells it": hmac_by_public_key(SIGNER.jwk.x.encode()),
    "HS256 with an empty secret": hmac_by_public_key(b""),
    "RS256": signed_with(RSA_KEY, "RS256"),
    "ES256": signed_with(EC_KEY, "ES256"),
    "another's Ed25519 key": OTHER.signed,
    "another's key that it brings as jwk": lambda claims: OTHER.signed(claims, jwk=jwk_of(OTHER)),
    "another's key behind jku": lambda claims: OTHER.signed(claims, jku="http://127.0.0.1:9/jwks.json"),
    "another's key behind x5u": lambda claims: OTHER.signed(claims, x5u="http://127.0.0.1:9/cert.pem"),
    "another's key as x5c": lambda claims: OTHER.signed(claims, x5c=["MIIB"]),
    "an unknown kid": lambda claims: with_header(claims, kid="key-2"),
    "an empty kid": lambda claims: with_header(claims, kid=""),
    "kid as a path": lambda claims: with_header(claims, kid="../../../../dev/null"),
    "kid as SQL": lambda claims: with_header(claims, kid="' UNION SELECT 'key' --"),
    "kid as an object": lambda claims: with_header(claims, kid={"$ne": ""}),
    "kid as a list": lambda claims: with_header(claims, kid=[SIGNER.key_id]),
    "kid as null": lambda claims: with_header(claims, kid=None),
    "typ JWT": lambda claims: with_header(claims, typ="JWT"),
    "typ of a service's token": lambda claims: with_header(claims, typ="kiln-service+jwt"),
    "typ application/at+jwt": lambda claims: with_header(claims, typ="application/at+jwt"),
    "typ null": lambda claims: with_header(claims, typ=None),
    "crit": lambda claims: with_header(claims, crit=["kiln"], kiln=True),
    "b64 false": lambda claims: with_header(claims, b64=False, crit=["b64"]),
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
def test_a_token_that_is_signed_in_another_way_or_is_of_another_type_is_refused(forged: Forged) -> None:
    refusal(forged(SIGNER.claims()))


@pytest.mark.parametrize("header", ["jku", "x5u", "jwk", "x5c", "cty", "zip"])
def test_headers_that_tell_where_a_key_is_change_nothing_of_a_good_token(header: str) -> None:
    text = with_header(SIGNER.claims(), **{header: "http://127.0.0.1:9/"})

    assert verify(text, SIGNER.public).principal == ADMIN


@pytest.mark.parametrize("missing", REQUIRED)
def test_no_claim_may_be_missing(missing: str) -> None:
    claims = SIGNER.claims()
    del claims[missing]

    refusal(SIGNER.signed(claims))


NOW = int(time.time())
# Clocks may differ by some seconds.
WRONG: dict[str, dict[str, Any]] = {
    "expired": {"exp": NOW - 60},
    "exp as text": {"exp": "soon"},
    "exp as null": {"exp": None},
    "not yet good": {"nbf": NOW + 3600},
    "nbf as text": {"nbf": "x"},
    "made far in the future": {"iat": NOW + 86400, "exp": NOW + 90000},
    "iat as text": {"iat": "x"},
    "another issuer": {"iss": "https://accounts.example.com"},
    "a service as issuer": {"iss": "kiln-service"},
    "issuers": {"iss": ["kiln"]},
    "another audience": {"aud": "kiln-services"},
    "audiences": {"aud": ["kiln", "other"]},
    "the audience as a list": {"aud": ["kiln"]},
    "no audience": {"aud": ""},
    "an unknown role": {"role": "ROOT"},
    "the role of a service": {"role": "SERVICE"},
    "the role in lower case": {"role": "admin"},
    "a role as a list": {"role": ["ADMIN"]},
    "sub as a number": {"sub": 7},
    "groups as a number": {"groups": 7},
    "rev as text": {"rev": "new"},
    "rev as a list": {"rev": [1]},
    "functions as true": {"functions": True},
}


@pytest.mark.parametrize("changed", WRONG.values(), ids=WRONG.keys())
def test_no_claim_may_be_wrong(changed: dict[str, Any]) -> None:
    refusal(with_header(SIGNER.claims() | changed))


def test_an_id_token_is_no_access_token() -> None:
    claims = {"iss": "kiln", "aud": "kiln", "sub": ADMIN.id, "iat": NOW, "exp": NOW + 300, "nonce": "n", "email": "root@example.com"}

    refusal(SIGNER.signed(claims, typ="JWT"))
    refusal(SIGNER.signed(claims))


@pytest.mark.parametrize("claims", [[], "x", 7, None], ids=repr)
def test_claims_that_are_no_object_are_refused(claims: Any) -> None:
    refusal(with_header(claims))


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "...", "a.b.c", "e30.e30.e30", "\0", "é.é.é", "kiln_x_y", f"{encoded([])}.{encoded({})}.x", f"{encoded({})}.x"],
    ids=repr,
)
def test_what_is_no_token_is_refused(text: str) -> None:
    refusal(text)


@given(st.text())
def test_any_text_is_refused_and_breaks_nothing(text: str) -> None:
    refusal(text)


@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64"]), st.recursive(st.none() | st.integers() | st.text(), st.lists))
)
def test_any_header_is_refused_and_breaks_nothing(headers: dict[str, Any]) -> None:
    if headers.get("kid", SIGNER.key_id) != SIGNER.key_id or headers.get("typ", "at+jwt") != "at+jwt" or "alg" in headers:
        refusal(with_header(SIGNER.claims(), **headers))


@given(st.data())
def test_any_one_changed_character_is_refused(data: st.DataObject) -> None:
    text = SIGNER.token()
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.= "))
    changed = text[:place] + other + text[place + 1 :]

    # The last character of the signature has bits that stand for nothing.
    if changed != text and place < len(text) - 1:
        refusal(changed)


def test_a_megabyte_is_refused_before_it_is_read() -> None:
    much = SIGNER.signed(SIGNER.claims() | {"groups": ["x" * 1_000_000]})

    assert "too long" in refusal(much)
    assert "too long" in refusal("x" * 1_000_000)


def test_the_largest_token_that_is_made_is_taken() -> None:
    many = frozenset(str(number).rjust(36, "0") for number in range(100))
    principal = dev(groups=many, functions=many, verbs=frozenset({"READ", "EXECUTE", "MANAGE"}), name="n" * 63, api_key="k" * 36)

    text = SIGNER.token(principal)

    assert len(text) < access_tokens.MAX_BYTES
    assert verify(text, SIGNER.public).principal == principal


def test_a_services_token_is_no_access_token_and_an_access_token_is_no_services() -> None:
    services = ServiceTokens(SERVICE_SECRET, "registry")

    refusal(services.own())
    with pytest.raises(Unauthenticated):
        services.verify(SIGNER.token())


@pytest.mark.parametrize(
    "secret", [SERVICE_SECRET.encode(), SIGNER.jwk.x.encode(), b"x" * 32], ids=["the services'", "a public key", "any"]
)
def test_no_secret_makes_an_access_token(secret: bytes) -> None:
    refusal(jwt.encode(SIGNER.claims(), secret, algorithm="HS256", headers={"kid": SIGNER.key_id, "typ": "at+jwt"}))


def test_without_keys_nothing_is_taken() -> None:
    with pytest.raises(Unauthenticated):
        verify(SIGNER.token(), {})


def test_of_several_keys_a_token_is_verified_by_the_one_that_it_names() -> None:
    second = Signer("key-2")

    assert verify(second.token(), {**SIGNER.public, **second.public}).principal == ADMIN
    with pytest.raises(Unauthenticated):
        verify(second.token(), {"key-2": SIGNER.key.public_key(), SIGNER.key_id: second.key.public_key()})


IDS = st.uuids().map(str)
PRINCIPALS = st.builds(
    Principal,
    id=IDS,
    name=st.text(min_size=1),
    role=st.sampled_from([Role.ADMIN, Role.DEV]),
    groups=st.frozensets(IDS, max_size=5),
    session=st.one_of(st.just(""), IDS),
    api_key=st.one_of(st.just(""), IDS),
    functions=st.frozensets(IDS, max_size=5),
    verbs=st.frozensets(st.sampled_from(["READ", "EXECUTE", "MANAGE"])),
)


@given(PRINCIPALS, st.integers(0, 2**63 - 1))
def test_a_token_says_what_was_signed(principal: Principal, revision: int) -> None:
    now = int(time.time())
    token = AccessToken(principal, revision, now + 300.0)

    assert verify(sign(token, SIGNER.key, SIGNER.key_id, now), SIGNER.public) == token
    assert expiry(token).timestamp() == now + 300
