"""Which functions there are, what runs when they are called, and what they read: what the watch has told, kept in memory."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from libs.common.bounded import Bounded
from libs.common.errors import Unavailable
from libs.common.ids import parse_uuid
from services.executor.sandbox.outcome import Limits

# How many deletions are remembered, for calls that were on their way.
MAX_DELETED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Runnable:
    """A version that can be run."""

    version: int
    artifact_digest: str
    abi: str


@dataclass(frozen=True, slots=True)
class CatalogFunction:
    """A function as the registry last told of it.

    Attributes:
        live: None while nothing serves.
        limits: What one run may use.
        max_concurrency: How many runs there may be at once, those that wait included.
        allowed_users: Ids of the users who may access it.
        allowed_groups: Ids of the groups whose users may.
        environments: Ids of those that it reads; of a name in two of them the later one's value.
    """

    id: UUID
    name: str
    revision: int
    live: Runnable | None
    limits: Limits
    max_concurrency: int
    allowed_users: frozenset[str] = frozenset()
    allowed_groups: frozenset[str] = frozenset()
    environments: Sequence[UUID] = ()


@dataclass(frozen=True, slots=True)
class CatalogEnvironment:
    """An environment as the registry last told of it.

    Attributes:
        values: Of its variables by name; None where the registry cannot open it. They are in no `repr`.
    """

    id: UUID
    name: str
    revision: int
    values: Mapping[str, str] | None = field(repr=False)


class Catalog:
    """Functions by id and by name, and environments. Empty and unusable until the first snapshot is complete."""

    def __init__(self) -> None:
        self._by_id: dict[UUID, CatalogFunction] = {}
        # By its id as it is usually written, for calls that name it so.
        self._by_text: dict[str, CatalogFunction] = {}
        self._by_name: dict[str, CatalogFunction] = {}
        self._environments: dict[UUID, CatalogEnvironment] = {}
        self._deleted: Bounded[UUID, None] = Bounded(MAX_DELETED)
        self._complete = asyncio.Event()

    def put(self, function: CatalogFunction) -> None:
        """Takes what is told of a function, unless something newer is known."""
        known = self._by_id.get(function.id)
        if known and known.revision > function.revision:
            return
        self.remove(function.id)
        self._by_id[function.id] = self._by_text[str(function.id)] = function
        self._by_name[function.name] = function

    def remove(self, identity: UUID) -> None:
        """Forgets a function."""
        known = self._by_id.pop(identity, None)
        self._by_text.pop(str(identity), None)
        if known and self._by_name.get(known.name) is known:
            del self._by_name[known.name]

    def delete(self, identity: UUID) -> None:
        """Forgets a function, and remembers that it was deleted; the oldest deletions are forgotten."""
        self.remove(identity)
        self._deleted.put(identity, None)

    def was_deleted(self, identity: UUID) -> bool:
        """Whether a function is known to have been deleted."""
        return identity in self._deleted

    def put_environment(self, environment: CatalogEnvironment) -> None:
        """Takes what is told of an environment, unless something newer is known. What was asked for may come after its deletion."""
        known = self._environments.get(environment.id)
        if environment.id not in self._deleted and (known is None or known.revision <= environment.revision):
            self._environments[environment.id] = environment

    def delete_environment(self, identity: UUID) -> None:
        """Forgets an environment, which no function reads any more, and remembers that it was deleted."""
        self._environments.pop(identity, None)
        self._deleted.put(identity, None)

    def values_for(self, function: CatalogFunction) -> Mapping[str, str]:
        """Values by name of all that a function reads.

        Raises:
            Unavailable: some are not known here.
        """
        values: dict[str, str] = {}
        for identity in function.environments:
            values |= self._values(identity, function)
        return values

    def _values(self, identity: UUID, function: CatalogFunction) -> Mapping[str, str]:
        environment = self._environments.get(identity)
        if environment is None:
            raise Unavailable(f"an environment that {function.name} reads is not known yet; try again", reason="STARTING", retry_after=1)
        if environment.values is None:
            raise Unavailable(
                f"{function.name} reads the environment {environment.name}, which cannot be opened; the registry's logs tell more",
                reason="ENVIRONMENT_BROKEN",
            )
        return environment.values

    def complete(self, functions: Iterable[UUID], environments: Iterable[UUID] = ()) -> None:
        """A snapshot has ended: what was not in it is gone."""
        for identity in set(self._by_id) - set(functions):
            self.remove(identity)
        for identity in set(self._environments) - set(environments):
            del self._environments[identity]
        self._complete.set()

    async def ready(self, timeout_seconds: float) -> None:
        """Returns once the first snapshot is complete.

        Raises:
            Unavailable: it is not in that time.
        """
        if self._complete.is_set():
            return
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._complete.wait()
        except TimeoutError:
            raise Unavailable("the executor is starting and does not know the functions yet", reason="STARTING", retry_after=1) from None

    def find(self, reference: str) -> CatalogFunction | None:
        """A function by id or by name."""
        found = self._by_text.get(reference) or self._by_name.get(reference)
        if found is None and (identity := parse_uuid(reference)):
            found = self._by_id.get(identity)
        return found

    def latest(self, function: CatalogFunction) -> CatalogFunction:
        """A function as it is told of now; as it was where it is gone."""
        return self._by_id.get(function.id, function)
