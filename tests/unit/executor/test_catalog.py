"""The catalog tells what the watch told last, whatever order it came in and whatever names moved meanwhile."""

import asyncio
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import Unavailable
from services.executor.catalog import MAX_DELETED, Catalog, CatalogEnvironment, CatalogFunction, Runnable
from services.executor.sandbox import Limits

ONE, OTHER, THIRD = (UUID(int=number) for number in (1, 2, 3))


def function(identity: UUID = ONE, name: str = "echo", revision: int = 1, version: int | None = 1) -> CatalogFunction:
    live = Runnable(version, f"sha256:{version}", "assemblyscript") if version else None
    return CatalogFunction(identity, name, revision, live, Limits(), 1)


def holding(*functions: CatalogFunction) -> Catalog:
    catalog = Catalog()
    for one in functions:
        catalog.put(one)
    return catalog


def test_a_function_is_found_by_its_id_and_by_its_name() -> None:
    catalog = holding(function())

    assert catalog.find(str(ONE)) == function()
    assert catalog.find("echo") == function()
    assert catalog.find("other") is None


def test_the_id_wins_over_a_name_that_spells_it() -> None:
    spelled = function(OTHER, str(ONE))
    catalog = holding(function(), spelled)

    assert catalog.find(str(ONE)) == function()


def test_an_id_may_be_written_in_capitals() -> None:
    assert holding(function()).find(str(ONE).upper()) == function()


def test_what_is_older_than_what_is_known_is_ignored() -> None:
    catalog = holding(function(revision=5, version=2), function(revision=4, version=1))

    assert catalog.find(str(ONE)) == function(revision=5, version=2)


def test_the_same_revision_again_changes_nothing() -> None:
    catalog = holding(function(), function())

    assert catalog.find("echo") == function()


def test_a_function_that_is_renamed_is_no_longer_found_by_its_old_name() -> None:
    catalog = holding(function(), function(name="new", revision=2))

    assert catalog.find("echo") is None
    assert catalog.find("new") == function(name="new", revision=2)


def test_a_name_moves_to_another_function_whichever_is_told_first() -> None:
    gone, heir = function(), function(OTHER, revision=3)
    deletion_first, deletion_last = holding(gone), holding(gone)

    deletion_first.remove(ONE)
    deletion_first.put(heir)
    deletion_last.put(heir)
    deletion_last.remove(ONE)

    for catalog in (deletion_first, deletion_last):
        assert catalog.find("echo") == heir
        assert catalog.find(str(ONE)) is None


def test_a_rename_takes_no_name_from_the_function_that_has_it_now() -> None:
    catalog = holding(function(), function(OTHER, revision=3))

    catalog.put(function(name="renamed", revision=4))

    assert catalog.find("echo") == function(OTHER, revision=3)
    assert catalog.find("renamed") == function(name="renamed", revision=4)


def test_removing_what_is_not_known_is_harmless() -> None:
    catalog = holding(function())

    catalog.remove(OTHER)

    assert catalog.find("echo") == function()


def test_the_end_of_a_snapshot_removes_what_was_not_in_it() -> None:
    catalog = holding(function(), function(OTHER, "other"), function(THIRD, "third"))

    catalog.complete({OTHER})

    assert [catalog.find(name) for name in ("echo", "third")] == [None, None]
    assert catalog.find("other") == function(OTHER, "other")


async def test_nobody_is_answered_before_the_first_snapshot_is_complete() -> None:
    catalog = holding(function())

    with pytest.raises(Unavailable) as refusal:
        await catalog.ready(0.01)

    assert (refusal.value.reason, refusal.value.retry_after) == ("STARTING", 1)


async def test_those_who_wait_go_on_when_the_first_snapshot_is_complete() -> None:
    catalog = holding(function())
    waiting = asyncio.create_task(catalog.ready(10))
    await asyncio.sleep(0)

    catalog.complete({ONE})

    await waiting
    await catalog.ready(1)


@given(st.lists(st.tuples(st.sampled_from([ONE, OTHER, THIRD]), st.sampled_from("abc"), st.booleans()), max_size=30))
def test_every_function_is_found_by_the_name_it_was_last_told_with(changes: list[tuple[UUID, str, bool]]) -> None:
    """As the registry does, a name is only given to a function when no other has it."""
    catalog, names = Catalog(), dict[UUID, str]()

    for revision, (identity, name, deleted) in enumerate(changes, 1):
        if deleted:
            names.pop(identity, None)
            catalog.remove(identity)
        elif name not in {other for one, other in names.items() if one != identity}:
            names[identity] = name
            catalog.put(function(identity, name, revision))

    for identity in (ONE, OTHER, THIRD):
        found = catalog.find(str(identity))
        assert (found.name if found else None) == names.get(identity)
    for name in "abc":
        found = catalog.find(name)
        assert (found.id if found else None) == next((one for one, other in names.items() if other == name), None)


def test_a_deleted_function_is_gone_and_known_to_have_been_deleted() -> None:
    catalog = holding(function(), function(OTHER, "other"))

    catalog.delete(ONE)
    catalog.delete(THIRD)
    catalog.complete(set())

    assert [catalog.find(reference) for reference in (str(ONE), "echo")] == [None, None]
    assert [catalog.was_deleted(identity) for identity in (ONE, OTHER, THIRD)] == [True, False, True]


def test_the_oldest_deletions_are_forgotten() -> None:
    catalog = Catalog()

    for number in range(MAX_DELETED + 1):
        catalog.delete(UUID(int=number))

    assert [catalog.was_deleted(UUID(int=number)) for number in (0, 1, MAX_DELETED)] == [False, True, True]


# Environments


def environment(identity: UUID = ONE, revision: int = 1, **values: str) -> CatalogEnvironment:
    return CatalogEnvironment(identity, f"environment-{identity.int}", revision, values)


def reading(*environments: UUID) -> CatalogFunction:
    return replace(function(THIRD), environments=environments)


def test_of_a_name_in_two_environments_the_later_value_is_read() -> None:
    catalog = Catalog()
    catalog.put_environment(environment(ONE, A="1", B="1"))
    catalog.put_environment(environment(OTHER, B="2", C="2"))

    assert catalog.values_for(reading()) == {}
    assert catalog.values_for(reading(ONE)) == {"A": "1", "B": "1"}
    assert catalog.values_for(reading(ONE, OTHER)) == {"A": "1", "B": "2", "C": "2"}
    assert catalog.values_for(reading(OTHER, ONE)) == {"A": "1", "B": "1", "C": "2"}
    assert catalog.values_for(reading(ONE)) == {"A": "1", "B": "1"}


def test_an_older_word_on_an_environment_changes_nothing() -> None:
    catalog = Catalog()
    catalog.put_environment(environment(revision=2, A="new"))
    catalog.put_environment(environment(revision=1, A="old"))

    assert catalog.values_for(reading(ONE)) == {"A": "new"}


def test_a_function_does_not_run_without_what_it_reads() -> None:
    catalog = Catalog()
    catalog.put_environment(CatalogEnvironment(ONE, "production", 1, None))

    with pytest.raises(Unavailable, match="echo reads the environment production, which cannot be opened") as broken:
        catalog.values_for(reading(ONE))
    with pytest.raises(Unavailable, match="not known yet") as unknown:
        catalog.values_for(reading(OTHER))

    assert (broken.value.reason, unknown.value.reason) == ("ENVIRONMENT_BROKEN", "STARTING")


def test_environments_that_a_snapshot_does_not_have_are_forgotten() -> None:
    catalog = Catalog()
    for identity in (ONE, OTHER):
        catalog.put_environment(environment(identity, A="x"))
    catalog.delete_environment(THIRD)

    catalog.complete([ONE], [OTHER])

    assert catalog.values_for(reading(OTHER)) == {"A": "x"}
    with pytest.raises(Unavailable):
        catalog.values_for(reading(ONE))


def test_an_environment_that_was_deleted_does_not_come_back_by_an_answer_that_is_late() -> None:
    catalog = Catalog()
    catalog.put_environment(environment(A="x"))

    catalog.delete_environment(ONE)
    catalog.put_environment(environment(A="x"))

    with pytest.raises(Unavailable):
        catalog.values_for(reading(ONE))


def test_an_environment_that_a_snapshot_was_too_old_for_comes_back_by_the_watch() -> None:
    catalog = Catalog()
    catalog.put_environment(environment(A="x"))

    catalog.complete([], [])
    catalog.put_environment(environment(A="x"))

    assert catalog.values_for(reading(ONE)) == {"A": "x"}


def test_a_value_is_in_no_text_that_is_made_of_an_environment() -> None:
    assert "hush" not in repr(environment(A="hush")) + str(environment(A="hush"))
