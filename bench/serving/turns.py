"""One run of wrk against Kiln, how its figures stand beside a reference's, and both the same for each reference."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import httpx

from bench.figures import ratios, seconds, spread
from bench.platform import credential
from bench.serving import functions
from bench.serving.loads import Load, wrk
from bench.serving.processes import Processes

SECONDS: Final = 3


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of wrk, and the processor seconds that a call took, by part."""

    load: Load
    parts: Mapping[str, float]

    @property
    def processor(self) -> float:
        """Processor seconds of a call, all parts together."""
        return sum(self.parts.values())


Figure = tuple[str, Callable[[Turn], float], Callable[[float], str]]

LOAD: Final[Sequence[Figure]] = (
    ("calls a second", lambda turn: turn.load.rate, "{:.0f}".format),
    ("p50", lambda turn: turn.load.p50, seconds),
    ("p99", lambda turn: turn.load.p99, seconds),
)
PROCESSOR: Final[Figure] = ("processor time of a call", lambda turn: turn.processor, seconds)


def kiln(client: httpx.Client, processes: Processes, connections: int, body: str = functions.BODY) -> Turn:
    """One run against a function that nobody has called.

    Raises:
        SystemExit: an answer was wrong, or is not in the history.
    """
    name = functions.deploy(client)
    url = f"{client.base_url}/functions/{name}/execute"
    functions.check_echo(url, headers := credential(client))
    load, used = processes.during(lambda: wrk(url, body, connections=connections, seconds=SECONDS, headers=headers))
    # The one call before is in the history as well.
    runs = functions.completed(client, name, answered=load.answered + 1, cut_off=connections) - 1
    return Turn(load, {part: together / runs for part, together in used.items()})


def rows(label: str, figures: Sequence[Figure], ours: Sequence[Turn], theirs: Sequence[Turn]) -> Iterator[list[str]]:
    """A row of a table for each figure: ours, the reference and the ratio to it."""
    for name, pick, shown in figures:
        our = [pick(turn) for turn in ours]
        yield [f"{label}, {name}", spread(our, shown), *beside(our, [pick(turn) for turn in theirs], shown)]


def beside(ours: Sequence[float], theirs: Sequence[float], shown: Callable[[float], str]) -> list[str]:
    """The reference and the ratio to it, where there was one."""
    return [spread(theirs, shown), ratios(ours, theirs)] if theirs else ["not measured", "-"]
