"""The supervisor's end of one worker: calls in, outcomes out, whatever happens to the process."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.executor.sandbox.child import Child
from services.executor.sandbox.framing import BadFrame, Message
from services.executor.sandbox.outcome import Call, ErrorType, GuestError, Outcome
from services.executor.sandbox.wire import outcome_of, run_head

# How long past its deadline a worker may take to answer, and how long to obey a cancel, before it is killed; in seconds.
_GRACE: Final = 2.0
_CANCEL_GRACE: Final = 0.1


@dataclass(frozen=True, slots=True)
class NativeCode:
    """A module as the preparer made it."""

    digest: str
    abi: str
    code: bytes


class WorkerHandle:
    """One worker, which runs one call at a time.

    Attributes:
        owed: What is to be loaded once it is free.
        has_served: Whether it has run a call.
        retirement: The timer that ends it when it is not needed.
    """

    def __init__(self, child: Child) -> None:
        self.child = child
        self.owed: list[NativeCode] = []
        self.has_served = False
        self.retirement: asyncio.TimerHandle | None = None
        self._loading: set[str] = set()
        self._when_free: Callable[[], None] | None = None
        self._stop_timer: asyncio.TimerHandle | None = None
        child.on_drained = self._drained

    @property
    def is_usable(self) -> bool:
        """Whether a call can be sent to it: it lives, and is not stopping a guest."""
        return self.child.alive and self._stop_timer is None

    def load(self, native: NativeCode) -> asyncio.Future[Message | None]:
        """Sends native code ahead of the next call. The future is done once it is loaded, or the worker is dead."""
        self._loading.add(native.digest)
        loaded = self.child.ask({"kind": "load", "digest": native.digest, "abi": native.abi}, native.code)
        loaded.add_done_callback(lambda _: self._loading.discard(native.digest))
        return loaded

    async def run(self, call: Call, native: NativeCode) -> Outcome:
        """Runs a call. When it is cancelled, the guest is stopped, and the worker killed if that does not work at once."""
        self.has_served = True
        loop = asyncio.get_running_loop()
        outer_deadline = loop.call_later(call.limits.timeout_ms / 1000 + _GRACE, self.child.kill)
        try:
            return await self._run(call, native)
        except BadFrame:
            self.child.kill()
            return _failed("the worker running this call answered nonsense")
        except asyncio.CancelledError:
            self._stop_guest()
            raise
        finally:
            outer_deadline.cancel()

    def when_free(self, action: Callable[[], None]) -> None:
        """Does something as soon as nothing runs in it: now, or when what runs has ended. Not at all when it dies."""
        if self.child.is_drained:
            action()
        else:
            self._when_free = action

    def _drained(self) -> None:
        if self._stop_timer is not None:
            self._stop_timer.cancel()
            self._stop_timer = None
        if self._when_free is not None:
            action, self._when_free = self._when_free, None
            action()

    async def _run(self, call: Call, native: NativeCode) -> Outcome:
        waits_for_code = call.digest in self._loading
        answer = await self.child.ask(run_head(call), call.input)
        if answer is not None and answer.kind == "missing":
            waits_for_code = True
            self.load(native)
            answer = await self.child.ask(run_head(call), call.input)
        if answer is None:
            return _failed("the worker running this call died")
        if answer.kind == "missing":
            return _failed("the worker could not load the function's code")
        return outcome_of(answer, cold_start=waits_for_code)

    def _stop_guest(self) -> None:
        if not self.child.is_drained:
            self.child.tell({"kind": "cancel"})
            self._stop_timer = asyncio.get_running_loop().call_later(_CANCEL_GRACE, self.child.kill)


def _failed(message: str) -> Outcome:
    return Outcome(output=None, error=GuestError(ErrorType.PLATFORM, message))
