"""What the host spends on one call in a fresh sandbox, against the same through wasmtime-py's own classes without a pool, by turns."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from bench.figures import p50, p95, ratio, seconds, table
from services.executor.sandbox import Call
from tests.integration.executor import plain_guests
from tests.integration.executor.guests import ECHO, TRAPPING, Module
from tests.support.engines import Preparer, plainly_running, running

_INPUT: Final = b'{"order": 17, "lines": [{"sku": "a-1", "quantity": 3}]}'
# So many calls are timed at once: one alone takes hardly longer than reading the clock.
_CALLS: Final = 50
_KINDS: Final[dict[str, Sequence[Module]]] = {
    "`assemblyscript` echo": [ECHO],
    "`kiln` echo": [plain_guests.ECHO],
    "`wasi-command` echo": [plain_guests.COMMAND_ECHO],
    "two functions by turns": [ECHO, plain_guests.ECHO],
    "a trap": [TRAPPING],
}
_PICKS: Final = (("p50", p50), ("p95", p95))


def measure(rounds: int) -> Iterator[str]:
    """A table by kind of call, without the time that guests are compiled and loaded in."""
    preparer = Preparer()
    with running() as fast, plainly_running() as plain:
        for module in {module.digest: module for modules in _KINDS.values() for module in modules}.values():
            fast.load(module.digest, module.abi, preparer.compile(module.abi, module.wasm))
            plain.load(module.digest, module.abi, module.wasm)
        rows = []
        for kind, modules in _KINDS.items():
            calls = [Call(module.digest, module.abi, _INPUT) for module in modules]
            ours, theirs = _by_turns(fast.run, plain.run, calls, rounds)
            rows += [
                [f"{kind}, {name}", seconds(pick(ours)), seconds(pick(theirs)), ratio(pick(ours), pick(theirs))] for name, pick in _PICKS
            ]
    yield table(["one call", "engine", "the plain way", "ratio"], rows)


def _by_turns(
    ours: Callable[[Call], object], theirs: Callable[[Call], object], calls: Sequence[Call], rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of a call, by each, round by round."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for run, into in zip((ours, theirs), times, strict=True):
            turns = list(itertools.islice(itertools.cycle(calls), _CALLS))
            began = time.perf_counter()
            for call in turns:
                run(call)
            into.append((time.perf_counter() - began) / _CALLS)
    return times
