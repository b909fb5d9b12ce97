"""Installs what comes as packages of Debian and Ubuntu, toolchains and the browser of the tests: quick and silent when it is there.

    python3 libs/local/toolchains.py [toolchains|browser]

Like `install.py` it imports nothing but the standard library. `install.py` prepares what it has installed.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple


class Addition(NamedTuple):
    """What can be added.

    Attributes:
        title: What it is.
        packages: What it comes as.
        commands: Where one of these is there already, nothing is missing.
        otherwise: How to have it where there are no such packages.
    """

    title: str
    packages: tuple[str, ...]
    commands: tuple[str, ...]
    otherwise: str


ADDITIONS = {
    "toolchains": Addition(
        "Rust",
        # The compiler, its standard library for WebAssembly, the linker, and the sources of the crates that functions use.
        ("rustc", "libstd-rust-dev-wasm32", "lld", "librust-serde-json-dev", "librust-serde-derive-dev"),
        (),
        "With rustup it takes: rustup target add wasm32-unknown-unknown, then the sources of serde (with its feature derive) and "
        "serde_json by cargo fetch.",
    ),
    "browser": Addition(
        "Chromium",
        ("chromium",),
        ("chromium", "chromium-browser", "google-chrome"),
        "The tests take any command of these names: chromium, chromium-browser, google-chrome.",
    ),
}
LISTS = Path("/var/lib/apt/lists")
OLD_SECONDS = 7 * 24 * 60 * 60
# An upgrade that runs in the background holds the lock for a while.
APT = ("apt-get", "--quiet", "--yes", "-o", "DPkg::Lock::Timeout=300")


def main(name: str) -> None:
    """Installs what is missing, or says how."""
    addition = ADDITIONS[name]
    missing = [package for package in addition.packages if not is_installed(package)]
    if not missing or any(map(shutil.which, addition.commands)):
        return
    command = f"apt-get install --no-install-recommends {' '.join(missing)}"
    if not shutil.which("apt-get"):
        sys.exit(f"kiln: {addition.title} is added by packages of Debian or Ubuntu, and there is no apt-get here. {addition.otherwise}")
    if os.geteuid() != 0:
        sys.exit(f"kiln: to add {addition.title} takes root; run this, then `make {name}` again: sudo {command}")
    print(f"kiln: installing {', '.join(missing)} …", end="", flush=True)
    began = time.monotonic()
    if are_lists_old():
        apt("update")
    apt("install", "--no-install-recommends", *missing)
    print(f" {time.monotonic() - began:.1f} s", flush=True)


def is_installed(package: str) -> bool:
    """Whether a package is there and set up."""
    if not shutil.which("dpkg-query"):
        return False
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(query, check=False, capture_output=True, text=True).stdout == "installed"


def are_lists_old() -> bool:
    """Whether the lists of packages may name some that are no longer there, or none."""
    if not any(LISTS.glob("*_Packages*")):
        return True
    # The folder changes with each update, while a list keeps the time at which its archive made it.
    return time.time() - max(folder.stat().st_mtime for folder in (LISTS, LISTS / "partial") if folder.exists()) > OLD_SECONDS


def apt(*words: str) -> None:
    """Runs apt-get; ends the program with what it said when it fails."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run([*APT, *words], check=False, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        print(" failed")
        sys.exit(f"{done.stdout}\nkiln: apt-get {words[0]} failed with exit code {done.returncode}; its words are above")


if __name__ == "__main__":
    if len(sys.argv) > 2 or (wanted := (*sys.argv[1:], "toolchains")[0]) not in ADDITIONS:
        sys.exit(f"usage: python3 libs/local/toolchains.py [{'|'.join(ADDITIONS)}]")
    main(wanted)
