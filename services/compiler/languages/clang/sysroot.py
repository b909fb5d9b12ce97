"""The C and C++ libraries for WebAssembly, as the `ziglang` package builds them from its sources: half a minute each, once on a machine."""

import importlib.metadata
import importlib.util
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

from services.compiler.languages.prepared import Prepared, digest, run

# What every program begins with, what those in C++ need besides, and what all need: in the order in which a linker wants them.
START: Final = "crt1-reactor.o"
OF_CPP: Final = ("libc++.a", "libc++abi.a")
OF_C: Final = ("libc.a", "libzigc.a", "libcompiler_rt.a")
# Without what debuggers read: a linker takes twice as long to read past it.
_FLAGS: Final = ("-target", "wasm32-wasi", "-mexec-model=reactor", "-O2", "-s", "-fno-exceptions")


@cache
def zig() -> Path | None:
    """The program inside the `ziglang` package, found without importing the package."""
    spec = importlib.util.find_spec("ziglang")
    program = Path(spec.origin).parent / "zig" if spec and spec.origin else None
    return program if program and program.is_file() else None


@cache
def zig_version() -> str:
    """Of the package; empty when it is not installed."""
    return importlib.metadata.version("ziglang") if zig() else ""


@cache
def sysroot() -> Prepared:
    """The folder that holds the libraries."""
    return Prepared("C and C++ libraries", Path(__file__).parent / "prepared", digest(zig_version(), Path(__file__)), _make)


def _make(folder: Path) -> None:
    """Links an empty program, which has all of the libraries built first, and takes them from where the linker was told to find them."""
    with tempfile.TemporaryDirectory(prefix="kiln-zig-") as cache_folder:
        (Path(cache_folder) / "empty.cpp").write_text("")
        command = [str(zig()), "c++", *_FLAGS, "empty.cpp", "-o", "empty.wasm", "--verbose"]
        said = run(command, folder=cache_folder, environment={"ZIG_GLOBAL_CACHE_DIR": "global", "ZIG_LOCAL_CACHE_DIR": "local"})
        linking = [line for line in said.splitlines() if line.startswith("wasm-ld ")][-1]
        for name in (START, *OF_CPP, *OF_C):
            found = re.search(rf"(?<= )\S+/{re.escape(name)}(?= |$)", linking)
            shutil.copyfile(Path(cache_folder) / (found[0] if found else name), folder / name)
