"""One build: a user's source becomes a checked module, or diagnostics that say why not."""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from libs.common import abi
from services.compiler import wasm
from services.compiler.languages import Bounds, Diagnostic, Failed, Language
from services.compiler.languages.verdicts import at_top
from services.compiler.wasm import UnusableModule, check

# A module that an older check let pass is checked again: the check's own text is part of every key.
_CHECKS: Final = hashlib.sha256(b"".join(Path(str(module.__file__)).read_bytes() for module in (abi, wasm))).hexdigest()


@dataclass(frozen=True, slots=True)
class Built:
    """A module that fits its ABI. `key` names what it was made from; None where nobody can tell."""

    wasm: bytes
    abi: str
    diagnostics: Sequence[Diagnostic]
    key: str | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why there is no module: a stable word, and what to tell the user."""

    reason: str
    diagnostics: Sequence[Diagnostic]


async def build(language: Language, source: bytes, bounds: Bounds, *, key: str | None) -> Built | Rejected:
    """Compiles and checks. The key is taken before, since a toolchain may be exchanged meanwhile.

    The check is the trusted stage: it reads the module's bytes itself and believes nothing that the compiler said.

    Raises:
        ToolchainUnavailable: the platform cannot compile now.
    """
    compiled = await language.compile(source, bounds)
    if isinstance(compiled, Failed):
        return Rejected(compiled.reason, compiled.diagnostics)
    try:
        # Megabytes take a tenth of a second.
        await asyncio.to_thread(check, compiled.wasm, compiled.abi, max_bytes=bounds.artifact_bytes)
    except UnusableModule as error:
        # It is the module that is at fault, and no line of the source, which need not even be text.
        return Rejected("INVALID_MODULE", [at_top(error.message, "", code=error.code), *compiled.diagnostics])
    return Built(compiled.wasm, compiled.abi.name, compiled.diagnostics, key)


def key_of(language: Language, source: bytes, bounds: Bounds) -> str | None:
    """Names everything that a build's module depends on: builds of one key make the same. None where the toolchain cannot tell."""
    fingerprint = language.toolchain().fingerprint
    if not fingerprint:
        return None
    facts = [language.id, fingerprint, _CHECKS, bounds.artifact_bytes, hashlib.sha256(source).hexdigest()]
    return f"sha256:{hashlib.sha256(json.dumps(facts).encode()).hexdigest()}"


def readable(diagnostics: Sequence[Diagnostic]) -> str:
    """What `compileError` shows: each error with its place and line, as compilers print them."""
    errors = [one for one in diagnostics if one.severity == "ERROR"]
    return "\n\n".join(_readable(one) for one in errors or diagnostics)


def as_data(diagnostics: Sequence[Diagnostic]) -> Sequence[Mapping[str, Any]]:
    """Diagnostics as they travel in a result."""
    return [asdict(one) for one in diagnostics]


def _readable(one: Diagnostic) -> str:
    code = f" {one.code}" if one.code else ""
    excerpt = f"\n  {one.excerpt.strip()}" if one.excerpt.strip() else ""
    return f"{one.line}:{one.column}: {one.severity.lower()}{code}: {one.message}{excerpt}"
