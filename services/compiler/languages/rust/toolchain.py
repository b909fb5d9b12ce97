"""Which Rust there is on this machine: found by looking at files, since nothing may be run on each look.

A `rustc` counts when the standard library for WebAssembly and the linker are beside it: the one of a distribution's packages first, then
what the PATH names, then the toolchains of rustup, whose own `rustc` is only a stand-in for them.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.compiler.languages.prepared import digest

TARGET: Final = "wasm32-unknown-unknown"

# Every crate that may be needed, with its features. Those of the first kind run in the compiler: they are what #[derive] is made of.
OF_THE_COMPILER: Final[Mapping[str, Sequence[str]]] = {
    "unicode-ident": (),
    "proc-macro2": ("proc-macro",),
    "quote": ("proc-macro",),
    "syn": ("clone-impls", "derive", "parsing", "printing", "proc-macro"),
    "serde_derive": ("default",),
}
OF_FUNCTIONS: Final[Mapping[str, Sequence[str]]] = {
    "itoa": (),
    "memchr": ("alloc", "std"),
    "ryu": (),
    "serde": ("default", "derive", "serde_derive", "std"),
    "serde_core": ("default", "result", "std"),
    "serde_json": ("default", "std"),
    "zmij": (),
}

_SYSTEM: Final = Path("/usr/bin/rustc")
# A user without a home has none of rustup's.
_HOME: Final = Path(os.path.expanduser("~"))
# Where Debian's packages put the sources of crates, and where cargo keeps those that it has fetched.
_SOURCES: Final = (Path("/usr/share/cargo/registry"), _HOME / ".cargo" / "registry" / "src")
_NEEDED: Final = ("serde", "serde_derive", "serde_json")
_KNOWN: Final = {*OF_THE_COMPILER, *OF_FUNCTIONS}


@dataclass(frozen=True, slots=True)
class Installed:
    """A Rust that can be used.

    Attributes:
        root: Its own folder, `/usr` for a distribution's.
        linker: LLVM's, by the name under which rustc knows it.
        sources: The folder with the sources of crates, each in a folder `name-version`.
        fingerprint: Changes when it is another, or there are other crates.
    """

    root: Path
    linker: Path
    sources: Path
    fingerprint: str

    @property
    def rustc(self) -> Path:
        """The compiler."""
        return self.root / "bin" / "rustc"


def find() -> Installed | None:
    """The first Rust that has all that is needed; None where there is none."""
    sources = next(_sources(), None)
    return next(_usable(sources), None) if sources else None


def _usable(sources: Path) -> Iterator[Installed]:
    for root in _roots():
        library = next((root / "lib" / "rustlib" / TARGET / "lib").glob("libstd-*.rlib"), None)
        linker = _linker(root)
        if library and linker:
            crates = sorted(folder.name for folder in sources.iterdir() if folder.name.rpartition("-")[0] in _KNOWN)
            yield Installed(root, linker, sources, digest(_state(root / "bin" / "rustc"), _state(library), *crates))


def _roots() -> Iterator[Path]:
    """The folders of all compilers, each named once."""
    found = [_SYSTEM, *(Path(folder) / "rustc" for folder in os.environ.get("PATH", "").split(os.pathsep) if folder)]
    for home in (os.environ.get("RUSTUP_HOME") or _HOME / ".rustup", "/usr/local/rustup"):
        found += sorted(Path(home).glob("toolchains/*/bin/rustc"))
    yield from dict.fromkeys(rustc.resolve().parents[1] for rustc in found if rustc.is_file())


def _linker(root: Path) -> Path | None:
    """LLVM's linker under the name by which rustc calls it; a package may bring the name and another one the program."""
    places = [root / "bin" / "rust-lld", *(root / "lib" / "rustlib").glob("*/bin/rust-lld")]
    return next((place for place in places if place.is_file()), None)


def _sources() -> Iterator[Path]:
    for folder in _SOURCES:
        for candidate in (folder, *sorted(folder.glob("*-*/"))):
            if all(next(candidate.glob(f"{name}-[0-9]*/Cargo.toml"), None) for name in _NEEDED):
                yield candidate


def _state(file: Path) -> str:
    found = file.stat()
    return f"{file} {found.st_size} {found.st_mtime_ns}"
