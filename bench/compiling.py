"""Source to READY through REST, against each language's own compiler on the same source, taken by turns."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Final

import httpx

from bench import commands
from bench.commands import Bare, Command, warm
from bench.figures import p50, p95, ratio, seconds, table
from bench.platform import create, settle
from bench.sources import SOURCES

# How many build at the same time in the second half of the table.
WAITING: Final = 8
AT_ONCE: Final = 200


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of function.

    Attributes:
        name: For the table.
        language: Its id.
        source: A template with a number in it.
        command: What compiles it outside of Kiln.
        head: What the command needs at the beginning of the file, and Kiln adds by itself.
    """

    name: str
    language: str
    source: str
    command: Command
    head: str = ""


def _cases(client: httpx.Client) -> Iterator[Case]:
    """Of all languages that this installation has."""
    there = {one["id"] for one in client.get("/languages").json()["languages"] if one["available"]}
    json_as = ("--transform", "json-as/transform")
    yield Case("AssemblyScript, plain", "assemblyscript", SOURCES["plain"], commands.asc())
    yield Case("AssemblyScript, JSON", "assemblyscript", SOURCES["json"], commands.asc(*json_as), 'import { JSON } from "json-as";\n')
    others: dict[str, tuple[str, Callable[[], Command]]] = {
        "c": ("C", commands.zig_cc),
        "cpp": ("C++", commands.zig_cpp),
        "go": ("Go", commands.go_build),
        "rust": ("Rust", commands.rustc),
        "zig": ("Zig", commands.zig),
    }
    for language, (name, command) in others.items():
        if language in there:
            yield Case(name, language, SOURCES[language], command())


class _Names:
    """Names and numbers that nobody has had."""

    def __init__(self) -> None:
        self._counter = count(time.time_ns() % 10**12)

    def next(self) -> int:
        """The next number."""
        return next(self._counter)


_NAMES: Final = _Names()


def measure(client: httpx.Client, rounds: int) -> str:
    """A table of all languages, of sources that nobody has compiled before, of one that somebody has, and of many at once."""
    rows: list[list[str]] = []
    for case in _cases(client):
        with warm(case.command, case.head + case.source.replace("NUMBER", str(_NAMES.next()))) as bare:
            first = [_kiln(client, case, _NAMES.next())]
            rows += _rows(f"{case.name}, first", first, [bare.time(_source(case, _NAMES.next()))])
            rows += _rows(f"{case.name}, hot", *_by_turns(client, case, bare, rounds))
            rows += _rows(f"{case.name}, {WAITING} at once", *_together(client, case, bare, max(1, rounds // 4)))
            rows += _rows(f"{case.name}, the same again", *_again(client, case, bare, rounds))
    head = ["function", "Kiln, source to READY", "bare command", "ratio"]
    return f"{table(head, rows)}\n\n{_many(client)}"


def _rows(name: str, ours: Sequence[float], theirs: Sequence[float]) -> list[list[str]]:
    picks = (("p50", p50), ("p95", p95)) if len(ours) > 1 else (("", p50),)
    return [
        [f"{name}{f', {which}' if which else ''}", seconds(pick(ours)), seconds(pick(theirs)), ratio(pick(ours), pick(theirs))]
        for which, pick in picks
    ]


def _by_turns(client: httpx.Client, case: Case, bare: Bare, rounds: int) -> tuple[list[float], list[float]]:
    ours, theirs = [], []
    for _ in range(rounds):
        number = _NAMES.next()
        ours.append(_kiln(client, case, number))
        theirs.append(bare.time(_source(case, number)))
    return ours, theirs


def _together(client: httpx.Client, case: Case, bare: Bare, rounds: int) -> tuple[list[float], list[float]]:
    ours: list[float] = []
    theirs: list[float] = []
    with ThreadPoolExecutor(WAITING) as threads:
        for _ in range(rounds):
            numbers = [_NAMES.next() for _ in range(WAITING)]
            ours += threads.map(lambda number: _kiln(client, case, number), numbers)
            theirs += threads.map(lambda number: bare.time(_source(case, number)), numbers)
    return ours, theirs


def _again(client: httpx.Client, case: Case, bare: Bare, rounds: int) -> tuple[list[float], list[float]]:
    """Functions of one source that has been built before."""
    number = _NAMES.next()
    _kiln(client, case, number)
    ours = [_kiln(client, case, number, name=_NAMES.next()) for _ in range(rounds)]
    return ours, [bare.time(_source(case, _NAMES.next())) for _ in range(max(1, rounds // 4))]


def _many(client: httpx.Client) -> str:
    """Many functions of all languages, created as fast as they can be."""
    cases = list(_cases(client))
    began = time.perf_counter()
    with ThreadPoolExecutor(16) as threads:
        ours = list(threads.map(lambda number: _kiln(client, cases[number % len(cases)], _NAMES.next()), range(AT_ONCE)))
    took = time.perf_counter() - began
    times = f"p50 {seconds(p50(ours))}, p95 {seconds(p95(ours))}"
    return f"{AT_ONCE} functions of all kinds, sixteen waiting for READY at a time: {seconds(took)}, {times}."


def _source(case: Case, number: int) -> str:
    return case.head + case.source.replace("NUMBER", str(number))


def _kiln(client: httpx.Client, case: Case, number: int, *, name: int | None = None) -> float:
    """Seconds from a source to READY."""
    function = f"bench-{case.language}-{number if name is None else name}"
    began = time.perf_counter()
    create(client, function, case.source.replace("NUMBER", str(number)), language=case.language)
    settle(client, function)
    return time.perf_counter() - began
