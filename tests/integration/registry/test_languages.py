"""Languages from a compiler to a caller's refusal: by the real queue, and at the registry's own port."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from kiln.registry.v1 import registry_pb2 as pb

from libs.common.errors import FailedPrecondition
from libs.common.languages import LANGUAGES
from libs.common.queue import COMPILATION_RESULTS, Queue
from services.compiler.announcer import Announcer
from services.compiler.languages import Bounds, Compiled, Failed, Toolchain
from services.compiler.languages.prepared import Prepared
from services.registry.repository import FunctionRepository
from services.registry.results import Results
from tests.integration.registry.conftest import Running, running_registry
from tests.support.postgres import TestPostgres
from tests.support.processes import running_service
from tests.support.registry import World, failed, languages, postgres_world
from tests.support.waiting import until

RESULTS = Queue(COMPILATION_RESULTS)


@dataclass
class Installable:
    """A language that a test installs and removes."""

    available: bool
    id: str = "assemblyscript"
    name: str = "AssemblyScript"
    starter: str = ""

    def toolchain(self) -> Toolchain:
        return Toolchain(self.available, "1", "" if self.available else "run `make toolchains`", "")

    def set_up(self) -> Sequence[Prepared]:
        return ()

    def prepare(self, bounds: Bounds) -> None:
        """Nothing to do."""

    async def compile(self, source: bytes, bounds: Bounds) -> Compiled | Failed:
        raise NotImplementedError


class Registry(World):
    """The domain on PostgreSQL."""

    repository: FunctionRepository

    async def waiting(self) -> int:
        """How many messages wait for it."""
        return await RESULTS.length(self.repository.database)

    async def hear(self, announcer: Announcer) -> None:
        """A compiler looks at its toolchains, and the registry at its messages."""
        await announcer.announce_changes()
        await Results(self.repository).apply_waiting()


@pytest.fixture
async def registry(database_url: str) -> AsyncIterator[Registry]:
    """An installation without functions."""
    async with postgres_world(database_url) as world:
        yield Registry(world.repository, world.broker)


async def test_a_compiler_announces_its_languages_once_and_again_when_they_change(registry: Registry) -> None:
    language = Installable(available=False)
    announcer = Announcer(registry.repository.database, {language.id: language})

    sent = []
    for available in (False, False, True, True, False):
        language.available = available
        await announcer.announce_changes()
        sent.append(await registry.waiting())

    assert sent == [1, 1, 2, 2, 3]


async def test_what_a_compiler_announces_decides_what_the_registry_takes(registry: Registry) -> None:
    language = Installable(available=False)
    announcer = Announcer(registry.repository.database, {language.id: language})

    await registry.hear(announcer)
    with pytest.raises(FailedPrecondition) as caught:
        await registry.create()
    language.available = True
    await registry.hear(announcer)
    created = await registry.create()

    assert caught.value.message == "AssemblyScript is not installed here: run `make toolchains`"
    assert (created.status, await registry.waiting()) == ("PENDING", 0)


async def test_a_compiler_announces_its_languages_before_it_serves(registry: Registry, database_url: str, home: Path) -> None:
    with running_service("compiler", home / "announcing-compiler.log", KILN_DATABASE_URL=database_url):
        messages = await RESULTS.read(registry.repository.database, visibility_seconds=60, most=2)

    (announced,) = (message.body for message in messages)
    found = {one["id"]: (one["available"], one["install_hint"]) for one in announced["languages"]}
    assert (announced["type"], set(found)) == ("LANGUAGES", set(LANGUAGES))
    assert found["assemblyscript"] == (True, "")
    assert all(is_available != bool(hint) for is_available, hint in found.values())


async def test_a_running_registry_refuses_at_once_what_cannot_be_built(postgres: TestPostgres, home: Path) -> None:
    async with running_registry(await postgres.new_database(), home / "languages-registry.log") as running:
        function = await running.create("before")
        await running.send(failed(UUID(function.id), 1))
        await running.until_status("before", "FAILED")

        await running.send(languages(assemblyscript=False))
        await until(partial(has_row, running, "SELECT EXISTS (SELECT FROM registry.languages WHERE NOT available)"))
        calls: list[Any] = [
            running.create("after"),
            running.update("before", source="two"),
            running.registry.BuildVersion(pb.BuildVersionRequest(id="before", version=1)),
        ]

        for call in calls:
            with pytest.raises(FailedPrecondition) as caught:
                await call
            assert (caught.value.reason, "make toolchains" in caught.value.message) == ("LANGUAGE_UNAVAILABLE", True)


async def has_row(running: Running, query: str) -> bool:
    return bool(await running.database.fetchval(query))
