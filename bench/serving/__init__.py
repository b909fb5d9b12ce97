"""How fast calls are served when many come at once, each beside a reference that does the least there is to do."""

import shutil
from collections.abc import Iterator
from typing import Final

import httpx

from bench.serving import batches, phases, recorded, rest, unary
from bench.serving.processes import Processes

# Program → the package of Debian's that has it.
_GENERATORS: Final = {"wrk": "wrk", "h2load": "nghttp2-client"}


def measure(client: httpx.Client, rounds: int) -> Iterator[str]:
    """REST and the processor time that it takes, in all and by phase, recorded calls, gRPC, and batches.

    Raises:
        SystemExit: a load generator is missing, or an answer was wrong.
    """
    if missing := [f"{program} (apt-get install {package})" for program, package in _GENERATORS.items() if not shutil.which(program)]:
        raise SystemExit(f"serving takes load generators that are not here: {', '.join(missing)}")
    processes = Processes()
    yield from rest.measure(client, processes, rounds)
    yield from phases.measure(client, processes)
    yield from recorded.measure(client, processes, rounds)
    yield from unary.measure(client, processes, rounds)
    yield from batches.measure(client, processes, rounds)
