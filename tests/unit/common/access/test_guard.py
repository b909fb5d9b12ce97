"""Who may make which calls, and what is done while that cannot be asked."""

import asyncio
import time
from typing import Final

import pytest

from libs.common import request
from libs.common.access.access_tokens import MAX_BYTES
from libs.common.access.credentials import Kind, new_credential
from libs.common.access.exchange import Exchange
from libs.common.access.guard import OpenGuard, TokenGuard
from libs.common.access.principal import Principal, Role
from libs.common.access.service_tokens import ServiceTokens
from libs.common.access.watch import FIRST_WORD_SECONDS, TokenState
from libs.common.errors import KilnError, PermissionDenied, Unauthenticated, Unavailable
from libs.common.policy import Access, Policy
from tests.support.access import SERVICE_SECRET, Clock, FakeAuth, Signer, stale
from tests.support.callers import ADMIN, dev

HERE: Final = "192.0.2.7"
GRACE_SECONDS: Final = 30
OK: Final = "OK"
NOBODY, NOT_YOURS, NOT_ADMIN, NARROWED = "NO_CREDENTIAL", "NOT_FOR_YOU", "ADMIN_NEEDED", "KEY_NARROWED"


def policy(access: Access = Access.SIGNED_IN, verb: str = "READ", *, within_functions: bool = False) -> Policy:
    return Policy(10, idempotent=True, access=access, verb=verb, within_functions=within_functions)


PUBLIC, SIGNED_IN, ADMINS, SERVICE = (policy(access) for access in (Access.PUBLIC, Access.SIGNED_IN, Access.ADMIN, Access.SERVICE))
# RPCs that every key may call, and that are about functions.
UNKIND: Final = policy(verb="")
ADMINS_UNKIND: Final = policy(Access.ADMIN, "")
WITHIN: Final = policy(within_functions=True)
ADMINS_WITHIN: Final = policy(Access.ADMIN, within_functions=True)
EXECUTE_WITHIN: Final = policy(verb="EXECUTE", within_functions=True)

FUNCTIONS, READ, EXECUTE = frozenset({"f"}), frozenset({"READ"}), frozenset({"EXECUTE", "MANAGE"})
CALLERS: Final[dict[str, Principal | None]] = {
    "nobody": None,
    "dev": dev(),
    "admin": ADMIN,
    "service": Principal("executor", "executor", Role.SERVICE),
    "dev for READ": dev(verbs=READ),
    "dev for EXECUTE": dev(verbs=EXECUTE),
    "dev for f": dev(functions=FUNCTIONS),
    "dev for READ of f": dev(functions=FUNCTIONS, verbs=READ),
    "dev for EXECUTE of f": dev(functions=FUNCTIONS, verbs=EXECUTE),
    "admin for READ": Principal(ADMIN.id, "root", Role.ADMIN, verbs=READ),
    "admin for EXECUTE": Principal(ADMIN.id, "root", Role.ADMIN, verbs=EXECUTE),
    "admin for f": Principal(ADMIN.id, "root", Role.ADMIN, functions=FUNCTIONS),
}
POLICIES: Final = {
    "PUBLIC": PUBLIC,
    "SIGNED_IN": SIGNED_IN,
    "SIGNED_IN of no kind": UNKIND,
    "SIGNED_IN within functions": WITHIN,
    "SIGNED_IN to EXECUTE within functions": EXECUTE_WITHIN,
    "ADMIN": ADMINS,
    "ADMIN of no kind": ADMINS_UNKIND,
    "ADMIN within functions": ADMINS_WITHIN,
    "SERVICE": SERVICE,
}
# Kind of RPC → what each of the callers hears, in their order. Those of no kind and no more are about nothing but the caller itself.
TABLE: Final[dict[str, list[str]]] = {
    "PUBLIC": [OK, OK, OK, OK, OK, OK, OK, OK, OK, OK, OK, OK],
    "SIGNED_IN": [NOBODY, OK, OK, NOT_YOURS, OK, NARROWED, NARROWED, NARROWED, NARROWED, OK, NARROWED, NARROWED],
    "SIGNED_IN of no kind": [NOBODY, OK, OK, NOT_YOURS, OK, OK, OK, OK, OK, OK, OK, OK],
    "SIGNED_IN within functions": [NOBODY, OK, OK, NOT_YOURS, OK, NARROWED, OK, OK, NARROWED, OK, NARROWED, OK],
    "SIGNED_IN to EXECUTE within functions": [NOBODY, OK, OK, NOT_YOURS, NARROWED, OK, OK, NARROWED, OK, NARROWED, OK, OK],
    "ADMIN": [
        *(NOBODY, NOT_ADMIN, OK, NOT_YOURS, NOT_ADMIN, NOT_ADMIN, NOT_ADMIN, NOT_ADMIN, NOT_ADMIN),
        *(OK, NARROWED, NARROWED),
    ],
    "ADMIN of no kind": [
        *(NOBODY, NOT_ADMIN, OK, NOT_YOURS, NOT_ADMIN, NOT_ADMIN, NOT_ADMIN, NOT_ADMIN, NOT_ADMIN),
        *(OK, OK, OK),
    ],
    "ADMIN within functions": [
        *(NOBODY, NOT_ADMIN, OK, NOT_YOURS, NOT_ADMIN, NOT_ADMIN, NOT_ADMIN, NOT_ADMIN, NOT_ADMIN),
        *(OK, NARROWED, OK),
    ],
    "SERVICE": [NOBODY, NOT_YOURS, NOT_YOURS, OK, *[NOT_YOURS] * 8],
}


class World:
    """A guard over an auth service that a test plays."""

    def __init__(self, *, heard: bool = True) -> None:
        # Of what was heard, and of tokens, which are verified by the time that it is.
        self.hearing, self.clock = Clock(), Clock()
        self.signer = Signer()
        self.auth = FakeAuth(self.signer, Unauthenticated("no such credential", reason="BAD_CREDENTIALS"))
        self.services = ServiceTokens(SERVICE_SECRET, "registry")
        self.state = self.signer.state(self.hearing) if heard else TokenState(self.hearing)
        exchange = Exchange(self.auth, self.state, self.clock)
        self.guard = TokenGuard(exchange, self.services, grace_seconds=GRACE_SECONDS, clock=self.clock)

    def header(self, principal: Principal | None, revision: int = 1) -> str:
        """What somebody presents."""
        if principal is None:
            return ""
        if principal.role is Role.SERVICE:
            return f"Bearer {ServiceTokens(SERVICE_SECRET, principal.name).own()}"
        return f"Bearer {self.signer.token(principal, revision=revision)}"

    def key(self, principal: Principal) -> str:
        """An API key of somebody's, as it is presented."""
        text = new_credential(Kind.API_KEY).text
        self.auth.principals[text] = principal
        return f"Bearer {text}"

    async def let_in(self, needs: Policy, header: str) -> None:
        """As a server does: it asks first whether the caller is remembered."""
        if self.guard.recall(needs, header) is None:
            await self.guard.admit(needs, header, HERE)

    async def asked(self, needs: Policy, header: str) -> str:
        """What is said to a call: OK, or the reason why not."""
        try:
            await self.let_in(needs, header)
        except KilnError as error:
            return error.reason
        return OK

    async def refusal(self, header: str, needs: Policy = SIGNED_IN, kind: type[KilnError] = Unauthenticated) -> KilnError:
        """How a call is refused."""
        with pytest.raises(kind) as caught:
            await self.let_in(needs, header)
        return caught.value


# Who may


@pytest.mark.parametrize(
    ("kind", "caller", "answer"),
    [(kind, caller, answer) for kind, answers in TABLE.items() for caller, answer in zip(CALLERS, answers, strict=True)],
)
async def test_whoever_may_by_the_table_may_and_nobody_else(kind: str, caller: str, answer: str) -> None:
    world = World()
    header = world.header(CALLERS[caller])

    first, again = await world.asked(POLICIES[kind], header), await world.asked(POLICIES[kind], header)

    assert (first, again) == (answer, answer)


@pytest.mark.parametrize("kind", TABLE)
async def test_an_api_key_that_is_presented_here_may_what_its_user_may(kind: str) -> None:
    world = World()

    for caller, answer in zip(CALLERS, TABLE[kind], strict=True):
        principal = CALLERS[caller]
        if principal and principal.role is not Role.SERVICE:
            assert await world.asked(POLICIES[kind], world.key(principal)) == answer, caller


async def test_who_was_remembered_at_one_rpc_is_judged_anew_at_another() -> None:
    world = World()
    header = world.header(dev())

    assert [await world.asked(needs, header) for needs in (SIGNED_IN, ADMINS, SERVICE, SIGNED_IN)] == [OK, NOT_ADMIN, NOT_YOURS, OK]


async def test_who_calls_is_told() -> None:
    world = World()
    principal = dev(groups=frozenset({"g"}), session="s")

    admitted = await world.guard.admit(SIGNED_IN, world.header(principal), HERE)
    nobody = await world.guard.admit(PUBLIC, "", HERE)

    assert admitted
    assert admitted.principal == principal
    assert nobody is None


async def test_who_was_refused_can_be_named_whatever_it_presented() -> None:
    world, ada = World(), dev(name="ada")
    service = Principal("gateway", "gateway", Role.SERVICE)

    for header, name in ((world.header(ada), "ada"), (world.key(ada), "ada"), (world.header(service), "gateway")):
        await world.refusal(header, policy(Access.ADMIN), PermissionDenied)
        assert (await world.guard.who(header, HERE)).name == name
    assert (await OpenGuard().who("", HERE)).name == "anyone"


# What is presented


@pytest.mark.parametrize(
    "header",
    ["Basic cm9vdDpyb290", "Bearer", "bearer", "Token x", "x", " ", "\0", "é", "Bearer,x", "kiln_x_y"],
    ids=repr,
)
async def test_what_is_no_bearer_is_refused(header: str) -> None:
    assert (await World().refusal(header)).reason == "BAD_CREDENTIALS"


@pytest.mark.parametrize(
    "header", ["Bearer ", "Bearer x", "Bearer a.b.c", "Bearer é", "Bearer e30.e30.", "Bearer " + "x" * MAX_BYTES * 2], ids=len
)
async def test_what_is_no_token_is_refused(header: str) -> None:
    assert (await World().refusal(header)).reason == "BAD_TOKEN"


async def test_a_megabyte_is_refused() -> None:
    assert "too long" in (await World().refusal("Bearer " + "x" * (1 << 20))).message


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer   "])
async def test_the_scheme_may_be_written_in_any_case(scheme: str) -> None:
    world = World()

    assert await world.asked(SIGNED_IN, scheme + world.header(dev()).removeprefix("Bearer ")) == OK


async def test_a_credential_that_has_ended_keeps_nobody_from_what_anyone_may_call() -> None:
    world = World()

    assert await world.asked(PUBLIC, f"Bearer {new_credential(Kind.API_KEY).text}") == OK
    assert await world.asked(PUBLIC, "Bearer x") == OK


async def test_a_token_that_has_ended_while_remembered_keeps_nobody_from_that_either() -> None:
    world = World()
    principal = dev()
    header = world.header(principal)
    await world.let_in(SIGNED_IN, header)

    world.state.hear([], stale(principal.id, 10))

    assert await world.asked(SIGNED_IN, header) == "STALE_TOKEN"
    assert await world.asked(PUBLIC, header) == OK


async def test_a_token_that_only_says_that_it_is_a_services_is_no_services() -> None:
    world = World()
    pretended = world.signer.signed(world.signer.claims(), typ="kiln-service+jwt")
    forged = ServiceTokens("another-secret-of-32-characters-or-more", "gateway").own()

    assert await world.asked(SERVICE, f"Bearer {pretended}") == "BAD_TOKEN"
    assert await world.asked(SERVICE, f"Bearer {forged}") == "BAD_TOKEN"
    assert await world.asked(SIGNED_IN, f"Bearer {pretended}") == "BAD_TOKEN"


async def test_a_token_is_no_longer_remembered_once_it_has_expired() -> None:
    world = World()
    header = f"Bearer {world.signer.token(dev(), seconds=100)}"
    before = await world.asked(SIGNED_IN, header)

    world.clock.move(101)

    # It is asked anew, and refused by the time that it is.
    assert before == OK
    assert world.guard.recall(SIGNED_IN, header) is None
    expired = f"Bearer {world.signer.token(dev(), seconds=-60)}"
    assert await world.asked(SIGNED_IN, expired) == "BAD_TOKEN"


async def test_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libs.common.access.guard._MAX_SEEN", 3)
    world = World()
    headers = [world.header(dev()) for _ in range(5)]

    for header in headers:
        assert await world.asked(SIGNED_IN, header) == OK

    assert [world.guard.recall(SIGNED_IN, header) is not None for header in headers] == [False, False, True, True, True]
    assert await world.asked(SIGNED_IN, headers[0]) == OK


# API keys that are presented here


async def test_an_api_key_is_exchanged_once_from_where_its_caller_is() -> None:
    world = World()
    header = world.key(dev())

    assert [await world.asked(SIGNED_IN, header) for _ in range(3)] == [OK] * 3
    assert world.auth.asked == [(header.removeprefix("Bearer "), HERE)]


async def test_an_api_key_that_was_exchanged_is_recalled_for_the_grace_and_no_longer() -> None:
    world = World()
    principal = dev()
    header = world.key(principal)
    before = world.guard.recall(SIGNED_IN, header)
    await world.guard.admit(SIGNED_IN, header, HERE)

    token = world.guard.recall(SIGNED_IN, header)
    world.hearing.move(GRACE_SECONDS + 1)

    assert before is None
    assert token is not None
    assert token.principal == principal
    with pytest.raises(Unavailable, match="cannot be reached"):
        world.guard.recall(SIGNED_IN, header)


async def test_an_api_key_that_is_revoked_is_refused_as_soon_as_that_is_heard() -> None:
    world = World()
    principal = dev(api_key="a-key")
    header = world.key(principal)
    before = await world.asked(SIGNED_IN, header)

    world.auth.principals.clear()
    world.state.hear([], stale("a-key", 2))

    assert (before, await world.asked(SIGNED_IN, header)) == (OK, "BAD_CREDENTIALS")


async def test_an_api_key_whose_user_changed_goes_on_with_what_is_true_now() -> None:
    world = World()
    principal = dev()
    header = world.key(principal)
    before = await world.asked(ADMINS, header)
    world.auth.principals[header.removeprefix("Bearer ")] = Principal(principal.id, principal.name, Role.ADMIN)
    world.auth.revision = 2

    world.state.hear([], stale(principal.id, 2))

    assert (before, await world.asked(ADMINS, header)) == (NOT_ADMIN, OK)


# What has changed


@pytest.mark.parametrize("changed", ["id", "session", "api_key"])
async def test_a_token_is_refused_as_soon_as_a_change_is_heard_also_where_it_is_remembered(changed: str) -> None:
    world = World()
    principal = dev(session="a-session", api_key="a-key")
    seen, unseen = world.header(principal), world.header(principal, revision=2)
    before = await world.asked(SIGNED_IN, seen)

    world.state.hear([], stale(getattr(principal, changed), 3))

    assert before == OK
    assert await world.asked(SIGNED_IN, seen) == "STALE_TOKEN"
    assert await world.asked(SIGNED_IN, unseen) == "STALE_TOKEN"
    assert await world.asked(SIGNED_IN, world.header(principal, revision=3)) == OK


async def test_a_stream_that_stays_open_is_told_the_same() -> None:
    world = World()
    principal = dev()
    token = await world.guard.admit(SIGNED_IN, world.header(principal), HERE)
    assert token

    before = world.guard.is_stale(token)
    world.state.hear([], stale(principal.id, 2))

    assert (before, world.guard.is_stale(token)) == (False, True)


async def test_no_change_touches_a_service() -> None:
    world = World()
    header = world.header(CALLERS["service"])
    before = await world.asked(SERVICE, header)

    world.state.hear([], stale("executor", 9))

    assert [before, await world.asked(SERVICE, header)] == [OK, OK]


# While the auth service is not heard


async def test_who_calls_before_anything_was_heard_waits_for_that() -> None:
    world = World(heard=False)
    calls = [asyncio.create_task(world.asked(SIGNED_IN, header)) for header in (world.header(dev()), world.key(dev()))]
    await asyncio.sleep(0)
    before = [call.done() for call in calls]

    world.state.begin([world.signer.jwk], [])

    assert (before, await asyncio.gather(*calls)) == ([False, False], [OK, OK])


async def test_who_has_little_time_waits_no_longer_than_that() -> None:
    world = World(heard=False)
    request.deadline.set(time.monotonic() + 0.06)

    refusal = await asyncio.wait_for(world.refusal(world.header(dev()), kind=Unavailable), FIRST_WORD_SECONDS / 2)

    assert refusal.reason == "STARTING"


async def test_while_nothing_is_heard_for_a_while_users_are_asked_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libs.common.access.watch.FIRST_WORD_SECONDS", 0.01)
    world = World(heard=False)

    for header in (world.header(dev()), world.key(dev())):
        refusal = await world.refusal(header, kind=Unavailable)
        assert (refusal.reason, refusal.retry_after) == ("STARTING", 1)
    assert world.auth.asked == []
    assert await world.asked(SIGNED_IN, "") == NOBODY
    assert await world.asked(PUBLIC, "") == OK


@pytest.mark.parametrize("silent", [0, 29, 31, 3600, None])
async def test_a_service_is_served_however_long_auth_is_silent(silent: float | None) -> None:
    world = World(heard=silent is not None)
    header = world.header(CALLERS["service"])

    world.hearing.move(silent or 0)

    assert [await world.asked(SERVICE, header) for _ in range(2)] == [OK, OK]


async def test_who_was_seen_is_served_for_the_grace_and_no_longer() -> None:
    world = World()
    header, key = world.header(dev()), world.key(dev())
    before = [await world.asked(SIGNED_IN, one) for one in (header, key)]

    world.hearing.move(GRACE_SECONDS - 1)
    within = [await world.asked(SIGNED_IN, one) for one in (header, key)]
    world.hearing.move(2)
    past = [await world.asked(SIGNED_IN, one) for one in (header, key)]
    world.state.hear([], [])
    heard_again = [await world.asked(SIGNED_IN, one) for one in (header, key)]

    assert (before, within, past, heard_again) == ([OK] * 2, [OK] * 2, ["AUTH_AWAY"] * 2, [OK] * 2)


async def test_a_token_that_was_not_seen_is_not_taken_while_auth_is_silent() -> None:
    world = World()

    world.hearing.move(2.9)
    hardly_silent = await world.asked(SIGNED_IN, world.header(dev()))
    world.hearing.move(0.2)

    assert hardly_silent == OK
    refusal = await world.refusal(world.header(dev()), kind=Unavailable)
    assert (refusal.reason, refusal.retry_after) == ("AUTH_AWAY", 1)


async def test_an_api_key_that_was_not_seen_is_asked_of_auth_even_while_its_news_are_not_heard() -> None:
    world = World()

    world.hearing.move(10)

    assert await world.asked(SIGNED_IN, world.key(dev())) == OK


async def test_the_next_token_of_a_caller_that_was_seen_is_taken_while_auth_is_silent_and_that_of_another_key_is_not() -> None:
    world, caller = World(), dev(api_key="one")
    assert await world.asked(SIGNED_IN, world.header(caller)) == OK

    world.hearing.move(GRACE_SECONDS - 1)
    following = await world.asked(SIGNED_IN, world.header(caller, revision=2))
    by_another = await world.asked(SIGNED_IN, world.header(dev(id=caller.id, api_key="another")))
    world.hearing.move(2)

    assert (following, by_another) == (OK, "AUTH_AWAY")
    assert await world.asked(SIGNED_IN, world.header(caller, revision=3)) == "AUTH_AWAY"


async def test_who_was_revoked_while_remembered_stays_refused_while_auth_is_silent() -> None:
    world = World()
    principal = dev()
    header = world.header(principal)
    assert await world.asked(SIGNED_IN, header) == OK
    world.state.hear([], stale(principal.id, 2))

    world.hearing.move(10)

    assert await world.asked(SIGNED_IN, header) == "STALE_TOKEN"


async def test_a_call_without_a_credential_is_told_that_first_whatever_auth_does() -> None:
    world = World()

    world.hearing.move(3600)

    assert (await world.refusal("")).reason == NOBODY


# Where nobody is asked


@pytest.mark.parametrize("header", ["", "Bearer x", "Basic x"])
async def test_where_auth_is_off_anyone_may_do_anything(header: str) -> None:
    guard = OpenGuard()

    roles = {}
    for kind, needs in POLICIES.items():
        token = guard.recall(needs, header)
        assert token
        assert token == await guard.admit(needs, header, HERE)
        assert not guard.is_stale(token)
        roles[kind] = token.principal.role

    assert roles == {kind: Role.SERVICE if kind == "SERVICE" else Role.ADMIN for kind in POLICIES}


async def test_refusals_are_of_the_kind_that_callers_know_how_to_treat() -> None:
    world = World()

    await world.refusal("", kind=Unauthenticated)
    await world.refusal(world.header(dev()), ADMINS, PermissionDenied)
    await world.refusal(world.header(dev()), SERVICE, PermissionDenied)
    await world.refusal(world.header(dev(verbs=EXECUTE)), SIGNED_IN, PermissionDenied)
