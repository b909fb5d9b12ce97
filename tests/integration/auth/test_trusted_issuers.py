"""Tokens of trusted issuers: what they are exchanged for, and which are not."""

import time
from typing import Any

import pytest

from libs.common.access.access_tokens import MAX_SECONDS
from libs.common.errors import PermissionDenied, Unauthenticated, Unavailable
from tests.integration.auth.refusals import reason, refusal
from tests.support.auth import HOME, AuthWorld
from tests.support.identity_provider import CLIENT, ISSUER, FakeProvider


@pytest.fixture(scope="module")
def provider() -> FakeProvider:
    """One for all, since its key takes a while to make."""
    return FakeProvider()


def trusting(world: AuthWorld, provider: FakeProvider, **fields: Any) -> AuthWorld:
    """The domain with an issuer whose tokens are taken."""
    world.exchange = world.exchange_for(provider.client(**fields))
    return world


async def test_a_token_stands_for_a_user_who_is_made_at_the_first_one(world: AuthWorld, provider: FakeProvider) -> None:
    trusting(world, provider)

    first, second = await world.token(provider.token()), await world.token(provider.token())

    user = await world.find("ada")
    assert user
    assert (user.issuer, user.has_password) == (ISSUER, False)
    assert (first["sub"], first["name"], first["role"]) == (str(user.id), "ada", "DEV")
    assert second["sub"] == first["sub"]
    assert "session" not in first
    assert "api_key" not in first


async def test_it_is_the_same_user_who_signs_in_by_a_browser(world: AuthWorld, provider: FakeProvider) -> None:
    trusting(world, provider)
    logins = world.logins_by(provider.client())
    location, kept = await logins.begin("home")
    begun = await logins.complete("home", provider.authorize(location), kept, HOME)

    assert (await world.token(provider.token()))["sub"] == begun.caller.id


async def test_an_access_token_lives_no_longer_than_what_it_was_exchanged_for(world: AuthWorld, provider: FakeProvider) -> None:
    trusting(world, provider)
    now = int(time.time())

    short, long = await world.token(provider.token(exp=now + 20)), await world.token(provider.token(exp=now + 10**11))

    # And the minute by which clocks may differ.
    assert short["exp"] == now + 80
    assert long["exp"] <= now + MAX_SECONDS + 5


async def test_role_and_groups_follow_each_token_but_none_that_is_older(world: AuthWorld, provider: FakeProvider) -> None:
    trusting(world, provider, roleClaim="role", adminValues=["admin"], groupsClaim="groups")
    crew = await world.groups.create(world.root, "crew", "")
    now = int(time.time())
    old, new = provider.token(iat=now - 20, role="admin", groups=["crew"]), provider.token(iat=now - 10, role="dev")

    before = await world.token(old)
    after = await world.token(new)
    again = await world.token(old)

    assert (before["role"], before["groups"]) == ("ADMIN", [str(crew.id)])
    assert (after["role"], after["groups"]) == (again["role"], again["groups"]) == ("DEV", [])
    # Who holds the first access token is told that it is no longer true.
    assert before["rev"] < await world.revision_of(before["sub"]) <= after["rev"]


async def test_a_group_that_is_made_later_counts_from_the_next_exchange_on(world: AuthWorld, provider: FakeProvider) -> None:
    trusting(world, provider, groupsClaim="groups")
    token = provider.token(groups=["crew"])
    before = await world.token(token)
    crew = await world.groups.create(world.root, "crew", "")

    assert before["groups"] == []
    assert (await world.token(token))["groups"] == [str(crew.id)]


async def test_a_disabled_user_stays_out_and_a_deleted_one_begins_anew(world: AuthWorld, provider: FakeProvider) -> None:
    trusting(world, provider)
    first = await world.token(provider.token())
    user = await world.find("ada")
    assert user
    await world.update(user, disabled=True)

    assert await reason(Unauthenticated, world.token(provider.token())) == "BAD_CREDENTIALS"
    await world.users.delete(world.root, "ada")
    assert (await world.token(provider.token()))["sub"] != first["sub"]


async def test_a_token_that_is_not_good_makes_no_user_and_says_why_to_whom_trusts_its_issuer(
    world: AuthWorld, provider: FakeProvider
) -> None:
    trusting(world, provider)
    now = int(time.time())
    for token in (
        provider.token(aud="another"),
        provider.token(aud=CLIENT, nonce="n"),
        provider.token(exp=now - 100),
        provider.token(nbf=now + 100),
        provider.token(sub=""),
        FakeProvider().token(),
    ):
        error = await refusal(Unauthenticated, world.token(token))
        assert (error.reason, "the token of Home is not taken" in error.message) == ("BAD_CREDENTIALS", True)

    assert await world.find("ada") is None


async def test_an_issuer_that_is_not_trusted_is_told_no_more_than_nobody(world: AuthWorld, provider: FakeProvider) -> None:
    trusting(world, provider, audience="")
    expected = await refusal(Unauthenticated, world.token("x"))

    for token in (provider.token(), FakeProvider("https://other.example.com").token()):
        error = await refusal(Unauthenticated, world.token(token))
        assert (error.reason, error.message) == (expected.reason, expected.message)


async def test_who_needs_a_verified_address_needs_it_here_too(world: AuthWorld, provider: FakeProvider) -> None:
    trusting(world, provider, requireVerifiedEmail=True)

    assert await reason(PermissionDenied, world.token(provider.token(email="ada@example.com"))) == "EMAIL_NOT_VERIFIED"
    assert await world.token(provider.token(email="ada@example.com", email_verified=True))


async def test_an_issuer_that_is_away_is_no_fault_of_the_token(world: AuthWorld) -> None:
    away = FakeProvider()
    away.is_away = True
    trusting(world, away)

    assert await reason(Unavailable, world.token(away.token())) == "PROVIDER_AWAY"
    assert await world.token((await world.key(world.root)).text)
