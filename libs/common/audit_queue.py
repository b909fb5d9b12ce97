"""The way of audit events to the auth service, which owns the log: a queue, so that no call needs auth to be up."""

from libs.common.audit import Event
from libs.common.postgres import Database
from libs.common.queue import AUDIT_EVENTS, Queue


class QueuedAuditLog:
    """Hands events to the auth service. See `libs.common.audit.AuditLog`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue = Queue(AUDIT_EVENTS)

    async def write(self, event: Event) -> None:
        """Keeps an event for good.

        Raises:
            Unavailable: the database is away.
        """
        async with self._database.transaction() as transaction:
            await self._queue.send(transaction, event.to_body())
