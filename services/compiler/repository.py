"""Artifacts in PostgreSQL: one method a named query."""

import hashlib
from pathlib import Path
from typing import Final

from libs.common.postgres import Database, Transaction
from libs.common.queries import Queries

QUERIES: Final = Queries(Path(__file__).with_name("queries.sql"))


class ArtifactRepository:
    """Compiled modules by digest."""

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


def digest_of(wasm: bytes) -> str:
    """`sha256:` and the hex digest."""
    return f"sha256:{hashlib.sha256(wasm).hexdigest()}"
