"""Who makes the call that is being served, and what that may reach."""

from collections.abc import Collection
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from libs.common.errors import Unauthenticated


class Role(StrEnum):
    """What a caller may do. SERVICE is Kiln's own: no user has it."""

    ADMIN = "ADMIN"
    DEV = "DEV"
    SERVICE = "SERVICE"


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated caller.

    Attributes:
        id: The user's id; of a service its name.
        name: The user's or service's name.
        role: What it may do.
        groups: Ids of the groups that it is in.
        session: Id of the session that it calls with; empty for none.
        api_key: Id of the API key that it calls with; empty for none.
        functions: Ids of the functions that its key is narrowed to; empty for all.
        verbs: Kinds of calls that its key is narrowed to, as the protos name them; empty for all.
    """

    id: str
    name: str
    role: Role
    groups: frozenset[str] = frozenset()
    session: str = ""
    api_key: str = ""
    functions: frozenset[str] = frozenset()
    verbs: frozenset[str] = frozenset()

    @property
    def is_narrowed(self) -> bool:
        """Whether its key lets it do less than its user may."""
        return bool(self.functions or self.verbs)


class Guarded(Protocol):
    """What only some may reach: a function or an environment."""

    @property
    def allowed_users(self) -> Collection[str]:
        """Ids of users."""

    @property
    def allowed_groups(self) -> Collection[str]:
        """Ids of groups."""


def can_access(principal: Principal, resource: Guarded) -> bool:
    """Whether a caller may know of a thing: an ADMIN, anyone where no list names anybody, and those whom a list names."""
    if principal.role is not Role.DEV:
        return True
    if not resource.allowed_users and not resource.allowed_groups:
        return True
    return principal.id in resource.allowed_users or not principal.groups.isdisjoint(resource.allowed_groups)


_caller: ContextVar[Principal | None] = ContextVar("caller", default=None)


def caller() -> Principal:
    """Who makes the call that is being served.

    Raises:
        Unauthenticated: nobody who is known.
    """
    known = _caller.get()
    if known is None:
        raise Unauthenticated("the call needs a credential", reason="NO_CREDENTIAL")
    return known


def set_caller(principal: Principal | None) -> None:
    """Says who makes the call that is being served from here on."""
    _caller.set(principal)
