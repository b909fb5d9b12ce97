"""The supervisor's end of one worker: calls in, outcomes out, whatever happens to the process."""

import asyncio
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from libs.common.deadlines import Deadlines
from services.executor.sandbox.child import Child
from services.executor.sandbox.native import HeldCode
from services.executor.sandbox.outcome import Call, ErrorType, GuestError, Outcome
from services.executor.sandbox.wire import Answer, Cancel, Load, Missing, Ran, Run, Stalled

# How long past its deadline a worker may take to answer, and how long to obey a cancel, before it is killed; in seconds.
_GRACE: Final = 2.0
_CANCEL_GRACE: Final = 0.1
# How long the loop then has to read an answer that is there.
_READING_SECONDS: Final = 0.05


class WorkerHandle:
    """One worker. It runs one call at a time, and has the next ones with it already, which it gives back when one runs long.

    Attributes:
        calls: How many calls have a place in it.
        is_alone: Whether the one call in it must stay alone.
        has_served: Whether it has run a call.
        idle_since: When its last call left, by the loop's time.
        on_usable: Called when a call can be sent to it again.
        on_stall: Called when what it runs goes on and on.
    """

    def __init__(self, child: Child) -> None:
        self.child = child
        self.calls = 0
        self.is_alone = False
        self.has_served = False
        self.on_usable: Callable[[], None] = lambda: None
        self.on_stall: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self.idle_since = self._loop.time()
        # The runs that it is to answer, each by when it must have.
        self._deadlines: Deadlines[asyncio.Future[Answer | None]] = Deadlines(self._judge)
        self._loading: set[str] = set()
        self._owed: list[HeldCode] = []
        self._stalled_by: asyncio.Future[Answer | None] | None = None
        self._stopping: set[asyncio.TimerHandle] = set()
        child.on_stall = self._stall

    @property
    def is_stalled(self) -> bool:
        """Whether what it runs goes on and on."""
        return self._stalled_by is not None

    @property
    def is_usable(self) -> bool:
        """Whether a call can be sent to it: it lives, nothing in it runs long, and it is not stopping a guest."""
        return self.child.alive and self._stalled_by is None and not self._stopping

    def load(self, native: HeldCode) -> "asyncio.Future[Answer | None] | None":
        """Sends native code ahead of the next call. The future is done once it is loaded, or the worker is dead.

        None when what it runs goes on and on: it is sent when that has ended.
        """
        if self.is_stalled:
            self._owed.append(native)
            return None
        self._loading.add(native.digest)
        loaded = self.child.ask(Load(0, native.digest, native.abi, self.child.hand(native.code)))
        loaded.add_done_callback(lambda _: self._loading.discard(native.digest))
        return loaded

    async def run(self, call: Call, native: HeldCode) -> Outcome | None:
        """Runs a call. When it is cancelled, the guest is stopped, and the worker killed if that does not work at once.

        None when it was not begun, or when nobody knows whether it was: it must be run in another worker, and alone in that if this one
        has died.
        """
        self.has_served = True
        is_cold = call.digest in self._loading
        answer = await self._ask(call)
        if type(answer) is Missing:
            if not self.child.alive:
                return None
            is_cold = True
            self.load(native)
            answer = await self._ask(call)
        if type(answer) is Ran:
            return replace(answer.outcome, cold_start=True) if is_cold else answer.outcome
        if type(answer) is Missing:
            return _failed("the worker could not load the function's code")
        if answer is not None or self.child.died_with > 1:
            # Given back; or of several that were in it, one has killed it.
            return None
        return _failed("the worker running this call died")

    def _stall(self, stalled: Stalled) -> None:
        """It has told that a call goes on and on. Until that has ended, no other is sent to it."""
        running = self.child.asked(stalled.number)
        if running is not None and self._stalled_by is None:
            self._stalled_by = running
            self.child.give_way(gives_way=True)
            running.add_done_callback(self._stall_ended)
        self.on_stall()

    def _stall_ended(self, _: "asyncio.Future[Answer | None]") -> None:
        self._stalled_by = None
        if self.child.alive:
            self.child.give_way(gives_way=False)
            for native in self._owed:
                self.load(native)
            self._owed.clear()
            self.on_usable()

    async def _ask(self, call: Call) -> Answer | None:
        run = Run(0, call)
        answer = self.child.ask(run)
        self._deadlines.add(answer, call.limits.timeout_ms / 1000 + _GRACE)
        try:
            return await answer
        except asyncio.CancelledError:
            self._stop(run.number)
            raise
        finally:
            self._deadlines.discard(answer)

    def _stop(self, number: int) -> None:
        """Nobody waits for a call any more; the worker must answer it all the same."""
        answer = self.child.expect_again(number)
        if answer is None:
            return
        self.child.tell(Cancel(number))
        timer = self._loop.call_later(_CANCEL_GRACE, self._judge, answer)
        self._stopping.add(timer)
        answer.add_done_callback(lambda _: self._stopped(timer))

    def _judge(self, answer: "asyncio.Future[Answer | None]") -> None:
        """Its time is over. Where this loop was late, or all the process stood still, the answer lies there unread: it is read first."""
        self._loop.call_later(_READING_SECONDS, self._kill_unless, answer)

    def _kill_unless(self, answer: "asyncio.Future[Answer | None]") -> None:
        if not answer.done():
            self.child.kill()

    def _stopped(self, timer: asyncio.TimerHandle) -> None:
        timer.cancel()
        self._stopping.discard(timer)
        if self.child.alive:
            self.on_usable()


def _failed(message: str) -> Outcome:
    return Outcome(output=None, error=GuestError(ErrorType.PLATFORM, message))
