"""Stops the guest that runs: at its deadline, when its caller cancels it, and with all the process when the supervisor is gone."""

import os
import threading
import time
from collections.abc import Callable
from typing import Final, Literal, Protocol

Reason = Literal["TIMEOUT", "CANCELLED"]

# How often a running guest is looked after. Python threads wait up to 5 ms for the interpreter, so finer would gain little.
_PERIOD: Final = 0.005
# A guest that has run for so many seconds is not waited for any more by those behind it.
_LONG: Final = 0.008
# A worker without calls sleeps for good after so many seconds, until the next call wakes it.
_PARK_AFTER: Final = 1.0


class SupervisorGone(Exception):
    """Nobody is there to work for."""


class Errands(Protocol):
    """What comes for a worker while a guest runs in it."""

    def look(self) -> bool:
        """Takes it in; whether the guest's caller has cancelled it.

        Raises:
            SupervisorGone: Nobody waits for anything here.
        """

    def give_back(self) -> None:
        """Sends back what waits behind the guest."""


class Watch:
    """Looks after one guest at a time, from a thread of its own.

    The engine's epoch moves only when a guest is to be stopped: a guest whose store has an epoch deadline of 1 runs until then,
    and there are no ticks to count or to make up for.

    Args:
        interrupt: Moves the engine's epoch.
        errands: What else there is to do; only while a guest runs.
    """

    def __init__(self, interrupt: Callable[[], None], errands: Errands) -> None:
        self._interrupt = interrupt
        self._errands = errands
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._parked = False
        self._began = 0.0
        self._deadline: float | None = None
        self._ended = time.monotonic()
        self._reason: Reason | None = None

    def begin(self, timeout: float) -> None:
        """A guest starts, and has this many seconds."""
        with self._lock:
            self._began = time.monotonic()
            self._deadline = self._began + timeout
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
            try:
                if self._errands.look():
                    self._reason = self._reason or "CANCELLED"
                now = time.monotonic()
                if now - self._began >= _LONG:
                    self._errands.give_back()
            except SupervisorGone:
                os._exit(0)
            if self.reason is not None:
                self._interrupt()
                return _PERIOD
            return max(0.0, min(_PERIOD, self._deadline - now))
