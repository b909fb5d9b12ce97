"""Source to READY through REST, against each language's own compiler on the same source, taken by turns."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import httpx

from bench import commands
from bench.commands import Bare, Command, warm
from bench.figures import p50, p95, ratio, seconds, table
from bench.platform import create, rest, settle
from bench.sources import RUST_EXPORT, SOURCES

# How many build at the same time in the second half of the table.
WAITING: Final = 8
AT_ONCE: Final = 200
AT_A_TIME: Final = 16
# A little longer than it takes to put another compiler in the place of one that has built.
_REST_SECONDS: Final = 0.4


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of function.

    Attributes:
        name: For the table.
        language: Its id.
        source: A template with a number in it.
        command: What compiles it outside of Kiln.
        input: What it runs on.
        head, tail: What the command needs around the source, and Kiln adds by itself.
    """

    name: str
    language: str
    source: str
    command: Command
    input: Any
    head: str = ""
    tail: str = ""

    def whole(self, number: int) -> str:
        """The command's source."""
        return self.head + self.source.replace("NUMBER", str(number)) + self.tail


def _cases(client: httpx.Client) -> Iterator[Case]:
    """Of all languages that this installation has."""
    there = {one["id"] for one in client.get("/languages").json()["languages"] if one["available"]}
    json_as = ("--transform", "json-as/transform")
    yield Case("AssemblyScript, plain", "assemblyscript", SOURCES["plain"], commands.asc(), "the longest word")
    importing = 'import { JSON } from "json-as";\n'
    yield Case("AssemblyScript, JSON", "assemblyscript", SOURCES["json"], commands.asc(*json_as), {"points": []}, head=importing)
    others: dict[str, tuple[str, Callable[[], Command]]] = {
        "c": ("C", commands.zig_cc),
        "cpp": ("C++", commands.zig_cpp),
        "go": ("Go", commands.go_build),
        "rust": ("Rust", commands.rustc),
        "zig": ("Zig", commands.zig),
    }
    for language, (name, command) in others.items():
        if language in there:
            given = {"words": []} if language == "zig" else ["a", "few", "words"]
            yield Case(name, language, SOURCES[language], command(), given, tail=RUST_EXPORT if language == "rust" else "")


class _Names:
    """Names and numbers that nobody has had."""

    def __init__(self) -> None:
        self._counter = count(time.time_ns() % 10**12)

    def next(self) -> int:
        """The next number."""
        return next(self._counter)


_NAMES: Final = _Names()


def measure(client: httpx.Client, rounds: int) -> Iterator[str]:
    """A table for each language, of sources that nobody has compiled before and of one that somebody has, and a line on many at once."""
    for case in _cases(client):
        with warm(case.command, case.whole(_NAMES.next())) as bare:
            rows = _rows("first", [_kiln(client, case, _NAMES.next())], [bare.time(case.whole(_NAMES.next()))])
            rest()
            rows += _rows("hot", *_by_turns(client, case, bare, rounds))
            rows += _rows(f"{WAITING} at once", *_together(client, case, bare, max(1, rounds // 4)))
            rows += _rows("the same again", *_again(client, case, bare, rounds))
        yield table([case.name, "Kiln, source to READY", f"{case.command.name}", "ratio"], rows)
    yield _many(client)


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
        _come_to_rest(client, case, number)
        theirs.append(bare.time(case.whole(number)))
    return ours, theirs


def _together(client: httpx.Client, case: Case, bare: Bare, rounds: int) -> tuple[list[float], list[float]]:
    ours: list[float] = []
    theirs: list[float] = []
    with ThreadPoolExecutor(WAITING) as threads:
        for _ in range(rounds):
            numbers = [_NAMES.next() for _ in range(WAITING)]
            ours += threads.map(lambda number: _kiln(client, case, number, waiting=WAITING), numbers)
            for number in numbers:
                _come_to_rest(client, case, number)
            theirs += threads.map(lambda number: bare.time(case.whole(number)), numbers)
    return ours, theirs


def _again(client: httpx.Client, case: Case, bare: Bare, rounds: int) -> tuple[list[float], list[float]]:
    """Functions of one source that has been built before."""
    number = _NAMES.next()
    _kiln(client, case, number)
    _come_to_rest(client, case, number)
    ours = [_kiln(client, case, number, name=_NAMES.next()) for _ in range(rounds)]
    return ours, [bare.time(case.whole(_NAMES.next())) for _ in range(max(1, rounds // 4))]


def _many(client: httpx.Client) -> str:
    """Many functions of all languages, created as fast as they can be."""
    cases = list(_cases(client))
    began = time.perf_counter()
    with ThreadPoolExecutor(AT_A_TIME) as threads:
        ours = list(threads.map(lambda n: _kiln(client, cases[n % len(cases)], _NAMES.next(), waiting=AT_A_TIME), range(AT_ONCE)))
    took = time.perf_counter() - began
    times = f"p50 {seconds(p50(ours))}, p95 {seconds(p95(ours))}"
    return f"{AT_ONCE} functions of all kinds, {AT_A_TIME} waiting for READY at a time: {seconds(took)}, {times}."


def _come_to_rest(client: httpx.Client, case: Case, number: int) -> None:
    """Waits until the platform has nothing left to do for a function, so that what is measured next has the machine to itself.

    Raises:
        SystemExit: What was built does not run.
    """
    execution = client.post(f"/functions/{_name(case, number)}/execute", json={"input": case.input}).raise_for_status().json()
    if execution["status"] != "COMPLETED":
        raise SystemExit(f"{case.name} does not run: {execution['errorMessage']}")
    time.sleep(_REST_SECONDS)


def _name(case: Case, number: int) -> str:
    return f"bench-{case.language}-{number}"


def _kiln(client: httpx.Client, case: Case, number: int, *, name: int | None = None, waiting: int = 1) -> float:
    """Seconds from a source to READY."""
    function = _name(case, number if name is None else name)
    began = time.perf_counter()
    create(client, function, case.source.replace("NUMBER", str(number)), language=case.language)
    settle(client, function, waiting=waiting)
    return time.perf_counter() - began
