"""The queue on a real PGMQ: what is sent is kept, what is read is held, and whoever lost a message can do nothing with it."""

import asyncio
import contextlib
import re
import signal
import time
from typing import Any

import asyncpg
import pytest

from libs.common.migrate import install_queues
from libs.common.postgres import Database, Transaction, open_database
from libs.common.queue import COMPILATION_JOBS, COMPILATION_RESULTS, Message, Queue, Wakeup, wakeups
from tests.support.postgres import TestPostgres
from tests.support.processes import ROOT
from tests.support.waiting import until

JOBS = Queue(COMPILATION_JOBS)
# No wake-up may come from a poll, except where a test is about polls.
NEVER = 3600


class Failure(Exception):
    """What a test raises inside of a transaction."""


async def send(database: Database, *bodies: Any) -> None:
    async with database.transaction() as transaction:
        for body in bodies:
            await JOBS.send(transaction, body)


async def read(database: Database, most: int = 10, visibility_seconds: int = 60) -> list[Message]:
    return sorted(await JOBS.read(database, visibility_seconds=visibility_seconds, most=most), key=lambda one: one.id)


async def read_one(database: Database) -> Message:
    (message,) = await read(database, 1)
    return message


async def expire(database: Database) -> None:
    """The visibility timeout of every message passes."""
    await database.execute("UPDATE pgmq.q_compilation_jobs SET vt = clock_timestamp() - interval '1 ms'")


async def archive(database: Database, message: Message) -> bool:
    async with database.transaction() as transaction:
        return await JOBS.archive(transaction, message)


async def archived(database: Database) -> int:
    count: int = await database.fetchval("SELECT count(*) FROM pgmq.a_compilation_jobs")
    return count


async def woken(wakeup: Wakeup, seconds: float = 20) -> None:
    await asyncio.wait_for(wakeup.wait(), seconds)


# Names


@pytest.mark.parametrize("name", ["a", "a" * 40, "compilation_jobs", "q_1"])
def test_small_letters_digits_and_underscores_name_a_queue(name: str) -> None:
    assert Queue(name).channel == f"kiln_{name}"


@pytest.mark.parametrize(
    "name", ["", "a" * 41, "Jobs", "a b", "a-b", "a.b", 'a"b', "a'b", "a;b", "é", "a\n", "\0", "a\N{ARABIC-INDIC DIGIT ONE}"]
)
def test_no_other_text_names_a_queue(name: str) -> None:
    with pytest.raises(ValueError, match="not a queue name"):
        Queue(name)


# Sending


async def test_a_message_comes_as_it_was_sent(database: Database) -> None:
    body = {"text": "\u2028\x01😀'\"\\$1", "number": 2**53, "nothing": None, "list": [True, {"": []}]}

    await send(database, body)
    message = await read_one(database)

    assert (message.body, message.reads) == (body, 1)
    assert 0 <= message.waited_seconds < 60


async def test_messages_come_in_the_order_of_sending(database: Database) -> None:
    for number in range(5):
        await send(database, {"number": number})

    assert [(await read_one(database)).body["number"] for _ in range(5)] == list(range(5))


async def test_a_message_lives_or_dies_with_its_transaction(database: Database) -> None:
    with contextlib.suppress(Failure):
        async with database.transaction() as transaction:
            await JOBS.send(transaction, {})
            raise Failure
    assert await JOBS.length(database) == 0

    async with database.transaction() as transaction:
        await JOBS.send(transaction, {})
        before = await read(database)

    assert (before, await JOBS.length(database)) == ([], 1)


@pytest.mark.parametrize("bad", [{"text": "a\0b"}, {"a\0b": 1}])
async def test_a_nul_character_is_refused_by_name_and_leaves_nothing_behind(database: Database, bad: Any) -> None:
    with pytest.raises(asyncpg.UntranslatableCharacterError, match="Unicode escape"):
        await send(database, {"good": 1}, bad)

    assert await JOBS.length(database) == 0


@pytest.mark.parametrize(
    "bad", ["a\ud800b", 2**64, object(), {1: 2}], ids=["half a surrogate pair", "a large number", "an object", "a key"]
)
async def test_what_json_cannot_say_is_refused_before_it_is_sent(database: Database, bad: Any) -> None:
    with pytest.raises(asyncpg.DataError, match="invalid input for query argument"):
        await send(database, {"good": 1}, {"bad": bad})

    assert await JOBS.length(database) == 0


@pytest.mark.parametrize("depth", [300, 20_000])
async def test_a_body_that_is_nested_too_deep_is_refused_before_it_is_sent(database: Database, depth: int) -> None:
    deep: Any = 1
    for _ in range(depth):
        deep = [deep]

    with pytest.raises((asyncpg.DataError, RecursionError)):
        await send(database, {"good": 1}, {"deep": deep})

    assert await JOBS.length(database) == 0


async def test_a_number_that_json_does_not_have_arrives_as_null(database: Database) -> None:
    await send(database, {"numbers": [float("nan"), float("inf")]})

    assert (await read_one(database)).body == {"numbers": [None, None]}


async def test_a_sender_waits_for_no_other_sender(database: Database) -> None:
    async with database.transaction() as slow:
        await JOBS.send(slow, {"who": "slow"})

        await asyncio.wait_for(send(database, {"who": "quick"}), 3)
        seen = [one.body["who"] for one in await read(database)]

    assert seen == ["quick"]
    assert [one.body["who"] for one in await read(database)] == ["slow"]


# Reading


async def test_a_message_that_is_held_is_read_by_nobody_else(database: Database) -> None:
    await send(database, {})

    assert len(await read(database)) == 1
    assert await read(database) == []
    assert await JOBS.length(database) == 1


async def test_many_readers_at_once_get_every_message_once(database: Database) -> None:
    await send(database, *({"number": number} for number in range(50)))

    got = await asyncio.gather(*(read(database, 7) for _ in range(10)))

    numbers = [one.body["number"] for part in got for one in part]
    assert sorted(numbers) == list(range(50))


async def test_a_read_is_committed_before_the_work_so_that_one_which_kills_its_reader_counts(database: Database, database_url: str) -> None:
    await send(database, {"poison": True})

    for reads in (1, 2, 3):
        async with open_database(database_url, name="dying") as dying:
            message = await read_one(dying)
            with contextlib.suppress(Failure):
                async with dying.transaction() as work:
                    await work.execute("CREATE TABLE work (id integer)")
                    raise Failure
        assert message.reads == reads
        await expire(database)

    assert (await read_one(database)).reads == 4


async def test_a_message_comes_back_when_its_visibility_timeout_has_passed(database: Database) -> None:
    await send(database, {})
    (first,) = await read(database, visibility_seconds=1)

    async def is_back() -> bool:
        return await database.fetchval("SELECT vt <= clock_timestamp() FROM pgmq.q_compilation_jobs") is True

    assert await read(database) == []
    await until(is_back)

    (second,) = await read(database)
    assert (second.id, second.reads) == (first.id, 2)


# Acknowledging


async def test_an_acknowledged_message_is_archived_once(database: Database) -> None:
    await send(database, {})
    message = await read_one(database)

    assert await archive(database, message)
    assert not await archive(database, message)

    assert (await JOBS.length(database), await archived(database)) == (0, 1)


async def test_an_acknowledgement_lives_or_dies_with_its_transaction(database: Database) -> None:
    await send(database, {})
    message = await read_one(database)

    with contextlib.suppress(Failure):
        async with database.transaction() as transaction:
            assert await JOBS.archive(transaction, message)
            raise Failure

    assert (await JOBS.length(database), await archived(database)) == (1, 0)
    assert await archive(database, message)


async def test_a_reader_that_was_too_slow_can_do_nothing_with_a_message_that_another_holds(database: Database) -> None:
    await send(database, {})
    stale = await read_one(database)
    await expire(database)
    held = await read_one(database)

    assert not await archive(database, stale)
    assert not await JOBS.extend(database, stale, visibility_seconds=60)
    await JOBS.release(database, stale, after_seconds=0)
    assert await read(database) == []

    assert await archive(database, held)


async def test_of_two_who_acknowledge_at_once_only_the_holder_does(database: Database) -> None:
    await send(database, {})
    stale = await read_one(database)
    await expire(database)
    held = await read_one(database)

    done = await asyncio.gather(*(archive(database, one) for one in (stale, held, stale, held)))

    assert (done[0], done[2], sorted([done[1], done[3]])) == (False, False, [False, True])
    assert await archived(database) == 1


async def test_nobody_can_take_a_message_while_it_is_acknowledged(database: Database) -> None:
    taken: list[Message] = []

    class Interrupted(Transaction):
        """Another reader looks just before the message is moved."""

        async def fetchval(self, query: str, *arguments: object) -> Any:
            if "pgmq.archive" in query:
                taken.extend(await read(database))
            return await super().fetchval(query, *arguments)

    await send(database, {})
    message = await read_one(database)
    await expire(database)

    async with database._pool.acquire() as connection, connection.transaction():
        done = await JOBS.archive(Interrupted(connection), message)

    assert (done, taken) == (True, [])


async def test_a_slow_reader_whose_message_nobody_took_may_still_acknowledge_it(database: Database) -> None:
    await send(database, {})
    message = await read_one(database)
    await expire(database)

    assert await archive(database, message)


# Holding and giving back


async def test_a_message_is_kept_by_whoever_extends_it(database: Database) -> None:
    await send(database, {})
    (message,) = await read(database, visibility_seconds=5)

    assert await JOBS.extend(database, message, visibility_seconds=600)

    left: float = await database.fetchval("SELECT extract(epoch FROM vt - clock_timestamp())::float8 FROM pgmq.q_compilation_jobs")
    assert 500 < left <= 600


async def test_a_message_whose_time_has_passed_cannot_be_kept_any_more(database: Database) -> None:
    await send(database, {})
    message = await read_one(database)
    await expire(database)

    assert not await JOBS.extend(database, message, visibility_seconds=60)
    assert len(await read(database)) == 1


async def test_an_acknowledged_message_cannot_be_kept(database: Database) -> None:
    await send(database, {})
    message = await read_one(database)
    await archive(database, message)

    assert not await JOBS.extend(database, message, visibility_seconds=60)


async def test_a_message_that_is_given_back_does_not_count_as_read(database: Database) -> None:
    await send(database, {})

    for _ in range(3):
        message = await read_one(database)
        assert message.reads == 1
        await JOBS.release(database, message, after_seconds=0)


async def test_a_message_may_be_given_back_for_later(database: Database) -> None:
    await send(database, {})

    await JOBS.release(database, await read_one(database), after_seconds=60)

    assert await read(database) == []
    assert await JOBS.length(database) == 1


# The archive


async def test_the_archive_forgets_what_is_old_and_nothing_else(database: Database) -> None:
    await send(database, *({} for _ in range(3)), {"waiting": True})
    for message in await read(database, 3):
        await archive(database, message)
    await database.execute(
        "UPDATE pgmq.a_compilation_jobs SET archived_at = now() - interval '2 hours' "
        "WHERE msg_id <> (SELECT max(msg_id) FROM pgmq.a_compilation_jobs)"
    )

    purged = await JOBS.purge_archive(database, older_than_seconds=3600)

    assert (purged, await archived(database), await JOBS.length(database)) == (2, 1, 1)
    assert await JOBS.purge_archive(database, older_than_seconds=3600) == 0


# Waking


async def test_a_consumer_wakes_at_a_message_that_is_committed_and_not_before(database: Database, database_url: str) -> None:
    async with wakeups(database_url, JOBS, poll_seconds=NEVER) as wakeup:
        await woken(wakeup)  # it listens now
        waiting = asyncio.create_task(wakeup.wait())

        async with database.transaction() as transaction:
            await JOBS.send(transaction, {})
            await transaction.execute("SELECT 1")
            early = waiting.done()
        await asyncio.wait_for(waiting, 20)

    assert not early
    assert len(await read(database)) == 1


async def test_a_consumer_is_not_woken_by_another_queue(database: Database, database_url: str) -> None:
    async with (
        wakeups(database_url, JOBS, poll_seconds=NEVER) as jobs,
        wakeups(database_url, Queue(COMPILATION_RESULTS), poll_seconds=NEVER) as results,
    ):
        await woken(jobs)
        await woken(results)
        waiting = asyncio.create_task(results.wait())

        await send(database, {})
        await woken(jobs)

        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_a_wake_up_while_nobody_waits_is_kept(database: Database) -> None:
    wakeup = Wakeup(NEVER)
    wakeup.now()
    wakeup.now()

    await woken(wakeup)
    waiting = asyncio.create_task(wakeup.wait())
    await asyncio.sleep(0)

    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_without_any_notification_a_consumer_looks_after_its_poll() -> None:
    began = time.monotonic()

    await woken(Wakeup(0.05))

    assert time.monotonic() - began >= 0.04


async def test_a_consumer_whose_listening_connection_is_cut_listens_again(database: Database, database_url: str) -> None:
    async with wakeups(database_url, JOBS, poll_seconds=NEVER) as wakeup:
        await woken(wakeup)
        cut = await database.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'kiln-listen-kiln_compilation_jobs'"
        )

        await woken(wakeup)  # after the reconnect, since anything may have been missed
        await send(database, {})
        await woken(wakeup)

    assert cut == 1


async def test_an_idle_consumer_holds_no_transaction(database: Database, database_url: str) -> None:
    async with wakeups(database_url, JOBS, poll_seconds=NEVER) as wakeup:
        await woken(wakeup)
        await read(database)
        waiting = asyncio.create_task(wakeup.wait())

        watching = await asyncpg.connect(database_url)
        try:
            rows = await watching.fetch(
                "SELECT application_name, state, xact_start, backend_xid, backend_xmin FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        finally:
            await watching.close()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    assert {row["application_name"] for row in rows} == {"kiln-test", "kiln-listen-kiln_compilation_jobs"}
    assert {(row["state"], row["xact_start"], row["backend_xid"], row["backend_xmin"]) for row in rows} == {("idle", None, None, None)}


# A crash of the database


async def test_after_a_crash_of_the_database_messages_are_there_and_consumers_wake_again(own_postgres: TestPostgres) -> None:
    url = await own_postgres.new_database()
    async with open_database(url, name="test") as database, wakeups(url, JOBS, poll_seconds=NEVER) as wakeup:
        await install_queues(database, COMPILATION_JOBS)
        await woken(wakeup)
        await send(database, {"sent": "before"})
        await woken(wakeup)
        held = await read_one(database)

        own_postgres.stop(signal.SIGQUIT)
        await own_postgres.start()
        await woken(wakeup, 30)
        await send(database, {"sent": "after"})
        await woken(wakeup)

        assert [one.body["sent"] for one in await read(database)] == ["after"]
        assert await archive(database, held)


# What we do not use


def test_no_code_uses_what_pgmq_locks_across_queues_or_holds_open() -> None:
    banned = re.compile(r"read_grouped|read_with_poll|enable_notify_insert|pgmq\.(delete|pop|set_vt)\b")
    files = [
        path
        for folder in ("libs/common", "libs/local", "services")
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in (".py", ".sql")
    ]

    assert len(files) > 50
    assert [str(path) for path in files if "node_modules" not in path.parts and banned.search(path.read_text(encoding="utf-8"))] == []
