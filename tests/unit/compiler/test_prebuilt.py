"""A prebuilt module's ABI is the one that its exports fit, and what fits none is told what it lacks."""

import asyncio
import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest
import wasmtime

from libs.common.abi import ABIS, ASSEMBLYSCRIPT, Abi, Signature
from services.compiler.build import Built, Rejected, build, readable
from services.compiler.languages import Bounds, Compiled, Diagnostic, Failed
from services.compiler.languages import wasm as module
from services.compiler.languages.wasm import Wasm, nearest_abi
from services.compiler.wasm import parse
from tests.integration.executor.guests import ECHO

FOLDER: Final = Path(module.__file__).parent
BOUNDS: Final = Bounds(wall_seconds=30, cpu_seconds=30, memory_bytes=1 << 30, output_bytes=1 << 16, artifact_bytes=1 << 20)
# Two more of the kinds that there are: a reactor with an allocator, and a command.
REACTOR: Final = Abi("reactor", {"allocate": Signature(("i32",), ("i32",)), "handle": Signature(("i32", "i32"), ("i64",))}, {})
COMMAND: Final = Abi("command", {"_start": Signature()}, {("system", "exit"): Signature(("i32",))})
THREE: Final = {abi.name: abi for abi in (ASSEMBLYSCRIPT, REACTOR, COMMAND)}


def exporting(*names: str, more: str = "") -> bytes:
    """A module with a memory and functions of these names, of the types that the first ABI with one of that name wants."""
    wanted = {name: signature for abi in reversed(THREE.values()) for name, signature in abi.exports.items()}
    functions = "".join(_function(name, wanted.get(name, Signature())) for name in names)
    return bytes(wasmtime.wat2wasm(f'(module {more} (memory (export "memory") 1) {functions})'))


def _function(name: str, type_: Signature) -> str:
    return f'(func (export "{name}") (param {" ".join(type_.params)}) (result {" ".join(type_.results)}) unreachable)'


def quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


async def refused(wasm: bytes) -> Diagnostic:
    outcome = await Wasm(abis=THREE).compile(wasm, BOUNDS)
    assert isinstance(outcome, Failed)
    assert outcome.reason == "COMPILE_ERROR"
    (diagnostic,) = outcome.diagnostics
    return diagnostic


@pytest.mark.parametrize(
    ("names", "abi"),
    [
        (["handle", "__new", "__pin"], ASSEMBLYSCRIPT),
        (["handle", "__new", "__pin", "__collect", "_start"], ASSEMBLYSCRIPT),
        (["handle", "allocate"], REACTOR),
        (["handle", "allocate", "__new"], REACTOR),
        (["handle", "allocate", "_start"], REACTOR),
        (["_start"], COMMAND),
        (["_start", "handle"], COMMAND),
    ],
)
async def test_a_module_is_of_the_abi_whose_exports_it_has(names: list[str], abi: Abi) -> None:
    wasm = exporting(*names)

    assert await Wasm(abis=THREE).compile(wasm, BOUNDS) == Compiled(wasm, abi, ())


@pytest.mark.parametrize(
    ("names", "nearest", "missing"),
    [
        (["handle"], "reactor", ["allocate"]),
        (["allocate"], "reactor", ["handle"]),
        (["handle", "__new"], "assemblyscript", ["__pin"]),
        (["__new", "__pin"], "assemblyscript", ["handle"]),
        ([], "assemblyscript", ["handle", "__new", "__pin"]),
    ],
)
async def test_what_fits_no_abi_is_told_what_it_lacks_of_the_nearest_and_which_there_are(
    names: list[str], nearest: str, missing: list[str]
) -> None:
    found = await refused(exporting(*names))

    assert (found.code, found.line, found.column, found.excerpt) == ("INVALID_ABI", 1, 1, "")
    assert f"The nearest is {nearest}, of which it lacks the function {quoted(missing)}. " in found.message
    for abi in THREE.values():
        assert f"{abi.name} exports {quoted(abi.exports)}" in found.message


def test_of_abis_that_a_module_has_alike_it_is_the_one_that_asks_for_most() -> None:
    both = Abi("both", {"_start": Signature(), "_stop": Signature()}, {})

    for order in ((COMMAND, both), (both, COMMAND)):
        assert nearest_abi(parse(exporting("_start", "_stop")), order) == both


async def test_an_export_that_is_no_function_does_not_count() -> None:
    found = await refused(exporting(more='(global (export "_start") i32 (i32.const 0))'))

    assert found.code == "INVALID_ABI"


@pytest.mark.parametrize(
    "wasm", [b"", b"\0asm", b"\x7fELF" + bytes(100), b"(module)", "é\u202e".encode(), b"\xff\xfe\0", b"\0asm\1\0\0\0\1"]
)
async def test_what_is_no_module_is_said_so_and_shows_no_bytes(wasm: bytes) -> None:
    found = await refused(wasm)

    assert (found.code, found.line, found.column, found.excerpt) == ("MALFORMED", 1, 1, "")


async def test_a_module_that_is_too_large_is_not_read() -> None:
    outcome = await Wasm().compile(b"no module" + bytes(BOUNDS.artifact_bytes), BOUNDS)

    assert isinstance(outcome, Failed)
    assert (outcome.reason, str(BOUNDS.artifact_bytes) in outcome.diagnostics[0].message) == ("COMPILE_OUTPUT", True)


async def test_a_module_that_fits_is_taken_as_it_is() -> None:
    built = await build(Wasm(), ECHO.wasm, BOUNDS, key="key")

    assert built == Built(ECHO.wasm, "assemblyscript", (), "key")


@pytest.mark.parametrize(
    ("wasm", "code", "word"),
    [
        (exporting("handle", "__new", "__pin", more='(import "env" "fetch" (func))'), "UNKNOWN_IMPORT", '"env"."fetch"'),
        (exporting("handle", "__new", "__pin", more='(func (export "wide") (param v128))'), "INVALID_ABI", "v128"),
        (exporting("handle", "__new", "__pin").replace(b"\x06memory", b"\x06mymory"), "INVALID_ABI", "memory"),
    ],
)
async def test_what_the_trusted_check_refuses_of_a_module_shows_no_bytes(wasm: bytes, code: str, word: str) -> None:
    rejected = await build(Wasm(abis=THREE), wasm, BOUNDS, key=None)

    assert isinstance(rejected, Rejected)
    (found,) = rejected.diagnostics
    assert (found.code, found.line, found.column, found.excerpt) == (code, 1, 1, "")
    assert word in found.message
    assert readable(rejected.diagnostics) == f"1:1: error {code}: {found.message}"


async def test_a_module_is_read_beside_the_event_loop() -> None:
    reading = asyncio.create_task(build(Wasm(), ECHO.wasm, BOUNDS, key=None))

    await asyncio.sleep(0)

    assert not reading.done()
    await reading


async def test_the_starter_is_the_module_of_the_text_beside_it_and_is_taken() -> None:
    language = Wasm()
    starter = base64.b64decode(language.starter, validate=True)

    built = await build(language, starter, BOUNDS, key=None)

    text = (FOLDER / "starter.wat").read_text(encoding="utf-8")
    assert starter == bytes(wasmtime.wat2wasm(text))
    assert isinstance(built, Built)
    assert built.abi in ABIS


def test_nothing_need_be_installed() -> None:
    toolchain = Wasm().toolchain()

    assert (toolchain.available, toolchain.version, toolchain.install_hint) == (True, "1", "")
    assert toolchain.fingerprint == hashlib.sha256((FOLDER / "__init__.py").read_bytes()).hexdigest()
