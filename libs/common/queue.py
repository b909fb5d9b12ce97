"""PGMQ: jobs and results between services, on the same PostgreSQL and in the same transactions as the rows they speak of.

PGMQ's acknowledgements are not fenced: a consumer whose visibility timeout has passed could archive a message that another holds. Here
`read_ct`, which rises with every read, is the fence. A read is committed before the work begins, so that `read_ct` counts also the attempts
that killed their consumer. NOTIFY is only a hint: Kiln sends its own (PGMQ's makes senders wait for each other, and is silent after a crash
of the database), and consumers poll besides.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from libs.common.postgres import Database, Listener, Transaction

COMPILATION_JOBS: Final = "compilation_jobs"
COMPILATION_RESULTS: Final = "compilation_results"
AUDIT_EVENTS: Final = "audit_events"


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it was read.

    Attributes:
        id: PGMQ's `msg_id`.
        reads: How often it has been read, this time included; the fence of acknowledgements.
        waited_seconds: From its sending to this read.
        body: What was sent.
    """

    id: int
    reads: int
    waited_seconds: float
    body: Mapping[str, Any]


class Queue:
    """One queue, by its constant name in `[a-z0-9_]`."""

    def __init__(self, name: str) -> None:
        if not re.fullmatch("[a-z0-9_]{1,40}", name):
            raise ValueError(f"not a queue name: {name}")
        self.name = name
        self.channel = f"kiln_{name}"
        self._hold = f"SELECT true FROM pgmq.q_{name} WHERE msg_id = $1 AND read_ct = $2 FOR UPDATE"
        self._extend = (
            f"UPDATE pgmq.q_{name} SET vt = clock_timestamp() + make_interval(secs => $3) "
            "WHERE msg_id = $1 AND read_ct = $2 AND vt > clock_timestamp()"
        )
        self._release = (
            f"UPDATE pgmq.q_{name} SET vt = clock_timestamp() + make_interval(secs => $3), read_ct = read_ct - 1 "
            "WHERE msg_id = $1 AND read_ct = $2 AND vt > clock_timestamp()"
        )
        self._delete = (
            f"DELETE FROM pgmq.q_{name} q USING unnest($1::bigint[], $2::integer[]) AS held (msg_id, read_ct) "
            "WHERE q.msg_id = held.msg_id AND q.read_ct = held.read_ct"
        )
        self._purge_archive = f"DELETE FROM pgmq.a_{name} WHERE archived_at < now() - make_interval(secs => $1)"
        self._count = f"SELECT count(*) FROM pgmq.q_{name}"

    async def send(self, transaction: Transaction, body: Mapping[str, Any]) -> int:
        """Sends a message when the transaction commits, and wakes a consumer. Returns its id."""
        await transaction.fetchval("SELECT pg_notify($1, '')", self.channel)
        identity: int = await transaction.fetchval("SELECT pgmq.send($1, $2::jsonb)", self.name, body)
        return identity

    async def read(self, database: Database, *, visibility_seconds: int, most: int) -> Sequence[Message]:
        """Takes messages for that long; committed before it returns."""
        rows = await database.fetch(
            "SELECT msg_id, read_ct, extract(epoch FROM clock_timestamp() - enqueued_at)::float8 AS waited, message "
            "FROM pgmq.read($1, $2::integer, $3::integer)",
            self.name,
            visibility_seconds,
            most,
        )
        return [Message(row["msg_id"], row["read_ct"], row["waited"], row["message"]) for row in rows]

    async def extend(self, database: Database, message: Message, *, visibility_seconds: int) -> bool:
        """Keeps a message for that long from now. False when it is no longer this reader's."""
        return await database.execute(self._extend, message.id, message.reads, visibility_seconds) == 1

    async def release(self, database: Database, message: Message, *, after_seconds: float) -> None:
        """Gives a message back, to be read again after that long; this read does not count."""
        await database.execute(self._release, message.id, message.reads, after_seconds)

    async def archive(self, transaction: Transaction, message: Message) -> bool:
        """Acknowledges a message when the transaction commits. False, with nothing done, when another has read it since."""
        if await transaction.fetchval(self._hold, message.id, message.reads) is None:
            return False
        return bool(await transaction.fetchval("SELECT pgmq.archive($1, $2::bigint)", self.name, message.id))

    async def delete(self, transaction: Transaction, messages: Sequence[Message]) -> None:
        """Acknowledges messages when the transaction commits, and keeps nothing of them. Those that another has read since stay."""
        await transaction.execute(self._delete, [message.id for message in messages], [message.reads for message in messages])

    async def purge_archive(self, database: Database, *, older_than_seconds: float) -> int:
        """Deletes archived messages; returns how many."""
        return await database.execute(self._purge_archive, older_than_seconds)

    async def length(self, database: Database) -> int:
        """How many messages wait or are being worked on."""
        count: int = await database.fetchval(self._count)
        return count


class Wakeup:
    """Tells a consumer when to look: at a notification, after a reconnect, and after `poll_seconds` in any case."""

    def __init__(self, poll_seconds: float) -> None:
        self._poll_seconds = poll_seconds
        self._event = asyncio.Event()

    def now(self) -> None:
        """Wakes the consumer."""
        self._event.set()

    async def wait(self) -> None:
        """Returns at the next wake-up; at once when one came since the last."""
        # Not wait_for, which swallows a cancellation that comes with the event (python/cpython#86296).
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._poll_seconds):
                await self._event.wait()
        self._event.clear()


@asynccontextmanager
async def wakeups(url: str, queue: Queue, *, poll_seconds: float) -> AsyncIterator[Wakeup]:
    """A `Wakeup` that listens to a queue while the block runs."""
    wakeup = Wakeup(poll_seconds)

    async def listen() -> None:
        async for _ in Listener(url, queue.channel).events():
            wakeup.now()

    task = asyncio.create_task(listen())
    try:
        yield wakeup
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
