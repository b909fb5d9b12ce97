"""`make run`: PostgreSQL and every service on one machine, until Ctrl-C."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.common.loopback import is_loopback
from libs.common.scheduling import prefer_throughput
from libs.common.settings import InvalidSettings, load
from libs.common.unprivileged import launcher
from libs.local.home import Home, HomeInUse, open_home
from libs.local.ports import NoPorts, free_ports
from libs.local.postgres import EmbeddedPostgres, PostgresFailed
from libs.local.settings import Settings
from libs.local.supervisor import Program, StartFailed, Supervisor

ROOT: Final = Path(__file__).parents[2]
INNER: Final = ("auth", "registry", "compiler", "executor")


def say(text: str) -> None:
    """Tells the person at the terminal."""
    print(f"kiln: {text}", flush=True)


async def run(settings: Settings, home: Home) -> None:
    """Starts everything, tells when it is up, and stops it on SIGINT or SIGTERM."""
    began, stop = time.monotonic(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    supervisor = Supervisor(home, say)
    starting = asyncio.create_task(_start_all(settings, home, supervisor))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            _greet(settings, home, time.monotonic() - began)
            await stopping
    finally:
        say("stopping")
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await supervisor.stop()
        say("stopped; the data stays in " + str(home.path))


async def _start_all(settings: Settings, home: Home, supervisor: Supervisor) -> None:
    ports = free_ports(len(INNER) + 1, kept=[int(address.rpartition(":")[2]) for address in (settings.http_address, settings.grpc_address)])
    addresses = {name: f"127.0.0.1:{port}" for name, port in zip(INNER, ports, strict=False)}
    url = settings.database_url.get_secret_value() if settings.database_url else await start_postgres(home, ports[-1], supervisor)
    environment = environment_of(home, url) | _addresses(settings, addresses)
    inner = [_service(name, environment | {"KILN_LISTEN_ADDRESS": addresses[name]}, addresses[name]) for name in INNER]
    await asyncio.to_thread(make_admin_key, home, environment, "--if-missing")
    say("starting auth, registry, compiler, executor and gateway")
    await asyncio.gather(*(supervisor.start(program) for program in inner))
    await supervisor.start(_program("gateway", environment, partial(wait_until_healthy, settings.http_address, tls=settings.speaks_tls)))


async def start_postgres(home: Home, port: int, supervisor: Supervisor) -> str:
    """Starts the home's PostgreSQL, set up if it is not; returns its URL."""
    postgres = EmbeddedPostgres(home, port)
    say("starting PostgreSQL" if (home.postgres / "data").exists() else "setting up PostgreSQL, once for this home")
    await asyncio.to_thread(postgres.set_up)
    environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
    await supervisor.start(
        Program("postgres", postgres.command, environment, postgres.wait_until_ready, stop_signal=signal.SIGINT, grace_seconds=30)
    )
    return postgres.url


def _service(name: str, environment: Mapping[str, str], address: str) -> Program:
    return _program(name, environment, partial(wait_until_serving, address))


def _program(name: str, environment: Mapping[str, str], ready: Callable[[], Awaitable[None]]) -> Program:
    def command() -> list[str]:
        return [*launcher(), sys.executable, "-m", f"services.{name}"]

    return Program(name, command, environment, ready)


def environment_of(home: Home, url: str) -> dict[str, str]:
    """What a service gets: this process's environment, where its data is, and the secrets of the home."""
    return {
        "KILN_EXECUTOR_JOURNAL_FOLDER": str(home.journal),
        "KILN_EXECUTOR_NATIVE_FOLDER": str(home.native),
        **_unless_set("KILN_SERVICE_SECRET", home.service_secret),
        **_unless_set("KILN_SEALING_KEY", home.sealing_key),
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'libs' / 'gen'}",
        "KILN_DATABASE_URL": url,
    }


def make_admin_key(home: Home, environment: Mapping[str, str], *options: str) -> None:
    """Has an administrator and its key made, and the key put into the home.

    Raises:
        StartFailed: it cannot be; the message says why.
    """
    command = [*launcher(), sys.executable, "-m", "services.auth.admin_key", str(home.admin_key), *options]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StartFailed(f"the administrator's key could not be made:\n{done.stdout}{done.stderr}".strip())


def _unless_set(variable: str, make: Callable[[], str]) -> dict[str, str]:
    """A secret of the home, which is made only when the environment gives none, be it in a file."""
    return {} if variable in os.environ or f"{variable}_FILE" in os.environ else {variable: make()}


def _url(settings: Settings) -> str:
    return f"{'https' if settings.speaks_tls else 'http'}://{settings.http_address}"


def _addresses(settings: Settings, addresses: Mapping[str, str]) -> dict[str, str]:
    url = _url(settings)
    return {
        # Another address than this machine's own is reached by a name that only an operator knows.
        **(_unless_set("KILN_AUTH_PUBLIC_URL", lambda: url) if is_loopback(settings.http_address) else {}),
        "KILN_HTTP_ADDRESS": settings.http_address,
        "KILN_GRPC_ADDRESS": settings.grpc_address,
        **{f"KILN_{name.upper()}_ADDRESS": address for name, address in addresses.items()},
    }


async def wait_until_serving(address: str) -> None:
    """Returns once the gRPC server there says it serves."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.max_reconnect_backoff_ms", 200)]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        while True:
            try:
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.aio.AioRpcError:
                pass
            await asyncio.sleep(0.05)


async def wait_until_healthy(address: str, *, tls: bool) -> None:
    """Returns once the gateway there says that it and all behind it serve."""
    context: ssl.SSLContext | None = None
    if tls:
        # Its certificate is for the name that others know it by, which is not the one it is asked at here. Nothing secret is said to it.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    host, _, port = address.rpartition(":")
    while True:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(2):
                if await _is_healthy(host, int(port), context):
                    return
        await asyncio.sleep(0.05)


async def _is_healthy(host: str, port: int, context: ssl.SSLContext | None) -> bool:
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    finally:
        writer.transport.abort()


def taken(addresses: Sequence[tuple[str, str]]) -> str | None:
    """Says which of the addresses, each with its setting, cannot be listened on; None when all can."""
    for variable, address in addresses:
        host, _, port = address.rpartition(":")
        try:
            socket.create_server((host, int(port))).close()
        except OSError as error:
            why = os.strerror(error.errno or 0)
            return f"cannot listen on {address} ({why}); is another run using it? Stop that, or set {variable} to another"
    return None


def _greet(settings: Settings, home: Home, seconds: float) -> None:
    http = _url(settings)
    grpcurl = "grpcurl" if settings.speaks_tls else "grpcurl -plaintext"
    print(
        f"""
Kiln is up after {seconds:.1f} s.

  REST          {http}          (description: {http}/openapi.json)
  gRPC          {settings.grpc_address}                 ({grpcurl} {settings.grpc_address} list)
  data, logs    {home.path}
  {_who(settings, home)}

Try it:

  KEY=$(cat {home.admin_key})
  curl -s {http}/functions -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' -d \\
    '{{"name":"hello","language":"assemblyscript","source":"export function handle(input: string): string {{ return input; }}"}}'
  curl -s {http}/functions/hello/execute -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \\
    -d '{{"input":{{"hello":"world"}}}}'

Ctrl-C stops it.
""",
        flush=True,
    )


def _who(settings: Settings, home: Home) -> str:
    if settings.auth == "off":
        return "KILN_AUTH is off: everyone who reaches these addresses may do everything"
    if not settings.speaks_tls and not (is_loopback(settings.http_address) and is_loopback(settings.grpc_address)):
        say("without TLS, passwords and API keys travel in the clear; set KILN_TLS_CERT_FILE and KILN_TLS_KEY_FILE")
    return f"admin's key   {home.admin_key}   (`make admin-key` makes a new one)"


def main() -> int:
    """Runs until told to stop; returns the exit code."""
    # PostgreSQL does not do it by itself.
    prefer_throughput()
    try:
        settings = load(Settings)
        with open_home(settings.home) as home:
            addresses = (("KILN_HTTP_ADDRESS", settings.http_address), ("KILN_GRPC_ADDRESS", settings.grpc_address))
            if problem := taken(addresses):
                say(problem)
                return 1
            asyncio.run(run(settings, home))
    except (InvalidSettings, HomeInUse, NoPorts, PostgresFailed, StartFailed, OSError) as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
