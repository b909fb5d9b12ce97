"""Functions and versions: what may happen to them, and in which order."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

from libs.common import audit
from libs.common.access.functions import can_access_function, unknown_function
from libs.common.access.principal import Principal, can_access
from libs.common.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from libs.common.ids import parse_uuid, uuid7
from libs.common.pages import Listing, Page, listing
from services.registry.access import Access, AccessPatch
from services.registry.code import Code, CodePatch, CodePolicy
from services.registry.function_environments import NamedEnvironment, referred, resolved
from services.registry.languages import Language, check_available
from services.registry.limits import Limits, LimitsPatch, LimitsPolicy
from services.registry.names import Reference, check_description, check_etag, check_name, etag_of

# As protos and tables have it.
MAX_VERSION: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Function:
    """A function as it is now, with what its latest version says.

    Attributes:
        source: None in lists, and where the latest version is a module.
        promote_above: Only a version above this number takes over by itself.
        revision: Rises with every change that executors must know of.
        edition: Counts updates and rollbacks.
        created_by: Id of a user; empty where it is older than users.
        environments: What it reads, those alone that the caller may access.
    """

    id: UUID
    name: str
    description: str
    latest_version: int
    live_version: int | None
    promote_above: int
    limits: Limits
    revision: int
    edition: int
    created_at: datetime
    updated_at: datetime
    language: str
    source: str | None
    status: str
    compile_error: str
    diagnostics: Sequence[Mapping[str, Any]]
    access: Access
    created_by: str
    environments: Sequence[NamedEnvironment]

    @property
    def etag(self) -> str:
        """What a caller sends back to change only this edition."""
        return etag_of(self.id, self.edition)


@dataclass(frozen=True, slots=True)
class Version:
    """One version with its outcome. `source` is None in lists, and where it is a module."""

    function_id: UUID
    version: int
    language: str
    source: str | None
    status: str
    build: int
    failure_reason: str | None
    compile_error: str
    diagnostics: Sequence[Mapping[str, Any]]
    artifact_digest: str | None
    artifact_bytes: int | None
    abi: str | None
    queue_ms: int | None
    build_ms: int | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    created_by: str


@dataclass(frozen=True, slots=True)
class NewFunction:
    """What a caller wants to create; `environments` are named by id or name."""

    name: str
    description: str
    code: CodePatch
    limits: LimitsPatch
    access: AccessPatch
    environments: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class FunctionPatch:
    """What a caller wants to change; None stays as it is."""

    description: str | None
    code: CodePatch
    limits: LimitsPatch
    etag: str
    access: AccessPatch
    environments: Sequence[str] | None = None


class Store(Protocol):
    """What the domain asks of storage inside one transaction."""

    async def insert_function(self, identity: UUID, new: NewFunction, limits: Limits, access: Access, created_by: str) -> bool: ...
    async def lock_function(self, reference: Reference) -> Function | None: ...
    async def update_function(self, function: Function) -> None: ...
    async def touch_function(self, identity: UUID) -> None: ...
    async def roll_back_function(self, identity: UUID, version: int) -> None: ...
    async def delete_function(self, identity: UUID) -> int: ...
    async def find_version(self, identity: UUID, version: int) -> Version | None: ...
    async def find_code(self, identity: UUID, version: int) -> Code: ...
    async def insert_version(self, identity: UUID, version: int, code: Code, created_by: str) -> None: ...
    async def reset_version(self, identity: UUID, version: int) -> int | None: ...
    async def send_job(self, identity: UUID, version: int, build: int, code: Code) -> None: ...
    async def find_language(self, identity: str) -> Language | None: ...
    async def cancel_waiting_builds(self, identity: UUID) -> Sequence[tuple[int, int]]: ...
    async def fail_version(self, identity: UUID, version: int, build: int, reason: str, message: str) -> bool: ...
    async def find_environments(self, references: Sequence[Reference]) -> Sequence[NamedEnvironment]: ...
    async def read_environments(self, identity: UUID, environments: Sequence[UUID]) -> None: ...
    async def announce(self, identity: UUID) -> None: ...


class Repository(Protocol):
    """What the domain asks of storage."""

    def transaction(self) -> AbstractAsyncContextManager[Store]: ...
    async def find_function(self, reference: Reference) -> Function | None: ...
    async def list_functions(self, before: UUID | None, most: int, viewer: Principal) -> Sequence[Function]: ...
    async def find_version(self, identity: UUID, version: int) -> Version | None: ...
    async def list_versions(self, identity: UUID, below: int | None, most: int) -> Sequence[Version]: ...


class Functions:
    """The functions of one installation.

    Every change is one transaction: rows, the job and the announcement to watchers live or die together. What the caller may not access is
    not there.

    Args:
        repository: Where they are kept.
        limits: Defaults and ceilings.
        code: What code is taken.
        caller: Who makes the call that is being served.
    """

    def __init__(self, repository: Repository, limits: LimitsPolicy, code: CodePolicy, caller: Callable[[], Principal]) -> None:
        self._repository = repository
        self._caller = caller
        self._limits = limits
        self._code = code

    async def create(self, new: NewFunction) -> Function:
        """Creates a function whose version 1 waits to be built.

        Raises:
            InvalidArgument: a field is bad.
            AlreadyExists: the name is taken.
            FailedPrecondition: the language is not installed.
        """
        check_name(new.name)
        check_description(new.description)
        self._code.check(new.code)
        code = new.code.complete()
        limits = self._limits.complete(new.limits)
        access = new.access.applied(Access())
        wanted = referred(new.environments)
        identity = uuid7()
        async with self._repository.transaction() as store:
            if not await store.insert_function(identity, new, limits, access, self._caller().id):
                raise AlreadyExists(f"a function named {new.name} exists; choose another name or update that one", reason="NAME_TAKEN")
            await store.read_environments(identity, resolved(wanted, await store.find_environments(wanted)))
            await self._add_version(store, identity, 1, code)
            await store.announce(identity)
            return self._found(await store.lock_function(Reference(identity, "")), new.name)

    async def get(self, reference: str) -> Function:
        """One function.

        Raises:
            NotFound: there is none.
        """
        return self._found(await self._repository.find_function(_reference(reference)), reference)

    async def list(self, page: Page) -> Listing[Function]:
        """Functions, newest first."""
        before, caller = page.key(parse_uuid), self._caller()
        found = await self._repository.list_functions(before, page.size + 1, caller)
        return listing(page, [_as_seen_by(caller, one) for one in found], lambda one: str(one.id))

    async def update(self, reference: str, patch: FunctionPatch) -> Function:
        """Changes a function; a new source, module or language makes a version.

        Raises:
            InvalidArgument: a field is bad.
            NotFound: there is no such function.
            Aborted: the function is no longer the edition that the patch was made for.
            PermissionDenied: the caller's key is for some functions alone, and this one would read more than it does.
            FailedPrecondition: it makes a version in a language that is not installed.
        """
        if patch.description is not None:
            check_description(patch.description)
        self._code.check(patch.code)
        wanted = None if patch.environments is None else referred(patch.environments)
        async with self._repository.transaction() as store:
            function = self._found(await store.lock_function(_reference(reference)), reference)
            check_etag("function", function.etag, patch.etag)
            code = await self._new_code(store, function, patch.code)
            await store.update_function(
                replace(
                    function,
                    description=function.description if patch.description is None else patch.description,
                    limits=self._limits.patch(function.limits, patch.limits),
                    access=patch.access.applied(function.access),
                    latest_version=function.latest_version + (code is not None),
                )
            )
            if wanted is not None:
                self._refuse_more(function, wanted)
                await store.read_environments(function.id, resolved(wanted, await store.find_environments(wanted)))
            if code:
                await self._supersede_waiting_builds(store, function.id)
                await self._add_version(store, function.id, function.latest_version + 1, code)
            await store.announce(function.id)
            return self._found(await store.lock_function(Reference(function.id, "")), reference)

    async def delete(self, reference: str) -> tuple[UUID, int]:
        """Deletes a function; answers with its id and the revision that tells of it.

        Raises:
            NotFound: there is no such function.
        """
        async with self._repository.transaction() as store:
            function = self._found(await store.lock_function(_reference(reference)), reference)
            audit.about(function.id)
            await self._supersede_waiting_builds(store, function.id)
            revision = await store.delete_function(function.id)
            await store.announce(function.id)
            return function.id, revision

    async def roll_back(self, reference: str, version: int) -> Function:
        """Points live at a READY version; those that exist now no longer take over by themselves.

        Raises:
            InvalidArgument: not a number of a version.
            NotFound: there is no such function or version.
            FailedPrecondition: the version is not READY.
        """
        check_version(version)
        async with self._repository.transaction() as store:
            function = self._found(await store.lock_function(_reference(reference)), reference)
            target = _found_version(await store.find_version(function.id, version), version)
            if target.status != "READY":
                raise FailedPrecondition(f"version {version} is {target.status}; only READY ones serve", reason="VERSION_NOT_READY")
            await store.roll_back_function(function.id, version)
            await store.announce(function.id)
            return self._found(await store.lock_function(Reference(function.id, "")), reference)

    async def build_again(self, reference: str, version: int) -> Version:
        """Queues another build of a FAILED version.

        Raises:
            InvalidArgument: not a number of a version.
            NotFound: there is no such function or version.
            FailedPrecondition: the version is not FAILED, or its language is not installed.
        """
        check_version(version)
        async with self._repository.transaction() as store:
            function = self._found(await store.lock_function(_reference(reference)), reference)
            target = _found_version(await store.find_version(function.id, version), version)
            build = await store.reset_version(function.id, version)
            if build is None:
                raise FailedPrecondition(f"version {version} is {target.status}; only FAILED ones are built", reason="VERSION_NOT_FAILED")
            await self._queue_build(store, function.id, version, build, await store.find_code(function.id, version))
            await store.touch_function(function.id)
            await store.announce(function.id)
            return _found_version(await store.find_version(function.id, version), version)

    async def get_version(self, reference: str, version: int) -> tuple[Function, Version]:
        """One version, and its function as it was no earlier.

        Raises:
            InvalidArgument: not a number of a version.
            NotFound: there is no such function or version.
        """
        check_version(version)
        function = await self.get(reference)
        found = _found_version(await self._repository.find_version(function.id, version), version)
        return await self.get(str(function.id)), found

    async def list_versions(self, reference: str, page: Page) -> tuple[Function, Listing[Version]]:
        """Versions of a function, highest first, and the function as it was no earlier.

        Raises:
            NotFound: there is no such function.
        """
        function = await self.get(reference)
        below = page.key(_version_number)
        rows = await self._repository.list_versions(function.id, below, page.size + 1)
        return await self.get(str(function.id)), listing(page, rows, lambda one: str(one.version))

    def _refuse_more(self, function: Function, wanted: Sequence[Reference]) -> None:
        """A key that is narrowed to functions must not have them tell what is in environments that it cannot reach itself."""
        read = {one.id for one in function.environments} | {one.name for one in function.environments}
        if self._caller().functions and any(one.id not in read and one.name not in read for one in wanted):
            raise PermissionDenied(
                "the API key is for some functions alone, and cannot have them read other environments", reason="KEY_NARROWED"
            )

    def _found(self, function: Function | None, reference: str) -> Function:
        """A function that is there for the caller."""
        if function is None or not can_access_function(self._caller(), str(function.id), function.access):
            raise unknown_function(reference)
        return _as_seen_by(self._caller(), function)

    @staticmethod
    async def _new_code(store: Store, function: Function, patch: CodePatch) -> Code | None:
        """The code of the version that a patch makes; None when it makes none."""
        if patch == CodePatch():
            return None
        old = await store.find_code(function.id, function.latest_version)
        new = patch.applied(old)
        return None if new == old and function.status == "READY" else new

    async def _add_version(self, store: Store, identity: UUID, version: int, code: Code) -> None:
        await store.insert_version(identity, version, code, self._caller().id)
        await self._queue_build(store, identity, version, 1, code)

    @staticmethod
    async def _queue_build(store: Store, identity: UUID, version: int, build: int, code: Code) -> None:
        check_available(await store.find_language(code.language))
        await store.send_job(identity, version, build, code)

    @staticmethod
    async def _supersede_waiting_builds(store: Store, identity: UUID) -> None:
        for version, build in await store.cancel_waiting_builds(identity):
            message = "a newer version of the function arrived before this build began"
            await store.fail_version(identity, version, build, "SUPERSEDED", message)


def check_version(version: int) -> None:
    """Raises InvalidArgument unless the number may be a version's."""
    if version < 1:
        raise InvalidArgument.of("version", "must be a number from 1")


def _reference(text: str) -> Reference:
    return Reference.of(text, unknown_function)


def _as_seen_by(caller: Principal, function: Function) -> Function:
    """A function without the environments that a caller may not know of."""
    return replace(function, environments=[one for one in function.environments if can_access(caller, one.access)])


def _version_number(text: str) -> int | None:
    number = int(text)
    return number if 0 < number <= MAX_VERSION else None


def _found_version(version: Version | None, number: int) -> Version:
    if version is None:
        raise NotFound(f"the function has no version {number}", reason="VERSION_NOT_FOUND")
    return version
