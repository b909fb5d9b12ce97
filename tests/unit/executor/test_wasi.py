"""Kiln's WASI: what a program without files finds, and that nothing it passes makes more of it."""

import struct

import pytest
from wasmtime import Engine, Func, Linker, Memory, MemoryType, Store
from wasmtime import Limits as Pages

from libs.common.abi import WASI_COMMAND
from services.executor.sandbox import ErrorType, Level, Limits
from services.executor.sandbox.abi import wasi
from services.executor.sandbox.abi.wasi import Errno
from services.executor.sandbox.guest import PAGE_BYTES
from services.executor.sandbox.host import GuestStopped, Host, Sources
from services.executor.sandbox.lines import Lines
from services.executor.sandbox.streams import Streams
from services.executor.sandbox.watch import Reason
from tests.support.plain_engine import PlainMemory

STORE = Store(Engine())
DEFAULT = Limits()
HOUR = 3600 * 10**9


class Clock:
    """Time that passes only while somebody sleeps or waits for chance."""

    def __init__(self) -> None:
        self.time = 50.0
        self.naps: list[float] = []
        self.asked: list[int] = []

    def random(self, size: int) -> bytes:
        """Takes a little time."""
        self.asked.append(size)
        self.time += 0.01
        return b"\xab" * size

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.time += seconds


class Program:
    """Calls WASI as a guest would.

    Args:
        text: Its standard input.
        seconds: How long it may run.
    """

    def __init__(self, text: bytes = b"", seconds: float = 5.0, environment: dict[str, str] | None = None) -> None:
        self.clock = Clock()
        start = self.clock.time
        sources = Sources(
            now=lambda: 1_700_000_000 + self.clock.time,
            elapsed=lambda: self.clock.time,
            random=self.clock.random,
            sleep=self.clock.sleep,
        )

        def must_stop() -> Reason | None:
            return "TIMEOUT" if self.clock.time - start >= seconds else None

        self.host = Host(DEFAULT, must_stop, sources, environment)
        self.host.streams = Streams(memoryview(text), Lines(self.host, Level.INFO), Lines(self.host, Level.ERROR))
        self.memory = PlainMemory(STORE, Memory(STORE, MemoryType(Pages(1, None))))

    def call(self, name: str, *arguments: int) -> int:
        return int(wasi.FUNCTIONS["wasi_snapshot_preview1", name](self.host, self.memory, *arguments))

    def buffers(self, *buffers: tuple[int, int]) -> tuple[int, int]:
        """Address and number of an array of buffers."""
        self.memory.write(64, b"".join(struct.pack("<II", *one) for one in buffers))
        return 64, len(buffers)

    def poll(self, *subscriptions: bytes) -> list[tuple[int, int, int]]:
        """User data, errno and kind of each event."""
        self.memory.write(1024, b"".join(subscriptions))
        assert self.call("poll_oneoff", 1024, 32_768, len(subscriptions), 0) == Errno.SUCCESS
        events = self.memory.read(32_768, 32 * self.memory.read_u32(0))
        return list(struct.iter_unpack("<QHB21x", events))

    def strings(self, function: str) -> list[bytes]:
        """The strings that a pair of functions gives, read as C does."""
        assert self.call(f"{function}_sizes_get", 0, 4) == Errno.SUCCESS
        count, size = self.memory.read_u32(0), self.memory.read_u32(4)
        assert self.call(f"{function}_get", 16, 2048) == Errno.SUCCESS
        pointers = [self.memory.read_u32(16 + 4 * number) for number in range(count)]
        whole = self.memory.read(2048, size)
        return [whole[at - 2048 : whole.index(0, at - 2048)] for at in pointers]


def clock(userdata: int, timeout: int, clock_id: int = 1, flags: int = 0) -> bytes:
    return struct.pack("<QB7xI4xQQH6x", userdata, 0, clock_id, timeout, 0, flags)


def stream(userdata: int, kind: int, fd: int) -> bytes:
    return struct.pack("<QB7xI28x", userdata, kind, fd)


def test_the_functions_are_those_of_preview_1_with_their_types() -> None:
    engine = Engine()
    store, linker = Store(engine), Linker(engine)
    linker.define_wasi()

    for (module, name), signature in WASI_COMMAND.imports.items():
        if module != "kiln":
            function = linker.get(store, module, name)
            assert isinstance(function, Func)
            kind = function.type(store)
            assert (tuple(map(str, kind.params)), tuple(map(str, kind.results))) == (signature.params, signature.results)


# Arguments, environment, clock


def test_a_program_has_a_name_and_no_arguments() -> None:
    assert Program().strings("args") == [b"function"]


def test_the_environment_is_the_calls() -> None:
    assert Program(environment={"A": "1", "GREETING": "hé", "EMPTY": ""}).strings("environ") == [
        b"A=1",
        "GREETING=hé".encode(),
        b"EMPTY=",
    ]
    assert Program().strings("environ") == []


@pytest.mark.parametrize(("clock_id", "milliseconds"), [(0, 1_700_000_050_000), (1, 1_000), (2, 1_000), (3, 1_000)])
def test_clocks_move_in_whole_milliseconds_and_are_never_zero(clock_id: int, milliseconds: int) -> None:
    program = Program()
    program.clock.time += 0.0123

    assert program.call("clock_time_get", clock_id, 1, 8) == Errno.SUCCESS
    assert program.call("clock_res_get", clock_id, 16) == Errno.SUCCESS

    assert int.from_bytes(program.memory.read(8, 8), "little") == (milliseconds + 12) * 1_000_000
    assert int.from_bytes(program.memory.read(16, 8), "little") == 1_000_000


@pytest.mark.parametrize("clock_id", [4, -1])
def test_other_clocks_are_invalid(clock_id: int) -> None:
    assert Program().call("clock_time_get", clock_id, 1, 8) == Errno.INVAL
    assert Program().call("clock_res_get", clock_id, 8) == Errno.INVAL


def test_random_bytes_fill_a_buffer_and_not_more() -> None:
    program = Program()

    assert program.call("random_get", 100, 40_000) == Errno.SUCCESS

    assert program.memory.read(99, 40_002) == b"\0" + b"\xab" * 40_000 + b"\0"


def test_the_time_is_looked_at_between_slices_of_a_large_request() -> None:
    program = Program(seconds=0.025)

    with pytest.raises(GuestStopped):
        program.call("random_get", 0, PAGE_BYTES)

    assert sum(program.clock.asked) < PAGE_BYTES


# Sleeping


def test_a_sleep_takes_its_time_in_short_naps() -> None:
    program = Program()

    assert program.poll(clock(7, 50_000_000)) == [(7, 0, 0)]

    assert sum(program.clock.naps) == pytest.approx(0.05)
    assert max(program.clock.naps) < 0.01


@pytest.mark.parametrize(("clock_id", "now_ms"), [(0, 1_700_000_050_000), (1, 1_000)])
def test_a_sleep_until_a_moment_ends_then(clock_id: int, now_ms: int) -> None:
    program = Program()

    assert program.poll(clock(1, (now_ms + 30) * 1_000_000, clock_id, flags=1)) == [(1, 0, 0)]
    assert program.poll(clock(2, 5, clock_id, flags=1)) == [(2, 0, 0)]

    assert sum(program.clock.naps) == pytest.approx(0.03)


@pytest.mark.parametrize("timeout", [HOUR, 2**64 - 1])
def test_a_long_sleep_ends_at_the_deadline(timeout: int) -> None:
    program = Program(seconds=0.2)

    with pytest.raises(GuestStopped):
        program.poll(clock(1, timeout))

    assert program.host.error is not None
    assert program.host.error.type is ErrorType.TIMEOUT
    assert sum(program.clock.naps) == pytest.approx(0.2, abs=0.01)


def test_the_first_of_several_sleeps_ends_the_wait() -> None:
    program = Program()

    assert program.poll(clock(1, HOUR), clock(2, 10_000_000), clock(3, 10_000_000)) == [(2, 0, 0), (3, 0, 0)]


def test_streams_are_ready_at_once_and_mistakes_are_told() -> None:
    program = Program()

    events = program.poll(clock(1, HOUR), stream(2, 1, 0), stream(3, 2, 1), stream(4, 1, 9), clock(5, 1, clock_id=8))

    assert events == [(2, 0, 1), (3, 0, 2), (4, Errno.BADF, 1), (5, Errno.INVAL, 0)]
    assert not program.clock.naps


@pytest.mark.parametrize("count", [0, -1, 1025, 2**31 - 1])
def test_no_subscriptions_and_too_many_are_invalid(count: int) -> None:
    assert Program().call("poll_oneoff", 0, 0, count, 0) == Errno.INVAL


def test_a_subscription_to_something_else_is_invalid() -> None:
    program = Program()
    program.memory.write(1024, stream(1, 3, 0))

    assert program.call("poll_oneoff", 1024, 32_768, 1, 0) == Errno.INVAL


# Streams


@pytest.mark.parametrize("fd", [0, 1, 2])
def test_a_stream_is_a_terminal_that_cannot_seek(fd: int) -> None:
    program = Program()

    assert program.call("fd_fdstat_get", fd, 0) == Errno.SUCCESS
    assert program.call("fd_filestat_get", fd, 100) == Errno.SUCCESS

    kind, flags, rights, inherited = struct.unpack("<BxH4xQQ", program.memory.read(0, 24))
    assert (kind, flags, inherited) == (2, 0, 0)
    # Neither fd_seek nor fd_tell.
    assert not rights & (1 << 2 | 1 << 5)
    assert program.memory.read(116, 1) == b"\2"
    assert program.call("fd_seek", fd, 0, 0, 0) == program.call("fd_tell", fd, 0) == Errno.SPIPE
    assert program.call("fd_fdstat_set_flags", fd, 4) == program.call("fd_close", fd) == Errno.SUCCESS


def test_the_input_is_read_to_its_end_through_buffers_of_any_size() -> None:
    program = Program(b"abcdefg")
    buffers = program.buffers((1000, 2), (0xFFFF_FFFF, 0), (2000, 3))

    assert program.call("fd_read", 0, *buffers, 8) == Errno.SUCCESS
    assert (program.memory.read_u32(8), program.memory.read(1000, 3), program.memory.read(2000, 3)) == (5, b"ab\0", b"cde")
    assert program.call("fd_read", 0, *buffers, 8) == Errno.SUCCESS
    assert (program.memory.read_u32(8), program.memory.read(1000, 2)) == (2, b"fg")
    assert program.call("fd_read", 0, *buffers, 8) == Errno.SUCCESS
    assert program.memory.read_u32(8) == 0


def test_what_is_written_is_logged_by_lines_of_its_stream() -> None:
    program = Program()
    program.memory.write(1000, b"one\ntwo\n")

    assert program.call("fd_write", 1, *program.buffers((1000, 2), (1002, 2), (0xFFFF_FFFF, 0)), 8) == Errno.SUCCESS
    assert program.memory.read_u32(8) == 4
    assert program.call("fd_write", 2, *program.buffers((1004, 3)), 8) == Errno.SUCCESS
    program.host.streams.close()

    assert [(line.level, line.message) for line in program.host.logs] == [(Level.INFO, "one"), (Level.ERROR, "two")]


@pytest.mark.parametrize("name", ["fd_write", "fd_read"])
@pytest.mark.parametrize(
    ("buffers", "errno"),
    [
        ([(1000, 5), (PAGE_BYTES - 1, 2)], Errno.FAULT),
        ([(1000, 5), (0, 0xFFFF_FFFF)], Errno.FAULT),
        ([(1000, 5), (0xFFFF_FFFF, 1)], Errno.FAULT),
    ],
)
def test_a_buffer_outside_of_memory_is_a_fault_before_anything_is_done(name: str, buffers: list[tuple[int, int]], errno: Errno) -> None:
    program = Program(b"input")
    program.memory.write(1000, b"hello")

    assert program.call(name, 1 if name == "fd_write" else 0, *program.buffers(*buffers), 8) == errno

    program.host.streams.close()
    assert not program.host.logs
    assert len(program.host.streams.input) == 5


@pytest.mark.parametrize(("name", "fd"), [("fd_write", 1), ("fd_read", 0)])
def test_the_number_of_buffers_is_bounded(name: str, fd: int) -> None:
    program = Program()

    assert program.call(name, fd, 64, -1, 8) == Errno.INVAL
    assert program.call(name, fd, 64, 1025, 8) == Errno.INVAL
    assert program.call(name, fd, 64, 1024, 8) == Errno.SUCCESS
    assert program.call(name, fd, PAGE_BYTES - 4, 1, 8) == Errno.FAULT
    assert program.call(name, fd, 64, 0, -1) == Errno.FAULT


def test_buffers_that_overlap_are_no_way_to_write_without_end() -> None:
    program = Program()
    memory = Memory(STORE, MemoryType(Pages(64, None)))
    program.memory = PlainMemory(STORE, memory)

    assert program.call("fd_write", 1, *program.buffers(*[(0, 4 << 20)] * 1000), 8) == Errno.INVAL


@pytest.mark.parametrize(("name", "fd"), [("fd_write", 0), ("fd_write", 3), ("fd_write", -1), ("fd_read", 1), ("fd_read", 2)])
def test_a_stream_goes_one_way(name: str, fd: int) -> None:
    assert Program().call(name, fd, 0, 0, 0) == Errno.BADF


# What is not there


@pytest.mark.parametrize("fd", [3, 4, -1, 2**31 - 1])
def test_no_other_descriptor_is_open(fd: int) -> None:
    program = Program()
    names = [name for _, name in wasi.FUNCTIONS if name.startswith(("fd_", "sock_"))]

    for name in names:
        signature = WASI_COMMAND.imports["wasi_snapshot_preview1", name]
        assert program.call(name, fd, *[0] * (len(signature.params) - 1)) == Errno.BADF


def test_no_directory_is_open_and_no_path_is_found() -> None:
    program = Program()

    assert program.call("fd_prestat_get", 3, 0) == program.call("fd_prestat_dir_name", 3, 0, 9) == Errno.BADF
    for (module, name), signature in WASI_COMMAND.imports.items():
        if name.startswith("path_"):
            assert wasi.FUNCTIONS[module, name](program.host, program.memory, *[-1] * len(signature.params)) == Errno.NOENT


def test_streams_are_no_sockets_and_signals_are_not_raised() -> None:
    program = Program()

    assert program.call("sock_accept", 0, 0, 0) == program.call("sock_send", 1, 0, 0, 0, 0) == Errno.NOTSOCK
    assert program.call("proc_raise", 6) == Errno.NOSYS
    assert program.call("sched_yield") == Errno.SUCCESS


def test_leaving_ends_the_program_with_its_code() -> None:
    program = Program()

    with pytest.raises(GuestStopped):
        program.call("proc_exit", 3)

    assert program.host.exit_code == 3
