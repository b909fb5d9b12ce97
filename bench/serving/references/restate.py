"""Starts Restate with a service that echoes, and counts what it has recorded."""

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import psutil

from bench.serving.processes import used_with_children
from bench.serving.references.running import free_addresses, node_home, npm_program, started

_ECHO: Final = Path(__file__).with_name("restate_echo.mjs")
# What was measured last.
_PACKAGES: Final = ("@restatedev/restate-server@1.7.12", "@restatedev/restate-sdk@1.17.2")
_UP_SECONDS: Final = 30
_COUNT: Final = "select count(*) as n from sys_invocation where status = 'completed' and completion_result = 'success'"


@dataclass(frozen=True, slots=True)
class Restate:
    """A server and the process of its service.

    Attributes:
        url: Where callers post to the echo.
        admin_url: Of its administration.
        processes: By part.
    """

    url: str
    admin_url: str
    processes: Mapping[str, psutil.Process]

    def used(self) -> Mapping[str, float]:
        """Processor seconds of each part since it was started."""
        return {part: used_with_children(process) for part, process in self.processes.items()}

    def succeeded(self) -> int:
        """How many invocations its record has that came to their end."""
        answer = httpx.post(f"{self.admin_url}/query", json={"query": _COUNT}, headers={"accept": "application/json"}, timeout=60)
        return int(answer.raise_for_status().json()["rows"][0]["n"])


@contextmanager
def restate() -> Iterator[Restate]:
    """Restate with the echo in `restate_echo.mjs`, installed for this one time, its data in a folder that goes with it.

    Raises:
        NotInstalled: It cannot be.
    """
    with tempfile.TemporaryDirectory(prefix="kiln-bench-restate-") as name:
        folder = Path(name)
        program = npm_program(folder, "@restatedev/restate-server-*/bin/restate-server", *_PACKAGES)
        # Its imports are looked for beside it.
        echo = shutil.copy(_ECHO, folder)
        service, ingress, admin, fabric = free_addresses(4)
        own = {
            "RESTATE_LISTEN_MODE": "tcp",
            "RESTATE_BIND_ADDRESS": fabric,
            "RESTATE_INGRESS__BIND_ADDRESS": ingress,
            "RESTATE_ADMIN__BIND_ADDRESS": admin,
            "RESTATE_BASE_DIR": str(folder / "data"),
            "RESTATE_DISABLE_TELEMETRY": "true",
            "RESTATE_LOG_FILTER": "warn",
        }
        node = [str(node_home() / "bin" / "node"), str(echo), service.split(":")[1]]
        # Like Kiln's, their logs begin with warnings: the service would write two lines a call.
        with started(node, service, RESTATE_LOGGING="WARN") as worker, started([program, "--no-logo"], admin, **own) as server:
            _register(f"http://{admin}", f"http://{service}")
            yield Restate(f"http://{ingress}/Echo/echo", f"http://{admin}", {"Restate's server": server, "its service, in Node": worker})


def _register(admin_url: str, service_url: str) -> None:
    """Tells the server of its service, as soon as it takes that.

    Raises:
        SystemExit: It did not.
    """
    deadline = time.monotonic() + _UP_SECONDS
    while (answer := httpx.get(f"{admin_url}/health", timeout=60)).is_error:
        if time.monotonic() > deadline:
            raise SystemExit(f"Restate is not up: {answer.text}")
        time.sleep(0.1)
    httpx.post(f"{admin_url}/deployments", json={"uri": service_url}, timeout=60).raise_for_status()
