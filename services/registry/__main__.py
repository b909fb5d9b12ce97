"""The registry: what it reads, opens and serves."""

from functools import partial
from pathlib import Path

from kiln.registry.v1 import environments_pb2_grpc
from kiln.registry.v1 import registry_pb2_grpc as grpc

from libs.common.access.principal import caller
from libs.common.audit_queue import QueuedAuditLog
from libs.common.migrate import install_queues, migrate
from libs.common.postgres import Listener, open_database
from libs.common.queue import AUDIT_EVENTS, COMPILATION_JOBS, COMPILATION_RESULTS, Queue, wakeups
from libs.common.sealing import Sealer, read_keys
from libs.common.server import Service, forever, run
from libs.common.settings import InvalidSettings, load
from services.registry.code import CodePolicy
from services.registry.environment_repository import EnvironmentRepository
from services.registry.environment_servicer import EnvironmentsServicer
from services.registry.environments import Environments
from services.registry.functions import Functions
from services.registry.limits import Limits, LimitsPolicy
from services.registry.repository import CHANGES_CHANNEL, FunctionRepository
from services.registry.resolve import Resolver
from services.registry.results import Results
from services.registry.servicer import RegistryInternalServicer, RegistryServicer
from services.registry.settings import Settings
from services.registry.sweeper import Sweeper
from services.registry.vault import Vault
from services.registry.watch import Watch


async def main() -> None:
    settings = load(Settings)
    async with Service("registry", settings) as service:
        url = settings.database_url.get_secret_value()
        database = await service.open(open_database(url, name="registry"))
        await migrate(database, "registry", Path(__file__).with_name("migrations"))
        await install_queues(database, COMPILATION_JOBS, COMPILATION_RESULTS, AUDIT_EVENTS)

        repository = FunctionRepository(database)
        code_policy = CodePolicy(settings.registry_max_source_bytes, settings.registry_max_wasm_bytes)
        functions = Functions(repository, limits_policy(settings), code_policy, caller)
        environment_repository = EnvironmentRepository(database)
        vault = Vault(Sealer(read_keys(settings.sealing_key.get_secret_value())))
        await check_keys(environment_repository, vault)
        environments = Environments(environment_repository, vault, caller)
        watch = Watch(repository, environment_repository, Listener(url, CHANGES_CHANNEL))
        sweeper = Sweeper(
            repository,
            environment_repository,
            vault,
            lost_after_seconds=settings.registry_lost_after_seconds,
            tombstone_seconds=settings.registry_tombstone_seconds,
            archive_seconds=settings.registry_archive_seconds,
        )
        wakeup = await service.open(wakeups(url, Queue(COMPILATION_RESULTS), poll_seconds=settings.registry_poll_seconds))

        service.background(forever("watch", watch.run, pause_seconds=0.1))
        service.background(forever("results", partial(Results(repository).run, wakeup), pause_seconds=0))
        service.background(forever("sweep", sweeper.sweep, pause_seconds=settings.registry_sweep_seconds))
        await service.serve(
            partial(grpc.add_RegistryServicer_to_server, RegistryServicer(functions, watch)),
            partial(environments_pb2_grpc.add_EnvironmentsServicer_to_server, EnvironmentsServicer(environments, watch)),
            partial(
                grpc.add_RegistryInternalServicer_to_server,
                RegistryInternalServicer(Resolver(functions, repository, environment_repository), watch, vault),
            ),
            services=["kiln.registry.v1.Registry", "kiln.registry.v1.Environments", "kiln.registry.v1.RegistryInternal"],
            audit_log=QueuedAuditLog(database),
        )


async def check_keys(environments: EnvironmentRepository, vault: Vault) -> None:
    """Sees to it that nobody is served by a registry that has lost a key.

    Raises:
        InvalidSettings: there are values that are sealed with another one.
    """
    if await environments.keys() - vault.keys:
        raise InvalidSettings(
            "KILN_SEALING_KEY: there are variables of environments that are sealed with another key; set that as well, behind a comma, or, "
            "if it is lost, delete all rows of registry.variables and set the variables again"
        )


def limits_policy(settings: Settings) -> LimitsPolicy:
    """Defaults and ceilings of this installation."""
    return LimitsPolicy(
        defaults=Limits(
            settings.registry_default_timeout_ms,
            settings.registry_default_memory_mb,
            settings.registry_default_output_bytes,
            settings.registry_default_log_bytes,
            settings.registry_default_concurrency,
        ),
        ceilings=Limits(
            settings.registry_max_timeout_ms,
            settings.registry_max_memory_mb,
            settings.registry_max_output_bytes,
            settings.registry_max_log_bytes,
            settings.registry_max_concurrency,
        ),
    )


if __name__ == "__main__":
    run(main)
