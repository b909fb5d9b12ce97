"""A run that has begun always ends in the history, whenever the database has time; one that has not begun leaves nothing there."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from msgspec import structs

from libs.common.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    KilnError,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from libs.common.ids import milliseconds_of, uuid7
from libs.common.pages import Page
from libs.common.server import forever
from libs.common.times import now_micros
from services.executor import executions as tested
from services.executor import recorder as recorder_module
from services.executor.catalog import Catalog
from services.executor.clients import RegistryClient
from services.executor.execution import Durability, Execution, Status
from services.executor.executions import PREPARE_TRIES, Executions, Request
from services.executor.journal_folder import open_journals
from services.executor.modules import Modules
from services.executor.recorder import Recorder, room_for_end
from services.executor.repository import ExecutionRepository, Filter
from services.executor.sandbox import Call, ErrorType, Exhausted, GuestError, Outcome, Quarantined, Sandbox, StartFailed
from tests.support.callers import ADMIN, dev
from tests.support.waiting import until
from tests.unit.executor.fakes import ECHO, FakeHistory, FakeModules, FakeRegistry, FakeSandbox, function, not_prepared

MAX_INPUT_BYTES = 1000


class Executor:
    """The runs of an executor that stands on fakes, and on a journal on the disk. It knows one function, `echo`.

    Nothing is drained unless a test says so.
    """

    def __init__(self, folder: Path, max_journal_bytes: int = 64 << 20) -> None:
        self.history, self.sandbox, self.modules, self.registry = FakeHistory(), FakeSandbox(), FakeModules(), FakeRegistry(function())
        self.caller = ADMIN
        self.catalog = Catalog()
        self.catalog.put(function())
        self.catalog.complete({function().id})
        history = cast(ExecutionRepository, self.history)
        self.journals = open_journals(folder, uuid7())
        self.recorder = Recorder(self.journals, history, max_bytes=max_journal_bytes)
        self.executions = self.over(self.catalog)
        self._blocked = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None

    def over(self, catalog: Catalog) -> Executions:
        """The same with another catalog."""
        return Executions(
            catalog,
            cast(RegistryClient, self.registry),
            cast(Modules, self.modules),
            cast(Sandbox, self.sandbox),
            self.recorder,
            cast(ExecutionRepository, self.history),
            lambda: self.caller,
            max_input_bytes=MAX_INPUT_BYTES,
            most_of_many=2,
        )

    async def execute(
        self,
        text: bytes = b"1",
        *,
        identity: UUID | None = None,
        reference: str = "echo",
        version: int | None = None,
        durability: Durability = Durability.JOURNAL,
    ) -> Execution:
        return await self.executions.execute(Request(identity or uuid7(), "request", reference, text, version, durability))

    def calling(self, text: bytes = b"1", identity: UUID | None = None, **more: Any) -> "asyncio.Task[Execution]":
        return asyncio.create_task(self.execute(text, identity=identity, **more))

    async def listed(self) -> list[UUID]:
        """The runs of the function, as its caller lists them."""
        await self.drained()
        return [one.id for one in (await self.executions.list("echo", Page(50, None, ""), Filter())).items]

    async def running(self, identity: UUID | None = None) -> "asyncio.Task[Execution]":
        """A call whose guest runs until it is let go or cancelled."""

        async def work(call: Call) -> Outcome:
            begun.set()
            await self._blocked.wait()
            return Outcome(call.input, None)

        begun = asyncio.Event()
        self.sandbox.work = work
        task = self.calling(identity=identity)
        await begun.wait()
        return task

    async def waiting(self, text: bytes = b"2") -> "tuple[asyncio.Task[Execution], UUID]":
        """A call that waits for the only worker, and its id."""
        identity = uuid7()
        task = self.calling(text, identity)
        await until(lambda: self._is_known(identity))
        return task, identity

    async def _is_known(self, identity: UUID) -> bool:
        return await self.recorder.find(identity) is not None

    def let_go(self) -> None:
        """Lets the guest of `running` answer."""
        self._blocked.set()

    def drain(self) -> None:
        """From now on the journal is drained."""
        self._draining = asyncio.create_task(forever("drain", self.recorder.drainer.step, pause_seconds=0))

    async def drained(self) -> None:
        """Returns once the history has all."""
        if self._draining is None:
            self.drain()
        async with asyncio.timeout(5):
            await self.recorder.drain(5)

    async def only_row(self) -> Execution:
        """What is left in the history once all is recorded."""
        await self.drained()
        (row,) = self.history.rows.values()
        return row

    async def close(self) -> None:
        if self._draining:
            self._draining.cancel()
        self.journals.close()


@pytest.fixture
async def executor(tmp_path: Path) -> AsyncIterator[Executor]:
    executor = Executor(tmp_path)
    yield executor
    await executor.close()


@pytest.fixture
def full(executor: Executor) -> Executor:
    """An executor that has no room for a call."""
    executor.sandbox.refusal = Exhausted("1 calls wait for a worker already")
    return executor


async def failure(call: "asyncio.Task[Execution]") -> KilnError:
    with pytest.raises(KilnError) as caught:
        await call
    return caught.value


# From its beginning to its end


async def test_a_call_is_answered_without_the_database_and_in_the_history_as_it_was_answered(executor: Executor) -> None:
    answer = await executor.execute(b'{"a": 1.10}')

    assert executor.history.rows == {}
    assert await executor.only_row() == answer
    assert (answer.output, answer.function_name, answer.function_version, answer.duration_us) == (b'{"a": 1.10}', "echo", 1, 7)
    assert answer.started_at is not None
    assert answer.completed_at is not None
    assert answer.started_at <= answer.completed_at
    assert answer.created_at == milliseconds_of(answer.id) * 1000


async def test_a_call_without_an_idle_worker_is_pending_until_it_gets_one(executor: Executor) -> None:
    executor.drain()
    first = await executor.running()
    second, identity = await executor.waiting()

    await executor.history.until(lambda: {row.status for row in executor.history.rows.values()} == {Status.RUNNING, Status.PENDING})
    assert (await executor.executions.get(str(identity))).status is Status.PENDING
    executor.let_go()
    await first
    answer = await second
    await executor.drained()

    assert (answer.output, executor.history.rows[identity]) == (b"2", answer)
    assert answer.queue_us > 0


async def test_a_call_is_seen_while_it_runs_before_the_history_knows_of_it(executor: Executor) -> None:
    call = await executor.running(identity := uuid7())

    seen = await executor.executions.get(str(identity))
    executor.let_go()
    await call

    assert (seen.status, seen.input, seen.output) == (Status.RUNNING, b"1", None)
    assert seen.started_at is not None
    assert executor.history.rows == {}


async def test_a_guests_fault_is_an_answer(executor: Executor) -> None:
    async def work(call: Call) -> Outcome:
        return Outcome(None, GuestError(ErrorType.TRAP, "unreachable executed"))

    executor.sandbox.work = work

    answer = await executor.execute()

    assert (answer.status, answer.error, answer.output) == (Status.FAILED, GuestError(ErrorType.TRAP, "unreachable executed"), None)


@pytest.mark.parametrize("waits", [True, False])
async def test_a_call_is_cold_when_it_waited_for_its_module(executor: Executor, waits: bool) -> None:
    executor.modules.waits = waits

    assert (await executor.execute()).cold_start is waits


# Refusals


async def test_a_call_for_which_there_is_no_room_is_refused_with_a_time_to_wait_and_leaves_nothing(full: Executor) -> None:
    error = await failure(full.calling())
    await full.drained()

    assert (type(error), error.reason, error.retry_after) == (ResourceExhausted, "TOO_MANY_CALLS", 1)
    assert (full.history.rows, full.sandbox.calls) == ({}, [])


async def test_a_call_of_a_function_that_has_all_its_runs_is_refused_and_leaves_nothing_while_others_are_served(executor: Executor) -> None:
    other = function("other", UUID(int=2))
    for one in (function(max_concurrency=2), other):
        executor.catalog.put(one)
    first = await executor.running()
    second, _ = await executor.waiting()

    error = await failure(executor.calling(b"3"))
    waiting = asyncio.create_task(executor.execute(b"4", reference="other"))
    executor.let_go()
    answers = await asyncio.gather(first, second, waiting)
    await executor.drained()

    assert (type(error), error.reason, error.retry_after) == (ResourceExhausted, "TOO_MANY_CONCURRENT_CALLS", 1)
    assert [answer.output for answer in answers] == [b"1", b"2", b"4"]
    assert set(executor.history.rows) == {answer.id for answer in answers}


async def test_a_call_that_is_cancelled_makes_room_for_another_of_its_function(executor: Executor) -> None:
    executor.catalog.put(function(max_concurrency=1))
    first = await executor.running()

    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    executor.let_go()

    assert (await executor.execute(b"2")).output == b"2"


async def test_one_call_of_many_waits_where_a_single_one_is_refused_and_leaves_one_record(executor: Executor) -> None:
    executor.sandbox.refusal = Exhausted("full")
    call = asyncio.create_task(executor.executions.execute_in_turn(executor.executions.many(), Request(uuid7(), "", "echo", b"1", None)))
    await until(lambda: len(executor.modules.ensured) > 1)

    executor.sandbox.refusal = None
    answer = await call

    assert answer.output == b"1"
    assert await executor.only_row() == answer


async def test_one_call_of_many_is_refused_for_all_that_waiting_does_not_help(executor: Executor) -> None:
    for text, reference, error in (
        (b"{", "echo", InvalidArgument),
        (b'"' + b"x" * 1000, "echo", ResourceExhausted),
        (b"1", "no", NotFound),
    ):
        with pytest.raises(error):
            await executor.executions.execute_in_turn(executor.executions.many(), Request(uuid7(), "", reference, text, None))

    await executor.drained()
    assert executor.history.rows == {}


async def test_many_calls_run_the_version_that_was_found_once_though_another_is_live_by_then(executor: Executor) -> None:
    executor.modules.waits = True
    target = await executor.executions.target("echo", None)
    executor.modules.waits = False
    executor.catalog.put(replace(function(version=2), revision=2))

    answer = await executor.executions.execute_in_turn(executor.executions.many(), Request(uuid7(), "", "echo", b"1", None), target)

    assert (answer.function_version, (await executor.execute()).function_version) == (1, 2)
    assert answer.cold_start


async def test_a_call_for_which_no_worker_can_be_started_is_refused_and_leaves_nothing(executor: Executor) -> None:
    executor.sandbox.refusal = StartFailed("no memory")

    error = await failure(executor.calling())
    await executor.drained()

    assert (type(error), error.reason) == (Unavailable, "SANDBOX_AWAY")
    assert executor.history.rows == {}


async def test_a_refused_call_is_withdrawn_also_when_the_database_is_away_for_a_while(executor: Executor) -> None:
    executor.drain()
    first = await executor.running()
    second, identity = await executor.waiting()
    await executor.history.until(lambda: identity in executor.history.rows)
    executor.history.away = {"withdraw": 2}

    # Its function is deleted, which is told when its turn comes.
    executor.catalog.delete(function().id)
    executor.let_go()
    await asyncio.gather(first, return_exceptions=True)
    await failure(second)
    await executor.drained()

    assert identity not in executor.history.rows
    assert await executor.recorder.find(identity) is None


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        (b'"' + b"x" * MAX_INPUT_BYTES + b'"', ResourceExhausted, "INPUT_TOO_LARGE"),
        (b"", InvalidArgument, "INPUT_NOT_JSON"),
        (b"{'a':1}", InvalidArgument, "INPUT_NOT_JSON"),
        (b"\xff", InvalidArgument, "INPUT_NOT_JSON"),
        (b"[" * 513, InvalidArgument, "INPUT_NOT_JSON"),
    ],
)
async def test_an_input_that_cannot_be_run_is_refused_before_anything_is_recorded(
    executor: Executor, text: bytes, kind: type[KilnError], reason: str
) -> None:
    error = await failure(executor.calling(text))

    await executor.drained()

    assert (type(error), error.reason) == (kind, reason)
    assert executor.history.rows == {}


async def test_an_id_that_is_taken_runs_nothing_and_leaves_the_record_as_it_is(executor: Executor) -> None:
    taken = await executor.execute(b"1")

    error = await failure(executor.calling(b"2", taken.id))

    assert (type(error), error.reason) == (AlreadyExists, "EXECUTION_EXISTS")
    assert await executor.only_row() == taken
    assert len(executor.sandbox.calls) == 1


async def test_an_id_that_is_taken_is_told_to_a_call_that_would_have_to_wait_too(executor: Executor) -> None:
    first = await executor.running(identity := uuid7())

    error = await failure(executor.calling(b"2", identity))
    executor.let_go()

    assert type(error) is AlreadyExists
    assert (await first).output == b"1"
    assert (await executor.only_row()).output == b"1"


async def test_an_id_from_before_this_executor_is_looked_for_in_the_history(executor: Executor) -> None:
    old = UUID(int=(milliseconds_of(uuid7()) - 60_000) << 80 | 7 << 76 | 2 << 62)

    answer = await executor.execute(identity=old)
    await executor.drained()
    executor.recorder = Recorder(executor.journals, cast(ExecutionRepository, executor.history), max_bytes=64 << 20)
    executor.executions = executor.over(executor.catalog)
    error = await failure(executor.calling(b"2", old))

    assert type(error) is AlreadyExists
    assert executor.history.rows == {old: answer}
    assert len(executor.sandbox.calls) == 1


async def test_an_id_that_was_refused_may_come_again(full: Executor) -> None:
    await failure(full.calling(identity=(identity := uuid7())))

    full.sandbox.refusal = None

    assert (await full.execute(identity=identity)).id == identity


async def test_a_module_that_cannot_be_had_is_told_and_leaves_nothing(executor: Executor) -> None:
    executor.modules.failure = FailedPrecondition("cannot be loaded", reason="VERSION_UNLOADABLE")

    error = await failure(executor.calling())

    await executor.drained()

    assert error.reason == "VERSION_UNLOADABLE"
    assert executor.history.rows == {}


# Which function and version


async def test_a_function_that_the_watch_has_not_told_of_is_asked_of_the_registry(executor: Executor) -> None:
    executor.registry.functions.append(function("new", UUID(int=2)))

    answer = await executor.execute(reference="new")

    assert (answer.function_id, answer.function_name) == (UUID(int=2), "new")
    assert executor.registry.asked == [("new", None)]


async def test_a_function_that_nobody_knows_is_not_found_after_the_registry_was_asked(executor: Executor) -> None:
    with pytest.raises(NotFound):
        await executor.execute(reference="nobody")

    assert executor.registry.asked == [("nobody", None)]


async def test_another_version_than_the_live_one_is_asked_of_the_registry(executor: Executor) -> None:
    live, other = await executor.execute(version=1), await executor.execute(version=2)

    assert (live.function_version, other.function_version) == (1, 2)
    assert executor.registry.asked == [("echo", 2)]


@pytest.mark.parametrize("version", [0, -1])
async def test_a_version_below_one_is_refused_by_name(executor: Executor, version: int) -> None:
    with pytest.raises(InvalidArgument, match="version"):
        await executor.execute(version=version)


async def test_nothing_is_answered_before_the_functions_are_known(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tested, "STARTING_SECONDS", 0.01)
    starting = executor.over(Catalog())

    for asking in (starting.execute(Request(uuid7(), "", "nobody", b"1", None)), starting.get(str(uuid7()))):
        with pytest.raises(Unavailable) as refusal:
            await asking
        assert refusal.value.reason == "STARTING"
    assert executor.registry.asked == []


# Who calls


async def test_a_function_that_the_caller_may_not_access_is_not_there_in_any_call(executor: Executor) -> None:
    ann, crew = dev(), str(uuid7())
    hidden = replace(function(), allowed_users=frozenset({ann.id}), allowed_groups=frozenset({crew}))
    executor.catalog.put(replace(hidden, revision=2))
    executor.registry.functions = [hidden]
    run = await executor.execute()

    for caller in (dev(), dev(groups=frozenset({str(uuid7())})), dev(id=ann.id, functions=frozenset({str(uuid7())}))):
        executor.caller = caller
        # By the catalog, and by the registry, which is asked for a version that does not serve.
        for asking in (executor.execute(), executor.execute(version=7), executor.executions.get(str(run.id)), executor.listed()):
            with pytest.raises(NotFound):
                await asking
    for caller in (ann, dev(groups=frozenset({crew})), dev(id=ann.id, functions=frozenset({str(ECHO)}))):
        executor.caller = caller
        assert (await executor.execute()).created_by == caller.id
        assert (await executor.executions.get(str(run.id))).id == run.id
        assert run.id in await executor.listed()
    executor.caller = ADMIN
    assert (await executor.execute(version=7)).status is Status.COMPLETED


# Callers that go away


async def test_a_call_that_is_cancelled_while_it_runs_is_recorded_as_cancelled(executor: Executor) -> None:
    call = await executor.running()

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    row = await executor.only_row()
    assert row.error is not None
    assert (row.status, row.error.type) == (Status.FAILED, ErrorType.CANCELLED)
    assert row.completed_at is not None
    assert executor.sandbox.has_room


async def test_a_call_that_is_cancelled_while_it_waits_is_recorded_as_cancelled_and_never_runs(executor: Executor) -> None:
    first = await executor.running()
    waiting, _ = await executor.waiting()

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    executor.let_go()
    await first
    await executor.drained()

    errors = [row.error.type for row in executor.history.rows.values() if row.error]
    assert errors == [ErrorType.CANCELLED]
    assert [call.input for call in executor.sandbox.calls] == [b"1"]


async def test_a_call_that_is_cancelled_before_it_began_leaves_nothing(executor: Executor) -> None:
    executor.modules.may_prepare.clear()
    call = executor.calling()
    await executor.modules.asked.wait()

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await executor.drained()

    assert executor.history.rows == {}


async def test_a_call_whose_caller_goes_away_while_its_end_is_committed_keeps_that_end(executor: Executor) -> None:
    executor.history.away = {"write": 1}
    executor.drain()
    call = executor.calling(durability=Durability.COMMIT)
    await executor.history.missed.wait()

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert (await executor.only_row()).output == b"1"


# A database that is away


@pytest.mark.parametrize("written", [False, True])
async def test_calls_go_on_while_the_database_is_away_and_each_is_there_once_when_it_is_back(executor: Executor, written: bool) -> None:
    executor.history.away = {"write": 2}
    executor.history.writes_although_away = written
    executor.drain()

    answers = [await executor.execute(str(number).encode()) for number in range(20)]
    await executor.history.missed.wait()
    answers += [await executor.execute(str(number).encode()) for number in range(20)]
    await executor.drained()

    assert executor.history.rows == {answer.id: answer for answer in answers}
    assert len(executor.sandbox.calls) == 40


async def test_a_call_that_asks_for_it_waits_for_the_database(executor: Executor) -> None:
    executor.history.away = {"write": 2}
    executor.drain()

    answer = await executor.execute(durability=Durability.COMMIT)

    assert (answer.status, executor.history.rows[answer.id]) == (Status.COMPLETED, answer)
    assert len(executor.sandbox.calls) == 1


async def test_a_record_that_takes_too_long_is_told_and_written_later(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tested, "RECORDING_SECONDS", 0.05)
    executor.history.away = {"write": 2}
    executor.drain()
    identity = uuid7()

    error = await failure(executor.calling(identity=identity, durability=Durability.COMMIT))

    assert (type(error), error.reason) == (Unavailable, "NOT_RECORDED")
    assert str(identity) in error.message
    assert (await executor.only_row()).output == b"1"


async def test_a_list_has_what_was_answered_before_and_says_so_when_it_cannot(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "CATCH_UP_SECONDS", 0.1)
    page = Page(10, None, "")
    executor.drain()
    answer = await executor.execute()

    assert (await executor.executions.list("echo", page, Filter())).items == [answer]

    executor.history.away = {"write": 1_000_000}
    await executor.execute()
    with pytest.raises(Unavailable) as refusal:
        await executor.executions.list("echo", page, Filter())
    assert refusal.value.reason == "DATABASE_AWAY"


async def test_a_journal_that_is_full_refuses_calls_before_they_run_until_the_database_takes_what_is_in_it(tmp_path: Path) -> None:
    limits = function().limits
    executor = Executor(tmp_path / "small", max_journal_bytes=room_for_end(limits) + 20_000)
    executor.history.away = {"write": 1_000_000}

    results = [await asyncio.gather(executor.execute(b'"' + b"x" * 900 + b'"'), return_exceptions=True) for _ in range(20)]
    answered = [one for result in results for one in result if isinstance(one, Execution)]
    refusals = [one for result in results for one in result if isinstance(one, ResourceExhausted)]
    assert {(one.reason, one.retry_after) for one in refusals} == {("JOURNAL_FULL", 1)}
    assert len(answered) + len(refusals) == len(results)
    assert 0 < len(answered) == len(executor.sandbox.calls) < 20

    executor.history.away = {}
    await executor.drained()
    answered.append(await executor.execute())
    await executor.drained()

    assert executor.history.rows == {answer.id: answer for answer in answered}
    await executor.close()


async def test_the_room_for_the_end_of_a_run_is_kept_while_it_runs_and_given_back(tmp_path: Path) -> None:
    executor = Executor(tmp_path / "small", max_journal_bytes=2 * room_for_end(function().limits) - 1)
    first = await executor.running()
    waiting, identity = await executor.waiting()
    executor.sandbox._worker = asyncio.Lock()

    error = await failure(executor.calling())
    executor.let_go()
    await asyncio.gather(first, waiting)

    assert error.reason == "JOURNAL_FULL"
    assert (await executor.execute()).status is Status.COMPLETED
    assert (await executor.recorder.find(identity)) is not None
    await executor.close()


# What happens meanwhile


async def test_code_that_was_pushed_out_is_prepared_again_and_the_call_runs_once(executor: Executor) -> None:
    executor.sandbox.work = not_prepared(1)

    answer = await executor.execute()

    assert (answer.status, answer.output) == (Status.COMPLETED, b"1")
    assert len(executor.modules.ensured) == 2


async def test_code_that_never_stays_is_a_fault_of_the_platform(executor: Executor) -> None:
    executor.sandbox.work = not_prepared(PREPARE_TRIES)

    answer = await executor.execute()

    assert answer.error is not None
    assert answer.error.type is ErrorType.PLATFORM
    assert "KILN_EXECUTOR_CODE_CACHE_MB" in answer.error.message
    assert answer == await executor.only_row()


async def test_code_that_cannot_be_prepared_again_is_a_fault_of_the_platform(executor: Executor) -> None:
    async def work(call: Call) -> Outcome:
        executor.modules.failure = Unavailable("the compiler is away")
        return await not_prepared(1)(call)

    executor.sandbox.work = work

    answer = await executor.execute()

    assert answer.error == GuestError(ErrorType.PLATFORM, "the function's code cannot be loaded: the compiler is away")


async def test_a_version_in_quarantine_is_refused_and_leaves_nothing_in_the_history(executor: Executor) -> None:
    executor.sandbox.kept_out["sha256:1"] = 12.3

    with pytest.raises(FailedPrecondition, match=r"version 1 of echo .* for 13 s") as refusal:
        await executor.execute()

    assert (refusal.value.reason, refusal.value.retry_after) == ("VERSION_QUARANTINED", 13)
    assert executor.history.rows == {}
    assert executor.sandbox.calls == []


@pytest.mark.parametrize("error", [Exhausted("full"), StartFailed("no memory"), Quarantined("sha256:1")])
async def test_a_worker_that_cannot_be_replaced_ends_a_call_that_had_begun(executor: Executor, error: Exception) -> None:
    async def work(call: Call) -> Outcome:
        raise error

    executor.sandbox.work = work

    answer = await executor.execute()

    assert answer.error is not None
    assert answer.error.type is ErrorType.PLATFORM
    assert answer == await executor.only_row()


async def test_a_function_that_is_deleted_while_its_call_is_prepared_runs_nothing(executor: Executor) -> None:
    executor.modules.may_prepare.clear()
    call = executor.calling()
    await executor.modules.asked.wait()

    executor.catalog.delete(function().id)
    executor.modules.may_prepare.set()
    error = await failure(call)

    assert (type(error), error.reason) == (NotFound, "FUNCTION_NOT_FOUND")
    assert executor.sandbox.calls == []


async def test_a_function_that_is_deleted_while_its_call_waits_is_not_found(executor: Executor) -> None:
    first = await executor.running()
    waiting, _ = await executor.waiting()

    executor.catalog.delete(function().id)
    executor.let_go()
    await asyncio.gather(first, return_exceptions=True)
    error = await failure(waiting)

    assert (type(error), error.reason) == (NotFound, "FUNCTION_NOT_FOUND")
    assert [call.input for call in executor.sandbox.calls] == [b"1"]


@pytest.mark.parametrize("durability", Durability)
async def test_a_function_that_is_deleted_while_it_runs_is_not_found(executor: Executor, durability: Durability) -> None:
    executor.drain()
    call = await executor.running()

    executor.catalog.delete(function().id)
    executor.history.deleted.add(function().id)
    executor.history.rows.clear()
    executor.let_go()
    error = await failure(call)
    await executor.drained()

    assert (type(error), error.reason) == (NotFound, "FUNCTION_NOT_FOUND")
    assert executor.history.rows == {}


@pytest.mark.parametrize("durability", Durability)
async def test_a_run_that_was_swept_while_it_ran_has_its_own_end_in_the_end(executor: Executor, durability: Durability) -> None:
    executor.drain()
    call = await executor.running()
    await executor.history.until(lambda: bool(executor.history.rows))

    executor.history.sweep()
    executor.let_go()
    answer = await call

    assert (answer.status, answer.output) == (Status.COMPLETED, b"1")
    assert answer == await executor.only_row()


async def test_a_call_that_was_swept_while_it_waited_runs_all_the_same(executor: Executor) -> None:
    executor.drain()
    first = await executor.running()
    waiting, identity = await executor.waiting()
    await executor.history.until(lambda: identity in executor.history.rows)

    executor.history.sweep()
    executor.let_go()
    await first
    answer = await waiting
    await executor.drained()

    assert (answer.output, executor.history.rows[identity]) == (b"2", answer)


async def test_of_two_executors_that_were_given_one_id_the_first_end_stays(executor: Executor) -> None:
    executor.drain()
    call = await executor.running(identity := uuid7())
    other = structs.replace(await executor.executions.get(str(identity)), status=Status.COMPLETED, output=b"2", completed_at=now_micros())
    await executor.history.write([(uuid7(), other)])

    executor.let_go()
    await call

    assert await executor.only_row() == other


# Reading


async def test_a_run_is_found_by_its_id(executor: Executor) -> None:
    answer = await executor.execute()

    assert await executor.executions.get(str(answer.id)) == answer


@pytest.mark.parametrize("text", ["", "nothing", str(UUID(int=7)), "{" + str(UUID(int=7)) + "}", "x" * 10_000])
async def test_a_run_that_is_not_there_is_not_found(executor: Executor, text: str) -> None:
    with pytest.raises(NotFound) as refusal:
        await executor.executions.get(text)

    assert refusal.value.reason == "EXECUTION_NOT_FOUND"
    assert len(refusal.value.message) < 200


async def test_a_run_of_a_deleted_function_is_not_found_though_its_row_is_still_there(executor: Executor) -> None:
    answer = await executor.execute()
    await executor.drained()

    executor.catalog.remove(function().id)
    executor.registry.functions.clear()

    with pytest.raises(NotFound):
        await executor.executions.get(str(answer.id))
    assert answer.id in executor.history.rows
