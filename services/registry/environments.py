"""Environments: named sets of variables that functions read, and what may happen to them."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from libs.common import audit
from libs.common.access.principal import Principal, can_access
from libs.common.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from libs.common.ids import parse_uuid, uuid7
from libs.common.logs import logger
from libs.common.pages import Listing, Page, listing
from libs.common.sealing import Unopenable
from services.registry.access import Access, AccessPatch
from services.registry.function_environments import unknown_environment
from services.registry.names import Reference, check_description, check_etag, check_name, etag_of
from services.registry.vault import Variable, Vault, size_of

MAX_VARIABLES: Final = 100
MAX_BYTES: Final = 65_536
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_NAMES: Final = "1 to 128 letters, digits and underscores, no digit first"
# How many functions the error for an environment in use names.
_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment as it is now.

    Attributes:
        variables: By name; empty in lists.
        revision: Rises with every change.
        edition: Counts updates.
    """

    id: UUID
    name: str
    description: str
    access: Access
    created_by: str
    revision: int
    edition: int
    created_at: datetime
    updated_at: datetime
    variables: Mapping[str, Variable]

    @property
    def etag(self) -> str:
        """What a caller sends back to change only this edition."""
        return etag_of(self.id, self.edition)


@dataclass(frozen=True, slots=True)
class Changes:
    """Variables as a caller sets them, by name, and names of those that go."""

    variables: Mapping[str, str]
    secrets: Mapping[str, str]
    removed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class NewEnvironment:
    """What a caller wants to create."""

    name: str
    description: str
    changes: Changes
    access: AccessPatch


@dataclass(frozen=True, slots=True)
class EnvironmentPatch:
    """What a caller wants to change; None stays as it is."""

    description: str | None
    changes: Changes
    access: AccessPatch
    etag: str


@dataclass(frozen=True, slots=True)
class Shown:
    """What is told of an environment's variables.

    Attributes:
        variables: Values of those that are not secret, by name.
        secret_names: Names of the others.
        broken_names: Of those that cannot be opened.
    """

    variables: Mapping[str, str]
    secret_names: Sequence[str]
    broken_names: Sequence[str]


class Store(Protocol):
    """What the domain asks of storage inside one transaction."""

    async def insert_environment(self, identity: UUID, new: NewEnvironment, access: Access, created_by: str) -> bool: ...
    async def lock_environment(self, reference: Reference) -> Environment | None: ...
    async def update_environment(self, environment: Environment) -> None: ...
    async def put_variables(self, identity: UUID, variables: Mapping[str, Variable]) -> None: ...
    async def delete_variables(self, identity: UUID, names: Sequence[str]) -> None: ...
    async def list_readers(self, identity: UUID, most: int) -> Sequence[str]: ...
    async def delete_environment(self, identity: UUID) -> int: ...
    async def announce(self, identity: UUID) -> None: ...


class Repository(Protocol):
    """What the domain asks of storage."""

    def transaction(self) -> AbstractAsyncContextManager[Store]: ...
    async def find_environment(self, reference: Reference) -> Environment | None: ...
    async def list_environments(self, before: UUID | None, most: int, viewer: Principal) -> Sequence[Environment]: ...


class Environments:
    """The environments of one installation. What the caller may not access is not there.

    Args:
        repository: Where they are kept.
        vault: Seals their values.
        caller: Who makes the call that is being served.
    """

    def __init__(self, repository: Repository, vault: Vault, caller: Callable[[], Principal]) -> None:
        self._repository = repository
        self._vault = vault
        self._caller = caller

    async def create(self, new: NewEnvironment) -> Environment:
        """Creates an environment.

        Raises:
            InvalidArgument: a field is bad.
            AlreadyExists: the name is taken.
        """
        check_name(new.name)
        check_description(new.description)
        access = new.access.applied(Access())
        identity = uuid7()
        variables = self._changed(identity, {}, new.changes)
        async with self._repository.transaction() as store:
            if not await store.insert_environment(identity, new, access, self._caller().id):
                raise AlreadyExists(f"an environment named {new.name} exists; choose another name or update that one", reason="NAME_TAKEN")
            await store.put_variables(identity, variables)
            await store.announce(identity)
            return self._found(await store.lock_environment(Reference(identity, "")), new.name)

    async def get(self, reference: str) -> Environment:
        """One environment.

        Raises:
            NotFound: there is none.
        """
        return self._found(await self._repository.find_environment(_reference(reference)), reference)

    async def list(self, page: Page) -> Listing[Environment]:
        """Environments, newest first, without variables."""
        found = await self._repository.list_environments(page.key(parse_uuid), page.size + 1, self._caller())
        return listing(page, found, lambda one: str(one.id))

    async def update(self, reference: str, patch: EnvironmentPatch) -> Environment:
        """Changes an environment.

        Raises:
            InvalidArgument: a field is bad.
            NotFound: there is no such environment.
            Aborted: the environment is no longer the edition that the patch was made for.
        """
        if patch.description is not None:
            check_description(patch.description)
        async with self._repository.transaction() as store:
            environment = self._found(await store.lock_environment(_reference(reference)), reference)
            check_etag("environment", environment.etag, patch.etag)
            variables = self._changed(environment.id, environment.variables, patch.changes)
            new = {name: one for name, one in variables.items() if environment.variables.get(name) is not one}
            await store.delete_variables(environment.id, patch.changes.removed)
            await store.put_variables(environment.id, new)
            await store.update_environment(
                replace(
                    environment,
                    description=environment.description if patch.description is None else patch.description,
                    access=patch.access.applied(environment.access),
                )
            )
            await store.announce(environment.id)
            return self._found(await store.lock_environment(Reference(environment.id, "")), reference)

    async def delete(self, reference: str) -> tuple[UUID, int]:
        """Deletes an environment; answers with its id and the revision that tells of it.

        Raises:
            NotFound: there is no such environment.
            FailedPrecondition: a function reads it.
        """
        async with self._repository.transaction() as store:
            environment = self._found(await store.lock_environment(_reference(reference)), reference)
            audit.about(environment.id)
            if readers := await store.list_readers(environment.id, _NAMED + 1):
                raise _in_use(environment, readers)
            revision = await store.delete_environment(environment.id)
            await store.announce(environment.id)
            return environment.id, revision

    def shown(self, environment: Environment) -> Shown:
        """What a caller may see of its variables."""
        values: dict[str, str] = {}
        secret, broken = [], []
        for name, variable in sorted(environment.variables.items()):
            try:
                value = self._vault.open(environment.id, name, variable)
            except Unopenable as error:
                logger().error("variable_broken", environment=environment.name, variable=name, error=str(error))
                broken.append(name)
                continue
            if variable.secret:
                secret.append(name)
            else:
                values[name] = value
        return Shown(values, secret, broken)

    def _changed(self, identity: UUID, variables: Mapping[str, Variable], changes: Changes) -> Mapping[str, Variable]:
        """An environment's variables after a change.

        Raises:
            InvalidArgument: a name or value is bad, one is named twice, or there are too many.
        """
        _check_changes(changes)
        changed = {name: one for name, one in variables.items() if name not in changes.removed}
        for given, secret in ((changes.variables, False), (changes.secrets, True)):
            changed |= {name: self._vault.seal(identity, name, value, secret=secret) for name, value in given.items()}
        field = "variables" if changes.variables or not changes.secrets else "secrets"
        if len(changed) > MAX_VARIABLES or size_of(changed) > MAX_BYTES:
            raise _too_many(field, len(changed), size_of(changed))
        return changed

    def _found(self, environment: Environment | None, reference: str) -> Environment:
        """An environment that is there for the caller."""
        if environment is None or not can_access(self._caller(), environment.access):
            raise unknown_environment(reference)
        return environment


def _check_changes(changes: Changes) -> None:
    seen: dict[str, str] = {}
    for field, names in (("variables", changes.variables), ("secrets", changes.secrets), ("removed", changes.removed)):
        for name in names:
            if not _VARIABLE.fullmatch(name):
                raise InvalidArgument.of(field, f"{name[:100]!r} is no name of a variable: {_NAMES}")
            if seen.setdefault(name, field) != field:
                raise InvalidArgument.of(field, f"{name} is in {seen[name]} too")
    size = sum(len(name) + len(value.encode()) for values in (changes.variables, changes.secrets) for name, value in values.items())
    if len(changes.variables) + len(changes.secrets) > MAX_VARIABLES or size > MAX_BYTES:
        # What is kept besides is not looked at: sealing all of that to count it would hold up others.
        field = "variables" if changes.variables else "secrets"
        raise _too_many(field, len(changes.variables) + len(changes.secrets), size)
    for field, values in (("variables", changes.variables), ("secrets", changes.secrets)):
        for name, value in values.items():
            if "\0" in value:
                raise InvalidArgument.of(field, f"the value of {name} has a NUL character; remove it")


def _too_many(field: str, number: int, size: int) -> InvalidArgument:
    if number > MAX_VARIABLES:
        return InvalidArgument.of(field, f"make {number} in all; an environment has {MAX_VARIABLES} at most")
    return InvalidArgument.of(field, f"make {size} bytes in all; an environment has {MAX_BYTES} at most")


def _in_use(environment: Environment, readers: Sequence[str]) -> FailedPrecondition:
    named = ", ".join(readers[:_NAMED]) + (" and others" if len(readers) > _NAMED else "")
    return FailedPrecondition(
        f"{environment.name} is read by {named}; take it out of their environments first", reason="ENVIRONMENT_IN_USE"
    )


def _reference(text: str) -> Reference:
    return Reference.of(text, unknown_environment)
