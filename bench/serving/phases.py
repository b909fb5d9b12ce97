"""What a call costs the host, phase by phase: the processor time of Kiln's processes by the system's account, and how samples of their
stacks share it out.
"""

import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx

from bench.figures import seconds, table
from bench.platform import credential
from bench.serving import functions
from bench.serving.loads import wrk
from bench.serving.processes import PARTS, Processes

_CONNECTIONS: Final = 128
_LOAD_SECONDS: Final = 12
_SAMPLED_SECONDS: Final = 9
# Each sample halts its process for a moment.
_SAMPLES_A_SECOND: Final = 100
_LOOP: Final = "event loop and sockets"
# Where a worker waits. Elsewhere nothing is counted that does not hold the interpreter's lock, which guests do not.
_WAITS: Final = ("Watch.keep ", "Watch._park_when_idle ", "Desk._read ")

# Part → phase → the files whose code is its own. A sample counts for the innermost of its frames that is in one of them.
_PHASES: Final[Mapping[str, Mapping[str, Sequence[str]]]] = {
    "gateway": {
        "log lines": ("libs/common/logs.py", "/structlog/"),
        "HTTP, in and out": ("gateway/http1.py", "gateway/incoming.py", "gateway/heads.py", "gateway/deadlines.py"),
        "who calls": ("gateway/callers.py", "gateway/cookies.py", "common/access/"),
        "to the executor and back": ("gateway/backends.py", "libs/common/"),
        "REST to RPC and back": ("services/gateway/",),
    },
    "executor": {
        "log lines": ("libs/common/logs.py", "/structlog/"),
        "from the gateway and back": ("common/frames.py", "common/carried.py", "common/carrier"),
        "who calls, deadline, status": ("common/interceptors.py", "common/served.py", "common/access/", "common/deadlines.py"),
        "record, and its way to PostgreSQL": (
            "executor/recorder.py", "executor/journal", "executor/entries.py", "executor/undrained.py", "executor/drainer.py",
            "executor/repository.py", "executor/taken_ids.py", "common/postgres.py", "/asyncpg/",
        ),
        "to a worker and back": ("services/executor/sandbox/",),
        "messages": ("executor/servicer.py", "executor/payload.py", "executor/many.py", "common/messages.py"),
        "which version, place, run": ("services/executor/", "libs/common/"),
    },
    "its workers": {
        "messages": ("sandbox/desk.py", "sandbox/wire.py", "sandbox/framing.py", "sandbox/worker.py", "sandbox/process.py"),
        "watch": ("sandbox/watch.py",),
        "sandbox: fresh instance, call, outcome": ("services/executor/sandbox/", "libs/common/"),
    },
}  # fmt: skip


def measure(client: httpx.Client, processes: Processes) -> Iterator[str]:
    """A table of phases with many connections."""
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if program is None:
        raise SystemExit("phases take py-spy, which is not in this environment: make bench installs it")
    name = functions.deploy(client)
    url, headers = f"{client.base_url}/functions/{name}/execute", credential(client)
    with tempfile.TemporaryDirectory(prefix="kiln-bench-") as folder:
        files = {pid: (part, Path(folder) / str(pid)) for part, pids in processes.of_calls().items() for pid in pids}
        samplers = [_sampler(program, pid, file, in_python=part != "its workers") for pid, (part, file) in files.items()]
        load, used = processes.during(lambda: wrk(url, functions.BODY, connections=_CONNECTIONS, seconds=_LOAD_SECONDS, headers=headers))
        for sampler in samplers:
            _, words = sampler.communicate()
            if sampler.returncode != 0:
                yield f"Phases cannot be shown here, since py-spy may not look at a process: {words.decode().splitlines()[-1]}"
                return
        counted = {part: Counter[str]() for part in _PHASES}
        for part, file in files.values():
            _count(part, file.read_text(), counted[part])
    yield _table({part: used[part] / load.answered for part in PARTS}, counted)


def _sampler(program: str, pid: int, file: Path, *, in_python: bool) -> "subprocess.Popen[bytes]":
    shape = ["--format=raw", f"--duration={_SAMPLED_SECONDS}", f"--rate={_SAMPLES_A_SECOND}", "--full-filenames"]
    command = [program, "record", *shape, *(["--gil"] if in_python else []), f"--pid={pid}", f"--output={file}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _table(cost: Mapping[str, float], counted: Mapping[str, Counter[str]]) -> str:
    rows = []
    for part in PARTS:
        rows.append([f"**{part}**", f"**{seconds(cost[part])}**"])
        phases = counted.get(part, Counter())
        rows += [[phase, seconds(cost[part] * samples / phases.total())] for phase, samples in phases.most_common()]
    return table(["phase of a call", f"processor time, {_CONNECTIONS} connections"], rows)


def _count(part: str, stacks: str, into: Counter[str]) -> None:
    """Adds samples to their phases.

    Args:
        part: Whose stacks they are.
        stacks: A line for each: frames as `function (file:line)`, outermost first, and how often it was seen.
        into: Samples by phase.
    """
    for line in stacks.splitlines():
        stack, _, times = line.rpartition(" ")
        frames = stack.split(";")
        if not frames[-1].startswith(_WAITS):
            into[_phase(part, frames)] += int(times)


def _phase(part: str, stack: Sequence[str]) -> str:
    for frame in reversed(stack):
        if "/asyncio/runners.py:" in frame:
            break
        for phase, files in _PHASES[part].items():
            if any(file in frame for file in files):
                return phase
    return _LOOP
