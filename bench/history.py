"""Reads of the history as it grows, through the executor's own repository, in a PostgreSQL set up as the platform's."""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg

from bench.figures import p50, p95, ratio, seconds, table
from libs.common import logs
from libs.common.ids import uuid7
from libs.common.migrate import migrate
from libs.common.postgres import open_database
from services.executor.executions import MAX_PAGE_BYTES
from services.executor.repository import QUERIES, ExecutionRepository, Filter
from tests.support.databases import MIGRATIONS
from tests.support.postgres import TestPostgres, running_postgres

_FEWEST: Final = 10_000
_DAYS: Final = 7
_DAY_MS: Final = 86_400_000
_FUNCTIONS: Final = [UUID(int=number + 1) for number in range(20)]
# One run in so many of each function has failed, but of the first none.
_FAILED: Final = 100
_READS: Final = 200
_GOLDEN: Final = 0.618034
# One more than a page holds tells whether there is a next one.
_PAGE: Final = 51
# Each writes days of its own.
_WRITERS: Final = 2
_PICKS: Final = (("p50", p50), ("p95", p95))

# The id of a run by its number, of as many that are spread evenly over the days from a moment on.
_ID: Final = f"""
CREATE FUNCTION bench_id(number bigint, total bigint, first_ms bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(first_ms + number * {_DAYS * _DAY_MS} / total), 12, '0')
            || '7' || overlay(substr(md5(number::text), 1, 19) PLACING '8' FROM 4))::uuid
$$"""
_FILL: Final = f"""
INSERT INTO executor.executions
    (id, function_id, function_name, function_version, status, input, output, error_type, error, duration_us, queue_us, memory_peak_bytes,
     request_id, executor_id, created_at, started_at, completed_at, created_by)
SELECT bench_id(number, $3::bigint, $4::bigint), ($5::uuid[])[1 + number % $6::bigint], 'function-' || number % $6, 1,
       CASE WHEN failed THEN 'FAILED' ELSE 'COMPLETED' END, payload, CASE WHEN failed THEN NULL ELSE payload END,
       CASE WHEN failed THEN 'TRAP' END, CASE WHEN failed THEN '{{"message": "unreachable executed", "stack": []}}'::bytea END,
       1000, 50, 131072, gen_random_uuid()::text, '{uuid7()}', moment, moment, moment, '{uuid7()}'
FROM (
    SELECT number, number / $6 % {_FAILED} = 0 AND number % $6 > 0 AS failed,
           convert_to(format('{{"order": %s, "lines": "%s"}}', number, repeat('a', 75)), 'UTF8') AS payload,
           to_timestamp(($4 + number * {_DAYS * _DAY_MS} / $3) / 1000.0) AS moment
    FROM generate_series($1::bigint, $2::bigint) AS number
) run"""
_PARTITIONS: Final = "SELECT relid::regclass::text AS name FROM pg_partition_tree('executor.executions') WHERE isleaf"
_SIZE: Final = "SELECT sum(pg_{what}_size(relid)) FROM pg_partition_tree('executor.executions')"

Read = Callable[[int], Awaitable[object]]


def measure(most: int) -> Iterator[str]:
    """A table of reads by number of rows, and one of what so many rows are; `most` is the largest number of them."""
    logs.configure("bench", "warning")
    sizes = sorted({_FEWEST, most // 10, most})
    with tempfile.TemporaryDirectory(prefix="kiln-bench-") as folder:
        # PostgreSQL runs as another user.
        Path(folder).chmod(0o755)
        with running_postgres(Path(folder) / "home") as postgres:
            measured = [asyncio.run(_measured(postgres, rows)) for rows in sizes]
    times = [by_read for by_read, _ in measured]
    head = ["read", f"{sizes[0]:,} rows", *(part for rows in sizes[1:] for part in (f"{rows:,} rows", "ratio"))]
    yield table(head, [_row(read, name, pick, times) for read in times[0] for name, pick in _PICKS])
    yield table(["rows", "table", "indexes", "written in"], [[f"{rows:,}", *told] for rows, (_, told) in zip(sizes, measured, strict=True)])


def _row(read: str, name: str, pick: Callable[[Sequence[float]], float], times: Sequence[dict[str, list[float]]]) -> list[str]:
    first, *others = [pick(by_read[read]) for by_read in times]
    return [f"{read}, {name}", seconds(first), *(part for other in others for part in (seconds(other), ratio(other, first)))]


async def _measured(postgres: TestPostgres, rows: int) -> tuple[dict[str, list[float]], list[str]]:
    """Seconds of reads by their kind, and what the rows are: their size, that of their indexes, and how long writing them took."""
    url = await postgres.new_database()
    first = datetime.now(UTC) - timedelta(days=_DAYS)
    async with open_database(url, name="bench") as database:
        await migrate(database, "executor", MIGRATIONS["executor"])
        repository = ExecutionRepository(database, uuid7())
        await repository.create_partitions()
        told = await _fill(url, rows, _milliseconds(first))
        reads = _reads(repository, await _some_ids(url, rows, _milliseconds(first)), first)
        return {name: [await _seconds(read, number) for number in range(_READS)] for name, read in reads.items()}, told


async def _fill(url: str, rows: int, first_ms: int) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_ID)
        await connection.fetch(QUERIES.create_partitions_of, [first_ms + day * _DAY_MS for day in range(_DAYS + 1)])
        # Writing them is not what is measured.
        for partition in await connection.fetch(_PARTITIONS):
            await connection.execute(f"ALTER TABLE {partition['name']} SET UNLOGGED")
        began = time.perf_counter()
        edges = [rows * part // _WRITERS for part in range(_WRITERS + 1)]
        await asyncio.gather(*(_write(url, *part, rows, first_ms) for part in itertools.pairwise(edges)))
        took = time.perf_counter() - began
        await connection.execute("VACUUM ANALYZE executor.executions")
        data, indexes = [int(await connection.fetchval(_SIZE.format(what=what))) for what in ("table", "indexes")]
        return [f"{data / 1e6:,.0f} MB", f"{indexes / 1e6:,.0f} MB", seconds(took)]
    finally:
        await connection.close()


async def _write(url: str, begin: int, end: int, rows: int, first_ms: int) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_FILL, begin, end - 1, rows, first_ms, _FUNCTIONS, len(_FUNCTIONS))
    finally:
        await connection.close()


async def _some_ids(url: str, rows: int, first_ms: int) -> Sequence[UUID]:
    """As many as are read, without having looked at any run."""
    connection = await asyncpg.connect(url)
    try:
        numbers = [int(_share(read) * rows) for read in range(_READS)]
        found = await connection.fetch("SELECT bench_id(number, $2, $3) AS id FROM unnest($1::bigint[]) AS number", numbers, rows, first_ms)
        return [row["id"] for row in found]
    finally:
        await connection.close()


def _reads(repository: ExecutionRepository, ids: Sequence[UUID], first: datetime) -> dict[str, Read]:
    """Each by its number, of which function, moment and run depend."""

    async def one(number: int) -> None:
        if await repository.find(ids[number]) is None:
            raise SystemExit("a run is not where it was put")

    def page(before: Callable[[int], UUID | None] = lambda _: None, wanted: Callable[[int], Filter] = lambda _: Filter()) -> Read:
        return lambda number: repository.list(_FUNCTIONS[number % len(_FUNCTIONS)], before(number), _PAGE, MAX_PAGE_BYTES, wanted(number))

    def moment(number: int, days: int) -> datetime:
        return first + timedelta(days=0.1 + (days - 0.1) * _share(number))

    def hour(number: int) -> Filter:
        begin = moment(number, _DAYS - 1)
        return Filter(started_after=begin, started_before=begin + timedelta(hours=1))

    failed = Filter(status="FAILED")
    return {
        "one run by its id": one,
        "first page": page(),
        "page of the oldest day, by token": page(before=lambda number: UUID(int=_milliseconds(moment(number, 1)) << 80)),
        "first page of an hour": page(wanted=hour),
        "first page of `FAILED`": page(wanted=lambda _: failed),
        "first page of `FAILED` before a moment": page(wanted=lambda number: replace(failed, started_before=moment(number, _DAYS))),
        "`FAILED` of a function that never has": lambda _: repository.list(_FUNCTIONS[0], None, _PAGE, MAX_PAGE_BYTES, failed),
    }


async def _seconds(read: Read, number: int) -> float:
    began = time.perf_counter()
    await read(number)
    return time.perf_counter() - began


def _share(number: int) -> float:
    """Numbers below one, each far from those before it."""
    return number * _GOLDEN % 1


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
