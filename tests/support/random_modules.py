"""Random modules of the kiln ABI, in the text format: arithmetic, memory, growth, loops, tables, traps and calls of the host."""

from hypothesis import strategies as st

from tests.integration.executor.guests import Module
from tests.integration.executor.plain_guests import kiln

# Locals 0 and 1 are the input and its size, 2 and 3 are free.
_I32 = [f"(local.get {number})" for number in range(4)]
_CONSTANTS = st.sampled_from([0, 1, 2, 7, 64, 1024, 32768, 65532, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]) | st.integers(0, 0xFFFFFFFF)
_BINARY = ["add", "sub", "mul", "and", "or", "xor", "shl", "shr_s", "shr_u", "rotl", "eq", "ne", "lt_s", "gt_u", "le_s", "ge_u"]
_DIVIDING = ["div_s", "div_u", "rem_s", "rem_u"]
_FLOAT = ["add", "sub", "mul", "div", "min", "max"]
_LOADS = ["i32.load", "i32.load8_s", "i32.load8_u", "i32.load16_s", "i32.load16_u"]
_STORES = ["i32.store", "i32.store8", "i32.store16"]

_leaves = st.sampled_from([*_I32, "(memory.size)", "(global.get $g)"]) | _CONSTANTS.map(lambda value: f"(i32.const {value})")


def _within(address: str) -> str:
    """An address that is mostly in the memory."""
    return f"(i32.and {address} (i32.const 65535))"


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("(i32.{} {} {})".format, st.sampled_from(_BINARY), inner, inner),
        st.builds("(i32.{} {} {})".format, st.sampled_from(_DIVIDING), inner, inner.map(lambda by: f"(i32.or {by} (i32.const 1))") | inner),
        st.builds("({} {})".format, st.sampled_from(_LOADS), inner.map(_within) | inner),
        st.builds("(select {} {} {})".format, inner, inner, inner),
        st.builds("(i32.wrap_i64 (i64.{} (i64.extend_i32_s {}) (global.get $l)))".format, st.sampled_from(_BINARY[:10]), inner),
        st.builds("(i32.trunc_f64_s (f64.{} (f64.convert_i32_s {}) (global.get $d)))".format, st.sampled_from(_FLOAT), inner),
        st.builds("(memory.grow (i32.and {} (i32.const 7)))".format, inner),
        st.builds("(memory.grow {})".format, inner),
        st.builds("(call $helper {} {})".format, inner, inner),
        st.builds("(call_indirect (param i32 i32) (result i32) {} {} (i32.and {} (i32.const 3)))".format, inner, inner, inner),
        st.builds("(call $env_get {} (i32.const 3) {} (i32.const 64))".format, inner.map(_within), inner.map(_within)),
        st.builds("(call $fd_write (i32.and {} (i32.const 3)) (i32.const 2048) (i32.const 2) (i32.const 3000))".format, inner),
        st.builds("(call $clock_time_get {} (i64.const 0) {})".format, inner.map(lambda one: f"(i32.and {one} (i32.const 3))"), inner),
        st.just("(i32.wrap_i64 (call $now_ms))"),
    )


expressions = st.recursive(_leaves, _larger, max_leaves=6)


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(inner, min_size=1, max_size=3).map(" ".join)
    return st.one_of(
        st.builds("(if {} (then {}) (else {}))".format, expressions, several, several),
        # It ends, whatever is in it: the number of rounds is of its own.
        st.builds(
            "(global.set $n (i32.const {})) (loop {} (global.set $n (i32.sub (global.get $n) (i32.const 1)))"
            " (br_if 0 (i32.gt_s (global.get $n) (i32.const 0))))".format,
            st.integers(1, 20),
            inner,
        ),
    )


_statements = st.recursive(
    st.one_of(
        st.builds("(local.set {} {})".format, st.integers(2, 3), expressions),
        st.builds("(global.set $g {})".format, expressions),
        st.builds("(global.set $l (i64.extend_i32_u {}))".format, expressions),
        st.builds("(global.set $d (f64.convert_i32_u {}))".format, expressions),
        st.builds("({} {} {})".format, st.sampled_from(_STORES), expressions.map(_within) | expressions, expressions),
        st.builds("(memory.fill {} {} (i32.and {} (i32.const 4095)))".format, expressions.map(_within), expressions, expressions),
        st.builds("(call $log (i32.and {} (i32.const 3)) {} (i32.and {} (i32.const 255)))".format, expressions, expressions, expressions),
        st.builds("(call $random {} (i32.and {} (i32.const 63)))".format, expressions.map(_within) | expressions, expressions),
        st.builds("(if (i32.eq {} {}) (then (call $fail (i32.const 1024) (i32.const 9))))".format, expressions, expressions),
        st.builds("(if (i32.eq {} {}) (then (unreachable)))".format, expressions, expressions),
        st.builds("(if (i32.eq {} {}) (then (call $proc_exit {})))".format, expressions, expressions, expressions),
        st.builds("(table.set (i32.and {} (i32.const 3)) (ref.func $other))".format, expressions),
    ),
    _nested,
    max_leaves=4,
)
_answers = st.one_of(
    st.builds("(call $number {})".format, expressions),
    st.builds("(call $text {} (i32.and {} (i32.const 15)))".format, expressions, expressions),
    st.just("(call $text (local.get 0) (local.get 1))"),
)


def _module(statements: list[str], answer: str, helper: str, start: list[str]) -> Module:
    return kiln(
        " ".join([*statements, answer]),
        "(global $g (mut i32) (i32.const 5)) (global $l (mut i64) (i64.const -3)) (global $d (mut f64) (f64.const 2.5))",
        "(global $n (mut i32) (i32.const 0)) (table 4 4 funcref) (elem (i32.const 0) $helper $other)",
        f"(func $helper (param i32 i32) (result i32) (local i32 i32) (i32.add (local.get 0) {_calls_nobody(helper)}))",
        "(func $other (param i32) (result i32) (local.get 0)) (elem declare func $other)",
        f"(func $start (local i32 i32 i32 i32) {' '.join(start)}) (start $start)",
        imports=("fail", "log", "now_ms", "random", "env_get", "fd_write", "clock_time_get", "proc_exit"),
        texts={1024: "the words", 2048: (1024).to_bytes(4, "little") + (9).to_bytes(4, "little") + bytes(8)},
        memory="1 6",
    )


def _calls_nobody(helper: str) -> str:
    """The helper never calls itself, or it would not end."""
    return "(i32.const 3)" if "call $helper" in helper or "call_indirect" in helper else helper


modules = st.builds(_module, st.lists(_statements, max_size=5), _answers, expressions, st.lists(_statements, max_size=1))
