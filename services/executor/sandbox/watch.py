"""Stops the guest that runs: at its deadline, when its caller cancels it, and with all the process when the supervisor is gone."""

import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Final, Literal

Reason = Literal["TIMEOUT", "CANCELLED"]

# How often a running guest is looked after. Python threads wait up to 5 ms for the interpreter, so finer would gain little.
_PERIOD: Final = 0.005
# A worker without calls sleeps for good after so many seconds, until the next call wakes it.
_PARK_AFTER: Final = 1.0


class Watch:
    """Looks after one guest at a time, from a thread of its own.

    The engine's epoch moves only when a guest is to be stopped: a guest whose store has an epoch deadline of 1 runs until then,
    and there are no ticks to count or to make up for.

    Args:
        interrupt: Moves the engine's epoch.
        stream: The socket to the supervisor, which is silent during a run unless it cancels.
    """

    def __init__(self, interrupt: Callable[[], None], stream: socket.socket) -> None:
        self._interrupt = interrupt
        self._poll = select.poll()
        self._poll.register(stream, select.POLLIN)
        self._stream = stream
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._parked = False
        self._deadline: float | None = None
        self._ended = time.monotonic()
        self._reason: Reason | None = None

    def begin(self, timeout: float) -> None:
        """A guest starts, and has this many seconds."""
        with self._lock:
            self._deadline = time.monotonic() + timeout
            self._reason = None
            if self._parked:
                self._wake.set()

    def end(self) -> None:
        """The guest has ended: nothing stops it or the next one any more."""
        with self._lock:
            self._deadline = None
            self._ended = time.monotonic()

    @property
    def reason(self) -> Reason | None:
        """Why the guest is to stop; None while it may run. Host functions ask, because epochs stop only the guest's own code."""
        deadline = self._deadline
        if self._reason is None and deadline is not None and time.monotonic() >= deadline:
            self._reason = "TIMEOUT"
        return self._reason

    def keep(self) -> None:
        """Looks after guests for as long as the process lives."""
        while True:
            self._park_when_idle()
            time.sleep(self._look())

    def _park_when_idle(self) -> None:
        with self._lock:
            if self._deadline is not None or time.monotonic() - self._ended < _PARK_AFTER:
                return
            self._wake.clear()
            self._parked = True
        self._wake.wait()
        self._parked = False

    def _look(self) -> float:
        """Stops the guest if it is time; how long to sleep until the next look, in seconds."""
        # Under the lock, or the interrupt could hit the next guest.
        with self._lock:
            if self._deadline is None:
                return _PERIOD
            if self._reason is None and self._poll.poll(0):
                self._reason = "CANCELLED"
                self._leave_when_abandoned()
            if self.reason is not None:
                self._interrupt()
                return _PERIOD
            return max(0.0, min(_PERIOD, self._deadline - time.monotonic()))

    def _leave_when_abandoned(self) -> None:
        try:
            gone = not self._stream.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            gone = False
        except OSError:
            gone = True
        if gone:
            os._exit(0)
