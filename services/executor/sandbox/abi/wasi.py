"""WASI preview 1 for guests without files, directories and sockets: three streams, a clock, randomness, and an errno for the rest.

No wait is longer than the guest's deadline, no buffer is touched that is not all in its memory, and nothing of the host shows. Where
several answers would be right, the one was taken that the runtimes of Go, C (wasi-libc) and Rust cope with best.

Sources: legacy/preview1/docs.md of the WebAssembly/WASI repository; `runtime/os_wasip1.go` and `syscall/fs_wasip1.go` of Go 1.27.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from functools import partial
from typing import Any, Final

from services.executor.sandbox.guest import GuestMemory, OutOfBounds
from services.executor.sandbox.host import Host

# As IOV_MAX of Linux.
_MAX_BUFFERS: Final = 1024
_MAX_SUBSCRIPTIONS: Final = 1024
# Buffers may overlap, so that together they can be larger than the memory; Linux has the same limit.
_MAX_TRANSFER_BYTES: Final = 0x7FFF_F000
# How much is done between two looks at the time.
_SLICE: Final = 16 << 10
_U32: Final = 0xFFFF_FFFF
_NS_PER_MS: Final = 1_000_000
# Go's runtime takes a monotonic clock at zero for a broken one.
_MONOTONIC_START_MS: Final = 1_000
_REALTIME: Final = 0
# The processor's time is not told; monotonic time is the nearest to it.
_MONOTONIC: Final = (1, 2, 3)
_CLOCK, _FD_READ, _FD_WRITE = range(3)
_ABSOLUTE: Final = 1
_CHARACTER_DEVICE: Final = 2
_STREAMS: Final = range(3)
# fd_read or fd_write, fd_fdstat_set_flags, fd_filestat_get, poll_fd_readwrite. Without seeking, C takes a stream for a terminal and
# writes each line at once, so that what was printed before a trap is not lost.
_READ_RIGHTS: Final = 1 << 1 | 1 << 3 | 1 << 21 | 1 << 27
_WRITE_RIGHTS: Final = 1 << 6 | 1 << 3 | 1 << 21 | 1 << 27

_BUFFER: Final = struct.Struct("<II")
_FDSTAT: Final = struct.Struct("<BxH4xQQ")
_FILESTAT: Final = struct.Struct("<QQB7xQQQQQ")
_SUBSCRIPTION: Final = struct.Struct("<QB7xI4xQQH6x")
_EVENT: Final = struct.Struct("<QHB5xQH6x")


class Errno(IntEnum):
    """The answers given here, of the 77 there are."""

    SUCCESS = 0
    BADF = 8
    FAULT = 21
    INVAL = 28
    NOENT = 44
    NOSYS = 52
    NOTDIR = 54
    NOTSOCK = 57
    SPIPE = 70
    NOTCAPABLE = 76


class _Refused(Exception):
    """Ends a function with an errno."""

    def __init__(self, errno: Errno) -> None:
        super().__init__(errno)
        self.errno = errno


def fill_with_random(host: Host, memory: GuestMemory, address: int, size: int) -> None:
    """Writes random bytes.

    Raises:
        OutOfBounds: They would not all be in the memory; none is written.
        GuestStopped: There was no time for all of them.
    """
    if not memory.holds(address, size):
        raise OutOfBounds
    size &= _U32
    for start in range(0, size, _SLICE):
        host.check_time()
        memory.write(address + start, host.random(min(_SLICE, size - start)))


def _random_get(host: Host, memory: GuestMemory, address: int, size: int) -> Errno:
    fill_with_random(host, memory, address, size)
    return Errno.SUCCESS


# Arguments and environment


def _arguments(_host: Host) -> list[bytes]:
    # Programs in all three languages read their name without asking whether there is one.
    return [b"function\0"]


def _environment(host: Host) -> list[bytes]:
    return [f"{name}={value}\0".encode() for name, value in host.environment.items()]


def _sizes(strings: Callable[[Host], list[bytes]], host: Host, memory: GuestMemory, count_at: int, size_at: int) -> Errno:
    them = strings(host)
    memory.write_u32(count_at, len(them))
    memory.write_u32(size_at, sum(map(len, them)))
    return Errno.SUCCESS


def _strings(strings: Callable[[Host], list[bytes]], host: Host, memory: GuestMemory, pointers_at: int, buffer_at: int) -> Errno:
    for number, one in enumerate(strings(host)):
        memory.write(buffer_at, one)
        memory.write_u32(pointers_at + 4 * number, buffer_at & _U32)
        buffer_at += len(one)
    return Errno.SUCCESS


# Time


def _clock_ns(host: Host, clock: int) -> int:
    if clock == _REALTIME:
        return host.now_ms() * _NS_PER_MS
    if clock in _MONOTONIC:
        return (_MONOTONIC_START_MS + host.elapsed_ms()) * _NS_PER_MS
    raise _Refused(Errno.INVAL)


def _clock_time_get(host: Host, memory: GuestMemory, clock: int, _precision: int, time_at: int) -> Errno:
    memory.write(time_at, _clock_ns(host, clock).to_bytes(8, "little"))
    return Errno.SUCCESS


def _clock_res_get(host: Host, memory: GuestMemory, clock: int, resolution_at: int) -> Errno:
    _clock_ns(host, clock)
    memory.write(resolution_at, _NS_PER_MS.to_bytes(8, "little"))
    return Errno.SUCCESS


def _poll_oneoff(host: Host, memory: GuestMemory, subscriptions_at: int, events_at: int, count: int, ready_at: int) -> Errno:
    if not 0 < count <= _MAX_SUBSCRIPTIONS:
        return Errno.INVAL
    if not memory.holds(events_at, _EVENT.size * count) or not memory.holds(ready_at, 4):
        return Errno.FAULT
    asked = list(_SUBSCRIPTION.iter_unpack(memory.read(subscriptions_at, _SUBSCRIPTION.size * count)))
    waits = [_wait_ns(host, kind, subject, timeout, flags) for _, kind, subject, timeout, _, flags in asked]
    least = min(wait for wait, _ in waits)
    host.sleep(least / 1e9)
    ready = [
        _EVENT.pack(userdata, errno, kind, 0, 0) for (userdata, kind, *_), (wait, errno) in zip(asked, waits, strict=True) if wait == least
    ]
    memory.write(events_at, b"".join(ready))
    memory.write_u32(ready_at, len(ready))
    return Errno.SUCCESS


def _wait_ns(host: Host, kind: int, subject: int, timeout: int, flags: int) -> tuple[int, Errno]:
    """How long until something happens that is waited for, and with what errno. Streams are ready at once, and so is a mistake."""
    if kind == _CLOCK:
        if subject not in (_REALTIME, *_MONOTONIC):
            return 0, Errno.INVAL
        return max(0, timeout - _clock_ns(host, subject)) if flags & _ABSOLUTE else timeout, Errno.SUCCESS
    if kind in (_FD_READ, _FD_WRITE):
        return 0, Errno.SUCCESS if subject in _STREAMS else Errno.BADF
    raise _Refused(Errno.INVAL)


# Streams


def _buffers(memory: GuestMemory, at: int, count: int) -> list[tuple[int, int]]:
    """Addresses and sizes of buffers that are all in the memory."""
    if not 0 <= count <= _MAX_BUFFERS:
        raise _Refused(Errno.INVAL)
    them: list[tuple[int, int]] = list(_BUFFER.iter_unpack(memory.read(at, _BUFFER.size * count)))
    if not all(memory.holds(address, size) for address, size in them):
        raise _Refused(Errno.FAULT)
    if sum(size for _, size in them) > _MAX_TRANSFER_BYTES:
        raise _Refused(Errno.INVAL)
    return them


def _fd_read(host: Host, memory: GuestMemory, fd: int, buffers_at: int, count: int, read_at: int) -> Errno:
    if fd != 0:
        return Errno.BADF
    buffers = _buffers(memory, buffers_at, count)
    if not memory.holds(read_at, 4):
        return Errno.FAULT
    total = 0
    for address, size in buffers:
        taken = host.streams.read(size)
        memory.write(address, bytes(taken))
        total += len(taken)
    memory.write_u32(read_at, total)
    return Errno.SUCCESS


def _fd_write(host: Host, memory: GuestMemory, fd: int, buffers_at: int, count: int, written_at: int) -> Errno:
    if fd not in (1, 2):
        return Errno.BADF
    buffers = _buffers(memory, buffers_at, count)
    if not memory.holds(written_at, 4):
        return Errno.FAULT
    sink = host.streams.output if fd == 1 else host.streams.errors
    for data in _slices(host, memory, buffers):
        sink.write(data)
    memory.write_u32(written_at, sum(size for _, size in buffers))
    return Errno.SUCCESS


def _slices(host: Host, memory: GuestMemory, buffers: list[tuple[int, int]]) -> Iterable[bytes]:
    for address, size in buffers:
        for start in range(0, size, _SLICE):
            host.check_time()
            yield memory.read(address + start, min(_SLICE, size - start))


def _fd_fdstat_get(_host: Host, memory: GuestMemory, fd: int, stat_at: int) -> Errno:
    if fd not in _STREAMS:
        return Errno.BADF
    rights = _WRITE_RIGHTS if fd else _READ_RIGHTS
    memory.write(stat_at, _FDSTAT.pack(_CHARACTER_DEVICE, 0, rights, 0))
    return Errno.SUCCESS


def _fd_filestat_get(_host: Host, memory: GuestMemory, fd: int, stat_at: int) -> Errno:
    if fd not in _STREAMS:
        return Errno.BADF
    memory.write(stat_at, _FILESTAT.pack(0, fd, _CHARACTER_DEVICE, 1, 0, 0, 0, 0))
    return Errno.SUCCESS


# The process


def _proc_exit(host: Host, _memory: GuestMemory, code: int) -> Errno:
    raise host.exit(code)


def _always(errno: Errno, _host: Host, _memory: GuestMemory, *_arguments: int) -> Errno:
    return errno


def _of_stream(errno: Errno, _host: Host, _memory: GuestMemory, fd: int, *_arguments: int) -> Errno:
    """What is asked of a stream that is no file has its errno; no other descriptor is open."""
    return errno if fd in _STREAMS else Errno.BADF


def _answering(function: Callable[..., Errno]) -> Callable[..., int]:
    def answer(host: Host, memory: GuestMemory, *arguments: int) -> int:
        try:
            return int(function(host, memory, *arguments))
        except OutOfBounds:
            return int(Errno.FAULT)
        except _Refused as refusal:
            return int(refusal.errno)

    return answer


# Go looks for every path below descriptor -1 when no directory is open, and on an errno but this one it does not look elsewhere.
_NO_SUCH_PATH: Final = partial(_always, Errno.NOENT)

_FUNCTIONS: Final[Mapping[str, Callable[..., Errno]]] = {
    "args_get": partial(_strings, _arguments),
    "args_sizes_get": partial(_sizes, _arguments),
    "environ_get": partial(_strings, _environment),
    "environ_sizes_get": partial(_sizes, _environment),
    "clock_res_get": _clock_res_get,
    "clock_time_get": _clock_time_get,
    "fd_advise": partial(_of_stream, Errno.SPIPE),
    "fd_allocate": partial(_of_stream, Errno.SPIPE),
    "fd_close": partial(_of_stream, Errno.SUCCESS),
    "fd_datasync": partial(_of_stream, Errno.SUCCESS),
    "fd_fdstat_get": _fd_fdstat_get,
    "fd_fdstat_set_flags": partial(_of_stream, Errno.SUCCESS),
    "fd_fdstat_set_rights": partial(_of_stream, Errno.NOTCAPABLE),
    "fd_filestat_get": _fd_filestat_get,
    "fd_filestat_set_size": partial(_of_stream, Errno.INVAL),
    "fd_filestat_set_times": partial(_of_stream, Errno.NOTCAPABLE),
    "fd_pread": partial(_of_stream, Errno.SPIPE),
    # The runtimes ask from descriptor 3 on for directories, until they get this answer.
    "fd_prestat_dir_name": partial(_always, Errno.BADF),
    "fd_prestat_get": partial(_always, Errno.BADF),
    "fd_pwrite": partial(_of_stream, Errno.SPIPE),
    "fd_read": _fd_read,
    "fd_readdir": partial(_of_stream, Errno.NOTDIR),
    "fd_renumber": partial(_of_stream, Errno.NOTCAPABLE),
    "fd_seek": partial(_of_stream, Errno.SPIPE),
    "fd_sync": partial(_of_stream, Errno.SUCCESS),
    "fd_tell": partial(_of_stream, Errno.SPIPE),
    "fd_write": _fd_write,
    "path_create_directory": _NO_SUCH_PATH,
    "path_filestat_get": _NO_SUCH_PATH,
    "path_filestat_set_times": _NO_SUCH_PATH,
    "path_link": _NO_SUCH_PATH,
    "path_open": _NO_SUCH_PATH,
    "path_readlink": _NO_SUCH_PATH,
    "path_remove_directory": _NO_SUCH_PATH,
    "path_rename": _NO_SUCH_PATH,
    "path_symlink": _NO_SUCH_PATH,
    "path_unlink_file": _NO_SUCH_PATH,
    "poll_oneoff": _poll_oneoff,
    "proc_exit": _proc_exit,
    "proc_raise": partial(_always, Errno.NOSYS),
    "random_get": _random_get,
    # The host looks at the time before every function; there is nothing else to give way to.
    "sched_yield": partial(_always, Errno.SUCCESS),
    "sock_accept": partial(_of_stream, Errno.NOTSOCK),
    "sock_recv": partial(_of_stream, Errno.NOTSOCK),
    "sock_send": partial(_of_stream, Errno.NOTSOCK),
    "sock_shutdown": partial(_of_stream, Errno.NOTSOCK),
}
FUNCTIONS: Final[Mapping[tuple[str, str], Callable[..., Any]]] = {
    ("wasi_snapshot_preview1", name): _answering(function) for name, function in _FUNCTIONS.items()
}
