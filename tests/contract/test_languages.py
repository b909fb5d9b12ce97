"""Languages that are not installed, over the twin in memory and over PostgreSQL alike."""

from typing import Any

import pytest

from libs.common.errors import FailedPrecondition
from libs.common.pages import page_of
from tests.support.registry import World, languages

MISSING = {"assemblyscript": False, "wasm": True}


async def refusal(call: Any) -> FailedPrecondition:
    with pytest.raises(FailedPrecondition) as caught:
        await call
    return caught.value


async def test_a_new_function_in_a_missing_language_is_refused_with_a_hint_and_leaves_nothing_behind(world: World) -> None:
    await world.deliver(languages(**MISSING))

    error = await refusal(world.create())

    assert (error.reason, error.metadata) == ("LANGUAGE_UNAVAILABLE", {"language": "assemblyscript"})
    assert error.message == "Assemblyscript is not installed here: run `make toolchains`"
    assert (await world.functions.list(page_of(0, ""))).items == []
    assert await world.broker.jobs() == []


async def test_a_language_of_which_nobody_spoke_is_taken_and_waits(world: World) -> None:
    await world.deliver(languages(wasm=False))

    assert (await world.create()).status == "PENDING"


@pytest.mark.parametrize("fields", [{"source": "two"}, {"source": "two", "description": "new"}])
async def test_an_edit_in_a_missing_language_is_refused_and_changes_nothing(world: World, fields: dict[str, Any]) -> None:
    await world.created_ready()
    before = await world.update(await world.functions.get("greet"), source="waits")
    await world.deliver(languages(**MISSING))

    error = await refusal(world.update(before, **fields))

    assert error.reason == "LANGUAGE_UNAVAILABLE"
    assert await world.functions.get("greet") == before
    assert [job["source"] for job in await world.broker.jobs()][-1] == "waits"


async def test_an_edit_from_a_missing_language_to_one_that_is_there_is_taken(world: World) -> None:
    function = await world.created_ready()
    await world.deliver(languages(**MISSING))

    assert (await world.update(function, language="wasm", wasm=b"\0asm")).latest_version == 2


async def test_what_makes_no_build_needs_no_toolchain(world: World) -> None:
    function = await world.created_ready(source="one")
    await world.deliver(languages(**MISSING))

    after = await world.update(function, description="new", source="one")

    assert (after.description, after.latest_version) == ("new", 1)
    assert (await world.functions.roll_back("greet", 1)).live_version == 1


async def test_a_failed_version_in_a_missing_language_is_not_built_again(world: World) -> None:
    function = await world.create()
    await world.failed(function, 1)
    await world.deliver(languages(**MISSING))

    error = await refusal(world.functions.build_again("greet", 1))

    version = (await world.functions.get_version("greet", 1))[1]
    assert error.reason == "LANGUAGE_UNAVAILABLE"
    assert (version.status, version.build) == ("FAILED", 1)


async def test_a_language_that_comes_later_is_taken(world: World) -> None:
    assert await world.deliver(languages(**MISSING), 1)
    await refusal(world.create())

    assert await world.deliver(languages(assemblyscript=True), 2)

    assert (await world.create()).status == "PENDING"


@pytest.mark.parametrize("late", [1, 2])
async def test_an_announcement_that_is_late_or_a_repetition_changes_nothing(world: World, late: int) -> None:
    await world.deliver(languages(assemblyscript=True), 2)

    assert not await world.deliver(languages(assemblyscript=False), late)

    assert (await world.create()).status == "PENDING"


async def test_an_announcement_tells_nothing_of_languages_that_it_does_not_name(world: World) -> None:
    await world.deliver(languages(**MISSING), 1)

    await world.deliver(languages(wasm=True), 2)

    assert (await refusal(world.create())).reason == "LANGUAGE_UNAVAILABLE"


async def test_builds_that_wait_already_are_left_to_wait(world: World) -> None:
    function = await world.create()

    await world.deliver(languages(**MISSING))

    assert len(await world.broker.jobs()) == 1
    assert await world.ready(function, 1)
