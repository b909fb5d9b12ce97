"""python -m bench [--quick] [name] ...: measures all, or what is named."""

import argparse
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import httpx

from bench import access, bombs, cold, compiling, executing, history, memory, sandbox, serving
from bench.platform import running

# Name → what it measures, part by part, as Markdown; rounds; rounds with --quick. Of the history it is rows.
_ALONE: Final[dict[str, tuple[Callable[[int], Iterator[str]], int, int]]] = {
    "access": (access.measure, 200, 20),
    "sandbox": (sandbox.measure, 200, 20),
    "memory": (memory.measure, 500, 100),
    "history": (history.measure, 10_000_000, 100_000),
    "cold": (cold.measure, 20, 3),
}
_ON_A_PLATFORM: Final[dict[str, tuple[Callable[[httpx.Client, int], Iterator[str]], int, int]]] = {
    "bombs": (bombs.measure, 40, 5),
    "compiling": (compiling.measure, 20, 3),
    "executing": (executing.measure, 500, 50),
    "serving": (serving.measure, 5, 1),
}


def main() -> None:
    """Prints a table for each."""
    names = [*_ALONE, *_ON_A_PLATFORM]
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(names)}; all by default")
    parser.add_argument("--quick", action="store_true", help="few rounds")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(names):
        parser.error(f"no measurement {', '.join(unknown)}; there are {', '.join(names)}")
    wanted = chosen.names or names
    for alone, rounds, few in (_ALONE[name] for name in wanted if name in _ALONE):
        _show(alone(few if chosen.quick else rounds))
    if on_a_platform := [name for name in wanted if name in _ON_A_PLATFORM]:
        with running() as client:
            for measure, rounds, few in (_ON_A_PLATFORM[name] for name in on_a_platform):
                _show(measure(client, few if chosen.quick else rounds))


def _show(parts: Iterable[str]) -> None:
    for part in parts:
        print(f"\n{part}", flush=True)


if __name__ == "__main__":
    main()
