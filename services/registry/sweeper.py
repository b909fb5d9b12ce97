"""What time does to functions and environments: lost builds are sent again, deleted things go, finished messages are forgotten, and what
an older key has sealed is sealed again.
"""

from typing import Final
from uuid import UUID

from libs.common.logs import logger
from libs.common.queue import COMPILATION_RESULTS, Queue
from libs.common.sealing import Unopenable
from services.registry.environment_repository import EnvironmentRepository, EnvironmentStore
from services.registry.repository import FunctionRepository
from services.registry.vault import Variable, Vault

# Before every variable there is.
_FIRST: Final = (UUID(int=0), "")


class Sweeper:
    """Periodic upkeep. Two registries may sweep at once: rows are locked and skipped."""

    def __init__(
        self,
        repository: FunctionRepository,
        environments: EnvironmentRepository,
        vault: Vault,
        *,
        lost_after_seconds: float,
        tombstone_seconds: float,
        archive_seconds: float,
    ) -> None:
        self._repository = repository
        self._environments = environments
        self._vault = vault
        self._results = Queue(COMPILATION_RESULTS)
        self._lost_after_seconds = lost_after_seconds
        self._tombstone_seconds = tombstone_seconds
        self._archive_seconds = archive_seconds

    async def sweep(self) -> None:
        """Everything once."""
        await self.resend_lost_builds()
        while await self._repository.purge_versions():
            pass
        await self._repository.purge_functions(self._tombstone_seconds)
        await self._environments.purge_environments(self._tombstone_seconds)
        await self.seal_again()
        for queue in (self._repository.jobs, self._results):
            await queue.purge_archive(self._repository.database, older_than_seconds=self._archive_seconds)

    async def resend_lost_builds(self) -> int:
        """Sends the job of each unfinished build that has neither a job nor a result; returns how many."""
        async with self._repository.transaction() as store:
            rows = await store.list_lost_builds(self._lost_after_seconds)
            for row in rows:
                # One code at a time: a hundred modules would be too much to hold.
                code = await store.find_code(row["function_id"], row["version"])
                await store.send_job(row["function_id"], row["version"], row["build"], code)
        for row in rows:
            logger().warning("build_sent_again", function_id=str(row["function_id"]), version=row["version"], build=row["build"])
        return len(rows)

    async def seal_again(self) -> None:
        """Seals with the first key what another that is known here has sealed."""
        others = sorted(self._vault.keys - {self._vault.first_key})
        if not others:
            return
        behind: tuple[UUID, str] | None = _FIRST
        while behind:
            async with self._environments.transaction() as store:
                found = await store.list_sealed(behind, others)
                for identity, name, variable in found:
                    await self._seal_again(store, identity, name, variable)
            behind = found[-1][:2] if found else None

    async def _seal_again(self, store: EnvironmentStore, identity: UUID, name: str, variable: Variable) -> None:
        try:
            value = self._vault.open(identity, name, variable)
        except Unopenable as error:
            logger().error("variable_broken", environment_id=str(identity), variable=name, error=str(error))
            return
        await store.put_variables(identity, {name: self._vault.seal(identity, name, value, secret=variable.secret)})
        logger().info("variable_sealed_again", environment_id=str(identity), variable=name)
