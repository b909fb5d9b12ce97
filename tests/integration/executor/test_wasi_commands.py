"""WASI commands in a real sandbox: streams in, streams out, and how programs say why they ended."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.executor.sandbox import ErrorType, Level, Limits, Sandbox, Unloadable
from tests.integration.executor.calls import SHORT, fault, run
from tests.integration.executor.guests import Module, module
from tests.integration.executor.plain_guests import COMMAND_ECHO, SLEEPING, command, leaving, printing, say

OUT, ERR = 1, 2
TRACE = "\n\ngoroutine 1 [running]:\nmain.main()\n\t/main.go:3 +0x3\n"


# Input and output


@pytest.mark.parametrize("text", ["{}", '{"b":1, "a":1.10}', r'"\u0000\ud800"', '"😀é"', " [ 1 ] ", "[" * 512 + "]" * 512])
async def test_json_passes_through_untouched(shared: Sandbox, text: str) -> None:
    outcome = await run(shared, COMMAND_ECHO, text)

    assert outcome.error is None
    assert outcome.output == text.encode()


async def test_a_megabyte_passes_in_both_directions(shared: Sandbox) -> None:
    text = '"' + "é" * 500_000 + '"'

    assert (await run(shared, COMMAND_ECHO, text)).output == text.encode()


@pytest.mark.parametrize("guest", [printing((OUT, "[1,"), (OUT, " 2]\n")), leaving(0, (OUT, "[1,"), (OUT, " 2]\n"))])
async def test_returning_and_leaving_with_0_are_both_an_answer(shared: Sandbox, guest: Module) -> None:
    outcome = await run(shared, guest)

    assert outcome.error is None
    assert outcome.output == b"[1, 2]\n"


async def test_the_standard_error_is_the_log_by_lines(shared: Sandbox) -> None:
    outcome = await run(shared, printing((ERR, "one\ntw"), (OUT, "1"), (ERR, "o\n\nend\xff")))

    assert outcome.output == b"1"
    assert [(line.level, line.message) for line in outcome.logs] == [(Level.INFO, text) for text in ("one", "two", "", "end\xff")]


@pytest.mark.parametrize("guest", [command(""), leaving(0), leaving(0, (ERR, "[1]"))])
async def test_writing_nothing_is_an_invalid_output_that_says_what_to_do(shared: Sandbox, guest: Module) -> None:
    kind, message = fault(await run(shared, guest))

    assert kind is ErrorType.INVALID_OUTPUT
    assert "to the standard output" in message


@pytest.mark.parametrize("text", [b"nope", b"[1,\n2,]", b"\xff", b"1 2", b"\n"])
async def test_what_is_not_json_is_an_invalid_output(shared: Sandbox, text: bytes) -> None:
    kind, message = fault(await run(shared, printing((OUT, text))))

    assert kind is ErrorType.INVALID_OUTPUT
    assert "not valid JSON" in message


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=20) | st.integers().map(lambda n: str(n).encode()), max_size=5))
async def test_whatever_a_command_writes_is_json_or_its_own_fault(shared: Sandbox, pieces: list[bytes]) -> None:
    outcome = await run(shared, printing(*[(OUT, piece) for piece in pieces]))

    if outcome.output is None:
        assert fault(outcome)[0] is ErrorType.INVALID_OUTPUT
    else:
        assert outcome.output == b"".join(pieces)
        json.loads(outcome.output)


async def test_output_is_bounded_when_it_is_written_and_not_when_it_ends(shared: Sandbox) -> None:
    exact = await run(shared, printing((OUT, '"12'), (OUT, '34"')), limits=Limits(max_output_bytes=6))
    above = await run(shared, printing((OUT, '"12'), (OUT, '34"')), limits=Limits(max_output_bytes=5))
    endless = await run(shared, command(f"(loop {say(OUT, 0, 60_000)} (br 0))"))

    assert exact.output == b'"1234"'
    assert fault(above) == (ErrorType.OUTPUT_TOO_LARGE, "the output is larger than 5 bytes")
    assert fault(endless) == (ErrorType.OUTPUT_TOO_LARGE, "the output is larger than 1048576 bytes")
    assert endless.duration_us < 4_000_000


# How it ends


@pytest.mark.parametrize(
    ("guest", "message"),
    [
        (leaving(1), "the function ended with exit code 1"),
        (leaving(-1), "the function ended with exit code -1"),
        (leaving(3, (OUT, "[1]"), (ERR, "first\nno such file\n\n \n")), "the function ended with exit code 3: no such file"),
        (leaving(3, (ERR, "not ended")), "the function ended with exit code 3: not ended"),
        (leaving(1, (ERR, "x" * 5000)), "the function ended with exit code 1: " + "x" * 500),
        (leaving(1, (ERR, "panic: no\n\nlast")), "the function ended with exit code 1: last"),
    ],
)
async def test_another_exit_code_is_a_fault_with_the_last_words(shared: Sandbox, guest: Module, message: str) -> None:
    assert fault(await run(shared, guest)) == (ErrorType.EXIT, message)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("panic: oh no", "panic: oh no"),
        ("panic: one [recovered]\n\tpanic: again", "panic: again"),
        ("panic: an older one, of a log\nand more\npanic: runtime error: integer divide by zero\n[signal 0x8]", None),
        ("fatal error: all goroutines are asleep - deadlock!", "fatal error: all goroutines are asleep - deadlock!"),
    ],
)
async def test_a_panic_in_go_is_told_by_its_message_and_not_by_its_trace(shared: Sandbox, said: str, message: str | None) -> None:
    outcome = await run(shared, leaving(2, (ERR, said + TRACE)))

    expected = message or "panic: runtime error: integer divide by zero"
    assert fault(outcome) == (ErrorType.EXIT, f"the function ended with exit code 2: {expected}")
    assert len(outcome.logs) > 4


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("runtime: out of memory: cannot allocate 1048576-byte block (63275008 in use)\nfatal error: out of memory", "OUT_OF_MEMORY"),
        ("fatal error: runtime: out of memory", "OUT_OF_MEMORY"),
        ("fatal error: runtime: cannot allocate memory", "OUT_OF_MEMORY"),
        ("fatal error: out of memory (stackalloc)", "OUT_OF_MEMORY"),
        ("runtime: goroutine stack exceeds 1000000000-byte limit\nfatal error: stack overflow", "STACK_OVERFLOW"),
        ("panic: out of memory", "EXIT"),
    ],
)
async def test_what_go_ran_out_of_is_told_as_such(shared: Sandbox, said: str, kind: str) -> None:
    assert fault(await run(shared, leaving(2, (ERR, said + TRACE))))[0] == kind


async def test_last_words_are_heard_above_a_full_log(shared: Sandbox) -> None:
    outcome = await run(shared, leaving(2, (ERR, "noise\n" * 1000), (ERR, "panic: heard" + TRACE)))

    assert fault(outcome)[1].endswith("panic: heard")
    assert len(outcome.logs) == 256
    assert outcome.logs_truncated


async def test_a_trap_stays_a_trap_and_its_words_are_kept(shared: Sandbox) -> None:
    outcome = await run(shared, printing((OUT, "1"), (ERR, "thread panicked"), then="(unreachable)"))

    assert fault(outcome) == (ErrorType.TRAP, "unreachable executed")
    assert [line.message for line in outcome.logs] == ["thread panicked"]


async def test_a_command_with_an_adapter_can_explain_itself(shared: Sandbox) -> None:
    failing = command("(call $fail (i32.const 1024) (i32.const 5))", imports=("fail",), texts={1024: "why: "})

    assert fault(await run(shared, failing)) == (ErrorType.ABORT, "why: ")


async def test_a_start_function_that_prints_and_leaves_is_heard(shared: Sandbox) -> None:
    early = command(
        "",
        f"(func $early {say(ERR, 1024, 5)} (call $proc_exit (i32.const 4))) (start $early)",
        imports=("proc_exit",),
        texts={1024: "early"},
    )

    outcome = await run(shared, early)

    assert fault(outcome) == (ErrorType.EXIT, "the function ended with exit code 4")
    assert [line.message for line in outcome.logs] == ["early"]


# Time and state


@pytest.mark.parametrize(
    "endless",
    [
        command("(loop (br 0))"),
        SLEEPING,
        command(f"(loop {say(ERR, 0, 65_536)} (br 0))"),
        command(f"(loop {say(ERR, 1024, 60_000)} (br 0))", texts={1024: "\n" * 60_000}),
        command(f"(loop {say(ERR, 0, 0)} (br 0))"),
        command("(loop (drop (call $random_get (i32.const 0) (i32.const 33554432))) (br 0))", imports=("random_get",), memory="512"),
        command("(loop (drop (call $sched_yield)) (br 0))", imports=("sched_yield",)),
    ],
    ids=["loop", "sleep", "one line", "empty lines", "nothing", "random", "yield"],
)
async def test_what_does_not_end_is_stopped_at_its_deadline(shared: Sandbox, endless: Module) -> None:
    outcome = await run(shared, endless, limits=SHORT)

    assert fault(outcome) == (ErrorType.TIMEOUT, "the function ran longer than its limit of 200 ms")
    assert 190_000 <= outcome.duration_us < 1_500_000
    assert len(outcome.logs) <= 256
    assert sum(len(line.message.encode()) for line in outcome.logs) <= 64 << 10
    assert (await run(shared, COMMAND_ECHO)).output == b"{}"


async def test_state_does_not_outlive_a_call(shared: Sandbox) -> None:
    counter = command(
        f"""(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (i32.store8 (i32.const 1024) (i32.add (i32.const 48) (global.get $calls))) {say(OUT, 1024, 1)}""",
        "(global $calls (mut i32) (i32.const 0))",
    )

    assert [(await run(shared, counter)).output for _ in range(5)] == [b"1"] * 5


async def test_the_environment_reaches_a_command(shared: Sandbox) -> None:
    asking = command(
        f"(drop (call $environ_get (i32.const 16) (i32.const 1024))) {say(OUT, 1026, 5)}",
        imports=("environ_get",),
    )

    outcome = await run(shared, asking, environment={"A": '"hé"'})

    assert outcome.output == '"hé"'.encode()


# What is refused


@pytest.mark.parametrize("start", ['(func (export "_start") (param i32))', '(func (export "_start") (result i32) (i32.const 0))', ""])
async def test_a_module_without_a_fitting_start_is_unloadable(shared: Sandbox, start: str) -> None:
    misfit = module(f'(module (memory (export "memory") 1) {start})', "wasi-command")

    with pytest.raises(Unloadable, match=r"does not export _start\(\) -> \(\)"):
        await shared.prepare(misfit.digest, misfit.wasm, misfit.abi)
