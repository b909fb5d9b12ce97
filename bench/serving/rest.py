"""Calls through REST at several numbers of connections, against a worker of workerd, by turns; and the processor time of a call."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

import httpx
import psutil

from bench.figures import ratios, seconds, spread, table
from bench.platform import credential, rest
from bench.serving import functions
from bench.serving.loads import Load, wrk
from bench.serving.processes import PARTS, Processes, used_with_children
from bench.serving.references.running import NotInstalled, workerd

_CONNECTIONS: Final = (1, 8, 32, 128)
# With fewer connections a call's share of what runs anyway tells little.
_ACCOUNTED: Final = (32, 128)
_SECONDS: Final = 3
_FIGURES: Final[Sequence[tuple[str, Callable[[Load], float], Callable[[float], str]]]] = (
    ("calls a second", lambda load: load.rate, "{:.0f}".format),
    ("p50", lambda load: load.p50, seconds),
    ("p99", lambda load: load.p99, seconds),
)


@dataclass(frozen=True, slots=True)
class _Turn:
    """One run of wrk, and the processor seconds that a call took, by part."""

    load: Load
    parts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Turns:
    """Turn by turn; theirs are none where workerd cannot be installed."""

    ours: list[_Turn] = field(default_factory=list)
    theirs: list[_Turn] = field(default_factory=list)


def measure(client: httpx.Client, processes: Processes, rounds: int) -> Iterator[str]:
    """A table by number of connections, and one of processor time by part."""
    turns = {connections: _Turns() for connections in _CONNECTIONS}
    with ExitStack() as stack:
        reference = None
        try:
            reference = stack.enter_context(workerd())
        except NotInstalled as why:
            yield f"workerd cannot be installed, so that REST stands here without a reference: {why}"
        for _ in range(rounds):
            for connections, both in turns.items():
                both.ours.append(_ours(client, processes, connections))
                if reference:
                    both.theirs.append(_theirs(*reference, connections))
    yield table(
        ["connections", "Kiln", "workerd", "ratio"], [row for connections, both in turns.items() for row in _rows(connections, both)]
    )
    accounts = [_account(turns[connections]) for connections in _ACCOUNTED]
    head = ["processor time of a call", *(f"{connections} connections" for connections in _ACCOUNTED)]
    yield table(head, [[part, *(account[part] for account in accounts)] for part in accounts[0]])


def _rows(connections: int, both: _Turns) -> Iterator[list[str]]:
    for name, pick, shown in _FIGURES:
        ours, theirs = [pick(turn.load) for turn in both.ours], [pick(turn.load) for turn in both.theirs]
        yield [f"{connections}, {name}", spread(ours, shown), *_beside(ours, theirs, shown)]


def _beside(ours: Sequence[float], theirs: Sequence[float], shown: Callable[[float], str]) -> list[str]:
    """The reference and the ratio to it."""
    return [spread(theirs, shown), ratios(ours, theirs)] if theirs else ["not measured", "-"]


def _account(both: _Turns) -> Mapping[str, str]:
    """What each part took of a call, all of them, and the reference."""
    ours, theirs = [sum(turn.parts.values()) for turn in both.ours], [sum(turn.parts.values()) for turn in both.theirs]
    parts = {part: spread([turn.parts[part] for turn in both.ours], seconds) for part in PARTS}
    reference, ratio = _beside(ours, theirs, seconds)
    return parts | {"all of Kiln": spread(ours, seconds), "workerd": reference, "ratio": ratio}


def _ours(client: httpx.Client, processes: Processes, connections: int) -> _Turn:
    name = functions.deploy(client)
    url = f"{client.base_url}/functions/{name}/execute"
    functions.check_echo(url, headers := credential(client))
    load, used = processes.during(lambda: wrk(url, functions.BODY, connections=connections, seconds=_SECONDS, headers=headers))
    # The one call before is in the history as well.
    runs = functions.completed(client, name, answered=load.answered + 1, cut_off=connections) - 1
    return _Turn(load, {part: together / runs for part, together in used.items()})


def _theirs(address: str, process: psutil.Process, connections: int) -> _Turn:
    url = f"http://{address}/"
    functions.check_echo(url)
    rest()
    before = used_with_children(process)
    load = wrk(url, functions.BODY, connections=connections, seconds=_SECONDS)
    return _Turn(load, {"workerd": (used_with_children(process) - before) / load.answered})
