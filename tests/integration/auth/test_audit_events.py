"""What services hand over for the audit log is kept once, whatever comes twice, late or in the wrong order, and leaves with age."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import pytest

from libs.common.audit import UNFINISHED, Event
from libs.common.audit_queue import QueuedAuditLog
from libs.common.ids import uuid7
from libs.common.pages import page_of
from libs.common.postgres import Database
from libs.common.queue import AUDIT_EVENTS, Queue
from services.auth.audit_events import FAILURES_A_MINUTE, MAX_READS, AuditEvents, began_at, first_id
from services.auth.records import AuditFilter
from services.auth.repository import QUERIES, AuditRepository

ACTOR: Final = str(uuid7())


class Log:
    """The log of a database, and the queue that leads there."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.queue = Queue(AUDIT_EVENTS)
        self.events = AuditEvents(AuditRepository(database))

    async def send(self, *events: Event) -> None:
        """Hands events over, as a service does."""
        for event in events:
            await QueuedAuditLog(self.database).write(event)

    async def keep(self) -> None:
        """Keeps what has come."""
        while await self.events.keep_waiting():
            pass

    async def kept(self, **wanted: Any) -> Sequence[Event]:
        """What is in the log, newest first."""
        return (await self.events.list(page_of(1000, "", wanted), AuditFilter(**wanted))).items


@pytest.fixture
async def log(database: Database) -> Log:
    return Log(database)


def begun(**fields: Any) -> Event:
    """A call that has begun."""
    return replace(Event(uuid7(), "DeleteUser", "user", "ada", actor=ACTOR, actor_name="root", role="ADMIN"), **fields)


def ended(event: Event, outcome: str = "OK", **fields: Any) -> Event:
    return replace(event, outcome=outcome, **fields)


def at(moment: datetime, number: int = 0) -> UUID:
    """An id of that moment."""
    return UUID(int=first_id(moment).int | 7 << 76 | 2 << 62 | number)


async def test_a_call_is_kept_whole_and_its_beginning_alone_is_unfinished(log: Log) -> None:
    whole = begun(user=ACTOR, session=str(uuid7()), api_key=str(uuid7()), address="192.0.2.7", request_id="request-7", reason="")
    alone = begun()

    await log.send(whole, alone, ended(whole, entity_id=ACTOR))
    await log.keep()

    assert await log.kept() == [alone, ended(whole, entity_id=ACTOR)]
    assert await log.kept(outcome=UNFINISHED) == [alone]
    assert await log.queue.length(log.database) == 0


async def test_an_end_stands_whether_its_beginning_comes_before_it_after_it_or_never(log: Log) -> None:
    before, after, never = begun(), begun(), begun()

    for event in (before, ended(after), ended(never, "CANCELLED"), ended(before, "NOT_FOUND", reason="USER_NOT_FOUND"), after):
        await log.send(event)
        await log.keep()

    assert [one.outcome for one in await log.kept()] == ["CANCELLED", "OK", "NOT_FOUND"]


async def test_what_is_handed_over_twice_is_kept_once_and_as_it_was_told_first(log: Log) -> None:
    event = begun()

    await log.send(event, event, ended(event), ended(event), event)
    await log.keep()
    await log.send(event, ended(event, "INTERNAL"))
    await log.keep()

    assert await log.kept() == [ended(event)]


async def test_two_processes_that_keep_the_same_at_once_keep_it_once(log: Log) -> None:
    events = [begun() for _ in range(100)]
    await log.send(*events, *map(ended, events))

    await asyncio.gather(log.keep(), Log(log.database).keep(), Log(log.database).keep())

    assert await log.kept() == [ended(one) for one in reversed(events)]


async def test_a_message_that_tells_no_event_keeps_none_out(log: Log) -> None:
    good, cut_off = begun(), begun()
    async with log.database.transaction() as transaction:
        await log.queue.send(transaction, {"colour": "red"})
        await log.queue.send(transaction, {**cut_off.to_body(), "actor": "no id"})
    await log.send(good)

    await log.keep()
    assert await log.kept() == [good]

    await log.database.execute("UPDATE pgmq.q_audit_events SET vt = now(), read_ct = $1", MAX_READS - 1)
    await log.keep()
    assert await log.queue.length(log.database) == 0


async def test_an_event_of_another_release_is_kept_as_far_as_it_is_known(log: Log) -> None:
    event = begun()
    async with log.database.transaction() as transaction:
        await log.queue.send(transaction, {**event.to_body(), "mood": "good"})

    await log.keep()

    assert await log.kept() == [event]


# Floods


async def test_of_a_flood_of_failures_the_first_of_each_minute_are_kept_and_all_else_besides(log: Log) -> None:
    minute = datetime.now(UTC).replace(second=0, microsecond=0)
    flood = [ended(begun(id=at(minute, number), session=ACTOR), "PERMISSION_DENIED") for number in range(FAILURES_A_MINUTE + 20)]
    next_minute = ended(begun(id=at(minute + timedelta(minutes=1)), session=ACTOR), "PERMISSION_DENIED")
    of_another = ended(begun(id=at(minute, 1000), actor=str(uuid7()), session=ACTOR), "NOT_FOUND")
    tried_by_others = ended(begun(id=at(minute, 1001), role=""), "UNAUTHENTICATED")
    done = [ended(begun(id=at(minute, 2000 + number), session=ACTOR)) for number in range(5)]
    broken_off = ended(begun(id=at(minute, 3000), session=ACTOR), "CANCELLED")
    begun_before = [replace(one, outcome=UNFINISHED) for one in flood[-3:]]

    await log.send(*begun_before)
    await log.keep()
    await log.send(*flood, next_minute, of_another, tried_by_others, *done, broken_off)
    await log.keep()

    kept = {one.id for one in await log.kept()}
    assert len([one for one in flood if one.id in kept]) == FAILURES_A_MINUTE
    assert {one.id for one in (next_minute, of_another, tried_by_others, *done, broken_off)} <= kept
    assert not await log.kept(outcome=UNFINISHED)


async def test_failures_that_come_again_since_keeping_them_failed_are_not_counted_twice(log: Log) -> None:
    flood = [ended(begun(session=ACTOR), "NOT_FOUND") for _ in range(FAILURES_A_MINUTE // 2)]

    for _ in range(3):
        await log.send(*flood)
        await log.keep()
        await log.database.execute("DELETE FROM auth.audit_events")
    await log.send(*flood)
    await log.keep()

    assert len(await log.kept()) == len(flood)


# Age


async def test_what_is_too_old_leaves_and_nothing_else(log: Log) -> None:
    now = datetime.now(UTC)
    old, young = begun(id=at(now - timedelta(days=365, seconds=1))), begun(id=at(now - timedelta(days=364)))
    await log.send(old, young)
    await log.keep()

    await log.events.purge(now - timedelta(days=365))

    assert await log.kept() == [young]


def test_an_event_is_of_the_moment_that_its_id_was_made_at() -> None:
    moment = datetime(2026, 11, 27, 12, 0, 0, 123_000, tzinfo=UTC)

    assert began_at(begun(id=at(moment))) == moment
    assert first_id(moment) <= at(moment) < first_id(moment + timedelta(microseconds=1)) <= at(moment + timedelta(milliseconds=1))
    assert first_id(datetime(1, 1, 1, tzinfo=UTC)).int == 0
    assert first_id(datetime.max.replace(tzinfo=UTC)) > at(moment)


# Speed


async def test_what_is_rare_is_found_by_an_index(log: Log) -> None:
    rare = [begun(api_key=ACTOR, outcome="NOT_FOUND") for _ in range(5)]
    await log.send(*rare)
    await log.keep()
    await log.database.execute(
        """
        INSERT INTO auth.audit_events
        SELECT (lpad(to_hex(n), 12, '0') || '70008000000000000000')::uuid, 'Common', 'common', 'common', '', md5('')::uuid, 'common', 'DEV',
               NULL, md5('')::uuid, '', '', 'OK', ''
        FROM generate_series(1, 20000) n
        """
    )
    await log.database.execute("ANALYZE auth.audit_events")
    one = rare[0]
    wanted = AuditFilter(UUID(ACTOR), one.actor_name, UUID(ACTOR), one.action, one.entity_kind, one.entity_id, one.outcome)

    for place, column in enumerate(("actor", "actor_name", "api_key", "action", "entity_kind", "entity_id", "outcome")):
        values: list[Any] = [None] * 7
        values[place] = getattr(wanted, column)
        assert f"audit_events_{column}" in await plan_of(log.database, [*values, None, None, 51])
        assert await log.kept(**{column: getattr(wanted, column)}) == list(reversed(rare))
    for bound in ([first_id(began_at(one)), None], [None, one.id], [None, None]):
        plan = await plan_of(log.database, [*[None] * 7, *bound, 51])
        assert "audit_events_pkey" in plan
        assert "Sort" not in plan


async def plan_of(database: Database, values: Sequence[Any]) -> str:
    async with database.transaction() as transaction:
        await transaction.fetchval(QUERIES.plan_for_values)
        return "\n".join(row[0] for row in await transaction.fetch(f"EXPLAIN {QUERIES.list_audit_events}", *values))
