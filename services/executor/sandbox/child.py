"""The supervisor's end of one process: started with nothing it does not need, spoken to, and never outliving its use."""

import asyncio
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

from services.executor.sandbox.framing import BadFrame, Decoder, Message, encode
from services.executor.sandbox.process import Arguments

_ROOT: Final = Path(__file__).resolve().parents[3]
_TAIL_BYTES: Final = 2000
# Where the interpreter itself may need them to start; anything else of our environment stays with us.
_PASSED_ON: Final = ("LD_LIBRARY_PATH",)


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
        ready: The head of its first message.
        on_death: Called once when it dies; may be set at any time before.
        on_drained: Called whenever it has answered all it was asked.
    """

    def __init__(self, max_body_bytes: int) -> None:
        self.ready: Mapping[str, Any] = {}
        self.on_death: Callable[[], None] = lambda: None
        self.on_drained: Callable[[], None] = lambda: None
        self._decoder = Decoder(max_body_bytes)
        self._answers: deque[asyncio.Future[Message | None]] = deque()
        self._tail = _Tail()
        self._reaper: asyncio.Task[int] | None = None
        self._transport: asyncio.Transport | None = None
        self._tail_transport: asyncio.ReadTransport | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.alive = False

    @classmethod
    async def start(cls, module: str, arguments: Arguments, *, max_body_bytes: int, start_seconds: float) -> "Child":
        """Starts a process and waits until it is ready.

        Args:
            module: What to run.
            arguments: For it; the descriptor and the supervisor are filled in here.
            max_body_bytes: The largest body that is taken from it.
            start_seconds: How long it may take.

        Raises:
            StartFailed: It died, or took longer.
        """
        child = cls(max_body_bytes)
        try:
            await child._spawn(module, arguments)
            ready = child._expect()
            async with asyncio.timeout(start_seconds):
                message = await ready
        except TimeoutError:
            await child.close()
            raise StartFailed(f"{module} was not ready after {start_seconds:g} s: {child.last_words}") from None
        except OSError as error:
            await child.close()
            raise StartFailed(f"{module} could not be started: {error}") from error
        except asyncio.CancelledError:
            await child.close()
            raise
        if message is None:
            status = await child.close()
            raise StartFailed(f"{module} exited with status {status} before it was ready: {child.last_words}")
        child.ready = message.head
        return child

    @property
    def pid(self) -> int:
        """Its process id; 0 when it never was."""
        return self._process.pid if self._process else 0

    @property
    def is_drained(self) -> bool:
        """Whether it has answered all it was asked."""
        return not self._answers

    @property
    def last_words(self) -> str:
        """The end of its standard error."""
        return self._tail.text.decode(errors="replace").strip() or "it said nothing"

    def ask(self, head: Mapping[str, Any], body: bytes = b"") -> asyncio.Future[Message | None]:
        """Sends a request; the answer comes in its turn, or None when the process dies before."""
        answer = self._expect()
        if self.alive:
            self.tell(head, body)
        return answer

    def tell(self, head: Mapping[str, Any], body: bytes = b"") -> None:
        """Sends a message that has no answer."""
        if self._transport is not None and self.alive:
            self._transport.write(encode(head, body))

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
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = _popen(module, replace(arguments, descriptor=theirs.fileno(), supervisor=os.getpid()))
            except BaseException:
                ours.close()
                raise
        self.alive = True
        self._tail_transport, _ = await loop.connect_read_pipe(lambda: self._tail, self._process.stderr)
        await loop.create_unix_connection(lambda: self, sock=ours)

    def _expect(self) -> asyncio.Future[Message | None]:
        answer: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
        if self.alive:
            self._answers.append(answer)
        else:
            answer.set_result(None)
        return answer

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
        self._decoder.feed(data)
        try:
            while (message := self._decoder.next()) is not None:
                self._deliver(message)
        except BadFrame:
            self.kill()

    def _deliver(self, message: Message) -> None:
        if not self._answers:
            raise BadFrame("an answer to nothing")
        answer = self._answers.popleft()
        # Whoever waited for it may have been cancelled.
        if not answer.done():
            answer.set_result(message)
        if not self._answers:
            self.on_drained()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio names it)
        self.alive = False
        if self._process is not None:
            self._process.kill()
            if self._reaper is None:
                self._reaper = asyncio.get_running_loop().create_task(self._reap(self._process))
        for answer in self._answers:
            if not answer.done():
                answer.set_result(None)
        self._answers.clear()
        self.on_death()


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
