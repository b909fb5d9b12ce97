"""What may happen to functions and versions, over the twin in memory and over PostgreSQL alike."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from libs.common.errors import Aborted, AlreadyExists, FailedPrecondition, InvalidArgument, KilnError, NotFound
from libs.common.ids import uuid7
from libs.common.pages import Page, page_of
from services.registry.functions import Function, Version
from services.registry.limits import Limits, LimitsPatch
from tests.support.registry import DIAGNOSTIC, MAX_SOURCE_BYTES, POLICY, World, digest, patch, ready
from tests.support.waiting import until


def page(size: int = 0, token: str = "") -> Page:
    return page_of(size, token, "functions")


async def version(world: World, function: Function, number: int) -> Version:
    return (await world.functions.get_version(str(function.id), number))[1]


async def statuses(world: World, function: Function) -> dict[int, str]:
    _, found = await world.functions.list_versions(str(function.id), page())
    return {one.version: one.status for one in found.items}


async def live(world: World, function: Function) -> int | None:
    return (await world.functions.get(str(function.id))).live_version


async def refusal(kind: type[KilnError], call: Any) -> KilnError:
    with pytest.raises(kind) as caught:
        await call
    assert type(caught.value) is kind
    return caught.value


def bad_fields(error: KilnError) -> list[str]:
    assert isinstance(error, InvalidArgument)
    return [one.field for one in error.violations]


# Creating


async def test_a_new_function_has_a_version_1_that_waits_and_nothing_that_serves(world: World) -> None:
    created = await world.create("greet", "one", description="says hello", limits=LimitsPatch(timeout_ms=100))

    assert (created.name, created.description, created.source, created.language) == ("greet", "says hello", "one", "assemblyscript")
    assert (created.latest_version, created.status, created.live_version) == (1, "PENDING", None)
    assert created.limits == Limits(100, 64, 1 << 20, 64 << 10, 256)
    assert (created.id.version, created.compile_error, list(created.diagnostics)) == (7, "", [])
    assert abs(created.created_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert await world.functions.get("greet") == created


async def test_its_job_is_in_the_queue_once_and_carries_the_source(world: World) -> None:
    created = await world.create("greet", "one")

    assert await world.broker.jobs() == [
        {"function_id": str(created.id), "version": 1, "build": 1, "language": "assemblyscript", "source": "one"}
    ]


async def test_a_name_is_taken_until_its_function_is_deleted(world: World) -> None:
    first = await world.create("greet", "one")

    error = await refusal(AlreadyExists, world.create("greet", "two"))
    assert error.reason == "NAME_TAKEN"
    assert len(await world.broker.jobs()) == 1
    await world.functions.delete("greet")
    second = await world.create("greet", "two")

    assert second.id != first.id
    assert (await world.functions.get("greet")).source == "two"


async def test_of_many_who_create_one_name_at_once_one_succeeds(world: World) -> None:
    made = await asyncio.gather(*(world.create("greet", str(number)) for number in range(8)), return_exceptions=True)

    assert sorted(type(one).__name__ for one in made) == ["AlreadyExists"] * 7 + ["Function"]
    assert len((await world.functions.list(page())).items) == len(await world.broker.jobs()) == 1


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("name", {"name": "Greet"}),
        ("description", {"description": "x" * 1001}),
        ("description", {"description": "a\0b"}),
        ("language", {"language": "cobol"}),
        ("source", {"source": ""}),
        ("source", {"source": " \n\t"}),
        ("source", {"source": "a\0b"}),
        ("source", {"source": "é" * (MAX_SOURCE_BYTES // 2) + "x"}),
        ("limits.memory_mb", {"limits": LimitsPatch(memory_mb=513)}),
    ],
)
async def test_a_bad_field_is_named_and_leaves_nothing_behind(world: World, field: str, fields: dict[str, Any]) -> None:
    error = await refusal(InvalidArgument, world.create(**fields))

    assert bad_fields(error) == [field]
    assert (await world.functions.list(page())).items == []
    assert await world.broker.jobs() == []


async def test_the_largest_source_and_any_text_come_back_as_they_were_sent(world: World) -> None:
    source = "é" * (MAX_SOURCE_BYTES // 2)
    odd = "\ufeff\r\n\t\x01\x7f\u2028'\"\\u0000😀$1"

    await world.create("large", source)
    await world.create("odd", odd, description=odd)

    assert (await world.functions.get("large")).source == source
    found = await world.functions.get("odd")
    assert (found.source, found.description) == (odd, odd)
    assert [job["source"] for job in await world.broker.jobs()] == [source, odd]


# Reading


async def test_a_function_is_found_by_id_in_either_case_and_by_name(world: World) -> None:
    created = await world.create("greet")

    for reference in ("greet", str(created.id), str(created.id).upper()):
        assert (await world.functions.get(reference)).id == created.id


@pytest.mark.parametrize(
    "reference", ["nobody", "01890000-0000-7000-8000-000000000000", "", "Greet", "greet ", "a\0", "%", "x" * 64, "gr\ud800"]
)
async def test_whatever_means_no_function_is_not_found(world: World, reference: str) -> None:
    await world.create("greet")

    calls = (
        world.functions.get(reference),
        world.functions.update(reference, patch(description="new")),
        world.functions.delete(reference),
        world.functions.roll_back(reference, 1),
        world.functions.build_again(reference, 1),
        world.functions.get_version(reference, 1),
        world.functions.list_versions(reference, page()),
    )

    for call in calls:
        assert (await refusal(NotFound, call)).reason == "FUNCTION_NOT_FOUND"


async def test_functions_are_listed_newest_first_without_their_sources(world: World) -> None:
    for name in ("one", "two", "three"):
        function = await world.create(name)
        await world.failed(function, 1)

    found = await world.functions.list(page())

    assert [one.name for one in found.items] == ["three", "two", "one"]
    assert {(one.source, one.status, tuple(one.diagnostics)) for one in found.items} == {(None, "FAILED", ())}
    assert found.next_page_token == ""


async def test_pages_give_every_function_once_while_others_come_and_go(world: World) -> None:
    for number in range(7):
        await world.create(f"old-{number}")
    first = await world.functions.list(page(3))

    await world.create("new")
    await world.functions.delete("old-4")
    await world.functions.delete("old-2")
    second = await world.functions.list(page(3, first.next_page_token))
    third = await world.functions.list(page(3, second.next_page_token)) if second.next_page_token else None

    assert [one.name for one in first.items] == ["old-6", "old-5", "old-4"]
    assert [one.name for one in second.items] == ["old-3", "old-1", "old-0"]
    assert third is None


async def test_versions_are_listed_highest_first_in_pages(world: World) -> None:
    function = await world.create()
    for number in range(2, 6):
        function = await world.update(function, source=str(number))

    _, first = await world.functions.list_versions("greet", page(2))
    _, second = await world.functions.list_versions("greet", page(2, first.next_page_token))
    _, third = await world.functions.list_versions("greet", page(2, second.next_page_token))

    assert [[one.version for one in part.items] for part in (first, second, third)] == [[5, 4], [3, 2], [1]]
    assert {one.source for one in first.items} == {None}
    assert third.next_page_token == ""


@pytest.mark.parametrize("key", ["x", "", "1.5", "-1", "0", "2147483648", "9" * 30, "9" * 5000])
async def test_a_made_up_page_token_is_refused(world: World, key: str) -> None:
    await world.create()
    token = page().token(key)

    assert bad_fields(await refusal(InvalidArgument, world.functions.list(page(1, token)))) == ["page_token"]
    assert bad_fields(await refusal(InvalidArgument, world.functions.list_versions("greet", page(1, token)))) == ["page_token"]


async def test_a_version_that_is_not_there_is_not_found_and_0_is_no_number(world: World) -> None:
    function = await world.create()

    assert (await refusal(NotFound, world.functions.get_version(str(function.id), 2))).reason == "VERSION_NOT_FOUND"
    assert bad_fields(await refusal(InvalidArgument, world.functions.get_version(str(function.id), 0))) == ["version"]


# Updating


async def test_absent_fields_stay(world: World) -> None:
    before = await world.create(description="old", limits=LimitsPatch(timeout_ms=100))

    after = await world.update(before)

    kept = ("name", "description", "limits", "language", "source", "latest_version", "created_at")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]


async def test_description_and_limits_change_and_make_no_version(world: World) -> None:
    before = await world.created_ready()

    after = await world.update(before, description="new", limits=LimitsPatch(memory_mb=128))

    assert (after.description, after.limits.memory_mb, after.limits.timeout_ms) == ("new", 128, POLICY.defaults.timeout_ms)
    assert (after.latest_version, after.status, after.live_version) == (1, "READY", 1)
    assert len(await world.broker.jobs()) == 1
    assert (await world.update(after, description="")).description == ""


async def test_a_new_source_makes_a_version_while_the_old_one_serves(world: World) -> None:
    before = await world.created_ready()

    after = await world.update(before, source="two")

    assert (after.latest_version, after.status, after.source, after.live_version) == (2, "PENDING", "two", 1)
    assert (await version(world, after, 1)).source == "one"
    assert [(job["version"], job["build"], job["source"]) for job in await world.broker.jobs()][1:] == [(2, 1, "two")]


async def test_a_source_equal_to_a_ready_latest_makes_none(world: World) -> None:
    before = await world.created_ready(source="one")

    after = await world.update(before, source="one", language="assemblyscript")

    assert (after.latest_version, after.status) == (1, "READY")
    assert len(await world.broker.jobs()) == 1


async def test_a_source_equal_to_one_that_failed_is_built_anew(world: World) -> None:
    function = await world.create(source="one")
    await world.failed(function, 1)

    after = await world.update(function, source="one")

    assert (after.latest_version, after.status, after.compile_error) == (2, "PENDING", "")


async def test_a_source_equal_to_an_older_version_makes_one(world: World) -> None:
    function = await world.updated_ready(await world.created_ready(source="one"), "two")

    assert (await world.update(function, source="one")).latest_version == 3


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("description", {"description": "x" * 1001}),
        ("language", {"language": "cobol"}),
        ("source", {"source": ""}),
        ("limits.timeout_ms", {"limits": LimitsPatch(timeout_ms=0), "source": "two", "description": "new"}),
    ],
)
async def test_a_bad_update_is_named_and_changes_nothing(world: World, field: str, fields: dict[str, Any]) -> None:
    before = await world.create()

    error = await refusal(InvalidArgument, world.update(before, **fields))

    assert bad_fields(error) == [field]
    assert await world.functions.get("greet") == before
    assert len(await world.broker.jobs()) == 1


async def test_an_update_for_an_etag_is_refused_once_the_function_has_changed(world: World) -> None:
    read = await world.create()
    changed = await world.update(read, description="by another", etag=read.etag)

    error = await refusal(Aborted, world.update(read, source="two", etag=read.etag))

    assert error.reason == "ETAG_MISMATCH"
    assert await world.functions.get("greet") == changed
    assert (await world.update(read, source="two", etag="*")).latest_version == 2


async def test_an_etag_changes_with_updates_and_rollbacks_and_not_when_a_build_ends(world: World) -> None:
    created = await world.create()
    await world.started(created, 1)
    await world.ready(created, 1)

    built = await world.functions.get("greet")
    rolled = await world.functions.roll_back("greet", 1)

    assert built.etag == created.etag
    assert rolled.etag != built.etag
    assert (await world.update(rolled, etag=rolled.etag)).etag != rolled.etag


async def test_an_etag_of_another_function_is_no_etag_of_this_one(world: World) -> None:
    one, other = await world.create("one"), await world.create("other")

    await refusal(Aborted, world.update(one, description="new", etag=other.etag))


async def test_racing_updates_make_a_version_each_and_with_an_etag_one_wins(world: World) -> None:
    function = await world.create()

    await asyncio.gather(*(world.update(function, source=f"free {number}") for number in range(4)))
    read = await world.functions.get("greet")
    raced = await asyncio.gather(
        *(world.update(read, source=f"careful {number}", etag=read.etag) for number in range(4)), return_exceptions=True
    )

    assert read.latest_version == 5
    assert sorted(type(one).__name__ for one in raced) == ["Aborted"] * 3 + ["Function"]
    assert sorted(await statuses(world, function)) == [1, 2, 3, 4, 5, 6]


# Builds that a newer version makes superfluous


async def test_a_build_that_nobody_began_is_superseded_by_a_newer_version(world: World) -> None:
    function = await world.create()

    await world.update(function, source="two")

    old = await version(world, function, 1)
    assert (old.status, old.failure_reason) == ("FAILED", "SUPERSEDED")
    assert "newer version" in old.compile_error
    assert [job["version"] for job in await world.broker.jobs()] == [2]


async def test_a_build_that_a_compiler_has_taken_is_left_to_end(world: World) -> None:
    function = await world.create()
    assert await world.broker.take_job()

    await world.update(function, source="two")

    assert await statuses(world, function) == {2: "PENDING", 1: "PENDING"}
    assert [job["version"] for job in await world.broker.jobs()] == [1, 2]
    assert await world.ready(function, 1)
    assert await live(world, function) == 1


async def test_a_superseded_build_can_be_built_again_and_does_not_supersede_in_turn(world: World) -> None:
    function = await world.create()
    await world.update(function, source="two")

    again = await world.functions.build_again("greet", 1)

    assert (again.status, again.build, again.failure_reason, again.compile_error) == ("PENDING", 2, None, "")
    assert await statuses(world, function) == {2: "PENDING", 1: "PENDING"}


async def test_only_the_function_that_changed_loses_its_waiting_builds(world: World) -> None:
    function, other = await world.create("one"), await world.create("other")

    await world.update(function, source="two")

    assert await statuses(world, other) == {1: "PENDING"}


# Results


async def test_a_build_that_begins_makes_its_version_compiling(world: World) -> None:
    function = await world.create()

    assert await world.started(function, 1)

    found = await version(world, function, 1)
    assert (found.status, found.queue_ms, found.completed_at) == ("COMPILING", 3, None)
    assert found.started_at is not None
    assert await live(world, function) is None


async def test_a_build_that_works_serves_at_once(world: World) -> None:
    function = await world.create()
    await world.started(function, 1)

    assert await world.ready(function, 1)

    found, built = await world.functions.get("greet"), await version(world, function, 1)
    assert (found.status, found.live_version) == ("READY", 1)
    assert (built.artifact_digest, built.artifact_bytes, built.abi, built.build_ms) == (digest(1), 8, "assemblyscript", 5)
    assert built.completed_at is not None


async def test_a_build_that_fails_tells_why_and_the_old_version_serves_on(world: World) -> None:
    function = await world.update(await world.created_ready(), source="two")

    assert await world.failed(function, 2)

    found, refused = await world.functions.get("greet"), await version(world, function, 2)
    assert (found.status, found.live_version, found.compile_error) == ("FAILED", 1, "1:2: error TS2322: no")
    assert [dict(one) for one in found.diagnostics] == [DIAGNOSTIC]
    assert (refused.failure_reason, refused.artifact_digest, refused.build_ms) == ("COMPILE_ERROR", None, 5)


async def test_an_end_that_comes_before_its_beginning_counts(world: World) -> None:
    function = await world.create()

    assert await world.ready(function, 1)
    assert not await world.started(function, 1)

    found = await version(world, function, 1)
    assert found.status == "READY"
    assert found.started_at is not None


@pytest.mark.parametrize("first", ["ready", "failed"])
async def test_a_second_result_of_a_build_changes_nothing(world: World, first: str) -> None:
    function = await world.create()
    assert await getattr(world, first)(function, 1)
    before = await world.functions.get("greet"), await version(world, function, 1)

    for result in (world.started, world.ready, world.failed):
        assert not await result(function, 1)

    assert (await world.functions.get("greet"), await version(world, function, 1)) == before


async def test_a_result_of_an_older_build_is_too_late(world: World) -> None:
    function = await world.create()
    await world.failed(function, 1)
    await world.functions.build_again("greet", 1)

    for result in (world.started, world.ready, world.failed):
        assert not await result(function, 1, 1)

    assert (await version(world, function, 1)).status == "PENDING"
    assert await world.ready(function, 1, 2)
    assert await live(world, function) == 1


async def test_a_result_of_a_build_or_version_that_never_was_changes_nothing(world: World) -> None:
    function = await world.create()

    assert not await world.ready(function, 1, 2)
    assert not await world.ready(function, 2, 1)
    assert not await world.deliver(ready(uuid7(), 1))

    assert await statuses(world, function) == {1: "PENDING"}


async def test_a_result_for_a_deleted_function_brings_nothing_back(world: World) -> None:
    function = await world.create()
    await world.broker.take_job()
    await world.functions.delete("greet")

    await world.ready(function, 1)

    await refusal(NotFound, world.functions.get("greet"))
    await refusal(NotFound, world.functions.get(str(function.id)))
    assert (await world.functions.list(page())).items == []


# The live pointer


async def test_an_older_version_that_is_ready_late_does_not_replace_a_newer_one(world: World) -> None:
    function = await world.create()
    await world.broker.take_job()
    await world.update(function, source="two")
    await world.ready(function, 2)

    assert await world.ready(function, 1)

    assert await live(world, function) == 2
    assert await statuses(world, function) == {2: "READY", 1: "READY"}


async def test_a_rollback_points_live_at_any_ready_version_and_compiles_nothing(world: World) -> None:
    function = await world.updated_ready(await world.created_ready(), "two")
    jobs = len(await world.broker.jobs())

    rolled = await world.functions.roll_back("greet", 1)

    assert (rolled.live_version, rolled.latest_version, rolled.status) == (1, 2, "READY")
    assert len(await world.broker.jobs()) == jobs
    assert await statuses(world, function) == {2: "READY", 1: "READY"}


async def test_after_a_rollback_only_a_version_made_later_takes_over(world: World) -> None:
    function = await world.updated_ready(await world.created_ready(), "two")
    function = await world.update(function, source="three")
    await world.functions.roll_back("greet", 1)

    await world.ready(function, 3)
    kept = await live(world, function)
    await world.updated_ready(function, "four")

    assert kept == 1
    assert await live(world, function) == 4


async def test_a_rollback_can_be_taken_back(world: World) -> None:
    function = await world.updated_ready(await world.created_ready(), "two")
    await world.functions.roll_back("greet", 1)

    assert (await world.functions.roll_back(str(function.id), 2)).live_version == 2


async def test_a_rollback_to_what_is_not_ready_is_refused_and_changes_nothing(world: World) -> None:
    function = await world.update(await world.created_ready(), source="two")
    before = await world.functions.get("greet")

    pending = await refusal(FailedPrecondition, world.functions.roll_back("greet", 2))
    absent = await refusal(NotFound, world.functions.roll_back("greet", 3))
    bad = await refusal(InvalidArgument, world.functions.roll_back("greet", 0))

    assert (pending.reason, absent.reason, bad_fields(bad)) == ("VERSION_NOT_READY", "VERSION_NOT_FOUND", ["version"])
    assert await world.functions.get(str(function.id)) == before


# Building again


async def test_a_failed_version_can_be_built_again_from_the_same_source(world: World) -> None:
    function = await world.create(source="one")
    await world.broker.take_job()
    await world.failed(function, 1)

    again = await world.functions.build_again("greet", 1)

    assert (again.status, again.build, again.source, again.failure_reason) == ("PENDING", 2, "one", None)
    assert (again.compile_error, list(again.diagnostics), again.started_at, again.completed_at) == ("", [], None, None)
    assert (await world.broker.jobs())[-1] == {
        "function_id": str(function.id),
        "version": 1,
        "build": 2,
        "language": "assemblyscript",
        "source": "one",
    }


@pytest.mark.parametrize("status", ["PENDING", "COMPILING", "READY"])
async def test_what_has_not_failed_is_not_built_again(world: World, status: str) -> None:
    function = await world.create()
    if status != "PENDING":
        await {"COMPILING": world.started, "READY": world.ready}[status](function, 1)
    jobs = await world.broker.jobs()

    error = await refusal(FailedPrecondition, world.functions.build_again("greet", 1))

    assert error.reason == "VERSION_NOT_FAILED"
    assert status in error.message
    assert await world.broker.jobs() == jobs


async def test_an_older_version_built_again_does_not_replace_a_newer_one(world: World) -> None:
    function = await world.create()
    await world.broker.take_job()
    await world.failed(function, 1)
    await world.updated_ready(function, "two")

    await world.functions.build_again("greet", 1)
    assert await world.ready(function, 1, 2)

    assert await live(world, function) == 2


# Deleting


async def test_a_deleted_function_is_not_found_and_its_waiting_job_is_gone(world: World) -> None:
    function = await world.create()

    identity, revision = await world.functions.delete("greet")

    assert (identity, revision > function.revision) == (function.id, True)
    assert await world.broker.jobs() == []
    for reference in ("greet", str(function.id)):
        await refusal(NotFound, world.functions.get(reference))
        await refusal(NotFound, world.functions.list_versions(reference, page()))
        await refusal(NotFound, world.functions.delete(reference))


async def test_a_name_used_again_begins_anew(world: World) -> None:
    await world.updated_ready(await world.created_ready(), "two")
    await world.functions.delete("greet")

    created = await world.create("greet", "three")

    assert (created.latest_version, created.live_version, created.edition) == (1, None, 1)
    assert await statuses(world, created) == {1: "PENDING"}


# Revisions and announcements


async def test_every_change_raises_the_revision_and_is_announced(world: World) -> None:
    async def announced(change: Any) -> Any:
        before = len(world.broker.announced())
        changed = await change
        await until(lambda: len(world.broker.announced()) > before, seconds=5)
        return changed

    function = await announced(world.create())
    revisions = [function.revision]
    for change in (
        world.started(function, 1),
        world.failed(function, 1),
        world.functions.build_again("greet", 1),
        world.ready(function, 1, 2),
        world.update(function, description="new"),
        world.update(function, source="two"),
        world.functions.roll_back("greet", 1),
    ):
        await announced(change)
        revisions.append((await world.functions.get("greet")).revision)
    _, deleted = await announced(world.functions.delete("greet"))

    assert [*revisions, deleted] == sorted({*revisions, deleted})
    assert set(world.broker.announced()) == {function.id}


async def test_revisions_rise_across_functions(world: World) -> None:
    one, other = await world.create("one"), await world.create("other")

    changed = await world.update(one, description="new")

    assert one.revision < other.revision < changed.revision


async def test_a_result_that_is_too_late_is_not_announced(world: World) -> None:
    function = await world.created_ready()
    before = await world.functions.get("greet")

    await world.ready(function, 1)
    await world.update(function, description="new")
    await until(lambda: len(world.broker.announced()) >= 3, seconds=5)

    assert (await world.functions.get("greet")).revision == before.revision + 1
    assert len(world.broker.announced()) == 3
