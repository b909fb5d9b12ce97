"""The load generators, each as one thread: what they counted."""

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_REPORT: Final = Path(__file__).with_name("report.lua")
_H2LOAD: Final = re.compile(
    r"finished in [^,]+, (?P<rate>[\d.]+) req/s.*"
    r"requests: (?P<total>\d+) total, \d+ started, \d+ done, (?P<succeeded>\d+) succeeded, .*"
    r"\((?P<bytes>\d+)\) data$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Load:
    """One run of wrk.

    Attributes:
        answered: Requests.
        rate: Requests a second.
        p50: Seconds.
        p99: Seconds.
    """

    answered: int
    rate: float
    p50: float
    p99: float


def wrk(url: str, body: str, *, connections: int, seconds: int, headers: Mapping[str, str] | None = None) -> Load:
    """Posts a body as JSON over and over, one request at a time on each connection. Headers are sent besides.

    Raises:
        SystemExit: an answer was no success, or a connection broke.
    """
    # Its own time-out counts slow answers as errors; they are in the percentiles instead.
    options = ["--threads=1", f"--connections={connections}", f"--duration={seconds}s", "--timeout=60s", f"--script={_REPORT}"]
    told = _run(["wrk", *options, *_headers(headers), url, "--", body])
    answered, micros, p50, p99, refused, broken = map(int, told.splitlines()[-1].split())
    if refused or broken or not answered:
        raise SystemExit(f"of {answered} answers of {url} {refused} were no success, and {broken} connections broke")
    return Load(answered, answered / (micros / 1e6), p50 / 1e6, p99 / 1e6)


@dataclass(frozen=True, slots=True)
class Streams:
    """One run of h2load.

    Attributes:
        rate: Calls a second.
        answer_bytes: Of the messages of all answers, each with gRPC's prefix.
    """

    rate: float
    answer_bytes: int


def h2load(url: str, message: bytes, *, calls: int, connections: int, streams: int, metadata: Mapping[str, str] | None = None) -> Streams:
    """Makes so many unary gRPC calls, with so many streams at a time on each connection. It does not look at their status.

    Raises:
        SystemExit: a stream failed.
    """
    with tempfile.NamedTemporaryFile(prefix="kiln-bench-") as file:
        file.write(framed(message))
        file.flush()
        shape = [f"--requests={calls}", f"--clients={connections}", f"--max-concurrent-streams={streams}"]
        headers = _headers({"content-type": "application/grpc", "te": "trailers", **(metadata or {})})
        told = _run(["h2load", *shape, *headers, f"--data={file.name}", url])
    found = _H2LOAD.search(told)
    if not found or int(found["succeeded"]) != calls:
        raise SystemExit(f"not all of {calls} calls of {url} were answered:\n{told}")
    return Streams(float(found["rate"]), int(found["bytes"]))


def framed(message: bytes) -> bytes:
    """A message as gRPC sends it: not compressed, its length, itself."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _headers(headers: Mapping[str, str] | None) -> list[str]:
    return [f"--header={name}: {value}" for name, value in (headers or {}).items()]


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} failed: {done.stderr or done.stdout}")
    return done.stdout
