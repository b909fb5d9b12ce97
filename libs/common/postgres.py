"""The one way to the database: a pool whose failures are the platform's errors."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import asyncpg
import orjson

from libs.common.errors import Unavailable
from libs.common.logs import logger

COMMAND_TIMEOUT_SECONDS: Final = 10
# PostgreSQL has no limits of its own by default: a statement, a lock or a forgotten transaction would wait for ever.
SERVER_SETTINGS: Final = {
    "statement_timeout": "9000",
    "lock_timeout": "5000",
    "idle_in_transaction_session_timeout": "15000",
    "timezone": "UTC",
}

# What the driver raises when PostgreSQL is away, starting, stopping, out of connections or too slow, rather than asked wrongly.
_AWAY: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InsufficientResourcesError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InternalClientError,
    asyncpg.InterfaceError,
    ConnectionError,
    TimeoutError,
    OSError,
)

UniqueViolation = asyncpg.UniqueViolationError
UndefinedTable = asyncpg.UndefinedTableError
MissingPartition = asyncpg.CheckViolationError
# What is wrong with the values themselves, so that the same statement fails again.
Refused: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)
Row = asyncpg.Record


@contextmanager
def unavailable_when_away() -> Iterator[None]:
    """Turns the driver's many ways to say that PostgreSQL is away into `Unavailable`."""
    try:
        yield
    except _AWAY as error:
        logger().warning("database_away", error=repr(error))
        raise Unavailable("the database cannot be reached; try again", reason="DATABASE_AWAY", retry_after=1) from error


class Transaction:
    """One connection inside one transaction: all or nothing."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetch(self, query: str, *arguments: object) -> Sequence[Row]:
        """All rows."""
        rows: Sequence[Row] = await self._connection.fetch(query, *arguments)
        return rows

    async def fetchrow(self, query: str, *arguments: object) -> Row | None:
        """The first row, if there is one."""
        row: Row | None = await self._connection.fetchrow(query, *arguments)
        return row

    async def fetchval(self, query: str, *arguments: object) -> Any:
        """The first column of the first row, or None."""
        return await self._connection.fetchval(query, *arguments)

    async def execute(self, query: str, *arguments: object) -> int:
        """Runs a statement; returns how many rows it touched."""
        tag: str = await self._connection.execute(query, *arguments)
        count = tag.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0


class Database:
    """A pool of connections.

    Every method raises `Unavailable` when PostgreSQL is away. Each single statement is a transaction of its own.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A transaction; commits at the end of the block, rolls back on any exception."""
        with unavailable_when_away():
            async with self._pool.acquire(timeout=COMMAND_TIMEOUT_SECONDS) as connection, connection.transaction():
                yield Transaction(connection)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Transaction]:
        """A connection without a transaction around it."""
        with unavailable_when_away():
            async with self._pool.acquire(timeout=COMMAND_TIMEOUT_SECONDS) as connection:
                yield Transaction(connection)

    async def fetch(self, query: str, *arguments: object) -> Sequence[Row]:
        """All rows of one statement."""
        async with self.connection() as connection:
            return await connection.fetch(query, *arguments)

    async def fetchrow(self, query: str, *arguments: object) -> Row | None:
        """The first row of one statement, if there is one."""
        async with self.connection() as connection:
            return await connection.fetchrow(query, *arguments)

    async def fetchval(self, query: str, *arguments: object) -> Any:
        """The first column of the first row of one statement, or None."""
        async with self.connection() as connection:
            return await connection.fetchval(query, *arguments)

    async def execute(self, query: str, *arguments: object) -> int:
        """Runs one statement; returns how many rows it touched."""
        async with self.connection() as connection:
            return await connection.execute(query, *arguments)


@asynccontextmanager
async def open_database(url: str, *, name: str, max_connections: int = 10) -> AsyncIterator[Database]:
    """Opens a pool and waits until PostgreSQL answers, however long that takes: services may start in any order.

    Args:
        url: `postgresql://user:password@host:port/database`.
        name: The application name that `pg_stat_activity` shows.
        max_connections: The pool's size at most.
    """
    pool = await _connected_pool(url, name, max_connections)
    try:
        yield Database(pool)
    finally:
        try:
            await asyncio.wait_for(pool.close(), 5)
        except (TimeoutError, *_AWAY):
            pool.terminate()


async def _connected_pool(url: str, name: str, max_connections: int) -> Any:
    while True:
        try:
            return await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=max_connections,
                command_timeout=COMMAND_TIMEOUT_SECONDS,
                server_settings={**SERVER_SETTINGS, "application_name": f"kiln-{name}"},
                init=_set_codecs,
                reset=_leave_as_it_is,
            )
        except _AWAY as error:
            logger().warning("waiting_for_database", error=repr(error))
            await asyncio.sleep(0.5)


async def _set_codecs(connection: Any) -> None:
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(kind, schema="pg_catalog", encoder=lambda value: orjson.dumps(value).decode(), decoder=orjson.loads)


async def _leave_as_it_is(_: Any) -> None:
    """Nothing outlives a transaction: settings and locks are taken for one. To have others forgotten is a second round trip each time."""


class Listener:
    """Listens to one channel of NOTIFY on a connection of its own."""

    def __init__(self, url: str, channel: str) -> None:
        self._url = url
        self._channel = channel

    async def events(self) -> AsyncGenerator[str | None, None]:
        """The payload of each notification; None after each (re)connect: anything may have been missed."""
        while True:
            try:
                connection = await asyncpg.connect(
                    self._url, timeout=5, server_settings={"application_name": f"kiln-listen-{self._channel}"}
                )
            except _AWAY as error:
                logger().warning("listener_away", channel=self._channel, error=repr(error))
                await asyncio.sleep(0.5)
                continue
            try:
                async for payload in self._heard(connection):
                    yield payload
            finally:
                connection.terminate()

    async def _heard(self, connection: Any) -> AsyncIterator[str | None]:
        heard: asyncio.Queue[str | None | Exception] = asyncio.Queue()
        connection.add_termination_listener(lambda _: heard.put_nowait(ConnectionResetError()))
        try:
            await connection.add_listener(self._channel, lambda *event: heard.put_nowait(str(event[3])))
            yield None
            while not isinstance(event := await self._next(heard, connection), Exception):
                yield event
        except _AWAY as error:
            logger().warning("listener_lost", channel=self._channel, error=repr(error))

    @staticmethod
    async def _next(heard: "asyncio.Queue[str | None | Exception]", connection: Any) -> str | None | Exception:
        while True:
            try:
                async with asyncio.timeout(15):
                    return await heard.get()
            except TimeoutError:
                # A peer that vanished without a word is found out by asking.
                async with asyncio.timeout(5):
                    await connection.execute("SELECT 1")
