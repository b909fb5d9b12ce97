"""Who may reach what."""

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.access.functions import can_access_function
from libs.common.access.principal import Principal, Role, caller, can_access, set_caller
from libs.common.errors import Unauthenticated
from tests.support.callers import ADMIN, dev


@dataclass(frozen=True)
class Thing:
    """Something with lists."""

    allowed_users: tuple[str, ...] = ()
    allowed_groups: tuple[str, ...] = ()


# Few ids, so that lists, users and groups often meet; a user and a group may be named alike.
IDS = st.sampled_from(["a", "b", "c", "d"])
THINGS = st.builds(Thing, st.lists(IDS, max_size=3).map(tuple), st.lists(IDS, max_size=3).map(tuple))
USERS = st.builds(
    Principal,
    id=IDS,
    name=IDS,
    role=st.sampled_from([Role.ADMIN, Role.DEV]),
    groups=st.frozensets(IDS),
    functions=st.frozensets(IDS),
    verbs=st.frozensets(st.sampled_from(["READ", "EXECUTE", "MANAGE"])),
)


def the_rule(user: Principal, thing: Thing) -> bool:
    """As people were told it: an ADMIN may; else, when both lists are empty, anyone signed in may; else the user is in allowedUsers or one
    of their groups is in allowedGroups.
    """
    if user.role == "ADMIN":
        return True
    if len(thing.allowed_users) == 0 and len(thing.allowed_groups) == 0:
        return True
    listed = [one for one in thing.allowed_users if one == user.id]
    through = [(mine, theirs) for mine in user.groups for theirs in thing.allowed_groups if mine == theirs]
    return len(listed) + len(through) > 0


@given(USERS, THINGS)
def test_whoever_may_by_the_rule_may_and_nobody_else(user: Principal, thing: Thing) -> None:
    assert can_access(user, thing) == the_rule(user, thing)


@given(USERS, THINGS, IDS)
def test_a_key_takes_away_and_gives_nothing(user: Principal, thing: Thing, identity: str) -> None:
    is_among_its_functions = len(user.functions) == 0 or any(one == identity for one in user.functions)

    assert can_access_function(user, identity, thing) == (the_rule(user, thing) and is_among_its_functions)


@given(USERS, THINGS, IDS)
def test_one_more_group_never_takes_access_away(user: Principal, thing: Thing, group: str) -> None:
    more = Principal(user.id, user.name, user.role, user.groups | {group})

    assert can_access(more, thing) >= can_access(user, thing)


def test_a_narrowed_key_of_an_admin_reaches_its_functions_alone() -> None:
    narrowed = Principal("a", "root", Role.ADMIN, functions=frozenset({"f"}))

    assert can_access_function(narrowed, "f", Thing(("somebody",), ()))
    assert not can_access_function(narrowed, "g", Thing())


def test_a_list_of_the_dead_is_no_empty_list() -> None:
    assert not can_access(dev(), Thing(("deleted",), ()))
    assert not can_access(dev(groups=frozenset({"mine"})), Thing((), ("deleted",)))


def test_a_user_is_no_group_of_the_same_id() -> None:
    assert not can_access(dev(id="a"), Thing((), ("a",)))
    assert not can_access(dev(groups=frozenset({"a"})), Thing(("a",), ()))


def test_a_service_reaches_everything() -> None:
    assert can_access(Principal("registry", "registry", Role.SERVICE), Thing(("somebody",), ("some",)))


@pytest.mark.parametrize(
    ("facts", "narrowed"),
    [({}, False), ({"functions": frozenset({"f"})}, True), ({"verbs": frozenset({"READ"})}, True), ({"api_key": "k"}, False)],
)
def test_a_key_is_narrowed_by_functions_or_by_verbs(facts: dict[str, frozenset[str]], narrowed: bool) -> None:
    assert dev(**facts).is_narrowed is narrowed


async def test_each_task_has_a_caller_of_its_own_and_at_first_none() -> None:
    async def as_caller(principal: Principal | None) -> Principal:
        set_caller(principal)
        await asyncio.sleep(0)
        return caller()

    first, second, nobody = await asyncio.gather(as_caller(ADMIN), as_caller(dev(name="d")), as_caller(None), return_exceptions=True)

    assert (first, isinstance(second, Principal) and second.name) == (ADMIN, "d")
    assert isinstance(nobody, Unauthenticated)
    assert nobody.reason == "NO_CREDENTIAL"
