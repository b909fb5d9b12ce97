"""A platform to measure, started as `make run` starts it."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from libs.local.__main__ import free_ports

ROOT: Final = Path(__file__).parents[1]
_UP_SECONDS: Final = 120


@contextmanager
def running() -> Iterator[httpx.Client]:
    """A client of a fresh platform in a home of its own."""
    http_port, grpc_port = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="kiln-bench-") as home:
        own = {name: value for name, value in os.environ.items() if not name.startswith("KILN_")}
        environment = own | {
            "KILN_HOME": home,
            "KILN_HTTP_ADDRESS": f"127.0.0.1:{http_port}",
            "KILN_GRPC_ADDRESS": f"127.0.0.1:{grpc_port}",
            "KILN_LOG_LEVEL": "warning",
        }
        process = subprocess.Popen([sys.executable, "-m", "libs.local"], cwd=ROOT, env=environment, stdout=sys.stderr)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=60) as client:
                _wait(client, process)
                yield client
        finally:
            process.terminate()
            process.wait()


def _wait(client: httpx.Client, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _UP_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit("the platform did not start; its words are above")
        try:
            if client.get("/health").json()["status"] == "UP":
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit("the platform is not up")


def create(client: httpx.Client, name: str, source: str, *, language: str = "assemblyscript") -> None:
    """Begins a function's build.

    Raises:
        httpx.HTTPStatusError: it was refused.
    """
    client.post("/functions", json={"name": name, "language": language, "source": source}).raise_for_status()


def settle(client: httpx.Client, name: str) -> dict[str, Any]:
    """Waits until a function's build has ended.

    Raises:
        SystemExit: it failed.
    """
    while True:
        function: dict[str, Any] = client.get(f"/functions/{name}").raise_for_status().json()
        if function["status"] == "READY":
            return function
        if function["status"] == "FAILED":
            raise SystemExit(f"{name} does not compile: {function['compileError']}")
        time.sleep(0.01)
