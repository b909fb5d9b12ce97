"""Users, groups, sessions, API keys and signing keys in PostgreSQL: one method a named query."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from libs.common.access.credentials import Credential, Kind
from libs.common.access.principal import Principal, Role
from libs.common.audit import Event
from libs.common.ids import parse_uuid
from libs.common.postgres import Database, Row, Transaction
from libs.common.queries import Queries
from services.auth.names import Reference
from services.auth.records import ApiKey, AuditFilter, Bearer, Group, Session, SigningKey, Stale, Tries, User

QUERIES: Final = Queries(Path(__file__).with_name("queries.sql"))
# Notifications say that there is something new; what, the tables say.
CHANGES_CHANNEL: Final = "kiln_auth"


@dataclass(frozen=True, slots=True)
class Password:
    """By what an enabled user signs in. The hash is in no representation of this."""

    user_id: UUID
    name: str
    hash: bytes | None

    def __repr__(self) -> str:
        return f"Password({self.name})"


class Store:
    """Queries inside one transaction that changes something.

    Attributes:
        revision: The number of the change.
    """

    def __init__(self, transaction: Transaction, revision: int) -> None:
        self.transaction = transaction
        self.revision = revision

    async def announce(self, subjects: Sequence[UUID]) -> None:
        """Makes older access tokens of these users, sessions and API keys void, and tells it."""
        await self.transaction.execute(QUERIES.write_changes, subjects, self.revision)
        await self.notify()

    async def notify(self) -> None:
        """Tells those who watch that there is something new, once this has happened."""
        await self.transaction.fetchval("SELECT pg_notify($1, '')", CHANGES_CHANNEL)

    async def caller_stands(self, caller: Principal, now: datetime) -> bool:
        by = parse_uuid(caller.session), parse_uuid(caller.api_key)
        stands: bool = await self.transaction.fetchval(QUERIES.caller_stands, parse_uuid(caller.id), caller.role.value, *by, now)
        return stands

    async def insert_user(self, identity: UUID, name: str, role: Role, password_hash: bytes | None) -> bool:
        return await self.transaction.execute(QUERIES.insert_user, identity, name, role.value, password_hash) == 1

    async def find_user(self, reference: Reference) -> User | None:
        row = await self.transaction.fetchrow(QUERIES.find_user, reference.id, reference.name)
        return _user(row) if row else None

    async def find_user_of(self, issuer: str, subject: str) -> User | None:
        row = await self.transaction.fetchrow(QUERIES.find_user_of, issuer, subject)
        return _user(row) if row else None

    async def insert_user_of(self, identity: UUID, name: str, role: Role, issuer: str, subject: str, claims_at: datetime) -> bool:
        inserted = await self.transaction.execute(QUERIES.insert_user_of, identity, name, role.value, issuer, subject, claims_at)
        return inserted == 1

    async def note_claims(self, identity: UUID, at: datetime) -> bool:
        return await self.transaction.execute(QUERIES.note_claims, identity, at) == 1

    async def set_role(self, identity: UUID, role: Role) -> None:
        await self.transaction.execute(QUERIES.set_role, identity, role.value)

    async def find_groups(self, names: Sequence[str], most: int) -> Sequence[UUID]:
        return [row["id"] for row in await self.transaction.fetch(QUERIES.find_groups, names, most)]

    async def leave_other_groups(self, user: UUID, groups: Sequence[UUID]) -> None:
        await self.transaction.execute(QUERIES.leave_other_groups, user, groups)

    async def join_groups(self, user: UUID, groups: Sequence[UUID]) -> None:
        await self.transaction.execute(QUERIES.join_groups, user, groups)

    async def update_user(self, identity: UUID, role: Role, disabled: bool, password_hash: bytes | None) -> None:
        await self.transaction.execute(QUERIES.update_user, identity, role.value, disabled, password_hash)

    async def delete_user(self, identity: UUID) -> None:
        await self.transaction.execute(QUERIES.delete_user, identity)

    async def an_admin_is_left(self) -> bool:
        is_left: bool = await self.transaction.fetchval(QUERIES.an_admin_is_left)
        return is_left

    async def replace_password(self, identity: UUID, old: bytes, new: bytes) -> bool:
        return await self.transaction.execute(QUERIES.replace_password, identity, old, new) == 1

    async def insert_group(self, identity: UUID, name: str, description: str) -> bool:
        return await self.transaction.execute(QUERIES.insert_group, identity, name, description) == 1

    async def find_group(self, reference: Reference) -> Group | None:
        row = await self.transaction.fetchrow(QUERIES.find_group, reference.id, reference.name)
        return _row_as(Group, row) if row else None

    async def update_group(self, identity: UUID, description: str) -> None:
        await self.transaction.execute(QUERIES.update_group, identity, description)

    async def delete_group(self, identity: UUID) -> None:
        await self.transaction.execute(QUERIES.delete_group, identity)

    async def member_ids(self, identity: UUID) -> Sequence[UUID]:
        return [row["user_id"] for row in await self.transaction.fetch(QUERIES.member_ids, identity)]

    async def add_member(self, group: UUID, user: UUID) -> None:
        await self.transaction.execute(QUERIES.add_member, group, user)

    async def remove_member(self, group: UUID, user: UUID) -> bool:
        return await self.transaction.execute(QUERIES.remove_member, group, user) == 1

    async def find_session(self, identity: UUID, now: datetime) -> Session | None:
        row = await self.transaction.fetchrow(QUERIES.find_session, identity, now)
        return _row_as(Session, row) if row else None

    async def delete_session(self, identity: UUID) -> bool:
        return await self.transaction.execute(QUERIES.delete_session, identity) == 1

    async def delete_sessions(self, user: UUID, *, less: UUID | None = None) -> None:
        await self.transaction.execute(QUERIES.delete_sessions, user, less)

    async def insert_api_key(self, key: ApiKey, digest: bytes) -> bool:
        inserted = await self.transaction.execute(
            QUERIES.insert_api_key, key.id, key.user_id, key.name, digest, key.functions, key.verbs, key.created_at, key.expires_at
        )
        return inserted == 1

    async def count_api_keys(self, user: UUID, now: datetime) -> int:
        count: int = await self.transaction.fetchval(QUERIES.count_api_keys, user, now)
        return count

    async def find_api_key(self, identity: UUID) -> ApiKey | None:
        row = await self.transaction.fetchrow(QUERIES.find_api_key, identity)
        return _row_as(ApiKey, row) if row else None

    async def succeed_api_key(self, identity: UUID, successor: UUID, ends_at: datetime) -> None:
        await self.transaction.execute(QUERIES.succeed_api_key, identity, successor, ends_at)

    async def revoke_api_key(self, identity: UUID, now: datetime) -> bool:
        return await self.transaction.execute(QUERIES.revoke_api_key, identity, now) == 1

    async def list_signing_keys(self) -> Sequence[SigningKey]:
        return [_row_as(SigningKey, row) for row in await self.transaction.fetch(QUERIES.list_signing_keys)]

    async def insert_signing_key(self, key: SigningKey) -> None:
        await self.transaction.execute(QUERIES.insert_signing_key, key.id, key.public, key.sealed_private, key.created_at, key.signs_from)

    async def reseal_signing_key(self, identity: str, sealed_private: bytes) -> None:
        await self.transaction.execute(QUERIES.reseal_signing_key, identity, sealed_private)

    async def delete_signing_key(self, identity: str) -> None:
        await self.transaction.execute(QUERIES.delete_signing_key, identity)


class AuthRepository:
    """Queries that are a transaction of their own, and changes of several."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @asynccontextmanager
    async def change(self) -> AsyncIterator[Store]:
        """All or nothing, and one change after the other: what is read inside holds until it has happened."""
        async with self.database.transaction() as transaction:
            yield Store(transaction, await transaction.fetchval(QUERIES.next_revision))

    async def find_user(self, reference: Reference) -> User | None:
        row = await self.database.fetchrow(QUERIES.find_user, reference.id, reference.name)
        return _user(row) if row else None

    async def find_user_of(self, issuer: str, subject: str) -> User | None:
        row = await self.database.fetchrow(QUERIES.find_user_of, issuer, subject)
        return _user(row) if row else None

    async def note_claims(self, identity: UUID, at: datetime) -> None:
        await self.database.execute(QUERIES.note_claims, identity, at)

    async def has_later_claims(self, identity: UUID, at: datetime) -> bool:
        is_later: bool = await self.database.fetchval(QUERIES.has_later_claims, identity, at)
        return is_later

    async def find_groups(self, names: Sequence[str], most: int) -> Sequence[UUID]:
        return [row["id"] for row in await self.database.fetch(QUERIES.find_groups, names, most)]

    async def spend_login(self, digest: bytes, ends_at: datetime) -> bool:
        return await self.database.execute(QUERIES.spend_login, digest, ends_at) == 1

    async def list_users(self, before: UUID | None, most: int) -> Sequence[User]:
        return [_user(row) for row in await self.database.fetch(QUERIES.list_users, before, most)]

    async def find_password(self, reference: Reference) -> Password | None:
        row = await self.database.fetchrow(QUERIES.find_password, reference.id, reference.name)
        return Password(row["id"], row["name"], row["password_hash"]) if row else None

    async def find_group(self, reference: Reference) -> Group | None:
        row = await self.database.fetchrow(QUERIES.find_group, reference.id, reference.name)
        return _row_as(Group, row) if row else None

    async def list_groups(self, before: UUID | None, most: int) -> Sequence[Group]:
        return [_row_as(Group, row) for row in await self.database.fetch(QUERIES.list_groups, before, most)]

    async def list_members(self, group: UUID, before: UUID | None, most: int) -> Sequence[User]:
        return [_user(row) for row in await self.database.fetch(QUERIES.list_members, group, before, most)]

    async def begin_session(self, session: Session, digest: bytes, password_hash: bytes | None) -> bool:
        begun = await self.database.execute(
            QUERIES.begin_session,
            session.id,
            session.user_id,
            password_hash,
            digest,
            session.created_at,
            session.expires_at,
            session.ends_at,
            session.address,
            session.user_agent,
        )
        return begun == 1

    async def list_sessions(self, user: UUID, now: datetime, before: UUID | None, most: int) -> Sequence[Session]:
        return [_row_as(Session, row) for row in await self.database.fetch(QUERIES.list_sessions, user, now, before, most)]

    async def find_api_key(self, identity: UUID) -> ApiKey | None:
        row = await self.database.fetchrow(QUERIES.find_api_key, identity)
        return _row_as(ApiKey, row) if row else None

    async def list_api_keys(self, user: UUID, before: UUID | None, most: int) -> Sequence[ApiKey]:
        return [_row_as(ApiKey, row) for row in await self.database.fetch(QUERIES.list_api_keys, user, before, most)]

    async def find_bearer(self, credential: Credential, now: datetime) -> Bearer | None:
        query = QUERIES.bearer_of_api_key if credential.kind is Kind.API_KEY else QUERIES.bearer_of_session
        row = await self.database.fetchrow(query, credential.id, now)
        return _row_as(Bearer, row, user=_user(row)) if row else None

    async def find_bearer_of_user(self, user: UUID, expires_at: datetime, now: datetime) -> Bearer | None:
        row = await self.database.fetchrow(QUERIES.bearer_of_user, user, expires_at, now)
        return _row_as(Bearer, row, user=_user(row)) if row else None

    async def use_session(self, identity: UUID, now: datetime, expires_at: datetime, address: str) -> bool:
        return await self.database.execute(QUERIES.use_session, identity, now, expires_at, address) == 1

    async def use_api_key(self, identity: UUID, now: datetime, address: str) -> bool:
        return await self.database.execute(QUERIES.use_api_key, identity, now, address) == 1

    async def list_signing_keys(self) -> Sequence[SigningKey]:
        return [_row_as(SigningKey, row) for row in await self.database.fetch(QUERIES.list_signing_keys)]

    async def changes_since(self, revision: int) -> tuple[int, Sequence[Stale]]:
        """The newest revision, and what changed after one, up to it."""
        rows = await self.database.fetch(QUERIES.changes_since, revision)
        changed = [Stale(row["subject_id"], row["revision"]) for row in rows if row["subject_id"]]
        return rows[0]["newest"], changed

    async def purge_changes(self, older_than_seconds: float) -> int:
        return await self.database.execute(QUERIES.purge_changes, older_than_seconds)

    async def purge_sessions(self, now: datetime) -> int:
        return await self.database.execute(QUERIES.purge_sessions, now)

    async def purge_api_keys(self, ended_before: datetime) -> int:
        return await self.database.execute(QUERIES.purge_api_keys, ended_before)

    async def purge_spent_logins(self, now: datetime) -> int:
        return await self.database.execute(QUERIES.purge_spent_logins, now)

    async def purge_login_failures(self, before: datetime) -> int:
        return await self.database.execute(QUERIES.purge_login_failures, before)

    async def purge_login_successes(self, before: datetime) -> int:
        return await self.database.execute(QUERIES.purge_login_successes, before)


class TryRepository:
    """Counts of tries to sign in: `counting` is a transaction, all else one statement."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def counting(self, keys: Sequence[bytes], now: datetime) -> AsyncIterator[tuple[Transaction, Sequence[Tries]]]:
        """Counts as they are, held against others until the block ends."""
        async with self._database.transaction() as transaction:
            await transaction.execute(QUERIES.begin_counts, keys, now)
            rows = await transaction.fetch(QUERIES.lock_counts, keys)
            yield transaction, [_row_as(Tries, row) for row in rows]

    @staticmethod
    async def set_count(transaction: Transaction, tries: Tries) -> None:
        await transaction.execute(QUERIES.set_count, tries.key, tries.failures, tries.began_at, tries.last_at)

    async def is_known(self, key: bytes) -> bool:
        known: bool = await self._database.fetchval(QUERIES.is_known, key)
        return known

    async def give_back(self, key: bytes) -> None:
        await self._database.execute(QUERIES.give_back, key)

    async def forget_failures(self, key: bytes) -> None:
        await self._database.execute(QUERIES.forget_failures, key)

    async def note_success(self, key: bytes, now: datetime) -> None:
        await self._database.execute(QUERIES.note_success, key, now)


class AuditRepository:
    """The audit log: `transaction` is one, all that takes none is one statement, or two."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """All or nothing."""
        return self.database.transaction()

    @staticmethod
    async def write(transaction: Transaction, events: Sequence[Event]) -> None:
        await transaction.execute(QUERIES.write_audit_events, [event.to_body() for event in events])

    @staticmethod
    async def drop(transaction: Transaction, identities: Sequence[UUID]) -> None:
        await transaction.execute(QUERIES.drop_audit_events, identities)

    async def list_events(self, wanted: AuditFilter, first: UUID | None, before: UUID | None, most: int) -> Sequence[Event]:
        """Events whose ids are from one on and before another."""
        async with self.transaction() as transaction:
            await transaction.fetchval(QUERIES.plan_for_values)
            rows = await transaction.fetch(
                QUERIES.list_audit_events,
                wanted.actor,
                wanted.actor_name,
                wanted.api_key,
                wanted.action,
                wanted.entity_kind,
                wanted.entity_id,
                wanted.outcome,
                first,
                before,
                most,
            )
        return [_row_as(Event, row) for row in rows]

    async def purge(self, before: UUID, most: int) -> int:
        return await self.database.execute(QUERIES.purge_audit_events, before, most)


def _row_as(kind: Any, row: Row, **more: Any) -> Any:
    return kind(**{field.name: row[field.name] for field in fields(kind) if field.name not in more}, **more)


def _user(row: Row) -> User:
    user: User = _row_as(User, row, role=Role(row["role"]))
    return user
