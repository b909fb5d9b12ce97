"""What the trusted check lets through, and what it says of the rest."""

from collections.abc import Callable
from typing import Final

import pytest
import wasmtime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.common.abi import ABIS, ASSEMBLYSCRIPT, KILN, MAX_TABLE_ELEMENTS, WASI_COMMAND, Abi, Signature
from services.compiler.wasm import MAX_FUNCTIONS, UnusableModule, check, parse

MAX_BYTES: Final = 8 * 1024 * 1024
HEADER: Final = b"\0asm\x01\0\0\0"
I32, I64, F64, V128, FUNCREF, EXTERNREF = b"\x7f", b"\x7e", b"\x7c", b"\x7b", b"\x70", b"\x6f"

TINY: Final = Abi(
    name="tiny",
    exports={"handle": Signature(("i32",), ("i32",))},
    imports={("env", "log"): Signature(("i32",))},
)
BODY: Final = '(memory (export "memory") 1) (func (export "handle") (param i32) (result i32) local.get 0)'


def leb(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def vector(*items: bytes) -> bytes:
    return leb(len(items)) + b"".join(items)


def section(number: int, contents: bytes) -> bytes:
    return bytes([number]) + leb(len(contents)) + contents


def name(text: str) -> bytes:
    return leb(len(text.encode())) + text.encode()


def function_type(params: bytes = b"", results: bytes = b"") -> bytes:
    return b"\x60" + leb(len(params)) + params + leb(len(results)) + results


def module(**parts: bytes) -> bytes:
    """The smallest module of the tiny ABI; a part replaces a section's contents, an empty one leaves the section out."""
    whole = {
        "types": vector(function_type(I32, I32)),
        "imports": b"",
        "functions": vector(leb(0)),
        "tables": b"",
        "memories": vector(b"\0" + leb(1)),
        "tags": b"",
        "globals": b"",
        "exports": vector(name("memory") + b"\x02\0", name("handle") + b"\0\0"),
        "start": b"",
        "elements": b"",
        "data_count": b"",
        "code": vector(leb(4) + b"\0\x20\0\x0b"),
        "data": b"",
    } | parts
    numbers = (1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11)
    return HEADER + b"".join(section(number, one) for number, one in zip(numbers, whole.values(), strict=True) if one)


def wat(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(f"(module {text})"))


def refusal(wasm: bytes, abi: Abi = TINY, max_bytes: int = MAX_BYTES) -> UnusableModule:
    with pytest.raises(UnusableModule) as caught:
        check(wasm, abi, max_bytes=max_bytes)
    return caught.value


@pytest.mark.parametrize(
    "wasm",
    [
        pytest.param(module(), id="the smallest"),
        pytest.param(module() + section(0, name("producers") + b"anything"), id="a custom section"),
        pytest.param(module(code=b"\x81\x80\x80\x80\x00" + leb(4) + b"\0\x20\0\x0b"), id="a number padded to five bytes"),
        pytest.param(wat(BODY), id="text"),
        pytest.param(wat('(import "env" "log" (func (param i32)))' + BODY), id="a known import"),
        pytest.param(wat('(global (export "answer") i64 (i64.const -42))' + BODY), id="a numeric global"),
        pytest.param(wat("(global f64 (f64.const 1)) (global f32 (f32.const 1))" + BODY), id="own globals"),
        pytest.param(wat("(func $init) (start $init)" + BODY), id="a start function"),
        pytest.param(wat('(data (i32.const 8) "hello") (data "passive")' + BODY), id="data"),
        pytest.param(wat("(table 2 funcref) (func $f) (elem (i32.const 0) $f $f) (elem declare func $f)" + BODY), id="elements"),
        pytest.param(wat("(table 2 funcref) (func $f) (elem (i32.const 0) funcref (ref.null func) (ref.func $f))" + BODY), id="refs"),
        pytest.param(wat("(func (result i32 i64) i32.const 1 i64.const 1)" + BODY), id="several results inside"),
        pytest.param(wat("(func (local i32 i32 f64))" + BODY), id="locals"),
    ],
)
def test_a_module_of_the_abi_passes(wasm: bytes) -> None:
    check(wasm, TINY, max_bytes=MAX_BYTES)


def test_an_import_outside_the_abi_is_named() -> None:
    error = refusal(wat('(import "env" "foo" (func))' + BODY))

    assert error.code == "UNKNOWN_IMPORT"
    assert error.message == 'unknown import "env"."foo"'


def test_a_mistyped_import_is_told_its_type() -> None:
    error = refusal(wat('(import "env" "log" (func (param i64)))' + BODY))

    assert error.code == "UNKNOWN_IMPORT"
    assert '"env"."log"' in error.message
    assert "(i64) -> ()" in error.message
    assert "(i32) -> ()" in error.message


def test_a_hostile_name_stays_one_short_line() -> None:
    error = refusal(module(types=vector(function_type()), imports=vector(name("\n\x1b[31m" + "x" * 5000) + name("f") + b"\0\0")))

    assert error.code == "UNKNOWN_IMPORT"
    assert error.message.isprintable()
    assert len(error.message) < 300


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('(import "env" "memory" (memory 1))', "memory"),
        ('(import "env" "table" (table 1 funcref))', "table"),
        ('(import "env" "g" (global i32))', "global"),
        ('(import "env" "t" (tag))', "tag"),
    ],
)
def test_only_functions_are_imported(text: str, kind: str) -> None:
    error = refusal(wat(text + '(func (export "handle") (param i32) (result i32) local.get 0)'))

    assert error.code == "UNKNOWN_IMPORT"
    assert kind in error.message


@pytest.mark.parametrize(
    "text",
    [
        '(func (export "x") (param v128))',
        '(func (export "x") (result v128) v128.const i64x2 0 0)',
        '(func (export "x") (param externref))',
        '(func (export "x") (param funcref))',
        '(type $t (func)) (func (export "x") (param (ref null $t)))',
        '(func (export "x") (param (ref extern)))',
        '(func (export "x") (result i32 i32) i32.const 1 i32.const 1)',
        '(table (export "x") 1 funcref)',
        '(tag (export "x"))',
        '(global (export "x") funcref (ref.null func))',
    ],
)
def test_an_export_that_engines_cannot_look_at_is_refused(text: str) -> None:
    error = refusal(wat(BODY + text))

    assert error.code in ("INVALID_ABI", "UNSUPPORTED_FEATURE")


@pytest.mark.parametrize(
    ("wasm", "said"),
    [
        pytest.param(module(exports=vector(name("handle") + b"\0\0")), '"memory"', id="no memory exported"),
        pytest.param(module(memories=b"", exports=vector(name("handle") + b"\0\0")), '"memory"', id="no memory"),
        pytest.param(module(exports=vector(name("memory") + b"\0\0", name("handle") + b"\0\0")), '"memory"', id="a function memory"),
        pytest.param(module(exports=vector(name("memory") + b"\x02\0")), '"handle"', id="no handle"),
        pytest.param(module(types=vector(function_type(I64, I32))), '"handle" has type (i64) -> (i32)', id="mistyped handle"),
        pytest.param(module(types=vector(function_type(I32 + V128, I32))), '"handle" has a v128', id="v128 in handle"),
        pytest.param(module(types=vector(function_type(I32 + EXTERNREF, I32))), '"handle" has a externref', id="externref in handle"),
        pytest.param(module(exports=vector(name("t") + b"\x04\0")), "tag", id="an exported tag"),
    ],
)
def test_what_the_abi_asks_for_must_be_there(wasm: bytes, said: str) -> None:
    error = refusal(wasm)

    assert error.code == "INVALID_ABI"
    assert said in error.message


@pytest.mark.parametrize(
    "wasm",
    [
        pytest.param(wat('(memory (export "memory") 1 1 shared) (func (export "handle"))'), id="shared memory"),
        pytest.param(wat('(memory (export "memory") i64 1) (func (export "handle"))'), id="memory64"),
        pytest.param(module(memories=vector(b"\x08\x01\x00")), id="custom page size"),
        pytest.param(wat("(memory 1)" + BODY), id="two memories"),
        pytest.param(wat("(table 1 funcref) (table 1 funcref)" + BODY), id="two tables"),
        pytest.param(wat("(table 1 externref)" + BODY), id="table of externref"),
        pytest.param(wat("(table i64 1 funcref)" + BODY), id="table64"),
        pytest.param(wat("(tag)" + BODY), id="exceptions"),
        pytest.param(wat("(type (struct (field i32)))" + BODY), id="struct type"),
        pytest.param(wat("(rec (type (func)) (type (func)))" + BODY), id="recursive types"),
        pytest.param(wat("(type (sub (func)))" + BODY), id="subtype"),
        pytest.param(wat("(func (param v128))" + BODY), id="v128 inside"),
        pytest.param(wat("(func (local v128))" + BODY), id="v128 local"),
        pytest.param(wat("(func (local externref))" + BODY), id="externref local"),
        pytest.param(wat("(global v128 (v128.const i64x2 0 0))" + BODY), id="v128 global"),
        pytest.param(wat("(global externref (ref.null extern))" + BODY), id="externref global"),
        pytest.param(wat("(global i32 (i32.add (i32.const 1) (i32.const 2)))" + BODY), id="extended constants"),
        pytest.param(module(types=vector(function_type(b"\x40", I32))), id="unknown value type"),
    ],
)
def test_a_disabled_proposal_is_refused(wasm: bytes) -> None:
    assert refusal(wasm).code == "UNSUPPORTED_FEATURE"


@pytest.mark.parametrize(
    "wasm",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0asm", id="half a header"),
        pytest.param(b"\0asm\x0d\0\x01\0", id="a component"),
        pytest.param(b"#!/bin/sh\n", id="a script"),
        pytest.param(module() + b"\0", id="trailing byte"),
        pytest.param(module() + b"trailing bytes", id="trailing bytes"),
        pytest.param(module() + section(14, b""), id="unknown section"),
        pytest.param(module() + section(1, b"\0"), id="a section twice"),
        pytest.param(HEADER + section(3, b"\0") + section(1, b"\0"), id="out of order"),
        pytest.param(HEADER + b"\x01\x05\0", id="a section beyond the end"),
        pytest.param(HEADER + section(1, b"\0\0"), id="a section longer than its contents"),
        pytest.param(HEADER + section(1, leb(1000)), id="a count beyond its section"),
        pytest.param(HEADER + b"\x01\x80\x80\x80\x80\x80\0", id="an overlong number"),
        pytest.param(HEADER + b"\x01\xff\xff\xff\xff\x7f", id="a number above 32 bits"),
        pytest.param(HEADER + section(0, b"\x02\xff\xff"), id="a name that is not UTF-8"),
        pytest.param(HEADER + section(0, b"\x05a"), id="a name beyond its section"),
        pytest.param(module(functions=vector(leb(7))), id="an unknown type"),
        pytest.param(module(exports=vector(name("handle") + b"\0\x07")), id="an unknown function"),
        pytest.param(module(exports=vector(name("a") + b"\0\0", name("a") + b"\0\0")), id="a name exported twice"),
        pytest.param(module(start=leb(0)), id="a start function with parameters"),
        pytest.param(module(start=leb(9)), id="an unknown start function"),
        pytest.param(module(code=b"\0"), id="fewer bodies than functions"),
        pytest.param(module(code=vector(leb(3) + b"\0\x20\0")), id="a body without an end"),
        pytest.param(module(data_count=leb(3)), id="another number of data segments"),
        pytest.param(module(data=vector(b"\x09")), id="a data segment of no form"),
        pytest.param(module(data=vector(b"\0\x41\0\x0b" + leb(50) + b"short")), id="data beyond its section"),
        pytest.param(module(elements=vector(b"\0\x41\0\x0b\0")), id="elements without a table"),
        pytest.param(module(memories=vector(b"\x01\x02\x01")), id="a maximum below the minimum"),
        pytest.param(module(memories=vector(b"\0" + leb(65_537))), id="more memory than there can be"),
        pytest.param(module(globals=vector(I32 + b"\x02\x41\0\x0b")), id="a global of no mutability"),
        pytest.param(module(globals=vector(I32 + b"\0\x41\xff\xff\xff\xff\x3f\x0b")), id="a constant above 32 bits"),
        pytest.param(module(globals=vector(I64 + b"\0\x42" + b"\x80" * 10 + b"\0\x0b")), id="an overlong constant"),
        pytest.param(module(globals=vector(F64 + b"\0\x44\0")), id="half a constant"),
        pytest.param(module(globals=vector(I32 + b"\0\x23\0\x0b")), id="a constant of an unknown global"),
    ],
)
def test_bytes_that_are_no_module_are_malformed(wasm: bytes) -> None:
    assert refusal(wasm).code == "MALFORMED"


SEGMENT_BYTES: Final = (0, 1, 0x0B, 127, 128, 129, 16_383, 16_384, 20_000)
ADDRESSES: Final = (b"\0", b"\x3f", b"\xff\0", b"\x80\x80\0", b"\x80\x80\x04", b"\x80\x80\x80\0", b"\x80\x80\x80\x80\0")


def segments(*, short_by: int = 0) -> bytes:
    """A data section of segments of all sizes at addresses of all lengths, each with bytes that look like another segment's head."""
    of_all = [b"\0\x41" + at + b"\x0b" + leb(size) + (b"\0\x41\0\x0b\x01" * size)[:size] for at in ADDRESSES for size in SEGMENT_BYTES]
    contents = vector(*of_all, b"\x01" + leb(3) + b"abc", b"\x02\0\x41\0\x0b" + leb(2) + b"ab", b"\0\x41\0\x0b\x01a")
    return module(memories=vector(b"\0" + leb(64)), data=contents[: len(contents) - short_by])


def test_data_segments_of_all_sizes_and_forms_pass_as_the_engine_has_them() -> None:
    wasmtime.Module.validate(wasmtime.Engine(), segments())
    check(segments(), TINY, max_bytes=MAX_BYTES)


@pytest.mark.parametrize("short_by", [1, 2, 7])
def test_the_last_data_segment_does_not_run_over_the_end(short_by: int) -> None:
    assert refusal(segments(short_by=short_by)).code == "MALFORMED"


def test_a_plain_data_segment_needs_a_memory() -> None:
    wasm = module(memories=b"", exports=vector(name("handle") + b"\0\0"), data=vector(b"\0\x41\0\x0b\x01a"))

    assert refusal(wasm).code == "MALFORMED"


def test_a_module_above_the_limit_is_not_read() -> None:
    error = refusal(module() + section(0, name("padding") + bytes(1000)), max_bytes=500)

    assert error.code == "TOO_LARGE"
    assert "500" in error.message


@pytest.mark.parametrize(
    "wasm",
    [
        pytest.param(module(functions=leb(MAX_FUNCTIONS + 1) + bytes(MAX_FUNCTIONS + 1)), id="functions"),
        pytest.param(wat(f"(table {MAX_TABLE_ELEMENTS + 1} funcref)" + BODY), id="table elements"),
        pytest.param(wat('(memory (export "memory") 8193) (func (export "handle"))'), id="initial memory"),
        pytest.param(module(code=vector(leb(6) + vector(leb(60_000) + I32) + b"\x0b")), id="locals"),
        pytest.param(module(types=leb(500_001) + function_type() * 500_001), id="entries"),
    ],
)
def test_a_module_that_asks_for_too_much_is_too_large(wasm: bytes) -> None:
    assert refusal(wasm).code == "TOO_LARGE"


def test_locals_in_groups_of_none_cannot_keep_the_check_busy() -> None:
    groups = leb(600_000) + (b"\0" + I32) * 600_000
    wasm = module(code=vector(leb(len(groups) + 1) + groups + b"\x0b"))

    assert refusal(wasm).code == "TOO_LARGE"


def test_a_real_abi_needs_all_of_its_exports() -> None:
    assert '"__new"' in refusal(wat(BODY), ASSEMBLYSCRIPT).message


KILN_BODY: Final = """(memory (export "memory") 1) (func (export "kiln_alloc") (param i32) (result i32) local.get 0)
(func (export "handle") (param i32 i32) (result i64) i64.const 0)"""


@pytest.mark.parametrize(
    ("text", "abi"),
    [
        pytest.param(KILN_BODY, KILN, id="kiln"),
        pytest.param('(func (export "_initialize"))' + KILN_BODY, KILN, id="a reactor"),
        pytest.param('(memory (export "memory") 1) (func (export "_start"))', WASI_COMMAND, id="a command"),
    ],
)
def test_a_module_of_each_real_abi_passes(text: str, abi: Abi) -> None:
    check(wat(text), abi, max_bytes=MAX_BYTES)


@pytest.mark.parametrize("abi", ABIS.values(), ids=lambda abi: abi.name)
def test_each_real_abi_names_the_export_that_is_missing(abi: Abi) -> None:
    error = refusal(wat('(memory (export "memory") 1)'), abi)

    assert error.code == "INVALID_ABI"
    assert any(f'"{export}"' in error.message for export in abi.exports)


@pytest.mark.parametrize("abi", ABIS.values(), ids=lambda abi: abi.name)
def test_each_real_abi_gives_all_of_its_imports_and_nothing_else(abi: Abi) -> None:
    def imported(signatures: dict[tuple[str, str], Signature]) -> str:
        return "".join(
            f'(import "{source}" "{field}" (func (param {" ".join(one.params)}) (result {" ".join(one.results)})))'
            for (source, field), one in signatures.items()
        )

    assert refusal(wat(imported(dict(abi.imports))), abi).code == "INVALID_ABI"
    assert refusal(wat(imported({**abi.imports, ("kiln", "open"): Signature()})), abi).message == 'unknown import "kiln"."open"'


@pytest.mark.parametrize("text", ['(func (export "_initialize") (param i32))', '(global (export "_initialize") i32 (i32.const 0))'])
def test_an_optional_export_that_is_there_must_fit(text: str) -> None:
    error = refusal(wat(text + KILN_BODY), KILN)

    assert error.code == "INVALID_ABI"
    assert '"_initialize"' in error.message


def test_instructions_are_not_read() -> None:
    parsed = parse(module(code=vector(leb(4) + b"\0\xff\xff\x0b")))

    assert parsed.bodies == 1


def accepted_or_refused(wasm: bytes) -> None:
    try:
        check(wasm, TINY, max_bytes=MAX_BYTES)
    except UnusableModule as error:
        assert error.message  # noqa: PT017  (both outcomes are right, no other exception is)


RICH: Final = wat(
    '(import "env" "log" (func (param i32))) (table 4 funcref) (global i32 (i32.const -5)) (global (mut f64) (f64.const 1.5))'
    '(func $f (local i32 i64)) (elem (i32.const 1) $f) (elem funcref (ref.null func)) (start $f) (data (i32.const 1) "abc")' + BODY
)


@given(st.binary(max_size=200))
def test_any_bytes_are_accepted_or_refused(tail: bytes) -> None:
    accepted_or_refused(tail)
    accepted_or_refused(HEADER + tail)


def flip(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


def cut(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + data[at + 1 + value % 8 :]


def put(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) * (1 + value % 5) + data[at:]


@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.sampled_from([flip, cut, put]), st.integers(8, len(RICH) - 1), st.integers(0, 255)),
        min_size=1,
        max_size=6,
    )
)
def test_any_mutation_is_accepted_or_refused(edits: list[tuple[Callable[[bytes, int, int], bytes], int, int]]) -> None:
    wasm = RICH
    for edit, at, value in edits:
        wasm = edit(wasm, min(at, len(wasm)), value) if at < len(wasm) else wasm

    accepted_or_refused(wasm)
