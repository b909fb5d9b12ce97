"""The watch: executors follow every function, and changes wait a moment for them.

A watcher is registered before its snapshot is read, so that nothing falls between the two; what comes twice is told by its
revision. Changes arrive here by NOTIFY, from this registry and any other on the same database; after the listening connection was
lost, all functions are read again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from libs.common.postgres import Listener
from services.registry.repository import FunctionRepository, WatchedFunction

# How long a change waits for the watchers before it answers its caller all the same.
ACKNOWLEDGEMENT_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class SnapshotEnd:
    """The snapshot is complete up to this revision."""

    revision: int


Event = WatchedFunction | SnapshotEnd


@dataclass(eq=False, slots=True)
class _Watcher:
    """One connected watcher: events on their way to it, and the newest revision of each function that acts there."""

    events: "asyncio.Queue[WatchedFunction]" = field(default_factory=asyncio.Queue)
    acknowledged: dict[UUID, int] = field(default_factory=dict)
    snapshot: dict[UUID, int] = field(default_factory=dict)


class Watch:
    """All connected watchers."""

    def __init__(self, repository: FunctionRepository, listener: Listener) -> None:
        self._repository = repository
        self._listener = listener
        self._watchers: set[_Watcher] = set()
        self._progress = asyncio.Condition()
        # Function → newest revision pushed to the watchers, and when (monotonic seconds).
        self._pushed: dict[UUID, tuple[int, float]] = {}

    async def run(self) -> None:
        """Pushes changes to the watchers for ever."""
        async for payload in self._listener.events():
            identity = UUID(payload) if payload else None
            await self._push(await self._repository.watched_functions(identity))

    def follow(self) -> "Following":
        """A new watcher. Its events must be iterated and its acknowledgements handed in."""
        watcher = _Watcher()
        self._watchers.add(watcher)
        return Following(self, watcher)

    async def leave(self, watcher: _Watcher) -> None:
        """Forgets a watcher: nobody waits for it any more."""
        self._watchers.discard(watcher)
        await self.progressed()

    async def snapshot(self) -> Sequence[WatchedFunction]:
        """Every function, tombstones included, as one statement sees them."""
        return await self._repository.watched_functions()

    async def settled(self, identity: UUID, revision: int) -> None:
        """Returns once every connected watcher has acknowledged this revision of the function, or 250 ms after it was pushed."""
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

    async def _push(self, functions: Sequence[WatchedFunction]) -> None:
        for function in functions:
            if self._pushed.get(function.id, (0, 0.0))[0] < function.revision:
                self._pushed[function.id] = (function.revision, time.monotonic())
            for watcher in self._watchers:
                watcher.events.put_nowait(function)
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
        """The snapshot, its end, and then changes; each function's revisions rise."""
        try:
            snapshot = await self._watch.snapshot()
            for function in snapshot:
                self._sent[function.id] = function.revision
                yield function
            self._watcher.snapshot = dict(self._sent)
            yield SnapshotEnd(max(self._sent.values(), default=0))
            while True:
                function = await self._watcher.events.get()
                if function.revision > self._sent.get(function.id, 0):
                    self._sent[function.id] = function.revision
                    yield function
        finally:
            await self._watch.leave(self._watcher)

    async def acknowledge(self, identity: UUID | None, revision: int) -> None:
        """The watcher's word that an event now acts there; without an id: the snapshot."""
        acknowledged = self._watcher.acknowledged
        events = {identity: revision} if identity else self._watcher.snapshot
        for function, number in events.items():
            acknowledged[function] = max(acknowledged.get(function, 0), number)
        await self._watch.progressed()
