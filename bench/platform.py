"""A platform to measure, started as `make run` starts it."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from libs.local.ports import free_ports

ROOT: Final = Path(__file__).parents[1]
_UP_SECONDS: Final = 120
_RUNNER: Final = "libs.local"
# At rest it uses so little of one core for so long.
_QUIET_SECONDS: Final = 4.0
_QUIET_SHARE: Final = 0.05


@contextmanager
def running(**settings: str) -> Iterator[httpx.Client]:
    """A client of a fresh platform in a home of its own, with these settings besides. It calls as the administrator, where there is one."""
    http_port, grpc_port = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="kiln-bench-") as home:
        own = {name: value for name, value in os.environ.items() if not name.startswith("KILN_")}
        environment = own | {
            "KILN_HOME": home,
            "KILN_HTTP_ADDRESS": f"127.0.0.1:{http_port}",
            "KILN_GRPC_ADDRESS": f"127.0.0.1:{grpc_port}",
            "KILN_LOG_LEVEL": "warning",
            **settings,
        }
        process = subprocess.Popen([sys.executable, "-m", _RUNNER], cwd=ROOT, env=environment, stdout=sys.stderr)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=60) as client:
                _wait(client, process)
                if (key := Path(home) / "admin.key").exists():
                    client.headers["authorization"] = f"Bearer {key.read_text().strip()}"
                yield client
        finally:
            process.terminate()
            process.wait()


def credential(client: httpx.Client) -> dict[str, str]:
    """The header by which other programs call as a client of the platform does, if it has one; in gRPC it is metadata."""
    return {name: client.headers[name] for name in ("authorization",) if name in client.headers}


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


def rest() -> None:
    """Returns once the platform has nothing left to do, such as starting compilers; what is measured then has the machine to itself.

    Raises:
        SystemExit: It has not after two minutes.
    """
    deadline, before = time.monotonic() + _UP_SECONDS, _processor_seconds()
    while time.monotonic() < deadline:
        time.sleep(_QUIET_SECONDS)
        now = _processor_seconds()
        if now - before < _QUIET_SECONDS * _QUIET_SHARE:
            return
        before = now
    raise SystemExit("the platform does not come to rest")


def _processor_seconds() -> float:
    """Of all processes of platforms that were started here; a reference may never come to rest."""
    total = 0.0
    for runner in psutil.Process().children():
        with suppress(psutil.Error):
            if _RUNNER in runner.cmdline():
                total += sum(map(_own_seconds, [runner, *runner.children(recursive=True)]))
    return total


def _own_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


def create(client: httpx.Client, name: str, source: str, *, language: str = "assemblyscript") -> None:
    """Begins a function's build.

    Raises:
        httpx.HTTPStatusError: it was refused.
    """
    client.post("/functions", json={"name": name, "language": language, "source": source}).raise_for_status()


def settle(client: httpx.Client, name: str, *, waiting: int = 1) -> dict[str, Any]:
    """Waits until a function's build has ended.

    Args:
        client: Of the platform.
        name: Of the function.
        waiting: How many wait at the same time. Together they ask a hundred times a second: more would be most of the platform's work.

    Raises:
        SystemExit: it failed.
    """
    while True:
        function: dict[str, Any] = client.get(f"/functions/{name}").raise_for_status().json()
        if function["status"] == "READY":
            return function
        if function["status"] == "FAILED":
            raise SystemExit(f"{name} does not compile: {function['compileError']}")
        time.sleep(waiting / 100)
