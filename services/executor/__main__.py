"""The executor: what it reads, opens and serves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from kiln.compiler.v1 import compiler_pb2_grpc
from kiln.executor.v1 import executor_pb2_grpc
from kiln.registry.v1 import registry_pb2_grpc

from libs.common.channel import open_channel
from libs.common.errors import Unavailable
from libs.common.ids import uuid7
from libs.common.migrate import migrate
from libs.common.postgres import open_database
from libs.common.server import Service, forever, run
from libs.common.settings import load
from services.executor.catalog import Catalog
from services.executor.clients import ArtifactClient, RegistryClient
from services.executor.executions import Executions
from services.executor.many import Streams
from services.executor.modules import Modules
from services.executor.repository import ExecutionRepository
from services.executor.sandbox.sandbox import Sandbox
from services.executor.servicer import ExecutorServicer
from services.executor.settings import Settings
from services.executor.watcher import Watcher


async def main() -> None:
    settings = load(Settings)
    async with Service("executor", settings) as service:
        database = await service.open(open_database(settings.database_url.get_secret_value(), name="executor", max_connections=20))
        await migrate(database, "executor", Path(__file__).with_name("migrations"))
        repository = ExecutionRepository(database, uuid7())
        await repository.create_partitions()
        await service.open(_lease(repository))

        registry = registry_pb2_grpc.RegistryInternalStub(await service.open(open_channel(settings.registry_address)))
        compiler = compiler_pb2_grpc.CompilerInternalStub(await service.open(open_channel(settings.compiler_address)))
        sandbox = await service.open(
            Sandbox(
                workers=settings.executor_workers,
                max_workers=settings.executor_max_workers,
                max_waiting=settings.executor_max_waiting,
                code_bytes=settings.executor_code_cache_mb << 20,
            )
        )
        catalog, modules = Catalog(), Modules(sandbox, ArtifactClient(compiler).fetch)
        executions = Executions(
            catalog,
            RegistryClient(registry),
            modules,
            sandbox,
            repository,
            max_input_bytes=settings.executor_max_input_bytes,
            most_of_many=min(settings.executor_batch_workers, settings.executor_max_workers),
        )
        await service.open(_closing(executions))
        watcher = Watcher(registry, catalog, modules, repository)

        lease = settings.executor_lease_seconds
        service.background(forever("heartbeat", repository.heartbeat, pause_seconds=lease / 5))
        service.background(forever("sweep", partial(repository.sweep, lease), pause_seconds=lease / 3))
        service.background(forever("partitions", repository.create_partitions, pause_seconds=3600))
        service.background(forever("purge", repository.purge_deleted, pause_seconds=settings.executor_purge_seconds))
        service.background(forever("watch", watcher.follow, pause_seconds=0.2))
        servicer = ExecutorServicer(executions, Streams(settings.executor_max_streams), max_batch_inputs=settings.executor_max_batch_inputs)
        await service.serve(
            partial(executor_pb2_grpc.add_ExecutorServicer_to_server, servicer),
            services=["kiln.executor.v1.Executor"],
        )


@asynccontextmanager
async def _lease(repository: ExecutionRepository) -> AsyncIterator[None]:
    await repository.heartbeat()
    yield
    # Where the database is away, the lease ends by itself.
    with suppress(Unavailable):
        await repository.retire()


@asynccontextmanager
async def _closing(executions: Executions) -> AsyncIterator[None]:
    yield
    await executions.close()


if __name__ == "__main__":
    run(main)
