"""What was in the database before a migration is there after it, and works."""

import shutil
from pathlib import Path

from libs.common.ids import uuid7
from libs.common.migrate import migrate
from libs.common.postgres import open_database
from tests.integration.registry.conftest import running_registry
from tests.support.databases import MIGRATIONS
from tests.support.postgres import TestPostgres


async def test_a_function_of_before_there_was_a_limit_of_concurrency_has_the_default_and_may_change_it(
    postgres: TestPostgres, home: Path, tmp_path: Path
) -> None:
    url = await postgres.new_database()
    for file in sorted(MIGRATIONS["registry"].glob("*.sql"))[:2]:
        shutil.copy(file, tmp_path)
    async with open_database(url, name="test") as database, database.transaction() as transaction:
        await migrate(database, "registry", tmp_path)
        identity = uuid7()
        await transaction.execute(
            "INSERT INTO registry.functions (id, name, description, latest_version, timeout_ms, memory_mb, max_output_bytes, "
            "max_log_bytes, revision) VALUES ($1, 'old', '', 1, 7, 64, 1000, 1000, nextval('registry.revisions'))",
            identity,
        )
        await transaction.execute(
            "INSERT INTO registry.versions (function_id, version, language, source, status) "
            "VALUES ($1, 1, 'assemblyscript', 'one', 'PENDING')",
            identity,
        )

    async with running_registry(url, home / "migrated.log") as running:
        before = await running.get("old")
        before.limits.max_concurrency = 3
        after = await running.update("old", limits=before.limits)

    assert before.limits.timeout_ms == 7
    assert after.limits == before.limits
