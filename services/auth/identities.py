"""Users whom identity providers know: made when they come first, and kept as the providers say that they are."""

from collections.abc import Iterator
from typing import Final
from uuid import UUID

from libs.common.access.principal import Role
from libs.common.audit import Event
from libs.common.errors import Aborted
from libs.common.ids import uuid7
from services.auth.audit_events import write
from services.auth.groups import MAX_GROUPS_OF_A_USER
from services.auth.identity_tokens import Identity
from services.auth.records import User
from services.auth.repository import AuthRepository, Store

# `services.auth.admin_key` makes whoever has this name an ADMIN.
RESERVED: Final = "admin"
# What the audit log calls it when a user is made or changed as a provider says.
FOLLOWING: Final = "identity_provider"
# How many users of one name are numbered; the names of more have a part of their ids.
_NUMBERED: Final = 20


class Identities:
    """The users of one installation, as identity providers know them."""

    def __init__(self, repository: AuthRepository) -> None:
        self._repository = repository

    async def user_of(self, identity: Identity) -> User:
        """The user that an identity is, disabled or not; made if there is none.

        Role and groups follow what the provider says, where it has a say in them; what it said earlier than what is known does not count.
        Of the groups that it names, the user is in those that there are, a hundred at most: none is made.
        """
        known = await self._repository.find_user_of(identity.issuer, identity.subject)
        if known and await self._is_current(known, identity):
            return known
        async with self._repository.change() as store:
            # Another call may have been first.
            known = await store.find_user_of(identity.issuer, identity.subject)
            identifier = known.id if known else await _insert(store, identity)
            if known is None or await store.note_claims(identifier, identity.issued_at):
                await _follow(store, identifier, identity, known.role if known else identity.role)
                event = Event(uuid7(), FOLLOWING, "user", str(identifier), actor_name=identity.issuer, outcome="OK")
                await write(store.transaction, [event])
            user = await store.find_user_of(identity.issuer, identity.subject)
        if user is None:
            raise Aborted("the user was deleted in the same moment; sign in again")
        return user

    async def _is_current(self, user: User, identity: Identity) -> bool:
        """Whether nothing changes by what a provider says, which then counts from now on; or it has said something later."""
        groups = user.groups
        if identity.groups is not None:
            groups = await self._repository.find_groups(sorted(identity.groups), MAX_GROUPS_OF_A_USER)
        if identity.role in (None, user.role) and set(groups) == set(user.groups):
            await self._repository.note_claims(user.id, identity.issued_at)
            return True
        return await self._repository.has_later_claims(user.id, identity.issued_at)


def names_from(name: str, identifier: UUID) -> Iterator[str]:
    """The names that a new user may have, best first: the one it would best be called, with a number, and with a part of its id."""
    if name != RESERVED:
        yield name
    yield from (f"{name}-{number}" for number in range(2, _NUMBERED + 1))
    yield f"{name}-{identifier.hex[-12:]}"


async def _insert(store: Store, identity: Identity) -> UUID:
    identifier = uuid7()
    for name in names_from(identity.name, identifier):
        if await store.insert_user_of(identifier, name, identity.role or Role.DEV, identity.issuer, identity.subject, identity.issued_at):
            return identifier
    raise Aborted(f"no name is free for a user called {identity.name}; try again")


async def _follow(store: Store, identifier: UUID, identity: Identity, role: Role | None) -> None:
    if identity.role and identity.role is not role:
        await store.set_role(identifier, identity.role)
    if identity.groups is not None:
        groups = await store.find_groups(sorted(identity.groups), MAX_GROUPS_OF_A_USER)
        await store.leave_other_groups(identifier, groups)
        await store.join_groups(identifier, groups)
    await store.announce([identifier])
