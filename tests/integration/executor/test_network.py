"""Ways to the registry, the compiler and the database that are slow, or fall silent without a word."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
from kiln.executor.v1 import executor_pb2 as pb
from kiln.registry.v1 import registry_pb2

from libs.common.errors import DeadlineExceeded, KilnError, Unavailable
from libs.common.ids import uuid7
from libs.common.request import EXECUTION_ID_HEADER
from tests.integration.executor.guests import ECHO, answering
from tests.integration.executor.test_durability import MORE, calls_on, more
from tests.integration.executor.test_service import Executor, running
from tests.support.journals import Answers, check_answers
from tests.support.postgres import TestPostgres
from tests.support.proxy import Proxy, proxied, proxied_address
from tests.support.services import Services, running_services
from tests.support.waiting import until
from tests.support.watched import Registry

# Half a second there and back.
SLOW_SECONDS: Final = 0.25
CALLS: Final = 10


@dataclass(frozen=True)
class Networked:
    """An executor with warm code, and the three ways on which it asks others.

    Attributes:
        url: Of its database, by another way.
        services: What is at the end of the ways to the registry and the compiler.
        echo: The function whose code is warm.
    """

    executor: Executor
    url: str
    to_registry: Proxy
    to_compiler: Proxy
    to_database: Proxy
    services: Services
    registry: Registry
    echo: registry_pb2.WatchedFunction

    def unheard_of(self, output: str) -> registry_pb2.WatchedFunction:
        """A function that the registry tells of when it is asked, with code of its own."""
        function = self.registry.function(answering(output).wasm)
        self.registry.answer_for(function)
        return function

    def asked(self) -> Counter[str]:
        """How often each RPC has reached the registry or the compiler."""
        return Counter(call.name for call in self.services.calls if call.name != "Watch")


@pytest.fixture
async def networked(tmp_path: Path, postgres: TestPostgres) -> AsyncIterator[Networked]:
    url = await postgres.new_database()
    async with networked_executor(tmp_path, url) as made:
        yield made


@asynccontextmanager
async def networked_executor(folder: Path, url: str) -> AsyncIterator[Networked]:
    """An executor whose ways are in the hand of the test while the block runs; mended for its end."""
    with running_services() as (address, services):
        registry = Registry(services)
        echo = registry.function(ECHO.wasm)
        registry.announce(echo)
        registry.end_snapshot()
        async with (
            proxied_address(address) as (registry_address, to_registry),
            proxied_address(address) as (compiler_address, to_compiler),
            proxied(url) as (through, to_database),
            running(folder, through, registry_address, KILN_COMPILER_ADDRESS=compiler_address, **MORE) as executor,
        ):
            await executor.execute(echo.id)
            services.calls.clear()
            yield Networked(executor, url, to_registry, to_compiler, to_database, services, registry, echo)
            for way in (to_registry, to_compiler, to_database):
                way.delay_seconds = 0
                await way.cut()
                await way.mend()


async def hurried(executor: Executor, reference: str, seconds: float, **fields: Any) -> pb.Execution:
    """A call whose caller has so much time and no more."""
    request = pb.ExecuteFunctionRequest(id=reference, input_text=b"1", **fields)
    return await executor.stub.ExecuteFunction(request, timeout=seconds, metadata=((EXECUTION_ID_HEADER, str(uuid7())),))


async def test_slow_ways_make_calls_late_and_no_more_than_that(networked: Networked) -> None:
    executor, answers = networked.executor, Answers()
    functions = [networked.unheard_of(f'"{number}"') for number in range(3)]
    for way in (networked.to_registry, networked.to_compiler):
        way.delay_seconds = SLOW_SECONDS
    # A statement is several ways there and back.
    networked.to_database.delay_seconds = SLOW_SECONDS / 2

    warm = await asyncio.gather(*(executor.execute(networked.echo.id, b"%d" % number) for number in range(CALLS)))
    cold = await asyncio.gather(*(executor.execute(one.name) for one in functions for _ in range(CALLS)))
    committed = await executor.execute(networked.echo.id, b'"kept"', durability=pb.COMMIT)
    listed = await executor.list(networked.echo.id)

    assert [one.output_text for one in warm] == [b"%d" % number for number in range(CALLS)]
    assert [one.output_text for one in cold] == [b'"%d"' % number for number in range(3) for _ in range(CALLS)]
    assert listed.executions[0].id == committed.id
    # Every call asks once which version it runs; the code of one is asked for once for all.
    assert networked.asked() == {"ResolveVersion": len(cold), "GetArtifact": len(functions)}
    for one in (*warm, committed):
        answers.add(one, one.output_text)
    for one in cold:
        answers.add(one, b"1")
    await check_answers(networked.url, answers)


async def test_a_hurried_caller_on_a_slow_way_does_not_spoil_the_call_of_a_patient_one(networked: Networked) -> None:
    function = networked.unheard_of('"patient"')
    networked.to_compiler.delay_seconds = 4 * SLOW_SECONDS

    hasty = asyncio.create_task(hurried(networked.executor, function.id, 2 * SLOW_SECONDS))
    await asyncio.sleep(SLOW_SECONDS / 2)
    patient = await networked.executor.execute(function.id)
    (missed,) = await asyncio.gather(hasty, return_exceptions=True)

    assert patient.output_text == b'"patient"'
    assert isinstance(missed, DeadlineExceeded)
    assert networked.asked()["GetArtifact"] == 1


async def test_calls_that_need_nobody_go_on_and_the_others_end_while_the_registry_and_the_compiler_are_silent(
    networked: Networked,
) -> None:
    executor, function = networked.executor, networked.unheard_of('"late"')
    for way in (networked.to_registry, networked.to_compiler):
        await way.fall_silent()

    asking = [asyncio.ensure_future(executor.execute(function.id)) for _ in range(CALLS)]
    warm = [await executor.execute(networked.echo.id, b"%d" % number) for number in range(CALLS)]
    with pytest.raises(DeadlineExceeded):
        await hurried(executor, function.id, 1)
    ended = await asyncio.wait_for(asyncio.gather(*asking, return_exceptions=True), 30)

    assert [one.output_text for one in warm] == [b"%d" % number for number in range(CALLS)]
    assert {type(one) for one in ended} <= {Unavailable, DeadlineExceeded}
    assert not networked.asked()

    for way in (networked.to_registry, networked.to_compiler):
        await way.cut()
        await way.mend()
    await until(lambda: _answered(executor, function.id))
    deployed = await asyncio.to_thread(networked.registry.deploy, answering('"told"').wasm)
    assert (await executor.execute(deployed.id)).output_text == b'"told"'


async def test_calls_go_on_while_the_database_is_silent_and_nothing_is_lost(networked: Networked) -> None:
    executor, answers = networked.executor, Answers()
    async with calls_on(executor, networked.echo.id, answers):
        await more(answers, 20)
        await networked.to_database.fall_silent()
        before = networked.to_database.connections
        await more(answers, 100)

        with pytest.raises(DeadlineExceeded):
            await hurried(executor, networked.echo.id, 1, durability=pb.COMMIT)
        with pytest.raises((DeadlineExceeded, Unavailable)):
            await executor.list(networked.echo.id)
        found = await executor.get(UUID(next(reversed(answers.answered))))

        assert found.status == pb.Execution.COMPLETED
        # It asks again for what is its own, and for none of the calls.
        assert networked.to_database.connections - before < 10
        await networked.to_database.cut()
        await networked.to_database.mend()

    assert answers.failures == []
    await check_answers(networked.url, answers)


async def _answered(executor: Executor, reference: str) -> bool:
    try:
        await executor.execute(reference)
    except KilnError:
        return False
    return True
