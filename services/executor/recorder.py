"""Records every step of every run in the journal before it counts, and sees to it that the history gets to know."""

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from uuid import UUID

from msgspec.structs import replace

from libs.common.errors import AlreadyExists, KilnError, ResourceExhausted, Unavailable
from libs.common.logs import logger
from libs.common.server import forever
from libs.common.settings import InvalidSettings
from libs.common.times import now_micros
from services.executor import entries
from services.executor.drainer import Drainer
from services.executor.entries import Kind, Unreadable
from services.executor.execution import Execution, Status
from services.executor.journal import FRAME_BYTES, Journal, JournalFailed, Place
from services.executor.journal_folder import Journals, open_journals
from services.executor.repository import SWEPT, ExecutionRepository
from services.executor.sandbox.outcome import Limits
from services.executor.taken_ids import TakenIds
from services.executor.undrained import RECORD_BYTES, Record, Undrained

# How long a reader of the history waits for what was answered before.
CATCH_UP_SECONDS: Final = 4
# How long a service that stops waits for the history; what it does not get then stays in the journal.
DRAIN_AT_END_SECONDS: Final = 5
# JSON makes six bytes of some characters, and the message of an error and its stack have room besides.
_LOG_EXPANSION: Final = 6
_MORE_BYTES: Final = 128 << 10
# What an operator must repair before a start can go well.
_WRONG_FOLDER: Final = frozenset({errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG})


def room_for_end(limits: Limits) -> int:
    """How large the record of a run's end can become."""
    return limits.max_output_bytes + _LOG_EXPANSION * limits.max_log_bytes + _MORE_BYTES


class Recorder:
    """The record of this executor's runs.

    Steps are recorded at once and without waiting: a small write to the page cache. A background task brings them into the history.

    Args:
        journals: Where steps are written; what the dead left there is replayed by `replay`.
        history: Where runs go.
        max_bytes: How much may be in the journals.
    """

    def __init__(self, journals: Journals, history: ExecutionRepository, *, max_bytes: int) -> None:
        self._journals = journals
        self._history = history
        self._max_bytes = max_bytes
        self._reserved = 0
        self._undrained = Undrained()
        self._taken = TakenIds()
        self.drainer = Drainer(self._undrained, journals, history)

    async def check_free(self, identity: UUID) -> None:
        """Asks the history about an id that is older than what is remembered here.

        Raises:
            AlreadyExists: there is an execution of that id.
            Unavailable: that cannot be found out now.
        """
        if self._taken.may_have_forgotten(identity) and await self._history.find(identity):
            raise _exists(identity)

    def begin(self, run: Execution, room: int = 0) -> None:
        """Records that a call waits for a worker, or runs, with so many bytes kept free for its end.

        Raises:
            AlreadyExists: there is an execution of that id.
            ResourceExhausted, Unavailable: it cannot be recorded; it must not run.
        """
        if run.id in self._taken or self._undrained.get(run.id):
            raise _exists(run.id)
        self._demand(len(run.input) + RECORD_BYTES + room)
        own = self._journals.own
        record = Record(run.id, own.executor_id, own)
        self._append(record, entries.begun(run))
        self._reserve(record, room)
        self._taken.add(run.id)
        self._undrained.know(record, run)

    def start(self, run: Execution, room: int) -> None:
        """Records that a call which waited runs, with so many bytes kept free for its end.

        Raises:
            ResourceExhausted, Unavailable: it cannot be recorded; it must not run.
        """
        record = self._undrained.record(run.id)
        self._demand(room)
        self._append(record, entries.started(run))
        self._reserve(record, room)
        self._undrained.know(record, run)

    def end(self, run: Execution) -> bool:
        """Records how a run ended. False when only `committed` can tell whether that succeeds."""
        record = self._undrained.record(run.id)
        self._reserve(record, 0)
        self._undrained.know(record, run)
        try:
            self._append(record, entries.ended(run))
        except KilnError:
            return False
        self._undrained.spare(record)
        return True

    def withdraw(self, identity: UUID) -> None:
        """Records that a call was refused after all; nothing has run. Harmless when it was never recorded."""
        record = self._undrained.get(identity)
        if record is None or record.has_ended:
            return
        self._reserve(record, 0)
        self._taken.discard(identity)
        record.withdrawn = True
        try:
            self._append(record, entries.withdrawn(identity))
        except KilnError:
            # Should this process die before the history knows, the call will seem to have begun; more cannot be done on a full disk.
            logger().warning("not_withdrawn", execution=str(identity))
        if record.written:
            self._undrained.enqueue(record)
        else:
            self._undrained.forget(record)

    async def committed(self, identity: UUID) -> Execution | None:
        """A run that has just ended as the history tells it, once PostgreSQL has it; None when it does not take it.

        Raises:
            Unavailable: it refuses it.
        """
        record = self._undrained.record(identity)
        run, waiter = record.run, record.waiter()
        self._undrained.hurry.set()
        return run if await waiter else await self._history.find(identity)

    async def find(self, identity: UUID) -> Execution | None:
        """One run, wherever it is."""
        record = self._undrained.get(identity)
        if record is None:
            return await self._history.find(identity)
        return None if record.withdrawn else record.run

    async def catch_up(self) -> None:
        """Returns once the history has all that was recorded before.

        Raises:
            Unavailable: it does not in time.
        """
        try:
            async with asyncio.timeout(CATCH_UP_SECONDS):
                await self._undrained.drained()
        except TimeoutError:
            raise Unavailable(
                "the history lags behind, since the database cannot be reached; try again", reason="DATABASE_AWAY", retry_after=1
            ) from None

    async def replay(self) -> None:
        """Takes up what dead executors left: what ended goes into the history, and what did not has failed."""
        now = now_micros()
        for journal in self._journals.inherited:
            read = lost = 0
            for place, payload in journal.replay():
                read += 1
                lost += not self._take_up(journal, place, payload)
                if read % 1000 == 0:
                    await asyncio.sleep(0)
            logger().info("journal_replayed", executor=str(journal.executor_id), entries=read, without_beginning=lost)
        for record in self._undrained.unfinished():
            self._undrained.know(record, replace(record.run, status=Status.FAILED, error=SWEPT, completed_at=now))
        self._journals.close_empty()

    async def drain(self, seconds: float) -> None:
        """Waits for the history to have all, but not for ever: what it does not get stays in the journal."""
        try:
            async with asyncio.timeout(seconds):
                await self._undrained.drained()
        except TimeoutError:
            logger().warning("not_drained", runs=len(self._undrained))

    def _take_up(self, journal: Journal, place: Place, payload: bytes) -> bool:
        """False when the run's beginning is not there any more: the history has had it, or it is in a damaged part."""
        try:
            entry = entries.read(payload)
        except Unreadable as error:
            logger().error("journal_entry_unreadable", segment=str(place.segment.path), at=place.offset, error=str(error))
            place.segment.damaged = True
            return False
        record = self._undrained.get(entry.id)
        if record is None:
            if entry.beginning is None:
                return False
            record = Record(entry.id, journal.executor_id, journal)
            record.written = True
            self._taken.add(entry.id)
        if record.has_ended or record.withdrawn or record.journal is not journal:
            return True
        journal.hold(place)
        record.places.append(place)
        known = entry.laid_over(record.run if entry.beginning is None else None)
        if entry.kind is Kind.WITHDRAWN:
            record.withdrawn = True
            self._undrained.enqueue(record)
        elif known is not None:
            self._undrained.know(record, known)
        if record.has_ended:
            self._undrained.spare(record)
        return True

    def _demand(self, more: int) -> None:
        held = self._journals.size + self._reserved + RECORD_BYTES * len(self._undrained)
        if held + more + FRAME_BYTES > self._max_bytes:
            raise ResourceExhausted(
                "the journal is full, since the database does not take what is in it; nothing has run", reason="JOURNAL_FULL", retry_after=1
            )

    def _reserve(self, record: Record, room: int) -> None:
        self._reserved += room - record.reserved
        record.reserved = room

    @staticmethod
    def _append(record: Record, payload: bytes) -> None:
        try:
            record.places.append(record.journal.append(payload))
        except JournalFailed as error:
            logger().error("journal_failed", error=str(error))
            raise Unavailable(
                "the call cannot be recorded, since the journal cannot be written; nothing has run",
                reason="JOURNAL_UNWRITABLE",
                retry_after=1,
            ) from error


def _exists(identity: UUID) -> AlreadyExists:
    return AlreadyExists(f"there is an execution {identity} already", reason="EXECUTION_EXISTS")


@asynccontextmanager
async def open_recorder(folder: Path, executor_id: UUID, history: ExecutionRepository, *, max_bytes: int) -> AsyncIterator[Recorder]:
    """Opens the journals below a folder, replays what the dead left, and drains it all while the block runs.

    Raises:
        InvalidSettings: the folder cannot be used.
    """
    try:
        journals = open_journals(folder, executor_id)
    except OSError as error:
        if error.errno in _WRONG_FOLDER:
            raise InvalidSettings(f"KILN_EXECUTOR_JOURNAL_FOLDER: {error}") from None
        raise
    recorder = Recorder(journals, history, max_bytes=max_bytes)
    try:
        await recorder.replay()
        draining = asyncio.create_task(forever("drain", recorder.drainer.step, pause_seconds=0))
        try:
            yield recorder
            await recorder.drain(DRAIN_AT_END_SECONDS)
        finally:
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)
    finally:
        journals.close()
