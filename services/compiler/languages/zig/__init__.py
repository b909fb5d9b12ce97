"""Zig, by the compiler of the `ziglang` package."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from libs.common.abi import KILN
from services.compiler.hot import HotProcesses
from services.compiler.languages import Bounds, Compiled, Diagnostic, Failed, Toolchain, ToolchainUnavailable
from services.compiler.languages.clang.sysroot import sysroot, zig, zig_version
from services.compiler.languages.fresh import FreshCompiler, Ran, Recipe
from services.compiler.languages.gnu import diagnostics_of
from services.compiler.languages.prepared import Prepared, digest, run
from services.compiler.languages.verdicts import at, at_top, not_said

_FOLDER: Final = Path(__file__).parent
_ADAPTER: Final = _FOLDER / "adapter.zig"
_MODULE: Final = _FOLDER / "kiln.zig"
_FILE: Final = "function.zig"
_SIGNATURE: Final = "pub fn handle(allocator: std.mem.Allocator, input: []const u8) ![]const u8"
_HINT: Final = "install the Python package ziglang, then run `python -m services.compiler.set_up`"
# Checks stay in, so that a mistake ends the run with a message and not with anything. The stack lies lowest in memory.
_FLAGS: Final = (
    "-target",
    "wasm32-wasi",
    "-OReleaseSafe",
    "-fstrip",
    "-fno-error-tracing",
    "-fno-entry",
    "-fno-compiler-rt",
    "--stack",
    "1048576",
    "--color",
    "off",
)
_EXPORTS: Final = ("--export=kiln_alloc", "--export=handle", "--export=__stack_pointer", "-freference-trace=64")
_CACHES: Final = {"ZIG_GLOBAL_CACHE_DIR": "cache", "ZIG_LOCAL_CACHE_DIR": "local"}

# As the adapter says it.
_NO_HANDLE: Final = re.compile(r"adapter\.zig:\d+:\d+: error: kiln: no handle$", re.MULTILINE)
_OTHER_HANDLE: Final = re.compile(r"adapter\.zig:\d+:\d+: error: kiln: handle is (?P<type>.*)$", re.MULTILINE)
_OWN: Final = ("kiln: no handle", "kiln: handle is ")
_HANDLE: Final = re.compile(r"\b(?:fn|const|var)\s+handle\b")
_TAKEN: Final = re.compile(r"exported symbol collision: (?P<name>kiln_alloc|handle)$", re.MULTILINE)
_ASSEMBLER: Final = "<inline asm>"
# It names a file of the build before it says what is wrong.
_LINKER: Final = re.compile(r"wasm-ld: (?:[^:]*: )?(?P<words>(?:undefined symbol: (?P<name>\S+))?.*)")
# The errors of a function whose type does not list them, as types name them.
_INFERRED: Final = re.compile(r'@typeInfo\(@typeInfo\(@TypeOf\([^()\n]*\)\)\.@"fn"\.return_type\.\?\)\.error_union\.error_set(?=!)')

_STARTER: Final = """\
const std = @import("std");

const Greeting = struct { name: []const u8 = "world" };

pub fn handle(allocator: std.mem.Allocator, input: []const u8) ![]const u8 {
    const greeting = try std.json.parseFromSliceLeaky(Greeting, allocator, input, .{ .ignore_unknown_fields = true });
    const message = try std.fmt.allocPrint(allocator, "Hello, {s}!", .{greeting.name});
    return std.json.Stringify.valueAlloc(allocator, .{ .message = message }, .{});
}
"""


class Zig:
    """The language Zig.

    Args:
        hot: Where its compilers wait.
    """

    id: Final = "zig"
    name: Final = "Zig"
    starter: Final = _STARTER

    def __init__(self, hot: HotProcesses) -> None:
        self._cache = Prepared("Zig standard library", _FOLDER / "prepared", self._fingerprint(), self._read_library)
        folders = [(zig() or Path("/")).parent, sysroot().folder, _FOLDER]
        # The compiler writes to its cache, so each build has a copy, made while it stands by.
        self._compiler = FreshCompiler(hot, self.name, folders, _CACHES, {"cache": self._cache.folder / "cache"})

    def toolchain(self) -> Toolchain:
        """The version of the package, which is Zig's."""
        if not self._is_there():
            return Toolchain(available=False, version="", install_hint=_HINT, fingerprint="")
        return Toolchain(available=True, version=zig_version(), install_hint="", fingerprint=self._cache.fingerprint)

    def set_up(self) -> Sequence[Prepared]:
        """The compiler's own runtime library, then its standard library as it has read it; see `Language.set_up`."""
        return (sysroot(), self._cache) if zig() else ()

    def prepare(self, bounds: Bounds) -> None:
        """Has compilers wait; see `Language.prepare`."""
        if self._is_there():
            self._compiler.prepare()

    async def compile(self, source: bytes, bounds: Bounds) -> Compiled | Failed:
        """Compiles one file; see `Language.compile`."""
        if not self._is_there():
            raise ToolchainUnavailable(f"the Zig compiler is not installed: {_HINT}")
        text = source.decode()
        ran = await self._compiler.run(Recipe({_FILE: text}, (_command(_FILE, "function.wasm"),), "function.wasm"), text, bounds)
        return ran if isinstance(ran, Failed) else _outcome(ran, text, bounds)

    def _is_there(self) -> bool:
        return zig() is not None and sysroot().is_made and self._cache.is_made

    @staticmethod
    def _read_library(folder: Path) -> None:
        """Compiles the starter: what the compiler keeps of its library fits every other function."""
        (folder / _FILE).write_text(_STARTER, encoding="utf-8")
        run(_command(_FILE, "function.wasm"), folder=folder, environment=_CACHES)

    @staticmethod
    def _fingerprint() -> str:
        """Over the compiler, flags and adapter, and over where the library lies: what was read of another copy of it is not used."""
        library = (zig() or Path("/zig")).parent / "lib" / "std" / "std.zig"
        place = f"{library} {library.stat().st_ino} {library.stat().st_mtime_ns}" if zig() else ""
        return digest(sysroot().fingerprint, place, _ADAPTER, _MODULE, Path(__file__))


def _command(file: str, artifact: str) -> list[str]:
    modules = ["--dep", "function", "--dep", "kiln", f"-Mroot={_ADAPTER}", "--dep", "kiln", f"-Mfunction={file}", f"-Mkiln={_MODULE}"]
    return [str(zig()), "build-exe", *_FLAGS, *_EXPORTS, *modules, str(sysroot().folder / "libcompiler_rt.a"), f"-femit-bin={artifact}"]


def _outcome(ran: Ran, source: str, bounds: Bounds) -> Compiled | Failed:
    said = _INFERRED.sub("", ran.said)
    hidden = [str((zig() or Path("/")).parent / "lib"), str(_FOLDER)]
    own, others = _about_handle(said, source), diagnostics_of(said, source, file=_FILE, hide=hidden)
    # The adapter's words may be the user's, too.
    others = tuple(one for one in others if not (own and one.message.startswith(_OWN)))
    found = tuple(dict.fromkeys([*own, *(_plain(one, source) for one in others)]))
    if ran.status == 0:
        return Compiled(ran.artifact, KILN, found)
    return Failed("COMPILE_ERROR", found) if found else not_said("Zig", ran.status, ran.said, bounds, source)


def _about_handle(said: str, source: str) -> tuple[Diagnostic, ...]:
    """What the adapter found wrong with the user's `handle`, in words for the user."""
    if _NO_HANDLE.search(said):
        message = f"The file does not define `{_SIGNATURE}`, which Kiln calls."
    elif other := _OTHER_HANDLE.search(said):
        message = f"`handle` has type `{other['type']}`; it must be `{_SIGNATURE}`."
    else:
        return ()
    # There may be one that is not public.
    defined = _HANDLE.search(source)
    return (at("handle", message, source, after=defined.start()) if defined else at_top(message, source),)


def _plain(one: Diagnostic, source: str) -> Diagnostic:
    """A finding in words for the user, and at its place where the compiler did not say it."""
    if taken := _TAKEN.match(one.message):
        return replace(one, message=f"`{taken['name']}` is a name of Kiln's own; what is exported needs another name.")
    if linking := _LINKER.match(one.message):
        name = linking["name"]
        return at(name, f"`{name}` is declared but not defined.", source) if name else at_top(linking["words"], source)
    return at("asm", one.message, source) if one.message.startswith(_ASSEMBLER) else one
