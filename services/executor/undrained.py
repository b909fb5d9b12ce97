"""The runs that the history does not have yet, in memory: what is known of each, and in which order they go there."""

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Final
from uuid import UUID

import msgspec

from libs.common.errors import KilnError
from services.executor import entries
from services.executor.execution import Execution
from services.executor.journal import Journal, JournalFailed, Place

# Of ended runs, so many bytes are kept in memory too; those above are read from the journal again when it is their turn.
AT_HAND_BYTES: Final = 64 << 20
# What a run costs in memory besides its input and output, about.
RECORD_BYTES: Final = 1024


class Record(msgspec.Struct, eq=False):
    """One run.

    Attributes:
        executor_id: Who ran it.
        journal: Where its entries lie.
        places: Those entries, in their order.
        at_hand: How much memory it takes, about; nothing when it is in the journal alone.
        has_ended: Whether it is known how it ended.
        withdrawn: Whether it was refused after all.
        written: Whether the history may have a row of it.
        passed_over: Whether its end was given time to come before its beginning goes into the history.
        reserved: Bytes that are kept free for its end.
        change: The number of the latest change.
        oldest: That of the oldest which the history does not have.
        taken: Both when it was last on its way into the history.
        waiters: Those who wait for the history to have its end.
    """

    id: UUID
    executor_id: UUID
    journal: Journal
    places: list[Place] = []
    at_hand: int = 0
    has_ended: bool = False
    withdrawn: bool = False
    written: bool = False
    passed_over: bool = False
    reserved: int = 0
    change: int = 0
    oldest: int = 0
    taken: tuple[int, int] = (0, 0)
    _run: Execution | None = None
    waiters: list[asyncio.Future[bool]] = []

    @property
    def run(self) -> Execution:
        """What is known of it.

        Raises:
            JournalFailed, Unreadable: it is not in memory, and cannot be read any more.
        """
        run = self._run
        if run is None:
            for place in self.places:
                run = entries.read(self.journal.read(place)).laid_over(run)
        if run is None:
            raise JournalFailed(f"nothing in the journal tells how {self.id} began")
        return run

    def know(self, run: Execution) -> None:
        """Takes what is known of it now."""
        self._run = run
        self.at_hand = RECORD_BYTES + len(run.input) + (len(run.output) if run.output else 0)
        self.has_ended = run.completed_at is not None

    def leave_to_journal(self) -> None:
        """Keeps it on the disk alone."""
        self._run = None
        self.at_hand = 0

    def waiter(self) -> "asyncio.Future[bool]":
        """Done once the history has its end; tells whether that was news to it."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.waiters.append(future)
        return future

    def tell(self, result: bool | KilnError) -> None:
        """Ends the wait of those who wait for the history."""
        for waiter in self.waiters:
            if waiter.done():
                continue
            if isinstance(result, KilnError):
                waiter.set_exception(result)
            else:
                waiter.set_result(result)
        self.waiters.clear()


class Undrained:
    """All such runs of this process, and the line in which they stand.

    Attributes:
        waiting: Set while there is something to take.
        hurry: Set while somebody waits for it.
    """

    def __init__(self) -> None:
        # By number, since an id's own hash is computed in Python.
        self._records: dict[int, Record] = {}
        self._line: dict[Record, None] = {}
        self._taken: Sequence[Record] = ()
        self._change = 0
        self._at_hand = 0
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.waiting = asyncio.Event()
        self.hurry = asyncio.Event()

    def __len__(self) -> int:
        return len(self._records)

    @property
    def line_length(self) -> int:
        """How many stand in line."""
        return len(self._line)

    def get(self, identity: UUID) -> Record | None:
        """That of a run, if the history does not have all of it."""
        return self._records.get(identity.int)

    def record(self, identity: UUID) -> Record:
        """That of a run which is here."""
        return self._records[identity.int]

    def unfinished(self) -> Iterable[Record]:
        """Runs that have not ended."""
        return [one for one in self._records.values() if not one.has_ended and not one.withdrawn]

    def know(self, record: Record, run: Execution) -> None:
        """Takes what is known of a run now, which the history must hear of."""
        self._records[record.id.int] = record
        before = record.at_hand
        record.know(run)
        self._at_hand += record.at_hand - before
        self.enqueue(record)

    def spare(self, record: Record) -> None:
        """Keeps an ended run whose end is in the journal out of memory, when there is much in it."""
        if self._at_hand > AT_HAND_BYTES:
            self._at_hand -= record.at_hand
            record.leave_to_journal()

    def enqueue(self, record: Record) -> None:
        """The history must hear of a change to a run."""
        self._change += 1
        record.change = self._change
        if record not in self._line:
            record.oldest = self._change
            if not self._line:
                self.waiting.set()
            self._line[record] = None

    def take(self, most: int, most_bytes: int) -> Sequence[Record]:
        """Runs whose turn it is, as many as fit; the first fits always. They must be given back.

        What has only begun is passed over once, unless somebody waits: most runs end before they are looked at again, and cost the history
        one row then rather than a row and its change.
        """
        taken: list[Record] = []
        size = 0
        hurried = self.hurry.is_set()
        for record in self._line:
            if len(taken) >= most or size >= most_bytes:
                break
            if record.has_ended or record.withdrawn or record.passed_over or hurried:
                size += record.at_hand or sum(place.length for place in record.places)
                record.taken = (record.change, record.oldest)
                taken.append(record)
            else:
                record.passed_over = True
        for record in taken:
            del self._line[record]
        if not self._line:
            self.waiting.clear()
            self.hurry.clear()
        self._taken = taken
        return taken

    def give_back(self, taken: Sequence[Record]) -> None:
        """The history has not heard of them; their turn is next."""
        for record in taken:
            _, record.oldest = record.taken
        self._line = dict.fromkeys(taken) | self._line
        if self._line:
            self.waiting.set()
        self._taken = ()

    def settle(self, taken: Sequence[Record], known: Collection[UUID]) -> None:
        """The history has heard of them. What ended is forgotten.

        Args:
            taken: What was taken.
            known: Of which the history knew as much, or more.
        """
        for record in taken:
            record.passed_over = False
            change, _ = record.taken
            if change == record.change and (record.has_ended or record.withdrawn):
                self.forget(record)
                if record.waiters:
                    record.tell(record.id not in known)
        self._taken = ()
        self._tell()

    def leave(self, record: Record) -> None:
        """The history cannot have it now, and it must not be forgotten: it stays in the journal for the next start."""
        self._change += 1
        record.change = self._change

    def forget(self, record: Record) -> None:
        """Nothing of a run is needed any more."""
        self._line.pop(record, None)
        self._records.pop(record.id.int, None)
        self._at_hand -= record.at_hand
        for place in record.places:
            record.journal.release(place)
        record.places.clear()

    async def drained(self) -> None:
        """Returns once the history has all that was known when this was called."""
        if not self._line and not self._taken:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((self._change, future))
        self.hurry.set()
        await future

    def _tell(self) -> None:
        """Those in line stand in the order of their oldest change."""
        first = next(iter(self._line)).oldest if self._line else self._change + 1
        while self._waiters and self._waiters[0][0] < first:
            _, future = self._waiters.popleft()
            if not future.done():
                future.set_result(None)
