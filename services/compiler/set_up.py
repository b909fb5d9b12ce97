"""Makes what compilers need on this machine before their first build: `python -m services.compiler.set_up`. Quick when it is there."""

import subprocess
import sys
import time

from services.compiler.hot import HotProcesses
from services.compiler.jails import Jails
from services.compiler.languages import languages


def main() -> None:
    """Makes what is missing, and tells how long each took."""
    for language in languages(HotProcesses(Jails("auto"), spare=0)).values():
        for prepared in language.set_up():
            if prepared.is_made:
                continue
            print(f"kiln: preparing the {prepared.name} …", end="", flush=True)
            began = time.monotonic()
            try:
                prepared.make()
            except subprocess.CalledProcessError as error:
                print(" failed")
                sys.exit(f"{error.output}\nkiln: {' '.join(error.cmd[:3])} … failed with exit code {error.returncode}; its words are above")
            print(f" {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
