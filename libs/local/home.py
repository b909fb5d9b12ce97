"""The home: one folder that holds all data of an all-in-one run, for one run at a time."""

import base64
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# Logs are turned over at the start of a run.
MAX_LOG_BYTES: Final = 50 << 20


class HomeInUse(Exception):
    """Another run has this home; the message says which."""


class Home:
    """Where things lie in a home."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.postgres = self.path / "postgres"
        self.logs = self.path / "logs"
        self.journal = self.path / "journal"
        self.native = self.path / "native"
        self.admin_key = self.path / "admin.key"

    def password(self) -> str:
        """The database password of this home; made when it is first asked for."""
        return self._secret("postgres.password", lambda: secrets.token_urlsafe(24))

    def service_secret(self) -> str:
        """What the services of this home prove themselves by to each other; made when it is first asked for."""
        return self._secret("service.secret", lambda: secrets.token_urlsafe(48))

    def sealing_key(self) -> str:
        """What secrets in the database of this home are sealed with; made when it is first asked for."""
        return self._secret("sealing.key", lambda: base64.b64encode(secrets.token_bytes(32)).decode())

    def postgres_port(self) -> int:
        """Where the PostgreSQL listens that runs in this home, as its own file says."""
        return int((self.postgres / "data" / "postmaster.pid").read_text(encoding="ascii").splitlines()[3])

    def _secret(self, name: str, make: Callable[[], str]) -> str:
        file = self.path / name
        if not file.exists():
            # Whole or not at all: half a secret would be taken for one.
            fresh = file.with_suffix(".new")
            fresh.unlink(missing_ok=True)
            fresh.touch(mode=0o600)
            fresh.write_text(make(), encoding="ascii")
            fresh.rename(file)
        return file.read_text(encoding="ascii")

    def open_log(self, name: str) -> int:
        """A descriptor that appends to a log file; the caller closes it."""
        file = self.logs / f"{name}.log"
        if file.exists() and file.stat().st_size > MAX_LOG_BYTES:
            file.replace(file.with_suffix(".log.old"))
        return os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o640)


@contextmanager
def open_home(path: Path) -> Iterator[Home]:
    """Opens a home, made when it is missing, for this process alone; the lock goes with the process.

    Raises:
        HomeInUse: another process has it.
        OSError: it cannot be made or written.
    """
    home = Home(path)
    if not home.path.exists():
        home.path.mkdir(parents=True)
        # The database's own user passes through, whatever the umask; what is inside guards itself.
        home.path.chmod(0o755)
    home.logs.mkdir(exist_ok=True)
    lock = os.open(home.path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode(errors="replace").strip()
        os.close(lock)
        raise HomeInUse(f"{home.path} is in use by another run (process {holder}); stop that one, or set KILN_HOME to another") from None
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield home
    finally:
        os.close(lock)
