"""The sandbox with real processes: what a hostile guest, a dead process or an impatient caller can do to it, and what they cannot."""

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from libs.common import jsontext
from services.executor.sandbox import (
    ErrorType,
    Exhausted,
    Level,
    Limits,
    NotPrepared,
    Outcome,
    Quarantined,
    Sandbox,
    StartFailed,
    Unloadable,
)
from tests.integration.executor.calls import SHORT, call, fault, run
from tests.integration.executor.guests import ABI, ECHO, ENDLESS, OBEDIENT, TRAPPING, Module, answering, guest, module, order, string_at
from tests.integration.executor.plain_guests import SLEEPING
from tests.support.mortal.worker import POISON

# Anywhere, and around the edges of a page of memory and of what is in it.
ADDRESSES = st.integers(0, 2**32 - 1) | st.sampled_from(
    [0, 1, 4, 1022, 1023, 1024, 1025, 65_530, 65_532, 65_535, 65_536, 65_540, 2**32 - 4]
)
SIZES = st.integers(0, 2**32 - 1) | st.integers(0, 300) | st.sampled_from([2**31, 2**32 - 1, 64_512, 64_510])
JSON_TEXTS = st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5).map(json.dumps)
BYTES = st.binary(max_size=200) | JSON_TEXTS.map(lambda text: text.encode("utf-16-le"))
# Takes seconds and hundreds of megabytes to compile.
HEAVY = guest(
    "(if (i32.load (local.get 1)) (then (i32.store (local.get 0) (i32.div_s (local.get 1) (local.tee 2 (i32.load (local.get 2)))))))"
    * 20_000
    + "(local.get 0)"
)


def processes(kind: str = "") -> list[psutil.Process]:
    """All that run for some sandbox of this process, or those of one kind."""
    return [child for child in psutil.Process().children() if f"services.executor.sandbox.{kind}" in command_line(child)]


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def workers() -> list[psutil.Process]:
    return processes("worker")


async def busiest(among: list[psutil.Process]) -> psutil.Process:
    """The one that runs a guest now."""
    before = [sum(process.cpu_times()[:2]) for process in among]
    await asyncio.sleep(0.3)
    spent = [sum(process.cpu_times()[:2]) - earlier for process, earlier in zip(among, before, strict=True)]
    return among[spent.index(max(spent))]


def used(process: psutil.Process) -> tuple[int, int]:
    """Its threads and, where this test may see them, its open files."""
    return process.num_threads(), process.num_fds() if os.geteuid() == 0 else 0


def highest_resident(process: psutil.Process) -> int:
    """The most memory that it ever had in use, in bytes."""
    return int(re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())[0]) << 10


async def suspend(process: psutil.Process) -> None:
    process.suspend()
    await until(lambda: process.status() == psutil.STATUS_STOPPED)


async def until(condition: Any, seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        # Other processes cannot set an event.
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def only(**settings: Any) -> AsyncIterator[tuple[Sandbox, list[psutil.Process]]]:
    """A sandbox of its own, and its workers' processes."""
    before = set(workers())
    async with Sandbox(**settings) as sandbox:
        yield sandbox, [worker for worker in workers() if worker not in before]


@asynccontextmanager
async def endless_call_in(sandbox: Sandbox) -> AsyncIterator[None]:
    """Keeps a worker busy for good while the block runs."""
    await sandbox.prepare(ENDLESS.digest, ENDLESS.wasm, ABI)
    running = asyncio.create_task(run(sandbox, ENDLESS, limits=Limits(timeout_ms=60_000)))
    await asyncio.sleep(0.05)
    yield
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# Input and output


@pytest.mark.parametrize(
    "text",
    ["{}", '{"b":1, "a":1.10}', "18446744073709551616", r'"\u0000\ud800"', '"😀é"', " [ 1 ] ", "[" * 512 + "]" * 512],
)
async def test_json_passes_through_untouched(shared: Sandbox, text: str) -> None:
    outcome = await run(shared, ECHO, text)

    assert outcome.error is None
    assert outcome.output == text.encode()


async def test_a_megabyte_passes_in_both_directions(shared: Sandbox) -> None:
    text = '"' + "é" * 500_000 + '"'

    outcome = await run(shared, ECHO, text)

    assert outcome.output == text.encode()


async def test_an_outcome_tells_time_and_memory(shared: Sandbox) -> None:
    outcome = await run(shared, guest("(drop (memory.grow (i32.const 2))) (local.get 0)"))

    assert outcome.memory_peak_bytes == 3 * 65_536
    assert 0 < outcome.duration_us < 5_000_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1 column 1"),
        ("nope", "line 1 column 1"),
        ("[1,\n2,]", "line 2 column"),
        ("NaN", "NaN is no JSON value"),
        ('{"a":1}x', "line 1 column 8"),
        ("[" * 513 + "]" * 513, "nested deeper than 512"),
        ("\ufeff1", "not valid JSON"),
    ],
)
async def test_what_is_not_json_is_an_invalid_output_with_its_place(shared: Sandbox, text: str, words: str) -> None:
    kind, message = fault(await run(shared, answering(text)))

    assert kind is ErrorType.INVALID_OUTPUT
    assert words in message


async def test_half_of_a_surrogate_pair_is_an_invalid_output(shared: Sandbox) -> None:
    lone = '"'.encode("utf-16-le") + b"\x00\xd8" + '"'.encode("utf-16-le")

    kind, message = fault(await run(shared, guest("(i32.const 1024)", string_at(1024, lone))))

    assert kind is ErrorType.INVALID_OUTPUT
    assert "surrogate" in message


@pytest.mark.parametrize("address", [0, 1, 3, -1, -4, -6, 65_536, 65_540, 0x7FFF_FFFF, -0x8000_0000])
@pytest.mark.parametrize("filled", [False, True])
async def test_a_result_from_anywhere_is_a_fault_of_the_guest(shared: Sandbox, address: int, filled: bool) -> None:
    fill = "(memory.fill (i32.const 0) (i32.const 0xFF) (i32.const 65536))" if filled else ""

    kind, _ = fault(await run(shared, guest(f"{fill} (i32.const {address})")))

    assert kind in {ErrorType.INVALID_OUTPUT, ErrorType.OUTPUT_TOO_LARGE}


async def test_a_string_that_ends_beyond_memory_is_invalid_and_one_that_ends_with_it_is_not(shared: Sandbox) -> None:
    last = "(i32.store (i32.const 65532) (i32.const {size})) (i32.const 65536)"
    beyond = await run(shared, guest(last.format(size=2)))
    within = await run(shared, guest("(i32.const 65534)", string_at(65_534, "1".encode("utf-16-le"))))

    assert fault(beyond)[0] is ErrorType.INVALID_OUTPUT
    assert within.output == b"1"


@settings(max_examples=300, deadline=None)
@given(ADDRESSES, SIZES, BYTES)
@example(1024, 2, "1".encode("utf-16-le"))
@example(2**32 - 1, 2**32 - 1, b"")
@example(1024, 0, b"")
async def test_whatever_string_a_guest_answers_with_is_json_or_its_own_fault(shared: Sandbox, address: int, size: int, data: bytes) -> None:
    outcome = await run(shared, OBEDIENT, order(address, size, data))

    if outcome.output is None:
        kind, message = fault(outcome)
        assert kind in {ErrorType.INVALID_OUTPUT, ErrorType.OUTPUT_TOO_LARGE}
        assert re.match(r"the function returned |the output is ", message)
        assert message.isprintable()
    else:
        json.loads(outcome.output)


@settings(max_examples=200, deadline=None)
@given(BYTES)
@example(b"\0\xd8\0\xd8")
@example("\0\x1b[31m\r\n\u2028".encode("utf-16-le"))
async def test_whatever_bytes_a_guest_prints_are_one_text_and_an_answer_only_when_they_are_json(shared: Sandbox, data: bytes) -> None:
    answer: bytes | None = None
    with suppress(ValueError):
        jsontext.check(text := data.decode("utf-16-le").encode())
        answer = text

    outcome = await run(shared, OBEDIENT, order(1024, len(data), data))

    assert [line.message for line in outcome.logs] == [data.decode("utf-16-le", errors="replace")]
    assert not outcome.logs_truncated
    assert outcome.output == answer


@settings(max_examples=200, deadline=None)
@given(ADDRESSES, SIZES, st.integers(0, 100))
async def test_whatever_string_a_guest_prints_its_bounds_hold(shared: Sandbox, address: int, size: int, max_log_bytes: int) -> None:
    outcome = await run(shared, OBEDIENT, order(address, size), limits=Limits(max_log_bytes=max_log_bytes))

    assert len(outcome.logs) <= 1
    assert sum(len(line.message.encode()) for line in outcome.logs) <= max_log_bytes


async def test_the_size_of_an_output_is_judged_in_utf8(shared: Sandbox) -> None:
    exact = await run(shared, answering('"éé"'), limits=Limits(max_output_bytes=6))
    above = await run(shared, answering('"éé"'), limits=Limits(max_output_bytes=5))

    assert exact.output == '"éé"'.encode()
    assert fault(above) == (ErrorType.OUTPUT_TOO_LARGE, "the output is larger than 5 bytes")


async def test_an_output_that_claims_a_gigabyte_is_too_large_before_it_is_copied(shared: Sandbox) -> None:
    claim = guest("(i32.store (i32.const 1020) (i32.const 0x40000000)) (i32.const 1024)")

    assert fault(await run(shared, claim))[0] is ErrorType.OUTPUT_TOO_LARGE


@pytest.mark.parametrize("address", [-4, 65_535, 0x7FFF_FFFF])
async def test_an_allocator_that_points_outside_of_memory_is_a_trap(shared: Sandbox, address: int) -> None:
    hostile = module(
        f"""(module (memory (export "memory") 1) (func (export "__pin") (param i32) (result i32) (local.get 0))
        (func (export "__new") (param i32 i32) (result i32) (i32.const {address}))
        (func (export "handle") (param i32) (result i32) (local.get 0)))"""
    )

    assert fault(await run(shared, hostile))[0] is ErrorType.TRAP


async def test_a_guest_without_any_memory_is_a_fault_and_no_crash(shared: Sandbox) -> None:
    empty = guest("(i32.const 1024)", memory="0 0")

    assert fault(await run(shared, empty))[0] is ErrorType.TRAP


# Time


@pytest.mark.parametrize(
    "endless",
    [
        ENDLESS,
        guest("(local.get 0)", "(func $start (loop (br 0))) (start $start)"),
        guest("(loop (call $console.log (i32.const 0)) (br 0)) (unreachable)", imports=("console.log",)),
        guest("(loop (drop (call $Date.now)) (br 0)) (unreachable)", imports=("Date.now",)),
        guest("(loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 33554432)) (br 0)) (unreachable)", memory="512"),
        guest("(loop (call $console.log (i32.const 1024)) (br 0)) (unreachable)", string_at(1024, b""), imports=("console.log",)),
    ],
    ids=["handle", "start", "host calls", "clock", "memory.fill", "empty lines"],
)
async def test_what_does_not_end_is_stopped_at_its_deadline(shared: Sandbox, endless: Module) -> None:
    outcome = await run(shared, endless, limits=SHORT)

    assert fault(outcome) == (ErrorType.TIMEOUT, "the function ran longer than its limit of 200 ms")
    assert 190_000 <= outcome.duration_us < 1_500_000
    assert (await run(shared, ECHO)).output == b"{}"


async def test_a_deadline_never_hits_the_call_after(shared: Sandbox) -> None:
    await shared.prepare(ENDLESS.digest, ENDLESS.wasm, ABI)
    await shared.prepare(ECHO.digest, ECHO.wasm, ABI)
    async with shared.reserve() as slot:
        for _ in range(20):
            late = await slot.run(call(ENDLESS, limits=Limits(timeout_ms=7)))
            quick = await slot.run(call(ECHO, "1", Limits(timeout_ms=1000)))

            assert fault(late)[0] is ErrorType.TIMEOUT
            assert quick.output == b"1"


# Stack, memory, traps


@pytest.mark.parametrize(
    "recursive",
    [
        guest(
            "(call $deeper (i32.const 1))", "(func $deeper (param i32) (result i32) (i32.add (call $deeper (local.get 0)) (i32.const 1)))"
        ),
        guest(
            "(call $deeper (i32.const 1))",
            """(func $deeper (param i32) (result i32)
              (call $console.log (i32.const 0)) (i32.add (call $deeper (local.get 0)) (i32.const 1)))""",
            imports=("console.log",),
        ),
        guest("(local.get 0)", "(func $start (call $start) (call $start)) (start $start)"),
    ],
    ids=["alone", "through host calls", "start"],
)
async def test_endless_recursion_overflows_the_guests_stack_and_nothing_else(recursive: Module) -> None:
    async with only(workers=1) as (sandbox, (worker,)):
        outcome = await run(sandbox, recursive)

        assert fault(outcome)[0] is ErrorType.STACK_OVERFLOW
        assert outcome.error is not None
        assert len(outcome.error.stack) <= 16
        assert worker.is_running()


async def test_memory_and_tables_do_not_grow_past_their_limits(shared: Sandbox) -> None:
    greedy = guest(
        """(if (i32.ne (memory.grow (i32.const 16)) (i32.const -1)) (then (unreachable)))
        (if (i32.ne (table.grow (ref.null func) (i32.const 1000000)) (i32.const -1)) (then (unreachable)))
        (loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (local.get 0)""",
        "(table 0 funcref)",
    )

    outcome = await run(shared, greedy, limits=Limits(memory_mb=1))

    assert outcome.output == b"{}"
    assert outcome.memory_peak_bytes == 1 << 20


@pytest.mark.parametrize("memory", ["64", "1024"])
async def test_a_worker_needs_no_more_memory_than_its_guest_may_have(memory: str) -> None:
    """Every page is touched, again and again, and growth goes on when it is refused."""
    greedy = guest(
        """(loop $again
          (drop (memory.grow (i32.const 64)))
          (memory.fill (i32.const 0) (i32.const 1) (i32.shl (memory.size) (i32.const 16)))
          (drop (table.grow (ref.null func) (i32.const 1000)))
          (br_if $again (i32.lt_u (local.tee 1 (i32.add (local.get 1) (i32.const 1))) (i32.const 40))))
        (drop (memory.grow (i32.const 10000))) (unreachable)""",
        "(table 0 funcref)",
        memory=memory,
    )
    async with only(workers=1) as (sandbox, (worker,)):
        await run(sandbox, ECHO)
        before = highest_resident(worker)

        for _ in range(3):
            outcome = await run(sandbox, greedy, limits=Limits(memory_mb=64))

        assert outcome.memory_peak_bytes == 64 << 20
        assert 60 << 20 < highest_resident(worker) - before < (64 + 16) << 20


async def test_memory_above_the_limit_from_the_start_is_out_of_memory(shared: Sandbox) -> None:
    outcome = await run(shared, guest("(local.get 0)", memory="17"), limits=Limits(memory_mb=1))

    assert fault(outcome) == (ErrorType.OUT_OF_MEMORY, "out of memory: the function's limit is 1 MiB")


@pytest.mark.parametrize("allocator", ["~lib/rt/tlsf.ts", "~lib/rt/itcms.ts"])
async def test_an_allocator_that_aborts_is_out_of_memory(shared: Sandbox, allocator: str) -> None:
    body = "(call $abort (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 1)) (unreachable)"

    outcome = await run(shared, guest(body, imports=("abort",), texts={1024: allocator}))

    assert fault(outcome) == (ErrorType.OUT_OF_MEMORY, "out of memory: the function's limit is 64 MiB")


async def test_tables_that_are_too_large_from_the_start_are_a_trap(shared: Sandbox) -> None:
    kind, message = fault(await run(shared, guest("(local.get 0)", "(table 10000000 funcref)")))

    assert kind is ErrorType.TRAP
    assert "tables" in message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("(unreachable)", "unreachable executed"),
        ("(i32.div_s (i32.const 1) (i32.const 0))", "integer divide by zero"),
        ("(i32.div_s (i32.const 0x80000000) (i32.const -1))", "integer overflow"),
        ("(i32.load (i32.const -1))", "out of bounds memory access"),
        ("(i32.trunc_f64_s (f64.const nan))", "conversion of a float that no integer can hold"),
        ("(call_indirect (result i32) (i32.const 0))", "indirect call to a null table entry"),
        ("(call_indirect (result i32) (i32.const 9))", "out of bounds table access"),
    ],
)
async def test_a_trap_is_told_in_plain_words(shared: Sandbox, body: str, words: str) -> None:
    assert fault(await run(shared, guest(body, "(table 1 funcref)"))) == (ErrorType.TRAP, words)


async def test_hostile_function_names_stay_harmless_in_a_trap(shared: Sandbox) -> None:
    name = r"evil\0a\1b[31m\e2\80\ae" + "x" * 100_000
    outcome = await run(shared, guest('(call $"' + name + '") (local.get 0)', '(func $"' + name + '" (unreachable))'))

    assert outcome.error is not None
    assert outcome.error.message == "unreachable executed"
    assert outcome.error.stack
    assert all(frame.function.isprintable() and len(frame.function) < 1000 for frame in outcome.error.stack)


# What the host gives


async def test_abort_carries_the_users_message_and_place(shared: Sandbox) -> None:
    body = "(call $abort (i32.const 1024) (i32.const 2048) (i32.const 12) (i32.const 5)) (unreachable)"

    outcome = await run(shared, guest(body, imports=("abort",), texts={1024: "no such 😀", 2048: "function.ts"}))

    assert fault(outcome) == (ErrorType.ABORT, "no such 😀")
    assert outcome.error is not None
    assert [(frame.file, frame.line, frame.column) for frame in outcome.error.stack] == [("function.ts", 12, 5)]


async def test_abort_without_a_message_says_abort(shared: Sandbox) -> None:
    body = "(call $abort (i32.const 0) (i32.const -5) (i32.const -1) (i32.const 0)) (unreachable)"

    assert fault(await run(shared, guest(body, imports=("abort",)))) == (ErrorType.ABORT, "abort")


async def test_the_stack_check_of_the_compiler_is_a_stack_overflow(shared: Sandbox) -> None:
    body = "(call $abort (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 1)) (unreachable)"

    assert fault(await run(shared, guest(body, imports=("abort",))))[0] is ErrorType.STACK_OVERFLOW


@pytest.mark.parametrize("code", [0, 3, -1])
async def test_leaving_the_process_is_no_answer(shared: Sandbox, code: int) -> None:
    body = f"(call $process.exit (i32.const {code})) (local.get 0)"

    assert fault(await run(shared, guest(body, imports=("process.exit",)))) == (
        ErrorType.EXIT,
        f"the function called process.exit({code})",
    )


async def test_everything_printed_has_its_level(shared: Sandbox) -> None:
    names = ("console.log", "console.info", "console.debug", "console.warn", "console.error")
    prints = "".join(f"(call ${name} (i32.const 1024))" for name in names)
    more = """(call $trace (i32.const 1024) (i32.const 3) (f64.const 1) (f64.const 1.5) (f64.const nan) (f64.const 4) (f64.const 5))
        (call $console.assert (i32.const 0) (i32.const 1024)) (call $console.assert (i32.const 1) (i32.const 1024))"""
    printing = guest(f"{prints} {more} (local.get 0)", imports=(*names, "trace", "console.assert"), texts={1024: "hé\n"})

    outcome = await run(shared, printing)

    assert [(line.level, line.message) for line in outcome.logs] == [
        (Level.INFO, "hé\n"),
        (Level.INFO, "hé\n"),
        (Level.DEBUG, "hé\n"),
        (Level.WARN, "hé\n"),
        (Level.ERROR, "hé\n"),
        (Level.DEBUG, "hé\n 1, 1.5, NaN"),
        (Level.ERROR, "Assertion failed: hé\n"),
    ]
    assert not outcome.logs_truncated


async def test_timers_print_what_they_measured(shared: Sandbox) -> None:
    names = ("console.time", "console.timeLog", "console.timeEnd")
    body = "".join(f"(call ${name} (i32.const 1024))" for name in (*names, "console.timeEnd"))

    outcome = await run(shared, guest(f"{body} (local.get 0)", imports=names, texts={1024: "t"}))

    first, second, third = outcome.logs
    assert first.message.startswith("t: ")
    assert second.message.endswith("ms")
    assert third == type(third)(Level.WARN, "Timer 't' does not exist")


async def test_logs_survive_a_fault(shared: Sandbox) -> None:
    body = "(call $console.log (i32.const 1024)) (unreachable)"

    outcome = await run(shared, guest(body, imports=("console.log",), texts={1024: "last words"}))

    assert [line.message for line in outcome.logs] == ["last words"]


async def test_logs_end_at_256_lines(shared: Sandbox) -> None:
    body = """(local.set 1 (i32.const 1000))
        (loop (call $console.log (i32.const 1024)) (br_if 0 (local.tee 1 (i32.sub (local.get 1) (i32.const 1))))) (local.get 0)"""

    outcome = await run(shared, guest(body, imports=("console.log",), texts={1024: ""}))

    assert outcome.output == b"{}"
    assert len(outcome.logs) == 256
    assert outcome.logs_truncated


async def test_logs_end_at_their_bytes_in_whole_characters(shared: Sandbox) -> None:
    body = "(call $console.log (i32.const 1024)) (call $console.log (i32.const 1024)) (local.get 0)"

    outcome = await run(shared, guest(body, imports=("console.log",), texts={1024: "éé"}), limits=Limits(max_log_bytes=7))

    assert [line.message for line in outcome.logs] == ["éé", "é"]
    assert outcome.logs_truncated


@pytest.mark.parametrize(
    "body",
    [
        "(call $console.log (i32.const -3))",
        "(call $console.log (i32.const 2))",
        "(call $console.log (i32.const 65537))",
        "(i32.store (i32.const 1020) (i32.const 0x40000000)) (call $console.log (i32.const 1024))",
        "(memory.fill (i32.const 0) (i32.const 0xD8) (i32.const 65536)) (call $console.log (i32.const 1024))",
        """(i32.store (i32.const 1020) (i32.const 7)) (i64.store (i32.const 1024) (i64.const 0x0A1BD8FFD8000000))
        (call $console.log (i32.const 1024))""",
    ],
)
async def test_broken_strings_in_logs_become_replacement_characters(shared: Sandbox, body: str) -> None:
    outcome = await run(shared, guest(f"{body} (i32.const 2048)", imports=("console.log",), texts={2048: "1"}))

    assert outcome.output == b"1" or fault(outcome)[0] in {ErrorType.INVALID_OUTPUT, ErrorType.OUTPUT_TOO_LARGE}
    assert "".join(line.message for line in outcome.logs).encode()


async def test_the_clock_moves_in_whole_milliseconds_and_seeds_differ(shared: Sandbox) -> None:
    body = """(call $trace (i32.const 1024) (i32.const 3) (call $Date.now) (call $performance.now) (call $seed) (f64.const 0) (f64.const 0))
        (local.get 0)"""
    asking = guest(body, imports=("trace", "Date.now", "performance.now", "seed"), texts={1024: ""})

    seen = [(await run(shared, asking)).logs[0].message.strip().split(", ") for _ in range(2)]

    assert abs(float(seen[0][0]) / 1000 - time.time()) < 60
    assert all(float(number).is_integer() for row in seen for number in row)
    assert seen[0][2] != seen[1][2]


# One call and the next


async def test_two_guests_never_see_each_others_outcome(shared: Sandbox) -> None:
    aborting = guest(
        "(call $abort (i32.const 1024) (i32.const 0) (i32.const 0) (i32.const 0)) (unreachable)",
        imports=("abort",),
        texts={1024: "secret of the one"},
    )
    for each in (aborting, TRAPPING):
        await shared.prepare(each.digest, each.wasm, ABI)

    async with shared.reserve() as slot:
        for _ in range(300):
            assert fault(await slot.run(call(aborting))) == (ErrorType.ABORT, "secret of the one")
            assert fault(await slot.run(call(TRAPPING))) == (ErrorType.TRAP, "unreachable executed")


async def test_memory_tables_and_globals_are_fresh_for_every_call(shared: Sandbox) -> None:
    staining = guest(
        "(drop (memory.grow (i32.const 4))) (memory.fill (i32.const 0) (i32.const 0xAB) (i32.const 262144)) (unreachable)",
        string_at(4096, b"data"),
    )
    looking = guest(
        """(if (global.get $used) (then (unreachable))) (global.set $used (i32.const 1))
        (if (i32.eqz (ref.is_null (table.get (i32.const 0)))) (then (unreachable))) (table.set (i32.const 0) (ref.func $f))
        (drop (memory.grow (i32.const 3))) (local.set 1 (i32.const 40000))
        (loop (if (i32.load (local.get 1)) (then (unreachable)))
          (br_if 0 (i32.lt_u (local.tee 1 (i32.add (local.get 1) (i32.const 4))) (i32.const 262144)))) (local.get 0)""",
        "(global $used (mut i32) (i32.const 0)) (table 1 funcref) (func $f) (elem declare func $f)",
    )
    for each in (staining, looking):
        await shared.prepare(each.digest, each.wasm, ABI)

    async with shared.reserve() as slot:
        for _ in range(100):
            assert fault(await slot.run(call(staining)))[0] is ErrorType.TRAP
            assert (await slot.run(call(looking, "1"))).output == b"1"


async def test_a_thousand_faults_leave_a_worker_as_it_was() -> None:
    async with only(workers=1) as (sandbox, (worker,)):
        await run(sandbox, TRAPPING)
        before = used(worker)

        async with sandbox.reserve() as slot:
            for _ in range(1000):
                await slot.run(call(TRAPPING))

        assert used(worker) == before


# What is refused


BEYOND_THE_CORE = [
    '(module (memory (export "memory") 1 1 shared))',
    '(module (memory (export "memory") i64 1))',
    '(module (memory (export "memory") 1) (memory 1))',
    "(module (type (struct)))",
    "(module (tag))",
    "(module (func (return_call 0)))",
    "(module (func (param v128)))",
    '(module (func (export "handle") (param v128) (result v128) (local.get 0)))',
    "(module (func (param externref)))",
    '(module (memory (export "memory") 1 (pagesize 1)))',
    "(module (func (result i64 i64) (i64.add128 (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1))))",
    '(module (import "env" "g" (global v128)))',
    '(module (global (export "g") v128 (v128.const i64x2 0 0)))',
    '(module (func (export "handle") (param (ref func))))',
    "(module (type $f (func)) (func (param (ref null $f)) (call_ref $f (local.get 0))))",
    '(module (tag (export "t") (param i32)))',
    '(module (import "env" "f" (func (param externref))))',
]


@pytest.mark.parametrize("wat", BEYOND_THE_CORE)
async def test_proposals_outside_of_the_core_are_unloadable(shared: Sandbox, wat: str) -> None:
    refused = module(wat)

    with pytest.raises(Unloadable, match=r"failed to (parse|compile)"):
        await shared.prepare(refused.digest, refused.wasm, ABI)

    assert (await run(shared, ECHO)).output == b"{}"


async def test_no_process_dies_of_a_module_that_is_refused() -> None:
    before = set(processes())
    async with Sandbox(workers=1, max_workers=1) as sandbox:
        mine = set(processes()) - before
        for refused in map(module, BEYOND_THE_CORE):
            with pytest.raises(Unloadable):
                await sandbox.prepare(refused.digest, refused.wasm, ABI)
        await run(sandbox, ECHO)

        assert set(processes()) - before == mine


@pytest.mark.parametrize(
    "wasm",
    [b"", b"(module)", b"\0asm", b"\0asm\1\0\0\0\xff", b"\0asm\x0d\0\1\0", os.urandom(100)],
    ids=["nothing", "text", "a beginning", "half a section", "a component", "noise"],
)
async def test_what_is_no_module_is_unloadable(shared: Sandbox, wasm: bytes) -> None:
    with pytest.raises(Unloadable):
        await shared.prepare("0" * 64, wasm, ABI)


@pytest.mark.parametrize(
    ("imported", "words"),
    [
        ('(import "env" "fetch" (func))', "fetch"),
        ('(import "env" "console.log" (func (param i64)))', "console.log"),
        ('(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))', "fd_write"),
        ('(import "env" "memory" (memory 1))', "memory"),
        ('(import "env" "x\\0a\\1b[31m" (func))', "x"),
    ],
)
async def test_an_import_that_nobody_gives_is_unloadable_by_name(shared: Sandbox, imported: str, words: str) -> None:
    asking = module(
        f"""(module {imported} {'(memory (export "memory") 1)' if "memory" not in imported else '(export "memory" (memory 0))'}
        (func (export "__new") (param i32 i32) (result i32) (i32.const 0)) (func (export "__pin") (param i32) (result i32) (i32.const 0))
        (func (export "handle") (param i32) (result i32) (i32.const 0)))"""
    )

    with pytest.raises(Unloadable, match=words) as refusal:
        await shared.prepare(asking.digest, asking.wasm, ABI)

    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    "handle",
    [
        "(func (param i64) (result i32) (i32.const 0))",
        "(func (param i32))",
        "(func (param i32) (result i32 i32) (local.get 0) (local.get 0))",
        "(global i32 (i32.const 0))",
    ],
)
async def test_a_module_without_a_fitting_handle_is_unloadable(shared: Sandbox, handle: str) -> None:
    kind, rest = handle[1:].split(" ", 1)
    misfit = module(
        f"""(module (memory (export "memory") 1) (func (export "__new") (param i32 i32) (result i32) (i32.const 0))
        (func (export "__pin") (param i32) (result i32) (i32.const 0)) ({kind} (export "handle") {rest})"""
    )

    with pytest.raises(Unloadable, match=r"does not export handle\(i32\) -> \(i32\)"):
        await shared.prepare(misfit.digest, misfit.wasm, ABI)


async def test_a_module_that_is_slow_to_compile_is_unloadable_and_stalls_no_worker() -> None:
    async with only(workers=1, compile_seconds=0.3) as (sandbox, _):
        await sandbox.prepare(ECHO.digest, ECHO.wasm, ABI)
        preparing = asyncio.create_task(sandbox.prepare(HEAVY.digest, HEAVY.wasm, ABI))
        await asyncio.sleep(0.05)

        assert (await run(sandbox, ECHO)).output == b"{}"
        with pytest.raises(Unloadable, match=r"longer than 0\.3 s"):
            await preparing
        assert (await run(sandbox, answering("1"))).output == b"1"


async def test_a_module_that_takes_too_much_memory_to_compile_is_unloadable() -> None:
    async with only(workers=1, compile_memory_mb=64) as (sandbox, _):
        with pytest.raises(Unloadable, match="more than 64 MiB"):
            await sandbox.prepare(HEAVY.digest, HEAVY.wasm, ABI)

        assert (await run(sandbox, ECHO)).output == b"{}"


# Processes that die


async def test_a_preparer_that_was_killed_is_started_again() -> None:
    async with only(workers=1) as (sandbox, _):
        preparer = processes("preparer")[-1]
        preparer.kill()
        preparer.wait()

        assert (await run(sandbox, ECHO)).output == b"{}"


@pytest.mark.parametrize("what", [signal.SIGKILL, signal.SIGABRT])
async def test_a_worker_that_dies_takes_only_its_own_call_with_it(what: signal.Signals) -> None:
    async with only(workers=2, max_workers=2) as (sandbox, before):
        await sandbox.prepare(ENDLESS.digest, ENDLESS.wasm, ABI)
        async with sandbox.reserve() as slot, sandbox.reserve() as other:
            running = asyncio.create_task(slot.run(call(ENDLESS)))
            busy = await busiest(before)
            busy.send_signal(what)

            assert fault(await running) == (ErrorType.PLATFORM, "the worker running this call died")
            assert fault(await other.run(call(ENDLESS, limits=SHORT)))[0] is ErrorType.TIMEOUT
            assert fault(await slot.run(call(ENDLESS, limits=SHORT)))[0] is ErrorType.TIMEOUT
        assert (await run(sandbox, ECHO)).output == b"{}"
        assert not busy.is_running()


async def test_a_worker_that_dies_while_idle_is_replaced_with_its_code() -> None:
    async with only(workers=1) as (sandbox, (worker,)):
        await run(sandbox, ECHO)
        worker.kill()
        await until(lambda: not sandbox.has_room)
        await until(lambda: sandbox.has_room)

        await asyncio.sleep(0.2)
        outcome = await run(sandbox, ECHO)

        assert outcome.output == b"{}"
        assert not outcome.cold_start


async def test_a_worker_that_stands_still_is_killed_and_its_call_fails() -> None:
    async with only(workers=1) as (sandbox, (worker,)):
        await run(sandbox, ECHO)
        await suspend(worker)

        outcome = await run(sandbox, ECHO, limits=SHORT)

        assert fault(outcome) == (ErrorType.PLATFORM, "the worker running this call died")
        assert (await run(sandbox, ECHO)).output == b"{}"


async def test_a_worker_whose_watch_has_ended_ends_with_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.executor.sandbox.sandbox._PACKAGE", "tests.support.mortal")

    async with Sandbox(workers=1, max_workers=1) as sandbox:
        await sandbox.prepare(ENDLESS.digest, ENDLESS.wasm, ABI)

        async with asyncio.timeout(10):
            outcome = await run(sandbox, ENDLESS, limits=SHORT)

        assert fault(outcome) == (ErrorType.PLATFORM, "the worker running this call died")
        assert (await run(sandbox, ECHO)).output == b"{}"


async def test_a_worker_that_closes_its_socket_is_as_good_as_dead() -> None:
    async with only(workers=1) as (sandbox, (worker,)):
        worker.terminate()
        await until(lambda: not worker.is_running())

        assert (await run(sandbox, ECHO)).output == b"{}"


async def test_processes_that_cannot_start_are_told_with_what_they_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.executor.sandbox.sandbox._PACKAGE", "services.executor.nowhere")

    with pytest.raises(StartFailed, match="No module named"):
        async with Sandbox(workers=1):
            pass

    assert not [process for process in processes() if "nowhere" in command_line(process)]


# Callers that go away


@pytest.mark.parametrize("endless", [ENDLESS, SLEEPING], ids=["computing", "sleeping"])
async def test_a_cancelled_call_stops_its_guest_and_keeps_its_worker(endless: Module) -> None:
    async with only(workers=1, max_workers=1) as (sandbox, (worker,)):
        await sandbox.prepare(endless.digest, endless.wasm, endless.abi)

        for _ in range(5):
            running = asyncio.create_task(run(sandbox, endless, limits=Limits(timeout_ms=60_000)))
            await asyncio.sleep(0.05)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            async with asyncio.timeout(5):
                assert (await run(sandbox, ECHO)).output == b"{}"

        assert worker.is_running()


async def test_a_worker_that_has_obeyed_is_kept_also_when_its_answer_is_read_late() -> None:
    async with only(workers=1, max_workers=1) as (sandbox, (worker,)):
        await sandbox.prepare(ENDLESS.digest, ENDLESS.wasm, ABI)
        running = asyncio.create_task(run(sandbox, ENDLESS, limits=Limits(timeout_ms=60_000)))
        await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.sleep(0.001)
        # The loop stands still past the time that the worker has to obey.
        time.sleep(0.5)  # noqa: ASYNC251

        assert (await run(sandbox, ECHO)).output == b"{}"
        assert worker.is_running()


async def test_a_cancelled_call_in_a_worker_that_does_not_obey_costs_that_worker() -> None:
    async with only(workers=1, max_workers=1) as (sandbox, (worker,)):
        await sandbox.prepare(ENDLESS.digest, ENDLESS.wasm, ABI)
        running = asyncio.create_task(run(sandbox, ENDLESS, limits=Limits(timeout_ms=60_000)))
        await asyncio.sleep(0.05)
        await suspend(worker)
        running.cancel()

        async with asyncio.timeout(10):
            assert (await run(sandbox, ECHO)).output == b"{}"
        assert not worker.is_running()


async def test_a_slot_can_be_used_after_one_of_its_calls_was_cancelled() -> None:
    async with only(workers=1) as (sandbox, _):
        for each in (ECHO, ENDLESS):
            await sandbox.prepare(each.digest, each.wasm, ABI)
        async with sandbox.reserve() as slot:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await slot.run(call(ENDLESS, limits=Limits(timeout_ms=60_000)))

            assert (await slot.run(call(ECHO))).output == b"{}"


# How many


async def test_spare_workers_come_when_all_are_busy_and_go_when_they_are_not_needed() -> None:
    async with only(workers=1, max_workers=3, spare_seconds=0.2) as (sandbox, before):
        others = set(workers()) - set(before)
        await sandbox.prepare(ENDLESS.digest, ENDLESS.wasm, ABI)

        outcomes = await asyncio.gather(*(run(sandbox, ENDLESS, limits=Limits(timeout_ms=2000)) for _ in range(3)))

        assert {fault(outcome)[0] for outcome in outcomes} == {ErrorType.TIMEOUT}
        await until(lambda: len(set(workers()) - others) == 1)
        assert (await run(sandbox, ECHO)).output == b"{}"


async def test_a_cheap_call_does_not_wait_behind_endless_ones() -> None:
    async with only(workers=1, max_workers=3) as (sandbox, _):
        await sandbox.prepare(ENDLESS.digest, ENDLESS.wasm, ABI)
        await sandbox.prepare(ECHO.digest, ECHO.wasm, ABI)
        loops = [asyncio.create_task(run(sandbox, ENDLESS, limits=Limits(timeout_ms=20_000))) for _ in range(2)]
        await asyncio.sleep(0.05)

        async with asyncio.timeout(10):
            assert (await run(sandbox, ECHO)).output == b"{}"

        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)


async def test_many_calls_in_one_worker_each_have_their_own_outcome() -> None:
    async with only(workers=1, max_workers=1) as (sandbox, _):
        outcomes = await asyncio.gather(*(run(sandbox, ECHO, str(number)) for number in range(200)))

        assert [outcome.output for outcome in outcomes] == [str(number).encode() for number in range(200)]


async def test_calls_that_are_with_a_worker_already_do_not_wait_behind_one_that_runs_long() -> None:
    async with only(workers=1, max_workers=2) as (sandbox, _):
        for each in (ECHO, ENDLESS):
            await sandbox.prepare(each.digest, each.wasm, ABI)
        endless = asyncio.create_task(run(sandbox, ENDLESS, limits=Limits(timeout_ms=60_000)))
        cheap = [asyncio.create_task(run(sandbox, ECHO, str(number))) for number in range(40)]

        async with asyncio.timeout(20):
            outcomes = await asyncio.gather(*cheap)

        assert [outcome.output for outcome in outcomes] == [str(number).encode() for number in range(40)]
        assert not endless.done()
        endless.cancel()
        await asyncio.gather(endless, return_exceptions=True)


async def test_twice_as_many_endless_calls_as_workers_leave_room_for_cheap_ones() -> None:
    async with only(workers=2, max_workers=6) as (sandbox, _):
        for each in (ECHO, ENDLESS):
            await sandbox.prepare(each.digest, each.wasm, ABI)
        loops = [asyncio.create_task(run(sandbox, ENDLESS, limits=Limits(timeout_ms=60_000))) for _ in range(4)]

        async with asyncio.timeout(20):
            for number in range(50):
                assert (await run(sandbox, ECHO, str(number))).output == str(number).encode()

        assert not any(loop.done() for loop in loops)
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may take niceness back")
async def test_a_guest_that_runs_long_gives_way_to_others_and_the_next_does_not() -> None:
    async with only(workers=1, max_workers=2) as (sandbox, (worker,)):
        async with endless_call_in(sandbox):
            await until(lambda: worker.nice() == 10)
            if (autogroup := Path(f"/proc/{worker.pid}/autogroup")).exists():
                await until(lambda: autogroup.read_text().endswith(" nice 10\n"))

        await until(lambda: worker.nice() == 0)
        assert {os.getpriority(os.PRIO_PROCESS, thread.id) for thread in worker.threads()} == {0}


async def test_calls_that_were_with_a_worker_that_died_are_run_in_another() -> None:
    async with only(workers=1, max_workers=1) as (sandbox, (worker,)):
        await run(sandbox, ECHO)
        await suspend(worker)
        running = [asyncio.create_task(run(sandbox, ECHO, str(number))) for number in range(5)]
        await asyncio.sleep(0.05)
        worker.kill()

        assert [outcome.output for outcome in await asyncio.gather(*running)] == [str(number).encode() for number in range(5)]


@pytest.mark.parametrize("others", [0, 5])
async def test_a_call_that_kills_whichever_worker_runs_it_fails_and_costs_no_other_its_outcome(
    others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.executor.sandbox.sandbox._PACKAGE", "tests.support.mortal")

    async with Sandbox(workers=1, max_workers=1) as sandbox:
        await run(sandbox, ECHO)
        running = [asyncio.create_task(run(sandbox, ECHO, text)) for text in (POISON, *map(str, range(others)))]

        async with asyncio.timeout(20):
            poisoned, *outcomes = await asyncio.gather(*running)

        assert fault(poisoned) == (ErrorType.PLATFORM, "the worker running this call died")
        assert [outcome.output for outcome in outcomes] == [str(number).encode() for number in range(others)]


async def test_a_module_that_kills_worker_after_worker_is_kept_out_and_may_try_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.executor.sandbox.sandbox._PACKAGE", "tests.support.mortal")

    async with Sandbox(workers=1, max_workers=1, quarantine_seconds=5) as sandbox:
        await run(sandbox, ECHO)
        with capture_logs() as told:
            outcomes = await asyncio.gather(*(run(sandbox, ECHO, POISON) for _ in range(10)), return_exceptions=True)

        # One death of all that shared a worker, and those of three that had one each to themselves.
        assert [line["event"] for line in told].count("worker_died") == 4
        assert [fault(outcome) for outcome in outcomes if isinstance(outcome, Outcome)] == [
            (ErrorType.PLATFORM, "the worker running this call died")
        ] * 3
        assert [type(outcome) for outcome in outcomes].count(Quarantined) == 7
        assert 0 < sandbox.quarantined_seconds(ECHO.digest) <= 5
        other = answering("2")
        assert (await run(sandbox, other)).output == b"2"
        assert sandbox.quarantined_seconds(other.digest) == 0

        await until(lambda: not sandbox.quarantined_seconds(ECHO.digest))
        assert (await run(sandbox, ECHO)).output == b"{}"


async def test_a_module_whose_workers_die_now_and_then_is_not_kept_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.executor.sandbox.sandbox._PACKAGE", "tests.support.mortal")

    async with Sandbox(workers=1, max_workers=1) as sandbox:
        for _ in range(2):
            for text in (POISON, POISON, "1"):
                outcome = await run(sandbox, ECHO, text)

        assert outcome.output == b"1"
        assert sandbox.quarantined_seconds(ECHO.digest) == 0


async def test_a_call_that_kills_its_worker_fails_also_when_its_code_was_loaded_just_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.executor.sandbox.sandbox._PACKAGE", "tests.support.mortal")

    async with Sandbox(workers=1, max_workers=1, worker_code_bytes=1) as sandbox:
        await run(sandbox, ECHO)
        await run(sandbox, answering("2"))

        with capture_logs() as told:
            poisoned = await run(sandbox, ECHO, POISON)

        assert [line["event"] for line in told] == ["worker_died"]
        assert fault(poisoned) == (ErrorType.PLATFORM, "the worker running this call died")
        assert (await run(sandbox, ECHO)).output == b"{}"


async def test_a_call_that_is_cancelled_before_its_turn_is_not_run_and_costs_nobody_anything() -> None:
    async with only(workers=1, max_workers=1) as (sandbox, (worker,)):
        await run(sandbox, ECHO)
        await suspend(worker)
        running = [asyncio.create_task(run(sandbox, ECHO, str(number))) for number in range(3)]
        await asyncio.sleep(0.02)
        running[1].cancel()
        await asyncio.sleep(0.02)
        worker.resume()

        first, second, third = await asyncio.gather(*running, return_exceptions=True)

        assert isinstance(second, asyncio.CancelledError)
        assert [one.output for one in (first, third) if isinstance(one, Outcome)] == [b"0", b"2"]
        assert worker.is_running()


async def test_calls_beyond_those_that_may_wait_are_refused() -> None:
    async with only(workers=1, max_workers=1, places=1, max_waiting=1) as (sandbox, _):
        async with sandbox.reserve():
            waiting = asyncio.create_task(run(sandbox, ECHO))
            await sandbox.prepare(ECHO.digest, ECHO.wasm, ABI)
            await asyncio.sleep(0.05)

            with pytest.raises(Exhausted):
                async with sandbox.reserve():
                    pass

        assert (await waiting).output == b"{}"


async def test_those_who_wait_are_served_in_their_order_and_those_who_left_are_skipped() -> None:
    served: list[int] = []

    async def wait(number: int) -> None:
        async with sandbox.reserve():
            served.append(number)

    async with only(workers=1, max_workers=1, places=1) as (sandbox, _):
        async with sandbox.reserve():
            waiting = [asyncio.create_task(wait(number)) for number in range(4)]
            await asyncio.sleep(0.05)
            waiting[1].cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*waiting, return_exceptions=True)

        assert served == [0, 2, 3]
        assert sandbox.has_room


async def test_calls_that_are_under_way_when_a_sandbox_is_closed_end() -> None:
    async with only(workers=1) as (sandbox, (worker,)):
        await run(sandbox, ECHO)
        await suspend(worker)
        running = [asyncio.create_task(run(sandbox, ECHO)) for _ in range(3)]
        await asyncio.sleep(0.05)

    async with asyncio.timeout(5):
        ended = await asyncio.gather(*running, return_exceptions=True)

    assert {type(one) for one in ended} == {StartFailed}


# Native code


async def test_the_first_call_in_a_spare_worker_is_cold_and_the_next_is_warm() -> None:
    async with only(workers=1, max_workers=2) as (sandbox, _):
        warm = await run(sandbox, ECHO)
        async with endless_call_in(sandbox):
            cold = await run(sandbox, ECHO)
            again = await run(sandbox, ECHO)

        assert (warm.cold_start, cold.cold_start, again.cold_start) == (False, True, False)


async def test_code_that_was_pushed_out_must_be_prepared_again() -> None:
    one, other = answering("1"), answering("2")
    async with only(workers=1, code_bytes=1) as (sandbox, _):
        await run(sandbox, one)
        await run(sandbox, other)

        assert not sandbox.is_prepared(one.digest)
        assert sandbox.is_prepared(other.digest)
        async with sandbox.reserve() as slot:
            with pytest.raises(NotPrepared):
                await slot.run(call(one))
        assert (await run(sandbox, one)).output == b"1"


async def test_a_worker_that_let_go_of_code_gets_it_again() -> None:
    one, other = answering("1"), answering("2")
    async with only(workers=1, max_workers=1, worker_code_bytes=1) as (sandbox, _):
        for each in (one, other):
            await sandbox.prepare(each.digest, each.wasm, ABI)

        outcomes = [await run(sandbox, one), await run(sandbox, other), await run(sandbox, other)]

        assert [outcome.output for outcome in outcomes] == [b"1", b"2", b"2"]
        assert [outcome.cold_start for outcome in outcomes] == [True, True, False]


async def test_code_prepared_while_a_worker_was_busy_is_there_when_it_is_free() -> None:
    async with only(workers=1, max_workers=1) as (sandbox, _):
        async with endless_call_in(sandbox):
            await sandbox.prepare(ECHO.digest, ECHO.wasm, ABI)
        await asyncio.sleep(0.2)

        assert not (await run(sandbox, ECHO)).cold_start


async def test_many_who_prepare_the_same_module_wait_for_one_compilation() -> None:
    async with only(workers=1) as (sandbox, _):
        first, *rest = [asyncio.create_task(sandbox.prepare(ECHO.digest, ECHO.wasm, ABI)) for _ in range(5)]
        await asyncio.sleep(0)
        first.cancel()

        await asyncio.gather(*rest)

        assert sandbox.is_prepared(ECHO.digest)


# Containment


async def test_closing_leaves_no_process_behind_whatever_runs() -> None:
    before = set(processes())
    async with Sandbox(workers=2, max_workers=3) as sandbox:
        mine = set(processes()) - before
        await sandbox.prepare(ENDLESS.digest, ENDLESS.wasm, ABI)
        loops = [asyncio.create_task(run(sandbox, ENDLESS, limits=Limits(timeout_ms=60_000))) for _ in range(6)]
        await asyncio.sleep(0.3)
        mine |= set(processes()) - before

    assert len(mine) >= 3
    assert not any(process.is_running() for process in mine)
    # One that a worker has just given back asks for a place that there is not any more.
    ends = {type(outcome) for outcome in await asyncio.gather(*loops, return_exceptions=True)}
    assert ends <= {Outcome, asyncio.CancelledError, StartFailed}


async def test_a_worker_has_no_secrets_and_no_files_and_no_way_to_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://canary")
    monkeypatch.setenv("KILN_SIGNING_KEY", "canary")

    async with only(workers=1) as (_, (worker,)):
        root = Path(f"/proc/{worker.pid}")
        status = dict(line.split(":\t", 1) for line in (root / "status").read_text().splitlines() if ":\t" in line)
        if os.geteuid() == 0:
            assert b"canary" not in (root / "environ").read_bytes()
            assert {int(uid) for uid in status["Uid"].split()} == {64_052}
            assert {int(gid) for gid in status["Gid"].split()} == {64_052}
            assert os.readlink(root / "fd/0") == "/dev/null"
            assert (root / "ns/net").stat().st_ino != Path("/proc/self/ns/net").stat().st_ino
            assert re.search(r"Max processes +0 +0 ", (root / "limits").read_text())
            assert re.search(r"Max core file size +0 +0 ", (root / "limits").read_text())
        assert int(status["CapEff"], 16) == 0
        assert int(status["NoNewPrivs"]) == 1
        assert "canary" not in " ".join(worker.cmdline())


async def test_processes_die_with_the_supervisor(tmp_path: Path) -> None:
    program = tmp_path / "supervisor.py"
    program.write_text(
        "import asyncio\nfrom services.executor.sandbox import Sandbox\n"
        "async def main():\n    async with Sandbox(workers=2):\n        print('up', flush=True)\n        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    supervisor = await asyncio.create_subprocess_exec(sys.executable, program, env=environment, stdout=asyncio.subprocess.PIPE)
    assert supervisor.stdout is not None
    async with asyncio.timeout(30):
        while b"up" not in await supervisor.stdout.readline():
            pass
    children = psutil.Process(supervisor.pid).children()
    supervisor.kill()
    await supervisor.wait()

    assert len(children) == 3
    await until(lambda: not any(child.is_running() for child in children))
