"""Functions that are prebuilt modules, over the twin in memory and over PostgreSQL alike."""

import base64
from typing import Any

import pytest

from libs.common.errors import InvalidArgument
from libs.common.pages import page_of
from services.registry.functions import Function
from tests.support.registry import MAX_WASM_BYTES, World

MODULE = b"\0asm\xff\x00 one"
OTHER = b"\0asm\xff\x00 two"


async def prebuilt(world: World, wasm: bytes = MODULE) -> Function:
    """A new function that is a module."""
    return await world.create(source=None, language="wasm", wasm=wasm)


async def ready(world: World) -> Function:
    """The same, and it serves."""
    function = await prebuilt(world)
    assert await world.ready(function, 1)
    return await world.functions.get("greet")


async def jobs(world: World) -> list[tuple[int, str, bytes | str]]:
    """Version, language and code of each build in the queue, once it is certain that it carries one code alone."""
    found = []
    for job in await world.broker.jobs():
        (code,) = {"source", "wasm"} & job.keys()
        found.append((job["version"], job["language"], base64.b64decode(job["wasm"], validate=True) if code == "wasm" else job["source"]))
    return found


async def refusal(call: Any) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        await call
    return caught.value


async def test_a_module_waits_for_its_build_and_its_job_carries_it(world: World) -> None:
    function = await prebuilt(world)

    assert (function.language, function.source, function.status) == ("wasm", None, "PENDING")
    assert await jobs(world) == [(1, "wasm", MODULE)]


async def test_a_module_is_read_back_nowhere(world: World) -> None:
    await prebuilt(world)

    function, (listed,) = await world.functions.get("greet"), (await world.functions.list(page_of(0, ""))).items
    _, version = await world.functions.get_version("greet", 1)
    _, versions = await world.functions.list_versions("greet", page_of(0, ""))

    assert (function.source, listed.source, version.source, versions.items[0].source) == (None, None, None, None)


@pytest.mark.parametrize(
    ("field", "reason", "fields"),
    [
        ("wasm", "INVALID_ARGUMENT", {"language": "wasm", "source": None}),
        ("wasm", "INVALID_ARGUMENT", {"language": "wasm", "source": None, "wasm": b""}),
        ("wasm", "WASM_TOO_LARGE", {"language": "wasm", "source": None, "wasm": bytes(MAX_WASM_BYTES + 1)}),
        ("source", "INVALID_ARGUMENT", {"language": "wasm", "source": "one", "wasm": MODULE}),
        ("source", "INVALID_ARGUMENT", {"language": "wasm", "source": "one"}),
        ("wasm", "INVALID_ARGUMENT", {"language": "assemblyscript", "source": "one", "wasm": MODULE}),
        ("wasm", "INVALID_ARGUMENT", {"language": "assemblyscript", "source": None, "wasm": MODULE}),
        ("source", "INVALID_ARGUMENT", {"language": "assemblyscript", "source": None}),
    ],
)
async def test_what_a_language_does_not_take_is_named_and_leaves_nothing_behind(
    world: World, field: str, reason: str, fields: dict[str, Any]
) -> None:
    error = await refusal(world.create(**fields))

    assert ([one.field for one in error.violations], error.reason) == ([field], reason)
    assert (await world.functions.list(page_of(0, ""))).items == []
    assert await jobs(world) == []


async def test_the_largest_module_is_taken(world: World) -> None:
    await prebuilt(world, bytes(MAX_WASM_BYTES))

    assert await jobs(world) == [(1, "wasm", bytes(MAX_WASM_BYTES))]


async def test_another_module_makes_a_version_while_the_old_one_serves(world: World) -> None:
    after = await world.update(await ready(world), wasm=OTHER)

    assert (after.latest_version, after.status, after.live_version) == (2, "PENDING", 1)
    assert (await jobs(world))[1:] == [(2, "wasm", OTHER)]


@pytest.mark.parametrize("fields", [{"wasm": MODULE}, {"language": "wasm"}, {"language": "wasm", "wasm": MODULE}, {"description": "new"}])
async def test_a_module_equal_to_a_ready_latest_makes_none(world: World, fields: dict[str, Any]) -> None:
    after = await world.update(await ready(world), **fields)

    assert (after.latest_version, after.status) == (1, "READY")
    assert len(await jobs(world)) == 1


async def test_a_module_equal_to_one_that_failed_is_built_anew(world: World) -> None:
    function = await prebuilt(world)
    await world.failed(function, 1)

    after = await world.update(function, language="wasm")

    assert (after.latest_version, after.status) == (2, "PENDING")
    assert (await jobs(world))[1:] == [(2, "wasm", MODULE)]


async def test_a_function_becomes_a_module_and_a_text_again(world: World) -> None:
    text = await world.created_ready(source="one")

    module = await world.update(text, language="wasm", wasm=MODULE)
    await world.ready(module, 2)
    again = await world.update(module, language="assemblyscript", source="one")
    await world.ready(again, 3)

    assert (module.language, module.source, again.language, again.source) == ("wasm", None, "assemblyscript", "one")
    assert await jobs(world) == [(1, "assemblyscript", "one"), (2, "wasm", MODULE), (3, "assemblyscript", "one")]
    assert [(await world.functions.roll_back("greet", number)).live_version for number in (2, 1, 3)] == [2, 1, 3]


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("source", {"source": "one"}),
        ("source", {"language": "assemblyscript"}),
        ("source", {"source": "one", "wasm": OTHER}),
        ("wasm", {"language": "assemblyscript", "wasm": OTHER}),
        ("wasm", {"wasm": b""}),
    ],
)
async def test_a_change_of_a_module_that_does_not_fit_is_named_and_changes_nothing(
    world: World, field: str, fields: dict[str, Any]
) -> None:
    before = await ready(world)

    error = await refusal(world.update(before, **fields, description="new"))

    assert [one.field for one in error.violations] == [field]
    assert await world.functions.get("greet") == before
    assert len(await jobs(world)) == 1


@pytest.mark.parametrize("fields", [{"wasm": MODULE}, {"language": "wasm"}])
async def test_a_text_does_not_become_half_a_module(world: World, fields: dict[str, Any]) -> None:
    before = await world.created_ready()

    error = await refusal(world.update(before, **fields))

    assert [one.field for one in error.violations] == ["wasm"]
    assert await world.functions.get("greet") == before


async def test_a_module_that_failed_is_built_again_from_the_same_bytes(world: World) -> None:
    function = await prebuilt(world)
    await world.broker.take_job()
    await world.failed(function, 1)

    await world.functions.build_again("greet", 1)

    assert (await jobs(world))[1:] == [(1, "wasm", MODULE)]
