"""Groups and their members: what an ADMIN does with them."""

from typing import Final

from libs.common import audit
from libs.common.access.principal import Principal
from libs.common.errors import AlreadyExists, InvalidArgument, NotFound
from libs.common.ids import parse_uuid, uuid7
from libs.common.pages import Listing, Page, listing
from services.auth.changes import Clock, change_by
from services.auth.names import Reference, check_name, unknown_group
from services.auth.records import Group, User
from services.auth.repository import AuthRepository, Store

MAX_DESCRIPTION_CHARACTERS: Final = 1000
# Access tokens carry the ids of all groups of a user, in gRPC's metadata.
MAX_GROUPS_OF_A_USER: Final = 100


class Groups:
    """The groups of one installation."""

    def __init__(self, repository: AuthRepository, clock: Clock) -> None:
        self._repository = repository
        self._clock = clock

    async def create(self, caller: Principal, name: str, description: str) -> Group:
        """Makes a group without members.

        Raises:
            InvalidArgument: a field is bad.
            AlreadyExists: the name is taken.
        """
        check_name(name)
        check_description(description)
        identity = uuid7()
        async with change_by(self._repository, caller, self._clock()) as store:
            if not await store.insert_group(identity, name, description):
                raise AlreadyExists(f"a group named {name} exists; choose another name", reason="NAME_TAKEN")
            return await _found(store, str(identity))

    async def get(self, reference: str) -> Group:
        """One group.

        Raises:
            NotFound: there is none.
        """
        return await _found(self._repository, reference)

    async def list(self, page: Page) -> Listing[Group]:
        """Groups, newest first."""
        before = page.key(parse_uuid)
        return listing(page, await self._repository.list_groups(before, page.size + 1), lambda one: str(one.id))

    async def update(self, caller: Principal, reference: str, description: str | None) -> Group:
        """Changes a group's description; None leaves it.

        Raises:
            NotFound: there is none.
            InvalidArgument: the description is bad.
        """
        if description is not None:
            check_description(description)
        async with change_by(self._repository, caller, self._clock()) as store:
            group = await _found(store, reference)
            if description is not None:
                await store.update_group(group.id, description)
            return await _found(store, str(group.id))

    async def delete(self, caller: Principal, reference: str) -> None:
        """Deletes a group; its members are in one group less.

        Raises:
            NotFound: there is none.
        """
        async with change_by(self._repository, caller, self._clock()) as store:
            group = await _found(store, reference)
            audit.about(group.id)
            members = await store.member_ids(group.id)
            await store.delete_group(group.id)
            await store.announce(members)

    async def list_members(self, reference: str, page: Page) -> Listing[User]:
        """The members of a group, newest users first.

        Raises:
            NotFound: there is no such group.
        """
        group = await self.get(reference)
        before = page.key(parse_uuid)
        rows = await self._repository.list_members(group.id, before, page.size + 1)
        return listing(page, rows, lambda one: str(one.id))

    async def add_member(self, caller: Principal, reference: str, user: str) -> User:
        """Puts a user into a group, if it is not in it.

        Raises:
            NotFound: there is no such group.
            InvalidArgument: there is no such user, or it is in as many groups as it may be.
        """
        async with change_by(self._repository, caller, self._clock()) as store:
            group = await _found(store, reference)
            member = await _find_user(store, user)
            if member is None:
                raise InvalidArgument.of("user", f"there is no user {user[:100]!r}")
            audit.about(group.id, user=member.id)
            if group.id in member.groups:
                return member
            if len(member.groups) >= MAX_GROUPS_OF_A_USER:
                raise InvalidArgument.of("user", f"{member.name} is in {MAX_GROUPS_OF_A_USER} groups, as many as a user may be in")
            await store.add_member(group.id, member.id)
            await store.announce([member.id])
            return await _find_user(store, str(member.id)) or member

    async def remove_member(self, caller: Principal, reference: str, user: str) -> None:
        """Takes a user out of a group.

        Raises:
            NotFound: there is no such group, or no such user in it.
        """
        async with change_by(self._repository, caller, self._clock()) as store:
            group = await _found(store, reference)
            member = await _find_user(store, user)
            if member is not None:
                audit.about(group.id, user=member.id)
            if member is None or not await store.remove_member(group.id, member.id):
                raise NotFound(f"there is no user {user[:100]!r} in the group {group.name}", reason="MEMBER_NOT_FOUND")
            await store.announce([member.id])


def check_description(description: str) -> None:
    """Raises InvalidArgument unless the text may describe a group."""
    if len(description) > MAX_DESCRIPTION_CHARACTERS:
        raise InvalidArgument.of("description", f"has {len(description)} characters; at most {MAX_DESCRIPTION_CHARACTERS} are taken")
    if "\0" in description:
        raise InvalidArgument.of("description", "has a NUL character; remove it")


async def _found(where: AuthRepository | Store, reference: str) -> Group:
    named = Reference.of(reference)
    group = await where.find_group(named) if named else None
    if group is None:
        raise unknown_group(reference)
    return group


async def _find_user(store: Store, reference: str) -> User | None:
    named = Reference.of(reference)
    return await store.find_user(named) if named else None
