"""The languages that functions may be written in: one folder each, all behind `Language`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from libs.common.abi import Abi
from services.compiler.hot import HotProcesses
from services.compiler.languages.prepared import Prepared

Severity = Literal["ERROR", "WARNING", "INFO"]
Reason = Literal["COMPILE_ERROR", "COMPILE_TIMEOUT", "COMPILE_MEMORY", "COMPILE_OUTPUT", "COMPILE_PROCESSES", "COMPILER_CRASHED"]


class ToolchainUnavailable(Exception):
    """The compiler is not installed or does not start: the platform's fault, so the build is tried again and never FAILED."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing a compiler has to say about the user's own file.

    Attributes:
        severity: How bad it is; a build with an ERROR has no artifact.
        line: 1-based.
        column: 1-based, in code points.
        end_line: Where it ends; None where that is not known.
        end_column: The column after the last one; None where that is not known.
        code: The compiler's own word for the problem, such as TS2322; None where there is none.
        message: What is wrong and, where that is known, what to write instead. Plain text on one or more lines.
        excerpt: The source line, cut to fit a terminal, control characters escaped.
    """

    severity: Severity
    line: int
    column: int
    end_line: int | None
    end_column: int | None
    code: str | None
    message: str
    excerpt: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one build may use.

    Attributes:
        wall_seconds: From the start of the compiler to its end.
        cpu_seconds: Of all its threads together.
        memory_bytes: Resident, of the compiler and its descendants together.
        output_bytes: What it may say besides the artifact.
        artifact_bytes: Largest artifact.
    """

    wall_seconds: float
    cpu_seconds: int
    memory_bytes: int
    output_bytes: int
    artifact_bytes: int


@dataclass(frozen=True, slots=True)
class Compiled:
    """A build that worked. The module is not checked yet: that is for the trusted stage, `services.compiler.wasm`.

    Attributes:
        wasm: The module.
        abi: What it is to export and may import.
        diagnostics: What the compiler said all the same.
    """

    wasm: bytes
    abi: Abi
    diagnostics: Sequence[Diagnostic]


@dataclass(frozen=True, slots=True)
class Failed:
    """A build that the source made fail, at least one diagnostic says why."""

    reason: Reason
    diagnostics: Sequence[Diagnostic]


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What is installed here.

    Attributes:
        available: Whether the language can be compiled now.
        version: Of the compiler; empty when there is none.
        install_hint: How to add it; empty when it is available.
        fingerprint: Changes whenever the same source could compile to other bytes: versions, flags and the adapter's own files.
    """

    available: bool
    version: str
    install_hint: str
    fingerprint: str


class Language(Protocol):
    """One language: how to compile one source file to a module."""

    @property
    def id(self) -> str:
        """The word for `language` in an API call."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def starter(self) -> str:
        """A small function to begin with; it compiles. Of a language whose code is no text, in base64."""

    def toolchain(self) -> Toolchain:
        """Looks at what is installed. Cheap enough for every call, runs nothing."""

    def set_up(self) -> Sequence[Prepared]:
        """What must have been made on this machine before anything can be compiled, in order. Empty where the toolchain is not there."""

    def prepare(self, bounds: Bounds) -> None:
        """Begins whatever makes the first builds quick, in the background."""

    async def compile(self, source: bytes, bounds: Bounds) -> Compiled | Failed:
        """Compiles one file, which is UTF-8 text in all languages but `wasm`.

        Whatever the source, the answer is one of the two, within the bounds and about 50 ms; cancelling it ends the compiler.

        Raises:
            ToolchainUnavailable: The compiler does not start.
        """


def languages(hot: HotProcesses) -> Mapping[str, Language]:
    """All languages by id, in the order of their ids.

    Args:
        hot: The compilers that are kept between builds.
    """
    # A language imports this module for its types, so it can only be imported later than them.
    from services.compiler.languages.assemblyscript import AssemblyScript
    from services.compiler.languages.c import C
    from services.compiler.languages.cpp import Cpp
    from services.compiler.languages.go import Go
    from services.compiler.languages.rust import Rust
    from services.compiler.languages.wasm import Wasm
    from services.compiler.languages.zig import Zig

    known: list[Language] = [AssemblyScript(hot), C(hot), Cpp(hot), Go(hot), Rust(hot), Wasm(), Zig(hot)]
    return {language.id: language for language in sorted(known, key=lambda one: one.id)}
