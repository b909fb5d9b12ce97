"""What time does to functions: lost builds are sent again, deleted things go, finished messages are forgotten."""

from libs.common.logs import logger
from libs.common.queue import COMPILATION_RESULTS, Queue
from services.registry.repository import FunctionRepository


class Sweeper:
    """Periodic upkeep. Two registries may sweep at once: rows are locked and skipped."""

    def __init__(
        self, repository: FunctionRepository, *, lost_after_seconds: float, tombstone_seconds: float, archive_seconds: float
    ) -> None:
        self._repository = repository
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
