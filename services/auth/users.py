"""Users: what an ADMIN does with them."""

from dataclasses import dataclass
from uuid import UUID

from libs.common import audit
from libs.common.access.principal import Principal, Role
from libs.common.errors import AlreadyExists, FailedPrecondition
from libs.common.ids import parse_uuid, uuid7
from libs.common.pages import Listing, Page, listing
from services.auth.callers import found_user
from services.auth.changes import Clock, change_by
from services.auth.guessable import check_password
from services.auth.names import Reference, check_name, unknown_user
from services.auth.passwords import Passwords, no_password
from services.auth.records import User
from services.auth.repository import AuthRepository, Store


@dataclass(frozen=True, slots=True)
class NewUser:
    """What a caller wants to make; without a password the user has only API keys. The password is in no representation of this."""

    name: str
    role: Role
    password: str | None

    def __repr__(self) -> str:
        return f"NewUser({self.name}, {self.role})"


@dataclass(frozen=True, slots=True)
class UserPatch:
    """What a caller wants to change; None stays as it is. The password is in no representation of this."""

    role: Role | None
    disabled: bool | None
    password: str | None

    def __repr__(self) -> str:
        return f"UserPatch({self.role}, {self.disabled})"


class Users:
    """The users of one installation."""

    def __init__(self, repository: AuthRepository, passwords: Passwords, clock: Clock) -> None:
        self._repository = repository
        self._passwords = passwords
        self._clock = clock

    async def create(self, caller: Principal, new: NewUser) -> User:
        """Makes a user.

        Raises:
            InvalidArgument: a field is bad.
            AlreadyExists: the name is taken.
        """
        check_name(new.name)
        hashed = await self._hashed(new.password, new.name)
        identity = uuid7()
        async with change_by(self._repository, caller, self._clock()) as store:
            if not await store.insert_user(identity, new.name, new.role, hashed):
                raise AlreadyExists(f"a user named {new.name} exists; choose another name", reason="NAME_TAKEN")
            return await _found(store, str(identity))

    async def get(self, reference: str) -> User:
        """One user.

        Raises:
            NotFound: there is none.
        """
        return await found_user(self._repository, reference)

    async def list(self, page: Page) -> Listing[User]:
        """Users, newest first."""
        before = page.key(parse_uuid)
        return listing(page, await self._repository.list_users(before, page.size + 1), lambda one: str(one.id))

    async def update(self, caller: Principal, reference: str, patch: UserPatch) -> User:
        """Changes a user; another password and disabling end all its sessions.

        Raises:
            NotFound: there is none.
            InvalidArgument: the password is bad.
            FailedPrecondition: nobody would be left to administer, or it is a password for a user of an identity provider.
        """
        before = await self.get(reference)
        if patch.password is not None and before.issuer:
            raise no_password(before.name)
        hashed = await self._hashed(patch.password, before.name)
        async with change_by(self._repository, caller, self._clock()) as store:
            user = await _found(store, reference)
            audit.about(user.id)
            if hashed and user.issuer:  # another one has the name by now
                raise no_password(user.name)
            role = user.role if patch.role is None else patch.role
            disabled = user.disabled if patch.disabled is None else patch.disabled
            await store.update_user(user.id, role, disabled, hashed)
            if hashed or disabled:
                await store.delete_sessions(user.id)
            await _check_an_admin_is_left(store, user)
            await store.announce([user.id])
            return await _found(store, str(user.id))

    async def delete(self, caller: Principal, reference: str) -> UUID:
        """Deletes a user with all that it has; answers with its id.

        Raises:
            NotFound: there is none.
            FailedPrecondition: nobody would be left to administer.
        """
        async with change_by(self._repository, caller, self._clock()) as store:
            user = await _found(store, reference)
            audit.about(user.id)
            await store.delete_user(user.id)
            await _check_an_admin_is_left(store, user)
            await store.announce([user.id])
            return user.id

    async def _hashed(self, password: str | None, name: str) -> bytes | None:
        if password is None:
            return None
        check_password("password", password, name)
        return await self._passwords.hash(password)


async def _check_an_admin_is_left(store: Store, changed: User) -> None:
    if changed.administers and not await store.an_admin_is_left():
        raise FailedPrecondition(f"{changed.name} is the last user who may administer; make another one ADMIN first", reason="LAST_ADMIN")


async def _found(store: Store, reference: str) -> User:
    named = Reference.of(reference)
    user = await store.find_user(named) if named else None
    if user is None:
        raise unknown_user(reference)
    return user
