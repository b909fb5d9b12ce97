"""Runs one compiler under bounds. Whatever happens, also when the caller is cancelled, none of its processes is left behind."""

import asyncio
import contextlib
import enum
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from services.compiler.jail import Jail

# Most builds use less, and bombs do not.
LONG_CPU_SECONDS: Final = 1.0

_LIMITED: Final = Path(__file__).with_name("limited.py")
_POLL_SECONDS: Final = 0.05
_CHUNK: Final = 65_536
# Compilers open a source file of the standard library after the other, and a linker all archives at once.
_OPEN_FILES: Final = 1024
_NICENESS: Final = 10
# A long build gets a third of the processors against one that is not, where both want all of them: enough to end within its time.
_NICENESS_OF_LONG: Final = 15
_NICENESS_OF_LONG_SESSIONS: Final = 5
# Kernels can be built without it.
_KNOWS_CHILDREN: Final = Path("/proc/thread-self/children").exists()
# How long a pipe is read on after the processes were killed: a descendant that slipped away may hold it open.
_DRAIN_SECONDS: Final = 1.0


class Limit(enum.Enum):
    """Which bound ended a process."""

    WALL = "wall"
    CPU = "cpu"
    MEMORY = "memory"
    OUTPUT = "output"
    PROCESSES = "processes"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one run.

    Attributes:
        wall_seconds: From start to end.
        cpu_seconds: Of the process and its descendants together.
        memory_bytes: Resident, of the process and its descendants together. Address space is free: Node reserves gigabytes.
        stdout_bytes: More on stdout ends the run.
        stderr_bytes: What is kept of stderr; more is read and dropped.
        file_bytes: Largest file that may be written.
        processes: The process and its descendants.
        long_cpu_seconds: After so much processor time others go first.
    """

    wall_seconds: float
    cpu_seconds: int
    memory_bytes: int
    stdout_bytes: int
    stderr_bytes: int = 65_536
    file_bytes: int = 0
    processes: int = 16
    long_cpu_seconds: float = LONG_CPU_SECONDS


@dataclass(frozen=True, slots=True)
class Finished:
    """How a run ended.

    Attributes:
        status: Exit code, or minus the signal that ended it, or 128 and the signal where a jail stood between.
        stdout: All of it, unless `exceeded` is OUTPUT.
        stderr: Its beginning.
        exceeded: The bound that was passed; None when the process ended by itself.
    """

    status: int
    stdout: bytes
    stderr: bytes
    exceeded: Limit | None


async def run(
    command: Sequence[str],
    limits: Limits,
    *,
    jail: Jail,
    shown: Sequence[Path] = (),
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Runs a command to its end or to its first limit.

    It gets a session of its own, nothing of this process's environment, and dies with this process.

    Args:
        command: Program by absolute path, and arguments.
        limits: What it may use.
        jail: Where it runs.
        shown: Folders that it reads in the jail, beside the system's.
        stdin: What it reads.
        environment: Its whole environment; None is an empty one.

    Raises:
        OSError: It could not be started.
    """
    async with started(command, limits, jail=jail, shown=shown, environment=environment or {}) as process:
        return await _Run(process, limits).to_end(stdin)


@contextlib.asynccontextmanager
async def started(
    command: Sequence[str], limits: Limits, *, jail: Jail, shown: Sequence[Path], environment: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process with pipes for all three streams, and those limits that the kernel keeps; gone for good when the block ends.

    Args: see `run`.

    Raises:
        OSError: It could not be started.
    """
    numbers = (limits.cpu_seconds, limits.file_bytes, _OPEN_FILES, _NICENESS)
    limiter = [sys.executable, "-I", "-S", str(_LIMITED), *map(str, numbers)]
    with jail.around(limiter, command, shown) as cell:
        process = await asyncio.create_subprocess_exec(
            *cell.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=cell.folder,
            env=environment,
            pass_fds=cell.descriptors,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            # Shielded, so that a second cancellation cannot leave a zombie.
            await asyncio.shield(asyncio.ensure_future(_end(process)))


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        # Reading all of /proc takes milliseconds in which nobody else should have to wait.
        await asyncio.to_thread(kill, process.pid)
    await _gone(process)


async def _gone(process: asyncio.subprocess.Process) -> None:
    """Returns once a process and its pipes are gone, or a moment after, when somebody who slipped away holds a pipe.

    What nobody has read is read here, because `wait` may wait for the pipes too.
    """
    streams = [stream for stream in (process.stdout, process.stderr) if stream]
    await _exit_of(process)
    waiting = asyncio.gather(process.wait(), *map(_drain, streams), return_exceptions=True)
    await asyncio.wait([waiting], timeout=_DRAIN_SECONDS)
    waiting.cancel()


async def _drain(stream: asyncio.StreamReader) -> None:
    # Somebody else may be reading it to its end already.
    with contextlib.suppress(RuntimeError):
        while await stream.read(_CHUNK):
            pass


class _Run:
    """One process, its pipes and its limits."""

    def __init__(self, process: asyncio.subprocess.Process, limits: Limits) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("all three streams of the process must be pipes")
        self._process = process
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        self._limits = limits
        self._exceeded: Limit | None = None
        self._out = bytearray()
        self._err = bytearray()

    async def to_end(self, stdin: bytes) -> Finished:
        """Feeds, reads and watches until the process has ended."""
        pipes = [asyncio.ensure_future(one) for one in (self._feed(stdin), self._collect_stdout(), self._collect_stderr())]
        watching = asyncio.ensure_future(watch(self._process.pid, self._limits, self._exceed))
        try:
            await _exit_of(self._process)
            # What it left behind in its group; the number is free for others only once the group is empty.
            kill(self._process.pid)
            await asyncio.wait(pipes, timeout=_DRAIN_SECONDS)
            status = await self._process.wait()
        finally:
            for task in (*pipes, watching):
                task.cancel()
            await asyncio.gather(*pipes, watching, return_exceptions=True)
        # A jail that stands between tells of a signal as shells do.
        if self._exceeded is None and status in (-signal.SIGXCPU, 128 + signal.SIGXCPU):
            self._exceeded = Limit.CPU
        return Finished(status, bytes(self._out), bytes(self._err), self._exceeded)

    def _exceed(self, limit: Limit) -> None:
        self._exceeded = self._exceeded or limit
        kill(self._process.pid)

    async def _feed(self, data: bytes) -> None:
        # A compiler may end without reading to the end.
        with contextlib.suppress(ConnectionError):
            self._stdin.write(data)
            await self._stdin.drain()
        self._stdin.close()
        with contextlib.suppress(ConnectionError):
            await self._stdin.wait_closed()

    async def _collect_stdout(self) -> None:
        # Read to the end also past the limit: only an emptied pipe tells that the other side is gone.
        while chunk := await self._stdout.read(_CHUNK):
            room = self._limits.stdout_bytes - len(self._out)
            self._out += chunk[:room]
            if len(chunk) > room:
                self._exceed(Limit.OUTPUT)

    async def _collect_stderr(self) -> None:
        while chunk := await self._stderr.read(_CHUNK):
            self._err += chunk[: self._limits.stderr_bytes - len(self._err)]


async def watch(
    pid: int, limits: Limits, exceed: Callable[[Limit], None], *, cpu_before: float = 0, takes_long: Callable[[], None] = lambda: None
) -> None:
    """Looks after a process and its descendants until they pass a limit, and tells which. Once they take long, others go first.

    Args:
        pid: The process.
        limits: What they may use from now on.
        exceed: Told once.
        cpu_before: Processor time that they had used before, in seconds.
        takes_long: Told when they do, at each look.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + limits.wall_seconds
    while (left := deadline - clock()) > 0:
        await asyncio.sleep(min(_POLL_SECONDS, left))
        # Reading /proc takes milliseconds when there are many processes: not on the event loop.
        used = await asyncio.to_thread(usage, pid)
        passed = (
            (Limit.MEMORY, used.resident > limits.memory_bytes),
            (Limit.PROCESSES, used.processes > limits.processes),
            (Limit.CPU, used.cpu_seconds - cpu_before > limits.cpu_seconds),
        )
        for limit, is_passed in passed:
            if is_passed:
                exceed(limit)
                return
        if used.cpu_seconds - cpu_before > limits.long_cpu_seconds:
            await asyncio.to_thread(_give_way, pid)
            takes_long()
    exceed(Limit.WALL)


async def _exit_of(process: asyncio.subprocess.Process) -> None:
    """Returns once a process has ended; its own `wait` may wait for everyone who holds its pipes besides."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _tree(pid: int) -> list[psutil.Process]:
    """The process and its descendants, as far as they can be seen."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _quick_tree(pid: int) -> list[psutil.Process]:
    """The same in a tenth of the time, since it reads of no other process; it may miss one that is born or ends just now."""
    if not _KNOWS_CHILDREN:
        return _tree(pid)
    found = [pid]
    for parent in found:
        # A process, or one of its threads, may end while it is looked at.
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{parent}/task"):
                found += map(int, Path(f"/proc/{parent}/task/{thread}/children").read_bytes().split())
    tree = []
    for one in found:
        with contextlib.suppress(psutil.Error):
            tree.append(psutil.Process(one))
    return tree


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its descendants use: resident bytes, their number, and the processor time of all whose end was waited for."""

    resident: int
    processes: int
    cpu_seconds: float


def usage(pid: int) -> Usage:
    """What is used now, as far as it can be seen."""
    resident, cpu, tree = 0, 0.0, _quick_tree(pid)
    for process in tree:
        with contextlib.suppress(psutil.Error):
            with process.oneshot():
                times = process.cpu_times()
                resident += process.memory_info().rss
            cpu += times.user + times.system + times.children_user + times.children_system
    return Usage(resident, len(tree), cpu)


def kill(pid: int) -> None:
    """Kills a session's process group, and descendants that left it. A group outlives its leader, and its number with it.

    They are stopped first, until none comes that was not there before: one that is born in between would be nobody's descendant.
    """
    seen: set[psutil.Process] = set()
    while born := (set(_quick_tree(pid)) - seen) or (set(_tree(pid)) - seen):
        seen |= born
        signal_all(born, signal.SIGSTOP)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    signal_all(seen, signal.SIGKILL)


def _give_way(pid: int) -> None:
    """Lowers what a process and its descendants get of the processors where others want them, for good: few users may raise it again."""
    for process in _quick_tree(pid):
        with contextlib.suppress(psutil.Error):
            process.nice(_NICENESS_OF_LONG)
        # Where the kernel shares processors out by sessions, niceness counts only within one. It takes one change in a tenth of a second.
        with contextlib.suppress(OSError):
            Path(f"/proc/{process.pid}/autogroup").write_text(str(_NICENESS_OF_LONG_SESSIONS), encoding="ascii")


def signal_tree(pid: int, number: signal.Signals) -> None:
    """Sends a signal to a process and its descendants."""
    signal_all(_quick_tree(pid), number)


def signal_all(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Sends a signal to those of some processes that are still there."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)
