"""A process ends at its first limit, says which one it was, and leaves nothing behind."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import psutil
import pytest

from services.compiler import limited
from services.compiler.jail import Jail
from services.compiler.process import Finished, Limit, Limits, run

# These programs are harmless, and what is looked at is what holds without a jail.
OPEN: Final = Jail("none", uid=None)
LIMITED: Final = Path(limited.__file__)
LIMITS: Final = Limits(wall_seconds=20, cpu_seconds=10, memory_bytes=256 * 1024 * 1024, stdout_bytes=100_000)


def limits(**changed: float) -> Limits:
    return Limits(**{**{name: getattr(LIMITS, name) for name in Limits.__slots__}, **changed})


async def python(code: str, bounds: Limits = LIMITS, stdin: bytes = b"") -> Finished:
    return await run([sys.executable, "-I", "-S", "-c", code], bounds, jail=OPEN, stdin=stdin)


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def gone(pid: int) -> bool:
    for _ in range(100):
        if not alive(pid):
            return True
        await asyncio.sleep(0.02)
    return False


async def test_a_process_reads_its_input_and_gives_back_both_outputs() -> None:
    finished = await python("import sys; d = sys.stdin.read(); print(d.upper()); print('note', file=sys.stderr); sys.exit(3)", stdin=b"hi")

    assert finished == Finished(3, b"HI\n", b"note\n", None)


async def test_input_that_is_not_read_is_no_error() -> None:
    finished = await python("print('done')", stdin=bytes(4_000_000))

    assert (finished.status, finished.stdout) == (0, b"done\n")


async def test_nothing_of_the_environment_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "secret-in-the-environment")

    finished = await python("import os; print(sorted(os.environ), open('/proc/self/environ').read())")

    assert b"secret" not in finished.stdout
    assert b"PATH" not in finished.stdout


async def test_it_runs_in_a_session_of_its_own_with_lowered_limits() -> None:
    limits = "r.getrlimit(r.RLIMIT_CORE), r.getrlimit(r.RLIMIT_CPU)"
    first_to_go = "open('/proc/self/oom_score_adj').read().strip() == '1000'"
    code = f"import os, resource as r; print(os.getsid(0) == os.getpid(), os.nice(0) >= 10, {first_to_go}, {limits})"

    finished = await python(code)

    assert finished.stdout == b"True True True (0, 0) (10, 11)\n", finished


@pytest.mark.parametrize(
    ("code", "bounds", "limit"),
    [
        pytest.param("import time; time.sleep(60)", limits(wall_seconds=0.3), Limit.WALL, id="wall"),
        pytest.param("while True: pass", limits(cpu_seconds=1), Limit.CPU, id="cpu"),
        pytest.param("a = b'x' * 400_000_000; import time; time.sleep(60)", LIMITS, Limit.MEMORY, id="memory"),
        pytest.param("import os\nwhile True: os.write(1, bytes(65536))", LIMITS, Limit.OUTPUT, id="output"),
        pytest.param(
            "import os, time\nfor _ in range(20):\n  if os.fork() == 0: time.sleep(60)\ntime.sleep(60)",
            limits(processes=8),
            Limit.PROCESSES,
            id="processes",
        ),
    ],
)
async def test_the_limit_that_was_passed_is_named(code: str, bounds: Limits, limit: Limit) -> None:
    finished = await python(code, bounds)

    assert finished.exceeded is limit


async def test_the_memory_of_descendants_counts() -> None:
    code = "import os, time\nif os.fork() == 0: a = b'x' * 400_000_000\ntime.sleep(60)"

    finished = await python(code)

    assert finished.exceeded is Limit.MEMORY


async def test_a_flood_on_stderr_is_cut() -> None:
    finished = await python("import os\nfor _ in range(100): os.write(2, bytes(65536))", limits(stderr_bytes=1000))

    assert (finished.status, len(finished.stderr)) == (0, 1000)


async def test_files_cannot_be_written(tmp_path: Path) -> None:
    finished = await python(f"open({str(tmp_path / 'file')!r}, 'wb', buffering=0).write(b'x')")

    assert finished.status != 0
    assert (tmp_path / "file").stat().st_size == 0


async def test_descendants_end_with_the_process() -> None:
    finished = await python("import os, time\npid = os.fork()\nif pid == 0: time.sleep(60)\nprint(pid)")

    assert await gone(int(finished.stdout))


async def test_a_descendant_that_leaves_the_session_ends_at_a_limit_too() -> None:
    code = "import os, sys, time\npid = os.fork()\nif pid == 0: os.setsid(); time.sleep(60)\nprint(pid, flush=True); time.sleep(60)"

    finished = await python(code, limits(wall_seconds=0.5))

    assert finished.exceeded is Limit.WALL
    assert await gone(int(finished.stdout))


async def test_cancelling_ends_and_reaps_the_process(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    os.mkfifo(file)
    task = asyncio.ensure_future(
        run(
            [sys.executable, "-I", "-S", "-c", f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"],
            LIMITS,
            jail=OPEN,
        )
    )
    pid = int(await asyncio.to_thread(file.read_text))

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not psutil.pid_exists(pid)


async def test_it_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    os.mkfifo(file)
    child = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = (
        "import asyncio, sys; from services.compiler.jail import Jail; from services.compiler.process import Limits, run; "
        f"asyncio.run(run([sys.executable, '-I', '-S', '-c', {child!r}], Limits(60, 60, 10**9, 1000), jail=Jail('none', uid=None)))"
    )
    starter = await asyncio.create_subprocess_exec(sys.executable, "-c", parent, cwd=Path(__file__).parents[3])
    pid = int(await asyncio.to_thread(file.read_text))

    starter.kill()
    await starter.wait()

    assert await gone(pid)


async def test_a_program_that_is_not_there_is_told_by_its_status() -> None:
    finished = await run(["/nonexistent/compiler"], LIMITS, jail=OPEN)

    assert finished.status != 0
    assert b"No such file" in finished.stderr


@pytest.mark.parametrize("is_kept", [False, True])
def test_of_the_descriptors_around_it_a_program_inherits_the_one_that_it_needs(is_kept: bool) -> None:
    list_open = """
import os
found = []
for number in range(4096):
    try:
        os.fstat(number)
    except OSError:
        continue
    found.append(number)
print(found)
"""
    ends = [*os.pipe(), *os.pipe()]
    for one in ends:
        os.set_inheritable(one, True)
    kept = ends[2] if is_kept else -1

    assert max(ends) < 4096
    # Not all event loops close what they do not pass on.
    told = subprocess.run(
        [sys.executable, "-I", "-S", str(LIMITED), "10", "0", "256", "0", str(kept), sys.executable, "-I", "-S", "-c", list_open],
        close_fds=False,
        capture_output=True,
        check=True,
    )

    for one in ends:
        os.close(one)
    assert json.loads(told.stdout) == [0, 1, 2, *([kept] if is_kept else [])]
