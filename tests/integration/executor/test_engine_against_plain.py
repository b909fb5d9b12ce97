"""The engine and the plain way answer every call alike: output, error, trace, logs and memory."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.common.abi import ASSEMBLYSCRIPT, KILN
from services.executor.sandbox import Call, ErrorType, Limits, Outcome
from tests.integration.executor.guests import ECHO, ENDLESS, OBEDIENT, TRAPPING, Module, answering, guest, order, string_at
from tests.integration.executor.plain_guests import COMMAND_ECHO, SLEEPING, WASI, calling, command, kiln, leaving, printing, say
from tests.integration.executor.plain_guests import ECHO as KILN_ECHO
from tests.support import random_modules
from tests.support.engines import Both, HastyWatch, running_both

ENVIRONMENT = {"key": "value", "\0": "odd", "": "nameless"}
DEFAULT = Limits()
SHORT = Limits(timeout_ms=30)
SMALL = Limits(memory_mb=1, max_output_bytes=64, max_log_bytes=40)

_DEEP = "(func $deeper (param i32) (result i32) (i32.add (call $deeper (local.get 0)) (i32.const 1)))"
_BODIES = [
    "(unreachable)",
    "(i32.div_s (i32.const 1) (i32.const 0))",
    "(i32.div_s (i32.const 0x80000000) (i32.const -1))",
    "(i32.load (i32.const -1))",
    "(i32.trunc_f64_s (f64.const nan))",
    "(call_indirect (type $t) (i32.const 0))",
    "(call_indirect (type $t) (i32.const 1))",
    "(call_indirect (type $t) (i32.const 9))",
    "(i32.const 0)",
    "(i32.const -1)",
    "(i32.const 1024)",
    "(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (local.get 0)",
    "(drop (memory.grow (i32.const 70))) (local.get 0)",
    "(drop (table.grow (ref.null func) (i32.const 200000))) (local.get 0)",
]
_TYPED = "(type $t (func (result i32))) (table 2 funcref) (func $f) (elem (i32.const 1) $f)"
_ORDERS: list[tuple[int, int, bytes]] = [(2000, 4, b"1\0"), (1 << 31, 8, b""), (65534, 2, b""), (0, 0, b""), (1024, 3, b"")]
_LOGGING = """(loop (call $console.warn (i32.const 1024))
  (br_if 0 (i32.lt_u (local.tee 1 (i32.add (local.get 1) (i32.const 1))) (i32.const 300)))) (local.get 0)"""
_DEEP_THROUGH_THE_HOST = """(func $deeper (param i32) (result i32)
  (call $console.log (i32.const 0)) (i32.add (call $deeper (local.get 0)) (i32.const 1)))"""
_ABORTING = "(call $abort (i32.const 1024) (i32.const 1024) (i32.const 3) (i32.const 4)) (unreachable)"
_INITIALIZE = '(global $i (mut i32) (i32.const 0)) (func (export "_initialize") (global.set $i (i32.const 9)))'
_WIDE = '(global $sp (mut i64) (i64.const -5)) (export "__stack_pointer" (global $sp))'
_BELOW = "(drop (i32.load (i32.const -16))) (unreachable)"
CORPUS: dict[str, tuple[Module, str]] = {
    "echo": (ECHO, '{"a": [1.10, "\\u0000"]}'),
    "kiln echo": (KILN_ECHO, '"ü"'),
    "command echo": (COMMAND_ECHO, "[" + "1," * 40_000 + "1]"),
    "trapping": (TRAPPING, "{}"),
    "not json": (answering("no"), "{}"),
    "half of a pair": (guest("(i32.const 1024)", string_at(1024, b'"\0\x00\xd8"\0')), "{}"),
    "too large": (answering('"' + "x" * 100 + '"'), "{}"),
    "recursion": (guest("(call $deeper (i32.const 1))", _DEEP), "{}"),
    "recursion through the host": (
        guest(
            "(call $deeper (i32.const 1))",
            _DEEP_THROUGH_THE_HOST,
            imports=("console.log",),
        ),
        "{}",
    ),
    "recursion in the start function": (guest("(local.get 0)", "(func $start (call $start) (call $start)) (start $start)"), "{}"),
    "data outside": (guest("(local.get 0)", '(data (i32.const 65535) "xx")'), "{}"),
    "elements outside": (guest("(local.get 0)", "(table 1 funcref) (func $f) (elem (i32.const 1) $f)"), "{}"),
    "a large table": (guest("(local.get 0)", "(table 200000 funcref)"), "{}"),
    "a large memory": (guest("(local.get 0)", memory="17"), "{}"),
    "abort": (
        guest(
            _ABORTING,
            imports=("abort",),
            texts={1024: "why"},
        ),
        "{}",
    ),
    "out of memory": (
        guest(
            "(call $abort (i32.const 0) (i32.const 1024) (i32.const 1) (i32.const 1)) (unreachable)",
            imports=("abort",),
            texts={1024: "~lib/rt/tlsf.ts"},
        ),
        "{}",
    ),
    "stack check": (guest("(call $abort (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1)) (unreachable)", imports=("abort",)), "{}"),
    "floats": (
        guest(
            """(call $trace (i32.const 1024) (i32.const 5) (f64.const 1.5) (f64.const nan) (f64.const -inf) (call $seed) (call $Date.now))
            (call $trace (i32.const 1024) (i32.const 1) (call $performance.now) (f64.const 0) (f64.const 0) (f64.const 0) (f64.const 0))
            (local.get 0)""",
            imports=("trace", "seed", "Date.now", "performance.now"),
            texts={1024: "numbers"},
        ),
        "{}",
    ),
    "many logs": (
        guest(
            _LOGGING,
            imports=("console.warn",),
            texts={1024: "é"},
        ),
        "{}",
    ),
    "log in the start function": (
        kiln(
            "(call $number (i32.const 7))",
            "(func $start (drop (memory.grow (i32.const 3))) (call $log (i32.const 1) (i32.const 100) (i32.const 5))) (start $start)",
            imports=("log",),
            texts={100: "early"},
        ),
        "{}",
    ),
    "initialize": (
        kiln(
            "(call $number (global.get $i))",
            _INITIALIZE,
        ),
        "{}",
    ),
    "below its stack": (
        kiln(
            "(global.set $sp (i32.const -16)) (drop (i32.load (global.get $sp))) (unreachable)",
            '(global $sp (mut i32) (i32.const 1024)) (export "__stack_pointer" (global $sp))',
        ),
        "{}",
    ),
    "a wide stack pointer": (
        kiln(
            _BELOW,
            _WIDE,
        ),
        "{}",
    ),
    "a stack pointer that is a function": (
        kiln(_BELOW, '(func (export "__stack_pointer"))'),
        "{}",
    ),
    "no room for the input": (KILN_ECHO, "[" + "1," * 700_000 + "1]"),
    "exit 3": (leaving(3, (2, "last words\n"), (1, "half")), "{}"),
    "exit 0": (leaving(0, (1, '"done"')), "{}"),
    "exit 0 without output": (leaving(0), "{}"),
    "a panic of Go": (leaving(2, (2, "panic: boom\n\ngoroutine 1 [running]:\n")), "{}"),
    "prints": (printing((1, '"out"'), (2, b"bad \xff utf\nnext")), "{}"),
    "prints and traps": (command(say(2, 1024, 5) + "(unreachable)", texts={1024: "words"}), "{}"),
    "hostile names": (guest("(call $f)", '(func $f (result i32) (unreachable)) (@custom "other" "x")'), "{}"),
    **{f"order {number}": (OBEDIENT, order(*one)) for number, one in enumerate(_ORDERS)},
    **{f"body {number}": (guest(body, _TYPED), "{}") for number, body in enumerate(_BODIES)},
    **{f"kiln body {number}": (kiln(f"(call $number {body})", _TYPED), "{}") for number, body in enumerate(_BODIES[:11])},
    **{
        f"{source} {name} {value}": (calling(source, name, {"i32": value, "i64": value}), "{}")
        for source, name in KILN.imports
        for value in (-1, 0x7FFF_FFFF, 0, 1, 1024)
    },
}


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    with running_both() as engines:
        yield engines


def both_answers(both: Both, module: Module, text: str, limits: Limits) -> tuple[Outcome, Outcome]:
    both.load(module.digest, module.abi, module.wasm)
    return both.run(Call(module.digest, module.abi, text.encode(), limits, ENVIRONMENT))


def answer(both: Both, module: Module, text: str, limits: Limits) -> Outcome:
    """What both say, which is the same."""
    fast, plain = both_answers(both, module, text, limits)
    assert fast == plain
    return fast


@pytest.fixture(scope="module")
def outcomes(both: Both) -> dict[tuple[str, Limits], tuple[Outcome, Outcome]]:
    return {(name, limits): both_answers(both, *one, limits) for name, one in CORPUS.items() for limits in (DEFAULT, SMALL)}


@pytest.mark.parametrize("limits", [DEFAULT, SMALL], ids=["default", "small"])
@pytest.mark.parametrize("name", CORPUS)
def test_a_call_has_the_same_outcome_as_the_plain_way(
    outcomes: dict[tuple[str, Limits], tuple[Outcome, Outcome]], name: str, limits: Limits
) -> None:
    fast, plain = outcomes[name, limits]

    assert fast == plain


def test_the_corpus_reaches_every_kind_of_end(outcomes: dict[tuple[str, Limits], tuple[Outcome, Outcome]]) -> None:
    ends = {outcome.error.type if outcome.error else None for outcome, _ in outcomes.values()}

    assert ends >= set(ErrorType) - {ErrorType.TIMEOUT, ErrorType.CANCELLED, ErrorType.PLATFORM} | {None}


@pytest.mark.parametrize(
    "endless",
    [ENDLESS, SLEEPING, guest("(local.get 0)", "(func $start (loop (br 0))) (start $start)"), kiln("(loop (br 0)) (unreachable)")],
    ids=["loop", "sleep", "start", "kiln"],
)
def test_what_does_not_end_is_stopped_alike(both: Both, endless: Module) -> None:
    outcome = answer(both, endless, "{}", SHORT)

    assert outcome.error is not None
    assert outcome.error.type is ErrorType.TIMEOUT


@pytest.mark.parametrize("module", [ECHO, KILN_ECHO, COMMAND_ECHO], ids=["assemblyscript", "kiln", "wasi-command"])
def test_what_is_stopped_at_once_is_stopped_alike(module: Module) -> None:
    with running_both(HastyWatch) as engines:
        outcome = answer(engines, module, "{}", Limits())

    assert outcome.error is not None
    assert outcome.error.type is ErrorType.TIMEOUT


def test_every_import_is_in_the_corpus() -> None:
    assert {"trace", "seed"} < {name for _, name in ASSEMBLYSCRIPT.imports}
    assert all(f"{source} {name} 0" in CORPUS for source, name in KILN.imports)
    assert any(source == WASI for source, _ in KILN.imports)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(random_modules.modules, st.sampled_from(["{}", '"ü"', "[1, 2, 3]"]))
def test_a_random_module_has_the_same_outcome_as_the_plain_way(both: Both, module: Module, text: str) -> None:
    for _ in range(2):
        answer(both, module, text, Limits(timeout_ms=10_000, memory_mb=1))
