"""Credentials are exchanged once, remembered, and asked again before it is too late."""

import asyncio
from collections.abc import Sequence

import jwt
import pytest

from libs.common.access import exchange as module
from libs.common.access.access_tokens import verify
from libs.common.access.credentials import Kind, new_credential
from libs.common.access.exchange import Exchange
from libs.common.access.principal import Principal
from libs.common.access.watch import TokenState
from libs.common.errors import Internal, KilnError, PermissionDenied, ResourceExhausted, Unauthenticated, Unavailable
from tests.support.access import Clock, FakeAuth, Signer, stale
from tests.support.callers import dev
from tests.support.waiting import until

REFUSAL = Unauthenticated("no such credential", reason="BAD_CREDENTIALS")
AWAY = Unavailable("the auth service is away")
HERE = "192.0.2.7"


class World:
    """An exchange, and whom it asks."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.signer = Signer()
        self.auth = FakeAuth(self.signer, REFUSAL)
        self.auth.clock = self.clock
        self.state = self.signer.state()
        self.exchange = Exchange(self.auth, self.state, self.clock)

    def credential(self, principal: Principal | None = None, kind: Kind = Kind.API_KEY) -> str:
        """A credential of somebody's."""
        text = new_credential(kind).text
        self.auth.principals[text] = principal or dev()
        return text

    async def token(self, credential: str) -> str:
        """What a credential is exchanged for."""
        return (await self.exchange.exchanged(credential, HERE)).authorization.removeprefix("Bearer ")

    def principal(self, text: str) -> Principal:
        """Whom a token is of."""
        return verify(text, self.signer.public).principal

    async def refusal(self, credential: str, kind: type[KilnError] = Unauthenticated) -> KilnError:
        """How an exchange fails."""
        with pytest.raises(kind) as caught:
            await self.exchange.exchanged(credential, HERE)
        return caught.value

    async def settled(self) -> None:
        """Nothing is being asked any more."""
        await until(lambda: not self.exchange._asking)


@pytest.fixture
async def world() -> World:
    return World()


@pytest.mark.parametrize("kind", list(Kind))
async def test_a_credential_is_exchanged_once_and_remembered(world: World, kind: Kind) -> None:
    principal = dev()
    credential = world.credential(principal, kind)

    tokens = [await world.token(credential) for _ in range(5)]

    assert len(set(tokens)) == 1
    assert world.principal(tokens[0]) == principal
    assert world.auth.asked == [(credential, HERE)]


async def test_many_who_want_it_at_the_same_time_ask_once(world: World) -> None:
    credential, other = world.credential(), world.credential()
    world.auth.gate.clear()
    waiting = [asyncio.create_task(world.token(one)) for one in [credential] * 50 + [other] * 50]
    await until(lambda: len(world.auth.asked) == 2)

    world.auth.gate.set()
    tokens = await asyncio.gather(*waiting)

    assert len(set(tokens)) == 2
    assert sorted(asked for asked, _ in world.auth.asked) == sorted([credential, other])


async def test_one_who_goes_away_while_it_is_asked_takes_it_from_nobody(world: World) -> None:
    credential = world.credential()
    world.auth.gate.clear()
    first, second = (asyncio.create_task(world.token(credential)) for _ in range(2))
    await until(lambda: len(world.auth.asked) == 1)

    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    world.auth.gate.set()

    assert world.principal(await second) == world.auth.principals[credential]
    assert len(world.auth.asked) == 1


async def test_a_refusal_is_the_same_for_all_who_wait_and_is_not_remembered(world: World) -> None:
    credential = new_credential(Kind.API_KEY).text

    answers = await asyncio.gather(*(world.token(credential) for _ in range(3)), return_exceptions=True)
    world.auth.principals[credential] = dev()
    later = await world.token(credential)

    assert [isinstance(one, Unauthenticated) for one in answers] == [True] * 3
    assert world.principal(later) == world.auth.principals[credential]


@pytest.mark.parametrize(
    "text",
    ["", "kiln_", "kiln_x_y", "kiln_" + "0" * 22 + "_" + "0" * 39, "kilnsession_é", "kiln_" + "x" * 100_000],
    ids=["nothing", "prefix", "short", "checksum", "letters", "long"],
)
async def test_what_nobody_was_given_is_refused_without_asking(world: World, text: str) -> None:
    assert (await world.refusal(text)).reason == "BAD_CREDENTIALS"
    assert world.auth.asked == []


async def test_a_token_is_renewed_halfway_without_keeping_anyone_waiting(world: World) -> None:
    credential = world.credential()
    first = await world.token(credential)

    world.clock.move(149)
    early = await world.token(credential)
    asked_early = len(world.auth.asked)
    world.clock.move(2)
    world.auth.gate.clear()
    world.auth.revision = 2
    late = [await asyncio.wait_for(world.token(credential), 1) for _ in range(3)]
    world.auth.gate.set()
    await world.settled()

    assert (early, asked_early, late) == (first, 1, [first] * 3)
    assert len(world.auth.asked) == 2


async def test_a_renewed_token_is_used_from_then_on() -> None:
    world = World()
    # Tokens are verified by the time that it is.
    world.clock.move(-200)
    credential = world.credential()
    first = await world.token(credential)

    world.clock.move(160)
    await world.token(credential)
    await world.settled()
    second = await world.token(credential)

    assert second != first
    assert verify(second, world.signer.public).expires_at == pytest.approx(world.clock.now + 300, abs=1)


async def test_while_auth_is_away_a_token_that_is_good_is_used_to_its_end(world: World) -> None:
    credential = world.credential()
    first = await world.token(credential)
    world.auth.principals.clear()
    world.auth.refusal = AWAY

    world.clock.move(298)
    late = [await world.token(credential)]
    await world.settled()
    late.append(await world.token(credential))
    await world.settled()
    world.clock.move(3)

    assert late == [first, first]
    assert await world.refusal(credential, Unavailable) is AWAY


async def test_a_refusal_halfway_drops_what_was_remembered(world: World) -> None:
    credential = world.credential()
    await world.token(credential)
    world.auth.principals.clear()

    world.clock.move(151)
    await world.token(credential)
    await world.settled()

    assert (await world.refusal(credential)).reason == "BAD_CREDENTIALS"


async def test_any_other_failure_halfway_drops_nothing(world: World) -> None:
    credential = world.credential()
    first = await world.token(credential)
    world.auth.principals.clear()
    world.auth.refusal = Internal("broken")

    world.clock.move(151)
    await world.token(credential)
    await world.settled()

    assert await world.token(credential) == first


@pytest.mark.parametrize("changed", ["id", "api_key"])
async def test_a_token_that_is_stale_is_asked_for_again_and_waited_for(world: World, changed: str) -> None:
    principal = dev(api_key="a-key")
    credential = world.credential(principal)
    first = await world.token(credential)
    world.auth.revision = 2

    world.state.hear([], stale(getattr(principal, changed), 2))
    second = await world.token(credential)
    third = await world.token(credential)

    assert first != second == third
    assert verify(second, world.signer.public).revision == 2
    assert len(world.auth.asked) == 2


async def test_a_stale_token_is_not_used_while_auth_is_away(world: World) -> None:
    principal = dev()
    credential = world.credential(principal)
    await world.token(credential)
    world.auth.principals.clear()
    world.auth.refusal = AWAY

    world.state.hear([], stale(principal.id, 2))

    assert await world.refusal(credential, Unavailable) is AWAY


async def test_what_is_forgotten_is_asked_again(world: World) -> None:
    credential = world.credential()
    await world.token(credential)

    world.exchange.forget(credential)
    world.exchange.forget("never seen")
    await world.token(credential)

    assert len(world.auth.asked) == 2


async def test_what_is_asked_before_auth_was_heard_waits_for_that() -> None:
    signer, state = Signer(), TokenState()
    auth = FakeAuth(signer, REFUSAL)
    credential = new_credential(Kind.API_KEY).text
    auth.principals[credential] = dev()
    exchanging = asyncio.create_task(Exchange(auth, state).exchanged(credential, HERE))
    await asyncio.sleep(0)
    asked_before = list(auth.asked)

    state.begin([signer.jwk], [])

    assert (await exchanging).token.principal == auth.principals[credential]
    assert asked_before == []


@pytest.mark.parametrize("known", [(), ("another",)], ids=["nothing is known yet", "a new key is not known yet"])
async def test_that_a_token_of_auths_cannot_be_verified_is_no_fault_of_who_calls(
    known: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.common.access.watch.FIRST_WORD_SECONDS", 0.01)
    signer, state = Signer(), TokenState()
    auth = FakeAuth(signer, REFUSAL)
    if known:
        state.begin([Signer(name).jwk for name in known], [])
    credential = new_credential(Kind.API_KEY).text
    auth.principals[credential] = dev()
    exchange = Exchange(auth, state)

    with pytest.raises(Unavailable) as caught:
        await exchange.exchanged(credential, HERE)
    state.begin([signer.jwk], [])

    assert (caught.value.reason, caught.value.retry_after) == ("STARTING", 1)
    assert (await exchange.exchanged(credential, HERE)).token.principal == auth.principals[credential]


async def test_what_is_remembered_needs_no_wait_until_it_is_time_to_renew_it(world: World) -> None:
    credential = world.credential()
    before = world.exchange.remembered(credential)
    exchanged = await world.exchange.exchanged(credential, HERE)

    at_once = world.exchange.remembered(credential)
    world.clock.move(151)

    assert (before, at_once) == (None, exchanged)
    assert world.exchange.remembered(credential) is None


async def test_what_is_no_longer_true_is_not_what_is_remembered(world: World) -> None:
    principal = dev()
    credential = world.credential(principal)
    await world.token(credential)

    world.state.hear([], stale(principal.id, 10))

    assert world.exchange.remembered(credential) is None


async def test_only_so_many_are_remembered_and_the_oldest_go_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.exchange._remembered, "most", 3)
    credentials = [world.credential() for _ in range(5)]

    for one in credentials:
        await world.token(one)
    for one in credentials[2:]:
        await world.token(one)
    asked = len(world.auth.asked)
    await world.token(credentials[0])

    assert asked == 5
    assert len(world.auth.asked) == 6
    assert len(world.exchange._remembered) == 3


async def test_who_was_asked_for_last_goes_last(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.exchange._remembered, "most", 2)
    first, second, third = (world.credential() for _ in range(3))
    for one in (first, second):
        await world.token(one)
    world.state.hear([], stale(world.auth.principals[first].id, 2))
    world.auth.revision = 2

    for one in (first, third, first):
        await world.token(one)

    assert [one for one, _ in world.auth.asked] == [first, second, first, third]


async def test_nothing_that_is_remembered_has_the_credential(world: World) -> None:
    credential = world.credential()

    await world.token(credential)

    assert credential not in repr(vars(world.exchange))


# Tokens of somebody else's


def foreign(number: int = 0) -> str:
    return jwt.encode({"iss": "https://id.example.com", "n": number}, "a secret of thirty-two characters", algorithm="HS256")


async def test_a_token_of_somebody_elses_is_exchanged_once_and_remembered_like_a_credential(world: World) -> None:
    principal = dev()
    world.auth.principals[foreign()] = principal

    tokens = [await world.token(foreign()) for _ in range(5)]

    assert world.principal(tokens[0]) == principal
    assert world.auth.asked == [(foreign(), HERE)]


@pytest.mark.parametrize("refusal", [REFUSAL, PermissionDenied("not you", reason="DOMAIN_NOT_ALLOWED")], ids=lambda one: one.reason)
async def test_one_that_was_refused_is_refused_for_a_while_without_asking(world: World, refusal: KilnError) -> None:
    world.auth.refusal = refusal
    heard = {(await world.refusal(foreign(), type(refusal))).reason for _ in range(5)}
    asked = len(world.auth.asked)

    world.clock.move(module.REFUSED_SECONDS)
    world.auth.principals[foreign()] = dev()

    assert (heard, asked) == ({refusal.reason}, 1)
    assert await world.token(foreign())


async def test_that_nobody_could_be_asked_is_no_refusal(world: World) -> None:
    world.auth.refusal = AWAY
    await world.refusal(foreign(), Unavailable)
    world.auth.principals[foreign()] = dev()

    assert await world.token(foreign())


async def test_refusals_are_not_remembered_without_end(world: World) -> None:
    world.exchange._refused.most = 3
    for number in range(5):
        await world.refusal(foreign(number))

    await world.refusal(foreign(4))
    await world.refusal(foreign(0))

    assert [token for token, _ in world.auth.asked] == [*map(foreign, range(5)), foreign(0)]


async def test_a_flood_of_made_up_tokens_leaves_the_auth_service_to_others(world: World) -> None:
    credential = world.credential()
    world.auth.gate.clear()
    flood = [asyncio.create_task(world.refusal(foreign(number))) for number in range(module.MAX_FOREIGN_AT_ONCE)]
    await until(lambda: len(world.auth.asked) == module.MAX_FOREIGN_AT_ONCE)

    refused = await world.refusal(foreign(-1), ResourceExhausted)
    own = asyncio.create_task(world.token(credential))
    await until(lambda: len(world.auth.asked) == module.MAX_FOREIGN_AT_ONCE + 1)
    world.auth.gate.set()
    await asyncio.gather(*flood)

    assert (refused.reason, refused.retry_after) == ("TOO_MANY_TOKENS", 1)
    assert await own
    await world.refusal(foreign(-1))
