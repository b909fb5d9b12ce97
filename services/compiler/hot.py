"""Compilers that wait for work: jailed and loaded processes, each build under bounds of its own.

Starting, loading and warming up takes most of a short build's time. Where the compiler can be kept, a process builds one source after the
other; elsewhere it serves one, and only its start lies behind it. A process that ended a build in any other way than by an answer is never
asked again, nor is one that has started others; another takes its place before it is needed. One that has built as often as it should, or
has grown, goes once another waits in its place. While it waits a process is stopped, so that it does nothing that nobody watches.
"""

import asyncio
import math
import signal
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from libs.common.logs import logger
from services.compiler.jail import Jail, JailUnavailable
from services.compiler.jails import Jails
from services.compiler.process import Limit, Limits, Usage, kill, signal_tree, started, usage, watch

# What a process says once it is ready for requests.
READY: Final = b"KILN"
MAX_BUILDS: Final = 200
MAX_IDLE_BYTES: Final = 640 << 20
# A build, or a start, whose process was killed by somebody else is done again; one that kills its own process is at fault in the end.
TRIES: Final = 4
# How a process ended that was killed, and how a jail tells of it.
_KILLED: Final = (-signal.SIGKILL, 128 + signal.SIGKILL)
_START_SECONDS: Final = 30
_LAST_WORDS_SECONDS: Final = 1.0
# How long nobody has built before processes practise.
_QUIET_SECONDS: Final = 2.0
# How long others wait behind a build's result: whoever has asked for it sees it before the machine is busy with the next.
_AFTERWARDS_SECONDS: Final = 0.1
_UNTOUCHED: Final = 1 << 30
# The kernel's own limits hold for all builds together, so they leave time to the watch; files and descriptors need none.
_OF_THE_PROCESS: Final = Limits(wall_seconds=_UNTOUCHED, cpu_seconds=_UNTOUCHED, memory_bytes=_UNTOUCHED, stdout_bytes=_UNTOUCHED)
_WARMING: Final = Limits(wall_seconds=60, cpu_seconds=60, memory_bytes=1 << 30, stdout_bytes=32 << 20, long_cpu_seconds=60)
# How many times as long as others the first build of a process takes.
_FIRST_TAKES: Final = 2
_SIZE: Final = struct.Struct(">I")
_SIZES: Final = struct.Struct(">II")


class StartFailed(Exception):
    """A process did not come up; the text says why, as far as it did."""


class StartKilled(StartFailed):
    """Somebody else ended a process before it had come up."""


@dataclass(frozen=True, slots=True)
class Program:
    """A compiler that can be kept.

    It writes `READY`, then reads requests (their size, u32 in network order, and as many bytes) and answers each (two such sizes, a text
    and a module of those sizes).

    Attributes:
        command: By absolute path.
        shown: Folders that it reads, beside the system's.
        environment: Its whole environment.
        fingerprint: Of all the files it is made of: a process of another is not the same program.
        warm_up: Requests that are made before any other.
        practice: Requests that are made later, while there is nothing else to do.
        tidy_seconds: How long it may go on behind an answer, until it is stopped, while nobody waits for it.
        max_builds: After how many builds another takes a process's place.
        file_bytes: Largest file that it may write in its folder for temporary files.
        name: Whose it is: programs of one command and one name are states of the same, of which the newest replaces the others.
    """

    command: tuple[str, ...]
    shown: tuple[Path, ...]
    environment: tuple[tuple[str, str], ...]
    fingerprint: str = ""
    warm_up: tuple[bytes, ...] = ()
    practice: tuple[bytes, ...] = ()
    tidy_seconds: float = 0.0
    max_builds: int = MAX_BUILDS
    file_bytes: int = 0
    name: str = ""

    @property
    def identity(self) -> tuple[str, tuple[str, ...]]:
        """What all its states share."""
        return self.name, self.command


@dataclass(frozen=True, slots=True)
class Answer:
    """How a build ended.

    Attributes:
        text: What was answered; None when the process ended, or was ended, instead.
        module: What came with it.
        exceeded: The bound that was passed.
        killed: Whether somebody else ended the process.
        said: The beginning of what it wrote to its standard error meanwhile.
    """

    text: bytes | None
    module: bytes
    exceeded: Limit | None
    killed: bool
    said: bytes


class HotProcess:
    """One process; it builds one source at a time.

    Attributes:
        builds: How many it has built.
        is_slow: Whether a build took so long that others go first: it stays so, and is of no use after that build.
        on_slow: Called once when it is.
    """

    def __init__(self, program: Program, process: asyncio.subprocess.Process, stack: AsyncExitStack) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("all three streams of the process must be pipes")
        self._process, self._pid = process, process.pid
        self._stack = stack
        self._max_builds = program.max_builds
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        # The first bound that was passed; it is not asked again then.
        self._exceeded: asyncio.Future[Limit] = asyncio.get_running_loop().create_future()
        self._said = bytearray()
        self._listening = asyncio.create_task(self._listen())
        self._closing: asyncio.Task[None] | None = None
        self._at_start = 0
        self._used = Usage(0, 0, 0.0)
        self.builds = 0
        self.is_slow = False
        self.on_slow: Callable[[], None] = lambda: None

    @classmethod
    async def start(cls, program: Program, jail: Jail) -> Self:
        """A process that is ready.

        Raises:
            StartKilled: somebody else ended it.
            StartFailed: it did not come up.
        """
        stack, limits = AsyncExitStack(), replace(_OF_THE_PROCESS, file_bytes=program.file_bytes)
        try:
            process = await stack.enter_async_context(
                started(program.command, limits, jail=jail, shown=program.shown, environment=dict(program.environment))
            )
        except OSError as error:
            raise StartFailed(str(error)) from error
        self = cls(program, process, stack)
        try:
            await self._become_ready()
        except BaseException:
            await self.close()
            raise
        return self

    async def _become_ready(self) -> None:
        try:
            async with asyncio.timeout(_START_SECONDS):
                said = await self._stdout.readexactly(len(READY))
        except (asyncio.IncompleteReadError, TimeoutError):
            said = b""
        if said != READY:
            await self._has_ended()
            failed = StartKilled if self._process.returncode in _KILLED else StartFailed
            raise failed(bytes(self._said).decode(errors="replace")[-1000:] or "it said nothing")
        self._used = await asyncio.to_thread(usage, self._pid)
        self._at_start = self._used.processes

    @property
    def is_fit(self) -> bool:
        """Whether it may build again, as far as its use of the machine tells, while it rests."""
        return self._used.processes == self._at_start and not self.is_slow

    @property
    def is_spent(self) -> bool:
        """Whether another is to take its place, though it may build until that is there: it has built often, or has grown."""
        return self.builds >= self._max_builds or self._used.resident > MAX_IDLE_BYTES

    @property
    def alive(self) -> bool:
        """Whether it still runs, as far as is known."""
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        """Of the outermost process."""
        return self._pid

    async def rest(self) -> None:
        """Stops it until it is asked again, and sees what it uses."""
        await asyncio.to_thread(signal_tree, self._pid, signal.SIGSTOP)
        self._used = await asyncio.to_thread(usage, self._pid)

    async def ask(self, request: bytes, limits: Limits) -> Answer:
        """Has it build. After an answer without text it is of no more use."""
        await asyncio.to_thread(signal_tree, self._pid, signal.SIGCONT)
        self._said.clear()
        if not self.builds:
            limits = replace(limits, long_cpu_seconds=limits.long_cpu_seconds * _FIRST_TAKES)
        watching = asyncio.create_task(
            watch(self._pid, limits, self._exceed, cpu_before=self._used.cpu_seconds, takes_long=self._become_slow)
        )
        exchange = asyncio.create_task(self._exchange(request, limits))
        try:
            ends: set[asyncio.Future[Any]] = {exchange, self._exceeded}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            # Whoever slipped away when it was ended may hold the pipe: only for so long its end is waited for.
            await asyncio.wait({exchange}, timeout=_LAST_WORDS_SECONDS)
            text, module = exchange.result() if exchange.done() else (None, b"")
        finally:
            for task in (watching, exchange):
                task.cancel()
            await asyncio.gather(watching, exchange, return_exceptions=True)
        if text is None:
            await self._has_ended()
        self.builds += 1
        # A bound that was passed counts also when the answer came in the same moment.
        exceeded = self._exceeded.result() if self._exceeded.done() else None
        # Of one whose end is not known yet, on a machine that is busy, nobody can say that it ended by itself.
        killed = text is None and exceeded is None and self._process.returncode in (None, *_KILLED)
        if text is None and exceeded is None:
            logger().warning(
                "compiler_ended", code=self._process.returncode, builds=self.builds, said=bytes(self._said[-1000:]).decode(errors="replace")
            )
        return Answer(None if exceeded else text, module, exceeded, killed, bytes(self._said[: limits.stderr_bytes]))

    async def _has_ended(self) -> None:
        """Waits for its last words and for how it ended, as long as is reasonable."""
        await asyncio.wait([self._listening, asyncio.ensure_future(self._process.wait())], timeout=_LAST_WORDS_SECONDS)

    async def _exchange(self, request: bytes, limits: Limits) -> tuple[bytes | None, bytes]:
        """Sends a request; text and module of the answer, without a text when there is none."""
        try:
            self._stdin.write(_SIZE.pack(len(request)) + request)
            await self._stdin.drain()
            text_bytes, module_bytes = _SIZES.unpack(await self._stdout.readexactly(_SIZES.size))
            if text_bytes + module_bytes > limits.stdout_bytes:
                self._exceed(Limit.OUTPUT)
                return None, b""
            return await self._stdout.readexactly(text_bytes), await self._stdout.readexactly(module_bytes)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None, b""

    async def close(self) -> None:
        """Ends it and returns once it is gone, also when it is called again. Harmless when it has ended."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._stack.aclose()
        await asyncio.gather(self._listening, return_exceptions=True)

    def _exceed(self, limit: Limit) -> None:
        if not self._exceeded.done():
            self._exceeded.set_result(limit)
        kill(self._pid)

    def _become_slow(self) -> None:
        if not self.is_slow:
            self.is_slow = True
            self.on_slow()

    async def _listen(self) -> None:
        while chunk := await self._stderr.read(65_536):
            self._said += chunk[: max(0, 65_536 - len(self._said))]


class HotProcesses:
    """The waiting compilers of one service. An async context manager: leaving it ends them all.

    Args:
        jails: Where they run.
        spare: How many of each program wait for work at most.
    """

    def __init__(self, jails: Jails, *, spare: int) -> None:
        self._jails = jails
        self._spare = spare
        # The state of each program that was asked for last; the others are of no more use.
        self._newest: dict[tuple[str, tuple[str, ...]], Program] = {}
        self._idle: dict[Program, list[HotProcess]] = {}
        self._all: dict[HotProcess, Program] = {}
        self._returning: dict[Program, set[asyncio.Task[None]]] = {}
        # How many wait for one that returns, and whether any does.
        self._waiters: Counter[Program] = Counter()
        self._wanted: defaultdict[Program, asyncio.Event] = defaultdict(asyncio.Event)
        self._filling = asyncio.Lock()
        self._is_over = False
        self._last_asked = -math.inf
        self._chores: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_over = True
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        await asyncio.gather(*(process.close() for process in self._all))

    def prepare(self, program: Program) -> None:
        """Sees to it that processes of a program wait for work, in the background."""
        self._do(self._fill(program))

    async def ask(self, program: Program, request: bytes, limits: Limits, *, keep: Callable[[Answer], bool]) -> Answer:
        """Has a program build one source.

        Args:
            program: The compiler.
            request: What it reads.
            limits: What this build may use.
            keep: Whether the process may build again after such an answer.

        Raises:
            StartFailed, JailUnavailable: no process can be had.
        """
        for _ in range(TRIES):
            process = await self._waiting_or_started(program)
            answer = await self._ask(program, process, request, limits, keep)
            if not answer.killed:
                break
        if answer.exceeded is Limit.MEMORY and process.builds > 1:
            # What it had kept from builds before counts, too; only a fresh one tells what this build needs.
            process = await self._start(program)
            answer = await self._ask(program, process, request, limits, keep)
        return answer

    async def _ask(self, program: Program, process: HotProcess, request: bytes, limits: Limits, keep: Callable[[Answer], bool]) -> Answer:
        self._last_asked = asyncio.get_running_loop().time()
        is_well = False
        try:
            answer = await process.ask(request, limits)
            is_well = answer.text is not None and keep(answer)
            return answer
        finally:
            self._last_asked = asyncio.get_running_loop().time()
            # Behind the answer, for which somebody waits.
            if is_well:
                returning = self._do(self._put_away(program, process))
                self._returning.setdefault(program, set()).add(returning)
                returning.add_done_callback(self._returning[program].discard)
            else:
                self._do(self._replace(program, process))

    async def _put_away(self, program: Program, process: HotProcess) -> None:
        """Has a process that has built wait for the next source, if it is still fit for one."""
        await self._let_tidy(program)
        await process.rest()
        if not process.is_fit or not self._is_newest(program):
            self._do(self._replace(program, process))
        elif process.is_spent:
            self._idle.setdefault(program, []).insert(0, process)
            self.prepare(program)
        else:
            self._idle.setdefault(program, []).append(process)

    @contextmanager
    def _waits_for(self, program: Program) -> Iterator[None]:
        """Somebody waits for a process that returns, which should not take its time."""
        self._waiters[program] += 1
        self._wanted[program].set()
        try:
            yield
        finally:
            self._waiters[program] -= 1
            if not self._waiters[program]:
                self._wanted[program].clear()

    async def _let_tidy(self, program: Program) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(program.tidy_seconds):
                await self._wanted[program].wait()

    def waiting(self) -> Collection[int]:
        """The ids of the processes that wait for work."""
        return [process.pid for processes in self._idle.values() for process in processes]

    async def _waiting_or_started(self, program: Program) -> HotProcess:
        """A process that waits, or will in a moment, or is started."""
        while (process := self._take(program)) is None and (returning := self._returning.get(program)):
            with self._waits_for(program):
                await asyncio.wait(returning, return_when=asyncio.FIRST_COMPLETED)
        return process or await self._start(program)

    def _take(self, program: Program) -> HotProcess | None:
        self._newest[program.identity] = program
        for other in [one for one in self._idle if not self._is_newest(one)]:
            for process in self._idle.pop(other):
                self._do(self._replace(program, process))
        idle = self._idle.setdefault(program, [])
        while idle:
            process = idle.pop()
            if process.alive:
                return process
            self._do(self._replace(program, process))
        return None

    async def _start(self, program: Program) -> HotProcess:
        process = await self._come_up(program)
        if self._is_over:
            await process.close()
            raise StartFailed("no compiler is started any more")
        self._all[process] = program
        process.on_slow = lambda: self.prepare(program)
        return process

    async def _come_up(self, program: Program) -> HotProcess:
        for _ in range(1, TRIES):
            with suppress(StartKilled):
                return await HotProcess.start(program, await self._jails.find())
        return await HotProcess.start(program, await self._jails.find())

    async def _replace(self, program: Program, process: HotProcess) -> None:
        """Ends a process and has another wait in its place, of the program's newest state; at once where none waits."""
        program = self._newest.get(program.identity, program)
        if self._idle.get(program):
            await asyncio.sleep(_AFTERWARDS_SECONDS)
        await self._end(process)
        await self._fill(program)

    async def _end(self, process: HotProcess) -> None:
        await process.close()
        self._all.pop(process, None)

    async def _fill(self, program: Program) -> None:
        """Starts what is missing, one after the other, and has it warm up."""
        async with self._filling:
            while self._is_newest(program) and self._lacks(program):
                try:
                    process = await self._start(program)
                except (StartFailed, JailUnavailable) as error:
                    # The build that needs one meets the same, and tells of it.
                    logger().warning("compiler_not_kept", error=str(error))
                    return
                if not await self._warm_up(process, program.warm_up):
                    await self._end(process)
                    return
                await self._rest(program, process)
                if program.practice:
                    self._do(self._practise(program, process))
        for spent in [one for one in self._idle.get(program, []) if one.is_spent]:
            self._idle[program].remove(spent)
            self._do(self._end(spent))

    async def _practise(self, program: Program, process: HotProcess) -> None:
        """Has a process that waits build, while there is another for whoever comes and nobody has come for a while."""
        for request in program.practice:
            while not self._may_practise(program, process):
                if process not in self._all:
                    return
                await asyncio.sleep(_QUIET_SECONDS / 4)
            self._idle[program].remove(process)
            if not await self._warm_up(process, [request]):
                await self._replace(program, process)
                return
            await self._rest(program, process)

    def _may_practise(self, program: Program, process: HotProcess) -> bool:
        idle = self._idle.get(program, [])
        is_quiet = asyncio.get_running_loop().time() - self._last_asked > _QUIET_SECONDS
        return is_quiet and process in idle and len(idle) >= min(2, self._spare)

    async def _warm_up(self, process: HotProcess, requests: Sequence[bytes]) -> bool:
        """Whether it builds what it must be able to."""
        for request in requests:
            answer = await process.ask(request, _WARMING)
            if answer.text is None:
                logger().error("compiler_does_not_warm_up", said=answer.said.decode(errors="replace"))
                return False
        return True

    async def _rest(self, program: Program, process: HotProcess) -> None:
        await process.rest()
        self._idle.setdefault(program, []).append(process)

    def _lacks(self, program: Program) -> bool:
        """Whether there are fewer processes than may wait, beside those that others do not wait for."""
        return sum(one == program and not process.is_slow and not process.is_spent for process, one in self._all.items()) < self._spare

    def _is_newest(self, program: Program) -> bool:
        return self._newest.get(program.identity, program) == program

    def _do(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        chore = asyncio.create_task(work)
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)
        return chore
