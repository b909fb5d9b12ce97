"""Logins by an identity provider: whom they let in, as whom, and what no browser and no provider gets past."""

import asyncio
import time
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from libs.common.access.principal import Principal, Role
from libs.common.errors import FailedPrecondition, KilnError, NotFound, PermissionDenied, Unauthenticated, Unavailable
from libs.common.pages import page_of
from services.auth.identities import names_from
from services.auth.oidc_logins import OidcLogins, Reply
from services.auth.provider_client import ProviderClient
from services.auth.records import AuditFilter, User
from services.auth.sessions import Begun
from tests.integration.auth.refusals import reason, refusal
from tests.support.auth import BETTER, GOOD, HOME, AuthWorld
from tests.support.identity_provider import ISSUER, FakeProvider


@pytest.fixture(scope="module")
def provider() -> FakeProvider:
    """One for all, since its key takes a while to make."""
    return FakeProvider()


async def sign_in(logins: OidcLogins, provider: FakeProvider, **claims: Any) -> Begun:
    location, kept = await logins.begin("home")
    return await logins.complete("home", provider.authorize(location, **claims), kept, HOME)


async def user_of(world: AuthWorld, begun: Begun) -> User:
    user = await world.find(begun.caller.name)
    assert user
    return user


async def test_the_provider_is_asked_with_state_nonce_and_challenge_and_sends_back_to_the_public_url(
    world: AuthWorld, provider: FakeProvider
) -> None:
    logins = world.logins_by(provider.client())

    one, other = [dict(parse_qsl(urlsplit((await logins.begin("home"))[0]).query)) for _ in range(2)]

    assert one["redirect_uri"] == "http://127.0.0.1:8080/auth/oidc/home/callback"
    assert one["scope"] == "openid profile email"
    for name in ("state", "nonce", "code_challenge"):
        assert len(one[name]) >= 43
        assert one[name] != other[name]
    assert len({one["state"], one["nonce"], one["code_challenge"]}) == 3


async def test_whoever_comes_first_is_made_a_user_without_a_password_and_is_the_same_one_again(
    world: AuthWorld, provider: FakeProvider
) -> None:
    logins = world.logins_by(provider.client())

    first = await sign_in(logins, provider)
    again = await sign_in(logins, provider)

    user = await user_of(world, first)
    audited = await world.audit_events.list(page_of(0, ""), AuditFilter())
    assert [(one.action, one.actor_name, one.entity_kind, one.entity_id) for one in audited.items] == [
        ("identity_provider", ISSUER, "user", str(user.id))
    ]
    assert (user.name, user.role, user.has_password, user.issuer) == ("ada", Role.DEV, False, ISSUER)
    assert first.caller.id == again.caller.id == str(user.id)
    # Nobody can have known the session beforehand.
    assert first.session.id != again.session.id
    assert (first.session.address, first.session.user_agent) == ("192.0.2.7", "a browser")
    assert (await world.token(first.token))["session"] == str(first.session.id)


async def test_the_same_subject_of_another_issuer_is_another_user(world: AuthWorld, provider: FakeProvider) -> None:
    other = FakeProvider("https://other.example.com")

    here = await sign_in(world.logins_by(provider.client()), provider, sub="same")
    there = await sign_in(world.logins_by(other.client()), other, sub="same")

    assert here.caller.id != there.caller.id
    assert (here.caller.name, there.caller.name) == ("ada", "ada-2")


async def test_a_user_who_is_there_is_not_taken_over_by_who_has_the_same_name_elsewhere(world: AuthWorld, provider: FakeProvider) -> None:
    local = await world.user("ada", Role.ADMIN)

    begun = await sign_in(world.logins_by(provider.client()), provider)

    assert (begun.caller.name, begun.caller.role) == ("ada-2", Role.DEV)
    assert await world.find("ada") == local
    assert (await world.login(local)).caller.id == str(local.id)


async def test_nobody_from_outside_gets_the_name_that_the_first_administrator_has(world: AuthWorld, provider: FakeProvider) -> None:
    begun = await sign_in(world.logins_by(provider.client()), provider, preferred_username="Admin")

    assert begun.caller.name == "admin-2"
    assert "admin" not in names_from("admin", (await user_of(world, begun)).id)


async def test_many_who_come_first_at_once_are_one_user(world: AuthWorld, provider: FakeProvider) -> None:
    logins = world.logins_by(provider.client())

    begun = await asyncio.gather(*(sign_in(logins, provider) for _ in range(5)))

    assert len({one.caller.id for one in begun}) == 1


# What belongs to a login


async def test_a_login_goes_on_once(world: AuthWorld, provider: FakeProvider) -> None:
    logins = world.logins_by(provider.client())
    location, kept = await logins.begin("home")
    reply = provider.authorize(location)

    await logins.complete("home", reply, kept, HOME)

    assert await reason(Unauthenticated, logins.complete("home", reply, kept, HOME)) == "LOGIN_EXPIRED"
    # Neither does it with another code.
    other = replace(reply, code=provider.authorize(location).code)
    assert await reason(Unauthenticated, logins.complete("home", other, kept, HOME)) == "LOGIN_EXPIRED"


async def test_another_browsers_answer_signs_nobody_in(world: AuthWorld, provider: FakeProvider) -> None:
    logins = world.logins_by(provider.client())
    (location, mine), (_, theirs) = await logins.begin("home"), await logins.begin("home")
    reply = provider.authorize(location)

    for kept in (theirs, "", "x", mine[:-4], "A" + mine[1:], mine * 100, "é"):
        assert await reason(Unauthenticated, logins.complete("home", reply, kept, HOME)) == "LOGIN_EXPIRED"
    for state in ("", "x", f"{reply.state}x", "é"):
        assert await reason(Unauthenticated, logins.complete("home", replace(reply, state=state), mine, HOME)) == "LOGIN_EXPIRED"
    # None of that has spent it.
    assert await logins.complete("home", reply, mine, HOME)


async def test_a_code_of_somebody_elses_login_is_worth_nothing(world: AuthWorld, provider: FakeProvider) -> None:
    logins = world.logins_by(provider.client())
    (mine, kept), (theirs, _) = await logins.begin("home"), await logins.begin("home")
    stolen = provider.authorize(theirs, sub="victim").code

    # The state is the attacker's own; the provider holds the code to the verifier.
    injected = replace(provider.authorize(mine), code=stolen)

    assert await reason(Unauthenticated, logins.complete("home", injected, kept, HOME)) == "BAD_IDENTITY"


@pytest.mark.parametrize("nonce", [None, "", "another", ["a"]], ids=str)
async def test_an_id_token_of_another_login_is_refused(world: AuthWorld, provider: FakeProvider, nonce: Any) -> None:
    assert await reason(Unauthenticated, sign_in(world.logins_by(provider.client()), provider, nonce=nonce)) == "BAD_IDENTITY"


async def test_a_login_ends_after_ten_minutes_and_so_does_the_memory_of_it(world: AuthWorld, provider: FakeProvider) -> None:
    logins = world.logins_by(provider.client())
    location, kept = await logins.begin("home")
    await sign_in(logins, provider)
    world.clock.move(minutes=10)

    assert await reason(Unauthenticated, logins.complete("home", provider.authorize(location), kept, HOME)) == "LOGIN_EXPIRED"
    assert await world.database.fetchval("SELECT count(*) FROM auth.spent_logins") == 1
    await world.sweeper.sweep()
    assert await world.database.fetchval("SELECT count(*) FROM auth.spent_logins") == 0


async def test_what_one_provider_answers_is_no_answer_of_another(world: AuthWorld, provider: FakeProvider) -> None:
    other = FakeProvider("https://other.example.com")
    logins = world.logins_by(provider.client(), other.client(id="other"))
    location, kept = await logins.begin("home")
    reply = provider.authorize(location)

    assert await reason(Unauthenticated, logins.complete("other", reply, kept, HOME)) == "LOGIN_EXPIRED"
    named = replace(reply, issuer="https://other.example.com")
    assert await reason(Unauthenticated, logins.complete("home", named, kept, HOME)) == "BAD_IDENTITY"


# Who is let in


async def test_what_the_provider_refuses_is_told_in_words_of_kilns_own(world: AuthWorld, provider: FakeProvider) -> None:
    logins = world.logins_by(provider.client())
    heard = []
    location, kept = await logins.begin("home")
    state = provider.authorize(location).state
    for error in ("access_denied", "<b>call 555-0100</b>", ""):
        for named in (state, ""):
            heard.append(await refusal(PermissionDenied, logins.complete("home", Reply(named, "", error, ""), kept, HOME)))

    assert {one.reason for one in heard} == {"LOGIN_DENIED"}
    assert heard[0].message == "Home did not sign you in: access was denied"
    assert not any("555" in one.message for one in heard)


async def test_only_a_verified_address_counts_where_one_is_needed(world: AuthWorld, provider: FakeProvider) -> None:
    logins = world.logins_by(provider.client(requireVerifiedEmail=True))
    for claims in ({}, {"email": "ada@example.com"}, {"email": "ada@example.com", "email_verified": "true"}, {"email_verified": True}):
        assert await reason(PermissionDenied, sign_in(logins, provider, **claims)) == "EMAIL_NOT_VERIFIED"
    assert await world.find("ada") is None

    assert await sign_in(logins, provider, email="ada@example.com", email_verified=True)


async def test_only_addresses_of_certain_domains_are_let_in_where_there_are_such(world: AuthWorld, provider: FakeProvider) -> None:
    logins = world.logins_by(provider.client(allowedDomains=["Example.com"]))
    for email in ("ada@example.org", "ada@sub.example.com", "ada@example.com@evil.org"):
        assert await reason(PermissionDenied, sign_in(logins, provider, email=email, email_verified=True)) == "DOMAIN_NOT_ALLOWED"
    assert await reason(PermissionDenied, sign_in(logins, provider, email="ada@example.com")) == "EMAIL_NOT_VERIFIED"

    assert await sign_in(logins, provider, email="ada@EXAMPLE.com", email_verified=True)


async def test_a_disabled_user_stays_out(world: AuthWorld, provider: FakeProvider) -> None:
    logins = world.logins_by(provider.client())
    before = await sign_in(logins, provider)
    await world.update(await user_of(world, before), disabled=True)

    assert await reason(PermissionDenied, sign_in(logins, provider)) == "USER_DISABLED"
    assert await reason(Unauthenticated, world.token(before.token)) == "BAD_CREDENTIALS"


async def test_a_provider_that_nobody_has_set_up_is_not_found(world: AuthWorld, provider: FakeProvider) -> None:
    logins = world.logins_by(provider.client(), FakeProvider("https://programs.example.com").client(id="programs", clientId=""))

    for name in ("nobody", "", "programs"):
        assert await reason(NotFound, logins.begin(name)) == "PROVIDER_NOT_FOUND"
        assert await reason(NotFound, logins.complete(name, Reply("s", "c", "", ""), "", HOME)) == "PROVIDER_NOT_FOUND"


async def test_a_provider_that_is_away_says_so_and_keeps_nobody_else_out(world: AuthWorld) -> None:
    away, there = FakeProvider("https://away.example.com"), FakeProvider()
    away.is_away = True
    logins = world.logins_by(away.client(id="away"), there.client())

    error = await refusal(Unavailable, logins.begin("away"))

    assert (error.reason, error.retry_after) == ("PROVIDER_AWAY", 5)
    assert await sign_in(logins, there)
    assert (await world.login(await world.user("bob"))).token


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500, text="no"),
        httpx.Response(302, headers={"location": "https://elsewhere.example.com"}),
        httpx.Response(200, text="no"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={}),
        httpx.Response(200, json={"access_token": 1, "id_token": 1, "expires_in": "soon"}),
        httpx.Response(200, json={"access_token": "a", "id_token": "a.b.c"}),
        httpx.Response(200, json={"error": ["invalid_grant"]}),
        httpx.Response(400, json={"error": "invalid_client", "error_description": "call 555-0100"}),
    ],
    ids=lambda answer: f"{answer.status_code} {answer.text}",
)
async def test_a_provider_that_answers_nonsense_signs_nobody_in_and_breaks_nothing(world: AuthWorld, answer: httpx.Response) -> None:
    odd = FakeProvider()
    odd.token_answer = answer

    with pytest.raises((Unauthenticated, Unavailable)) as caught:
        await sign_in(world.logins_by(odd.client()), odd)

    assert caught.value.reason in ("BAD_IDENTITY", "PROVIDER_AWAY")
    assert "555" not in caught.value.message


async def test_a_provider_is_not_read_to_the_end_that_answers_a_code_with_too_much(world: AuthWorld) -> None:
    long = FakeProvider()
    long.token_answer = httpx.Response(200, json={"access_token": "a", "id_token": "x" * (1 << 20)})

    error = await refusal(Unavailable, sign_in(world.logins_by(long.client()), long))

    assert error.reason == "PROVIDER_AWAY"


async def test_a_provider_that_is_slow_is_not_waited_for_long_and_only_by_so_many(
    world: AuthWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.auth.provider_client.ASK_SECONDS", 0.3)
    monkeypatch.setattr("services.auth.oidc_logins.MAX_AT_ONCE", 2)
    slow = SlowProvider()
    logins = world.logins_by(slow.slow_client())

    ends = await asyncio.gather(*(sign_in(logins, slow) for _ in range(5)), return_exceptions=True)

    reasons = sorted(end.reason for end in ends if isinstance(end, KilnError))
    assert reasons == ["LOGINS_BUSY"] * 3 + ["PROVIDER_AWAY"] * 2


class SlowProvider(FakeProvider):
    """One that takes its time over codes."""

    def slow_client(self) -> ProviderClient:
        """Who asks it."""

        async def answer(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/token":
                await asyncio.sleep(60)
            return self._answer(request)

        return ProviderClient(self.provider(), transport=httpx.MockTransport(answer))


# What providers have a say in


async def test_role_and_groups_follow_at_each_login_and_are_told_everywhere(world: AuthWorld, provider: FakeProvider) -> None:
    crew, deck = [await world.groups.create(world.root, name, "") for name in ("crew", "deck")]
    mapping = {"roleClaim": "realm_access.roles", "adminValues": ["kiln-admin", "root"], "groupsClaim": "groups"}
    logins = world.logins_by(provider.client(**mapping))
    now = int(time.time())

    admin = await sign_in(logins, provider, iat=now - 20, realm_access={"roles": ["kiln-admin"]}, groups=["crew", "no-such-group"])
    first = await user_of(world, admin)
    dev = await sign_in(logins, provider, iat=now - 10, realm_access={"roles": ["other"]}, groups="deck")
    second = await user_of(world, dev)
    announced = await world.revision_of(first.id)
    nothing = await sign_in(logins, provider, iat=now)

    assert (first.role, first.groups) == (Role.ADMIN, [crew.id])
    assert (second.role, second.groups) == (Role.DEV, [deck.id])
    assert (await world.token(admin.token))["role"] == "DEV"
    # Without the claims it is nothing at all; that was told too.
    assert ((await user_of(world, nothing)).role, (await user_of(world, nothing)).groups) == (Role.DEV, [])
    assert 0 < announced < await world.revision_of(first.id)


async def test_a_login_that_changes_nothing_makes_no_token_stale(world: AuthWorld, provider: FakeProvider) -> None:
    logins = world.logins_by(provider.client(roleClaim="role", adminValues=["admin"], groupsClaim="groups"))
    user = await user_of(world, await sign_in(logins, provider, role="admin"))
    revision = await world.revision_of(user.id)

    await sign_in(logins, provider, role="admin")

    assert await world.revision_of(user.id) == revision


async def test_what_was_said_earlier_does_not_undo_what_was_said_later(world: AuthWorld, provider: FakeProvider) -> None:
    logins = world.logins_by(provider.client(roleClaim="role", adminValues=["admin"]))
    now = int(time.time())
    await sign_in(logins, provider, iat=now - 30, role="admin")
    await sign_in(logins, provider, iat=now - 10, role="dev")

    late = await sign_in(logins, provider, iat=now - 20, role="admin")

    assert late.caller.role is Role.DEV


async def test_where_a_provider_has_no_say_administrators_have(world: AuthWorld, provider: FakeProvider) -> None:
    logins = world.logins_by(provider.client())
    crew = await world.groups.create(world.root, "crew", "")
    user = await user_of(world, await sign_in(logins, provider))
    await world.update(user, role=Role.ADMIN)
    await world.groups.add_member(world.root, "crew", str(user.id))

    again = await user_of(world, await sign_in(logins, provider, role="dev", groups=[]))

    assert (again.role, again.groups) == (Role.ADMIN, [crew.id])


# Passwords


async def test_a_user_of_a_provider_has_no_password_which_outsiders_are_not_told(world: AuthWorld, provider: FakeProvider) -> None:
    begun = await sign_in(world.logins_by(provider.client()), provider)
    user = await user_of(world, begun)

    outside = await refusal(Unauthenticated, world.login(user))
    nobody = await refusal(Unauthenticated, world.sessions.login("nobody", GOOD, HOME))

    assert (outside.message, outside.reason) == (nobody.message, nobody.reason)
    own = Principal(str(user.id), user.name, user.role, session=str(begun.session.id))
    assert await reason(FailedPrecondition, world.sessions.change_password(own, GOOD, BETTER, HOME)) == "NO_PASSWORD"
    assert await reason(FailedPrecondition, world.update(user, password=BETTER)) == "NO_PASSWORD"
