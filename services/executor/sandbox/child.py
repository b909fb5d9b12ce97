"""The supervisor's end of one process: started with nothing it does not need, spoken to, and never outliving its use."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, cast

from services.executor.sandbox.framing import BadFrame, Decoder, framed
from services.executor.sandbox.process import Arguments
from services.executor.sandbox.wire import Answer, Ran, Ready, Request, Run, Stalled, answer_of, encode

_ROOT: Final = Path(__file__).resolve().parents[3]
_TAIL_BYTES: Final = 2000
# Where the interpreter itself may need them to start; anything else of our environment stays with us.
_PASSED_ON: Final = ("LD_LIBRARY_PATH",)

# Of a process whose guest runs long: it gets a tenth of what one that is as busy gets.
_NICENESS_OF_LONG: Final = 10
_MAY_RAISE_PRIORITY: Final = os.geteuid() == 0


class StartFailed(Exception):
    """A process of the sandbox did not come up; the text says why, as far as the process did."""


class _Tail(asyncio.Protocol):
    """Keeps the end of what a process writes to its standard error."""

    def __init__(self) -> None:
        self.text = b""

    def data_received(self, data: bytes) -> None:
        self.text = (self.text + data)[-_TAIL_BYTES:]


class Child(asyncio.Protocol):
    """One process. It is dead once its socket closes, and killed then if it was not.

    Attributes:
        ready: What it said of itself when it was ready.
        on_death: Called once when it dies; may be set at any time before.
        on_stall: Called when it says that a run goes on and on.
        died_with: How many runs it left unanswered when it died.
    """

    def __init__(self, max_message_bytes: int) -> None:
        self.ready = Ready(0, own_network=False)
        self.on_death: Callable[[], None] = lambda: None
        self.on_stall: Callable[[Stalled], None] = lambda _: None
        self.died_with = 0
        self.alive = False
        self._loop = asyncio.get_running_loop()
        self._decoder = Decoder(max_message_bytes)
        self._is_ready: asyncio.Future[None] = self._loop.create_future()
        self._number = 0
        self._asked: dict[int, asyncio.Future[Answer | None]] = {}
        # Those of them that are no runs: only a guest kills its process.
        self._errands: set[int] = set()
        self._unsent: list[bytes] = []
        self._tail = _Tail()
        self._reaper: asyncio.Task[int] | None = None
        self._transport: asyncio.Transport | None = None
        self._tail_transport: asyncio.ReadTransport | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    async def start(cls, module: str, arguments: Arguments, *, max_message_bytes: int, start_seconds: float) -> "Child":
        """Starts a process and waits until it is ready.

        Args:
            module: What to run.
            arguments: For it; the descriptor and the supervisor are filled in here.
            max_message_bytes: The largest message that is taken from it.
            start_seconds: How long it may take.

        Raises:
            StartFailed: It died, or took longer.
        """
        child = cls(max_message_bytes)
        try:
            await child._spawn(module, arguments)
            async with asyncio.timeout(start_seconds):
                await child._is_ready
        except TimeoutError:
            await child.close()
            raise StartFailed(f"{module} was not ready after {start_seconds:g} s: {child.last_words}") from None
        except OSError as error:
            await child.close()
            raise StartFailed(f"{module} could not be started: {error}") from error
        except asyncio.CancelledError:
            await child.close()
            raise
        if not child.alive:
            status = await child.close()
            raise StartFailed(f"{module} exited with status {status} before it was ready: {child.last_words}")
        return child

    @property
    def pid(self) -> int:
        """Its process id; 0 when it never was."""
        return self._process.pid if self._process else 0

    @property
    def has_answered_all(self) -> bool:
        """Whether nothing that it was asked is unanswered."""
        return not self._asked

    @property
    def last_words(self) -> str:
        """The end of its standard error."""
        return self._tail.text.decode(errors="replace").strip() or "it said nothing"

    def ask(self, request: Request) -> "asyncio.Future[Answer | None]":
        """Sends a request, whose number is set here. The future is its answer; None when the process dies before."""
        answer: asyncio.Future[Answer | None] = self._loop.create_future()
        if self.alive:
            self._number += 1
            request.number = self._number
            self._asked[request.number] = answer
            if type(request) is not Run:
                self._errands.add(request.number)
            self.tell(request)
        else:
            answer.set_result(None)
        return answer

    def asked(self, number: int) -> "asyncio.Future[Answer | None] | None":
        """The answer that is still to come to a request."""
        return self._asked.get(number)

    def expect_again(self, number: int) -> "asyncio.Future[Answer | None] | None":
        """A new future for an answer that is still to come, instead of one that was cancelled."""
        if number not in self._asked:
            return None
        answer = self._asked[number] = self._loop.create_future()
        return answer

    def tell(self, request: Request) -> None:
        """Sends a request that has no answer."""
        if not self._unsent:
            # What is asked in one turn of the loop is sent by one write.
            self._loop.call_soon(self._send)
        self._unsent.append(encode(request))

    def give_way(self, *, gives_way: bool) -> None:
        """Whether others that want a processor get most of it. Where that could not be taken back, it stays as it is."""
        if not _MAY_RAISE_PRIORITY:
            return
        niceness = _NICENESS_OF_LONG if gives_way else 0
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{self.pid}/task"):
                os.setpriority(os.PRIO_PROCESS, int(thread), niceness)
            # Where the kernel shares processors out by sessions, niceness counts only within one.
            Path(f"/proc/{self.pid}/autogroup").write_text(str(niceness), encoding="ascii")

    def kill(self) -> None:
        """Ends it now. Harmless when it has ended."""
        if self._process is not None:
            self._process.kill()
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> int:
        """Ends it and returns its exit status once it is gone for good; a negative one is the signal that killed it."""
        self.kill()
        if self._process is None:
            return 0
        if self._reaper is None:
            self._reaper = asyncio.create_task(self._reap(self._process))
        return await asyncio.shield(self._reaper)

    async def _spawn(self, module: str, arguments: Arguments) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = _popen(module, replace(arguments, descriptor=theirs.fileno(), supervisor=os.getpid()))
            except BaseException:
                ours.close()
                raise
        self.alive = True
        self._tail_transport, _ = await self._loop.connect_read_pipe(lambda: self._tail, self._process.stderr)
        await self._loop.create_unix_connection(lambda: self, sock=ours)

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None and self.alive:
            self._transport.write(framed(unsent))

    async def _reap(self, process: subprocess.Popen[bytes]) -> int:
        status = await asyncio.to_thread(process.wait)
        # Lets the last words arrive before the pipe is closed.
        await asyncio.sleep(0)
        if self._tail_transport is not None:
            self._tail_transport.close()
        return status

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not all event loops derive their transports from asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._decoder.feed(data):
                self._hear(answer_of(message))
        except BadFrame:
            self.kill()

    def _hear(self, answer: Answer) -> None:
        if type(answer) is Ran:
            self._settle(answer.number, answer)
        elif isinstance(answer, Ready):
            self.ready = answer
            self._end_start()
        elif isinstance(answer, Stalled):
            for number in answer.not_begun:
                self._settle(number, answer)
            self.on_stall(answer)
        else:
            self._settle(answer.number, answer)

    def _settle(self, number: int, answer: Answer) -> None:
        asked = self._asked.pop(number, None)
        if asked is None:
            raise BadFrame("an answer to nothing")
        self._errands.discard(number)
        # Whoever waited for it may have been cancelled.
        if not asked.done():
            asked.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio names it)
        self.alive = False
        self.died_with = len(self._asked) - len(self._errands)
        self._end_start()
        if self._process is not None:
            self._process.kill()
            if self._reaper is None:
                self._reaper = self._loop.create_task(self._reap(self._process))
        for answer in self._asked.values():
            if not answer.done():
                answer.set_result(None)
        self._asked.clear()
        self.on_death()

    def _end_start(self) -> None:
        if not self._is_ready.done():
            self._is_ready.set_result(None)


def _popen(module: str, arguments: Arguments) -> subprocess.Popen[bytes]:
    environment = {"PYTHONPATH": str(_ROOT), "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}
    environment |= {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments.to_argv()],
        cwd="/",
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=(arguments.descriptor,),
        start_new_session=True,
    )
