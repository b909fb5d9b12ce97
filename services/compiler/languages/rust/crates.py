"""The crates that functions may use, compiled once on a machine: `kiln`, which is Kiln's own, and `serde` and `serde_json`.

There is no cargo: a crate's manifest says what it needs, its build script is compiled and run as cargo would, and rustc does the rest.
"""

import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from services.compiler.languages.prepared import Prepared, digest, run
from services.compiler.languages.rust.toolchain import OF_FUNCTIONS, OF_THE_COMPILER, TARGET, Installed

EDITION: Final = "2021"
# What functions are compiled with; the crates too, so that they fit. The features are in every engine since 2021, and in Kiln's.
CODE: Final = (
    "--target",
    TARGET,
    *("-C", "opt-level=2"),
    # A build of serde's code takes 0.75 s in one unit, 0.42 s in two, 0.46 s in four; what two make runs 5 % longer, what four make 23 %.
    *("-C", "codegen-units=2"),
    *("-C", "lto=off"),
    *("-C", "panic=abort"),
    *("-C", "debuginfo=0"),
    *("-C", "embed-bitcode=no"),
    *("-C", "target-feature=+bulk-memory,+nontrapping-fptoint,+sign-ext"),
)
# By the names that functions use.
USABLE: Final = ("kiln", "serde", "serde_json")

_FOLDER: Final = Path(__file__).parent
_KILN: Final = _FOLDER / "kiln"
# Optimised they would save some 15 ms of a build, and take a minute more to make.
_HOST_CODE: Final = ("-C", "opt-level=0", "-C", "debuginfo=0", "-C", "embed-bitcode=no")
_PATH: Final = "/usr/bin:/bin"
_ROOTS: Final = ("serde", "serde_json")


@dataclass(frozen=True, slots=True)
class _Crate:
    """A crate's sources, and what its manifest says."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.manifest["package"]["name"])

    @property
    def library(self) -> str:
        """By the name that code uses."""
        return str(self.manifest.get("lib", {}).get("name", self.name)).replace("-", "_")

    @property
    def edition(self) -> str:
        return str(self.manifest["package"].get("edition", "2015"))

    @property
    def root(self) -> Path:
        return self.folder / str(self.manifest.get("lib", {}).get("path", "src/lib.rs"))

    @property
    def build_script(self) -> Path | None:
        script = self.folder / (self.manifest["package"].get("build") or "build.rs")
        return script if script.is_file() else None

    @property
    def is_macro(self) -> bool:
        return bool(self.manifest.get("lib", {}).get("proc-macro"))

    @property
    def features(self) -> Sequence[str]:
        wanted = {**OF_THE_COMPILER, **OF_FUNCTIONS}[self.name]
        known = self.manifest.get("features", {}).keys() | {name for name, _ in self.needs()}
        return [feature for feature in wanted if feature in known]

    @property
    def cfgs(self) -> list[str]:
        """The features as options."""
        return [word for feature in self.features for word in ("--cfg", f'feature="{feature}"')]

    def needs(self) -> Iterator[tuple[str, str]]:
        """Names and versions of the crates that it may need."""
        for name, wanted in self.manifest.get("dependencies", {}).items():
            if name in OF_THE_COMPILER or name in OF_FUNCTIONS:
                yield name, wanted if isinstance(wanted, str) else wanted["version"]


@cache
def crates(installed: Installed) -> Prepared:
    """The folder that holds them, and `version`, the compiler's."""
    own = sorted(_KILN.glob("*.rs"))
    fingerprint = digest(installed.fingerprint, Path(__file__), *own)
    return Prepared("Rust crates", _FOLDER / "prepared", fingerprint, lambda folder: _make(installed, folder))


def search(folder: Path) -> list[str]:
    """Options by which rustc finds the crates, those that functions use by their names and the others only for these."""
    named = [f"{name}={folder / f'lib{name}.rlib'}" for name in USABLE]
    return ["-L", f"dependency={folder}", *(word for one in named for word in ("--extern", one))]


def _make(installed: Installed, folder: Path) -> None:
    rustc = str(installed.rustc)
    (folder / "version").write_text(run([rustc, "--version"], folder=folder).split()[1], encoding="ascii")
    with tempfile.TemporaryDirectory(prefix="kiln-rust-") as scratch:
        kit = _Kit(installed, folder, Path(scratch))
        for crate in _in_order(installed.sources):
            kit.compile(crate)
    command = [rustc, str(_KILN / "lib.rs"), "--crate-name", "kiln", "--crate-type", "rlib", "--edition", EDITION, *CODE]
    run([*command, "--remap-path-prefix", f"{_KILN}=kiln", "--out-dir", str(folder)], folder=folder, environment={"PATH": _PATH})


def _in_order(sources: Path) -> Sequence[_Crate]:
    """All crates that are needed, each behind those that it needs itself."""
    ordered: dict[str, _Crate] = {}

    def add(name: str, version: str) -> None:
        crate = _newest(sources, name, version)
        if crate and name not in ordered:
            for needed in crate.needs():
                add(*needed)
            ordered[name] = crate

    for name in _ROOTS:
        add(name, "1")
    return list(ordered.values())


def _newest(sources: Path, name: str, version: str) -> _Crate | None:
    """The newest one that has the major version; None when there is none, as for one that is only needed by features that are not used."""
    major = version.lstrip("^=~>< ").split(".")[0]
    folders = sources.glob(f"{name}-{major}.*/")
    newest = max(folders, key=lambda folder: [int(part) for part in folder.name.split("+")[0].split("-")[-1].split(".")], default=None)
    return _Crate(newest, tomllib.loads((newest / "Cargo.toml").read_text(encoding="utf-8"))) if newest else None


class _Kit:
    """Compiles crates with one compiler into one folder."""

    def __init__(self, installed: Installed, folder: Path, scratch: Path) -> None:
        self._installed, self._folder, self._scratch = installed, folder, scratch
        self._host = self._ask("-vV").split("host: ")[1].split("\n")[0]

    def compile(self, crate: _Crate) -> None:
        """Compiles one, whose dependencies have been compiled."""
        target, code = (self._host, _HOST_CODE) if crate.name in OF_THE_COMPILER else (TARGET, CODE)
        environment = self._environment(crate, target)
        found = self._configured(crate, environment)
        kind = "proc-macro" if crate.is_macro else "rlib"
        naming = ["--crate-name", crate.library, "--crate-type", kind, "-C", f"metadata={crate.folder.name}"]
        needed = [word for name, _ in crate.needs() for word in self._extern(name)]
        needed += ["--extern", "proc_macro"] if crate.is_macro else []
        paths = ["--remap-path-prefix", f"{self._installed.sources}/=", "-L", f"dependency={self._folder}", "--out-dir", str(self._folder)]
        words = [str(crate.root), "--edition", crate.edition, *naming, *code, *crate.cfgs, *found, *needed, *paths, "--cap-lints", "allow"]
        run([str(self._installed.rustc), *words], folder=crate.folder, environment=environment)

    def _configured(self, crate: _Crate, environment: Mapping[str, str]) -> list[str]:
        """What its build script finds out about the compiler, as options."""
        if not crate.build_script:
            return []
        program = self._scratch / f"{crate.name}-build"
        compiling = [str(crate.build_script), "--crate-name", "build_script", "--edition", crate.edition, *crate.cfgs]
        command = [str(self._installed.rustc), *compiling, "-o", str(program), "--cap-lints", "allow"]
        run(command, folder=crate.folder, environment=environment)
        Path(environment["OUT_DIR"]).mkdir()
        said = run([str(program)], folder=crate.folder, environment=environment).replace("cargo::", "cargo:")
        found = [line.partition("=")[2] for line in said.splitlines() if line.startswith("cargo:rustc-cfg=")]
        return [word for one in found for word in ("--cfg", one)]

    def _extern(self, name: str) -> list[str]:
        library = name.replace("-", "_")
        made = [self._folder / f"lib{library}{end}" for end in (".rlib", ".so", ".dylib")]
        return [word for file in made if file.is_file() for word in ("--extern", f"{library}={file}")]

    def _environment(self, crate: _Crate, target: str) -> dict[str, str]:
        """What cargo tells compilers and build scripts, as far as these ask."""
        version = str(crate.manifest["package"]["version"])
        parts = dict(zip(("MAJOR", "MINOR", "PATCH"), version.split("+", maxsplit=1)[0].split("."), strict=False))
        told = {"PATH": _PATH, "RUSTC": str(self._installed.rustc), "HOST": self._host, "TARGET": target}
        told |= {"CARGO_MANIFEST_DIR": str(crate.folder), "CARGO_PKG_NAME": crate.name, "CARGO_PKG_VERSION": version}
        told |= {f"CARGO_PKG_VERSION_{name}": part for name, part in parts.items()}
        told |= {f"CARGO_FEATURE_{feature.upper().replace('-', '_')}": "1" for feature in crate.features}
        for line in self._ask("--print", "cfg", "--target", target).splitlines():
            name, _, value = line.partition("=")
            told.setdefault(f"CARGO_CFG_{name.upper()}", value.strip('"'))
        return {**told, "OUT_DIR": str(self._scratch / f"{crate.name}-out"), "TMPDIR": str(self._scratch)}

    def _ask(self, *question: str) -> str:
        return run([str(self._installed.rustc), *question], folder=self._scratch)
