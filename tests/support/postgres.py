"""A PostgreSQL of the tests' own: the embedded one, in a temporary home, with nothing to survive a crash."""

import asyncio
import itertools
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from libs.local.home import Home
from libs.local.ports import free_ports
from libs.local.postgres import EmbeddedPostgres

_numbers = itertools.count(1)


class TestPostgres:
    """A cluster that hands out databases."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        home = Home(folder)
        home.path.mkdir(exist_ok=True)
        home.path.chmod(0o711)
        self._log = folder / "log"
        self._embedded = EmbeddedPostgres(home, free_ports(1)[0])
        self._embedded.set_up()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = self._embedded.url

    async def start(self) -> None:
        """Starts it; returns once it answers."""
        self._process = self._spawn()
        await self._embedded.wait_until_ready()

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stops it by a signal; by SIGQUIT it stops as in a crash."""
        assert self._process
        self._process.send_signal(number)
        self._process.wait(20)

    def _spawn(self) -> "subprocess.Popen[bytes]":
        # What a test writes need not survive the machine.
        command = [*self._embedded.command(), "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=200"]
        with self._log.open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    async def new_database(self, template: str = "template1") -> str:
        """The URL of a new database."""
        name = f"test_{next(_numbers)}_{time.time_ns()}"
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url_of(name)

    def url_of(self, name: str) -> str:
        """The URL of a database."""
        return f"{self.url.rpartition('/')[0]}/{name}"

    async def execute(self, statement: str) -> None:
        """Runs one statement in the maintenance database."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@contextmanager
def running_postgres(folder: Path) -> Iterator[TestPostgres]:
    """A cluster in a folder while the block runs."""
    postgres = TestPostgres(folder)
    asyncio.run(postgres.start())
    try:
        yield postgres
    finally:
        # Nothing of it is kept, so that it need not write what it has in memory first, which takes half a minute after many databases.
        postgres.stop(signal.SIGQUIT)
