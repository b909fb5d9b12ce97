"""Artifacts, and what they were built from, in PostgreSQL: one method a named query."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from libs.common.postgres import Database, Transaction
from libs.common.queries import Queries

QUERIES: Final = Queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True, slots=True)
class StoredBuild:
    """A build that made a module, which is kept."""

    artifact_digest: str
    artifact_bytes: int
    abi: str
    diagnostics: Sequence[Mapping[str, Any]]


class ArtifactRepository:
    """Compiled modules by digest, and by what they were built from."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def insert(self, transaction: Transaction, wasm: bytes) -> str:
        """Keeps a module when the transaction commits; returns its digest."""
        digest = digest_of(wasm)
        await transaction.execute(QUERIES.insert_artifact, digest, wasm)
        return digest

    async def find(self, digest: str) -> bytes | None:
        """The bytes of a module."""
        wasm: bytes | None = await self.database.fetchval(QUERIES.find_artifact, digest)
        return wasm

    async def insert_build(self, transaction: Transaction, key: str, build: StoredBuild) -> None:
        """Remembers a build when the transaction commits; its module must be kept in the same or before."""
        await transaction.execute(QUERIES.insert_build, key, build.artifact_digest, build.abi, build.diagnostics)

    async def find_build(self, key: str) -> StoredBuild | None:
        """The build of the same key, if there was one."""
        row = await self.database.fetchrow(QUERIES.find_build, key)
        return StoredBuild(**dict(row.items())) if row else None


def digest_of(wasm: bytes) -> str:
    """`sha256:` and the hex digest."""
    return f"sha256:{hashlib.sha256(wasm).hexdigest()}"
