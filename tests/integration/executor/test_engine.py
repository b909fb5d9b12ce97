"""The engine in this process: what becomes of a call when the host itself fails, and that nothing is left of one."""

import ctypes
import gc
from typing import Any, Never

import psutil
import pytest

from services.executor.sandbox import Call, ErrorType, Limits, Outcome, wasmtime_c
from services.executor.sandbox.engine import Refused, Runner
from services.executor.sandbox.host import Sources
from tests.integration.executor.guests import ECHO, TRAPPING, Module, guest, module
from tests.integration.executor.plain_guests import WASI, calling, command, kiln, leaving
from tests.support.engines import HastyWatch, IdleWatch, Preparer, running

PREPARER = Preparer()
MANY = 20_000


def broken(*_arguments: object) -> Never:
    raise OSError("the secret of the host")


def load(runner: Runner, guest: Module) -> None:
    runner.load(guest.digest, guest.abi, PREPARER.compile(guest.abi, guest.wasm))


def run(runner: Runner, guest: Module, text: str = "{}", limits: Limits | None = None) -> Outcome:
    outcome = runner.run(Call(guest.digest, guest.abi, text.encode(), limits or Limits()))
    assert outcome is not None
    return outcome


def kind(outcome: Outcome) -> ErrorType | None:
    return outcome.error.type if outcome.error else None


# The host fails


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize(
    "guest",
    [
        calling("kiln", "random", [0, 8]),
        calling(WASI, "random_get", [0, 8]),
        command("(drop (call $random_get (i32.const 0) (i32.const 8)))", imports=("random_get",)),
        command("", "(func $early (drop (call $random_get (i32.const 0) (i32.const 8)))) (start $early)", imports=("random_get",)),
    ],
    ids=["kiln", "wasi in kiln", "command", "start function"],
)
def test_a_host_function_that_fails_ends_the_call_without_its_words(guest: Module, error: type[BaseException]) -> None:
    def failing(_size: int) -> Never:
        raise error("the secret of the host")

    with running(sources=Sources(random=failing)) as runner:
        load(runner, guest)
        outcome = run(runner, guest)

    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.message) == (ErrorType.PLATFORM, f"a host function failed: {error.__name__}")
    assert "secret" not in repr(outcome)


@pytest.mark.parametrize("now", ["soon", None, 1e30, float("nan")])
def test_a_host_function_without_an_answer_that_fits_ends_the_call(now: Any) -> None:
    asking = calling("kiln", "now_ms", [])
    with running(sources=Sources(now=lambda: now)) as runner:
        load(runner, asking)

        assert kind(run(runner, asking)) is ErrorType.PLATFORM


def test_a_module_with_two_tables_is_refused_before_a_worker_meets_it() -> None:
    with pytest.raises(Refused, match="2 tables"):
        PREPARER.compile(ECHO.abi, guest("(local.get 0)", "(table 1 funcref) (table 2 funcref)").wasm)


# What is left of a call


class _MallInfo(ctypes.Structure):
    """What glibc's `mallinfo2` tells."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks")),
        *((name, ctypes.c_size_t) for name in ("uordblks", "fordblks", "keepcost")),
    )


def allocated() -> int:
    """Bytes that Wasmtime and others have allocated in C and not freed. Resident memory alone would not show a small leak at once."""
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _MallInfo
    return int(mallinfo().uordblks)


class Counted:
    """How many stores were made and not deleted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = 0
        new, delete = wasmtime_c._store_new, wasmtime_c._store_delete

        def counted_new(*arguments: Any) -> Any:
            self.open += 1
            return new(*arguments)

        def counted_delete(*arguments: Any) -> None:
            self.open -= 1
            delete(*arguments)

        monkeypatch.setattr(wasmtime_c, "_store_new", counted_new)
        monkeypatch.setattr(wasmtime_c, "_store_delete", counted_delete)


@pytest.mark.parametrize(
    ("ending", "expected", "watched", "sources"),
    [
        (ECHO, None, IdleWatch, Sources()),
        (TRAPPING, ErrorType.TRAP, IdleWatch, Sources()),
        (guest("(loop (br 0)) (unreachable)"), ErrorType.TIMEOUT, HastyWatch, Sources()),
        (leaving(3, (2, "words\n")), ErrorType.EXIT, IdleWatch, Sources()),
        (calling("kiln", "random", [0, 8]), ErrorType.PLATFORM, IdleWatch, Sources(random=broken)),
        (guest("(local.get 0)", "(func $start (unreachable)) (start $start)"), ErrorType.TRAP, IdleWatch, Sources()),
        (guest("(local.get 0)", "(table 10000000 funcref)"), ErrorType.TRAP, IdleWatch, Sources()),
        (guest("(local.get 0)", memory="17"), ErrorType.OUT_OF_MEMORY, IdleWatch, Sources()),
    ],
    ids=["completed", "trapped", "interrupted", "exit", "host error", "start function", "too large a table", "too large a memory"],
)
def test_twenty_thousand_calls_leave_neither_memory_nor_stores(
    ending: Module, expected: ErrorType | None, watched: type[IdleWatch], sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, process = Counted(monkeypatch), psutil.Process()
    limits = Limits(memory_mb=1)
    with running(watched, sources) as runner:
        load(runner, ending)
        # The allocator's arenas have their size then.
        for _ in range(2_000):
            assert kind(run(runner, ending, limits=limits)) is expected
        gc.collect()
        before, grown = process.memory_info().rss, []

        for _ in range(3):
            allocated_before = allocated()
            for _ in range(MANY // 3):
                run(runner, ending, limits=limits)
            gc.collect()
            grown.append(allocated() - allocated_before)

        assert counted.open == 0
        assert process.memory_info().rss - before < 1 << 20
        # Three bytes for each call. What else there is in this process may take some once; what calls leave they leave each time.
        assert min(grown) < 3 * (MANY // 3)


# Looks whether anything is as another call left it, and leaves as much as it can.
USED = """
(if (global.get $used) (then (unreachable)))
(if (i32.eqz (ref.is_null (table.get (i32.const 0)))) (then (unreachable)))
(if (i32.ne (table.size) (i32.const 1)) (then (unreachable)))
(if (i32.ne (memory.size) (i32.const 4)) (then (unreachable)))
(if (i32.ne (i32.load (i32.const 4096)) (i32.const 0x64636261)) (then (unreachable)))
(if (i32.ne (i32.load (i32.const 200000)) (i32.const 0x68676665)) (then (unreachable)))
(drop (memory.grow (i32.const 1)))
(local.set 2 (i32.const 40000))
(loop $next
  (if (i64.ne (i64.load (local.get 2)) (i64.const 0)) (then
    (if (i32.ne (local.get 2) (i32.const 200000)) (then (unreachable)))))
  (br_if $next (i32.lt_u (local.tee 2 (i32.add (local.get 2) (i32.const 64))) (i32.const 327680))))
(global.set $used (i32.const 1))
(table.set (i32.const 0) (ref.func $f))
(drop (table.grow (ref.func $f) (i32.const 10)))
(memory.fill (i32.const 0) (i32.const 0xAB) (i32.const 327680))
(global.set $count (i32.add (global.get $count) (i32.const 1)))
(call $number (global.get $count))
"""


def using(number: int) -> Module:
    """A guest that says how often it was called, were anything left of a call. Those of other numbers are other modules."""
    return kiln(
        USED,
        "(global $used (mut i32) (i32.const 0)) (global $count (mut i32) (i32.const 0))",
        f"(table 1 funcref) (func $f (drop (i32.const {number}))) (elem declare func $f)",
        texts={4096: "abcd", 200000: "efgh"},
        memory="4",
    )


@pytest.mark.parametrize(
    ("modules", "calls"),
    [(1, 10_000), (2, 1_000), (5, 1_000)],
    ids=["one function", "one for each place of the pool", "more than the pool has places"],
)
def test_a_counter_answers_the_same_in_ten_thousand_calls(modules: int, calls: int) -> None:
    turns = [using(number) for number in range(modules)]
    with running() as runner:
        for each in turns:
            load(runner, each)

        for number in range(calls):
            outcome = run(runner, turns[number % modules])

            assert outcome.output == b"1"
            assert outcome.memory_peak_bytes == 5 << 16


def test_a_small_memory_has_no_room_of_the_large_one_before_it() -> None:
    """The same module both times: its memory's place in the pool is used again."""
    greedy = kiln(
        """(if (i32.eq (i32.load8_u (local.get 0)) (i32.const 49)) (then
          (drop (memory.grow (i32.const 1000))) (memory.fill (i32.const 0) (i32.const 0xAB) (i32.const 60000000)) (unreachable)))
        (drop (i32.load (i32.const 65536))) (call $number (i32.const 7))"""
    )
    with running() as runner:
        load(runner, greedy)

        for _ in range(3):
            grown = run(runner, greedy, "1")
            small = run(runner, greedy, "2")

            assert grown.memory_peak_bytes == 1001 * 65536
            assert small.error is not None
            assert small.error.message == "out of bounds memory access"
            assert small.memory_peak_bytes == 65536


def test_nothing_of_a_call_is_kept_once_it_has_ended() -> None:
    with running() as runner:
        load(runner, ECHO)
        run(runner, ECHO, '"a canary"')

        kept = [thing for thing in gc.get_objects() if isinstance(thing, wasmtime_c.Store)]

        assert kept == []


def test_a_module_without_a_memory_is_refused() -> None:
    with pytest.raises(Refused, match="memory"):
        PREPARER.compile("wasi-command", module('(module (func (export "_start")))').wasm)
