"""Whenever the executor dies, what it had recorded comes into the history: once, in full, and whatever else is there in its order."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from libs.common.errors import AlreadyExists, Unavailable
from libs.common.ids import uuid7
from libs.common.settings import InvalidSettings
from libs.common.times import now_micros
from services.executor import drainer as drainer_module
from services.executor import entries, undrained
from services.executor import journal as journal_module
from services.executor.execution import Execution, Status
from services.executor.journal import JournalFailed
from services.executor.journal_folder import ASIDE, open_journals
from services.executor.recorder import Recorder, open_recorder, room_for_end
from services.executor.repository import SWEPT, ExecutionRepository
from services.executor.sandbox import ErrorType, Frame, GuestError, Level, Limits, LogLine
from tests.unit.executor.fakes import ECHO, FakeHistory

ROOM = 1 << 20
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MOMENTS = st.integers(0, 10**18)


def pending(text: bytes = b"{}", identity: UUID | None = None) -> Execution:
    return Execution(
        id=identity or uuid7(),
        function_id=ECHO,
        function_name="echo",
        function_version=1,
        request_id="request",
        created_at=now_micros(),
        input=text,
    )


def running(run: Execution) -> Execution:
    return replace(run, status=Status.RUNNING, queue_us=5, started_at=run.created_at)


def completed(run: Execution, output: bytes = b"{}") -> Execution:
    return replace(running(run), status=Status.COMPLETED, output=output, duration_us=7, completed_at=now_micros())


class Executor:
    """A recorder over a folder and a history; it dies when told, and others follow it."""

    def __init__(self, folder: Path, history: FakeHistory) -> None:
        self.history = history
        self.journals = open_journals(folder, uuid7())
        self.recorder = Recorder(self.journals, cast(ExecutionRepository, history), max_bytes=1 << 30)

    def die(self) -> None:
        """Without a word: its locks go, its files stay."""
        for journal in (self.journals.own, *self.journals.inherited):
            os.close(journal._lock)

    async def step(self) -> None:
        """One batch goes into the history, if it can."""
        async with asyncio.timeout(5):
            await self.recorder.drainer.step()

    async def drain(self) -> None:
        while self.recorder._undrained.line_length:
            await self.step()

    def run(self, text: bytes = b"{}", output: bytes = b"{}") -> Execution:
        """A call from its beginning to its end."""
        run = pending(text)
        self.recorder.begin(running(run), ROOM)
        ended = completed(run, output)
        assert self.recorder.end(ended)
        return ended


@pytest.fixture
def history() -> FakeHistory:
    return FakeHistory()


@pytest.fixture
def following(tmp_path: Path, history: FakeHistory) -> Callable[[], Executor]:
    """Makes the next executor over the same folder and history."""
    return lambda: Executor(tmp_path / "base", history)


@pytest.fixture
def executor(following: Callable[[], Executor]) -> Executor:
    return following()


# Entries


@settings(deadline=None)
@given(
    text=st.binary(max_size=100),
    words=TEXTS,
    moment=MOMENTS,
    waits=st.booleans(),
    failure=st.one_of(st.none(), st.builds(GuestError, st.sampled_from(ErrorType), TEXTS, st.tuples(st.builds(Frame, TEXTS, TEXTS)))),
    logs=st.lists(st.builds(LogLine, st.sampled_from(Level), TEXTS), max_size=3).map(tuple),
    number=st.integers(0, 2**31 - 1),
)
def test_the_entries_of_a_run_make_it_again(
    text: bytes, words: str, moment: int, waits: bool, failure: GuestError | None, logs: tuple[LogLine, ...], number: int
) -> None:
    begun = replace(pending(text), function_name=words, request_id=words, created_at=moment, cold_start=waits)
    started = replace(running(begun), started_at=moment, queue_us=number)
    ended = replace(
        completed(started, text),
        output=None if failure else text,
        status=Status.FAILED if failure else Status.COMPLETED,
        error=failure,
        logs=logs,
        logs_truncated=waits,
        duration_us=number,
        memory_peak_bytes=number,
        completed_at=moment,
        queue_us=number,
        started_at=moment,
        cold_start=True,
    )
    steps = [entries.begun(begun), entries.started(started)] if waits else [entries.begun(started)]

    known: Execution | None = None
    for payload, expected in zip([*steps, entries.ended(ended)], [*([begun] if waits else []), started, ended], strict=True):
        known = entries.read(payload).laid_over(known)
        assert known == expected


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_what_is_no_entry_is_refused_and_nothing_else_happens(payload: bytes) -> None:
    with pytest.raises(entries.Unreadable):
        entries.read(payload)


def test_what_older_releases_wrote_is_read() -> None:
    """Of the first of them, users were not known yet; all spelled the function's id without dashes."""
    head = b'["00000000000000000000000000000001","echo",1,"request",1795751064957866,true,5,1795751064957900%s]'
    for more, created_by in ((b"", ""), (b',"somebody"', "somebody")):
        text = head % more
        payload = bytes([1]) + bytes(15) + b"\x07" + len(text).to_bytes(4, "little") + text + b"{}"

        run = entries.read(payload).beginning

        assert run == replace(
            pending(identity=UUID(int=7)),
            created_at=1795751064957866,
            created_by=created_by,
            cold_start=True,
            queue_us=5,
            status=Status.RUNNING,
            started_at=1795751064957900,
        )


def test_the_room_that_is_kept_for_an_end_holds_the_largest_there_is() -> None:
    limits = Limits(max_output_bytes=10_000, max_log_bytes=64 << 10)
    worst = replace(
        completed(pending(), b"x" * limits.max_output_bytes),
        logs=tuple(LogLine(Level.DEBUG, "\0" * 256) for _ in range(256)),
        error=GuestError(ErrorType.ABORT, "\0" * (8 << 10), tuple(Frame("\0" * 200, "\0" * 200, 2**31, 2**31) for _ in range(16))),
    )

    assert len(entries.ended(worst)) <= room_for_end(limits)


# Draining


async def test_a_call_that_began_and_ended_before_the_history_heard_of_it_is_written_once(executor: Executor, history: FakeHistory) -> None:
    runs = [executor.run() for _ in range(100)]

    await executor.drain()

    assert history.batches == [100]
    assert history.rows == {run.id: run for run in runs}


async def test_a_call_that_ends_before_it_is_looked_at_twice_costs_the_history_one_row(executor: Executor, history: FakeHistory) -> None:
    run = running(pending())
    executor.recorder.begin(run, ROOM)

    await executor.step()
    assert history.batches == []
    executor.recorder.end(completed(run))
    await executor.drain()

    assert history.batches == [1]
    assert history.rows[run.id].status is Status.COMPLETED


async def test_a_call_that_lasts_is_in_the_history_while_it_runs(executor: Executor, history: FakeHistory) -> None:
    waiting, at_work = pending(), running(pending())
    executor.recorder.begin(waiting)
    executor.recorder.begin(at_work, ROOM)

    await executor.drain()

    assert history.rows == {waiting.id: waiting, at_work.id: at_work}
    executor.recorder.start(running(waiting), ROOM)
    await executor.drain()
    assert history.rows[waiting.id] == running(waiting)


async def test_a_call_that_waited_long_and_ran_briefly_costs_the_history_two_rows(executor: Executor, history: FakeHistory) -> None:
    run = pending()
    executor.recorder.begin(run)
    await executor.drain()

    executor.recorder.start(running(run), ROOM)
    await executor.step()
    executor.recorder.end(completed(run))
    await executor.drain()

    assert history.batches == [1, 1]
    assert history.rows[run.id].status is Status.COMPLETED


async def test_who_waits_for_the_history_finds_calls_in_it_that_have_just_begun(
    executor: Executor, history: FakeHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drainer_module, "BATCH_RUNS", 2)
    runs = [running(pending()) for _ in range(5)]
    for run in runs:
        executor.recorder.begin(run, ROOM)
    catching_up = asyncio.create_task(executor.recorder.catch_up())
    await asyncio.sleep(0)
    monkeypatch.setattr(drainer_module, "GATHER_SECONDS", 60)

    for _ in range(3):
        await executor.step()

    await catching_up
    assert history.rows == {run.id: run for run in runs}


async def test_a_commit_of_a_run_that_cannot_be_read_any_more_is_told(
    executor: Executor, history: FakeHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = executor.run(b"x" * 1000)
    waiting = asyncio.create_task(executor.recorder.committed(run.id))
    await asyncio.sleep(0)
    (record := executor.recorder._undrained.record(run.id)).leave_to_journal()
    record.places[0].segment.path.write_bytes(b"gone")

    await executor.step()

    with pytest.raises(Unavailable) as refusal:
        await waiting
    assert refusal.value.reason == "NOT_RECORDED"
    assert history.rows == {}


async def test_the_journal_is_small_again_once_all_is_drained(executor: Executor) -> None:
    for _ in range(3):
        for _ in range(20):
            executor.run(b"x" * 10_000)
        assert executor.journals.size > 200_000
        await executor.drain()
        assert executor.journals.size == len(journal_module.SEGMENT_HEAD)


async def test_batches_are_bounded_in_number_and_size(executor: Executor, history: FakeHistory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drainer_module, "BATCH_RUNS", 7)
    monkeypatch.setattr(drainer_module, "BATCH_BYTES", 100_000)
    small, large = [executor.run() for _ in range(10)], [executor.run(b"x" * 60_000) for _ in range(5)]

    await executor.drain()

    assert history.batches == [7, 5, 2, 1]
    assert len(history.rows) == len(small) + len(large)


async def test_a_run_that_is_refused_is_kept_aside_and_holds_up_no_other(
    executor: Executor, history: FakeHistory, following: Callable[[], Executor]
) -> None:
    runs = [executor.run(str(number).encode()) for number in range(50)]
    history.refused = {runs[17].id, runs[18].id}

    await executor.drain()

    assert set(history.rows) == {run.id for run in runs} - history.refused
    aside = list((executor.journals._base / ASIDE).iterdir())
    assert {path.stem for path in aside} == {str(one) for one in history.refused}
    # Whatever was wrong is put right, and a person puts the files back.
    history.refused = set()
    (folder := executor.journals._base / str(uuid7())).mkdir()
    for path in aside:
        path.rename(folder / path.name)
    executor.die()
    await (after := following()).recorder.replay()
    await after.drain()
    assert history.rows == {run.id: run for run in runs}


async def test_a_commit_of_a_run_that_is_refused_is_told(executor: Executor, history: FakeHistory) -> None:
    run = executor.run()
    history.refused = {run.id}

    waiting = asyncio.create_task(executor.recorder.committed(run.id))
    await asyncio.sleep(0)
    await executor.drain()

    with pytest.raises(Unavailable) as refusal:
        await waiting
    assert refusal.value.reason == "NOT_RECORDED"


async def test_a_run_that_is_refused_and_cannot_be_kept_aside_stays_in_the_journal(
    executor: Executor, history: FakeHistory, following: Callable[[], Executor]
) -> None:
    run, other = executor.run(), executor.run()
    history.refused = {run.id}
    (executor.journals._base / ASIDE).write_bytes(b"no folder")

    await executor.step()
    await executor.recorder.catch_up()
    history.refused = set()
    executor.die()
    await (after := following()).recorder.replay()
    await after.drain()

    assert history.rows == {run.id: run, other.id: other}


async def test_much_that_waits_is_not_kept_in_memory_and_comes_into_the_history_all_the_same(
    executor: Executor, history: FakeHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undrained, "AT_HAND_BYTES", 50_000)

    runs = [executor.run(b"x" * 10_000, b"y" * 10_000) for _ in range(50)]
    assert executor.recorder._undrained._at_hand < 100_000
    assert await executor.recorder.find(runs[-1].id) == runs[-1]
    await executor.drain()

    assert history.rows == {run.id: run for run in runs}
    assert executor.recorder._undrained._at_hand == 0


async def test_a_long_run_does_not_keep_the_segments_of_short_ones(
    executor: Executor, history: FakeHistory, following: Callable[[], Executor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 50_000)
    long = pending(b"long")
    executor.recorder.begin(running(long))

    for _ in range(20):
        for _ in range(10):
            executor.run(b"x" * 10_000)
        await executor.step()
        assert executor.journals.size < 250_000
    executor.die()
    await (after := following()).recorder.replay()
    await after.drain()

    assert (history.rows[long.id].input, history.rows[long.id].error) == (b"long", SWEPT)


async def test_catching_up_waits_for_what_was_recorded_before_and_not_for_more(executor: Executor, history: FakeHistory) -> None:
    before = executor.run()
    catching_up = asyncio.create_task(executor.recorder.catch_up())
    await asyncio.sleep(0)

    await executor.step()
    executor.run()
    await asyncio.sleep(0)

    assert catching_up.done()
    assert set(history.rows) == {before.id}


# Ids


async def test_an_id_is_taken_by_a_run_that_another_executor_left(executor: Executor, following: Callable[[], Executor]) -> None:
    run = executor.run()
    executor.die()
    after = following()
    await after.recorder.replay()

    for _ in range(2):
        with pytest.raises(AlreadyExists):
            after.recorder.begin(running(pending(identity=run.id)))
        await after.drain()


# Journals that cannot be written


async def test_a_run_whose_end_cannot_be_journaled_goes_into_the_history_at_once(
    executor: Executor, history: FakeHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(payload: bytes) -> None:
        raise JournalFailed("no space left on device")

    run = pending()
    executor.recorder.begin(running(run))
    monkeypatch.setattr(executor.journals.own, "append", fail)

    with pytest.raises(Unavailable) as refusal:
        executor.recorder.begin(running(pending()))
    assert refusal.value.reason == "JOURNAL_UNWRITABLE"
    assert executor.recorder.end(completed(run)) is False
    committed = asyncio.create_task(executor.recorder.committed(run.id))
    await asyncio.sleep(0)
    await executor.step()

    assert await committed == history.rows[run.id]
    assert history.rows[run.id].status is Status.COMPLETED
    monkeypatch.undo()
    assert executor.run().status is Status.COMPLETED


async def test_a_folder_that_cannot_be_used_is_told_by_its_setting(tmp_path: Path, history: FakeHistory) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(InvalidSettings, match="KILN_EXECUTOR_JOURNAL_FOLDER"):
        async with open_recorder(tmp_path / "file" / "below", uuid7(), cast(ExecutionRepository, history), max_bytes=1 << 20):
            pass


async def test_an_executor_that_stops_drains_and_leaves_nothing_and_keeps_what_the_history_does_not_take(
    tmp_path: Path, history: FakeHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.executor.recorder.DRAIN_AT_END_SECONDS", 0.2)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Recorder]:
        async with open_recorder(tmp_path, uuid7(), cast(ExecutionRepository, history), max_bytes=1 << 30) as recorder:
            yield recorder

    first, second = pending(), pending()
    async with opened() as recorder:
        recorder.begin(running(first))
        recorder.end(completed(first))
    assert (set(history.rows), [path.name for path in tmp_path.iterdir()]) == ({first.id}, ["lock"])

    history.away = {"write": 1_000_000}
    async with opened() as recorder:
        recorder.begin(running(second))
        recorder.end(completed(second))
    assert second.id not in history.rows
    history.away = {}
    async with opened():
        pass

    assert history.rows[second.id].status is Status.COMPLETED
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


# Whatever happens in whatever order


class Deaths(RuleBasedStateMachine):
    """Calls come and go, the history is away and back, executors die at any moment, also while they take over from one that died."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.history = FakeHistory()
        self.executor = Executor(Path(self._folder.name), self.history)
        self.waiting: dict[UUID, Execution] = {}
        self.running: dict[UUID, Execution] = {}
        self.answered: dict[UUID, Execution] = {}
        self.withdrawn: set[UUID] = set()
        self.lost: set[UUID] = set()

    @rule(text=st.binary(max_size=2000))
    def wait(self, text: bytes) -> None:
        run = pending(text)
        self.executor.recorder.begin(run)
        self.waiting[run.id] = run

    @rule(text=st.binary(max_size=2000))
    def begin(self, text: bytes) -> None:
        run = running(pending(text))
        self.executor.recorder.begin(run, ROOM)
        self.running[run.id] = run

    @precondition(lambda self: self.waiting)
    @rule()
    def start(self) -> None:
        identity, run = self.waiting.popitem()
        self.running[identity] = running(run)
        self.executor.recorder.start(self.running[identity], ROOM)

    @precondition(lambda self: self.waiting)
    @rule()
    def withdraw(self) -> None:
        identity, _ = self.waiting.popitem()
        self.executor.recorder.withdraw(identity)
        self.withdrawn.add(identity)

    @precondition(lambda self: self.running)
    @rule(output=st.binary(max_size=2000), which=st.randoms(use_true_random=False))
    def end(self, output: bytes, which: "st.randoms") -> None:  # type: ignore[valid-type]
        identity = which.choice(list(self.running))  # type: ignore[attr-defined]
        run = self.answered[identity] = completed(self.running.pop(identity), output)
        assert self.executor.recorder.end(run)

    @precondition(lambda self: self.executor.recorder._undrained.line_length)
    @rule(away=st.booleans(), written=st.booleans())
    def drain(self, away: bool, written: bool) -> None:
        self.history.away, self.history.writes_although_away = {"write": away, "withdraw": away}, written
        try:
            self.loop.run_until_complete(self.executor.step())
        except Unavailable:
            pass
        finally:
            self.history.away = {}

    @rule()
    def sweep(self) -> None:
        self.history.sweep()

    @rule(batches=st.integers(0, 2), torn=st.booleans())
    def die(self, batches: int, torn: bool) -> None:
        """Maybe inside of an append; the next takes over, drains a little, and may die in the middle of that."""
        self.executor.die()
        segments = sorted(Path(self._folder.name).glob("*-*/*.journal"))
        if torn and segments:
            with segments[-1].open("ab") as file:
                file.write(journal_module.frame(entries.begun(pending()))[:-1])
        self.lost |= set(self.waiting) | set(self.running)
        self.waiting, self.running = {}, {}
        self.executor = Executor(Path(self._folder.name), self.history)
        self.loop.run_until_complete(self.executor.recorder.replay())
        for _ in range(batches):
            if self.executor.recorder._undrained.line_length:
                self.loop.run_until_complete(self.executor.step())

    @invariant()
    def what_was_answered_is_found(self) -> None:
        for identity, run in self.answered.items():
            assert self.loop.run_until_complete(self.executor.recorder.find(identity)) == run

    def teardown(self) -> None:
        self.loop.run_until_complete(self.executor.drain())
        rows = self.history.rows
        open_runs = self.waiting | self.running
        assert set(rows) - self.withdrawn == set(self.answered) | self.lost | set(open_runs)
        assert not set(rows) & self.withdrawn
        for identity in self.lost:
            assert (rows[identity].status, rows[identity].error) == (Status.FAILED, SWEPT)
        assert all(rows[identity] == run for identity, run in self.answered.items())
        self.executor.journals.close()
        self.loop.close()
        self._folder.cleanup()


Deaths.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
test_nothing_is_lost_or_there_twice_whoever_dies_when = Deaths.TestCase
