"""The audit log: what services hand over is kept once, can be found, and leaves with age."""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from libs.common.audit import UNFINISHED, Event
from libs.common.errors import Unavailable
from libs.common.ids import milliseconds_of, parse_uuid
from libs.common.logs import logger
from libs.common.pages import Listing, Page, listing
from libs.common.postgres import Transaction
from libs.common.queue import AUDIT_EVENTS, Message, Queue, Wakeup
from libs.common.times import micros_of, moment_of
from services.auth.records import AuditFilter
from services.auth.repository import AuditRepository

# Far above what keeping takes; an auth service that dies meanwhile lets the messages come back.
VISIBILITY_SECONDS: Final = 30
MESSAGES_AT_ONCE: Final = 200
# A message that cannot be kept so often is dropped; no service sends such.
MAX_READS: Final = 5
ROWS_PURGED_AT_ONCE: Final = 10_000
# Of one caller, and how many callers' minutes are counted at once.
FAILURES_A_MINUTE: Final = 60
_MINUTES_COUNTED: Final = 10_000
# With these nothing was changed, for certain.
_HARMLESS: Final = frozenset(
    {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "RESOURCE_EXHAUSTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
    }
)


class Failures:
    """How many failed calls of one caller are kept: a flood of them would otherwise fill the log, and the first tell as much."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, bool, int], set[UUID]] = OrderedDict()

    def is_one_too_many(self, event: Event) -> bool:
        """Whether an event should not be kept. One that should is not counted twice."""
        if event.outcome not in _HARMLESS:
            return False
        # What others try in somebody's name does not hide what that user does.
        key = (event.actor or event.address, bool(event.role), milliseconds_of(event.id) // 60_000)
        kept = self._kept.setdefault(key, set())
        if len(self._kept) > _MINUTES_COUNTED:
            self._kept.popitem(last=False)
        if event.id not in kept and len(kept) >= FAILURES_A_MINUTE:
            return True
        kept.add(event.id)
        if len(kept) == FAILURES_A_MINUTE:
            logger().warning("audit_failures_full", actor=event.actor, address=event.address, kept=FAILURES_A_MINUTE)
        return False


class AuditEvents:
    """The log of one installation."""

    def __init__(self, repository: AuditRepository) -> None:
        self._repository = repository
        self._queue = Queue(AUDIT_EVENTS)
        self._failures = Failures()

    async def run(self, wakeup: Wakeup) -> None:
        """Keeps what has come, then waits for more."""
        while await self.keep_waiting():
            pass
        await wakeup.wait()

    async def keep_waiting(self) -> int:
        """Keeps events that have come; returns how many messages were read."""
        messages = await self._queue.read(self._repository.database, visibility_seconds=VISIBILITY_SECONDS, most=MESSAGES_AT_ONCE)
        told = [(message, event) for message in messages if (event := await self._read(message))]
        dropped = {event.id for _, event in told if self._failures.is_one_too_many(event)}
        if not told:
            return len(messages)
        try:
            await self._keep([message for message, _ in told], [event for _, event in told], dropped)
        except Unavailable:
            raise
        except Exception as error:
            # One of them is at fault, and must not keep the others out.
            logger().error("audit_events_one_by_one", exc_info=error)
            for message, event in told:
                await self._keep_or_leave(message, event, dropped)
        return len(messages)

    async def list(self, page: Page, wanted: AuditFilter) -> Listing[Event]:
        """Events that pass a filter, newest first."""
        first = first_id(wanted.after) if wanted.after else None
        ends = [page.key(parse_uuid), first_id(wanted.before) if wanted.before else None]
        before = min((one for one in ends if one), default=None)
        rows = await self._repository.list_events(wanted, first, before, page.size + 1)
        return listing(page, rows, lambda one: str(one.id))

    async def purge(self, before: datetime) -> None:
        """Removes what is older."""
        while await self._repository.purge(first_id(before), ROWS_PURGED_AT_ONCE) == ROWS_PURGED_AT_ONCE:
            pass

    async def _read(self, message: Message) -> Event | None:
        """The event that a message tells; None where it tells none, which is then forgotten."""
        try:
            return Event.of_body(message.body)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            logger().error("audit_message_dropped", message_id=message.id, exc_info=error)
            async with self._repository.transaction() as transaction:
                await self._queue.delete(transaction, [message])
            return None

    async def _keep(self, messages: Sequence[Message], events: Sequence[Event], dropped: set[UUID]) -> None:
        async with self._repository.transaction() as transaction:
            await write(transaction, [event for event in events if event.id not in dropped])
            await self._repository.drop(transaction, list(dropped))
            await self._queue.delete(transaction, messages)

    async def _keep_or_leave(self, message: Message, event: Event, dropped: set[UUID]) -> None:
        try:
            await self._keep([message], [event], dropped & {event.id})
        except Unavailable:
            raise
        except Exception as error:
            logger().error("audit_event_left", message_id=message.id, reads=message.reads, exc_info=error)
            if message.reads >= MAX_READS:
                async with self._repository.transaction() as transaction:
                    await self._queue.delete(transaction, [message])


async def write(transaction: Transaction, events: Sequence[Event]) -> None:
    """Keeps events when a transaction commits. The end of a call stands, whatever comes of its beginning."""
    ends = {event.id: event for event in sorted(events, key=lambda one: one.outcome != UNFINISHED)}
    if ends:
        await AuditRepository.write(transaction, list(ends.values()))


def began_at(event: Event) -> datetime:
    """When the call began."""
    return moment_of(milliseconds_of(event.id) * 1000)


def first_id(moment: datetime) -> UUID:
    """Below every id of that moment and later, and above every earlier one: ids are made to the millisecond."""
    milliseconds = -(-micros_of(moment) // 1000)
    return UUID(int=max(0, milliseconds) << 80)
