"""Sessions: by which passwords they begin, how long they last, and whose they are."""

import asyncio
import threading
from typing import Any

import bcrypt
import pytest

from libs.common.access.principal import Principal, Role
from libs.common.errors import NotFound, PermissionDenied, ResourceExhausted, Unauthenticated
from libs.common.ids import uuid7
from libs.common.pages import Page, page_of
from libs.common.postgres import Database
from services.auth.passwords import MAX_WAITING, THREADS
from services.auth.sessions import Begun, Origin
from tests.integration.auth.refusals import bad_field, reason, refusal
from tests.support.auth import BETTER, GOOD, HOME, AuthWorld, caller_of
from tests.support.waiting import until


def page(size: int = 0, token: str = "") -> Page:
    return page_of(size, token, "sessions")


async def listed(world: AuthWorld, caller: Principal, user: str = "") -> list[str]:
    return [str(one.id) for one in (await world.sessions.list(caller, user, page())).items]


async def works(world: AuthWorld, begun: Begun) -> bool:
    try:
        return bool((await world.token(begun.token))["session"] == str(begun.session.id))
    except Unauthenticated:
        return False


# Signing in


async def test_who_signs_in_has_a_session_of_its_own_each_time(world: AuthWorld) -> None:
    user = await world.user("ada")

    one, two = await world.login(user), await world.login(user)

    assert one.caller == caller_of(user, session=str(one.session.id))
    assert one.token != two.token
    assert one.session.id != two.session.id
    assert (one.session.address, one.session.user_agent) == ("192.0.2.7", "a browser")
    assert await works(world, one)
    assert await works(world, two)


async def test_all_who_are_not_let_in_hear_the_same_and_cost_one_check_each(world: AuthWorld) -> None:
    await world.user("ada")
    await world.update(await world.user("disabled"), disabled=True)
    await world.user("robot", password=None)
    checks, heard = world.passwords.checks, set()

    tries = [("ada", BETTER), ("nobody", GOOD), ("disabled", GOOD), ("robot", GOOD), ("No Such\0Name", GOOD), ("", ""), ("ada", "")]
    for name, password in tries:
        error = await refusal(Unauthenticated, world.sessions.login(name, password, HOME))
        heard.add((error.message, error.reason, error.retry_after))

    assert [reason for _, reason, _ in heard] == ["BAD_CREDENTIALS"]
    assert world.passwords.checks - checks == len(tries)


async def test_a_password_is_taken_as_it_is(world: AuthWorld) -> None:
    passwords = ["é" * 40 + "correct horse", "x" * 500 + GOOD + "y", GOOD + "\0", GOOD + " ", "👩‍🚀 walks over the moon"]
    for number, password in enumerate(passwords):
        user = await world.user(f"user{number}", password=password)

        assert (await world.login(user, password)).caller.name == user.name
        for other in (password[:-1], f"{password} ", password.strip("\0 ") if password != password.strip("\0 ") else password + "x"):
            assert await reason(Unauthenticated, world.login(user, other)) == "BAD_CREDENTIALS"


async def test_a_session_does_not_begin_by_a_password_that_is_changed_while_it_is_checked(world: AuthWorld) -> None:
    user = await world.user("ada")
    checked, may_go_on = asyncio.Event(), asyncio.Event()
    matches = world.passwords.matches

    async def slow(password: str, kept: bytes | None) -> bool:
        found = await matches(password, kept)
        checked.set()
        await may_go_on.wait()
        return found

    world.passwords.matches = slow  # type: ignore[method-assign]
    signing_in = asyncio.create_task(world.login(user))
    await checked.wait()
    await world.update(user, password=BETTER)
    may_go_on.set()

    assert await reason(Unauthenticated, signing_in) == "BAD_CREDENTIALS"
    assert await listed(world, caller_of(user)) == []


async def test_a_session_that_begins_while_a_user_is_changed_waits_for_the_change(world: AuthWorld) -> None:
    user = await world.user("ada")

    async def waits() -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        return bool(await world.database.fetchval(query))

    async with world.repository.change() as store:
        await store.update_user(user.id, Role.DEV, True, None)
        await store.delete_sessions(user.id)
        signing_in = asyncio.create_task(world.login(user))
        await until(waits, 5)

    assert await reason(Unauthenticated, signing_in) == "BAD_CREDENTIALS"
    assert await world.database.fetchval("SELECT count(*) FROM auth.sessions") == 0


async def test_what_is_kept_of_a_caller_can_be_shown(world: AuthWorld) -> None:
    user = await world.user("ada")

    session = (await world.login(user, origin=Origin("x" * 1000, "a\n\0\x1b[31mb" + "y" * 1000))).session

    assert session.address == "x" * 64
    assert session.user_agent == ("a   [31mb" + "y" * 1000)[:300]


async def test_more_than_can_be_checked_are_refused_and_are_not_failures(world: AuthWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    users = [await world.user(f"user{number}") for number in range(THREADS + MAX_WAITING + 2)]
    may_go_on, check = threading.Event(), bcrypt.checkpw

    def slow(password: bytes, kept: bytes) -> bool:
        assert may_go_on.wait(20)
        return check(password, kept)

    monkeypatch.setattr(bcrypt, "checkpw", slow)
    signing_in = [asyncio.create_task(world.login(user, origin=Origin(f"192.0.2.{at}"))) for at, user in enumerate(users)]
    await until(lambda: sum(task.done() for task in signing_in) == 2)
    may_go_on.set()
    outcomes = await asyncio.gather(*signing_in, return_exceptions=True)

    refused = [(one.reason, one.retry_after) for one in outcomes if isinstance(one, ResourceExhausted)]
    assert refused == [("LOGINS_BUSY", 1)] * 2
    assert sum(isinstance(one, Begun) for one in outcomes) == THREADS + MAX_WAITING
    assert await world.database.fetchval("SELECT sum(failures) FROM auth.login_failures") == 0


# How long they last


async def test_use_puts_the_end_off_but_not_for_ever(world: AuthWorld) -> None:
    begun = await world.login(await world.user("ada"))

    for _ in range(15):
        world.clock.move(hours=11)
        assert await works(world, begun)
    world.clock.move(hours=3)

    assert not await works(world, begun)


async def test_a_session_that_is_not_used_ends(world: AuthWorld) -> None:
    begun = await world.login(await world.user("ada"))

    world.clock.move(hours=12)

    assert not await works(world, begun)
    assert await listed(world, begun.caller) == []
    await world.sweeper.sweep()
    assert await world.database.fetchval("SELECT count(*) FROM auth.sessions") == 0


async def test_use_is_written_down_once_a_minute(world: AuthWorld, database: Database) -> None:
    begun = await world.login(await world.user("ada"))
    written = set()

    for _ in range(10):
        world.clock.move(seconds=20)
        await world.token(begun.token)
        written.add(await database.fetchval("SELECT last_used_at FROM auth.sessions"))

    (one,) = (await world.sessions.list(begun.caller, "", page())).items
    assert len(written) == 4  # the beginning, and three of ten uses
    assert one.address == "198.51.100.9"


# How they end


async def test_signing_out_ends_the_session_of_the_call_and_no_other(world: AuthWorld) -> None:
    user = await world.user("ada")
    one, two = await world.login(user), await world.login(user)
    revision = (await world.token(one.token))["rev"]

    await world.sessions.logout(one.caller)
    await world.sessions.logout(one.caller)
    await world.sessions.logout(caller_of(user, api_key=str(uuid7())))

    assert not await works(world, one)
    assert await works(world, two)
    assert await world.revision_of(one.session.id) > revision
    assert await world.revision_of(two.session.id) == 0


async def test_a_session_is_ended_by_its_user_and_by_an_admin_and_by_nobody_else(world: AuthWorld) -> None:
    ada, bob = await world.user("ada"), await world.user("bob")
    one, two = await world.login(ada), await world.login(ada)
    foreign = await refusal(NotFound, world.sessions.delete(caller_of(bob), str(one.session.id)))
    missing_id = str(uuid7())
    missing = await refusal(NotFound, world.sessions.delete(caller_of(bob), missing_id))

    assert foreign.message.replace(str(one.session.id), "") == missing.message.replace(missing_id, "")
    assert foreign.reason == missing.reason == "SESSION_NOT_FOUND"
    assert await works(world, one)
    await world.sessions.delete(two.caller, str(one.session.id))
    await world.sessions.delete(world.root, str(two.session.id))

    assert not await works(world, one)
    assert not await works(world, two)
    assert await world.revision_of(one.session.id) < await world.revision_of(two.session.id)
    for reference in (str(one.session.id), "", "x", "a\0b"):
        assert await reason(NotFound, world.sessions.delete(world.root, reference)) == "SESSION_NOT_FOUND"


async def test_lists_are_of_ones_own_and_an_admin_may_ask_for_anyones(world: AuthWorld) -> None:
    ada, bob = await world.user("ada"), await world.user("bob")
    ids = [str((await world.login(ada)).session.id) for _ in range(3)]
    await world.login(bob)

    assert await listed(world, caller_of(ada)) == ids[::-1]
    for own in ("ada", str(ada.id), str(ada.id).upper()):
        assert await listed(world, caller_of(ada), own) == ids[::-1]
    assert await listed(world, world.root, "ada") == ids[::-1]
    assert await reason(NotFound, world.sessions.list(world.root, "nobody", page())) == "USER_NOT_FOUND"
    first = await world.sessions.list(caller_of(ada), "", page(2))
    second = await world.sessions.list(caller_of(ada), "", page(2, first.next_page_token))
    assert [str(one.id) for one in (*first.items, *second.items)] == ids[::-1]


async def test_who_may_not_ask_does_not_learn_who_there_is(world: AuthWorld) -> None:
    ada = caller_of(await world.user("ada"))
    await world.user("bob")
    heard = set()

    for reference in ("bob", "nobody", str(uuid7()), "no name"):
        for call in (
            world.sessions.list(ada, reference, page()),
            world.api_keys.list(ada, reference, page()),
            world.key(ada, user=reference),
        ):
            error = await refusal(PermissionDenied, call)
            heard.add((error.message, error.reason))

    assert len(heard) == 1


async def test_services_have_no_sessions(world: AuthWorld) -> None:
    service = Principal("gateway", "gateway", Role.SERVICE)

    assert await reason(PermissionDenied, world.sessions.list(service, "", page())) == "NOT_A_USER"
    assert await reason(PermissionDenied, world.key(service)) == "NOT_A_USER"


# Changing one's password


async def test_a_changed_password_ends_all_other_sessions_and_leaves_keys(world: AuthWorld) -> None:
    user = await world.user("ada")
    here, there = await world.login(user), await world.login(user)
    key = await world.key(caller_of(user))
    revision = (await world.token(there.token))["rev"]

    await world.sessions.change_password(here.caller, GOOD, BETTER, HOME)

    assert await works(world, here)
    assert not await works(world, there)
    assert (await world.token(key.text))["name"] == "ada"
    assert await world.revision_of(user.id) > revision
    assert await reason(Unauthenticated, world.login(user)) == "BAD_CREDENTIALS"
    assert await works(world, await world.login(user, BETTER))


async def test_a_password_is_not_changed_without_the_one_before_or_to_a_bad_one_or_by_a_key(world: AuthWorld) -> None:
    user = await world.user("ada")
    begun = await world.login(user)

    async def change(caller: Principal, current: str, new: str) -> None:
        await world.sessions.change_password(caller, current, new, HOME)

    assert await reason(Unauthenticated, change(begun.caller, BETTER, BETTER)) == "BAD_CREDENTIALS"
    assert await bad_field(change(begun.caller, GOOD, "ada" * 6)) == "new_password"
    assert await reason(PermissionDenied, change(caller_of(user, api_key=str(uuid7())), GOOD, BETTER)) == "SESSION_NEEDED"
    assert await works(world, await world.login(user))


async def test_guessing_the_current_password_is_guessing(world: AuthWorld) -> None:
    begun = await world.login(await world.user("ada"))

    for _ in range(6):
        assert await reason(Unauthenticated, world.sessions.change_password(begun.caller, BETTER, BETTER, HOME)) == "BAD_CREDENTIALS"

    assert await reason(ResourceExhausted, world.sessions.change_password(begun.caller, GOOD, BETTER, HOME)) == "TOO_MANY_FAILURES"
    assert await reason(ResourceExhausted, world.sessions.login("ada", GOOD, HOME)) == "TOO_MANY_FAILURES"


async def test_of_two_changes_of_a_password_at_once_one_is_made(world: AuthWorld) -> None:
    begun = await world.login(await world.user("ada"))
    others = [BETTER, f"{BETTER} again"]

    outcomes: list[Any] = await asyncio.gather(
        *(world.sessions.change_password(begun.caller, GOOD, new, HOME) for new in others), return_exceptions=True
    )

    assert sorted(str(type(one).__name__) for one in outcomes) == ["NoneType", "Unauthenticated"]
    assert await works(world, await world.sessions.login("ada", others[outcomes.index(None)], HOME))


@pytest.mark.parametrize("session", ["", "x"])
async def test_a_caller_with_no_session_signs_nobody_out(world: AuthWorld, session: str) -> None:
    begun = await world.login(await world.user("ada"))

    await world.sessions.logout(Principal(begun.caller.id, "ada", Role.DEV, session=session))

    assert await works(world, begun)
