"""API keys: what they can do, how they follow each other, and how they end."""

import asyncio
from typing import Any

import pytest

from libs.common.access.credentials import Kind, new_credential, parse_credential
from libs.common.access.principal import Principal, Role
from libs.common.errors import FailedPrecondition, NotFound, PermissionDenied, ResourceExhausted, Unauthenticated
from libs.common.ids import uuid7
from libs.common.pages import Page, page_of
from libs.common.postgres import Database
from services.auth.api_keys import MAX_KEYS, MAX_KEYS_IN_ROTATION, Issued
from tests.integration.auth.refusals import bad_field, reason, refusal
from tests.support.auth import AuthWorld, caller_of


def page(size: int = 0, token: str = "") -> Page:
    return page_of(size, token, "keys")


async def ada(world: AuthWorld, role: Role = Role.DEV) -> Principal:
    return caller_of(await world.user("ada", role, None))


async def works(world: AuthWorld, key: Issued) -> bool:
    try:
        return bool((await world.token(key.text))["api_key"] == str(key.api_key.id))
    except Unauthenticated:
        return False


def by(caller: Principal, key: Issued) -> Principal:
    """The caller as it calls with a key."""
    narrowed = frozenset(map(str, key.api_key.functions)), frozenset(key.api_key.verbs)
    return Principal(caller.id, caller.name, caller.role, api_key=str(key.api_key.id), functions=narrowed[0], verbs=narrowed[1])


async def fill(database: Database, world: AuthWorld, user: str, number: int) -> None:
    await database.execute(
        "INSERT INTO auth.api_keys (id, user_id, name, secret_digest, functions, verbs, created_at, expires_at) "
        "SELECT gen_random_uuid(), $1::text::uuid, 'k', sha256('x'), '{}', '{}', $2, $2::timestamptz + interval '1 day' "
        "FROM generate_series(1, $3::integer)",
        user,
        world.clock.now,
        number,
    )


# Making


async def test_a_key_does_what_its_user_may_do_less_what_it_is_narrowed_to(world: AuthWorld) -> None:
    caller, function = await ada(world), str(uuid7())
    wide = await world.key(caller)
    narrow = await world.key(caller, functions=[function.upper()], verbs=["EXECUTE", "READ"], days=1)

    wide_token, narrow_token = await world.token(wide.text), await world.token(narrow.text)

    assert (wide_token["sub"], wide_token["role"], wide_token["api_key"]) == (caller.id, "DEV", str(wide.api_key.id))
    assert "functions" not in wide_token
    assert "verbs" not in wide_token
    assert (narrow_token["functions"], narrow_token["verbs"]) == ([function], ["EXECUTE", "READ"])
    assert (wide.api_key.expires_at - wide.api_key.created_at).days == 90
    assert (narrow.api_key.expires_at - narrow.api_key.created_at).days == 1


async def test_a_key_is_found_without_itself(world: AuthWorld) -> None:
    caller = await ada(world)

    made = await world.key(caller, name="é \u2028 name", verbs=["READ"])

    assert await world.api_keys.get(caller, str(made.api_key.id)) == made.api_key
    assert made.text not in repr(made)
    assert parse_credential(made.text) is not None


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": " "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"days": 0}, "expires_in_days"),
        ({"days": -1}, "expires_in_days"),
        ({"days": 366}, "expires_in_days"),
        ({"functions": ["greet"]}, "functions"),
        ({"functions": [""]}, "functions"),
        ({"functions": ["018f0000-0000-7000-8000-000000000000"] * 2}, "functions"),
        ({"functions": ["018f0000-0000-7000-8000-00000000000a", "018F0000-0000-7000-8000-00000000000A"]}, "functions"),
        ({"functions": [f"018f0000-0000-7000-8000-{number:012}" for number in range(101)]}, "functions"),
        ({"verbs": ["DELETE"]}, "verbs"),
        ({"verbs": [""]}, "verbs"),
        ({"verbs": ["READ", "READ"]}, "verbs"),
    ],
)
async def test_a_bad_field_is_refused_and_named(world: AuthWorld, fields: dict[str, Any], field: str) -> None:
    assert await bad_field(world.key(await ada(world), **fields)) == field


async def test_the_largest_narrowing_is_taken_and_its_token_is_not_too_long(world: AuthWorld, database: Database) -> None:
    caller = await ada(world)
    await database.execute(
        "WITH made AS (INSERT INTO auth.groups (id, name, description) SELECT gen_random_uuid(), 'g' || n, '' "
        "FROM generate_series(1, 100) n RETURNING id) INSERT INTO auth.members (group_id, user_id) SELECT id, $1::text::uuid FROM made",
        caller.id,
    )
    key = await world.key(
        caller, name="x" * 100, functions=[str(uuid7()) for _ in range(100)], verbs=["READ", "EXECUTE", "MANAGE"], days=365
    )

    token, _ = await world.exchange.exchange(key.text, "")

    assert len(token) < 12 << 10
    assert len((await world.token(key.text))["groups"]) == 100


async def test_a_key_for_another_is_made_by_an_admin_alone(world: AuthWorld) -> None:
    caller, other = await ada(world), await world.user("bob")

    made = await world.key(world.root, user="bob")

    assert (await world.token(made.text))["sub"] == str(other.id)
    assert (await world.key(caller, user="ada")).api_key.user_id == (await world.key(caller, user=caller.id)).api_key.user_id
    assert await bad_field(world.key(world.root, user="nobody")) == "user"
    assert await reason(PermissionDenied, world.key(caller, user="bob")) == "NOT_YOURS"


@pytest.mark.parametrize("narrowing", [{"verbs": ["MANAGE"]}, {"functions": [str(uuid7())]}])
@pytest.mark.parametrize("role", [Role.DEV, Role.ADMIN])
async def test_a_narrowed_key_makes_no_keys_and_rotates_none_but_itself(world: AuthWorld, role: Role, narrowing: dict[str, Any]) -> None:
    caller = await ada(world, role)
    wide, narrow = await world.key(caller), await world.key(caller, **narrowing)

    assert await reason(PermissionDenied, world.key(by(caller, narrow))) == "KEY_NARROWED"
    assert await reason(PermissionDenied, world.api_keys.rotate(by(caller, narrow), str(wide.api_key.id), None, None)) == "KEY_NARROWED"
    successor = await world.api_keys.rotate(by(caller, narrow), str(narrow.api_key.id), None, None)

    assert (successor.api_key.functions, successor.api_key.verbs) == (narrow.api_key.functions, narrow.api_key.verbs)
    assert (await world.key(by(caller, wide))).api_key.user_id == wide.api_key.user_id


async def test_a_user_has_fifty_live_keys_at_most(world: AuthWorld, database: Database) -> None:
    caller = await ada(world)
    await fill(database, world, caller.id, MAX_KEYS - 1)

    outcomes = await asyncio.gather(*(world.key(caller) for _ in range(4)), return_exceptions=True)
    (made,) = [one for one in outcomes if isinstance(one, Issued)]
    assert [one.reason for one in outcomes if isinstance(one, ResourceExhausted)] == ["TOO_MANY_KEYS"] * 3
    await world.api_keys.revoke(caller, str(made.api_key.id))

    assert await works(world, await world.key(caller))
    assert await reason(ResourceExhausted, world.key(caller)) == "TOO_MANY_KEYS"
    assert await works(world, await world.key(world.root))


# Reading


async def test_keys_of_others_are_as_if_they_were_not_there(world: AuthWorld) -> None:
    caller, other = await ada(world), caller_of(await world.user("bob"))
    key = str((await world.key(other)).api_key.id)

    for act in (
        world.api_keys.get,
        world.api_keys.revoke,
        lambda who, reference: world.api_keys.rotate(who, reference, None, None),
    ):
        missing = str(uuid7())
        foreign, none = await refusal(NotFound, act(caller, key)), await refusal(NotFound, act(caller, missing))
        assert foreign.message.replace(key, "") == none.message.replace(missing, "")
        assert foreign.reason == none.reason == "API_KEY_NOT_FOUND"
        for reference in ("", "x", "a\0b"):
            assert await reason(NotFound, act(world.root, reference)) == "API_KEY_NOT_FOUND"
    assert str((await world.api_keys.get(world.root, key)).id) == key


async def test_lists_have_ended_keys_too_for_thirty_days(world: AuthWorld) -> None:
    caller = await ada(world)
    revoked, expiring, live = await world.key(caller), await world.key(caller, days=1), await world.key(caller)
    await world.api_keys.revoke(caller, str(revoked.api_key.id))

    async def listed() -> list[str]:
        await world.sweeper.sweep()
        return [str(one.id) for one in (await world.api_keys.list(world.root, "ada", page())).items]

    ids = [str(one.api_key.id) for one in (live, expiring, revoked)]
    world.clock.move(days=29, hours=23)
    assert await listed() == ids
    world.clock.move(hours=2)
    assert await listed() == ids[:2]
    world.clock.move(days=1)
    assert await listed() == ids[:1]


async def test_keys_are_listed_newest_first_in_pages(world: AuthWorld) -> None:
    caller = await ada(world)
    for number in range(3):
        await world.key(caller, name=str(number))

    first = await world.api_keys.list(caller, "", page(2))
    second = await world.api_keys.list(caller, "", page(2, first.next_page_token))

    assert [one.name for one in (*first.items, *second.items)] == ["2", "1", "0"]


# Rotating


async def test_a_rotated_key_and_its_successor_work_side_by_side_until_the_overlap_ends(world: AuthWorld) -> None:
    caller = await ada(world)
    old = await world.key(caller, name="robot", verbs=["READ"])
    before = (await world.token(old.text))["rev"]

    new = await world.api_keys.rotate(caller, str(old.api_key.id), 2, 7)

    assert (new.api_key.name, new.api_key.user_id, new.api_key.verbs) == ("robot", old.api_key.user_id, ["READ"])
    assert (new.api_key.expires_at - new.api_key.created_at).days == 7
    assert (await world.api_keys.get(caller, str(old.api_key.id))).successor == new.api_key.id
    assert await world.revision_of(old.api_key.id) > before
    assert await works(world, old)
    assert await works(world, new)
    world.clock.move(hours=2)
    assert not await works(world, old)
    assert await works(world, new)


async def test_an_overlap_never_makes_a_key_live_longer_and_none_ends_it_at_once(world: AuthWorld) -> None:
    caller = await ada(world)
    short, other = await world.key(caller, days=1), await world.key(caller)

    await world.api_keys.rotate(caller, str(short.api_key.id), 168, None)
    await world.api_keys.rotate(caller, str(other.api_key.id), 0, None)

    assert (await world.api_keys.get(caller, str(short.api_key.id))).expires_at == short.api_key.expires_at
    assert not await works(world, other)


async def test_what_has_ended_or_has_a_successor_is_not_rotated(world: AuthWorld) -> None:
    caller = await ada(world)
    revoked, expired, rotated = await world.key(caller), await world.key(caller, days=1), await world.key(caller)

    async def rotate(key: Issued) -> Issued:
        return await world.api_keys.rotate(caller, str(key.api_key.id), None, None)

    await world.api_keys.revoke(caller, str(revoked.api_key.id))
    both = await asyncio.gather(rotate(rotated), rotate(rotated), return_exceptions=True)
    world.clock.move(days=1)

    assert sorted(type(one).__name__ for one in both) == ["FailedPrecondition", "Issued"]
    assert await reason(FailedPrecondition, rotate(revoked)) == "KEY_ENDED"
    assert await reason(FailedPrecondition, rotate(expired)) == "KEY_ENDED"
    assert await reason(FailedPrecondition, rotate(rotated)) == "KEY_ROTATED"


@pytest.mark.parametrize(
    ("hours", "days", "field"), [(-1, None, "overlap_hours"), (169, None, "overlap_hours"), (None, 0, "expires_in_days")]
)
async def test_a_bad_rotation_is_refused(world: AuthWorld, hours: int | None, days: int | None, field: str) -> None:
    caller = await ada(world)
    key = await world.key(caller)

    assert await bad_field(world.api_keys.rotate(caller, str(key.api_key.id), hours, days)) == field


async def test_rotating_on_and_on_comes_to_an_end(world: AuthWorld, database: Database) -> None:
    caller = await ada(world)
    key = await world.key(caller)
    await fill(database, world, caller.id, MAX_KEYS_IN_ROTATION - 2)

    after = await world.api_keys.rotate(caller, str(key.api_key.id), None, None)

    assert await reason(ResourceExhausted, world.api_keys.rotate(caller, str(after.api_key.id), None, None)) == "TOO_MANY_KEYS"


# Ending, and what is no key


async def test_a_revoked_key_ends_at_once_and_stays_revoked(world: AuthWorld) -> None:
    caller = await ada(world)
    key = await world.key(caller)
    before = (await world.token(key.text))["rev"]

    await world.api_keys.revoke(caller, str(key.api_key.id))
    first, revision = await world.api_keys.get(caller, str(key.api_key.id)), await world.revision_of(key.api_key.id)
    world.clock.move(hours=1)
    await world.api_keys.revoke(caller, str(key.api_key.id))

    assert not await works(world, key)
    assert revision > before
    assert (await world.api_keys.get(caller, str(key.api_key.id))).revoked_at == first.revoked_at
    assert await world.revision_of(key.api_key.id) == revision


async def test_all_that_is_refused_is_refused_alike(world: AuthWorld) -> None:
    caller = await ada(world)
    good, revoked, expired = await world.key(caller), await world.key(caller), await world.key(caller, days=1)
    session = await world.login(await world.user("bob"))
    await world.api_keys.revoke(caller, str(revoked.api_key.id))
    world.clock.move(days=1)
    other_secret = new_credential(Kind.API_KEY)
    known = parse_credential(good.text)
    assert known
    guessed = type(known)(known.kind, known.id, other_secret.secret).text
    as_session = type(known)(Kind.SESSION, known.id, known.secret).text
    heard = set()

    for text in (
        *(revoked.text, expired.text, session.token, other_secret.text, guessed, as_session),
        *("", "kiln_", good.text[:-1], good.text + "x", good.text.replace("kiln_", "kilt_"), "a\0b", "é", "x" * 100_000),
    ):
        error = await refusal(Unauthenticated, world.exchange.exchange(text, ""))
        heard.add((error.message, error.reason, error.retry_after))

    assert [reason for _, reason, _ in heard] == ["BAD_CREDENTIALS"]
    assert await works(world, good)


async def test_what_nobody_can_have_been_given_is_refused_without_the_database(world: AuthWorld, database: Database) -> None:
    await database.execute("ALTER TABLE auth.api_keys RENAME TO gone")
    good = new_credential(Kind.API_KEY).text

    for text in (good[:-1], good[:-1] + ("A" if good[-1] != "A" else "B"), "x_" + good.partition("_")[2]):
        assert await reason(Unauthenticated, world.exchange.exchange(text, "")) == "BAD_CREDENTIALS"


async def test_a_token_ends_with_its_credential_and_after_five_minutes_at_most(world: AuthWorld) -> None:
    caller = await ada(world)
    key = await world.key(caller, days=1)
    _, usual = await world.exchange.exchange(key.text, "")
    assert 299 <= (usual - world.clock.now).total_seconds() <= 300

    world.clock.move(hours=23, minutes=59)
    _, last = await world.exchange.exchange(key.text, "")

    assert last == key.api_key.expires_at.replace(microsecond=0)


async def test_use_is_written_down_once_a_minute(world: AuthWorld, database: Database) -> None:
    caller = await ada(world)
    key = await world.key(caller)
    assert key.api_key.last_used_at is None
    written = set()

    for number in range(10):
        world.clock.move(seconds=20)
        await world.token(key.text, f"192.0.2.{number}" if number < 9 else "")
        found = await world.api_keys.get(caller, str(key.api_key.id))
        written.add((found.last_used_at, found.last_used_address))

    assert sorted(address for _, address in written) == ["192.0.2.0", "192.0.2.3", "192.0.2.6", "192.0.2.6"]
