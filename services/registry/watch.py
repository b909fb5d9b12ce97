"""The watch: executors follow every function and environment, and changes wait a moment for them.

A watcher is registered before its snapshot is read, so that nothing falls between the two; what comes twice is told by its
revision. Changes arrive here by NOTIFY, from this registry and any other on the same database; after the listening connection was
lost, everything is read again. Environments come before the functions that read them.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from libs.common.postgres import Listener
from services.registry.environment_repository import EnvironmentRepository, WatchedEnvironment
from services.registry.repository import FunctionRepository, WatchedFunction

# How long a change waits for the watchers before it answers its caller all the same.
ACKNOWLEDGEMENT_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class SnapshotEnd:
    """The snapshot is complete up to this revision."""

    revision: int


Watched = WatchedFunction | WatchedEnvironment
Event = Watched | SnapshotEnd


@dataclass(eq=False, slots=True)
class _Watcher:
    """One connected watcher: events on their way to it, and the newest revision of everything that acts there."""

    events: "asyncio.Queue[Watched]" = field(default_factory=asyncio.Queue)
    acknowledged: dict[UUID, int] = field(default_factory=dict)
    snapshot: dict[UUID, int] = field(default_factory=dict)


class Watch:
    """All connected watchers."""

    def __init__(self, functions: FunctionRepository, environments: EnvironmentRepository, listener: Listener) -> None:
        self._functions = functions
        self._environments = environments
        self._listener = listener
        self._watchers: set[_Watcher] = set()
        self._progress = asyncio.Condition()
        # What has changed → newest revision pushed to the watchers, and when (monotonic seconds).
        self._pushed: dict[UUID, tuple[int, float]] = {}

    async def run(self) -> None:
        """Pushes changes to the watchers for ever."""
        async for payload in self._listener.events():
            identity = UUID(payload) if payload else None
            await self._push(await self._read(identity))

    def follow(self) -> "Following":
        """A new watcher. Its events must be iterated and its acknowledgements handed in."""
        watcher = _Watcher()
        self._watchers.add(watcher)
        return Following(self, watcher)

    async def leave(self, watcher: _Watcher) -> None:
        """Forgets a watcher: nobody waits for it any more."""
        self._watchers.discard(watcher)
        await self.progressed()

    async def snapshot(self) -> Sequence[Watched]:
        """Every environment and every function, tombstones included."""
        return await self._read(None)

    async def _read(self, identity: UUID | None) -> Sequence[Watched]:
        """All there is, or what has an id. Functions are read first: so each environment that they read is there."""
        functions = await self._functions.watched_functions(identity)
        return [*await self._environments.watched_environments(identity), *functions]

    async def settled(self, identity: UUID, revision: int) -> None:
        """Returns once every connected watcher has acknowledged this revision of something, or 250 ms after it was pushed."""
        give_up = time.monotonic() + 2 * ACKNOWLEDGEMENT_SECONDS
        while not self._acknowledged(identity, revision):
            pushed, at = self._pushed.get(identity, (0, 0.0))
            until = min(give_up, at + ACKNOWLEDGEMENT_SECONDS) if pushed >= revision else give_up
            try:
                async with asyncio.timeout(until - time.monotonic()), self._progress:
                    await self._progress.wait()
            except TimeoutError:
                return

    def _acknowledged(self, identity: UUID, revision: int) -> bool:
        return all(watcher.acknowledged.get(identity, 0) >= revision for watcher in self._watchers)

    async def _push(self, changed: Sequence[Watched]) -> None:
        for one in changed:
            if self._pushed.get(one.id, (0, 0.0))[0] < one.revision:
                self._pushed[one.id] = (one.revision, time.monotonic())
            for watcher in self._watchers:
                watcher.events.put_nowait(one)
        await self.progressed()

    async def progressed(self) -> None:
        """Lets everyone who waits look again."""
        async with self._progress:
            self._progress.notify_all()


class Following:
    """One watcher's stream."""

    def __init__(self, watch: Watch, watcher: _Watcher) -> None:
        self._watch = watch
        self._watcher = watcher
        self._sent: dict[UUID, int] = {}

    async def events(self) -> AsyncIterator[Event]:
        """The snapshot, its end, and then changes; the revisions of each one rise."""
        try:
            snapshot = await self._watch.snapshot()
            for one in snapshot:
                self._sent[one.id] = one.revision
                yield one
            self._watcher.snapshot = dict(self._sent)
            yield SnapshotEnd(max(self._sent.values(), default=0))
            while True:
                one = await self._watcher.events.get()
                if one.revision > self._sent.get(one.id, 0):
                    self._sent[one.id] = one.revision
                    yield one
        finally:
            await self._watch.leave(self._watcher)

    async def acknowledge(self, identity: UUID | None, revision: int) -> None:
        """The watcher's word that an event now acts there; without an id: the snapshot."""
        acknowledged = self._watcher.acknowledged
        events = {identity: revision} if identity else self._watcher.snapshot
        for one, number in events.items():
            acknowledged[one] = max(acknowledged.get(one, 0), number)
        await self._watch.progressed()
