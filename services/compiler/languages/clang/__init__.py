"""C and C++, compiled by the clang and linked by the wasm-ld inside the `ziglang` package.

The two are called themselves, and not through `zig cc`, which would build a C library first and write to a cache that builds share: the
libraries, Kiln's own part of each module and the headers that most functions include are compiled once at set-up, and only read then.
"""

import importlib.metadata
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from libs.common.abi import KILN
from services.compiler.hot import HotProcesses
from services.compiler.languages import Bounds, Compiled, Diagnostic, Failed, Toolchain, ToolchainUnavailable
from services.compiler.languages.clang.sysroot import OF_C, START, sysroot, zig, zig_version
from services.compiler.languages.fresh import FreshCompiler, Ran, Recipe
from services.compiler.languages.gnu import diagnostics_of
from services.compiler.languages.prepared import Prepared, digest, run
from services.compiler.languages.verdicts import at, at_top, not_said

_FOLDER: Final = Path(__file__).parent
_HEADERS: Final = _FOLDER.parent / "c" / "include"
_HINT: Final = "install the Python package ziglang, then run `python -m services.compiler.set_up`"
_TARGET: Final = ("-target", "wasm32-wasip1", "-mcpu=lime1", "-O2")
# Findings on lines of their own, each with its range and its kind.
_FINDINGS: Final = (
    "-Wall",
    "-ferror-limit=20",
    "-fno-caret-diagnostics",
    "-fno-color-diagnostics",
    "-fdiagnostics-print-source-range-info",
    "-fdiagnostics-show-category=name",
)
_PRECOMPILED: Final = ("-Xclang", "-fno-pch-timestamp", "-fpch-instantiate-templates")
# The stack lies lowest, so that running over its end is an access outside of the memory, and the host sees by its pointer why.
# The linker warns of calls that would only trap.
_LINK: Final = (
    "--entry=_initialize",
    "--export=__stack_pointer",
    "--fatal-warnings",
    "--stack-first",
    "-z",
    "stack-size=1048576",
    "--strip-debug",
    "--error-limit=20",
)
_WRAPS: Final = tuple(f"--wrap={name}" for name in ("malloc", "calloc", "realloc", "aligned_alloc"))
_LINKER: Final = re.compile(r"wasm-ld: error: (?P<words>.*)")
_BACKEND: Final = re.compile(r"fatal error: error in backend: (?P<words>.*)")
_UNDEFINED: Final = re.compile(r".*undefined symbol: (?P<symbol>(?P<name>[^\s(]+).*)")
_DUPLICATE: Final = re.compile(r"duplicate symbol: (?P<symbol>(?P<name>[^\s(]+).*)")
_MISMATCH: Final = re.compile(r"function signature mismatch: (?P<symbol>(?P<name>[^\s(]+).*)")
_FOLDERS: Final = re.compile(r"/(?:[^\s:(]*/)?")
# A handle of another type than the one that stands in the prelude.
_OTHER_HANDLE: Final = re.compile(
    r"conflicting types for 'handle'|static declaration of 'handle' follows|functions that differ only in their return type"
    r"|redefinition of 'handle' as different kind of symbol"
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one of the two languages has of its own.

    Attributes:
        id, name, starter: As `Language` has them.
        file: What the user's file is called.
        signature: What it has to define.
        prelude: A header that is read before the first line of each function.
        header_kind: As clang calls such a header.
        adapter: Makes the function callable for the host.
        flags: For the compiler.
        headers: Folders of further headers, behind those of Kiln.
        library: Folders of the headers of the language's own library, inside of Zig's.
        archives: What that library is linked from.
        packages: Python packages that these come from.
    """

    id: str
    name: str
    starter: str
    file: str
    signature: str
    prelude: Path
    header_kind: str
    adapter: Path
    flags: tuple[str, ...]
    headers: tuple[Path, ...] = ()
    library: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


class Clang:
    """One of the two languages.

    Args:
        hot: Where its compilers wait.
        dialect: Which one.
    """

    def __init__(self, hot: HotProcesses, dialect: Dialect) -> None:
        self.id: Final = dialect.id
        self.name: Final = dialect.name
        self.starter: Final = dialect.starter
        self._dialect = dialect
        self._own = Prepared(f"{dialect.name} adapter", dialect.adapter.parent / "prepared", self._fingerprint(), self._make_own)
        folders = [(zig() or Path("/")).parent, sysroot().folder, _HEADERS, dialect.prelude.parent, *dialect.headers]
        self._compiler = FreshCompiler(hot, dialect.name, folders, {})

    def toolchain(self) -> Toolchain:
        """The version of Zig, which clang is a part of."""
        if not self._is_there():
            return Toolchain(available=False, version="", install_hint=_HINT, fingerprint="")
        return Toolchain(available=True, version=f"clang of Zig {zig_version()}", install_hint="", fingerprint=self._own.fingerprint)

    def set_up(self) -> Sequence[Prepared]:
        """The libraries, then what is compiled against them; see `Language.set_up`."""
        return (sysroot(), self._own) if zig() else ()

    def prepare(self, bounds: Bounds) -> None:
        """Has compilers wait; see `Language.prepare`."""
        if self._is_there():
            self._compiler.prepare()

    async def compile(self, source: bytes, bounds: Bounds) -> Compiled | Failed:
        """Compiles one file; see `Language.compile`."""
        if not self._is_there():
            raise ToolchainUnavailable(f"the {self.name} compiler is not installed: {_HINT}")
        text = source.decode()
        ran = await self._compiler.run(self._recipe(text), text, bounds)
        return ran if isinstance(ran, Failed) else self._outcome(ran, text, bounds)

    def _outcome(self, ran: Ran, source: str, bounds: Bounds) -> Compiled | Failed:
        hidden = [str(folder) for folder in (*self._include_folders(), self._own.folder)]
        found = [self._about_handle(one) for one in diagnostics_of(ran.said, source, file=self._dialect.file, hide=hidden)]
        if ran.status == 0:
            return Compiled(ran.artifact, KILN, tuple(found))
        linking = [self._linking(match["words"], source) for match in _LINKER.finditer(ran.said)]
        linking += [at_top(match["words"], source, code="backend") for match in _BACKEND.finditer(ran.said)]
        if not linking and all(one.severity != "ERROR" for one in found):
            return not_said(self.name, ran.status, ran.said, bounds, source)
        return Failed("COMPILE_ERROR", (*linking, *found))

    def _about_handle(self, one: Diagnostic) -> Diagnostic:
        """A finding about a handle of another type names the right one instead of a place that the user has never seen."""
        if one.severity != "ERROR" or not _OTHER_HANDLE.match(one.message):
            return one
        return replace(one, message=f"`handle` must be `{self._dialect.signature}`: {one.message.splitlines()[0]}")

    def _linking(self, words: str, source: str) -> Diagnostic:
        """What the linker says of a symbol, at the first place where its name stands."""
        if missing := _UNDEFINED.match(words):
            if missing["name"] == "handle":
                return self._no_handle(source)
            message, code = f"`{missing['symbol']}` is declared but not defined.", "undefined-symbol"
        elif missing := _DUPLICATE.match(words):
            message, code = f"`{missing['symbol']}` is defined by Kiln or the library already; it needs another name.", "duplicate-symbol"
        elif missing := _MISMATCH.match(words):
            message, code = f"`{missing['symbol']}` has another type where it is defined.", "signature-mismatch"
        else:
            return at_top(_FOLDERS.sub("", words), source, code="linker")
        return at(missing["name"].rpartition("::")[2], message, source, code=code)

    def _no_handle(self, source: str) -> Diagnostic:
        """There may be one with other parameters, or in a namespace."""
        message = f"The file does not define `{self._dialect.signature}`, which Kiln calls."
        return at("handle", message, source, code="undefined-symbol")

    def _recipe(self, source: str) -> Recipe:
        own, libraries = self._own.folder, [str(sysroot().folder / name) for name in (START, *self._dialect.archives, *OF_C)]
        compiling = [*self._clang(), "-include-pch", str(own / "prelude.pch"), "-c", self._dialect.file, "-o", "function.o"]
        objects = [libraries[0], str(own / "adapter.o"), str(own / "runtime.o"), "function.o", *libraries[1:]]
        linking = [str(zig()), "wasm-ld", *_LINK, *_WRAPS, "-o", "function.wasm", *objects]
        return Recipe({self._dialect.file: source}, (compiling, linking), "function.wasm")

    def _clang(self) -> list[str]:
        """The compiler for the user's language, with all but its input and its output."""
        folders = self._include_folders()
        # Headers quote their own names in what modules say.
        unnamed = [f"-fmacro-prefix-map={folder}/=" for folder in folders]
        return [str(zig()), "clang", *_TARGET, *_FINDINGS, *self._dialect.flags, *unnamed, "-nostdinc", *_isystem(folders)]

    def _include_folders(self) -> Sequence[Path]:
        return [_HEADERS, *self._dialect.headers, *_library_headers(*self._dialect.library), *_c_headers()]

    def _make_own(self, folder: Path) -> None:
        """Compiles what every function of this language shares."""
        dialect, prelude = self._dialect, str(folder / "prelude.pch")
        run([*self._clang(), *_PRECOMPILED, "-x", dialect.header_kind, str(dialect.prelude), "-o", prelude], folder=folder)
        run([*self._clang(), "-include-pch", prelude, "-c", str(dialect.adapter), "-o", str(folder / "adapter.o")], folder=folder)
        plain = [str(zig()), "clang", *_TARGET, "-nostdinc", *_isystem([_HEADERS, *_c_headers()])]
        run([*plain, "-c", str(_FOLDER / "runtime.c"), "-o", str(folder / "runtime.o")], folder=folder)

    def _is_there(self) -> bool:
        return zig() is not None and sysroot().is_made and self._own.is_made

    def _fingerprint(self) -> str:
        """Over Zig's version and the libraries, all flags, the headers, and the adapter's files."""
        files = [self._dialect.prelude, self._dialect.adapter, *sorted(_HEADERS.glob("*.h")), *sorted(_FOLDER.glob("*.[cp]*"))]
        versions = [importlib.metadata.version(package) for package in self._dialect.packages]
        return digest(sysroot().fingerprint, " ".join(self._dialect.flags), *files, *versions)


def _c_headers() -> Sequence[Path]:
    return _library_headers("include", "libc/include/wasm-wasi-musl", "libc/include/generic-musl")


def _library_headers(*names: str) -> Sequence[Path]:
    return [(zig() or Path("/")).parent / "lib" / name for name in names]


def _isystem(folders: Sequence[Path]) -> list[str]:
    return [word for folder in folders for word in ("-isystem", str(folder))]
