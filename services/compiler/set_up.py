"""Makes what compilers need on this machine before their first build: `python -m services.compiler.set_up`. Quick when it is there."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from services.compiler.hot import HotProcesses
from services.compiler.jails import Jails
from services.compiler.languages import languages
from services.compiler.languages.prepared import Prepared


def main() -> None:
    """Makes what is missing, and tells how long each took."""
    chains = list(missing(language.set_up() for language in languages(HotProcesses(Jails("auto"), spare=0)).values()))
    if not chains:
        return
    names = ", ".join(prepared.name for chain in chains for prepared in chain)
    print(f"kiln: preparing compilers, once on this machine, a minute or two: {names} …", flush=True)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        try:
            list(threads.map(make, chains))
        except subprocess.CalledProcessError as error:
            sys.exit(f"{error.output}\nkiln: {' '.join(error.cmd[:3])} … failed with exit code {error.returncode}; its words are above")


def missing(wanted: Iterable[Sequence[Prepared]]) -> Iterable[list[Prepared]]:
    """What is still to be made, each once: lists that can be worked on at the same time, each in its order."""
    chains: dict[Prepared, list[Prepared]] = {}
    for sequence in wanted:
        # What several languages need comes first for each of them.
        chain = chains.setdefault(sequence[0], []) if sequence else []
        chain += [prepared for prepared in sequence if not prepared.is_made and prepared not in chain]
    return filter(None, chains.values())


def make(chain: Sequence[Prepared]) -> None:
    """Makes one after the other."""
    for prepared in chain:
        began = time.monotonic()
        prepared.make()
        print(f"kiln: prepared {prepared.name} in {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
