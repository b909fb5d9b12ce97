"""Brings runs from the journal into the history, many at once, behind the backs of their callers."""

import asyncio
from collections.abc import Sequence, Set
from contextlib import suppress
from typing import Final
from uuid import UUID

from libs.common.errors import Unavailable
from libs.common.logs import logger
from libs.common.postgres import Refused
from services.executor import entries
from services.executor.entries import Unreadable
from services.executor.journal import JournalFailed
from services.executor.journal_folder import Journals
from services.executor.repository import ExecutionRepository, Written
from services.executor.undrained import Record, Undrained

# How long the first of a batch waits for others, unless somebody waits for it.
GATHER_SECONDS: Final = 0.05
BATCH_RUNS: Final = 500
BATCH_BYTES: Final = 4 << 20


class Drainer:
    """Empties the line of undrained runs, batch after batch, one at a time."""

    def __init__(self, undrained: Undrained, journals: Journals, history: ExecutionRepository) -> None:
        self._undrained = undrained
        self._journals = journals
        self._history = history

    async def step(self) -> None:
        """Waits for runs, and brings a batch of them into the history.

        Raises:
            Unavailable: PostgreSQL is away; the runs are first in line again.
        """
        await self._undrained.waiting.wait()
        if self._undrained.line_length < BATCH_RUNS:
            with suppress(TimeoutError):
                async with asyncio.timeout(GATHER_SECONDS):
                    await self._undrained.hurry.wait()
        taken = self._undrained.take(BATCH_RUNS, BATCH_BYTES)
        try:
            known = await self._write(taken)
        except BaseException:
            self._undrained.give_back(taken)
            raise
        self._undrained.settle(taken, known)
        self._compact()
        self._journals.close_empty()

    async def _write(self, taken: Sequence[Record]) -> Set[UUID]:
        """Returns the ids of which the history knew as much, or more."""
        refused = [(record.executor_id, record.id) for record in taken if record.withdrawn]
        runs = [run for record in taken if not record.withdrawn and (run := self._written(record))]
        if refused:
            await self._history.withdraw(refused)
        return await self._write_runs(runs) if runs else frozenset()

    def _written(self, record: Record) -> Written | None:
        record.written = True
        try:
            return record.executor_id, record.run
        except (JournalFailed, Unreadable) as error:
            logger().error("run_unreadable", execution=str(record.id), error=str(error))
            record.tell(_not_recorded(f"the record of execution {record.id} cannot be read any more"))
            return None

    async def _write_runs(self, runs: Sequence[Written]) -> Set[UUID]:
        """Where PostgreSQL will never take one of them, the others must not wait for that."""
        try:
            return await self._history.write(runs)
        except Refused as error:
            if len(runs) == 1:
                self._set_aside(runs[0], error)
                return frozenset()
        half = len(runs) // 2
        return await self._write_runs(runs[:half]) | await self._write_runs(runs[half:])

    def _set_aside(self, written: Written, error: Exception) -> None:
        _, run = written
        record = self._undrained.record(run.id)
        record.tell(_not_recorded(f"the history refuses the record of execution {run.id}"))
        try:
            payloads = [entries.begun(run)] + ([entries.ended(run)] if run.completed_at is not None else [])
            kept = str(self._journals.keep_aside(run.id, payloads))
        except OSError as failure:
            self._undrained.leave(record)
            kept = f"the journal: {failure}"
        logger().error("run_refused", execution=str(run.id), error=str(error), kept_in=kept)

    def _compact(self) -> None:
        """Appends the beginnings of long runs again, where a segment is kept for little else."""
        sparse = self._journals.own.sparse()
        if not sparse:
            return
        for record in self._undrained.unfinished():
            if any(place.segment in sparse for place in record.places):
                with suppress(JournalFailed):
                    again = record.journal.append(entries.begun(record.run))
                    old, record.places = record.places, [again]
                    for place in old:
                        record.journal.release(place)


def _not_recorded(message: str) -> Unavailable:
    return Unavailable(message, reason="NOT_RECORDED")
