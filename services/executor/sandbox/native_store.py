"""Native code in files, so that it need not be made again after a restart. Blocking: threads call it.

    code/key                       a secret of this folder
    code/<engine>-<module>.native  magic, authentication code, size of the head, head, native code

Wasmtime runs native code unchecked, so nothing leaves here that was not put here: a file is authenticated as a whole, and says itself
what it is, so that none passes for another. What is not as it was written is deleted, and made again by whoever misses it; that covers
power cuts too, and nothing waits for the disk. Several executors may share a folder: each looks at the files and remembers nothing.
"""

import fcntl
import hmac
import os
import secrets
import stat
import struct
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from libs.common.logs import logger
from services.executor.sandbox.native import NativeCode

SUFFIX: Final = ".native"
KEY: Final = "key"
_OWN: Final = "code"
_LOCK: Final = "lock"
_UNFINISHED: Final = "unfinished-"
# One that is older was left by a process that died over it.
_UNFINISHED_SECONDS: Final = 60
_MAGIC: Final = b"kiln native 1\n"
MAX_FILES: Final = 10_000
_KEY_BYTES: Final = 32
_CODE_BYTES: Final = sha256().digest_size
_HEAD_SIZE: Final = struct.Struct("!H")
_FIXED_BYTES: Final = len(_MAGIC) + _CODE_BYTES + _HEAD_SIZE.size
# Follows no link, and does not wait for the other end of a pipe.
_READING: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Foreign(Exception):
    """Not a file as it was written here."""


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """What a file says it is."""

    engine: str
    digest: str
    abi: str

    @property
    def name(self) -> str:
        """Where it lies. Those of one engine begin alike."""
        return f"{_prefix(self.engine)}{sha256(msgspec.msgpack.encode(self)).hexdigest()}{SUFFIX}"


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    size: int
    used_at: int


class NativeStore:
    """The files of one folder, as `open_native_store` opens it.

    Args:
        folder: Where they lie.
        key: The folder's secret.
        engine: What the code was made for, as `engine.fingerprint` tells: code for anything else is not found.
        max_bytes: How large all files may be together; those go first whose use is longest ago.
    """

    def __init__(self, folder: Path, key: bytes, engine: str, max_bytes: int) -> None:
        self._folder = folder
        self._key = key
        self._engine = engine
        self._max_bytes = max_bytes
        # A file counts as so much at least, so that there are never more than ten thousand to look through.
        self._least_bytes = max_bytes // MAX_FILES
        self._room = 0
        self._making_room = threading.Lock()

    def read(self, digest: str, abi: str) -> NativeCode | None:
        """Native code of a module; None when there is none, or none to be trusted."""
        return self._read(self._path(digest, abi))

    def recent(self, max_bytes: int) -> Iterator[NativeCode]:
        """What was used last, the last first, as far as so many bytes have room for it."""
        try:
            files = sorted(self._files(), key=lambda file: file.used_at, reverse=True)
        except OSError as error:
            logger().warning("native_folder_unusable", folder=str(self._folder), error=str(error))
            return
        for file in files:
            if file.size <= max_bytes and (native := self._read(file.path)):
                max_bytes -= file.size
                yield native

    def keep(self, native: NativeCode) -> None:
        """Writes native code. When that is not possible, a warning is all that comes of it."""
        head = msgspec.msgpack.encode(_Head(self._engine, native.digest, native.abi))
        size = _FIXED_BYTES + len(head) + len(native.code)
        if size > self._max_bytes:
            return
        try:
            # Before it is written, so that the bound is never passed.
            self._make_room(size)
            parts = (_MAGIC, self._authentication(head, native.code), _HEAD_SIZE.pack(len(head)), head, native.code)
            _write(self._path(native.digest, native.abi), parts)
        except OSError as error:
            logger().warning("native_code_not_kept", digest=native.digest, error=str(error))

    def touch(self, modules: Sequence[tuple[str, str]]) -> None:
        """Notes that modules, each by its digest and ABI, were used, the last of them now."""
        # What is not of one moment keeps its order; the clock that files get their times from stands still for milliseconds.
        now = time.time_ns()
        for number, (digest, abi) in enumerate(reversed(modules)):
            # It may have gone.
            with suppress(OSError):
                os.utime(self._path(digest, abi), ns=(now - number, now - number), follow_symlinks=False)

    def clean(self, *, of_other_keys: bool) -> None:
        """Deletes what will never be read: code for other engines, and files that were never finished.

        Args:
            of_other_keys: Whether the key is new, so that nothing here is authentic.

        Raises:
            OSError: the folder cannot be read or written.
        """
        for file in self._files():
            if of_other_keys or not file.path.name.startswith(_prefix(self._engine)):
                file.path.unlink(missing_ok=True)
        for path in self._folder.glob(f"{_UNFINISHED}*"):
            with suppress(FileNotFoundError):
                if path.lstat().st_mtime < time.time() - _UNFINISHED_SECONDS:
                    path.unlink()
        self._look_for_room(0)

    def _path(self, digest: str, abi: str) -> Path:
        return self._folder / _Head(self._engine, digest, abi).name

    def _files(self) -> Sequence[_File]:
        files = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                # Another executor may have deleted it by now.
                with suppress(FileNotFoundError):
                    if entry.name.endswith(SUFFIX):
                        found = entry.stat(follow_symlinks=False)
                        files.append(_File(self._folder / entry.name, found.st_size, found.st_mtime_ns))
        return files

    def _make_room(self, size: int) -> None:
        """Sees to it that a file of this size fits, if need be by deleting what was used least recently."""
        with self._making_room:
            size = max(size, self._least_bytes)
            if size > self._room:
                # The other half may be another executor's.
                self._room = size + (self._look_for_room(size) - size) // 2
            self._room -= size

    def _look_for_room(self, size: int) -> int:
        """How much room there is, which is at least this much; if need be more is deleted than that, so as not to look again at once."""
        files = sorted(self._files(), key=lambda file: file.used_at)
        counted = [(file.path, max(file.size, self._least_bytes)) for file in files]
        room = self._max_bytes - sum(count for _, count in counted)
        wanted = size if room >= size else min(self._max_bytes, size + self._max_bytes // 8)
        for path, count in counted:
            if room >= wanted:
                break
            path.unlink(missing_ok=True)
            room += count
        return room

    def _read(self, path: Path) -> NativeCode | None:
        try:
            with _opened(path) as file:
                return self._verified(path.name, file)
        except FileNotFoundError:
            return None
        except (_Foreign, OSError) as error:
            logger().warning("native_code_refused", file=path.name, error=str(error))
            with suppress(OSError):
                path.unlink()
            return None

    def _verified(self, name: str, file: BinaryIO) -> NativeCode:
        if os.fstat(file.fileno()).st_size > self._max_bytes:
            raise _Foreign("it is too large")
        if file.read(len(_MAGIC)) != _MAGIC:
            raise _Foreign("it does not begin as one")
        authentication, size = file.read(_CODE_BYTES), file.read(_HEAD_SIZE.size)
        if len(size) < _HEAD_SIZE.size:
            raise _Foreign("it ends early")
        head, code = file.read(_HEAD_SIZE.unpack(size)[0]), file.read()
        if not hmac.compare_digest(authentication, self._authentication(head, code)):
            raise _Foreign("it is not authentic")
        told = msgspec.msgpack.decode(head, type=_Head)
        if told.name != name:
            raise _Foreign("it lies in the place of another")
        return NativeCode(told.digest, told.abi, code)

    def _authentication(self, head: bytes, code: bytes) -> bytes:
        authentication = hmac.new(self._key, _MAGIC + _HEAD_SIZE.pack(len(head)) + head, sha256)
        authentication.update(code)
        return authentication.digest()


def open_native_store(folder: Path, engine: str, max_bytes: int) -> NativeStore | None:
    """The store below a folder, which is made if need be; None, and a warning, when that cannot be used."""
    try:
        # One of our own, since the folder may be a mount with a mode of its own.
        folder = folder / _OWN
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        # One at a time: a key that is being replaced is not one to read.
        with _locked(folder / _LOCK):
            key = _read_key(folder / KEY)
            store = NativeStore(folder, key or _new_key(folder / KEY), engine, max_bytes)
            store.clean(of_other_keys=key is None)
            return store
    except OSError as error:
        logger().warning("native_folder_unusable", folder=str(folder), error=str(error))
        return None


def _prefix(engine: str) -> str:
    return f"{sha256(engine.encode()).hexdigest()[:16]}-"


def _read_key(path: Path) -> bytes | None:
    """The key; None when there is none that nobody else knows."""
    with suppress(OSError, _Foreign), _opened(path) as file:
        found = os.fstat(file.fileno())
        key = file.read(_KEY_BYTES + 1)
        if len(key) == _KEY_BYTES and found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077:
            return key
    return None


def _new_key(path: Path) -> bytes:
    key = secrets.token_bytes(_KEY_BYTES)
    _write(path, [key])
    return key


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with open(os.open(path, _READING), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise _Foreign("it is no file")
        yield file


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _write(path: Path, parts: Iterable[bytes]) -> None:
    """Puts a file in its place whole, or not at all; it is closed to others."""
    descriptor, unfinished = tempfile.mkstemp(prefix=_UNFINISHED, dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.writelines(parts)
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished)
        raise
