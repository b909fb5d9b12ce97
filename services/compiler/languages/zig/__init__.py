"""Zig, by the compiler of the `ziglang` package."""

import re
from collections.abc import Sequence
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

_NO_HANDLE: Final = re.compile(r"error: kiln: no handle$", re.MULTILINE)
_OTHER_HANDLE: Final = re.compile(r"error: kiln: handle is (?P<type>.*)$", re.MULTILINE)
_ASSEMBLY: Final = re.compile(r"^error: <inline asm>:(?P<words>\d+:\d+: .*)$", re.MULTILINE)

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
    own = _about_handle(ran.said, source) or _about_assembly(ran.said, source)
    hidden = [str((zig() or Path("/")).parent / "lib"), str(_FOLDER)]
    found = own or diagnostics_of(ran.said, source, file=_FILE, hide=hidden)
    if ran.status == 0:
        return Compiled(ran.artifact, KILN, found)
    return Failed("COMPILE_ERROR", found) if found else not_said("Zig", ran.status, ran.said, bounds, source)


def _about_handle(said: str, source: str) -> tuple[Diagnostic, ...]:
    """What the adapter found wrong with the user's `handle`, in words for the user."""
    if _NO_HANDLE.search(said):
        return (at_top(f"The file does not define `{_SIGNATURE}`, which Kiln calls.", source),)
    if other := _OTHER_HANDLE.search(said):
        return (at("handle", f"`handle` has type `{other['type']}`; it must be `{_SIGNATURE}`.", source),)
    return ()


def _about_assembly(said: str, source: str) -> tuple[Diagnostic, ...]:
    """What the assembler found, whose places are in the assembly and not in the file."""
    return tuple(at_top(f"in inline assembly: {one['words']}", source) for one in _ASSEMBLY.finditer(said))
