"""Guests of the kiln ABI in a real sandbox: what they are given, and what the hostile among them cannot do."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.abi import KILN
from services.executor.sandbox import ErrorType, Level, Limits, Sandbox, Unloadable
from services.executor.sandbox.abi.wasi import Errno
from tests.integration.executor.calls import SHORT, fault, run
from tests.integration.executor.guests import Module, module
from tests.integration.executor.plain_guests import ECHO, WASI, calling, kiln, say

# Anywhere, and around the edges of a page of memory.
I32 = st.integers(-(2**31), 2**31 - 1) | st.sampled_from([0, 1, 2, 8, 1024, 65_528, 65_532, 65_535, 65_536, -1, -8, 2**31 - 1])
I64 = st.integers(-(2**63), 2**63 - 1)
# Answers with the address and the size that its input spells in 16 letters from a to p, after something that is JSON.
OBEDIENT = kiln(
    "(call $log (i32.const 1) (call $word (i32.const 1)) (call $word (i32.const 9)))"
    "(call $text (call $word (i32.const 1)) (call $word (i32.const 9)))",
    """(func $letter (param i32) (result i32) (i32.sub (i32.load8_u offset=32768 (local.get 0)) (i32.const 97)))
    (func $word (param $at i32) (result i32) (local $n i32) (local $word i32)
      (loop $next
        (local.set $word (i32.or (i32.shl (local.get $word) (i32.const 4)) (call $letter (i32.add (local.get $at) (local.get $n)))))
        (br_if $next (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 8))))
      (local.get $word))""",
    imports=("log",),
    texts={1024: '[1, 2, "three"]'},
)


def order(address: int, size: int) -> str:
    """Input for `OBEDIENT`."""
    return json.dumps("".join(chr(97 + int(digit, 16)) for digit in f"{address & 0xFFFF_FFFF:08x}{size & 0xFFFF_FFFF:08x}"))


# Input and output


@pytest.mark.parametrize("text", ["{}", '{"b":1, "a":1.10}', r'"\u0000\ud800"', '"😀é"', " [ 1 ] ", "[" * 512 + "]" * 512])
async def test_json_passes_through_untouched(shared: Sandbox, text: str) -> None:
    outcome = await run(shared, ECHO, text)

    assert outcome.error is None
    assert outcome.output == text.encode()


async def test_a_megabyte_passes_in_both_directions(shared: Sandbox) -> None:
    text = '"' + "é" * 500_000 + '"'

    assert (await run(shared, ECHO, text)).output == text.encode()


@pytest.mark.parametrize(
    ("result", "kind", "words"),
    [
        ("(i32.const 1024) (i32.const 0)", ErrorType.INVALID_OUTPUT, "the output is not valid JSON"),
        ("(i32.const -1) (i32.const 0)", ErrorType.INVALID_OUTPUT, "the output is not valid JSON"),
        ("(i32.const 1024) (i32.const 4)", ErrorType.INVALID_OUTPUT, "the output is not valid JSON"),
        ("(i32.const 1028) (i32.const 3)", ErrorType.INVALID_OUTPUT, "the output is not valid JSON"),
        ("(i32.const 65535) (i32.const 2)", ErrorType.INVALID_OUTPUT, "an address outside of its memory"),
        ("(i32.const -4) (i32.const 8)", ErrorType.INVALID_OUTPUT, "an address outside of its memory"),
        ("(i32.const 0) (i32.const -1)", ErrorType.OUTPUT_TOO_LARGE, "larger than 1048576 bytes"),
        ("(i32.const 0) (i32.const 1048577)", ErrorType.OUTPUT_TOO_LARGE, "larger than 1048576 bytes"),
    ],
)
async def test_a_result_that_is_none_is_a_fault_of_the_guest(shared: Sandbox, result: str, kind: ErrorType, words: str) -> None:
    found, message = fault(await run(shared, kiln(f"(call $text {result})", texts={1024: b'nope"\xff"'})))

    assert found is kind
    assert words in message


@settings(max_examples=300, deadline=None)
@given(I32, I32)
async def test_whatever_a_guest_answers_with_is_json_or_its_own_fault(shared: Sandbox, address: int, size: int) -> None:
    outcome = await run(shared, OBEDIENT, order(address, size))

    if outcome.output is None:
        kind, message = fault(outcome)
        assert kind in {ErrorType.INVALID_OUTPUT, ErrorType.OUTPUT_TOO_LARGE}
        assert re.match(r"the function returned |the output is ", message)
        assert message.isprintable()
    else:
        json.loads(outcome.output)


async def test_a_guest_can_answer_with_any_part_of_its_memory(shared: Sandbox) -> None:
    assert (await run(shared, OBEDIENT, order(1024, 15))).output == b'[1, 2, "three"]'


@settings(max_examples=200, deadline=None)
@given(I32, I32, st.integers(0, 100))
async def test_whatever_a_guest_prints_its_bounds_hold(shared: Sandbox, address: int, size: int, max_log_bytes: int) -> None:
    outcome = await run(shared, OBEDIENT, order(address, size), Limits(max_log_bytes=max_log_bytes))

    assert len(outcome.logs) <= 1
    assert sum(len(line.message.encode()) for line in outcome.logs) <= max_log_bytes


@pytest.mark.parametrize("address", [-4, 65_535, 0x7FFF_FFFF])
async def test_an_allocator_that_points_outside_of_memory_is_a_trap(shared: Sandbox, address: int) -> None:
    hostile = module(
        f"""(module (memory (export "memory") 1) (func (export "kiln_alloc") (param i32) (result i32) (i32.const {address}))
        (func (export "handle") (param i32 i32) (result i64) (i64.const 0)))""",
        KILN.name,
    )

    assert fault(await run(shared, hostile)) == (ErrorType.TRAP, "the function's kiln_alloc returned an address outside of its memory")


async def test_an_allocator_without_room_for_the_input_is_out_of_memory(shared: Sandbox) -> None:
    full = module(
        """(module (memory (export "memory") 1) (func (export "kiln_alloc") (param i32) (result i32) (i32.const 0))
        (func (export "handle") (param i32 i32) (result i64) (i64.const 0)))""",
        KILN.name,
    )

    assert fault(await run(shared, full)) == (ErrorType.OUT_OF_MEMORY, "out of memory: the function's limit is 64 MiB")


# Life


async def test_initialize_runs_before_all_else(shared: Sandbox) -> None:
    reactor = kiln(
        "(call $number (global.get $ready))",
        """(global $ready (mut i32) (i32.const 0))
        (func (export "_initialize") (if (i32.ne (global.get $top) (i32.const 32768)) (then (unreachable)))
          (global.set $ready (i32.const 7)))""",
    )

    assert (await run(shared, reactor)).output == b"7"


@pytest.mark.parametrize(
    "endless",
    [
        kiln("(i64.const 0)", '(func (export "_initialize") (loop (br 0)))'),
        kiln("(loop (br 0)) (unreachable)"),
        kiln("(loop (call $log (i32.const 1) (i32.const 0) (i32.const 0)) (br 0)) (unreachable)", imports=("log",)),
        kiln("(loop (call $log (i32.const 1) (i32.const 0) (i32.const 0x40000000)) (br 0)) (unreachable)", imports=("log",)),
        kiln("(loop (drop (call $now_ms)) (br 0)) (unreachable)", imports=("now_ms",)),
        kiln("(loop (call $random (i32.const 0) (i32.const 33554432)) (br 0)) (unreachable)", imports=("random",), memory="512"),
        kiln(f"(loop {say(2, 0, 65_536)} (br 0)) (unreachable)", imports=("fd_write",)),
    ],
    ids=["_initialize", "handle", "empty lines", "long lines", "clock", "random", "fd_write"],
)
async def test_what_does_not_end_is_stopped_at_its_deadline(shared: Sandbox, endless: Module) -> None:
    outcome = await run(shared, endless, limits=SHORT)

    assert fault(outcome) == (ErrorType.TIMEOUT, "the function ran longer than its limit of 200 ms")
    assert 190_000 <= outcome.duration_us < 1_500_000
    assert len(outcome.logs) <= 256


async def test_state_does_not_outlive_a_call(shared: Sandbox) -> None:
    counter = kiln(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1))) (call $number (global.get $calls))",
        "(global $calls (mut i32) (i32.const 0))",
    )

    assert [(await run(shared, counter)).output for _ in range(5)] == [b"1"] * 5


async def test_a_trap_that_nobody_explained_stays_a_trap(shared: Sandbox) -> None:
    assert fault(await run(shared, kiln("(unreachable)"))) == (ErrorType.TRAP, "unreachable executed")


async def test_endless_recursion_is_a_stack_overflow(shared: Sandbox) -> None:
    deep = kiln(
        "(call $deeper (i64.const 1))",
        "(func $deeper (param i64) (result i64) (i64.add (call $deeper (local.get 0)) (i64.const 1)))",
    )

    assert fault(await run(shared, deep))[0] is ErrorType.STACK_OVERFLOW


# What the host gives


async def test_failing_is_an_abort_with_the_message(shared: Sandbox) -> None:
    failing = kiln("(call $fail (i32.const 1024) (i32.const 7)) (i64.const 0)", imports=("fail",), texts={1024: "no 😀"})

    assert fault(await run(shared, failing)) == (ErrorType.ABORT, "no 😀")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([0, 0], "the function failed"), ([-1, 5], "\N{REPLACEMENT CHARACTER}"), ([0, -1], "\0" * (8 << 10))],
)
async def test_failing_with_a_message_that_is_none_is_an_abort_still(shared: Sandbox, arguments: list[int], message: str) -> None:
    assert fault(await run(shared, calling("kiln", "fail", arguments))) == (ErrorType.ABORT, message)


async def test_telling_of_exhausted_memory_is_out_of_memory(shared: Sandbox) -> None:
    telling = kiln(
        """(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (call $out_of_memory) (unreachable)""",
        imports=("out_of_memory",),
    )

    outcome = await run(shared, telling, limits=Limits(memory_mb=2))

    assert fault(outcome) == (ErrorType.OUT_OF_MEMORY, "out of memory: the function's limit is 2 MiB")


async def test_everything_logged_has_its_level(shared: Sandbox) -> None:
    logs = "".join(f"(call $log (i32.const {level}) (i32.const 1024) (i32.const 4))" for level in (0, 1, 2, 3, 4, -1))

    outcome = await run(shared, kiln(f"{logs} (call $number (i32.const 1))", imports=("log",), texts={1024: "hé\n"}))

    levels = [Level.DEBUG, Level.INFO, Level.WARN, Level.ERROR, Level.INFO, Level.INFO]
    assert [(line.level, line.message) for line in outcome.logs] == [(level, "hé\n") for level in levels]


async def test_what_a_c_library_prints_is_logged_by_lines(shared: Sandbox) -> None:
    printing = kiln(
        f"{say(1, 1024, 9)} {say(2, 1033, 4)} (call $number (i32.const 1))",
        imports=("fd_write",),
        texts={1024: "one\ntwo\nwrong"},
    )

    outcome = await run(shared, printing)

    assert outcome.output == b"1"
    assert [(line.level, line.message) for line in outcome.logs] == [
        (Level.INFO, "one"),
        (Level.INFO, "two"),
        (Level.INFO, "w"),
        (Level.ERROR, "rong"),
    ]


async def test_what_was_printed_before_a_trap_is_kept(shared: Sandbox) -> None:
    outcome = await run(shared, kiln(f"{say(2, 1024, 4)} (unreachable)", imports=("fd_write",), texts={1024: "last"}))

    assert fault(outcome)[0] is ErrorType.TRAP
    assert [line.message for line in outcome.logs] == ["last"]


@pytest.mark.parametrize("code", [0, 1, -1])
async def test_leaving_is_no_answer(shared: Sandbox, code: int) -> None:
    assert fault(await run(shared, calling(WASI, "proc_exit", [code]))) == (
        ErrorType.EXIT,
        f"the function ended with exit code {code}",
    )


async def test_there_is_nothing_to_read(shared: Sandbox) -> None:
    reading = kiln(
        """(i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 10))
        (i32.store (i32.const 8) (i32.const 99))
        (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then (unreachable)))
        (call $number (i32.load (i32.const 8)))""",
        imports=("fd_read",),
    )

    assert (await run(shared, reading)).output == b"0"


@pytest.mark.parametrize(
    ("name", "capacity", "answer"),
    [
        ("GREETING", 100, '{"got": 4, "is": "hey!"}'),
        ("GREETING", 4, '{"got": 4, "is": "hey!"}'),
        ("GREETING", 3, '{"got": 4, "is": "----"}'),
        ("GREETING", 0, '{"got": 4, "is": "----"}'),
        ("GREETING", -1, '{"got": 4, "is": "hey!"}'),
        ("EMPTY", 100, '{"got": 0, "is": "----"}'),
        ("OTHER", 100, None),
        ("", 100, None),
    ],
)
async def test_the_environment_is_asked_for_by_name(shared: Sandbox, name: str, capacity: int, answer: str | None) -> None:
    asking = kiln(
        f"""(local.set 2 (call $env_get (i32.const 2048) (i32.const {len(name)}) (i32.const 1042) (i32.const {capacity})))
        (if (i32.eq (local.get 2) (i32.const -1)) (then (return (call $text (i32.const 3000) (i32.const 4)))))
        (i32.store8 (i32.const 1032) (i32.add (local.get 2) (i32.const 48)))
        (call $text (i32.const 1024) (i32.const 24))""",
        imports=("env_get",),
        texts={1024: '{"got": ?, "is": "----"}', 2048: name, 3000: "null"},
    )

    outcome = await run(shared, asking, environment={"GREETING": "hey!", "EMPTY": ""})

    assert outcome.output == (answer or "null").encode()


async def test_one_calls_environment_is_not_the_next_ones(shared: Sandbox) -> None:
    asking = kiln(
        "(call $number (i32.add (i32.const 1) (call $env_get (i32.const 1024) (i32.const 1) (i32.const 0) (i32.const 0))))",
        imports=("env_get",),
        texts={1024: "A"},
    )

    outcomes = [await run(shared, asking, environment=one) for one in ({"A": "secret"}, {"B": "1"}, {})]

    assert [outcome.output for outcome in outcomes] == [b"7", b"0", b"0"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("random", [65_535, 2]),
        ("random", [-1, 1]),
        ("random", [0, -1]),
        ("env_get", [-1, 4, 0, 100]),
        ("env_get", [1024, 1, -1, 100]),
    ],
)
async def test_a_buffer_outside_of_memory_is_a_trap_that_names_the_function(shared: Sandbox, name: str, arguments: list[int]) -> None:
    asking = calling("kiln", name, arguments)

    outcome = await run(shared, asking, environment={"\0": "value"})

    assert fault(outcome) == (ErrorType.TRAP, f"the function gave {name} an address outside of its memory")


async def test_random_bytes_differ_from_call_to_call(shared: Sandbox) -> None:
    rolling = kiln("(call $random (i32.const 0) (i32.const 8)) (call $number (i32.load (i32.const 0)))", imports=("random",))

    assert len({(await run(shared, rolling)).output for _ in range(5)}) > 1


# Hostile arguments


@pytest.mark.parametrize("value", [-1, 0x7FFF_FFFF, 0])
@pytest.mark.parametrize(("source", "name"), KILN.imports)
async def test_every_import_survives_hostile_arguments(shared: Sandbox, source: str, name: str, value: int) -> None:
    outcome = await run(shared, calling(source, name, {"i32": value, "i64": value}), limits=SHORT)

    if outcome.output is None:
        kind, message = fault(outcome)
        assert kind in {ErrorType.TRAP, ErrorType.ABORT, ErrorType.EXIT, ErrorType.OUT_OF_MEMORY}
        assert message == "the function failed" or not message.isascii() or message.startswith(("the function", "out of memory"))
    elif source == WASI:
        assert int(outcome.output) in set(Errno)


@settings(max_examples=300, deadline=None)
@given(st.data())
async def test_whatever_a_guest_passes_it_gets_an_errno_or_is_stopped(shared: Sandbox, data: st.DataObject) -> None:
    source, name = data.draw(st.sampled_from(sorted(KILN.imports)))
    arguments = [data.draw(I32 if kind == "i32" else I64) for kind in KILN.imports[source, name].params]

    outcome = await run(shared, calling(source, name, arguments), limits=SHORT)

    if outcome.output is None:
        assert fault(outcome)[0] not in {ErrorType.PLATFORM, ErrorType.INVALID_OUTPUT}
    elif source == WASI:
        assert int(outcome.output) in set(Errno)


# What is refused


@pytest.mark.parametrize(
    ("imported", "words"),
    [
        ('(import "kiln" "open" (func))', "open"),
        ('(import "kiln" "log" (func (param i32 i32)))', "log"),
        ('(import "wasi_snapshot_preview1" "fd_open" (func))', "fd_open"),
        ('(import "wasi_unstable" "fd_write" (func (param i32 i32 i32 i32) (result i32)))', "wasi_unstable"),
        ('(import "env" "abort" (func (param i32 i32 i32 i32)))', "abort"),
    ],
)
async def test_an_import_that_nobody_gives_is_unloadable_by_name(shared: Sandbox, imported: str, words: str) -> None:
    asking = module(
        f"""(module {imported} (memory (export "memory") 1) (func (export "kiln_alloc") (param i32) (result i32) (i32.const 8))
        (func (export "handle") (param i32 i32) (result i64) (i64.const 0)))""",
        KILN.name,
    )

    with pytest.raises(Unloadable, match=words):
        await shared.prepare(asking.digest, asking.wasm, asking.abi)


@pytest.mark.parametrize("export", ['(func (export "_initialize") (param i32))', '(global (export "_initialize") i32 (i32.const 0))'])
async def test_an_initialize_of_another_kind_is_unloadable(shared: Sandbox, export: str) -> None:
    misfit = kiln("(i64.const 0)", export)

    with pytest.raises(Unloadable, match=r"_initialize\(\) -> \(\)"):
        await shared.prepare(misfit.digest, misfit.wasm, misfit.abi)


async def test_a_module_of_another_abi_is_unloadable(shared: Sandbox) -> None:
    with pytest.raises(Unloadable, match="_start"):
        await shared.prepare(ECHO.digest + "0", ECHO.wasm, "wasi-command")


# A stack in memory, whose end a guest tells by a global


@pytest.mark.parametrize(
    ("pointer", "body", "kind"),
    [
        ('(global $sp (export "__stack_pointer") (mut i32) (i32.const 64))', "(global.set $sp (i32.const -64))", ErrorType.STACK_OVERFLOW),
        ('(global $sp (export "__stack_pointer") (mut i32) (i32.const 64))', "(global.set $sp (i32.const 32))", ErrorType.TRAP),
        ('(global $sp (export "__stack_pointer") (mut i32) (i32.const -64))', "unreachable", ErrorType.TRAP),
        ("(global $sp (mut i32) (i32.const -64))", "", ErrorType.TRAP),
        ('(global (export "__stack_pointer") f32 (f32.const -64))', "", ErrorType.TRAP),
        ('(func (export "__stack_pointer"))', "", ErrorType.TRAP),
    ],
    ids=["below", "above", "another trap", "not told", "no whole number", "no global"],
)
async def test_a_trap_below_the_stack_is_its_overflow(shared: Sandbox, pointer: str, body: str, kind: ErrorType) -> None:
    guest = kiln(f"{body} (drop (i32.load (i32.const -64))) (i64.const 0)", pointer)

    assert fault(await run(shared, guest))[0] is kind
