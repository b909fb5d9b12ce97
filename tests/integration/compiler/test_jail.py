"""A compiler that was taken over finds nothing in the jail and no way out of it."""

import asyncio
import json
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from libs.common.languages import LANGUAGES, WASM
from services.compiler import jail as jail_module
from services.compiler import jails as jails_module
from services.compiler import seccomp
from services.compiler.hot import HotProcesses
from services.compiler.jail import Jail, JailUnavailable
from services.compiler.jails import Jails
from services.compiler.languages import Bounds, Compiled, ToolchainUnavailable, languages
from services.compiler.languages.assemblyscript import AssemblyScript
from services.compiler.process import Finished, Limit, Limits, run
from tests.support.waiting import until

HOSTILE: Final = Path(__file__).with_name("hostile.py")
CANARY: Final = "canary-5f2a90"
LIMITS: Final = Limits(wall_seconds=30, cpu_seconds=10, memory_bytes=512 << 20, stdout_bytes=1 << 20, file_bytes=16 << 20)
BOUNDS: Final = Bounds(wall_seconds=30, cpu_seconds=30, memory_bytes=1 << 30, output_bytes=65_536, artifact_bytes=8 << 20)
# What Python needs to start: this test's programs are written in it, compilers are not.
SHOWN: Final = [HOSTILE.parent, Path(sys.prefix), Path(sys.base_prefix)]


@pytest.fixture(scope="session", params=["bubblewrap", "landlock"])
async def jail(request: pytest.FixtureRequest) -> Jail:
    """Each jail that this machine can have."""
    try:
        return await Jails(request.param).find()
    except JailUnavailable as error:
        if request.param == "bubblewrap":
            raise
        pytest.skip(f"Landlock cannot be had here: {error}")


@pytest.fixture
def canaries(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A path whose socket, file and abstract name any user of the host may use, and a secret in this process's environment."""
    folder = home / "canaries"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    path = str(folder / f"socket-{os.urandom(4).hex()}")
    Path(f"{path}.txt").write_text(CANARY)
    monkeypatch.setenv("CANARY", CANARY)
    with socket.socket(socket.AF_UNIX) as named, socket.socket(socket.AF_UNIX) as abstract:
        for listener, address in ((named, path), (abstract, f"\0{path}")):
            listener.bind(address)
            listener.listen()
        Path(path).chmod(0o777)
        yield path


async def python(jail: Jail, *arguments: str, limits: Limits = LIMITS) -> Finished:
    return await run([sys.executable, "-I", "-S", *arguments], limits, jail=jail, shown=SHOWN)


async def tried(jail: Jail, canaries: str) -> dict[str, Any]:
    """What came of everything that the hostile program tries."""
    finished = await python(jail, str(HOSTILE), str(os.getpid()), CANARY, canaries)
    assert finished.status == 0, finished.stderr.decode()
    told: dict[str, Any] = json.loads(finished.stdout)
    return told


async def test_no_attempt_gets_anywhere(jail: Jail, canaries: str) -> None:
    told = await tried(jail, canaries)

    succeeded = {name for name, outcome in told["attempts"].items() if outcome.startswith("got")}

    assert succeeded == set()
    assert len(told["attempts"]) > 40


async def test_the_secrets_of_the_service_are_nowhere(jail: Jail, canaries: str) -> None:
    told = await tried(jail, canaries)

    assert CANARY not in json.dumps(told)
    assert told["environments"] == []
    assert set(told["environment"]) <= {"LC_CTYPE", "PWD"}


async def test_it_has_no_rights_and_gets_none(jail: Jail, canaries: str) -> None:
    told = await tried(jail, canaries)

    assert told["uid"] != 0
    assert told["capabilities"] in ("0000000000000000", "unknown")
    assert told["no new privileges"] in ("1", "unknown")


async def test_behind_walls_of_its_own_it_is_alone_and_its_files_have_a_bound(canaries: str) -> None:
    told = await tried(await Jails("bubblewrap").find(), canaries)

    assert told["processes"] == 2
    assert told["filled"] == jail_module.TMP_BYTES


async def test_a_kernel_key_ring_and_the_like_are_refused_by_the_filter_and_not_by_chance(jail: Jail, canaries: str) -> None:
    attempts = (await tried(jail, canaries))["attempts"]

    refused = {name: attempts[name] for name in ("keyctl", "bpf", "io_uring_setup", "userfaultfd", "perf_event_open", "unshare", "ptrace")}
    assert set(refused.values()) == {"EPERM"}
    assert attempts["clone3"] == "ENOSYS"
    assert {attempts[name] for name in ("IPv4", "IPv6", "UDP", "netlink", "packets")} == {"EAFNOSUPPORT"}


async def test_daemons_do_not_outlive_it(jail: Jail) -> None:
    code = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
time.sleep(0.2)
"""
    before = set(psutil.pids())

    await python(jail, "-c", code)

    await until(lambda: not any(is_python(one) for one in set(psutil.pids()) - before))


@pytest.mark.parametrize(
    ("code", "limits", "limit"),
    [
        ("while True: pass", {"wall_seconds": 1.0}, Limit.WALL),
        ("while True: pass", {"cpu_seconds": 1}, Limit.CPU),
        ("x = [b'x' * (1 << 20) for _ in range(10_000)]", {"memory_bytes": 200 << 20}, Limit.MEMORY),
        ("print('x' * 1_000_000)", {"stdout_bytes": 1000}, Limit.OUTPUT),
        ("import os, time\nfor _ in range(60): os.fork() or time.sleep(60)\ntime.sleep(60)", {"processes": 20}, Limit.PROCESSES),
    ],
    ids=["sleep", "CPU", "memory", "output", "forks"],
)
async def test_a_bomb_is_ended_by_the_limit_that_it_passes(jail: Jail, code: str, limits: dict[str, Any], limit: Limit) -> None:
    bounds = Limits(**{name: limits.get(name, getattr(LIMITS, name)) for name in Limits.__slots__})

    finished = await python(jail, "-c", code, limits=bounds)

    assert finished.exceeded is limit


async def test_the_jail_ends_with_who_started_it(jail: Jail) -> None:
    before = set(psutil.pids())
    running = asyncio.create_task(python(jail, "-c", "import time; time.sleep(600)"))
    await until(lambda: any(is_python(one) for one in set(psutil.pids()) - before))

    running.cancel()

    await asyncio.gather(running, return_exceptions=True)
    await until(lambda: not any(is_python(one) for one in set(psutil.pids()) - before))


async def test_asc_makes_the_same_module_in_every_jail(jail: Jail) -> None:
    modules = []
    for kind in (jail.kind, "none"):
        async with HotProcesses(Jails(kind), spare=0) as hot:
            language = AssemblyScript(hot)
            modules.append(await language.compile(language.starter.encode(), BOUNDS))

    assert isinstance(modules[0], Compiled)
    assert modules[0] == modules[1]


@pytest.mark.parametrize("id_", [one for one in LANGUAGES if one != WASM])
async def test_every_compiler_works_in_every_jail(jail: Jail, id_: str) -> None:
    async with HotProcesses(Jails(jail.kind), spare=0) as hot:
        language = languages(hot)[id_]
        if hint := language.toolchain().install_hint:
            pytest.skip(hint)

        outcome = await language.compile(language.starter.encode(), BOUNDS)

    assert isinstance(outcome, Compiled), outcome


@pytest.mark.skipif(os.geteuid() != 0, reason="of root alone")
async def test_among_the_hosts_files_no_compiler_is_roots() -> None:
    with pytest.raises(JailUnavailable, match="as root"):
        await run(["/usr/bin/true"], LIMITS, jail=Jail("landlock", uid=None))


async def test_where_there_is_no_jail_nothing_is_compiled_and_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "supported", lambda: False)
    async with HotProcesses(Jails("auto"), spare=0) as hot:
        language = AssemblyScript(hot)

        with pytest.raises(ToolchainUnavailable, match="KILN_COMPILER_JAIL=none"):
            await language.compile(language.starter.encode(), BOUNDS)


async def test_a_jail_that_comes_back_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    jails = Jails("auto")
    with monkeypatch.context() as away:
        away.setattr(seccomp, "supported", lambda: False)
        with pytest.raises(JailUnavailable):
            await jails.find()

    assert (await jails.find()).kind == "bubblewrap"


async def test_a_trial_that_tells_nothing_is_no_reason_for_a_lesser_jail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jails_module, "_TRIAL", replace(LIMITS, wall_seconds=0.0))

    with pytest.raises(JailUnavailable, match="bubblewrap was tried"):
        await Jails("auto").find()


@pytest.mark.parametrize("among_others", [False, True])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_is_whole_and_its_jumps_stay_inside(machine: str, among_others: bool) -> None:
    program = list(struct.iter_unpack("=HBBI", seccomp.program(machine, among_others=among_others)))

    assert len(program) < 256
    assert program[-1][0] == 0x06
    for place, (_, skip_if_so, skip_if_not, _) in enumerate(program):
        assert place + 1 + max(skip_if_so, skip_if_not) < len(program) or not skip_if_so | skip_if_not


def is_python(pid: int) -> bool:
    """Whether a process is one of those that these tests start in the jail."""
    try:
        return "-I" in psutil.Process(pid).cmdline() and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
