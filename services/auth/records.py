"""What the auth service keeps of users, groups, sessions and API keys, less what proves anyone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from libs.common.access.principal import Role


@dataclass(frozen=True, slots=True)
class User:
    """A user, with the ids of the groups that it is in.

    Attributes:
        issuer: Of the identity provider that knows it; empty for none.
    """

    id: UUID
    name: str
    role: Role
    disabled: bool
    groups: Sequence[UUID]
    has_password: bool
    issuer: str
    created_at: datetime
    updated_at: datetime

    @property
    def administers(self) -> bool:
        """Whether it is one of those that must not all go."""
        return self.role is Role.ADMIN and not self.disabled


@dataclass(frozen=True, slots=True)
class Group:
    """A group."""

    id: UUID
    name: str
    description: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """A session.

    Attributes:
        ends_at: Use puts its end off until then at most.
    """

    id: UUID
    user_id: UUID
    created_at: datetime
    expires_at: datetime
    ends_at: datetime
    last_used_at: datetime
    address: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key without its secret. Functions and verbs are what it is narrowed to; empty for all."""

    id: UUID
    user_id: UUID
    name: str
    functions: Sequence[UUID]
    verbs: Sequence[str]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    last_used_address: str
    revoked_at: datetime | None
    successor: UUID | None

    def has_ended(self, now: datetime) -> bool:
        """Whether it is refused."""
        return self.revoked_at is not None or self.expires_at <= now


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whom a credential stands for, as one statement saw it and them.

    Attributes:
        secret_digest: Of the secret that proves it; empty where a signature does.
        ended: Whether it was revoked or has expired.
        expires_at: When it expires.
        ends_at: Of a session: use puts its end off until then. None of an API key.
        last_used_at: When use was last written down.
        user: The user.
        functions: Ids of the functions that it is narrowed to; empty for all.
        verbs: The kinds of calls that it is narrowed to; empty for all.
        revision: The newest revision at that moment.
        signing_key: Id of the key that signs at that moment; None while there is none.
    """

    secret_digest: bytes
    ended: bool
    expires_at: datetime
    ends_at: datetime | None
    last_used_at: datetime | None
    user: User
    functions: Sequence[UUID]
    verbs: Sequence[str]
    revision: int
    signing_key: str | None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that access tokens are signed with from a moment on."""

    id: str
    public: bytes
    sealed_private: bytes
    created_at: datetime
    signs_from: datetime


@dataclass(frozen=True, slots=True)
class Stale:
    """Access tokens of a subject that are older than the revision are not to be taken."""

    id: UUID
    revision: int


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which events of the audit log a caller wants to see; None lets everything through."""

    actor: UUID | None = None
    actor_name: str | None = None
    api_key: UUID | None = None
    action: str | None = None
    entity_kind: str | None = None
    entity_id: str | None = None
    outcome: str | None = None
    after: datetime | None = None
    before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Tries:
    """Tries to sign in that failed or have not succeeded yet, of one count."""

    key: bytes
    failures: int
    began_at: datetime
    last_at: datetime
