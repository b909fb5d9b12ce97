"""Environments in PostgreSQL: one method a named query."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

from libs.common.access.principal import Principal, Role
from libs.common.postgres import Database, Row, Transaction
from libs.common.sealing import NAME_BYTES
from services.registry.access import Access
from services.registry.environments import Environment, NewEnvironment
from services.registry.names import Reference
from services.registry.repository import QUERIES, access_of, announce
from services.registry.vault import Variable


@dataclass(frozen=True, slots=True)
class WatchedEnvironment:
    """What executors know of an environment, its values still sealed."""

    id: UUID
    name: str
    revision: int
    deleted: bool
    variables: Mapping[str, Variable]


class EnvironmentStore:
    """Queries inside one transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction

    async def insert_environment(self, identity: UUID, new: NewEnvironment, access: Access, created_by: str) -> bool:
        row = await self.transaction.fetchrow(
            QUERIES.insert_environment,
            identity,
            new.name,
            new.description,
            access.allowed_users,
            access.allowed_groups,
            created_by,
        )
        return row is not None

    async def lock_environment(self, reference: Reference) -> Environment | None:
        identity = await self.transaction.fetchval(QUERIES.lock_environment, reference.id, reference.name)
        if identity is None:
            return None
        row = await self.transaction.fetchrow(QUERIES.find_environment, identity, None)
        return _environment(row) if row else None

    async def update_environment(self, environment: Environment) -> None:
        access = environment.access
        await self.transaction.execute(
            QUERIES.update_environment, environment.id, environment.description, access.allowed_users, access.allowed_groups
        )

    async def put_variables(self, identity: UUID, variables: Mapping[str, Variable]) -> None:
        for name, variable in variables.items():
            await self.transaction.execute(QUERIES.put_variable, identity, name, variable.secret, variable.sealed)

    async def delete_variables(self, identity: UUID, names: Sequence[str]) -> None:
        await self.transaction.execute(QUERIES.delete_variables, identity, names)

    async def list_readers(self, identity: UUID, most: int) -> Sequence[str]:
        return [row["name"] for row in await self.transaction.fetch(QUERIES.list_readers, identity, most)]

    async def delete_environment(self, identity: UUID) -> int:
        await self.transaction.execute(QUERIES.delete_variables, identity, None)
        revision: int = await self.transaction.fetchval(QUERIES.delete_environment, identity)
        return revision

    async def list_sealed(self, behind: tuple[UUID, str], keys: Sequence[bytes]) -> Sequence[tuple[UUID, str, Variable]]:
        """Variables behind an environment's variable that are sealed with one of some keys, held until the transaction ends."""
        rows = await self.transaction.fetch(QUERIES.list_sealed, *behind, keys, NAME_BYTES)
        return [(row["environment_id"], row["name"], Variable(row["sealed"], row["secret"])) for row in rows]

    async def announce(self, identity: UUID) -> None:
        await announce(self.transaction, identity)


class EnvironmentRepository:
    """Queries that are a transaction of their own, and transactions of several."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[EnvironmentStore]:
        """All or nothing."""
        async with self.database.transaction() as transaction:
            yield EnvironmentStore(transaction)

    async def find_environment(self, reference: Reference) -> Environment | None:
        row = await self.database.fetchrow(QUERIES.find_environment, reference.id, reference.name)
        return _environment(row) if row else None

    async def list_environments(self, before: UUID | None, most: int, viewer: Principal) -> Sequence[Environment]:
        sees_all = viewer.role is not Role.DEV
        rows = await self.database.fetch(QUERIES.list_environments, before, most, sees_all, viewer.id, list(viewer.groups))
        return [_environment(row, {}) for row in rows]

    async def watched_environments(self, identity: UUID | None = None) -> Sequence[WatchedEnvironment]:
        return [_watched(row) for row in await self.database.fetch(QUERIES.watched_environments, identity)]

    async def read_by(self, function: UUID) -> Sequence[WatchedEnvironment]:
        """Those that a function reads."""
        return [_watched(row) for row in await self.database.fetch(QUERIES.read_by, function)]

    async def keys(self) -> frozenset[bytes]:
        """The names of the keys that values are sealed with."""
        return frozenset(row["key"] for row in await self.database.fetch(QUERIES.list_keys, NAME_BYTES))

    async def purge_environments(self, older_than_seconds: float) -> int:
        return await self.database.execute(QUERIES.purge_environments, older_than_seconds)


def _variables(row: Row) -> dict[str, Variable]:
    columns = zip(row["names"] or (), row["secrets"] or (), row["sealed"] or (), strict=True)
    return {name: Variable(sealed, secret) for name, secret, sealed in columns}


def _environment(row: Row, variables: Mapping[str, Variable] | None = None) -> Environment:
    known: dict[str, Any] = {"access": access_of(row), "variables": _variables(row) if variables is None else variables}
    return Environment(**{field.name: row[field.name] for field in fields(Environment) if field.name not in known}, **known)


def _watched(row: Row) -> WatchedEnvironment:
    return WatchedEnvironment(row["id"], row["name"], row["revision"], row["deleted"], _variables(row))
