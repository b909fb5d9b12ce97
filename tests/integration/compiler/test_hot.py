"""Compilers that are kept: quick, and as if each build had a process of its own."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import psutil
import pytest

from services.compiler import hot as module
from services.compiler.hot import Answer, HotProcess, HotProcesses, Program, StartFailed
from services.compiler.jail import Jail
from services.compiler.jails import Jails
from services.compiler.languages import Bounds, Compiled, Failed
from services.compiler.languages.assemblyscript import AssemblyScript
from services.compiler.process import Limit, Limits
from tests.support.waiting import until

KEPT: Final = Path(__file__).with_name("kept.py")
LIMITS: Final = Limits(wall_seconds=20, cpu_seconds=10, memory_bytes=256 << 20, stdout_bytes=1 << 20)
BOUNDS: Final = Bounds(wall_seconds=60, cpu_seconds=60, memory_bytes=1 << 30, output_bytes=1 << 18, artifact_bytes=8 << 20)
PROGRAM: Final = Program(
    command=(sys.executable, "-I", "-S", str(KEPT)),
    shown=tuple(dict.fromkeys([KEPT.parent, Path(sys.prefix), Path(sys.base_prefix)])),
    environment=(),
)


@pytest.fixture
async def hot() -> AsyncIterator[HotProcesses]:
    """One process of a program at most."""
    async with HotProcesses(Jails("auto"), spare=1) as opened:
        yield opened


async def ask(hot: HotProcesses, request: str, limits: Limits = LIMITS, *, keep: Callable[[Answer], bool] = lambda _: True) -> Answer:
    return await hot.ask(PROGRAM, request.encode(), limits, keep=keep)


def running() -> list[psutil.Process]:
    """The kept programs of these tests that run."""
    found = []
    for one in psutil.process_iter():
        try:
            if one.status() != psutil.STATUS_ZOMBIE and one.cmdline()[-1:] == [str(KEPT)] and one.cmdline()[0] == sys.executable:
                found.append(one)
        except (psutil.Error, IndexError):
            continue
    return found


def programs() -> list[psutil.Process]:
    """Those of them that are the program itself, and not the jail around it."""
    return [one for one in running() if len(one.cmdline()) == len(PROGRAM.command)]


async def only() -> psutil.Process:
    """The one program that runs, once it does."""
    await until(lambda: len(programs()) == 1)
    return programs()[0]


async def test_one_process_builds_one_source_after_the_other(hot: HotProcesses) -> None:
    answers = [await ask(hot, f"echo {word}") for word in ("one", "two")]

    assert [(one.text, one.module) for one in answers] == [(b"one", b"module of one"), (b"two", b"module of two")]
    assert (await only()).is_running()


async def test_builds_at_once_have_processes_of_their_own(hot: HotProcesses) -> None:
    answers = await asyncio.gather(ask(hot, "sleep 0.5"), ask(hot, "sleep 0.5"), ask(hot, "echo quick"))

    assert [one.text for one in answers] == [b"slept", b"slept", b"quick"]


@pytest.mark.parametrize(
    ("request_", "limits", "limit"),
    [
        ("spin", replace(LIMITS, wall_seconds=0.5), Limit.WALL),
        ("spin", replace(LIMITS, cpu_seconds=1), Limit.CPU),
        ("eat", LIMITS, Limit.MEMORY),
        ("flood", LIMITS, Limit.OUTPUT),
        ("lie", LIMITS, Limit.OUTPUT),
    ],
    ids=["wall", "CPU", "memory", "output", "a lie about its size"],
)
async def test_a_build_that_passes_a_bound_ends_and_takes_its_process_along(
    hot: HotProcesses, request_: str, limits: Limits, limit: Limit
) -> None:
    await ask(hot, "echo before")
    before = await only()

    answer = await ask(hot, request_, limits)

    assert (answer.text, answer.exceeded) == (None, limit)
    assert (await ask(hot, "echo after")).text == b"after"
    await until(lambda: not before.is_running())


async def test_bounds_are_those_of_each_build_and_not_of_all_together(hot: HotProcesses) -> None:
    for _ in range(3):
        assert (await ask(hot, "sleep 0.3", replace(LIMITS, wall_seconds=0.8))).text == b"slept"


@pytest.mark.parametrize("end", ["die", "exit"])
async def test_a_process_that_dies_in_a_build_is_told_with_its_last_words_and_replaced(hot: HotProcesses, end: str) -> None:
    answer = await ask(hot, end)

    assert (answer.text, answer.exceeded) == (None, None)
    assert answer.said.strip() == (b"last words" if end == "die" else b"")
    assert (await ask(hot, "echo after")).text == b"after"


async def test_a_process_that_was_killed_while_it_waited_is_noticed_and_replaced(hot: HotProcesses) -> None:
    await ask(hot, "echo before")
    (await only()).kill()
    await until(lambda: not programs())

    assert (await ask(hot, "echo after")).text == b"after"


async def test_a_build_whose_process_somebody_kills_is_done_again(hot: HotProcesses) -> None:
    await ask(hot, "echo before")
    building = asyncio.create_task(ask(hot, "sleep 3"))
    (await only()).kill()

    assert (await building).text == b"slept"


async def test_a_build_that_kills_its_own_process_is_not_done_for_ever(hot: HotProcesses) -> None:
    answer = await ask(hot, "die")

    assert answer.killed
    assert (await ask(hot, "echo after")).text == b"after"


async def test_what_one_build_complains_of_is_not_told_to_the_next(hot: HotProcesses) -> None:
    first, second = await ask(hot, "complain secret"), await ask(hot, "complain other")

    assert (first.said, second.said) == (b"secret\n", b"other\n")


async def test_a_process_that_is_not_to_be_kept_is_exchanged(hot: HotProcesses) -> None:
    await ask(hot, "echo one", keep=lambda answer: answer.text != b"one")
    before = programs()

    await ask(hot, "echo two")

    await until(lambda: not any(one.is_running() for one in before))


async def test_a_process_is_exchanged_after_as_many_builds_as_it_may(hot: HotProcesses) -> None:
    program = replace(PROGRAM, max_builds=2)
    await hot.ask(program, b"echo one", LIMITS, keep=lambda _: True)
    first = await only()
    await hot.ask(program, b"echo two", LIMITS, keep=lambda _: True)

    await until(lambda: not first.is_running())
    assert (await hot.ask(program, b"echo three", LIMITS, keep=lambda _: True)).text == b"three"


async def test_a_process_that_has_built_often_builds_on_until_another_waits(hot: HotProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    program, may_start, start = replace(PROGRAM, max_builds=1), asyncio.Event(), HotProcess.start
    await hot.ask(program, b"echo one", LIMITS, keep=lambda _: True)
    first = await only()

    async def start_later(program: Program, jail: Jail) -> HotProcess:
        await may_start.wait()
        return await start(program, jail)

    monkeypatch.setattr(HotProcess, "start", start_later)
    for _ in range(3):
        assert (await hot.ask(program, b"pid", LIMITS, keep=lambda _: True)).text is not None
        assert [one.pid for one in programs()] == [first.pid]
    may_start.set()

    await until(lambda: not first.is_running() and len(programs()) == 1)


async def test_a_process_that_has_grown_is_exchanged(hot: HotProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IDLE_BYTES", 1)
    await ask(hot, "echo one")

    assert (await ask(hot, "echo two")).text == b"two"


async def test_between_builds_it_is_stopped_and_does_nothing_unwatched(hot: HotProcesses) -> None:
    await ask(hot, "echo one")

    process = await only()
    await until(lambda: process.status() == psutil.STATUS_STOPPED)
    assert (await ask(hot, "echo two")).text == b"two"


async def test_a_process_that_tidies_is_not_stopped_in_it_unless_somebody_waits(hot: HotProcesses) -> None:
    tidying = replace(PROGRAM, tidy_seconds=60)
    first = await hot.ask(tidying, b"pid", LIMITS, keep=lambda _: True)
    process = await only()
    await asyncio.sleep(0.2)
    assert process.status() != psutil.STATUS_STOPPED

    async with asyncio.timeout(20):
        second = await hot.ask(tidying, b"pid", LIMITS, keep=lambda _: True)

    assert first.text == second.text


async def test_a_process_that_started_others_is_not_asked_again_and_they_end_with_it(hot: HotProcesses) -> None:
    await ask(hot, "fork")
    before = programs()

    assert (await ask(hot, "echo after")).text == b"after"
    await until(lambda: not any(one.is_running() for one in before))


async def test_a_build_that_takes_long_gives_way_and_keeps_nobody_from_a_process(hot: HotProcesses) -> None:
    long = asyncio.create_task(ask(hot, "toil 2", replace(LIMITS, long_cpu_seconds=0.2)))
    toiling = await only()

    await until(lambda: len(hot.waiting()) == 1)

    assert not long.done()
    assert toiling.nice() == 15
    assert (await long).text == b"toiled"
    await until(lambda: not toiling.is_running())
    assert (await only()).nice() == 10


async def test_what_was_held_from_builds_before_fails_no_later_one(hot: HotProcesses) -> None:
    assert (await ask(hot, "hold 150")).text == b"held"

    answer = await ask(hot, "sleep 0.2", replace(LIMITS, memory_bytes=100 << 20))

    assert (answer.text, answer.exceeded) == (b"slept", None)


async def test_a_program_made_of_other_files_is_another_and_the_old_one_goes(hot: HotProcesses) -> None:
    await ask(hot, "echo one")
    old = await only()

    await hot.ask(replace(PROGRAM, fingerprint="of newer files"), b"echo two", LIMITS, keep=lambda _: True)

    await until(lambda: not old.is_running())


async def test_a_program_of_another_name_leaves_those_alone_that_wait(hot: HotProcesses) -> None:
    await ask(hot, "echo one")
    waiting = await only()

    await hot.ask(replace(PROGRAM, name="another", fingerprint="of other files"), b"echo two", LIMITS, keep=lambda _: True)

    assert (await ask(hot, "echo three")).text == b"three"
    assert waiting.is_running()


async def test_a_process_that_does_not_warm_up_is_not_kept() -> None:
    async with HotProcesses(Jails("auto"), spare=1) as hot:
        hot.prepare(replace(PROGRAM, warm_up=(b"die",)))
        await asyncio.wait(list(hot._chores), timeout=20)

        assert not running()


async def test_a_build_that_is_cancelled_ends_its_process(hot: HotProcesses) -> None:
    building = asyncio.create_task(ask(hot, "spin"))
    spinning = await only()

    building.cancel()

    await asyncio.gather(building, return_exceptions=True)
    await until(lambda: not spinning.is_running())
    assert (await ask(hot, "echo after")).text == b"after"


async def test_leaving_ends_all_of_them_whatever_they_do() -> None:
    async with HotProcesses(Jails("auto"), spare=2) as hot:
        hot.prepare(PROGRAM)
        spinning = asyncio.create_task(ask(hot, "spin"))
        await until(lambda: len(programs()) == 2)

    await asyncio.gather(spinning, return_exceptions=True)
    await until(lambda: not running())


async def test_prepared_processes_wait_for_work_warmed_up() -> None:
    async with HotProcesses(Jails("auto"), spare=2) as hot:
        warm = replace(PROGRAM, warm_up=(b"complain warm",))
        hot.prepare(warm)
        await until(lambda: len(programs()) == 2)
        waiting = {one.pid for one in programs()}

        answer = await hot.ask(warm, b"echo one", LIMITS, keep=lambda _: True)

        assert answer.text == b"one"
        assert {one.pid for one in programs()} == waiting


async def test_prepared_processes_practise_while_nobody_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUIET_SECONDS", 0.2)
    practising = replace(PROGRAM, practice=(b"hold 32", b"hold 64"))
    async with HotProcesses(Jails("auto"), spare=2) as hot:
        hot.prepare(practising)
        await until(lambda: len(programs()) == 2 and all(one.memory_info().rss > 64 << 20 for one in programs()))
        practised = {one.pid for one in programs()}

        answer = await hot.ask(practising, b"echo one", LIMITS, keep=lambda _: True)

        assert answer.text == b"one"
        assert {one.pid for one in programs()} == practised


async def test_nobody_practises_while_others_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUIET_SECONDS", 2.0)
    practising = replace(PROGRAM, practice=(b"hold 64",))
    async with HotProcesses(Jails("auto"), spare=2) as hot:
        await hot.ask(practising, b"echo first", LIMITS, keep=lambda _: True)
        hot.prepare(practising)
        await until(lambda: len(hot.waiting()) == 2)

        for _ in range(5):
            await asyncio.sleep(0.3)
            assert (await hot.ask(practising, b"echo again", LIMITS, keep=lambda _: True)).text == b"again"

        assert all(one.memory_info().rss < 64 << 20 for one in programs())


async def test_a_program_that_does_not_start_is_told_with_what_it_said(hot: HotProcesses) -> None:
    broken = replace(PROGRAM, command=(sys.executable, "-I", "-S", "-c", "raise SystemExit('no such toolchain')"))

    with pytest.raises(StartFailed, match="no such toolchain"):
        await hot.ask(broken, b"", LIMITS, keep=lambda _: True)


# It takes a while to come up.
SLOW_START: Final = "import runpy, sys, time; time.sleep(2); runpy.run_path(sys.argv[1])"


async def test_a_process_that_somebody_kills_while_it_starts_is_started_again(hot: HotProcesses) -> None:
    slow = replace(PROGRAM, command=(sys.executable, "-I", "-S", "-c", SLOW_START, str(KEPT)))
    building = asyncio.create_task(hot.ask(slow, b"echo on", LIMITS, keep=lambda _: True))
    await until(lambda: bool(running()))

    for process in running():
        process.kill()

    assert (await building).text == b"on"


async def test_a_program_that_kills_itself_as_it_starts_is_not_started_for_ever(hot: HotProcesses) -> None:
    deadly = replace(PROGRAM, command=(sys.executable, "-I", "-S", "-c", "import os; os.kill(os.getpid(), 9)"))

    with pytest.raises(StartFailed, match="it said nothing"):
        await hot.ask(deadly, b"", LIMITS, keep=lambda _: True)


PLAIN: Final = "export function handle(input: string): string { return input; }"
HOSTILE: Final = [
    "export function handle(input: string): string { return " + "(" * 20_000 + "input" + ")" * 20_000 + "; }",
    "class A<T> { next: A<A<T>> = new A<A<T>>(); }\nexport function handle(input: string): string { new A<i32>(); return input; }",
    "class C0 {}\n" + "".join(f"class C{n + 1} extends C{n} {{}}\n" for n in range(5_000)) + "new C5000();\n" + PLAIN,
    "namespace JSON { export function parse<T>(s: string): T { unreachable(); } }\n" + PLAIN,
    "@global function handle2(): void {}\n@global class String2 {}\n" + PLAIN,
    "declare module 'x';\nexport * from 'json-as';\n" + PLAIN,
    "not a function",
]


async def test_a_hostile_build_leaves_the_next_one_as_a_fresh_process_makes_it(hot: HotProcesses) -> None:
    language = AssemblyScript(hot)
    async with HotProcesses(Jails("auto"), spare=0) as fresh:
        wanted = [await AssemblyScript(fresh).compile(source.encode(), BOUNDS) for source in (PLAIN, language.starter)]

    for hostile in HOSTILE:
        assert isinstance(await language.compile(hostile.encode(), BOUNDS), Compiled | Failed)
        assert [await language.compile(source.encode(), BOUNDS) for source in (PLAIN, language.starter)] == wanted, hostile[:80]


async def test_a_build_whose_process_somebody_kills_is_built_all_the_same(hot: HotProcesses) -> None:
    language = AssemblyScript(hot)
    await language.compile(PLAIN.encode(), BOUNDS)
    building = asyncio.create_task(language.compile(language.starter.encode(), BOUNDS))
    # Long enough for it to begin; killed before that, it must come about all the same.
    await asyncio.sleep(0.1)

    for node in nodes():
        node.kill()

    assert isinstance(await building, Compiled)


def nodes() -> list[psutil.Process]:
    """The AssemblyScript compilers below this process."""
    found = []
    for one in psutil.Process().children(recursive=True):
        try:
            if one.name() in ("node", "MainThread") and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
        except psutil.Error:
            continue
    return found
