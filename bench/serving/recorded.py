"""Calls that are recorded, in Kiln's journal and in PostgreSQL (`COMMIT`), against invocations of Restate's, by turns."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx

from bench.figures import seconds, spread, table
from bench.platform import rest
from bench.serving import functions, turns
from bench.serving.loads import wrk
from bench.serving.processes import DRAINING_SECONDS, Processes
from bench.serving.references.restate import Restate, restate
from bench.serving.references.running import NotInstalled
from bench.serving.turns import Turn

_CONNECTIONS: Final = (32, 128)
_FIGURES: Final = (*turns.LOAD, turns.PROCESSOR)
_COMMIT_BODY: Final = f'{functions.BODY[:-1]},"durability":"COMMIT"}}'


@dataclass(frozen=True, slots=True)
class _Turns:
    """Turn by turn."""

    journal: list[Turn] = field(default_factory=list)
    commit: list[Turn] = field(default_factory=list)
    theirs: list[Turn] = field(default_factory=list)


def measure(client: httpx.Client, processes: Processes, rounds: int) -> Iterator[str]:
    """A table by number of connections and by what must have the record, and one of Restate's processor time by part."""
    taken = {connections: _Turns() for connections in _CONNECTIONS}
    try:
        with restate() as reference:
            # Node compiles what it runs often: the first turn would be slower than all others.
            _theirs(reference, max(_CONNECTIONS))
            for _ in range(rounds):
                for connections, each in taken.items():
                    each.journal.append(turns.kiln(client, processes, connections))
                    each.theirs.append(_theirs(reference, connections))
                    each.commit.append(turns.kiln(client, processes, connections, _COMMIT_BODY))
    except NotInstalled as why:
        yield f"Restate cannot be installed, so that recorded calls are not compared: {why}"
        return
    yield table(
        ["recorded calls", "Kiln", "Restate", "ratio"], [row for connections, each in taken.items() for row in _rows(connections, each)]
    )
    head = ["processor time of an invocation", *(f"{connections} connections" for connections in _CONNECTIONS)]
    accounts = [_account(each.theirs) for each in taken.values()]
    yield table(head, [[part, *(account[part] for account in accounts)] for part in accounts[0]])


def _rows(connections: int, each: _Turns) -> Iterator[list[str]]:
    yield from turns.rows(str(connections), _FIGURES, each.journal, each.theirs)
    yield from turns.rows(f"{connections}, `COMMIT`", _FIGURES, each.commit, each.theirs)


def _account(taken: list[Turn]) -> Mapping[str, str]:
    """What each part took of an invocation."""
    return {part: spread([turn.parts[part] for turn in taken], seconds) for part in taken[0].parts}


def _theirs(reference: Restate, connections: int) -> Turn:
    """One run, whose invocations are all in Restate's record.

    Raises:
        SystemExit: an answer was wrong, or is not in the record.
    """
    functions.check_echo(reference.url)
    rest()
    recorded, before = reference.succeeded(), reference.used()
    load = wrk(reference.url, functions.BODY, connections=connections, seconds=turns.SECONDS)
    time.sleep(DRAINING_SECONDS)
    used = {part: after - before[part] for part, after in reference.used().items()}
    runs = reference.succeeded() - recorded
    if not load.answered <= runs <= load.answered + connections:
        raise SystemExit(f"{load.answered} invocations were answered and at most {connections} cut off, and Restate's record has {runs}")
    return Turn(load, {part: together / runs for part, together in used.items()})
