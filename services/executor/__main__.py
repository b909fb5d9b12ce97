"""The executor: what it reads, opens and serves."""

from functools import partial
from pathlib import Path
from typing import Final

from kiln.compiler.v1 import compiler_pb2_grpc
from kiln.executor.v1 import executor_pb2_grpc
from kiln.registry.v1 import registry_pb2_grpc

from libs.common.access.principal import caller
from libs.common.channel import open_channel
from libs.common.ids import uuid7
from libs.common.migrate import migrate
from libs.common.postgres import open_database
from libs.common.server import Service, forever, run
from libs.common.settings import load
from services.executor.catalog import Catalog
from services.executor.clients import ArtifactClient, RegistryClient
from services.executor.executions import Executions
from services.executor.lease import HEARTBEATS, open_lease
from services.executor.many import Streams
from services.executor.modules import Modules
from services.executor.recorder import open_recorder
from services.executor.repository import ExecutionRepository
from services.executor.sandbox.engine import fingerprint, new_compiler
from services.executor.sandbox.native_store import NativeStore, open_native_store
from services.executor.sandbox.sandbox import Sandbox
from services.executor.servicer import ExecutorServicer
from services.executor.settings import Settings
from services.executor.watcher import Watcher

# Runs of batches at once while they are brief: enough for each worker to have its next ones with it.
MOST_OF_BRIEF: Final = 64
# How long the start may be put off by native code that is there already: 128 MiB take less on an idle disk.
RESTORE_SECONDS: Final = 1.0
# What was called since, and is not noted yet, is not known to the next start when this process is killed.
USES_SECONDS: Final = 15.0


async def main() -> None:
    settings = load(Settings)
    async with Service("executor", settings) as service:
        database = await service.open(open_database(settings.database_url.get_secret_value(), name="executor", max_connections=20))
        await migrate(database, "executor", Path(__file__).with_name("migrations"))
        identity = uuid7()
        repository = ExecutionRepository(database, identity)
        await repository.create_partitions()
        lease = await service.open(open_lease(repository, settings.executor_lease_seconds))
        recorder = await service.open(
            open_recorder(settings.executor_journal_folder, identity, repository, max_bytes=settings.executor_journal_mb << 20)
        )

        registry = registry_pb2_grpc.RegistryInternalStub(await service.open(open_channel(settings.registry_address, service.tokens)))
        compiler = compiler_pb2_grpc.CompilerInternalStub(await service.open(open_channel(settings.compiler_address, service.tokens)))
        sandbox = await service.open(
            Sandbox(
                workers=settings.executor_workers,
                max_workers=settings.executor_max_workers,
                max_waiting=settings.executor_max_waiting,
                code_bytes=settings.executor_code_cache_mb << 20,
                quarantine_seconds=settings.executor_quarantine_seconds,
                store=_native_store(settings),
            )
        )
        # Calls come once this serves: they find what was called before it started.
        await sandbox.restore_recent(RESTORE_SECONDS)
        catalog, modules = Catalog(), Modules(sandbox, ArtifactClient(compiler).fetch)
        executions = Executions(
            catalog,
            RegistryClient(registry, catalog),
            modules,
            sandbox,
            recorder,
            repository,
            caller,
            max_input_bytes=settings.executor_max_input_bytes,
            most_of_many=min(settings.executor_batch_workers, settings.executor_max_workers),
            most_of_brief=MOST_OF_BRIEF,
        )
        watcher = Watcher(registry, catalog, modules, repository)

        service.background(forever("heartbeat", lease.heartbeat, pause_seconds=settings.executor_lease_seconds / HEARTBEATS))
        service.background(forever("sweep", lease.sweep, pause_seconds=settings.executor_lease_seconds / 3))
        service.background(forever("partitions", repository.create_partitions, pause_seconds=3600))
        service.background(forever("uses", sandbox.note_uses, pause_seconds=USES_SECONDS))
        service.background(forever("purge", repository.purge_deleted, pause_seconds=settings.executor_purge_seconds))
        service.background(forever("watch", watcher.follow, pause_seconds=0.2))
        servicer = ExecutorServicer(executions, Streams(settings.executor_max_streams), max_batch_inputs=settings.executor_max_batch_inputs)
        await service.serve(
            partial(executor_pb2_grpc.add_ExecutorServicer_to_server, servicer),
            services=["kiln.executor.v1.Executor"],
        )


def _native_store(settings: Settings) -> NativeStore | None:
    folder = settings.executor_native_folder
    return open_native_store(folder, fingerprint(new_compiler()), settings.executor_native_mb << 20) if folder else None


if __name__ == "__main__":
    run(main)
