"""Starts services and whole platforms as people do: as processes, with an environment."""

import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.local.ports import free_ports

ROOT: Final = Path(__file__).parents[2]
# Of services that get no other.
SEALING_KEY: Final = base64.b64encode(bytes(range(32))).decode()


def environment(**variables: str) -> dict[str, str]:
    """The environment of a process of ours: this one's without Kiln's settings, and the given ones."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KILN_")}
    return {**inherited, "PYTHONPATH": f"{ROOT}:{ROOT / 'libs' / 'gen'}", "PYTHONWARNINGS": "default", **variables}


@contextmanager
def running_service(name: str, log: Path, **variables: str) -> Iterator[str]:
    """One service on a free port; its address, once it serves."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with running_process(name, address, log, KILN_LISTEN_ADDRESS=address, **variables):
        yield address


@contextmanager
def running_process(name: str, address: str, log: Path, **variables: str) -> Iterator[psutil.Process]:
    """The process of a service, once gRPC at an address serves; stopped at the end."""
    with running_secure_process(name, address, log, None, variables) as process:
        yield process


@contextmanager
def running_secure_process(
    name: str, address: str, log: Path, credentials: grpc.ChannelCredentials | None, variables: Mapping[str, str]
) -> Iterator[psutil.Process]:
    """The same of a service that speaks TLS, which is trusted by credentials."""
    with log.open("ab") as file:
        # By itself it has nobody to ask who calls, unless a test says otherwise.
        process = subprocess.Popen(
            [sys.executable, "-m", f"services.{name}"],
            env=environment(**{"KILN_AUTH": "off", "KILN_SEALING_KEY": SEALING_KEY, **variables}),
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        wait_until_serving(address, process, log, credentials=credentials)
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(30)


def wait_until_serving(
    address: str, process: "subprocess.Popen[bytes]", log: Path, seconds: float = 40, credentials: grpc.ChannelCredentials | None = None
) -> None:
    """Returns once the server there serves; fails with its log when it does not."""
    give_up = time.monotonic() + seconds
    with grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
        while time.monotonic() < give_up and process.poll() is None:
            try:
                if check(health_pb2.HealthCheckRequest(), timeout=1).status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.RpcError:
                time.sleep(0.05)
    raise AssertionError(f"{address} does not serve:\n{log.read_text(errors='replace')[-3000:]}")


def descendants(pid: int) -> Sequence[psutil.Process]:
    """All living processes below one."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
