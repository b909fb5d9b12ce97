"""Users and groups: what an ADMIN may do, what follows everywhere, and what never may be."""

import asyncio
from typing import Any

import pytest

from libs.common.access.principal import Role
from libs.common.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unauthenticated
from libs.common.ids import uuid7
from libs.common.pages import Page, page_of
from libs.common.postgres import Database
from services.auth.groups import MAX_GROUPS_OF_A_USER
from services.auth.users import NewUser, UserPatch
from tests.integration.auth.refusals import bad_field, reason, refusal
from tests.support.auth import BETTER, GOOD, AuthWorld, caller_of


def page(size: int = 0, token: str = "", scope: str = "users") -> Page:
    return page_of(size, token, scope)


async def test_a_new_user_comes_back_as_it_was_made(world: AuthWorld) -> None:
    made = await world.user("ada.lovelace_2-x", Role.ADMIN)

    assert (made.name, made.role, made.disabled, made.groups, made.has_password) == ("ada.lovelace_2-x", Role.ADMIN, False, [], True)
    assert made.id.version == 7
    assert await world.users.get("ada.lovelace_2-x") == await world.users.get(str(made.id)) == made
    assert not (await world.user("robot", password=None)).has_password


async def test_a_name_is_taken_until_its_user_is_deleted(world: AuthWorld) -> None:
    first = await world.user("ada")

    assert await reason(AlreadyExists, world.user("ada")) == "NAME_TAKEN"
    await world.users.delete(world.root, "ada")
    assert (await world.user("ada")).id != first.id


@pytest.mark.parametrize("name", ["", "Ada", "1a", "a b", "a" * 64, "a\0", "ä", "a\n", "a1890000-0000-7000-8000-000000000000"])
async def test_a_bad_name_is_refused_and_named(world: AuthWorld, name: str) -> None:
    assert await bad_field(world.user(name)) == "name"
    assert await bad_field(world.groups.create(world.root, name, "")) == "name"


async def test_a_bad_password_is_refused_and_not_repeated(world: AuthWorld) -> None:
    user = await world.user("ada")

    for password in ("short", "a" * 15, "ada" * 10, "x" * 1025, ""):
        error = await refusal(InvalidArgument, world.update(user, password=password))
        assert "password" in error.message
        assert not password or password not in error.message


async def test_what_is_not_there_is_not_found(world: AuthWorld) -> None:
    for reference in ("nobody", str(uuid7()), "", "No Name", "a\0b"):
        assert await reason(NotFound, world.users.get(reference)) == "USER_NOT_FOUND"
        assert await reason(NotFound, world.users.update(world.root, reference, UserPatch(None, True, None))) == "USER_NOT_FOUND"
        assert await reason(NotFound, world.users.delete(world.root, reference)) == "USER_NOT_FOUND"
        assert await reason(NotFound, world.groups.get(reference)) == "GROUP_NOT_FOUND"
        assert await reason(NotFound, world.groups.update(world.root, reference, "x")) == "GROUP_NOT_FOUND"
        assert await reason(NotFound, world.groups.delete(world.root, reference)) == "GROUP_NOT_FOUND"


async def test_users_are_listed_newest_first_in_pages_that_neither_repeat_nor_hide(world: AuthWorld) -> None:
    made = [await world.user(f"user{number}", password=None) for number in range(5)]

    first = await world.users.list(page(2))
    await world.user("later", password=None)
    second = await world.users.list(page(2, first.next_page_token))
    last = await world.users.list(page(2, second.next_page_token))

    names = [one.name for part in (first, second, last) for one in part.items]
    assert names == [*(one.name for one in reversed(made)), "root"]
    assert last.next_page_token == ""


async def test_absent_fields_of_an_update_stay(world: AuthWorld) -> None:
    user = await world.user("ada")

    changed = await world.update(user, role=Role.ADMIN)
    same = await world.update(user)

    assert (changed.role, changed.disabled, changed.has_password) == (Role.ADMIN, False, True)
    assert (same.role, same.disabled, same.has_password) == (Role.ADMIN, False, True)
    assert (await world.login(user)).caller.role is Role.ADMIN


@pytest.mark.parametrize("fields", [{"role": Role.ADMIN}, {"disabled": True}, {"password": BETTER}])
async def test_a_change_makes_older_tokens_void(world: AuthWorld, fields: dict[str, Any]) -> None:
    user = await world.user("ada")
    before = (await world.token((await world.key(caller_of(user))).text))["rev"]

    await world.update(user, **fields)

    assert await world.revision_of(user.id) > before


@pytest.mark.parametrize("fields", [{"disabled": True}, {"password": BETTER}])
async def test_another_password_and_disabling_end_all_sessions(world: AuthWorld, fields: dict[str, Any]) -> None:
    user, other = await world.user("ada"), await world.user("bob")
    session, others = await world.login(user), await world.login(other)

    await world.update(user, **fields)

    assert await reason(Unauthenticated, world.token(session.token)) == "BAD_CREDENTIALS"
    assert (await world.token(others.token))["name"] == "bob"


async def test_a_disabled_user_is_refused_and_an_enabled_one_let_in_again(world: AuthWorld) -> None:
    user = await world.user("ada")
    key = await world.key(caller_of(user))

    await world.update(user, disabled=True)
    assert await reason(Unauthenticated, world.token(key.text)) == "BAD_CREDENTIALS"
    assert await reason(Unauthenticated, world.login(user)) == "BAD_CREDENTIALS"
    await world.update(user, disabled=False)

    assert (await world.token(key.text))["name"] == "ada"
    assert (await world.login(user)).caller.name == "ada"


async def test_a_deleted_user_takes_all_that_it_has_along(world: AuthWorld, database: Database) -> None:
    user = await world.user("ada")
    group = await world.groups.create(world.root, "crew", "")
    await world.groups.add_member(world.root, "crew", "ada")
    session, key = await world.login(user), await world.key(caller_of(user))

    await world.users.delete(world.root, "ada")

    for credential in (session.token, key.text):
        assert await reason(Unauthenticated, world.token(credential)) == "BAD_CREDENTIALS"
    assert await world.revision_of(user.id) > 0
    assert (await world.groups.list_members(str(group.id), page())).items == []
    for table in ("sessions", "api_keys", "members"):
        assert await database.fetchval(f"SELECT count(*) FROM auth.{table}") == 0


# Who is left to administer


async def test_the_last_admin_stays(world: AuthWorld) -> None:
    await world.user("dev")

    for call in (
        world.users.delete(world.root, "root"),
        world.users.update(world.root, "root", UserPatch(Role.DEV, None, None)),
        world.users.update(world.root, "root", UserPatch(None, True, None)),
    ):
        assert await reason(FailedPrecondition, call) == "LAST_ADMIN"
    root = await world.users.get("root")
    assert (root.role, root.disabled) == (Role.ADMIN, False)


async def test_a_disabled_admin_does_not_count_and_may_go(world: AuthWorld) -> None:
    other = await world.user("other", Role.ADMIN)
    await world.update(other, disabled=True)

    assert await reason(FailedPrecondition, world.users.delete(world.root, "root")) == "LAST_ADMIN"
    await world.users.delete(world.root, "other")


@pytest.mark.parametrize("how", ["delete", "disable", "demote", "each other"])
async def test_of_two_admins_who_leave_at_once_one_stays(world: AuthWorld, database: Database, how: str) -> None:
    async def leave(caller: Any, name: str) -> None:
        if how in ("delete", "each other"):
            await world.users.delete(caller, name)
        else:
            await world.users.update(
                caller, name, UserPatch(Role.DEV if how == "demote" else None, True if how == "disable" else None, None)
            )

    for turn in range(5):
        one, two = await world.user(f"one{turn}", Role.ADMIN), await world.user(f"two{turn}", Role.ADMIN)
        await database.execute("UPDATE auth.users SET disabled = true WHERE id NOT IN ($1, $2)", one.id, two.id)
        targets = (two, one) if how == "each other" else (one, two)

        outcomes = await asyncio.gather(
            leave(caller_of(one), targets[0].name), leave(caller_of(two), targets[1].name), return_exceptions=True
        )

        assert sum(outcome is None for outcome in outcomes) == 1, outcomes
        assert await database.fetchval("SELECT count(*) FROM auth.users WHERE role = 'ADMIN' AND NOT disabled") == 1
        await database.execute("UPDATE auth.users SET disabled = false, role = 'ADMIN' WHERE name = 'root'")


async def test_a_caller_who_is_no_longer_what_its_token_says_changes_nothing(world: AuthWorld) -> None:
    demoted, disabled, gone = [await world.user(name, Role.ADMIN) for name in ("demoted", "disabled", "gone")]
    session = await world.login(await world.user("signedout", Role.ADMIN))
    key = await world.key(caller_of(await world.user("revoked", Role.ADMIN)))
    await world.update(demoted, role=Role.DEV)
    await world.update(disabled, disabled=True)
    await world.users.delete(world.root, "gone")
    await world.sessions.logout(session.caller)
    await world.api_keys.revoke(world.root, str(key.api_key.id))
    revoked = caller_of(await world.users.get("revoked"), api_key=str(key.api_key.id))

    for caller in (caller_of(demoted), caller_of(disabled), caller_of(gone), session.caller, revoked):
        assert await reason(Unauthenticated, world.users.create(caller, NewUser("mole", Role.ADMIN, GOOD))) == "BAD_TOKEN"
        assert await reason(Unauthenticated, world.groups.create(caller, "moles", "")) == "BAD_TOKEN"
        assert await reason(Unauthenticated, world.key(caller)) == "BAD_TOKEN"
    assert await world.find("mole") is None


# Groups


async def test_a_group_comes_back_as_it_was_made_and_changes(world: AuthWorld) -> None:
    made = await world.groups.create(world.root, "crew", "é")

    assert (made.name, made.description) == ("crew", "é")
    assert await world.groups.get("crew") == await world.groups.get(str(made.id)) == made
    assert await reason(AlreadyExists, world.groups.create(world.root, "crew", "")) == "NAME_TAKEN"
    assert (await world.groups.update(world.root, "crew", "new")).description == "new"
    assert (await world.groups.update(world.root, "crew", None)).description == "new"
    assert (await world.groups.update(world.root, "crew", "")).description == ""
    assert [one.name for one in (await world.groups.list(page())).items] == ["crew"]


@pytest.mark.parametrize("description", ["x" * 1001, "a\0b"])
async def test_a_bad_description_is_refused_and_named(world: AuthWorld, description: str) -> None:
    await world.groups.create(world.root, "crew", "")

    assert await bad_field(world.groups.create(world.root, "other", description)) == "description"
    assert await bad_field(world.groups.update(world.root, "crew", description)) == "description"


async def test_who_joins_or_leaves_is_in_other_groups_from_then_on(world: AuthWorld) -> None:
    user, group = await world.user("ada"), await world.groups.create(world.root, "crew", "")
    key = await world.key(caller_of(user))
    before = await world.token(key.text)

    joined = await world.groups.add_member(world.root, "crew", "ada")
    inside, changed = await world.token(key.text), await world.revision_of(user.id)
    await world.groups.remove_member(world.root, "crew", "ada")
    after = await world.token(key.text)

    assert joined.groups == [group.id]
    assert (before["groups"], inside["groups"], after["groups"]) == ([], [str(group.id)], [])
    assert before["rev"] < changed <= inside["rev"] < await world.revision_of(user.id) <= after["rev"]


async def test_who_is_in_it_already_stays_and_keeps_its_tokens(world: AuthWorld) -> None:
    user, group = await world.user("ada"), await world.groups.create(world.root, "crew", "")
    await world.groups.add_member(world.root, "crew", "ada")
    changed = await world.revision_of(user.id)

    again = await world.groups.add_member(world.root, str(group.id), str(user.id))

    assert again.groups == [group.id]
    assert await world.revision_of(user.id) == changed


async def test_a_deleted_group_is_left_by_all_its_members(world: AuthWorld) -> None:
    await world.groups.create(world.root, "crew", "")
    users = [await world.user(name) for name in ("ada", "bob")]
    for user in users:
        await world.groups.add_member(world.root, "crew", user.name)
    before = [await world.revision_of(user.id) for user in users]

    await world.groups.delete(world.root, "crew")

    assert all([await world.revision_of(user.id) > known for user, known in zip(users, before, strict=True)])
    assert (await world.users.get("ada")).groups == []
    assert await reason(NotFound, world.groups.get("crew")) == "GROUP_NOT_FOUND"


async def test_members_are_listed_newest_first_in_pages(world: AuthWorld) -> None:
    await world.groups.create(world.root, "crew", "")
    for name in ("ada", "bob", "cyd"):
        await world.user(name, password=None)
        await world.groups.add_member(world.root, "crew", name)

    first = await world.groups.list_members("crew", page(2, scope="crew"))
    second = await world.groups.list_members("crew", page(2, first.next_page_token, "crew"))

    assert [one.name for one in (*first.items, *second.items)] == ["cyd", "bob", "ada"]
    assert second.next_page_token == ""


async def test_a_user_is_in_a_hundred_groups_at_most(world: AuthWorld, database: Database) -> None:
    user = await world.user("ada")
    await database.execute(
        "WITH made AS (INSERT INTO auth.groups (id, name, description) "
        "SELECT gen_random_uuid(), 'group' || n, '' FROM generate_series(1, $2::integer) n RETURNING id) "
        "INSERT INTO auth.members (group_id, user_id) SELECT id, $1 FROM made",
        user.id,
        MAX_GROUPS_OF_A_USER,
    )
    await world.groups.create(world.root, "onemore", "")

    assert await bad_field(world.groups.add_member(world.root, "onemore", "ada")) == "user"
    assert len((await world.groups.add_member(world.root, "group1", "ada")).groups) == MAX_GROUPS_OF_A_USER
    await world.groups.remove_member(world.root, "group1", "ada")
    assert len((await world.groups.add_member(world.root, "onemore", "ada")).groups) == MAX_GROUPS_OF_A_USER


async def test_membership_of_what_is_not_there_is_refused(world: AuthWorld) -> None:
    await world.groups.create(world.root, "crew", "")
    await world.user("ada")

    assert await reason(NotFound, world.groups.add_member(world.root, "nothing", "ada")) == "GROUP_NOT_FOUND"
    assert await bad_field(world.groups.add_member(world.root, "crew", "nobody")) == "user"
    assert await reason(NotFound, world.groups.remove_member(world.root, "nothing", "ada")) == "GROUP_NOT_FOUND"
    assert await reason(NotFound, world.groups.remove_member(world.root, "crew", "ada")) == "MEMBER_NOT_FOUND"
    assert await reason(NotFound, world.groups.remove_member(world.root, "crew", "nobody")) == "MEMBER_NOT_FOUND"
    assert await reason(NotFound, world.groups.list_members("nothing", page())) == "GROUP_NOT_FOUND"
