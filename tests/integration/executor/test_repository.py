"""The history in a real PostgreSQL: what was given and answered comes back byte for byte, and an end is an end."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence, Set
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import services.executor
from libs.common.ids import milliseconds_of, uuid7
from libs.common.migrate import migrate
from libs.common.postgres import Database, Refused, open_database
from libs.common.times import micros_of, moment_of
from services.executor.execution import Execution, Status
from services.executor.repository import PARTITIONS_AHEAD_DAYS, QUERIES, SWEPT, ExecutionRepository, Filter
from services.executor.sandbox import ErrorType, Frame, GuestError, Level, LogLine
from tests.support.postgres import TestPostgres

MIGRATIONS = Path(services.executor.__file__).with_name("migrations")
LEASE_SECONDS = 15
HUGE = 1 << 30
ALL = Filter()
ANYBODY = uuid7()
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture(scope="module")
async def database(postgres: TestPostgres) -> AsyncIterator[Database]:
    async with open_database(await postgres.new_database(), name="test", max_connections=20) as opened:
        await migrate(opened, "executor", MIGRATIONS)
        yield opened


@pytest.fixture
async def empty(postgres: TestPostgres) -> AsyncIterator[Database]:
    """A database that has no partition yet."""
    async with open_database(await postgres.new_database(), name="test") as opened:
        await migrate(opened, "executor", MIGRATIONS)
        yield opened


@pytest.fixture
async def repository(database: Database) -> ExecutionRepository:
    """The history as a new executor writes it."""
    repository = ExecutionRepository(database, uuid7())
    await repository.heartbeat()
    return repository


def id_at(moment: datetime, number: int = 0) -> UUID:
    """A UUIDv7 of a moment."""
    return UUID(int=round(moment.timestamp() * 1000) << 80 | 7 << 76 | 0b10 << 62 | number)


def pending(function_id: UUID | None = None, *, identity: UUID | None = None, version: int = 1, text: bytes = b"{}") -> Execution:
    identity = identity or uuid7()
    return Execution(
        id=identity,
        function_id=function_id or uuid7(),
        function_name="echo",
        function_version=version,
        request_id="request",
        created_at=milliseconds_of(identity) * 1000,
        input=text,
    )


def running(execution: Execution, started_at: int | None = None) -> Execution:
    return replace(execution, status=Status.RUNNING, queue_us=5, started_at=started_at or execution.created_at)


def completed(execution: Execution, output: bytes = b"{}") -> Execution:
    return replace(
        running(execution, execution.started_at),
        status=Status.COMPLETED,
        output=output,
        logs=(LogLine(Level.WARN, "careful"),),
        logs_truncated=True,
        duration_us=7,
        cold_start=True,
        memory_peak_bytes=65_536,
        completed_at=execution.created_at + 1_000_001,
    )


def failed(execution: Execution, error: GuestError = SWEPT) -> Execution:
    return replace(running(execution, execution.started_at), status=Status.FAILED, error=error, completed_at=execution.created_at)


async def write(repository: ExecutionRepository, *runs: Execution, by: UUID = ANYBODY) -> Set[UUID]:
    """Writes runs of one executor; the ids of those for which that was news."""
    return {one.id for one in runs} - await repository.write([(by, one) for one in runs])


async def listed(repository: ExecutionRepository, function_id: UUID, wanted: Filter = ALL) -> Sequence[UUID]:
    return [one.id for one in await repository.list(function_id, None, 1000, HUGE, wanted)]


async def partitions(database: Database) -> Sequence[str]:
    rows = await database.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'executor.executions'::regclass ORDER BY 1"
    )
    return [row["name"] for row in rows]


async def partition_of(database: Database, identity: UUID) -> str:
    name: str = await database.fetchval("SELECT tableoid::regclass::text FROM executor.executions WHERE id = $1", identity)
    return name


def partition_name(moment: datetime) -> str:
    return f"executor.executions_{moment:%Y%m%d}"


# Byte for byte


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=100), error=TEXTS, logs=st.lists(TEXTS, max_size=3))
async def test_whatever_was_written_is_read_again(repository: ExecutionRepository, data: bytes, error: str, logs: list[str]) -> None:
    lines = tuple(LogLine(Level.INFO, text) for text in logs)
    good = replace(completed(pending(text=data), data), logs=lines)
    bad = failed(pending(text=data), GuestError(ErrorType.ABORT, error, (Frame(error, error, 1, 2),)))

    await write(repository, good)
    await write(repository, bad)

    assert await repository.find(good.id) == good
    assert await repository.find(bad.id) == bad


@pytest.mark.parametrize("text", [b'{"b":1,"a":1.10}', b"18446744073709551616", rb'"\u0000\ud800"', b"[" * 512 + b"]" * 512, b" 1 "])
async def test_json_is_kept_as_it_was_given(repository: ExecutionRepository, text: bytes) -> None:
    execution = completed(pending(text=text), text)

    await write(repository, execution)

    found = await repository.find(execution.id)
    assert found is not None
    assert (found.input, found.output) == (text, text)


async def test_messages_and_logs_may_hold_nul_characters(repository: ExecutionRepository) -> None:
    error = GuestError(ErrorType.ABORT, "a\0b", (Frame("f\0", "\0", 1, 1),))
    execution = replace(failed(pending(), error), logs=(LogLine(Level.INFO, "\0\x1b[31m\n"),))

    await write(repository, execution)

    assert await repository.find(execution.id) == execution


async def test_megabytes_are_kept_too(repository: ExecutionRepository) -> None:
    text = b'"' + b"x" * (4 << 20) + b'"'
    execution = completed(pending(text=text), text)

    await write(repository, execution)

    assert await repository.find(execution.id) == execution


# From beginning to end


async def test_each_step_is_seen_by_others_as_it_is_taken(repository: ExecutionRepository) -> None:
    accepted = pending()

    for execution in (accepted, running(accepted), completed(running(accepted))):
        assert await write(repository, execution) == {accepted.id}
        assert await repository.find(accepted.id) == execution


async def test_an_end_wins_over_its_beginning_whichever_is_written_first(repository: ExecutionRepository) -> None:
    for order in itertools.permutations(range(3)):
        execution = pending()
        steps = (execution, running(execution), completed(running(execution)))

        for step in order:
            await write(repository, steps[step])

        assert await repository.find(execution.id) == steps[-1], order


async def test_ends_that_race_leave_the_first(repository: ExecutionRepository) -> None:
    for _ in range(20):
        execution = running(pending())
        ends = [completed(execution, str(number).encode()) for number in range(4)]
        await write(repository, execution)

        won = await asyncio.gather(*(write(repository, end) for end in ends))

        assert [len(news) for news in sorted(won, key=len)] == [0, 0, 0, 1]
        assert await repository.find(execution.id) == ends[won.index({execution.id})]


async def test_an_end_never_changes(repository: ExecutionRepository) -> None:
    execution = running(pending())
    await write(repository, completed(execution))

    later = [await write(repository, one) for one in (execution, failed(execution), completed(execution, b"2"))]
    await repository.withdraw([(ANYBODY, execution.id)])

    assert later == [set()] * 3
    assert await repository.find(execution.id) == completed(execution)


async def test_a_batch_has_runs_of_every_state_and_tells_what_was_news(repository: ExecutionRepository, database: Database) -> None:
    known, gone = completed(pending()), pending()
    await write(repository, known)
    await repository.remember_deletion(gone.function_id)
    batch = [pending(), running(pending()), completed(pending()), failed(pending())]

    news = await write(repository, *batch, replace(known, output=b"2"), completed(gone))

    assert news == {one.id for one in batch}
    assert [await repository.find(one.id) for one in batch] == batch
    assert await repository.find(known.id) == known
    assert await repository.find(gone.id) is None


async def test_hundreds_of_runs_are_one_statement(repository: ExecutionRepository) -> None:
    function_id = uuid7()
    runs = [completed(pending(function_id, text=str(number).encode()), b"x" * number) for number in range(500)]

    assert len(await write(repository, *runs)) == 500

    assert await repository.list(function_id, None, 1000, HUGE, ALL) == runs[::-1]


async def test_a_run_that_can_never_be_written_takes_no_other_with_it_and_is_told_as_refused(repository: ExecutionRepository) -> None:
    good, bad = completed(pending()), replace(completed(pending()), request_id="a\0b")

    with pytest.raises(Refused):
        await write(repository, good, bad)
    with pytest.raises(Refused):
        await write(repository, replace(good, duration_us=1 << 40))

    assert await repository.find(good.id) is None
    assert await write(repository, good) == {good.id}


async def test_a_call_begins_once_and_where_it_was_accepted(repository: ExecutionRepository) -> None:
    execution, other = pending(), uuid7()
    await write(repository, execution)

    assert await write(repository, replace(execution, input=b"2"), by=other) == set()
    assert await write(repository, running(execution), by=other) == set()
    begun = await asyncio.gather(*(write(repository, running(execution)) for _ in range(4)))

    assert sorted(map(len, begun)) == [0, 0, 0, 1]


@pytest.mark.parametrize("step", [pending, lambda: running(pending())], ids=["waits", "runs"])
async def test_a_call_that_is_withdrawn_was_never_there(repository: ExecutionRepository, step: Callable[[], Execution]) -> None:
    execution = step()
    await write(repository, execution)

    await repository.withdraw([(uuid7(), execution.id)])
    assert await repository.find(execution.id) == execution

    await repository.withdraw([(ANYBODY, execution.id), (ANYBODY, uuid7())])
    await repository.withdraw([(ANYBODY, execution.id)])

    assert await repository.find(execution.id) is None
    assert await listed(repository, execution.function_id) == []


# Days


async def test_partitions_are_made_for_today_and_the_days_ahead(empty: Database) -> None:
    repository = ExecutionRepository(empty, uuid7())

    await repository.create_partitions()
    await repository.create_partitions()

    today = datetime.now(UTC)
    assert await partitions(empty) == [partition_name(today + timedelta(days=ahead)) for ahead in range(PARTITIONS_AHEAD_DAYS + 1)]


@pytest.mark.parametrize("step", [lambda run: run, running, completed], ids=["waits", "runs", "ended"])
async def test_a_writer_that_meets_a_missing_partition_makes_it(empty: Database, step: Callable[[Execution], Execution]) -> None:
    repository = ExecutionRepository(empty, uuid7())
    execution = step(pending(identity=id_at(datetime(2031, 2, 28, 12, tzinfo=UTC))))

    assert await write(repository, execution)

    assert await repository.find(execution.id) == execution
    assert await partitions(empty) == ["executor.executions_20310228"]


async def test_a_batch_over_midnight_makes_the_partitions_of_both_days(empty: Database) -> None:
    repository, midnight = ExecutionRepository(empty, uuid7()), datetime(2031, 3, 1, tzinfo=UTC)
    runs = [completed(pending(identity=id_at(midnight + timedelta(milliseconds=number - 2)))) for number in range(4)]

    assert len(await write(repository, *runs)) == 4

    assert await partitions(empty) == ["executor.executions_20310228", "executor.executions_20310301"]


async def test_a_day_ends_at_midnight_utc_whatever_the_clock_here_says(empty: Database) -> None:
    repository = ExecutionRepository(empty, uuid7())
    midnight = datetime(2031, 3, 1, tzinfo=UTC)
    last, first = id_at(midnight - timedelta(milliseconds=1), (1 << 62) - 1), id_at(midnight)

    async with empty.transaction() as transaction:
        await transaction.execute("SET LOCAL timezone = 'Pacific/Kiritimati'")
        await transaction.fetch(QUERIES.create_partitions_of, [milliseconds_of(last)])
    for identity in (last, first):
        await write(repository, pending(identity=identity))

    assert [await partition_of(empty, identity) for identity in (last, first)] == [
        "executor.executions_20310228",
        "executor.executions_20310301",
    ]


async def test_many_who_miss_a_partition_make_it_once(empty: Database) -> None:
    repository = ExecutionRepository(empty, uuid7())
    noon = datetime(2031, 7, 1, 12, tzinfo=UTC)
    executions = [pending(identity=id_at(noon, number)) for number in range(30)]

    writing = (write(repository, one) for one in executions)
    written = await asyncio.gather(repository.create_partitions(), *writing, repository.create_partitions())

    assert written[1:-1] == [{one.id} for one in executions]
    assert (await partitions(empty)).count(partition_name(noon)) == 1


async def test_a_partition_is_made_while_runs_of_other_days_are_written_and_read(empty: Database) -> None:
    """Making one must not wait for those who work in another, nor they for it."""
    repository = ExecutionRepository(empty, uuid7())
    await repository.create_partitions()
    execution = pending()

    async with asyncio.timeout(4), empty.transaction() as busy:
        await busy.execute("SELECT count(*) FROM executor.executions")
        await write(repository, pending(identity=id_at(datetime(2031, 7, 1, tzinfo=UTC))))
        await write(repository, execution)

    assert await repository.find(execution.id) == execution


async def test_finding_a_run_by_its_id_touches_one_partition(empty: Database) -> None:
    repository = ExecutionRepository(empty, uuid7())
    await repository.create_partitions()
    execution = pending()
    await write(repository, execution)

    async with empty.connection() as connection:
        custom = await connection.fetch(f"EXPLAIN {QUERIES.find_execution.replace('$1', f'{str(execution.id)!r}')}")
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE find (uuid) AS {QUERIES.find_execution}")
        generic = await connection.fetch(f"EXPLAIN (ANALYZE, COSTS OFF) EXECUTE find('{execution.id}')")
        await connection.execute("DEALLOCATE find; RESET plan_cache_mode")

    assert "\n".join(row[0] for row in custom).count("Scan") == 1
    scans = [row[0] for row in generic if "Scan" in row[0]]
    assert len([scan for scan in scans if "never executed" not in scan]) == 1
    assert partition_name(moment_of(execution.created_at)).removeprefix("executor.") in scans[0]


@pytest.mark.parametrize("wanted", ["'FAILED', NULL", "NULL, 'PLATFORM'", "'FAILED', 'PLATFORM'"], ids=["status", "error type", "both"])
async def test_failed_runs_are_found_without_reading_the_others(empty: Database, wanted: str) -> None:
    repository = ExecutionRepository(empty, uuid7())
    await repository.create_partitions()
    function_id = uuid7()
    await write(repository, *(completed(pending(function_id)) for _ in range(2000)), failed(pending(function_id)))
    await empty.execute("ANALYZE executor.executions")

    async with empty.connection() as connection:
        await connection.execute(f"PREPARE list AS {QUERIES.list_executions}")
        of_list = f"'{function_id}', NULL, {wanted}, NULL, NULL, NULL, 51, {HUGE}"
        plan = await connection.fetch(f"EXPLAIN (ANALYZE, COSTS OFF) EXECUTE list({of_list})")
        await connection.execute("DEALLOCATE list")

    today = partition_name(datetime.now(UTC)).removeprefix("executor.")
    assert [row[0] for row in plan if f"using {today}_failed" in row[0]]
    assert not [row[0] for row in plan if "Rows Removed by Filter" in row[0]]


async def test_an_older_history_has_failed_runs_indexed_from_the_next_day_on(postgres: TestPostgres, tmp_path: Path) -> None:
    for file in sorted(MIGRATIONS.glob("*.sql"))[:4]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    async with open_database(await postgres.new_database(), name="test") as database:
        await migrate(database, "executor", tmp_path)
        await ExecutionRepository(database, uuid7()).create_partitions()

        await migrate(database, "executor", MIGRATIONS)

        rows = await database.fetch("SELECT tablename FROM pg_indexes WHERE indexname = tablename || '_failed'")
        there = [name.removeprefix("executor.") for name in await partitions(database)]
    assert sorted(row["tablename"] for row in rows) == there[1:]


# Deleted functions


async def test_no_record_of_a_deleted_function_is_written_however_late(repository: ExecutionRepository) -> None:
    begun, late = running(pending()), pending()
    late = replace(late, function_id=begun.function_id)
    await write(repository, begun)

    await repository.remember_deletion(begun.function_id)
    await repository.remember_deletion(begun.function_id)

    refused = [
        await write(repository, late),
        await write(repository, running(late)),
        await write(repository, completed(late)),
        await write(repository, completed(begun)),
    ]
    assert refused == [set()] * 4
    assert await listed(repository, begun.function_id) == [begun.id]


async def test_the_history_of_a_deleted_function_is_purged_and_no_others(repository: ExecutionRepository) -> None:
    gone, kept = uuid7(), completed(pending())
    await write(repository, kept)
    await write(repository, *(completed(pending(gone)) for _ in range(600)))

    await repository.remember_deletion(gone)
    await repository.purge_deleted()

    assert await listed(repository, gone) == []
    assert await listed(repository, kept.function_id) == [kept.id]


async def test_what_slipped_in_beside_a_deletion_is_purged_the_next_time(repository: ExecutionRepository, database: Database) -> None:
    """A write that began before the deletion was seen may commit after the purge."""
    late = completed(pending())
    await repository.remember_deletion(late.function_id)
    await repository.purge_deleted()
    async with database.transaction() as transaction:
        await transaction.execute("DELETE FROM executor.deleted_functions WHERE function_id = $1", late.function_id)
        await transaction.execute(
            "INSERT INTO executor.executions (id, function_id, function_name, function_version, status, input, request_id, executor_id, "
            "created_at) VALUES ($1, $2, '', 1, 'RUNNING', '', '', $2, now())",
            late.id,
            late.function_id,
        )
        await transaction.execute("INSERT INTO executor.deleted_functions (function_id, purged_at) VALUES ($1, now())", late.function_id)

    await repository.purge_deleted()

    assert await repository.find(late.id) is None


# Executors that die


async def test_what_a_dead_executor_left_is_ended_and_what_a_living_one_runs_is_not(
    database: Database, repository: ExecutionRepository
) -> None:
    living = ExecutionRepository(database, identity := uuid7())
    await repository.sweep(LEASE_SECONDS)
    left = [pending(), running(pending()), completed(running(pending()))]
    at_work = [pending(), running(pending())]
    await write(repository, *left, by=uuid7())
    await living.heartbeat()
    await write(repository, *at_work, by=identity)
    await database.execute(
        "UPDATE executor.executors SET heartbeat_at = now() - make_interval(secs => $2) WHERE id = $1", identity, LEASE_SECONDS - 5
    )

    swept = await repository.sweep(LEASE_SECONDS)

    ended = [await repository.find(one.id) for one in left]
    assert swept == 2
    assert [(one.status, one.error) for one in ended[:2] if one] == [(Status.FAILED, SWEPT)] * 2
    assert all(one and one.completed_at for one in ended)
    assert ended[2] == left[2]
    assert [await repository.find(one.id) for one in at_work] == at_work
    await living.retire()


async def test_an_executor_that_falls_silent_is_dead_after_its_lease_as_far_as_is_known(
    database: Database, repository: ExecutionRepository
) -> None:
    """It may have been cut off only; then its word counts, once, and its beginnings do not."""
    silent = ExecutionRepository(database, identity := uuid7())
    await silent.heartbeat()
    execution = running(pending())
    await write(repository, execution, by=identity)
    await database.execute(
        "UPDATE executor.executors SET heartbeat_at = now() - make_interval(secs => $2) WHERE id = $1", identity, LEASE_SECONDS + 1
    )

    await repository.sweep(LEASE_SECONDS)

    found = await repository.find(execution.id)
    assert found is not None
    assert found.error == SWEPT
    assert await write(silent, execution, by=identity) == set()
    assert await repository.find(execution.id) == found
    assert await write(silent, completed(execution), by=identity) == {execution.id}
    assert await write(silent, failed(execution), by=identity) == set()
    assert await repository.find(execution.id) == completed(execution)


async def test_a_call_that_was_swept_and_never_ran_can_be_withdrawn(repository: ExecutionRepository) -> None:
    execution, dead = pending(), uuid7()
    await write(repository, execution, by=dead)
    await repository.sweep(LEASE_SECONDS)

    await repository.withdraw([(dead, execution.id)])

    assert await repository.find(execution.id) is None


async def test_an_executor_that_retires_leaves_its_runs_to_be_swept_at_once(database: Database, repository: ExecutionRepository) -> None:
    leaving = ExecutionRepository(database, identity := uuid7())
    await repository.sweep(LEASE_SECONDS)
    await leaving.heartbeat()
    await write(leaving, running(pending()), by=identity)

    assert await repository.sweep(LEASE_SECONDS) == 0
    await leaving.retire()

    assert await repository.sweep(LEASE_SECONDS) == 1


# Lists


async def test_a_list_is_newest_first_and_of_one_function(repository: ExecutionRepository) -> None:
    function_id = uuid7()
    executions = [completed(pending(function_id)) for _ in range(5)]
    for one in [*executions, completed(pending())]:
        await write(repository, one)

    found = await repository.list(function_id, None, 10, HUGE, ALL)

    assert found == executions[::-1]


async def test_every_filter_keeps_what_it_names(repository: ExecutionRepository) -> None:
    function_id = uuid7()
    waiting, at_work, good = pending(function_id), running(pending(function_id, version=2)), completed(pending(function_id, version=2))
    trap = failed(pending(function_id), GuestError(ErrorType.TRAP, ""))
    await write(repository, waiting)
    await write(repository, at_work)
    for one in (good, trap):
        await write(repository, one)

    kept = {
        wanted: await listed(repository, function_id, wanted)
        for wanted in (
            Filter(status="PENDING"),
            Filter(status="RUNNING"),
            Filter(status="COMPLETED"),
            Filter(status="FAILED"),
            Filter(error_type="TRAP"),
            Filter(error_type="ABORT"),
            Filter(version=2),
            Filter(status="COMPLETED", version=2),
            Filter(status="COMPLETED", version=1),
        )
    }

    expected = [[waiting], [at_work], [good], [trap], [trap], [], [good, at_work], [good], []]
    assert list(kept.values()) == [[one.id for one in runs] for runs in expected]


async def test_a_list_by_time_is_of_when_runs_began(repository: ExecutionRepository) -> None:
    """Some begin long after they were accepted, and some in the same moment."""
    function_id, base = uuid7(), datetime.now(UTC).replace(microsecond=0)
    waited = [timedelta(0), timedelta(0), timedelta(minutes=4), timedelta(milliseconds=1)]
    runs = []
    for number, delay in enumerate(waited):
        one = pending(function_id, identity=id_at(base + timedelta(seconds=number // 2), number))
        runs.append(running(one, one.created_at + delay // timedelta(microseconds=1)))
        await write(repository, runs[-1])
    await write(repository, pending(function_id))

    edges = {base - timedelta(days=400), base + timedelta(microseconds=300), base + timedelta(hours=1)}
    for moment in edges | {moment_of(one.started_at) for one in runs if one.started_at}:
        after = await listed(repository, function_id, Filter(started_after=moment))
        before = await listed(repository, function_id, Filter(started_before=moment))

        assert after == [one.id for one in reversed(runs) if one.started_at and one.started_at >= micros_of(moment)]
        assert before == [one.id for one in reversed(runs) if one.started_at and one.started_at < micros_of(moment)]


@pytest.mark.parametrize("moment", [datetime(1, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)])
async def test_everything_began_after_a_time_before_there_were_ids(repository: ExecutionRepository, moment: datetime) -> None:
    execution = running(pending())
    await write(repository, execution)

    assert await listed(repository, execution.function_id, Filter(started_after=moment)) == [execution.id]
    assert await listed(repository, execution.function_id, Filter(started_before=moment)) == []


async def test_everything_began_before_the_end_of_time(repository: ExecutionRepository) -> None:
    execution, end = running(pending()), datetime.max.replace(tzinfo=UTC)
    await write(repository, execution)

    assert await listed(repository, execution.function_id, Filter(started_before=end)) == [execution.id]
    assert await listed(repository, execution.function_id, Filter(started_after=end)) == []


async def test_pages_tell_each_run_once_while_others_are_written(repository: ExecutionRepository) -> None:
    """The ids of one millisecond differ in their last bits only, and new runs come in between any two pages."""
    function_id, moment = uuid7(), datetime.now(UTC)
    runs = [completed(pending(function_id, identity=id_at(moment, number))) for number in range(25)]
    await write(repository, *runs)

    seen: list[UUID] = []
    before: UUID | None = None
    while page := await repository.list(function_id, before, 4, HUGE, Filter(status="COMPLETED")):
        seen += [one.id for one in page]
        before = seen[-1]
        await write(repository, completed(pending(function_id)))

    assert seen == [one.id for one in reversed(runs)]


async def test_a_page_ends_before_it_is_too_large_but_holds_one_run_at_least(repository: ExecutionRepository) -> None:
    function_id = uuid7()
    runs = [completed(pending(function_id, text=b"x" * 10_000), b"y" * 10_000) for _ in range(5)]
    for one in runs:
        await write(repository, one)
    newest = [one.id for one in reversed(runs)]

    sizes = {limit: [one.id for one in await repository.list(function_id, None, 10, limit, ALL)] for limit in (0, 1000, 45_000, HUGE)}

    assert sizes == {0: newest[:1], 1000: newest[:1], 45_000: newest[:2], HUGE: newest}


async def test_a_page_reads_no_partition_newer_than_where_it_begins(empty: Database) -> None:
    repository, function_id = ExecutionRepository(empty, uuid7()), uuid7()
    old, new = (completed(pending(function_id, identity=id_at(datetime(2031, 1, day, tzinfo=UTC)))) for day in (1, 2))
    for one in (old, new):
        await write(repository, one)

    assert await repository.list(function_id, new.id, 10, HUGE, ALL) == [old]
    assert await repository.list(function_id, old.id, 10, HUGE, ALL) == []
