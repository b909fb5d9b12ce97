"""The history that the executor's tests stand on does what PostgreSQL does, whatever comes in whatever order."""

import random
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from msgspec.structs import replace

import services.executor
from libs.common.ids import uuid7
from libs.common.migrate import migrate
from libs.common.postgres import Database, open_database
from services.executor.execution import Execution, Status
from services.executor.repository import ExecutionRepository
from tests.support.postgres import TestPostgres
from tests.unit.executor.fakes import FakeHistory
from tests.unit.executor.test_recorder import completed, pending, running

STEPS = 60


@pytest.fixture(scope="module")
async def database(postgres: TestPostgres) -> AsyncIterator[Database]:
    async with open_database(await postgres.new_database(), name="test") as opened:
        await migrate(opened, "executor", Path(services.executor.__file__).with_name("migrations"))
        yield opened


class Both:
    """The same done to both histories."""

    def __init__(self, database: Database, chance: random.Random) -> None:
        self._chance = chance
        self.fake, self.real = FakeHistory(), ExecutionRepository(database, uuid7())
        self.executors = [uuid7(), uuid7()]
        self.functions = [uuid7() for _ in range(3)]
        self.ids: list[UUID] = []

    async def step(self) -> None:
        match self._chance.choices(("write", "withdraw", "sweep", "delete"), (20, 4, 2, 0.3))[0]:
            case "write":
                runs = [(self._chance.choice(self.executors), self._run()) for _ in range(self._chance.randint(1, 5))]
                batch = list({run.id: (executor, run) for executor, run in runs}.values())
                assert await self.fake.write(batch) == await self.real.write(batch)
            case "withdraw" if self.ids:
                calls = [(self._chance.choice(self.executors), self._chance.choice(self.ids))]
                await self.fake.withdraw(calls)
                await self.real.withdraw(calls)
            case "sweep":
                self.fake.sweep()
                await self.real.sweep(15)
            case "delete":
                function_id = self._chance.choice(self.functions)
                await self.fake.remember_deletion(function_id)
                await self.real.remember_deletion(function_id)

    def _run(self) -> Execution:
        if not self.ids or self._chance.random() < 0.4:
            self.ids.append(uuid7())
        identity = self._chance.choice(self.ids[-6:])
        run = replace(pending(identity=identity), function_id=self.functions[identity.int % 3])
        return self._chance.choice((run, running(run), completed(run, str(self._chance.random()).encode())))


def told(run: Execution | None) -> object:
    """What both must agree on: the moment of a sweep is each one's own."""
    return run and (run.id, run.status, run.output, run.error, run.started_at, run.status in (Status.COMPLETED, Status.FAILED))


@pytest.mark.parametrize("seed", range(8))
async def test_both_histories_end_up_with_the_same(database: Database, seed: int) -> None:
    both = Both(database, random.Random(seed))

    for _ in range(STEPS):
        await both.step()
        for identity in both.ids:
            assert told(await both.fake.find(identity)) == told(await both.real.find(identity))
