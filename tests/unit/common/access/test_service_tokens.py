"""Services prove themselves to each other by a secret, and nobody else can."""

import time
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.access.access_tokens import LEEWAY_SECONDS
from libs.common.access.principal import Principal, Role
from libs.common.access.service_tokens import TYPE, ServiceTokens
from libs.common.errors import Unauthenticated
from tests.support.access import SERVICE_SECRET, Clock, Signer

ALL = ServiceTokens(SERVICE_SECRET, "executor")


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    said = {"iss": "kiln-service", "aud": "kiln-services", "sub": "registry", "iat": now, "exp": now + 300, **changed}
    return {name: value for name, value in said.items() if value is not None}


def signed(of: dict[str, Any], secret: str = SERVICE_SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(of, secret, algorithm=algorithm, headers={"typ": TYPE})


def refusal(text: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        ALL.verify(text)
    assert caught.value.reason == "BAD_TOKEN"
    return caught.value.message


def test_a_service_is_known_by_its_name_and_is_no_user() -> None:
    principal, _ = ALL.verify(ServiceTokens(SERVICE_SECRET, "registry").own())

    assert principal == Principal(id="registry", name="registry", role=Role.SERVICE)


def test_what_a_test_signs_is_taken_where_it_is_right() -> None:
    assert ALL.verify(signed(claims()))[0].name == "registry"


def test_a_token_is_used_for_half_of_its_life_and_then_followed_by_another() -> None:
    clock = Clock()
    # Tokens are verified by the time that it is, at which the last one here is made.
    clock.move(-151)
    began = clock.now
    tokens = ServiceTokens(SERVICE_SECRET, "registry", clock)
    first = tokens.own()
    _, ends = tokens.verify(first)

    clock.move(149)
    same = tokens.own()
    clock.move(2)
    other = tokens.own()

    assert ends == pytest.approx(began + 300, abs=1)
    assert same == first
    assert other != first
    assert tokens.verify(other)[1] - ends >= 150


@pytest.mark.parametrize("ago", [301, 304])
def test_a_token_that_has_just_expired_is_taken_since_clocks_differ(ago: int) -> None:
    clock = Clock()
    clock.move(-ago)

    assert ALL.verify(ServiceTokens(SERVICE_SECRET, "registry", clock).own())[0].name == "registry"


def test_a_token_of_a_clock_that_is_ahead_is_taken() -> None:
    clock = Clock()
    clock.move(4)

    assert ALL.verify(ServiceTokens(SERVICE_SECRET, "registry", clock).own())[0].name == "registry"


def test_an_expired_token_is_refused() -> None:
    clock = Clock()
    clock.move(-301 - LEEWAY_SECONDS)

    assert "expired" in refusal(ServiceTokens(SERVICE_SECRET, "registry", clock).own())


@pytest.mark.parametrize("secret", ["another-secret-of-32-characters-or-more", SERVICE_SECRET + " ", SERVICE_SECRET[:-1] + "X"])
def test_a_token_of_another_secret_is_refused(secret: str) -> None:
    refusal(ServiceTokens(secret, "registry").own())


@pytest.mark.parametrize("missing", ["iss", "aud", "sub", "exp", "iat"])
def test_no_claim_may_be_missing(missing: str) -> None:
    refusal(signed(claims(**{missing: None})))


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "kiln"},
        {"aud": "kiln"},
        {"aud": ["kiln-services"]},
        {"exp": 1},
        {"iat": int(time.time()) + 86400},
        {"nbf": int(time.time()) + 86400},
        {"sub": 7},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_no_claim_may_be_wrong(changed: dict[str, Any]) -> None:
    refusal(signed(claims(**changed)))


@pytest.mark.parametrize("algorithm", ["HS384", "HS512", "none"])
def test_no_other_algorithm_is_taken(algorithm: str) -> None:
    secret = "" if algorithm == "none" else SERVICE_SECRET * 2

    with pytest.raises(Unauthenticated):
        ServiceTokens(SERVICE_SECRET * 2, "registry").verify(signed(claims(), secret, algorithm))


def test_a_users_token_is_refused() -> None:
    refusal(Signer().token())


@given(st.text())
def test_any_text_is_refused_and_breaks_nothing(text: str) -> None:
    refusal(text)
