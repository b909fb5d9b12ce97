"""Callers: whom they are, and whose things they may see."""

from collections.abc import Iterable
from uuid import UUID

from libs.common.access.principal import Principal, Role
from libs.common.errors import NotFound, PermissionDenied
from libs.common.ids import parse_uuid
from services.auth.names import Reference, unknown_user
from services.auth.records import User
from services.auth.repository import AuthRepository


def principal_of(
    user: User, *, session: UUID | None = None, api_key: UUID | None = None, functions: Iterable[UUID] = (), verbs: Iterable[str] = ()
) -> Principal:
    """A user as the caller that one of its credentials makes of it."""
    return Principal(
        id=str(user.id),
        name=user.name,
        role=user.role,
        groups=frozenset(map(str, user.groups)),
        session=str(session) if session else "",
        api_key=str(api_key) if api_key else "",
        functions=frozenset(map(str, functions)),
        verbs=frozenset(verbs),
    )


def own_id(caller: Principal) -> UUID:
    """The id of the user who calls.

    Raises:
        PermissionDenied: no user does.
    """
    identity = parse_uuid(caller.id)
    if caller.role is Role.SERVICE or identity is None:
        raise PermissionDenied("only users have passwords, sessions and API keys", reason="NOT_A_USER")
    return identity


def may_see(caller: Principal, owner: UUID) -> bool:
    """Whether a session or API key of that user is the caller's to see and to end."""
    return caller.role is Role.ADMIN or own_id(caller) == owner


async def whose(repository: AuthRepository, caller: Principal, reference: str) -> UUID:
    """The user whose things a caller asks for; itself, unless it names another.

    Raises:
        PermissionDenied: another, whether there is such a user or not, and the caller is no ADMIN.
        NotFound: there is no such user.
    """
    own = own_id(caller)
    if not reference or reference == caller.name or parse_uuid(reference) == own:
        return own
    if caller.role is not Role.ADMIN:
        raise PermissionDenied("only an ADMIN may ask for what another user has", reason="NOT_YOURS")
    return (await found_user(repository, reference)).id


async def found_user(repository: AuthRepository, reference: str) -> User:
    """The user that a caller refers to.

    Raises:
        NotFound: there is none.
    """
    named = Reference.of(reference)
    user = await repository.find_user(named) if named else None
    if user is None:
        raise unknown_user(reference)
    return user


def unknown(kind: str, reference: str) -> NotFound:
    """The error for a session or API key that is not there, or is another's."""
    return NotFound(f"there is no {kind} {reference[:100]!r}", reason=f"{kind.upper().replace(' ', '_')}_NOT_FOUND")
