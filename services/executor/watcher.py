"""Follows the registry's watch: keeps the catalog true, and has code made ready as soon as it is told of."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import grpc
from kiln.registry.v1 import registry_pb2 as pb
from kiln.registry.v1 import registry_pb2_grpc

from libs.common.errors import KilnError
from libs.common.logs import logger
from services.executor.catalog import Catalog, CatalogEnvironment, CatalogFunction, Runnable
from services.executor.modules import Modules
from services.executor.repository import ExecutionRepository
from services.executor.sandbox.outcome import Limits

# How many modules are prepared at once, beside the calls being served.
PREPARING_AT_ONCE = 2
# How many of a snapshot's functions are prepared ahead, the newest first.
PREPARED_AT_START = 500


Words = asyncio.Queue[pb.WatchRequest]


@dataclass(slots=True)
class _Snapshot:
    """Ids of what a snapshot has told of so far that is not deleted."""

    functions: set[UUID] = field(default_factory=set)
    environments: set[UUID] = field(default_factory=set)


class Watcher:
    """One connection to the watch at a time; what the catalog knows stays while there is none."""

    def __init__(
        self,
        registry: "registry_pb2_grpc.RegistryInternalAsyncStub",
        catalog: Catalog,
        modules: Modules,
        executions: ExecutionRepository,
    ) -> None:
        self._registry = registry
        self._catalog = catalog
        self._modules = modules
        self._executions = executions
        self._preparing = asyncio.Semaphore(PREPARING_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    async def follow(self) -> None:
        """Follows until the stream ends."""
        words: asyncio.Queue[pb.WatchRequest] = asyncio.Queue()
        words.put_nowait(pb.WatchRequest())
        try:
            await self._take_all(self._registry.Watch(_spoken(words)), words)
        except grpc.aio.AioRpcError as error:
            logger().warning("watch_lost", code=error.code().name)
        finally:
            for task in self._tasks:
                task.cancel()

    async def _take_all(self, events: AsyncIterable[pb.WatchResponse], words: Words) -> None:
        snapshot: _Snapshot | None = _Snapshot()
        async for event in events:
            if event.HasField("function"):
                await self._take(event.function)
                if snapshot is None:
                    self._acknowledge(event.function, words)
                elif not event.function.deleted:
                    snapshot.functions.add(UUID(event.function.id))
            elif event.HasField("environment"):
                self._take_environment(event.environment)
                if snapshot is None:
                    words.put_nowait(pb.WatchRequest(id=event.environment.id, revision=event.environment.revision))
                elif not event.environment.deleted:
                    snapshot.environments.add(UUID(event.environment.id))
            elif snapshot is not None:
                self._catalog.complete(snapshot.functions, snapshot.environments)
                words.put_nowait(pb.WatchRequest(revision=event.snapshot_end))
                logger().info("watch_complete", functions=len(snapshot.functions), revision=event.snapshot_end)
                self._prepare_newest(snapshot.functions)
                snapshot = None

    async def _take(self, told: pb.WatchedFunction) -> None:
        identity = UUID(told.id)
        if told.deleted:
            self._catalog.delete(identity)
            self._spawn(self._remember_deletion(identity))
        else:
            self._catalog.put(function_from_proto(told))

    def _take_environment(self, told: pb.WatchedEnvironment) -> None:
        if told.deleted:
            self._catalog.delete_environment(UUID(told.id))
        else:
            self._catalog.put_environment(environment_from_proto(told))

    def _prepare_newest(self, functions: set[UUID]) -> None:
        for identity in sorted(functions, reverse=True)[:PREPARED_AT_START]:
            function = self._catalog.find(str(identity))
            if function and function.live:
                self._spawn(self._prepare(function.live, ahead=True))

    def _acknowledge(self, told: pb.WatchedFunction, words: Words) -> None:
        """Says that a change acts. Its code is made ready behind that: whoever waits for READY need not wait for it, and a call does."""
        words.put_nowait(pb.WatchRequest(id=told.id, revision=told.revision))
        if told.HasField("live"):
            self._spawn(self._prepare(runnable_from_proto(told.live)))

    async def _prepare(self, runnable: Runnable, *, ahead: bool = False) -> None:
        async with self._preparing:
            if ahead and self._modules.is_full:
                # No call may ever come for it, and those whose place it would take have had some.
                return
            try:
                await self._modules.ensure(runnable)
            except KilnError as error:
                # The call that needs it meets the same error, and tells its caller.
                logger().warning("not_prepared", digest=runnable.artifact_digest, error=error.message)

    async def _remember_deletion(self, identity: UUID) -> None:
        while True:
            try:
                return await self._executions.remember_deletion(identity)
            except KilnError:
                await asyncio.sleep(1)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _spoken(words: Words) -> AsyncIterator[pb.WatchRequest]:
    while True:
        yield await words.get()


def function_from_proto(told: pb.WatchedFunction) -> CatalogFunction:
    """A function as the catalog keeps it."""
    return CatalogFunction(
        id=UUID(told.id),
        name=told.name,
        revision=told.revision,
        live=runnable_from_proto(told.live) if told.HasField("live") else None,
        limits=Limits(
            timeout_ms=told.limits.timeout_ms,
            memory_mb=told.limits.memory_mb,
            max_output_bytes=told.limits.max_output_bytes,
            max_log_bytes=told.limits.max_log_bytes,
        ),
        max_concurrency=told.limits.max_concurrency,
        allowed_users=frozenset(told.allowed_users),
        allowed_groups=frozenset(told.allowed_groups),
        environments=tuple(map(UUID, told.environments)),
    )


def environment_from_proto(told: pb.WatchedEnvironment) -> CatalogEnvironment:
    """An environment as the catalog keeps it."""
    return CatalogEnvironment(UUID(told.id), told.name, told.revision, None if told.broken else dict(told.values))


def runnable_from_proto(told: pb.RunnableVersion) -> Runnable:
    """A version as the catalog keeps it."""
    return Runnable(told.version, told.artifact_digest, told.abi)
