"""What a toolchain needs made once on a machine, such as a C library: made at set-up, so that no user waits for it."""

import errno
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

_STAMP: Final = ".made"


class Prepared:
    """A folder that is made once for each state of a toolchain.

    Args:
        name: For people: what is in it.
        folder: Where it is.
        fingerprint: Of all that it is made from.
        make: Fills an empty folder.
    """

    def __init__(self, name: str, folder: Path, fingerprint: str, make: Callable[[Path], None]) -> None:
        self.name: Final = name
        self.folder: Final = folder
        self.fingerprint: Final = fingerprint
        self._make = make
        self._stamp = digest(fingerprint, str(folder))

    @property
    def is_made(self) -> bool:
        """Whether it is there, of this state, and where it was made: compilers write down whole paths."""
        try:
            return (self.folder / _STAMP).read_text(encoding="ascii") == self._stamp
        except OSError:
            return False

    def make(self) -> None:
        """Makes it anew; nobody ever sees half of one."""
        fresh = Path(tempfile.mkdtemp(dir=self.folder.parent, prefix=f".{self.folder.name}-"))
        try:
            self._make(fresh)
            (fresh / _STAMP).write_text(self._stamp, encoding="ascii")
            # The compilers' own user reads it, whatever the umask was.
            for path in (fresh, *fresh.rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)
            self._put(fresh)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise

    def _put(self, fresh: Path) -> None:
        """Gives a whole folder its name. Whoever has the name is renamed and then removed; it may be another's that was made meanwhile."""
        while True:
            try:
                fresh.rename(self.folder)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            with tempfile.TemporaryDirectory(dir=self.folder.parent, prefix=f".{self.folder.name}-") as old, suppress(FileNotFoundError):
                self.folder.rename(old)


def digest(*parts: str | Path) -> str:
    """Changes with each of the texts, and with the contents of each of the files."""
    whole = hashlib.sha256()
    for part in parts:
        contents = part.read_bytes() if isinstance(part, Path) else part.encode()
        whole.update(hashlib.sha256(contents).digest())
    return whole.hexdigest()


def run(command: Sequence[str], *, folder: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """Runs a compiler on a source of Kiln's own, and returns what it said.

    Raises:
        subprocess.CalledProcessError: It failed; its `output` says why.
    """
    done = subprocess.run(
        command, check=True, cwd=folder, env=environment or {}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    )
    return done.stdout
