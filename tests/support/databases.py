"""Databases as the services make them when they start."""

from typing import Final

from libs.common.migrate import install_queues, migrate
from libs.common.postgres import Database
from libs.common.queue import AUDIT_EVENTS, COMPILATION_JOBS, COMPILATION_RESULTS
from tests.support.processes import ROOT

MIGRATIONS: Final = {folder.parent.name: folder for folder in sorted((ROOT / "services").glob("*/migrations"))}


async def install(database: Database) -> None:
    """Every service's schema, and the queues between them."""
    for service, folder in MIGRATIONS.items():
        await migrate(database, service, folder)
    await install_queues(database, COMPILATION_JOBS, COMPILATION_RESULTS, AUDIT_EVENTS)
