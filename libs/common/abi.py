"""The guest ABIs: what a module must export to be called, and all that it may import.

The compiler refuses an artifact that does not fit its ABI, the executor supplies exactly these imports: one table, so that neither
can drift from the other. Value types are written as in the WebAssembly text format.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

# How many functions a guest's table may hold: a Go program has an entry for nearly each of its functions. An entry takes 8 bytes.
MAX_TABLE_ELEMENTS: Final = 100_000

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
        optional: Functions that may be there; one that is has this type.
    """

    name: str
    exports: Mapping[str, Signature]
    imports: Mapping[tuple[str, str], Signature]
    optional: Mapping[str, Signature] = field(default_factory=dict)


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
        # How many bytes the environment takes, as names and values of UTF-16LE each ended by a NUL; and writes them to an address.
        ("env", "process.env.size"): Signature((), ("i32",)),
        ("env", "process.env.read"): _I32,
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


def _answering(*params: ValueType) -> Signature:
    """A function that answers with an i32."""
    return Signature(params, ("i32",))


# Preview 1 of WASI, whole, so that any module made for it links. Every function but proc_exit answers with an errno.
# Source: legacy/preview1/docs.md of the WebAssembly/WASI repository.
_WASI: Final[Mapping[tuple[str, str], Signature]] = {
    ("wasi_snapshot_preview1", name): signature
    for name, signature in {
        "args_get": _answering("i32", "i32"),
        "args_sizes_get": _answering("i32", "i32"),
        "environ_get": _answering("i32", "i32"),
        "environ_sizes_get": _answering("i32", "i32"),
        "clock_res_get": _answering("i32", "i32"),
        "clock_time_get": _answering("i32", "i64", "i32"),
        "fd_advise": _answering("i32", "i64", "i64", "i32"),
        "fd_allocate": _answering("i32", "i64", "i64"),
        "fd_close": _answering("i32"),
        "fd_datasync": _answering("i32"),
        "fd_fdstat_get": _answering("i32", "i32"),
        "fd_fdstat_set_flags": _answering("i32", "i32"),
        "fd_fdstat_set_rights": _answering("i32", "i64", "i64"),
        "fd_filestat_get": _answering("i32", "i32"),
        "fd_filestat_set_size": _answering("i32", "i64"),
        "fd_filestat_set_times": _answering("i32", "i64", "i64", "i32"),
        "fd_pread": _answering("i32", "i32", "i32", "i64", "i32"),
        "fd_prestat_dir_name": _answering("i32", "i32", "i32"),
        "fd_prestat_get": _answering("i32", "i32"),
        "fd_pwrite": _answering("i32", "i32", "i32", "i64", "i32"),
        "fd_read": _answering("i32", "i32", "i32", "i32"),
        "fd_readdir": _answering("i32", "i32", "i32", "i64", "i32"),
        "fd_renumber": _answering("i32", "i32"),
        "fd_seek": _answering("i32", "i64", "i32", "i32"),
        "fd_sync": _answering("i32"),
        "fd_tell": _answering("i32", "i32"),
        "fd_write": _answering("i32", "i32", "i32", "i32"),
        "path_create_directory": _answering("i32", "i32", "i32"),
        "path_filestat_get": _answering("i32", "i32", "i32", "i32", "i32"),
        "path_filestat_set_times": _answering("i32", "i32", "i32", "i32", "i64", "i64", "i32"),
        "path_link": _answering("i32", "i32", "i32", "i32", "i32", "i32", "i32"),
        "path_open": _answering("i32", "i32", "i32", "i32", "i32", "i64", "i64", "i32", "i32"),
        "path_readlink": _answering("i32", "i32", "i32", "i32", "i32", "i32"),
        "path_remove_directory": _answering("i32", "i32", "i32"),
        "path_rename": _answering("i32", "i32", "i32", "i32", "i32", "i32"),
        "path_symlink": _answering("i32", "i32", "i32", "i32", "i32"),
        "path_unlink_file": _answering("i32", "i32", "i32"),
        "poll_oneoff": _answering("i32", "i32", "i32", "i32"),
        "proc_exit": _I32,
        "proc_raise": _answering("i32"),
        "random_get": _answering("i32", "i32"),
        "sched_yield": _answering(),
        "sock_accept": _answering("i32", "i32", "i32"),
        "sock_recv": _answering("i32", "i32", "i32", "i32", "i32", "i32"),
        "sock_send": _answering("i32", "i32", "i32", "i32", "i32"),
        "sock_shutdown": _answering("i32", "i32"),
    }.items()
}

# Texts and buffers are a pointer and a size in bytes; texts are UTF-8. Those who link this write an adapter for Kiln:
# `fail` and `out_of_memory` end the run, since a trap alone would be a plain `unreachable`.
_KILN: Final[Mapping[tuple[str, str], Signature]] = {
    ("kiln", "fail"): Signature(("i32", "i32")),
    ("kiln", "out_of_memory"): Signature(),
    # Level 0 debug, 1 info, 2 warning, 3 error; any other is info.
    ("kiln", "log"): Signature(("i32", "i32", "i32")),
    ("kiln", "now_ms"): Signature((), ("i64",)),
    ("kiln", "random"): Signature(("i32", "i32")),
    # Name, its size, buffer, its capacity. The value's size, or -1 when there is no such name; written only when it fits.
    ("kiln", "env_get"): _answering("i32", "i32", "i32", "i32"),
}

# Input and output are UTF-8; `handle` packs the output's address and size as `pointer << 32 | size`. `kiln_alloc` answers 0 when
# there is no room. Modules that link a C library are reactors: it is made ready by `_initialize`, which runs before all else. Those whose
# stack lies lowest in memory may export the global `__stack_pointer`: a trap while it is negative is told as an overflow of the stack.
KILN: Final = Abi(
    name="kiln",
    exports={
        "kiln_alloc": _answering("i32"),
        "handle": Signature(("i32", "i32"), ("i64",)),
    },
    imports={**_KILN, **_WASI},
    optional={"_initialize": Signature()},
)

# Input on the standard input, output on the standard output; the standard error is the log. A module of any origin fits; one with an
# adapter of Kiln's may ask for the `kiln` functions too.
WASI_COMMAND: Final = Abi(
    name="wasi-command",
    exports={"_start": Signature()},
    imports={**_KILN, **_WASI},
)

ABIS: Final[Mapping[str, Abi]] = {abi.name: abi for abi in (ASSEMBLYSCRIPT, KILN, WASI_COMMAND)}
