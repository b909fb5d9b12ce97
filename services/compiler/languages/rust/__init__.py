"""Rust, by rustc itself, without cargo: one file, the standard library, and the crates that were compiled at set-up.

The user's file is the root of its crate, so that its own attributes, modules and lines are what they are anywhere; Kiln's part is one line
behind its last, which calls a macro of the crate `kiln`.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

from libs.common.abi import KILN
from services.compiler.hot import HotProcesses
from services.compiler.languages import Bounds, Compiled, Diagnostic, Failed, Toolchain, ToolchainUnavailable
from services.compiler.languages.fresh import FreshCompiler, Ran, Recipe
from services.compiler.languages.prepared import Prepared, digest
from services.compiler.languages.rust.crates import CODE, EDITION, USABLE, crates, search
from services.compiler.languages.rust.diagnostics import Finding, diagnostic, findings
from services.compiler.languages.rust.toolchain import Installed, find
from services.compiler.languages.verdicts import at, at_top, crashed, not_said, storable

_FILE: Final = "function.rs"
# The macros of the crate are those that print: here they write to the log.
_ADAPTER: Final = "\n#[macro_use] extern crate kiln as __kiln; __kiln_function! {}\n"
_SIGNATURE: Final = "pub fn handle(input: &str) -> Result<String, E>` where `E: Display"
_HINT: Final = (
    "run `make toolchains` (as root, on Debian or Ubuntu); or add the target wasm32-unknown-unknown to a rustup toolchain, have cargo "
    "fetch serde with its feature derive, and serde_json, then run `python -m services.compiler.set_up`"
)
_NOT_PREPARED: Final = "run `python -m services.compiler.set_up`"
_MODULE: Final = ("--crate-type", "cdylib", "--crate-name", "function", "--edition", EDITION)
# Names stay, for the words of a trap; rustc would leave them mangled.
_LINK: Final = ("-C", "strip=debuginfo", "-C", "link-arg=--demangle")
_NO_CRATE: Final = r"can't find crate for|use of undeclared crate or module|use of unresolved module or unlinked crate|rustc_private"
_ADVICE: Final = (
    (re.compile(_NO_CRATE), f"functions use the crates std, {', '.join(USABLE[:-1])} and {USABLE[-1]} only"),
    (re.compile(r"file not found for module"), "a function is one file"),
)

_UNDEFINED: Final = re.compile(r"undefined symbol: (?P<name>\S+)")
_DUPLICATE: Final = re.compile(r"(?:duplicate symbol: |symbol `)(?P<name>\w+)")
_LINKER: Final = re.compile(r"(?:rust-lld|wasm-ld|lld): error: (?P<message>.*)")
_PATH: Final = re.compile(r"(?<![\w.])(?:/[\w.+-]+)+/")
_HANDLE: Final = re.compile(r"\bfn\s+handle\b")

_STARTER: Final = """\
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Greeting {
    #[serde(default = "world")]
    name: String,
}

#[derive(Serialize)]
struct Answer {
    message: String,
}

fn world() -> String {
    "world".to_string()
}

pub fn handle(input: &str) -> Result<String, serde_json::Error> {
    let greeting: Greeting = serde_json::from_str(input)?;
    let message = format!("Hello, {}!", greeting.name);
    serde_json::to_string(&Answer { message })
}
"""


class Rust:
    """The language Rust.

    Args:
        hot: Where its compilers wait.
    """

    id: Final = "rust"
    name: Final = "Rust"
    starter: Final = _STARTER

    def __init__(self, hot: HotProcesses) -> None:
        self._hot = hot

    def toolchain(self) -> Toolchain:
        """The version of rustc, as set-up has asked it."""
        installed = find()
        if installed is None or not crates(installed).is_made:
            hint = _NOT_PREPARED if installed else _HINT
            return Toolchain(available=False, version="", install_hint=hint, fingerprint="")
        return Toolchain(available=True, version=_version(installed), install_hint="", fingerprint=_fingerprint(installed))

    def set_up(self) -> Sequence[Prepared]:
        """The crates; see `Language.set_up`."""
        return (crates(installed),) if (installed := find()) else ()

    def prepare(self, bounds: Bounds) -> None:
        """Has compilers wait; see `Language.prepare`."""
        if (installed := find()) and crates(installed).is_made:
            self._compiler(installed).prepare()

    async def compile(self, source: bytes, bounds: Bounds) -> Compiled | Failed:
        """Compiles one file; see `Language.compile`."""
        installed = find()
        if installed is None or not crates(installed).is_made:
            raise ToolchainUnavailable(f"the Rust compiler is not installed: {_NOT_PREPARED if installed else _HINT}")
        text = source.decode()
        ran = await self._compiler(installed).run(_recipe(installed, text), text, bounds)
        return ran if isinstance(ran, Failed) else _outcome(ran, text, installed, bounds)

    def _compiler(self, installed: Installed) -> FreshCompiler:
        """The jail of a toolchain that may have come, or have been replaced, while the service runs."""
        folders = [folder for folder in (installed.root, crates(installed).folder) if folder != Path("/usr")]
        # Where the system's folder for temporary files is closed, the build's own is not.
        return FreshCompiler(self._hot, self.name, folders, {"TMPDIR": "."}, fingerprint=crates(installed).fingerprint)


def _recipe(installed: Installed, source: str) -> Recipe:
    command = [str(installed.rustc), _FILE, *_MODULE, *CODE, *search(crates(installed).folder)]
    command += ["--error-format", "json", *_LINK, "-C", f"linker={installed.linker}"]
    command += ["--remap-path-prefix", "{folder}=.", "-o", "function.wasm"]
    return Recipe({_FILE: source + _ADAPTER}, (command,), "function.wasm")


def _outcome(ran: Ran, source: str, installed: Installed, bounds: Bounds) -> Compiled | Failed:
    found = findings(ran.said)
    if any("internal compiler error" in one.level for one in found):
        return crashed("Rust", source)
    hide = [str(crates(installed).folder), str(installed.sources), str(installed.root / "lib")]
    shown = tuple(known for one in _told(found, source) if (known := _diagnostic(one, source, hide)))
    if ran.status == 0:
        return Compiled(ran.artifact, KILN, shown)
    if any(one.severity == "ERROR" for one in shown):
        return Failed("COMPILE_ERROR", shown)
    return not_said("Rust", ran.status, ran.said, bounds, source)


def _told(found: Sequence[Finding], source: str) -> Sequence[Finding]:
    """Findings without what only follows: where something is not closed, Kiln's own line is swallowed."""
    if any("unclosed" in one.message or "unterminated" in one.message for one in found):
        return [one for one in found if not _is_about_handle(one, source) or "unclosed" in one.message]
    return found


def _is_about_handle(finding: Finding, source: str) -> bool:
    """Whether it lies in Kiln's own line, which uses nothing of the user's but `handle`."""
    span = finding.within(_FILE)
    return span is not None and span.place[0] > source.count("\n") + 1


def _diagnostic(finding: Finding, source: str, hide: Sequence[str]) -> Diagnostic | None:
    """A finding in words for the user; None for what the user can do nothing about."""
    if finding.message.startswith("linking with"):
        return _of_the_linker(finding, source)
    if finding.level != "error" and (finding.within(_FILE) is None or _is_about_handle(finding, source)):
        return None
    if _is_about_handle(finding, source) and "unclosed" not in finding.message:
        return _about_handle(finding, source)
    shown = diagnostic(finding, source, file=_FILE, hide=hide)
    advice = next((advice for found, advice in _ADVICE if found.search(shown.message)), "")
    return replace(shown, message=f"{shown.message}\nhelp: {advice}") if advice else shown


def _about_handle(finding: Finding, source: str) -> Diagnostic:
    """What does not fit Kiln's own line."""
    defined = _HANDLE.search(source)
    if not defined:
        return at_top(f"The file does not define `{_SIGNATURE}`, which Kiln calls.", source, code=finding.code)
    if _DUPLICATE.search(finding.message):
        return at("handle", "Kiln exports `handle`; another symbol has its name.", source, code="duplicate-symbol")
    label = next((f": {span.label}" for span in finding.spans if span.label), "")
    return at("handle", f"`handle` must be `{_SIGNATURE}`: {finding.message}{label}", source, code=finding.code, after=defined.start())


def _of_the_linker(finding: Finding, source: str) -> Diagnostic:
    # The first of its notes is the command.
    said = "\n".join(child.message for child in finding.children[1:])
    if undefined := _UNDEFINED.search(said):
        return at(undefined["name"], f"`{undefined['name']}` is declared but not defined.", source, code="undefined-symbol")
    if duplicate := _DUPLICATE.search(said):
        return at(duplicate["name"], f"`{duplicate['name']}` is defined twice, or is Kiln's own.", source, code="duplicate-symbol")
    errors = [_PATH.sub("", one["message"]) for one in _LINKER.finditer(said)]
    return at_top(storable("\n".join(["The linker failed.", *errors[:5]])), source, code="linker")


@cache
def _fingerprint(installed: Installed) -> str:
    return digest(crates(installed).fingerprint, Path(__file__))


@cache
def _version(installed: Installed) -> str:
    return (crates(installed).folder / "version").read_text(encoding="ascii")
