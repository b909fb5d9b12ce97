"""A whole platform, started as `make run` starts it, and small clients for it."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import httpx
import psutil

from libs.common.queue import COMPILATION_JOBS, COMPILATION_RESULTS
from libs.local.ports import free_ports
from libs.local.postgres import DATABASE, USER
from tests.support.processes import descendants, environment

ECHO = "export function handle(input: string): string { return input; }"


class _Credential(grpc.UnaryUnaryClientInterceptor):
    """Sends metadata with every unary call."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = [*(details.metadata or ()), *self._headers.items()]
        return continuation(details._replace(metadata=metadata), request)


class Bearing:
    """A stub whose calls all have this metadata."""

    def __init__(self, stub: Any, headers: Mapping[str, str]) -> None:
        self._stub = stub
        self._metadata = tuple(headers.items())

    def __getattr__(self, name: str) -> Any:
        return partial(getattr(self._stub, name), metadata=self._metadata)


class Platform:
    """A running platform. Its clients are the administrator's."""

    def __init__(self, home: Path, **variables: str) -> None:
        http, grpc = free_ports(2)
        self.home = home
        self.http_address, self.grpc_address = f"127.0.0.1:{http}", f"127.0.0.1:{grpc}"
        self._variables = variables
        self._process: subprocess.Popen[str] | None = None
        self.output: list[str] = []
        self.http = httpx.Client(base_url=f"http://{self.http_address}", timeout=100, trust_env=False)

    @property
    def key(self) -> str:
        """The administrator's API key."""
        return (self.home / "admin.key").read_text().strip()

    @property
    def headers(self) -> dict[str, str]:
        """What a request of the administrator has, as headers or as metadata."""
        return {"authorization": f"Bearer {self.key}"}

    def client(self, seconds: float) -> httpx.Client:
        """Another client of REST for the administrator."""
        return httpx.Client(base_url=f"http://{self.http_address}", headers=self.headers, timeout=seconds, trust_env=False)

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """The front door for the administrator."""
        with grpc.insecure_channel(self.grpc_address) as channel:
            yield grpc.intercept_channel(channel, _Credential(self.headers))

    @property
    def pid(self) -> int:
        """The runner's."""
        assert self._process
        return self._process.pid

    def environment(self) -> dict[str, str]:
        """What the runner is started with."""
        return environment(
            KILN_HOME=str(self.home), KILN_HTTP_ADDRESS=self.http_address, KILN_GRPC_ADDRESS=self.grpc_address, **self._variables
        )

    def start(self) -> None:
        """Starts it, and waits until it says that it is up."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "libs.local"],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        up = threading.Event()
        threading.Thread(target=self._read, args=(self._process, up), daemon=True).start()
        if not up.wait(120) or self._process.poll() is not None:
            raise AssertionError("".join(self.output))
        self.http.headers.update(self.headers)

    def stop(self) -> int:
        """Ctrl-C; returns the exit code."""
        assert self._process
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(60)

    def kill(self) -> None:
        """The runner dies without a word."""
        assert self._process
        self._process.kill()
        self._process.wait(10)

    def process(self, name: str) -> psutil.Process:
        """The process of a service, or `postgres`."""
        wanted = "postgres -D" if name == "postgres" else f"services.{name}"
        for _ in range(100):
            for one in psutil.Process(self.pid).children():
                if wanted in " ".join(_command(one)) and "unprivileged.py" not in " ".join(_command(one)):
                    return one
            time.sleep(0.1)
        raise AssertionError(f"{name} does not run")

    def address_of(self, service: str) -> str:
        """Where a service listens that is behind the gateway."""
        return self.process("gateway").environ()[f"KILN_{service.upper()}_ADDRESS"]

    def workers(self) -> list[psutil.Process]:
        """The sandbox's processes."""
        return [one for one in descendants(self.process("executor").pid) if "sandbox" in " ".join(_command(one))]

    def queue_lengths(self) -> dict[str, int]:
        """How many messages wait or are being worked on in each queue."""
        return asyncio.run(self._queue_lengths())

    async def _queue_lengths(self) -> dict[str, int]:
        async with self.database() as connection:
            queues = (COMPILATION_JOBS, COMPILATION_RESULTS)
            return {name: await connection.fetchval(f"SELECT count(*) FROM pgmq.q_{name}") for name in queues}

    def in_database(self, statement: str, *arguments: object) -> None:
        """Has its database do something."""

        async def do() -> None:
            async with self.database() as connection:
                await connection.execute(statement, *arguments)

        asyncio.run(do())

    @asynccontextmanager
    async def database(self) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
        """A connection to its database while the block runs."""
        connection = await asyncpg.connect(self._variables.get("KILN_DATABASE_URL") or self._url_of_its_own(), timeout=5)
        try:
            yield connection
        finally:
            await connection.close()

    def _url_of_its_own(self) -> str:
        command = _command(self.process("postgres"))
        port, password = command[command.index("-p") + 1], (self.home / "postgres.password").read_text()
        return f"postgresql://{USER}:{password}@127.0.0.1:{port}/{DATABASE}"

    def _read(self, process: "subprocess.Popen[str]", up: threading.Event) -> None:
        assert process.stdout
        with process.stdout:
            for line in process.stdout:
                self.output.append(line)
                if "Kiln is up" in line:
                    up.set()
        up.set()

    def log_lines(self, word: str) -> list[str]:
        """The lines of its services' logs that have a word."""
        return [line for file in sorted((self.home / "logs").glob("*.log")) for line in file.read_text().splitlines() if word in line]

    # The REST calls that most scenarios make.

    def made(self, path: str, **fields: Any) -> dict[str, Any]:
        """What the administrator makes."""
        answer = self.http.post(path, json=fields)
        assert answer.status_code == 201, answer.text
        thing: dict[str, Any] = answer.json()
        return thing

    def create(self, name: str, source: str = ECHO, **more: Any) -> dict[str, Any]:
        """Creates a function; does not wait for its build."""
        return self.made("/functions", **{"name": name, "language": "assemblyscript", "source": source, **more})

    def settled(self, reference: str, seconds: float = 120) -> dict[str, Any]:
        """The function once its latest version is READY or FAILED."""
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            function: dict[str, Any] = self.http.get(f"/functions/{reference}").json()
            if function["status"] in ("READY", "FAILED"):
                return function
            time.sleep(0.05)
        raise AssertionError(f"{reference} is still {function['status']}")

    def deploy(self, name: str, source: str = ECHO, **more: Any) -> dict[str, Any]:
        """Creates a function and waits until it is READY."""
        self.create(name, source, **more)
        function = self.settled(name)
        assert function["status"] == "READY", function["compileError"]
        return function

    def update(self, name: str, **fields: Any) -> dict[str, Any]:
        """Changes a function; does not wait for a build."""
        answer = self.http.put(f"/functions/{name}", json=fields)
        assert answer.status_code == 200, answer.text
        updated: dict[str, Any] = answer.json()
        return updated

    def execute(self, name: str, value: Any = None, *, version: int | None = None) -> dict[str, Any]:
        """Runs a function; the execution."""
        body: dict[str, Any] = {} if value is None else {"input": value}
        answer = self.http.post(f"/functions/{name}/execute", json=body | ({"version": version} if version else {}))
        assert answer.status_code == 200, answer.text
        execution: dict[str, Any] = answer.json()
        return execution

    def execute_text(self, name: str, text: str) -> str:
        """Runs a function with exactly this input; the answer's body, exactly."""
        answer = self.http.post(
            f"/functions/{name}/execute",
            content=b'{"input":' + text.encode("utf-8", "surrogatepass") + b"}",
            headers={"content-type": "application/json"},
        )
        assert answer.status_code == 200, answer.text
        return answer.text


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


@contextmanager
def running_platform(home: Path, **variables: str) -> Iterator[Platform]:
    """A platform in a home while the block runs."""
    platform = Platform(home, **variables)
    try:
        platform.start()
        yield platform
    finally:
        platform.stop()
        platform.http.close()


def error_of(answer: httpx.Response) -> Mapping[str, Any]:
    """The error of an answer that is one."""
    body: Mapping[str, Any] = json.loads(answer.text)["error"]
    return body
