"""A process's end of the socket to the supervisor: what it has been asked and has not done yet, and what it has not answered yet.

The thread that does the work takes requests and leaves answers here. While a guest runs, the thread that watches it looks here for what
comes meanwhile: the guest may be cancelled, and what waits behind one that runs long is given back, to be done elsewhere.
"""

import socket
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Final

from services.executor.sandbox.framing import Decoder, framed
from services.executor.sandbox.host import stopped_because
from services.executor.sandbox.outcome import GuestError, Outcome
from services.executor.sandbox.watch import SupervisorGone
from services.executor.sandbox.wire import Answer, Cancel, Ran, Request, Run, Stalled, encode, request_of

_CHUNK_BYTES: Final = 256 << 10
# How long an answer waits for others to travel with, while there is more to do.
_GATHER_SECONDS: Final = 0.001


class Desk:
    """Requests in their order, and answers.

    Args:
        stream: The socket.
        max_bytes: The largest request.
    """

    def __init__(self, stream: socket.socket, max_bytes: int) -> None:
        self._stream = stream
        self._decoder = Decoder(max_bytes)
        self._lock = threading.Lock()
        self._requests: deque[Request] = deque()
        self._current = 0
        self._is_cancelled = False
        self._has_stalled = False
        self._answers: list[bytes] = []
        self._oldest_answer = 0.0

    def take(self) -> Request:
        """The next request, which is under work from now on; waits for it when there is none.

        Raises:
            SupervisorGone: there will be none.
        """
        while True:
            with self._lock:
                if self._requests:
                    request = self._requests.popleft()
                    self._current, self._is_cancelled, self._has_stalled = request.number, False, False
                    return request
                self._current = 0
                self._send()
            # Nobody else reads now, since no guest runs.
            self._read(0)

    def leave(self, answer: Answer) -> None:
        """Leaves an answer, to be sent soon."""
        with self._lock:
            self._leave(answer)
            if time.monotonic() - self._oldest_answer > _GATHER_SECONDS:
                self._send()

    def say(self, answer: Answer) -> None:
        """Sends an answer now."""
        with self._lock:
            self._leave(answer)
            self._send()

    def look(self) -> bool:
        """Takes in what has come while a guest runs; whether that was cancelled.

        Raises:
            SupervisorGone: its answer is for nobody.
        """
        with suppress(BlockingIOError):
            self._read(socket.MSG_DONTWAIT)
        return self._is_cancelled

    def give_back(self) -> None:
        """The guest that runs does so for long: what was not begun goes back, and what is done must not wait for it."""
        with self._lock:
            not_begun = [request.number for request in self._requests if isinstance(request, Run)]
            if not_begun or not self._has_stalled:
                self._has_stalled = True
                self._requests = deque(request for request in self._requests if not isinstance(request, Run))
                self._leave(Stalled(self._current, not_begun))
            # Also the answer of a run that was cancelled before it was given back.
            self._send()

    def _read(self, flags: int) -> None:
        try:
            data = self._stream.recv(_CHUNK_BYTES, flags)
        except BlockingIOError:
            raise
        except OSError:
            raise SupervisorGone from None
        if not data:
            raise SupervisorGone
        messages = self._decoder.feed(data)
        with self._lock:
            for message in messages:
                self._accept(request_of(message))

    def _accept(self, request: Request) -> None:
        if type(request) is not Cancel:
            self._requests.append(request)
        elif request.number == self._current:
            self._is_cancelled = True
        else:
            # Its answer may have crossed it.
            self._drop(request.number)

    def _drop(self, number: int) -> None:
        for request in self._requests:
            if isinstance(request, Run) and request.number == number:
                self._requests.remove(request)
                self._leave(Ran(number, Outcome(None, GuestError(*stopped_because("CANCELLED", request.call.limits)))))
                return

    def _leave(self, answer: Answer) -> None:
        if not self._answers:
            self._oldest_answer = time.monotonic()
        self._answers.append(encode(answer))

    def _send(self) -> None:
        if self._answers:
            answers, self._answers = self._answers, []
            try:
                self._stream.sendall(framed(answers))
            except OSError:
                raise SupervisorGone from None
