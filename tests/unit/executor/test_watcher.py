"""What the watch tells acts here before it is acknowledged, and what it does not tell is not believed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

import grpc
import pytest
from kiln.registry.v1 import registry_pb2 as pb

from libs.common.errors import NotFound, Unavailable
from services.executor.catalog import Catalog, Runnable
from services.executor.modules import Modules
from services.executor.repository import ExecutionRepository
from services.executor.sandbox import Limits
from services.executor.watcher import PREPARING_AT_ONCE, Watcher
from tests.unit.executor.fakes import FakeHistory, FakeModules

ONE, OTHER = str(UUID(int=1)), str(UUID(int=2))
LOST = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "gone")
Acknowledgement = tuple[str, int]


def told(identity: str = ONE, revision: int = 1, *, name: str = "echo", version: int = 1, deleted: bool = False) -> pb.WatchResponse:
    live = pb.RunnableVersion(version=version, artifact_digest=f"sha256:{version}", abi="assemblyscript") if version else None
    limits = pb.Limits(timeout_ms=1, memory_mb=2, max_output_bytes=3, max_log_bytes=4, max_concurrency=5)
    function = pb.WatchedFunction(id=identity, name=name, revision=revision, deleted=deleted, live=live, limits=limits)
    return pb.WatchResponse(function=function)


def end(revision: int) -> pb.WatchResponse:
    return pb.WatchResponse(snapshot_end=revision)


class FakeRegistry:
    """The registry's end of one watch after the other."""

    def __init__(self) -> None:
        self.heard: list[Acknowledgement] = []
        self._events: asyncio.Queue[pb.WatchResponse | Exception] = asyncio.Queue()
        self._changed = asyncio.Condition()

    def tell(self, *events: pb.WatchResponse | Exception) -> None:
        for event in events:
            self._events.put_nowait(event)

    async def until_heard(self, *wanted: Acknowledgement) -> None:
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(lambda: set(wanted) <= set(self.heard))

    async def Watch(self, words: AsyncIterator[pb.WatchRequest]) -> AsyncIterator[pb.WatchResponse]:  # noqa: N802
        hearing = asyncio.create_task(self._hear(words))
        try:
            while True:
                event = await self._events.get()
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            hearing.cancel()

    async def _hear(self, words: AsyncIterator[pb.WatchRequest]) -> None:
        assert await anext(words) == pb.WatchRequest()
        async for word in words:
            async with self._changed:
                self.heard.append((word.id, word.revision))
                self._changed.notify_all()


class Following:
    """A watcher, what it keeps true, and the registry it follows."""

    def __init__(self) -> None:
        self.registry, self.catalog, self.modules, self.history = FakeRegistry(), Catalog(), FakeModules(), FakeHistory()
        modules, history = cast(Modules, self.modules), cast(ExecutionRepository, self.history)
        self.watcher = Watcher(cast(Any, self.registry), self.catalog, modules, history)

    def find(self, identity: str = ONE) -> Any:
        return self.catalog.find(identity)

    @asynccontextmanager
    async def connected(self, *snapshot: pb.WatchResponse, revision: int = 9) -> AsyncIterator[None]:
        """Follows while the block runs; begins once the snapshot is acknowledged."""
        self.registry.tell(*snapshot, end(revision))
        following = asyncio.create_task(self.watcher.follow())
        try:
            await self.registry.until_heard(("", revision))
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


@pytest.fixture
def following() -> Following:
    return Following()


async def settled() -> None:
    """Lets everything that can happen now happen."""
    for _ in range(50):
        await asyncio.sleep(0)


# The snapshot


async def test_the_executor_is_unavailable_until_the_snapshot_has_ended(following: Following) -> None:
    following.registry.tell(told())
    task = asyncio.create_task(following.watcher.follow())
    await settled()

    with pytest.raises(Unavailable):
        await following.catalog.ready(0.01)
    following.registry.tell(end(1))
    await following.catalog.ready(5)

    assert following.find() is not None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_snapshot_is_acknowledged_once_and_as_a_whole(following: Following) -> None:
    async with following.connected(told(ONE), told(OTHER, 2, name="other"), revision=2):
        await settled()

        assert following.registry.heard == [("", 2)]


async def test_a_function_arrives_whole(following: Following) -> None:
    async with following.connected(told(ONE, 5, version=3), told(OTHER, 6, name="other", version=0)):
        echo, other = following.find(ONE), following.find(OTHER)

    assert (echo.name, echo.revision, echo.live) == ("echo", 5, Runnable(3, "sha256:3", "assemblyscript"))
    assert echo.limits == Limits(timeout_ms=1, memory_mb=2, max_output_bytes=3, max_log_bytes=4)
    assert echo.max_concurrency == 5
    assert other.live is None


async def test_the_newest_functions_of_a_snapshot_are_prepared_first(following: Following) -> None:
    async with following.connected(*(told(str(UUID(int=number)), number, name=f"f{number}", version=number) for number in (2, 4, 1, 3))):
        await settled()

    assert [runnable.version for runnable in following.modules.ensured] == [4, 3, 2, 1]


async def test_nothing_is_prepared_ahead_where_it_would_push_out_what_is_there_and_what_becomes_ready_is(following: Following) -> None:
    following.modules.room = 2
    async with following.connected(*(told(str(UUID(int=number)), number, name=f"f{number}", version=number) for number in (1, 2, 3, 4))):
        await settled()
        assert [runnable.version for runnable in following.modules.ensured] == [4, 3]

        following.registry.tell(told(str(UUID(int=1)), 10, name="f1", version=9))
        await following.registry.until_heard((str(UUID(int=1)), 10))
        await settled()

    assert [runnable.version for runnable in following.modules.ensured] == [4, 3, 9]


async def test_what_is_absent_from_a_later_snapshot_is_gone_and_its_history_is_not(following: Following) -> None:
    async with following.connected(told(ONE), told(OTHER, 2, name="other")):
        pass

    async with following.connected(told(OTHER, 2, name="other"), revision=10):
        assert following.find(ONE) is None
        assert following.find(OTHER) is not None

    assert following.history.deleted == set()


async def test_what_a_snapshot_says_is_deleted_is_gone_with_its_history(following: Following) -> None:
    async with following.connected(told(ONE, version=0, deleted=True)):
        await following.history.until(lambda: following.history.deleted == {UUID(ONE)})

        assert following.find() is None


# Changes


async def test_a_change_acts_and_is_acknowledged_while_its_code_is_made_ready(following: Following) -> None:
    async with following.connected(told()):
        await settled()
        following.modules.may_prepare.clear()

        following.registry.tell(told(ONE, 10, version=2))
        await following.registry.until_heard((ONE, 10))

        assert following.find().live.version == 2
        assert following.modules.ensured[-1].version == 2


async def test_a_change_without_code_has_none_made_ready(following: Following) -> None:
    async with following.connected():
        following.registry.tell(told(ONE, 10, version=0))

        await following.registry.until_heard((ONE, 10))
        await settled()

        assert following.modules.ensured == []


@pytest.mark.parametrize("failure", [Unavailable("the compiler is away"), NotFound("there is no such artifact")])
async def test_a_change_whose_code_cannot_be_prepared_is_acknowledged_all_the_same(following: Following, failure: Exception) -> None:
    async with following.connected():
        following.modules.failure = failure
        following.registry.tell(told(ONE, 10))

        await following.registry.until_heard((ONE, 10))

        assert following.find().live.version == 1


async def test_so_much_code_is_prepared_at_once_and_no_more(following: Following) -> None:
    async with following.connected():
        following.modules.may_prepare.clear()
        following.registry.tell(*(told(str(UUID(int=number)), 10 + number, name=f"f{number}") for number in range(6)))
        await settled()
        following.modules.may_prepare.set()
        await following.registry.until_heard(*((str(UUID(int=number)), 10 + number) for number in range(6)))

    assert following.modules.most_at_once == PREPARING_AT_ONCE


async def test_a_deletion_acts_before_it_is_acknowledged_and_is_remembered(following: Following) -> None:
    async with following.connected(told()):
        following.registry.tell(told(ONE, 10, version=0, deleted=True))
        await following.registry.until_heard((ONE, 10))

        assert following.find() is None
        await following.history.until(lambda: following.history.deleted == {UUID(ONE)})


async def test_a_deletion_is_remembered_once_the_database_is_back(following: Following) -> None:
    following.history.away = {"remember_deletion": 1}

    async with following.connected(told()):
        following.registry.tell(told(ONE, 10, version=0, deleted=True))
        await following.registry.until_heard((ONE, 10))

        assert following.history.deleted == set()
        await following.history.until(lambda: following.history.deleted == {UUID(ONE)})


async def test_a_name_that_moves_to_another_function_is_found_there(following: Following) -> None:
    async with following.connected(told(ONE)):
        following.registry.tell(told(OTHER, 11, version=2), told(ONE, 10, version=0, deleted=True))
        await following.registry.until_heard((ONE, 10), (OTHER, 11))

        found = following.catalog.find("echo")
        assert found is not None
        assert found.id == UUID(OTHER)


# A watch that is lost


async def test_a_watch_that_is_lost_ends_quietly_and_what_is_known_stays(following: Following) -> None:
    async with following.connected(told()):
        following.registry.tell(LOST)
        await settled()

        assert following.find() is not None
        await following.catalog.ready(1)


async def test_following_returns_when_the_stream_is_lost(following: Following) -> None:
    following.registry.tell(told(), end(1), LOST)

    async with asyncio.timeout(5):
        await following.watcher.follow()


async def test_nobody_prepares_for_a_watch_that_is_lost(following: Following) -> None:
    following.modules.may_prepare.clear()
    following.registry.tell(end(1), told(ONE, 10), LOST)

    await following.watcher.follow()
    await settled()

    assert following.modules.preparing == 0
    assert (ONE, 10) not in following.registry.heard


# Environments


def told_environment(identity: str = OTHER, revision: int = 1, **fields: Any) -> pb.WatchResponse:
    return pb.WatchResponse(environment=pb.WatchedEnvironment(id=identity, name="production", revision=revision, **fields))


def reading(*environments: str) -> pb.WatchResponse:
    event = told(ONE)
    event.function.environments.extend(environments)
    return event


async def test_what_a_function_reads_is_known_with_the_snapshot_and_changes_as_it_is_told(following: Following) -> None:
    async with following.connected(told_environment(values={"A": "1"}), reading(OTHER)):
        await settled()
        assert following.registry.heard == [("", 9)]
        assert following.catalog.values_for(following.find()) == {"A": "1"}

        following.registry.tell(told_environment(revision=10, values={"A": "2"}))
        await following.registry.until_heard((OTHER, 10))
        assert following.catalog.values_for(following.find()) == {"A": "2"}

        following.registry.tell(told_environment(revision=11, broken=True))
        await following.registry.until_heard((OTHER, 11))
        with pytest.raises(Unavailable, match="cannot be opened"):
            following.catalog.values_for(following.find())


async def test_an_environment_that_is_deleted_or_not_in_a_snapshot_is_forgotten(following: Following) -> None:
    async with following.connected(told_environment(values={"A": "1"}), told_environment(OTHER, 2, deleted=True), reading(OTHER)):
        with pytest.raises(Unavailable, match="not known yet"):
            following.catalog.values_for(following.find())
        following.registry.tell(told_environment(revision=10, values={"A": "3"}))
        await following.registry.until_heard((OTHER, 10))

    async with following.connected(reading(OTHER), revision=12):
        with pytest.raises(Unavailable, match="not known yet"):
            following.catalog.values_for(following.find())
