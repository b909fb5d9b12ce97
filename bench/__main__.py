"""python -m bench [--quick] [bombs] [compiling] [executing]: measures all, or what is named, on a platform of its own."""

import argparse
from collections.abc import Callable, Iterator
from typing import Final

import httpx

from bench import bombs, compiling, executing
from bench.platform import running

# Name → what it measures, part by part, as Markdown; rounds; rounds with --quick.
_ALL: Final[dict[str, tuple[Callable[[httpx.Client, int], Iterator[str]], int, int]]] = {
    "bombs": (bombs.measure, 40, 5),
    "compiling": (compiling.measure, 20, 3),
    "executing": (executing.measure, 500, 50),
}


def main() -> None:
    """Prints a table for each."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(_ALL)}; all by default")
    parser.add_argument("--quick", action="store_true", help="few rounds")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(_ALL):
        parser.error(f"no measurement {', '.join(unknown)}; there are {', '.join(_ALL)}")
    with running() as client:
        for name in chosen.names or _ALL:
            measure, rounds, few = _ALL[name]
            for part in measure(client, few if chosen.quick else rounds):
                print(f"\n{part}", flush=True)


if __name__ == "__main__":
    main()
