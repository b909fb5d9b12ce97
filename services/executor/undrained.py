"""The runs that the history does not have yet, in memory: what is known of each, and in which order they go there."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from libs.common.errors import KilnError
from services.executor import entries
from services.executor.execution import Execution
from services.executor.journal import Journal, JournalFailed, Place

# Of ended runs, so many bytes are kept in memory too; those above are read from the journal again when it is their turn.
AT_HAND_BYTES: Final = 64 << 20
# What a run costs in memory besides its input and output, about.
RECORD_BYTES: Final = 1024


class Record:
    """One run.

    Attributes:
        executor_id: Who ran it.
        journal: Where its entries lie.
        places: Those entries, in their order.
        has_ended: Whether `run` tells how it ended.
        withdrawn: Whether it was refused after all.
        written: Whether the history may have a row of it.
        reserved: Bytes that are kept free for its end.
    """

    __slots__ = (
        "_run", "_waiters", "at_hand", "change", "executor_id", "has_ended", "id", "journal", "oldest", "places", "reserved", "withdrawn",
        "written",
    )  # fmt: skip

    def __init__(self, identity: UUID, executor_id: UUID, journal: Journal) -> None:
        self.id = identity
        self.executor_id = executor_id
        self.journal = journal
        self.places: list[Place] = []
        self.has_ended = False
        self.withdrawn = False
        self.written = False
        self.reserved = 0
        # The number of the latest change, and of the oldest that the history does not have.
        self.change = 0
        self.oldest = 0
        self.at_hand = 0
        self._run: Execution | None = None
        self._waiters: list[asyncio.Future[bool]] = []

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

    @run.setter
    def run(self, run: Execution) -> None:
        self._run = run
        self.at_hand = RECORD_BYTES + len(run.input) + len(run.output or b"")

    def leave_to_journal(self) -> None:
        """Keeps it on the disk alone."""
        self._run = None
        self.at_hand = 0

    def waiter(self) -> "asyncio.Future[bool]":
        """Done once the history has its end; tells whether that was news to it."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        return future

    def tell(self, result: bool | KilnError) -> None:
        """Ends the wait of those who wait for the history."""
        for waiter in self._waiters:
            if waiter.done():
                continue
            if isinstance(result, KilnError):
                waiter.set_exception(result)
            else:
                waiter.set_result(result)
        self._waiters.clear()


@dataclass(frozen=True, slots=True)
class Taken:
    """A run on its way into the history, as it was when it was taken."""

    record: Record
    change: int
    oldest: int


class Undrained:
    """All such runs of this process, and the line in which they stand.

    Attributes:
        waiting: Set while there is something to take.
        hurry: Set while somebody waits for it.
    """

    def __init__(self) -> None:
        self._records: dict[UUID, Record] = {}
        self._line: OrderedDict[UUID, Record] = OrderedDict()
        self._taken: Sequence[Taken] = ()
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
        return self._records.get(identity)

    def record(self, identity: UUID) -> Record:
        """That of a run which is here."""
        return self._records[identity]

    def unfinished(self) -> Iterable[Record]:
        """Runs that have not ended."""
        return [one for one in self._records.values() if not one.has_ended and not one.withdrawn]

    def know(self, record: Record, run: Execution) -> None:
        """Takes what is known of a run. It does not go into the history for that."""
        self._records[record.id] = record
        self._at_hand -= record.at_hand
        record.run = run
        if run.completed_at is not None:
            record.has_ended = True
        self._at_hand += record.at_hand

    def spare(self, record: Record) -> None:
        """Keeps an ended run whose end is in the journal out of memory, when there is much in it."""
        if self._at_hand > AT_HAND_BYTES:
            self._at_hand -= record.at_hand
            record.leave_to_journal()

    def enqueue(self, record: Record) -> None:
        """The history must hear of what is known of a run now."""
        self._change += 1
        record.change = self._change
        if record.id not in self._line:
            record.oldest = self._change
            self._line[record.id] = record
            self.waiting.set()

    def take(self, most: int, most_bytes: int) -> Sequence[Taken]:
        """Runs whose turn it is, as many as fit, but one at least where there is one. They must be given back."""
        taken: list[Taken] = []
        size = 0
        while self._line and len(taken) < most and size < most_bytes:
            _, record = self._line.popitem(last=False)
            size += record.at_hand or sum(place.length for place in record.places)
            taken.append(Taken(record, record.change, record.oldest))
        self.hurry.clear()
        if not self._line:
            self.waiting.clear()
        self._taken = taken
        return taken

    def give_back(self, taken: Sequence[Taken]) -> None:
        """The history has not heard of them; their turn is next."""
        for one in reversed(taken):
            one.record.oldest = one.oldest
            self._line[one.record.id] = one.record
            self._line.move_to_end(one.record.id, last=False)
            self.waiting.set()
        self._taken = ()

    def settle(self, taken: Sequence[Taken], news: Collection[UUID]) -> None:
        """The history has heard of them. What ended is forgotten."""
        for one in taken:
            if one.change == one.record.change and (one.record.has_ended or one.record.withdrawn):
                self.forget(one.record)
                one.record.tell(one.record.id in news)
        self._taken = ()
        self._tell()

    def leave(self, record: Record) -> None:
        """The history cannot have it now, and it must not be forgotten: it stays in the journal for the next start."""
        self._change += 1
        record.change = self._change

    def forget(self, record: Record) -> None:
        """Nothing of a run is needed any more."""
        self._line.pop(record.id, None)
        self._records.pop(record.id, None)
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
        first = next(iter(self._line.values())).oldest if self._line else self._change + 1
        while self._waiters and self._waiters[0][0] < first:
            _, future = self._waiters.popleft()
            if not future.done():
                future.set_result(None)
