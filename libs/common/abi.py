"""The guest ABIs: what a module must export to be called, and all that it may import.

The compiler refuses an artifact that does not fit its ABI, the executor supplies exactly these imports: one table, so that neither
can drift from the other. Value types are written as in the WebAssembly text format.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

ValueType = Literal["i32", "i64", "f32", "f64"]


@dataclass(frozen=True, slots=True)
class Signature:
    """Parameter and result types of one function."""

    params: tuple[ValueType, ...] = ()
    results: tuple[ValueType, ...] = ()


@dataclass(frozen=True, slots=True)
class Abi:
    """How the host and a guest of one kind talk to each other.

    Attributes:
        name: The word stored with the artifact.
        exports: Functions that must be there, by name.
        imports: Functions that may be asked for, by (module, field).
    """

    name: str
    exports: Mapping[str, Signature]
    imports: Mapping[tuple[str, str], Signature]


_I32 = Signature(("i32",))

# Strings are pointers to UTF-16LE text whose size in bytes is the u32 four bytes before it (class id 2); null is 0.
# Source: the runtime layout page of AssemblyScript's documentation and std/assembly/bindings of assemblyscript 0.28.
ASSEMBLYSCRIPT: Final = Abi(
    name="assemblyscript",
    exports={
        "handle": Signature(("i32",), ("i32",)),
        "__new": Signature(("i32", "i32"), ("i32",)),
        "__pin": Signature(("i32",), ("i32",)),
    },
    imports={
        ("env", "abort"): Signature(("i32", "i32", "i32", "i32")),
        ("env", "trace"): Signature(("i32", "i32", "f64", "f64", "f64", "f64", "f64")),
        ("env", "seed"): Signature((), ("f64",)),
        ("env", "Date.now"): Signature((), ("f64",)),
        ("env", "performance.now"): Signature((), ("f64",)),
        ("env", "process.exit"): _I32,
        ("env", "console.assert"): Signature(("i32", "i32")),
        ("env", "console.log"): _I32,
        ("env", "console.debug"): _I32,
        ("env", "console.info"): _I32,
        ("env", "console.warn"): _I32,
        ("env", "console.error"): _I32,
        ("env", "console.time"): _I32,
        ("env", "console.timeLog"): _I32,
        ("env", "console.timeEnd"): _I32,
    },
)

ABIS: Final[Mapping[str, Abi]] = {abi.name: abi for abi in (ASSEMBLYSCRIPT,)}
