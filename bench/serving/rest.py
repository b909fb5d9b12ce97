"""Calls through REST at several numbers of connections, against a worker of workerd, by turns; and the processor time of a call."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

import httpx
import psutil

from bench.figures import chart, p50, seconds, spread, table
from bench.platform import rest
from bench.serving import functions, turns
from bench.serving.loads import wrk
from bench.serving.processes import PARTS, Processes, used_with_children
from bench.serving.references.running import NotInstalled, workerd
from bench.serving.turns import Turn

_CONNECTIONS: Final = (1, 8, 32, 128)
# With fewer connections a call's share of what runs anyway tells little.
_ACCOUNTED: Final = (32, 128)


@dataclass(frozen=True, slots=True)
class _Turns:
    """Turn by turn; theirs are none where workerd cannot be installed."""

    ours: list[Turn] = field(default_factory=list)
    theirs: list[Turn] = field(default_factory=list)


def measure(client: httpx.Client, processes: Processes, rounds: int) -> Iterator[str]:
    """A table by number of connections, a chart of it, and a table of processor time by part."""
    taken = {connections: _Turns() for connections in _CONNECTIONS}
    with ExitStack() as stack:
        reference = None
        try:
            reference = stack.enter_context(workerd())
        except NotInstalled as why:
            yield f"workerd cannot be installed, so that REST stands here without a reference: {why}"
        for _ in range(rounds):
            for connections, both in taken.items():
                both.ours.append(turns.kiln(client, processes, connections))
                if reference:
                    both.theirs.append(_theirs(*reference, connections))
    yield table(
        ["connections", "Kiln", "workerd", "ratio"],
        [row for connections, both in taken.items() for row in turns.rows(str(connections), turns.LOAD, both.ours, both.theirs)],
    )
    yield chart(
        "Calls a second: Kiln as bars, workerd as the line",
        ("connections", _CONNECTIONS),
        "calls a second",
        [_rate(both.ours) for both in taken.values()],
        [_rate(both.theirs) for both in taken.values()] if reference else [],
    )
    accounts = [_account(taken[connections]) for connections in _ACCOUNTED]
    head = ["processor time of a call", *(f"{connections} connections" for connections in _ACCOUNTED)]
    yield table(head, [[part, *(account[part] for account in accounts)] for part in accounts[0]])


def _rate(taken: Sequence[Turn]) -> float:
    return p50([turn.load.rate for turn in taken])


def _account(both: _Turns) -> Mapping[str, str]:
    """What each part took of a call, all of them, and the reference."""
    ours, theirs = [turn.processor for turn in both.ours], [turn.processor for turn in both.theirs]
    parts = {part: spread([turn.parts[part] for turn in both.ours], seconds) for part in PARTS}
    reference, ratio = turns.beside(ours, theirs, seconds)
    return parts | {"all of Kiln": spread(ours, seconds), "workerd": reference, "ratio": ratio}


def _theirs(address: str, process: psutil.Process, connections: int) -> Turn:
    url = f"http://{address}/"
    functions.check_echo(url)
    rest()
    before = used_with_children(process)
    load = wrk(url, functions.BODY, connections=connections, seconds=turns.SECONDS)
    return Turn(load, {"workerd": (used_with_children(process) - before) / load.answered})
