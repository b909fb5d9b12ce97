"""Keeps processes running: starts them, notices when they end, starts them again, and stops them in reverse order."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from libs.local.home import Home

# A process that lived this long starts again at once when it ends; one that keeps ending waits longer each time.
STABLE_SECONDS: Final = 10
MAX_BACKOFF_SECONDS: Final = 5.0
# What settings that cannot be used end a service with (EX_CONFIG of sysexits): starting again would not help.
EXIT_CONFIGURATION: Final = 78


class StartFailed(Exception):
    """A process cannot be started; the message says why and where to read more."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run.

    Attributes:
        name: For people, and of the log file.
        command: Argument list; the first is a path.
        environment: All of its environment.
        ready: Returns once the program does its work.
        stop_signal: What asks it to end.
        grace_seconds: How long it may take to end before it is killed.
    """

    name: str
    command: Callable[[], list[str]]
    environment: Mapping[str, str]
    ready: Callable[[], Awaitable[None]]
    stop_signal: int = signal.SIGTERM
    grace_seconds: float = 20


@dataclass(slots=True)
class _Running:
    program: Program
    process: asyncio.subprocess.Process | None = None
    keeper: "asyncio.Task[None] | None" = None
    stopping: bool = False
    failed: "asyncio.Future[str]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Supervisor:
    """The processes of one run. `say` tells the person at the terminal what happens."""

    def __init__(self, home: Home, say: Callable[[str], None]) -> None:
        self._home = home
        self._say = say
        self._running: list[_Running] = []

    async def start(self, program: Program, *, timeout_seconds: float = 60) -> None:
        """Starts a program, keeps it running from now on, and waits until it is ready.

        Raises:
            StartFailed: it refuses its settings, or is not ready in time.
        """
        running = _Running(program)
        self._running.append(running)
        running.keeper = asyncio.create_task(self._keep(running))
        ready: asyncio.Future[Any] = asyncio.ensure_future(program.ready())
        await asyncio.wait([ready, running.failed], timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if not ready.done():
            why = running.failed.result() if running.failed.done() else f"is not ready after {timeout_seconds:g} s"
            raise StartFailed(f"{program.name} {why}\n{self._tail(program.name)}")

    async def stop(self) -> None:
        """Stops all, the last started first. Those that do not end in their time are killed."""
        for running in reversed(self._running):
            running.stopping = True
            if running.process and running.process.returncode is None:
                await self._end(running.process, running.program)
            if running.keeper:
                running.keeper.cancel()
                await asyncio.gather(running.keeper, return_exceptions=True)

    async def _keep(self, running: _Running) -> None:
        program, backoff = running.program, 0.1
        while not running.stopping:
            began = time.monotonic()
            running.process = await self._spawn(program)
            code = await running.process.wait()
            if running.stopping:
                return
            if code == EXIT_CONFIGURATION:
                if not running.failed.done():
                    running.failed.set_result("cannot use its settings")
                return
            backoff = 0.1 if time.monotonic() - began > STABLE_SECONDS else min(backoff * 2, MAX_BACKOFF_SECONDS)
            self._say(f"{program.name} ended with {describe(code)}; starting it again (log: {self._home.logs / program.name}.log)")
            await asyncio.sleep(backoff)

    async def _spawn(self, program: Program) -> asyncio.subprocess.Process:
        log = self._home.open_log(program.name)
        try:
            # A session of its own: Ctrl-C reaches this process alone, which then stops the others in order.
            return await asyncio.create_subprocess_exec(
                *program.command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(program.environment),
                start_new_session=True,
            )
        finally:
            os.close(log)

    @staticmethod
    async def _end(process: asyncio.subprocess.Process, program: Program) -> None:
        process.send_signal(program.stop_signal)
        # One that was stopped by a signal must go on to be able to end.
        process.send_signal(signal.SIGCONT)
        try:
            await asyncio.wait_for(process.wait(), program.grace_seconds)
        except TimeoutError:
            process.kill()
            await process.wait()

    def _tail(self, name: str) -> str:
        file = self._home.logs / f"{name}.log"
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()[-5:] if file.exists() else []
        return "\n".join([*(f"  {line[:500]}" for line in lines), f"  more in {file}"])


def describe(code: int) -> str:
    """An exit code in words."""
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
