"""Migrations: a service's `migrations/NNNN_name.sql`, forward only, run at its start.

Two services or two copies of one that start at once wait for each other by an advisory lock. A file that has run must never change; its
checksum is kept to find out.
"""

import hashlib
import re
from pathlib import Path
from typing import Final

from libs.common.logs import logger
from libs.common.postgres import Database, Transaction

# Any number will do as long as nobody else in the database uses it: "kiln" in ASCII.
LOCK: Final = 0x6B696C6E
_NAME: Final = re.compile(r"\d{4}_[a-z0-9_]+\.sql")


class BrokenMigrations(Exception):
    """The files and the database tell different histories; the message says where."""


async def migrate(database: Database, schema: str, folder: Path) -> None:
    """Brings a service's schema up to date.

    Args:
        database: Where.
        schema: The service's own schema; made when it is missing.
        folder: Its migrations. Statements name their tables in full.

    Raises:
        BrokenMigrations: a file that has run was changed, or one is misnamed. One that is missing here is a newer release's.
    """
    files = sorted(folder.glob("*.sql"))
    async with database.transaction() as transaction:
        await transaction.fetchval("SELECT pg_advisory_xact_lock($1)", LOCK)
        await transaction.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        await transaction.execute(
            f'CREATE TABLE IF NOT EXISTS "{schema}".migrations '
            "(name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        applied = {
            str(row["name"]): str(row["checksum"]) for row in await transaction.fetch(f'SELECT name, checksum FROM "{schema}".migrations')
        }
        _refuse_rewritten_history(applied, files)
        for file in files:
            if file.name not in applied:
                await _apply(transaction, schema, file)


async def install_queues(database: Database, *names: str) -> None:
    """Makes PGMQ and these queues where they are missing: from the extension when PostgreSQL has it, else from the `pgmq` package.

    Names are constants of ours in `[a-z0-9_]`: PGMQ folds and quotes others in ways that lose notifications.
    """
    async with database.transaction() as transaction:
        await transaction.fetchval("SELECT pg_advisory_xact_lock($1)", LOCK)
        if not await transaction.fetchval("SELECT to_regprocedure('pgmq.create(text)') IS NOT NULL"):
            await _install_pgmq(transaction)
        for name in names:
            if not await transaction.fetchval("SELECT EXISTS (SELECT FROM pgmq.list_queues() WHERE queue_name = $1)", name):
                await transaction.fetchval("SELECT pgmq.create($1)", name)


async def _install_pgmq(transaction: Transaction) -> None:
    if await transaction.fetchval("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pgmq')"):
        await transaction.execute("CREATE EXTENSION pgmq")
        return
    # Imported here because it brings a whole second driver, which only an installation needs.
    from pgmq.install import get_embedded_install_sql

    await transaction.execute(get_embedded_install_sql())
    logger().info("pgmq_installed")


def _refuse_rewritten_history(applied: dict[str, str], files: list[Path]) -> None:
    present = {file.name: _checksum(file) for file in files}
    for name in present:
        if not _NAME.fullmatch(name):
            raise BrokenMigrations(f"{name}: a migration is named NNNN_name.sql")
    for name, checksum in applied.items():
        if present.get(name) not in (checksum, None):
            raise BrokenMigrations(f"{name} has run and was changed since; add a new migration instead")


async def _apply(transaction: Transaction, schema: str, file: Path) -> None:
    await transaction.execute(file.read_text(encoding="utf-8"))
    await transaction.execute(f'INSERT INTO "{schema}".migrations (name, checksum) VALUES ($1, $2)', file.name, _checksum(file))
    logger().info("migrated", schema=schema, migration=file.name)


def _checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
