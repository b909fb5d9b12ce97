"""Who may reach which function, over the twin in memory and over PostgreSQL alike."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.access.principal import Principal
from libs.common.errors import InvalidArgument, NotFound
from libs.common.pages import Page, page_of
from services.registry.access import MAX_ENTRIES, Access, AccessPatch
from services.registry.functions import Function
from tests.support.callers import ADMIN, dev
from tests.support.registry import World, patch

ANN, BOB = dev(), dev(groups=frozenset({str(uuid4())}))
(CREW,) = BOB.groups


def page(size: int = 0, token: str = "") -> Page:
    return page_of(size, token, "functions")


async def by(world: World, caller: Principal, call: Callable[[], Awaitable[Any]]) -> Any:
    """What a call answers that somebody else makes."""
    world.caller = caller
    try:
        return await call()
    finally:
        world.caller = ADMIN


async def names(world: World, caller: Principal, size: int = 0) -> Sequence[str]:
    """Every function that a caller finds in lists, page by page."""
    found: list[str] = []
    token = ""
    while True:
        listed = await by(world, caller, partial(world.functions.list, page(size, token)))
        found += [one.name for one in listed.items]
        token = listed.next_page_token
        if not token:
            return found


async def sees(world: World, caller: Principal, name: str) -> bool:
    try:
        await by(world, caller, lambda: world.functions.get(name))
    except NotFound:
        return False
    return True


async def three(world: World) -> dict[str, Function]:
    """One for everyone, one for Ann, one for a group that Bob is in."""
    lists = {"open": AccessPatch(), "anns": AccessPatch([ANN.id], None), "crews": AccessPatch(None, [CREW])}
    return {name: await world.create(name, access=access) for name, access in lists.items()}


async def test_a_function_without_lists_is_everyones_and_one_with_a_list_is_theirs_whom_it_names(world: World) -> None:
    await three(world)

    assert await names(world, ADMIN) == ["crews", "anns", "open"]
    assert await names(world, ANN) == ["anns", "open"]
    assert await names(world, BOB) == ["crews", "open"]
    assert await names(world, dev()) == ["open"]
    for caller in (ADMIN, ANN, BOB, dev()):
        listed = await names(world, caller)
        assert [name for name in ("crews", "anns", "open") if await sees(world, caller, name)] == listed


async def test_pages_are_full_of_what_the_caller_may_see(world: World) -> None:
    for number in range(6):
        await world.create(f"f-{number}", access=AccessPatch([ANN.id] if number % 2 else [BOB.id], None))

    assert await names(world, ANN, size=2) == ["f-5", "f-3", "f-1"]
    first = await by(world, ANN, lambda: world.functions.list(page(2)))
    assert len(first.items) == 2


async def test_what_a_caller_may_not_reach_answers_as_what_is_not_there_in_every_call(world: World) -> None:
    functions = await three(world)

    for reference in ("crews", str(functions["crews"].id)):
        calls = (
            partial(world.functions.get, reference),
            partial(world.functions.get_version, reference, 1),
            partial(world.functions.list_versions, reference, page()),
        )
        for call in calls:
            with pytest.raises(NotFound) as hidden:
                await by(world, ANN, call)
            assert (hidden.value.reason, hidden.value.message) == ("FUNCTION_NOT_FOUND", f"there is no function {reference!r}")


async def test_a_key_that_is_narrowed_to_functions_reaches_only_those_whatever_its_user_may(world: World) -> None:
    functions = await three(world)
    only = Principal(ADMIN.id, ADMIN.name, ADMIN.role, functions=frozenset({str(functions["anns"].id), str(functions["open"].id)}))
    anns = dev(id=ANN.id, functions=frozenset({str(functions["anns"].id), str(functions["crews"].id)}))

    assert await names(world, only) == ["anns", "open"]
    assert await names(world, anns) == ["anns"]
    with pytest.raises(NotFound):
        await by(world, only, lambda: world.functions.update("crews", patch(description="mine")))
    with pytest.raises(NotFound):
        await by(world, only, lambda: world.functions.delete("crews"))
    assert (await by(world, only, lambda: world.functions.update("anns", patch(description="mine")))).description == "mine"


async def test_lists_are_changed_one_by_one_and_an_empty_one_is_not_the_same_as_none(world: World) -> None:
    function = await world.create("greet", access=AccessPatch([ANN.id], [CREW]))

    kept = await world.update(function, description="new")
    no_groups = await world.update(function, access=AccessPatch(None, []))
    nobody = await world.update(function, access=AccessPatch([], None))

    assert function.access == kept.access == Access([ANN.id], [CREW])
    assert no_groups.access == Access([ANN.id], [])
    assert nobody.access == Access([], [])
    assert kept.revision < no_groups.revision < nobody.revision
    assert nobody.latest_version == 1
    assert await names(world, dev()) == ["greet"]


async def test_who_made_what_is_kept(world: World) -> None:
    function = await world.created_ready("greet")
    other = Principal(str(uuid4()), "other", ADMIN.role)

    await by(world, other, lambda: world.functions.update("greet", patch(source="two")))

    assert (await world.functions.get("greet")).created_by == ADMIN.id
    versions = [(await world.functions.get_version(str(function.id), number))[1] for number in (1, 2)]
    assert [one.created_by for one in versions] == [ADMIN.id, other.id]


IDS = st.uuids().map(str)


@given(st.lists(IDS, max_size=5), st.lists(IDS, max_size=5))
def test_ids_are_kept_once_sorted_and_in_lower_case(users: list[str], groups: list[str]) -> None:
    access = AccessPatch([*users, *(one.upper() for one in users)], groups).applied(Access())

    assert access == Access(sorted(set(users)), sorted(set(groups)))


@pytest.mark.parametrize(
    ("lists", "field"),
    [
        (AccessPatch(["ann"], None), "allowed_users"),
        (AccessPatch(None, [""]), "allowed_groups"),
        (AccessPatch([f"{{{uuid4()}}}"], None), "allowed_users"),
        (AccessPatch(None, [str(uuid4()) for _ in range(MAX_ENTRIES + 1)]), "allowed_groups"),
    ],
)
async def test_what_is_no_list_of_ids_is_refused_and_changes_nothing(world: World, lists: AccessPatch, field: str) -> None:
    function = await world.create("greet", access=AccessPatch([ANN.id], None))

    for call in (world.create("other", access=lists), world.update(function, access=lists)):
        with pytest.raises(InvalidArgument) as refused:
            await call
        assert [one.field for one in refused.value.violations] == [field]

    assert await names(world, ADMIN) == ["greet"]
    assert (await world.functions.get("greet")).access == function.access
