"""Load with a log: clients that call a platform without pause, and remember what it answered, to hold its history against."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from tests.support.platform import Platform

FUNCTIONS: Final = ("load-a", "load-b", "load-c")
# Answers that tell of a platform in trouble. Anything else that is no success is a fault of the platform.
TROUBLE: Final = frozenset({429, 502, 503, 504})
CALLERS: Final = 3
CALL_SECONDS: Final = 40


def source_of(number: int) -> str:
    """A function that answers with its input and a number of its own."""
    return f"""export function handle(input: string): string {{
  return '{{"number":{number},"input":' + input + '}}';
}}"""


@dataclass
class Log:
    """What the platform answered. Each list is only appended to, which threads may do at once.

    Attributes:
        versions: Function and number of each accepted version.
        executions: Id, function, input and output of each answered call.
        faults: Answers that no trouble excuses.
    """

    versions: list[tuple[str, int]] = field(default_factory=list)
    executions: list[tuple[str, str, Any, Any]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    unanswered: Counter[str] = field(default_factory=Counter)


class Load:
    """Clients of one platform. Without edits they call functions that stay as they are."""

    def __init__(self, platform: Platform, seed: int, *, edits: bool = True) -> None:
        self._platform = platform
        self._edits = edits
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.log = Log()

    def start(self) -> None:
        """Deploys the functions, calls each once, then calls and edits them until `stop`."""
        for number, name in enumerate(FUNCTIONS):
            self._platform.deploy(name, source_of(number))
            self.log.versions.append((name, 1))
            self._platform.execute(name)
        works: list[Callable[[httpx.Client], None]] = [*[self._edit] * self._edits, *[self._call] * CALLERS]
        for work in works:
            thread = threading.Thread(target=self._repeat, args=(work,))
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Lets every client finish its call."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, work: Callable[[httpx.Client], None]) -> None:
        with self._platform.client(CALL_SECONDS) as client:
            while not self._stop.is_set():
                try:
                    work(client)
                except httpx.HTTPError as error:
                    self.log.unanswered[type(error).__name__] += 1
                    time.sleep(0.1)

    def _call(self, client: httpx.Client) -> None:
        name, value = self._random.choice(FUNCTIONS), self._random.getrandbits(50)
        answer = client.post(f"/functions/{name}/execute", json={"input": value})
        if execution := self._answered(answer, 200):
            if execution["status"] == "COMPLETED":
                self.log.executions.append((execution["id"], name, value, execution["output"]))
            elif execution["error"]["type"] != "PLATFORM":
                self.log.faults.append(f"{name} failed: {execution['error']}")
            else:
                self.log.executions.append((execution["id"], name, value, None))

    def _edit(self, client: httpx.Client) -> None:
        name = self._random.choice(FUNCTIONS)
        answer = client.put(f"/functions/{name}", json={"source": source_of(self._random.getrandbits(30))})
        if function := self._answered(answer, 200):
            self.log.versions.append((name, function["latestVersion"]))
        self._stop.wait(1)

    def _answered(self, answer: httpx.Response, expected: int) -> Mapping[str, Any] | None:
        if answer.status_code == expected:
            body: Mapping[str, Any] = answer.json()
            return body
        if answer.status_code in TROUBLE:
            self.log.unanswered[str(answer.status_code)] += 1
            time.sleep(0.1)
        else:
            self.log.faults.append(f"{answer.status_code}: {answer.text[:500]}")
        return None


@contextmanager
def load_on(platform: Platform, seed: int, *, edits: bool = True) -> Iterator[Load]:
    """Load while the block runs."""
    load = Load(platform, seed, edits=edits)
    try:
        load.start()
        yield load
    finally:
        load.stop()


def check(platform: Platform, log: Log, *, seconds: float) -> None:
    """Holds the platform against the log, once it had that long to come to rest.

    Raises:
        AssertionError: a version hangs, an answered call is lost, changed or there twice, a run never ended, or a message is left over.
    """
    assert not log.faults, "\n".join([*log.faults, *platform.log_lines("internal_error")])
    give_up = time.monotonic() + seconds
    while (unfinished := _unfinished(platform, log)) and time.monotonic() < give_up:
        time.sleep(0.5)
    assert unfinished == []
    records = {name: _history(platform, name) for name in FUNCTIONS}
    for name, found in records.items():
        assert Counter(one["id"] for one in found).most_common(1)[0][1] == 1, f"a run of {name} is there twice"
        assert {one["status"] for one in found} <= {"COMPLETED", "FAILED"}
    by_id = {one["id"]: one for found in records.values() for one in found}
    for identity, name, value, output in log.executions:
        record = by_id.get(identity)
        assert record is not None, f"execution {identity} of {name} was answered and is not in the history"
        assert (record["functionName"], record["input"], record.get("output")) == (name, value, output)
    wrong = [one["id"] for one in by_id.values() if one["status"] == "COMPLETED" and one["output"]["input"] != one["input"]]
    assert wrong == []


def _unfinished(platform: Platform, log: Log) -> list[str]:
    """What still has to come to its end."""
    try:
        found = [
            f"{name} {version['version']} is {version['status']}"
            for name in FUNCTIONS
            for version in _pages(platform, f"/functions/{name}/versions", "versions")
            if version["status"] not in ("READY", "FAILED")
        ]
        for status in ("PENDING", "RUNNING"):
            for name in FUNCTIONS:
                runs = _pages(platform, f"/functions/{name}/executions?status={status}", "executions")
                found += [f"execution {one['id']} is {status}" for one in runs]
        known = {(name, one["version"]) for name in FUNCTIONS for one in _pages(platform, f"/functions/{name}/versions", "versions")}
        found += [f"version {version} of {name} was accepted and is not there" for name, version in set(log.versions) - known]
        found += [f"{count} messages are left in {queue}" for queue, count in platform.queue_lengths().items() if count]
    except (httpx.HTTPError, OSError) as error:
        return [f"not reachable: {error!r}"]
    return found


def _history(platform: Platform, name: str) -> list[Mapping[str, Any]]:
    return list(_pages(platform, f"/functions/{name}/executions?pageSize=1000", "executions"))


def _pages(platform: Platform, path: str, member: str) -> Iterator[Mapping[str, Any]]:
    token = ""
    while True:
        answer = platform.http.get(path, params={**httpx.URL(path).params, "pageToken": token})
        answer.raise_for_status()
        body = answer.json()
        yield from body[member]
        token = body["nextPageToken"]
        if not token:
            return
