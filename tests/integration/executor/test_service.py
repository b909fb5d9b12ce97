"""The executor as a process, behind a registry and a compiler that say what a test says."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import grpc
import psutil
import pytest
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp
from kiln.executor.v1 import executor_pb2 as pb
from kiln.executor.v1 import executor_pb2_grpc
from kiln.registry.v1 import registry_pb2

from libs.common.channel import open_channel
from libs.common.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from libs.common.ids import uuid7
from libs.common.request import EXECUTION_ID_HEADER, REQUEST_ID_HEADER
from libs.common.status import from_proto, from_rpc_error
from libs.local.ports import free_ports
from tests.integration.executor.guests import ECHO, ENDLESS, answering, guest, module
from tests.support.postgres import TestPostgres
from tests.support.processes import environment, running_process
from tests.support.proxy import proxied
from tests.support.services import running_services
from tests.support.watched import Registry

# One guest runs and one call waits, so that the third is refused.
SETTINGS: Final = {
    "KILN_EXECUTOR_WORKERS": "1",
    "KILN_EXECUTOR_MAX_WORKERS": "1",
    "KILN_EXECUTOR_MAX_WAITING": "1",
    "KILN_EXECUTOR_LEASE_SECONDS": "2",
    "KILN_EXECUTOR_PURGE_SECONDS": "0.2",
    "KILN_EXECUTOR_MAX_STREAMS": "1",
    "KILN_EXECUTOR_MAX_BATCH_INPUTS": "5",
}
PATIENT_MS: Final = 60_000
# Many times what it takes a worker to tell that its call runs long.
STALLED_SECONDS: Final = 0.25


@dataclass(frozen=True)
class Executor:
    """A running executor, and a client of it."""

    stub: "executor_pb2_grpc.ExecutorAsyncStub"
    process: psutil.Process

    def execute(self, reference: str, text: bytes = b"1", *, identity: UUID | None = None, **fields: Any) -> "Awaitable[pb.Execution]":
        metadata = ((EXECUTION_ID_HEADER, str(identity)),) if identity else ()
        return self.stub.ExecuteFunction(pb.ExecuteFunctionRequest(id=reference, input_text=text, **fields), metadata=metadata)

    def batch(self, reference: str, *texts: str, **fields: Any) -> "Awaitable[pb.ExecuteBatchResponse]":
        inputs = [text.encode() for text in texts]
        return self.stub.ExecuteBatch(pb.ExecuteBatchRequest(id=reference, input_texts=inputs, **fields))

    def calling(self, reference: str, text: bytes = b"1") -> "tuple[asyncio.Task[pb.Execution], UUID]":
        """A call in work, and its id."""

        async def call() -> pb.Execution:
            return await self.execute(reference, text, identity=identity)

        identity = uuid7()
        return asyncio.create_task(call()), identity

    async def get(self, identity: UUID) -> pb.Execution:
        return await self.stub.GetExecution(pb.GetExecutionRequest(id=str(identity), payload_form=pb.TEXT))

    async def list(self, reference: str, **fields: Any) -> pb.ListExecutionsResponse:
        return await self.stub.ListExecutions(pb.ListExecutionsRequest(id=reference, payload_form=pb.TEXT, **fields))

    async def until(self, identity: UUID, condition: Callable[[pb.Execution], bool], seconds: float = 20) -> pb.Execution:
        """A run, once it is in the history as a condition wants it."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    if condition(found := await self.get(identity)):
                        return found
                except NotFound:
                    pass
                await asyncio.sleep(0.02)

    async def status(self, identity: UUID, status: "pb.Execution.Status") -> pb.Execution:
        """A run, once it has a status."""
        return await self.until(identity, lambda found: found.status == status)

    async def runs_long(self, identity: UUID) -> None:
        """Returns once a run keeps its worker to itself. A call that comes before has a place there, and is RUNNING too."""
        await self.status(identity, pb.Execution.RUNNING)
        await asyncio.sleep(STALLED_SECONDS)


@pytest.fixture(scope="module")
async def url(postgres: TestPostgres) -> str:
    return await postgres.new_database()


@asynccontextmanager
async def running(home: Path, url: str, address: str, **more: str) -> AsyncIterator[Executor]:
    """An executor that follows the registry at an address while the block runs."""
    own = f"127.0.0.1:{free_ports(1)[0]}"
    others = {
        "KILN_DATABASE_URL": url,
        "KILN_REGISTRY_ADDRESS": address,
        "KILN_COMPILER_ADDRESS": address,
        "KILN_LISTEN_ADDRESS": own,
        "KILN_EXECUTOR_JOURNAL_FOLDER": str(home / "journal"),
    }
    starting = running_process("executor", own, home / "executor.log", **{**SETTINGS, **others, **more})
    # In a thread, since what it connects to may be served by this loop.
    process = await asyncio.to_thread(starting.__enter__)
    try:
        async with open_channel(own, None) as channel:
            yield Executor(executor_pb2_grpc.ExecutorStub(channel), process)
    finally:
        await asyncio.to_thread(starting.__exit__, None, None, None)


@pytest.fixture(scope="module")
async def executor(home: Path, url: str, registry: tuple[str, Registry]) -> AsyncIterator[Executor]:
    """One executor for all tests that leave it as it was."""
    async with running(home, url, registry[0]) as executor:
        yield executor


@pytest.fixture
def told(executor: Executor, registry: tuple[str, Registry]) -> Registry:
    """The registry that the executor follows."""
    return registry[1]


async def deployed(told: Registry, wasm: bytes, **facts: Any) -> registry_pb2.WatchedFunction:
    return await asyncio.to_thread(told.deploy, wasm, **facts)


def worker_of(executor: Executor) -> psutil.Process:
    """The process in which its guests run."""
    (worker,) = [child for child in executor.process.children() if "sandbox.worker" in " ".join(child.cmdline())]
    return worker


@asynccontextmanager
async def busy(executor: Executor, told: Registry) -> AsyncIterator[str]:
    """While the block runs, the only worker does too; the id of the function that it runs."""
    endless = await deployed(told, ENDLESS.wasm, timeout_ms=PATIENT_MS)
    call, identity = executor.calling(endless.id)
    await executor.runs_long(identity)
    try:
        yield endless.id
    finally:
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await executor.status(identity, pb.Execution.FAILED)


# Starting


async def test_an_executor_that_does_not_know_the_functions_yet_is_unavailable_and_finds_nothing_missing(home: Path, url: str) -> None:
    with running_services() as (address, services):
        registry = Registry(services)
        function = registry.function(ECHO.wasm)
        async with running(home, url, address) as starting:
            calls = [starting.execute(function.id), starting.execute("nobody"), starting.get(uuid7()), starting.list(function.id)]
            refusals = await asyncio.gather(*calls, return_exceptions=True)

            registry.announce(function)
            registry.end_snapshot()
            async with asyncio.timeout(10):
                answer = await starting.execute(function.id)

    assert [type(refusal) for refusal in refusals] == [Unavailable] * 4
    assert {refusal.reason for refusal in refusals if isinstance(refusal, Unavailable)} == {"STARTING"}
    assert answer.output_text == b"1"
    assert not [call for call in services.calls if call.name == "ResolveVersion"]


async def test_a_call_that_comes_while_the_snapshot_is_on_its_way_waits_for_it(home: Path, url: str) -> None:
    with running_services() as (address, services):
        registry = Registry(services)
        function = registry.function(ECHO.wasm)
        async with running(home, url, address) as starting:
            call, _ = starting.calling(function.id)
            await asyncio.sleep(0.2)
            registry.announce(function)
            registry.end_snapshot()

            assert (await call).output_text == b"1"


# What the registry tells


async def test_a_function_that_was_told_of_is_ready_before_its_first_call(executor: Executor, told: Registry) -> None:
    function = await deployed(told, answering('"ready"').wasm)
    # Longer than the making of its native code takes.
    await asyncio.sleep(2)

    answer = await executor.execute(function.name)

    assert (answer.output_text, answer.cold_start) == (b'"ready"', False)
    assert (answer.function_id, answer.function_name, answer.function_version) == (function.id, function.name, 1)


async def test_a_function_that_the_watch_has_not_told_of_is_asked_of_the_registry(executor: Executor, told: Registry) -> None:
    function = told.function(answering('"asked for"').wasm)
    told.answer_for(function)

    first, second = await executor.execute(function.name), await executor.execute(function.id)

    assert [answer.output_text for answer in (first, second)] == [b'"asked for"'] * 2
    assert [answer.cold_start for answer in (first, second)] == [True, False]


async def test_what_neither_the_watch_nor_the_registry_knows_is_not_found(executor: Executor, told: Registry) -> None:
    for asking in (executor.execute("nobody"), executor.list("nobody"), executor.get(uuid7())):
        with pytest.raises(NotFound):
            await asking


async def test_a_change_of_the_live_version_acts_on_the_next_call(executor: Executor, told: Registry) -> None:
    first = await deployed(told, answering("1").wasm)
    facts = {"identity": first.id, "name": first.name}

    answers = [await executor.execute(first.id)]
    for version in (2, 1, 2):
        await deployed(told, answering(str(version)).wasm, version=version, **facts)
        answers.append(await executor.execute(first.id))

    assert [(answer.function_version, answer.output_text) for answer in answers] == [(1, b"1"), (2, b"2"), (1, b"1"), (2, b"2")]


async def test_a_deleted_function_is_gone_at_once_and_its_history_soon(executor: Executor, told: Registry, url: str) -> None:
    function = await deployed(told, ECHO.wasm)
    answer = await executor.execute(function.id)

    await asyncio.to_thread(told.delete, function)

    for asking in (executor.execute(function.id), executor.list(function.name), executor.get(UUID(answer.id))):
        with pytest.raises(NotFound):
            await asking
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(20):
            # Other processes set no event.
            while await connection.fetchval(  # noqa: ASYNC110
                "SELECT count(*) FROM executor.executions WHERE function_id = $1", UUID(function.id)
            ):
                await asyncio.sleep(0.05)
    finally:
        await connection.close()


async def test_a_module_that_cannot_be_loaded_is_told_and_hurts_nobody(executor: Executor, told: Registry) -> None:
    broken = await deployed(told, module("(module)").wasm)
    working = await deployed(told, ECHO.wasm)

    with pytest.raises(Exception, match="does not export handle") as refusal:
        await executor.execute(broken.id)

    assert getattr(refusal.value, "reason", "") == "VERSION_UNLOADABLE"
    assert (await executor.execute(working.id)).output_text == b"1"


# A run from its beginning to its end


async def test_a_run_is_seen_while_it_runs_and_while_it_waits(executor: Executor, told: Registry) -> None:
    echo = await deployed(told, ECHO.wasm)

    async with busy(executor, told) as endless:
        call, identity = executor.calling(echo.id)
        waiting = await executor.status(identity, pb.Execution.PENDING)
        (runs,) = (await executor.list(endless, status=pb.Execution.RUNNING)).executions
    answer = await call

    assert not waiting.HasField("started_at")
    assert not runs.HasField("completed_at")
    assert not runs.HasField("output_text")
    assert answer.status == pb.Execution.COMPLETED
    assert answer.queue_us > 0


async def test_an_answer_is_what_the_history_says(executor: Executor, told: Registry) -> None:
    echo = await deployed(told, ECHO.wasm)
    request = pb.ExecuteFunctionRequest(id=echo.id, input_text=b' {"b":1,"a":1.10} ')

    answer = await executor.stub.ExecuteFunction(request, metadata=((REQUEST_ID_HEADER, "my-request"),))

    found = await executor.get(UUID(answer.id))
    assert (found.input_text, found.output_text) == (b' {"b":1,"a":1.10} ', b' {"b":1,"a":1.10} ')
    assert found.request_id == "my-request"
    found.ClearField("given")
    assert found == answer


async def test_a_call_for_which_there_is_no_room_is_told_when_to_come_back_and_leaves_nothing(executor: Executor, told: Registry) -> None:
    echo = await deployed(told, ECHO.wasm)

    async with busy(executor, told):
        waiting, first = executor.calling(echo.id)
        await executor.status(first, pb.Execution.PENDING)
        call, refused = executor.calling(echo.id, b"2")
        with pytest.raises(ResourceExhausted) as refusal:
            await call
    await waiting
    answer = await executor.execute(echo.id, b"3")

    assert (refusal.value.reason, refusal.value.retry_after) == ("TOO_MANY_CALLS", 1)
    assert [one.id for one in (await executor.list(echo.id)).executions] == [answer.id, str(first)]
    with pytest.raises(NotFound):
        await executor.get(refused)


async def test_a_call_whose_caller_goes_away_is_stopped_and_recorded(executor: Executor, told: Registry) -> None:
    endless = await deployed(told, ENDLESS.wasm, timeout_ms=PATIENT_MS)
    call, identity = executor.calling(endless.id)
    await executor.status(identity, pb.Execution.RUNNING)

    call.cancel()

    ended = await executor.status(identity, pb.Execution.FAILED)
    assert ended.error.type == pb.ExecutionError.CANCELLED
    echo = await deployed(told, ECHO.wasm)
    assert (await executor.execute(echo.id)).output_text == b"1"


async def test_a_call_whose_deadline_passes_is_stopped_and_recorded(executor: Executor, told: Registry) -> None:
    endless = await deployed(told, ENDLESS.wasm, timeout_ms=PATIENT_MS)
    identity = uuid7()

    with pytest.raises(Exception, match=r"(?i)deadline|longer"):
        await executor.stub.ExecuteFunction(
            pb.ExecuteFunctionRequest(id=endless.id), metadata=((EXECUTION_ID_HEADER, str(identity)),), timeout=0.5
        )

    ended = await executor.status(identity, pb.Execution.FAILED)
    assert ended.error.type == pb.ExecutionError.CANCELLED


async def test_an_id_is_run_once(executor: Executor, told: Registry) -> None:
    echo, identity = await deployed(told, ECHO.wasm), uuid7()

    answer = await executor.execute(echo.id, b"1", identity=identity)
    with pytest.raises(AlreadyExists):
        await executor.execute(echo.id, b"2", identity=identity)

    assert answer.id == str(identity)
    assert (await executor.get(identity)).output_text == b"1"


async def test_an_id_that_carries_no_time_is_refused(executor: Executor, told: Registry) -> None:
    echo = await deployed(told, ECHO.wasm)

    with pytest.raises(InvalidArgument, match=EXECUTION_ID_HEADER):
        await executor.execute(echo.id, identity=uuid4())


# As many at once as there is room for


async def test_a_function_has_as_many_runs_as_it_may_and_a_changed_limit_acts_on_the_next_call(executor: Executor, told: Registry) -> None:
    narrow = await deployed(told, ENDLESS.wasm, timeout_ms=PATIENT_MS, max_concurrency=1)
    facts = {"identity": narrow.id, "name": narrow.name, "timeout_ms": PATIENT_MS}
    call, identity = executor.calling(narrow.id)
    await executor.runs_long(identity)

    with pytest.raises(ResourceExhausted) as refusal:
        await executor.execute(narrow.id)
    await deployed(told, ENDLESS.wasm, max_concurrency=2, **facts)
    second, waiting = executor.calling(narrow.id)
    await executor.status(waiting, pb.Execution.PENDING)
    for one in (second, call):
        one.cancel()
    await asyncio.gather(call, second, return_exceptions=True)
    for run in (identity, waiting):
        await executor.status(run, pb.Execution.FAILED)

    assert (refusal.value.reason, refusal.value.retry_after) == ("TOO_MANY_CONCURRENT_CALLS", 1)
    assert len((await executor.list(narrow.id)).executions) == 2


async def test_a_batch_waits_for_its_turn_where_a_single_call_is_refused(executor: Executor, told: Registry) -> None:
    echo = await deployed(told, ECHO.wasm)

    async with busy(executor, told):
        waiting, identity = executor.calling(echo.id)
        await executor.status(identity, pb.Execution.PENDING)
        with pytest.raises(ResourceExhausted):
            await executor.execute(echo.id)
        batch = asyncio.ensure_future(executor.batch(echo.id, *map(str, range(5))))
        done, _ = await asyncio.wait([batch], timeout=1)
    await waiting
    answer = await batch

    assert not done
    assert [one.output_text for one in answer.executions] == [b"0", b"1", b"2", b"3", b"4"]
    assert [one.id for one in (await executor.list(echo.id)).executions][:5] == [one.id for one in reversed(answer.executions)]


async def test_a_bad_input_of_a_batch_has_its_refusal_alone_and_is_no_run(executor: Executor, told: Registry) -> None:
    echo = await deployed(told, ECHO.wasm)

    answer = await executor.batch(echo.id, "1", "{", "[" * 513 + "]" * 513, "2")

    assert [one.output_text for one in answer.executions] == [b"1", b"", b"", b"2"]
    assert [one.HasField("refusal") for one in answer.executions] == [False, True, True, False]
    assert [type(from_proto(one.refusal)) for one in answer.executions[1:3]] == [InvalidArgument] * 2
    assert [(one.id, one.status) for one in answer.executions[1:3]] == [("", pb.Execution.FAILED)] * 2
    assert all(one.error_message == one.refusal.message for one in answer.executions[1:3])
    assert len((await executor.list(echo.id)).executions) == 2


async def test_an_output_of_a_batch_that_is_no_value_has_run_and_says_so(executor: Executor, told: Registry) -> None:
    echo = await deployed(told, ECHO.wasm)

    answer = await executor.batch(echo.id, "1", "[" * 100 + "]" * 100, payload_form=pb.VALUE)

    fits, unfit = answer.executions
    kept = {one.id: one for one in (await executor.list(echo.id)).executions}
    assert (fits.output, fits.HasField("refusal")) == (Value(number_value=1), False)
    assert (unfit.status, from_proto(unfit.refusal).reason) == (pb.Execution.COMPLETED, "UNFIT_FOR_VALUE")
    assert kept[unfit.id].output_text == b"[" * 100 + b"]" * 100


async def test_a_batch_as_a_whole_is_refused_for_what_is_wrong_with_all_of_it(executor: Executor, told: Registry) -> None:
    echo, broken = await deployed(told, ECHO.wasm), await deployed(told, module("(module)").wasm)

    for call, kind in (
        (executor.batch("nobody", "1"), NotFound),
        (executor.batch(echo.id), InvalidArgument),
        (executor.batch(echo.id, *["1"] * 6), InvalidArgument),
        (executor.batch(echo.id, "1", version=0), InvalidArgument),
        (executor.batch(broken.id, "1"), FailedPrecondition),
    ):
        with pytest.raises(kind):
            await call
    assert not (await executor.list(echo.id)).executions


async def test_a_batch_whose_deadline_passes_is_stopped_and_its_rest_not_begun(executor: Executor, told: Registry) -> None:
    endless = await deployed(told, ENDLESS.wasm, timeout_ms=PATIENT_MS)

    with pytest.raises(Exception, match=r"(?i)deadline|longer"):
        await executor.stub.ExecuteBatch(pb.ExecuteBatchRequest(id=endless.id, input_texts=[b"1"] * 5), timeout=2)

    async with asyncio.timeout(20):
        # Other processes set no event.
        while not (await executor.list(endless.id, status=pb.Execution.FAILED)).executions:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    (ended,) = (await executor.list(endless.id)).executions
    assert ended.error.type == pb.ExecutionError.CANCELLED


async def test_a_stream_answers_in_order_and_so_many_may_be_open(executor: Executor, told: Registry) -> None:
    echo = await deployed(told, ECHO.wasm)
    stream: Any = executor.stub.ExecuteStream()
    for text in (b"1", b"{", b"2"):
        await stream.write(pb.ExecuteStreamRequest(id=echo.id, input_text=text))
    answers = [await stream.read() for _ in range(3)]

    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await executor.stub.ExecuteStream().read()
    await stream.done_writing()
    end = await stream.read()
    again: Any = executor.stub.ExecuteStream()
    await again.write(pb.ExecuteStreamRequest(id=echo.id, input_text=b"3"))

    assert [one.HasField("refusal") for one in answers] == [False, True, False], answers
    assert [answers[index].output_text for index in (0, 2)] == [b"1", b"2"]
    assert end is grpc.aio.EOF
    assert from_rpc_error(refusal.value).reason == "TOO_MANY_STREAMS"
    assert (await again.read()).output_text == b"3"
    again.cancel()


# Forms and filters


async def test_values_and_text_come_back_in_the_form_they_came_in(executor: Executor, told: Registry) -> None:
    echo = await deployed(told, ECHO.wasm)

    value = await executor.stub.ExecuteFunction(pb.ExecuteFunctionRequest(id=echo.id, input=Value(number_value=7)))
    text = await executor.execute(echo.id, b"18446744073709551616")
    both = await executor.execute(echo.id, b"[1.0]", payload_form=pb.VALUE)

    assert value.output.number_value == 7
    assert (await executor.get(UUID(value.id))).input_text == b"7"
    assert text.output_text == b"18446744073709551616"
    assert [one.number_value for one in both.output.list_value.values] == [1]


async def test_a_list_is_told_in_pages_that_lead_on(executor: Executor, told: Registry) -> None:
    echo = await deployed(told, ECHO.wasm)
    answers = [await executor.execute(echo.id, str(number).encode()) for number in range(5)]

    seen, token = [], ""
    while True:
        page = await executor.list(echo.id, page_size=2, page_token=token)
        seen.append([one.id for one in page.executions])
        await executor.execute(echo.id, b'"new"')
        token = page.next_page_token
        if not token:
            break

    ids = [answer.id for answer in reversed(answers)]
    assert seen == [ids[:2], ids[2:4], ids[4:]]


@pytest.mark.parametrize("year", [1, 1969, 9999])
async def test_a_list_takes_any_time_of_the_calendar(executor: Executor, told: Registry, year: int) -> None:
    echo = await deployed(told, ECHO.wasm)
    await executor.execute(echo.id)
    moment = Timestamp()
    moment.FromDatetime(datetime(year, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))

    after = (await executor.list(echo.id, started_after=moment)).executions
    before = (await executor.list(echo.id, started_before=moment)).executions

    assert (len(after), len(before)) == ((0, 1) if year == 9999 else (1, 0))


@pytest.mark.parametrize(
    "fields",
    [
        {"status": 99},
        {"error_type": 99},
        {"page_size": -1},
        {"page_token": "nonsense"},
        {"started_after": Timestamp(seconds=-(10**15))},
        {"started_before": Timestamp(seconds=1, nanos=-1)},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_a_filter_that_means_nothing_is_refused_by_its_name(executor: Executor, told: Registry, fields: dict[str, Any]) -> None:
    echo = await deployed(told, ECHO.wasm)

    with pytest.raises(InvalidArgument) as refusal:
        await executor.list(echo.id, **fields)

    assert [one.field for one in refusal.value.violations] == list(fields)


# Executors that die or stop


async def test_what_an_executor_ran_when_it_was_killed_is_ended_by_another(
    executor: Executor, told: Registry, home: Path, url: str, registry: tuple[str, Registry]
) -> None:
    endless = await deployed(told, ENDLESS.wasm, timeout_ms=PATIENT_MS)
    told.answer_for(endless)
    async with running(home, url, registry[0]) as doomed:
        call, identity = doomed.calling(endless.id)
        at_work = await executor.status(identity, pb.Execution.RUNNING)
        children = doomed.process.children()

        doomed.process.kill()
        await asyncio.gather(call, return_exceptions=True)

        ended = await executor.status(identity, pb.Execution.FAILED)
        _, alive = await asyncio.to_thread(psutil.wait_procs, children, 10)
    assert (ended.error.type, ended.started_at) == (pb.ExecutionError.PLATFORM, at_work.started_at)
    assert ended.HasField("completed_at")
    assert alive == []


async def test_a_worker_that_is_killed_costs_its_call_and_nothing_else(executor: Executor, told: Registry) -> None:
    endless, echo = await deployed(told, ENDLESS.wasm, timeout_ms=PATIENT_MS), await deployed(told, ECHO.wasm)
    call, identity = executor.calling(endless.id)
    await executor.status(identity, pb.Execution.RUNNING)

    worker_of(executor).kill()
    answer = await call

    assert (answer.status, answer.error.type) == (pb.Execution.FAILED, pb.ExecutionError.PLATFORM)
    assert (await executor.get(identity)).error == answer.error
    assert (await executor.execute(echo.id)).output_text == b"1"


async def test_a_version_that_kills_worker_after_worker_is_refused_for_a_while(executor: Executor, told: Registry) -> None:
    # A module of its own: it is the module that is kept out, whichever functions it is of.
    endless = await deployed(told, guest("(loop (br 0)) (unreachable)", "(func)").wasm, timeout_ms=PATIENT_MS)
    for _ in range(3):
        call, identity = executor.calling(endless.id)
        await executor.status(identity, pb.Execution.RUNNING)
        worker_of(executor).kill()
        assert (await call).error.type == pb.ExecutionError.PLATFORM

    with pytest.raises(FailedPrecondition) as refused:
        await executor.execute(endless.id)
    batch = await executor.batch(endless.id, "1", "2")

    assert refused.value.reason == "VERSION_QUARANTINED"
    assert 0 < (refused.value.retry_after or 0) <= 300
    assert [from_proto(one.refusal).reason for one in batch.executions] == ["VERSION_QUARANTINED"] * 2
    assert len((await executor.list(endless.id)).executions) == 3
    echo = await deployed(told, ECHO.wasm)
    assert (await executor.execute(echo.id)).output_text == b"1"


async def test_an_executor_that_stood_still_for_longer_than_a_call_may_last_keeps_what_the_call_came_to(
    executor: Executor, told: Registry
) -> None:
    # A worker has two seconds past the deadline to answer.
    endless = await deployed(told, ENDLESS.wasm, timeout_ms=500)
    call, identity = executor.calling(endless.id)
    await executor.status(identity, pb.Execution.RUNNING)

    executor.process.suspend()
    await asyncio.sleep(4)
    executor.process.resume()

    assert (await call).error.type == pb.ExecutionError.TIMEOUT


async def test_an_executor_that_is_told_to_stop_lets_its_call_end(
    executor: Executor, told: Registry, home: Path, url: str, registry: tuple[str, Registry]
) -> None:
    endless = await deployed(told, ENDLESS.wasm, timeout_ms=1000)
    told.answer_for(endless)
    async with running(home, url, registry[0]) as leaving:
        call, identity = leaving.calling(endless.id)
        await executor.status(identity, pb.Execution.RUNNING)

        leaving.process.terminate()
        answer = await call

        assert answer.error.type == pb.ExecutionError.TIMEOUT
        assert await asyncio.to_thread(leaving.process.wait, 10) == 0
    assert (await executor.get(identity)).error.type == pb.ExecutionError.TIMEOUT


async def test_an_executor_that_is_told_to_stop_ends_also_when_the_database_is_away(
    told: Registry, home: Path, url: str, registry: tuple[str, Registry]
) -> None:
    endless = await deployed(told, ENDLESS.wasm, timeout_ms=1000)
    told.answer_for(endless)
    async with proxied(url) as (through, proxy), running(home, through, registry[0], KILN_DRAIN_SECONDS="2") as leaving:
        call, identity = leaving.calling(endless.id)
        await leaving.status(identity, pb.Execution.RUNNING)

        await proxy.cut()
        leaving.process.terminate()
        await asyncio.gather(call, return_exceptions=True)

        assert await asyncio.to_thread(leaving.process.wait, 30) == 0


async def test_an_executor_that_is_told_to_stop_while_it_waits_for_its_database_ends(home: Path) -> None:
    log, (own, nobody) = home / "waiting.log", free_ports(2)
    settings = environment(
        KILN_AUTH="off",
        KILN_DATABASE_URL=f"postgresql://kiln:x@127.0.0.1:{nobody}/kiln",
        KILN_LISTEN_ADDRESS=f"127.0.0.1:{own}",
        KILN_EXECUTOR_JOURNAL_FOLDER=str(home / "journal"),
    )
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.executor", env=settings, stdout=file, stderr=file)
    async with asyncio.timeout(20):
        while b"waiting_for_database" not in log.read_bytes():  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    process.terminate()

    try:
        assert await asyncio.wait_for(process.wait(), 10) == 0
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    assert b"Traceback" not in log.read_bytes()


async def test_runs_go_on_when_the_registry_is_gone(executor: Executor, home: Path, url: str) -> None:
    with running_services() as (address, services):
        registry = Registry(services)
        registry.end_snapshot()
        async with running(home, url, address) as lonely:
            function = await deployed(registry, ECHO.wasm)
            # Its code is fetched behind the word that it is known; a call waits for it.
            await lonely.execute(function.id)
            services.forget()

            assert (await lonely.execute(function.id)).output_text == b"1"
