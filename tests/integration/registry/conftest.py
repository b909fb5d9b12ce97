"""A registry as a process, on a database that it set up itself."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kiln.registry.v1 import registry_pb2 as pb
from kiln.registry.v1 import registry_pb2_grpc

from libs.common.channel import open_channel
from libs.common.postgres import Database, open_database
from libs.common.queue import COMPILATION_RESULTS, Queue
from tests.support.postgres import TestPostgres
from tests.support.processes import running_service
from tests.support.waiting import until

# Impatient, so that tests need not be patient. Results are found by their notification long before the poll.
SETTINGS = {
    "KILN_REGISTRY_SWEEP_SECONDS": "0.2",
    "KILN_REGISTRY_LOST_AFTER_SECONDS": "1",
    "KILN_REGISTRY_POLL_SECONDS": "60",
}


@dataclass(frozen=True)
class Running:
    """A running registry.

    Attributes:
        address: `host:port`.
        registry: Its public RPCs.
        internal: Those for other services.
        database: Where it keeps everything, with connections of the test's own.
        url: Of the database.
    """

    address: str
    registry: Any
    internal: Any
    database: Database
    url: str

    async def create(self, name: str, source: str = "one", **fields: Any) -> pb.Function:
        """A new function from a source."""
        return await self.create_from(name=name, language="assemblyscript", source=source, **fields)

    async def create_from(self, **fields: Any) -> pb.Function:
        """A new function from these fields."""
        function: pb.Function = await self.registry.CreateFunction(pb.CreateFunctionRequest(**fields))
        return function

    async def get(self, reference: str) -> pb.Function:
        """A function as it is now."""
        function: pb.Function = await self.registry.GetFunction(pb.GetFunctionRequest(id=reference))
        return function

    async def update(self, reference: str, **fields: Any) -> pb.Function:
        """A changed function."""
        function: pb.Function = await self.registry.UpdateFunction(pb.UpdateFunctionRequest(id=reference, **fields))
        return function

    async def send(self, result: Any) -> None:
        """A result as the compiler sends it."""
        async with self.database.transaction() as transaction:
            await Queue(COMPILATION_RESULTS).send(transaction, result)

    async def until_status(self, reference: str, status: str) -> pb.Function:
        """Returns the function once its latest version has that status."""
        wanted = pb.Function.Status.Value(status)

        async def reached() -> bool:
            return (await self.get(reference)).status == wanted

        await until(reached)
        return await self.get(reference)

    async def jobs_of(self, function: pb.Function) -> Sequence[tuple[int, int]]:
        """Version and build of each job in the queue."""
        rows = await self.database.fetch(
            "SELECT message FROM pgmq.q_compilation_jobs WHERE message ->> 'function_id' = $1 ORDER BY msg_id", function.id
        )
        return [(row["message"]["version"], row["message"]["build"]) for row in rows]


@asynccontextmanager
async def running_registry(url: str, log: Path, **settings: str) -> AsyncIterator[Running]:
    """A registry on a database while the block runs."""
    with running_service("registry", log, KILN_DATABASE_URL=url, **{**SETTINGS, **settings}) as address:
        async with open_channel(address, None) as channel, open_database(url, name="test") as database:
            stubs = registry_pb2_grpc.RegistryStub(channel), registry_pb2_grpc.RegistryInternalStub(channel)
            yield Running(address, *stubs, database, url)


@pytest.fixture(scope="package")
async def running(postgres: TestPostgres, home: Path) -> AsyncIterator[Running]:
    """One registry for tests that name their functions differently."""
    async with running_registry(await postgres.new_database(), home / "registry.log") as started:
        yield started
