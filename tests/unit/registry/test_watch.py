"""The watch: nothing falls between a snapshot and the changes after it, and a change waits for its watchers, but not for long."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import pytest

from libs.common.ids import uuid7
from libs.common.postgres import Listener
from services.registry.access import Access
from services.registry.environment_repository import EnvironmentRepository, WatchedEnvironment
from services.registry.limits import Limits
from services.registry.repository import FunctionRepository, WatchedFunction
from services.registry.watch import ACKNOWLEDGEMENT_SECONDS, Event, Following, SnapshotEnd, Watch

LIMITS = Limits(1, 2, 3, 4, 5)


class Repository:
    """Functions and environments as a test has them; a read of functions can be held up."""

    def __init__(self) -> None:
        self.functions: dict[UUID, WatchedFunction] = {}
        self.environments: dict[UUID, WatchedEnvironment] = {}
        self.may_read = asyncio.Event()
        self.may_read.set()

    async def watched_functions(self, identity: UUID | None = None) -> Sequence[WatchedFunction]:
        """What is there when the read begins."""
        found = [one for one in self.functions.values() if identity in (None, one.id)]
        await self.may_read.wait()
        return found

    async def watched_environments(self, identity: UUID | None = None) -> Sequence[WatchedEnvironment]:
        """What is there."""
        return [one for one in self.environments.values() if identity in (None, one.id)]


class Notifications:
    """Notifications as a test sends them."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[str | None] = asyncio.Queue()

    async def events(self) -> AsyncIterator[str | None]:
        """In the order of sending."""
        while True:
            yield await self.waiting.get()
            self.waiting.task_done()


class Registry:
    """A watch over both."""

    def __init__(self) -> None:
        self.repository, self.notifications = Repository(), Notifications()
        repositories = cast(FunctionRepository, self.repository), cast(EnvironmentRepository, self.repository)
        self.watch = Watch(*repositories, cast(Listener, self.notifications))
        self._revision = 0

    def change(self, identity: UUID | None = None, *, told: bool = True, **values: Any) -> WatchedFunction:
        """A function, new or changed, of which a notification tells."""
        self._revision += 1
        before = self.repository.functions.get(identity) if identity else None
        changed = (
            replace(before, revision=self._revision, **values)
            if before
            else WatchedFunction(uuid7(), "greet", self._revision, False, LIMITS, None, None, None, Access(), ())
        )
        self.repository.functions[changed.id] = changed
        if told:
            self.notifications.waiting.put_nowait(str(changed.id))
        return changed

    def change_environment(self, identity: UUID) -> WatchedEnvironment:
        """An environment, new or changed, of which a notification tells."""
        self._revision += 1
        changed = self.repository.environments[identity] = WatchedEnvironment(identity, "production", self._revision, False, {})
        self.notifications.waiting.put_nowait(str(identity))
        return changed

    async def pushed(self) -> None:
        """Returns once the watch has worked on every notification so far."""
        async with asyncio.timeout(5):
            await self.notifications.waiting.join()

    def settling(self, function: WatchedFunction | WatchedEnvironment) -> "asyncio.Task[None]":
        """A change that waits to answer its caller."""
        return asyncio.create_task(self.watch.settled(function.id, function.revision))

    @asynccontextmanager
    async def follower(self) -> AsyncIterator["Follower"]:
        """A watcher that has its snapshot."""
        following = self.watch.follow()
        events = following.events()
        follower = Follower(following, events)
        await follower.until_snapshot_end()
        try:
            yield follower
        finally:
            await cast(Any, events).aclose()


class Follower:
    """A watcher, as an executor is one."""

    def __init__(self, following: Following, events: AsyncIterator[Event]) -> None:
        self.following, self.events = following, events
        self.snapshot: list[WatchedFunction | WatchedEnvironment] = []
        self.end = SnapshotEnd(-1)

    async def next(self) -> Event:
        """The next event."""
        return await asyncio.wait_for(anext(self.events), 5)

    async def next_function(self) -> WatchedFunction:
        """The next event, which is a function."""
        event = await self.next()
        assert isinstance(event, WatchedFunction)
        return event

    async def until_snapshot_end(self) -> None:
        """Reads the snapshot."""
        while not isinstance(event := await self.next(), SnapshotEnd):
            self.snapshot.append(event)
        self.end = event

    async def acknowledge(self, function: WatchedFunction | WatchedEnvironment) -> None:
        """Says that it acts by it."""
        await self.following.acknowledge(function.id, function.revision)


async def a_moment() -> None:
    """Lets every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    """A registry that hears its notifications."""
    made = Registry()
    running = asyncio.create_task(made.watch.run())
    yield made
    await cancelled(running)


# What a watcher is told


async def test_a_snapshot_has_every_function_and_ends_with_the_highest_revision(registry: Registry) -> None:
    one, other = registry.change(), registry.change()
    gone = registry.change(one.id, deleted=True)

    async with registry.follower() as follower:
        assert follower.snapshot == [gone, other]
        assert follower.end == SnapshotEnd(gone.revision)


async def test_an_empty_snapshot_ends_too(registry: Registry) -> None:
    async with registry.follower() as follower:
        assert (follower.snapshot, follower.end) == ([], SnapshotEnd(0))


async def test_a_change_while_the_snapshot_is_read_is_not_lost(registry: Registry) -> None:
    old = registry.change(told=False)
    registry.repository.may_read.clear()
    following = registry.watch.follow()
    follower = Follower(following, following.events())
    reading = asyncio.create_task(follower.until_snapshot_end())
    await a_moment()

    new = registry.change(old.id, live_version=1)
    registry.repository.may_read.set()
    await reading

    assert follower.snapshot == [old]
    assert await follower.next_function() == new


async def test_what_the_snapshot_has_already_is_not_told_again(registry: Registry) -> None:
    following = registry.watch.follow()
    follower = Follower(following, following.events())
    first = registry.change()
    await registry.pushed()

    await follower.until_snapshot_end()
    second = registry.change(first.id, live_version=1)

    assert follower.snapshot == [first]
    assert await follower.next_function() == second


async def test_changes_are_told_with_rising_revisions_and_stale_reads_are_not(registry: Registry) -> None:
    old = registry.change(told=False)
    async with registry.follower() as follower:
        new = registry.change(old.id, live_version=2)
        assert await follower.next_function() == new

        registry.repository.functions[old.id] = old
        registry.notifications.waiting.put_nowait(str(old.id))
        other = registry.change()

        assert await follower.next_function() == other


async def test_after_a_lost_connection_every_function_is_read_again(registry: Registry) -> None:
    async with registry.follower() as follower:
        missed = registry.change(told=False)

        registry.notifications.waiting.put_nowait(None)

        assert await follower.next_function() == missed


async def test_every_watcher_is_told(registry: Registry) -> None:
    async with registry.follower() as one, registry.follower() as other:
        changed = registry.change()

        assert await one.next_function() == await other.next_function() == changed


# How long a change waits


async def test_a_change_without_watchers_waits_for_nobody(registry: Registry) -> None:
    settling = registry.settling(registry.change())
    await a_moment()

    assert settling.done()


async def test_a_change_waits_for_every_watcher(registry: Registry) -> None:
    async with registry.follower() as one, registry.follower() as other:
        changed = registry.change()
        settling = registry.settling(changed)
        await one.next()
        await other.next()

        await one.acknowledge(changed)
        await a_moment()
        waited = not settling.done()
        await other.acknowledge(changed)
        await a_moment()

        assert waited
        assert settling.done()


async def test_a_later_revision_acknowledges_those_before_and_an_earlier_one_does_not(registry: Registry) -> None:
    async with registry.follower() as follower:
        first = registry.change()
        second = registry.change(first.id)
        await follower.acknowledge(first)
        settled_first, settling_second = registry.settling(first), registry.settling(second)
        await a_moment()
        assert (settled_first.done(), settling_second.done()) == (True, False)

        await follower.acknowledge(second)
        await follower.acknowledge(first)
        await a_moment()

        assert settling_second.done()
        settled_late = registry.settling(first)
        await a_moment()
        assert settled_late.done()


async def test_a_word_on_the_snapshot_acknowledges_what_it_held_and_nothing_since(registry: Registry) -> None:
    old = registry.change(told=False)
    async with registry.follower() as follower:
        new = registry.change(old.id)
        await follower.following.acknowledge(None, follower.end.revision)
        settled_old, settling_new = registry.settling(old), registry.settling(new)
        await a_moment()

        assert (settled_old.done(), settling_new.done()) == (True, False)
        await cancelled(settling_new)


async def test_a_word_before_the_snapshot_ends_acknowledges_nothing(registry: Registry) -> None:
    function = registry.change(told=False)
    following = registry.watch.follow()

    await following.acknowledge(None, function.revision)
    settling = registry.settling(function)
    await a_moment()

    assert not settling.done()
    await cancelled(settling)


async def test_a_watcher_that_leaves_is_waited_for_no_longer(registry: Registry) -> None:
    async with registry.follower():
        settling = registry.settling(registry.change())
        await a_moment()
        waited = not settling.done()
    await a_moment()

    assert waited
    assert settling.done()


async def test_a_watcher_whose_snapshot_cannot_be_read_is_waited_for_no_longer(registry: Registry) -> None:
    registry.repository.may_read.clear()
    following = registry.watch.follow()
    reading = asyncio.create_task(Follower(following, following.events()).until_snapshot_end())
    settling = registry.settling(registry.change(told=False))
    await a_moment()
    waited = not settling.done()

    await cancelled(reading)
    await a_moment()

    assert waited
    assert settling.done()


async def test_a_silent_watcher_is_waited_for_250_ms_from_the_push(registry: Registry) -> None:
    async with registry.follower() as follower:
        changed = registry.change()
        began = time.monotonic()

        await asyncio.wait_for(registry.watch.settled(changed.id, changed.revision), 5)

        assert ACKNOWLEDGEMENT_SECONDS == 0.25
        assert time.monotonic() - began >= ACKNOWLEDGEMENT_SECONDS - 0.01
        assert await follower.next_function() == changed
        settling = registry.settling(changed)
        await a_moment()
        assert settling.done()


async def test_what_is_never_pushed_is_waited_for_a_little_longer(registry: Registry) -> None:
    async with registry.follower():
        changed = registry.change(told=False)
        began = time.monotonic()

        await asyncio.wait_for(registry.watch.settled(changed.id, changed.revision), 5)

        assert time.monotonic() - began >= 2 * ACKNOWLEDGEMENT_SECONDS - 0.05


# Environments


async def test_environments_come_before_the_functions_that_read_them_and_are_there_though_they_are_made_meanwhile() -> None:
    registry = Registry()
    registry.repository.may_read.clear()
    following = registry.watch.follow()
    function, identity = registry.change(told=False), uuid7()
    first = asyncio.create_task(cast(Any, anext(following.events())))
    await a_moment()

    # What the snapshot reads of functions may name an environment that was made after the snapshot was asked for.
    environment = registry.change_environment(identity)
    registry.repository.may_read.set()

    assert await first == environment
    assert (await registry.watch.snapshot()) == [environment, function]


async def test_a_change_of_an_environment_waits_for_its_watchers_as_one_of_a_function_does(registry: Registry) -> None:
    identity = uuid7()
    async with registry.follower() as follower:
        environment = registry.change_environment(identity)
        settling = registry.settling(environment)
        told = await follower.next()
        await a_moment()
        assert (told, settling.done()) == (environment, False)

        await follower.acknowledge(environment)
        await asyncio.wait_for(settling, ACKNOWLEDGEMENT_SECONDS / 2)
