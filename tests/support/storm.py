"""A storm of calls in one sandbox: some answer, some fail, some last, some are cancelled, and workers die under them."""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from typing import Final

import psutil

from services.executor.sandbox import ErrorType, Limits, Outcome, Sandbox
from tests.integration.executor.calls import run
from tests.integration.executor.guests import ECHO, ENDLESS, TRAPPING, Module

PLACES: Final = 8
_AT_ONCE: Final = 24
_SHORT: Final = Limits(timeout_ms=30)
_PATIENT: Final = Limits(timeout_ms=60_000)
_ENDS: Final = {ECHO: None, TRAPPING: ErrorType.TRAP, ENDLESS: ErrorType.TIMEOUT}


def stormy_sandbox() -> Sandbox:
    """A sandbox in which calls share workers."""
    return Sandbox(workers=2, max_workers=2, places=PLACES, max_waiting=_AT_ONCE)


class Storm:
    """Calls by chance, each of which is judged when it ends.

    Attributes:
        ends: How many calls have ended in which way.
    """

    def __init__(self, sandbox: Sandbox, seed: int) -> None:
        self.ends: Counter[str] = Counter()
        self._sandbox = sandbox
        self._chance = random.Random(seed)
        self._left = 0

    async def rage(self, calls: int, *, deaths: bool) -> None:
        """Makes so many calls, and kills a worker now and then if there are to be deaths."""
        self._left = calls
        killer = asyncio.create_task(self._kill_now_and_then()) if deaths else None
        await asyncio.gather(*(self._call_on(deaths=deaths) for _ in range(_AT_ONCE)))
        if killer:
            killer.cancel()

    async def _call_on(self, *, deaths: bool) -> None:
        while self._left > 0:
            self._left -= 1
            guest = self._chance.choices((ECHO, TRAPPING, ENDLESS), (50, 40, 2))[0]
            if self._chance.random() < 0.1:
                await self._cancelled(guest)
            else:
                await self._judged(guest, f'"{self._left}"', deaths=deaths)

    async def _judged(self, guest: Module, text: str, *, deaths: bool) -> None:
        outcome = await run(self._sandbox, guest, text, _SHORT if guest is ENDLESS else _PATIENT)
        kind = outcome.error.type if outcome.error else None
        if deaths and kind is ErrorType.PLATFORM:
            assert outcome.error
            assert outcome.error.message == "the worker running this call died"
        else:
            assert kind is _ENDS[guest], outcome
            assert outcome.output == (text.encode() if guest is ECHO else None)
        self.ends[kind or "COMPLETED"] += 1

    async def _cancelled(self, guest: Module) -> None:
        running = asyncio.create_task(run(self._sandbox, guest, limits=_PATIENT))
        await asyncio.sleep(self._chance.choice((0, 0.001, 0.01, 0.05)))
        running.cancel()
        (ended,) = await asyncio.gather(running, return_exceptions=True)
        assert isinstance(ended, Outcome | asyncio.CancelledError), ended
        self.ends["CANCELLED"] += 1

    async def _kill_now_and_then(self) -> None:
        while True:
            # One that is killed while it starts is a failed start, of which those are told who wait when there is no other.
            grown = [child for child in psutil.Process().children() if _has_started(child)]
            await asyncio.sleep(self._chance.uniform(0.3, 0.8))
            if grown:
                self._chance.choice(grown).kill()
                self.ends["KILLED"] += 1


def _has_started(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        # A worker's second thread is the last that it needs.
        return "sandbox.worker" in " ".join(process.cmdline()) and process.num_threads() > 1
    return False


async def free_places(sandbox: Sandbox) -> int:
    """How many calls a sandbox has room for without one of them waiting."""
    slots = [sandbox.reserve() for _ in range(10 * PLACES)]
    entered = 0
    try:
        for slot in slots:
            if not sandbox.has_room:
                break
            await slot.__aenter__()
            entered += 1
    finally:
        for slot in slots[:entered]:
            await slot.__aexit__(None, None, None)
    return entered
