"""Compiling a source as a build does, and running what came of it as a call does."""

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from services.compiler.languages import Bounds, Compiled, Diagnostic, Failed, Language
from services.compiler.wasm import check
from services.executor.sandbox import ErrorType, Limits, Outcome, Sandbox
from tests.integration.executor.calls import run
from tests.integration.executor.guests import Module

BOUNDS: Final = Bounds(wall_seconds=60, cpu_seconds=60, memory_bytes=1 << 30, output_bytes=1 << 18, artifact_bytes=8 << 20)
LanguageT = TypeVar("LanguageT", bound=Language)
# A source, the line and the column of its first error, its code, and words of its message.
Mistake = tuple[str, int, int, str | None, str]
# Statements, and how a call of them ends.
Fault = tuple[str, ErrorType, str]
# What nobody who wrote a function has seen: this machine, and Kiln's own part of each module.
MACHINE: Final = (str(Path(__file__).parents[3]), sys.prefix, sys.base_prefix, "site-packages")
_OWN: Final = (*MACHINE, "/tmp", "adapter.", "prelude.", "runtime.c")


def there(language: LanguageT) -> LanguageT:
    """A language, in tests that are skipped where it is not installed."""
    if hint := language.toolchain().install_hint:
        pytest.skip(hint)
    return language


def bounds(**changed: Any) -> Bounds:
    """The usual bounds but for some."""
    return replace(BOUNDS, **changed)


async def built(language: Language, source: str, limits: Bounds = BOUNDS) -> Compiled:
    """A source that compiles, to a module that passes Kiln's own check."""
    outcome = await language.compile(source.encode(), limits)
    assert isinstance(outcome, Compiled), outcome
    await asyncio.to_thread(check, outcome.wasm, outcome.abi, max_bytes=limits.artifact_bytes)
    return outcome


async def failed(language: Language, source: str, limits: Bounds = BOUNDS) -> Failed:
    """A source that does not compile, and is told so in a way that can be shown to anybody, by an error first or last."""
    outcome = await language.compile(source.encode(), limits)
    assert isinstance(outcome, Failed), source[:1000]
    assert errors(outcome), outcome
    told, lines = json.dumps([asdict(one) for one in outcome.diagnostics]), source.split("\n")
    assert [word for word in _OWN if word in told] == []
    for one in outcome.diagnostics:
        assert 1 <= one.line <= len(lines)
        assert 1 <= one.column <= len(lines[one.line - 1]) + 1
    return outcome


def errors(outcome: Failed) -> list[Diagnostic]:
    """Why there is no module."""
    return [one for one in outcome.diagnostics if one.severity == "ERROR"]


async def expect(language: Language, mistake: Mistake) -> None:
    """Asserts that a mistake is told where it is and as it should."""
    source, line, column, code, words = mistake
    outcome = await failed(language, source)
    first = errors(outcome)[0]
    assert outcome.reason == "COMPILE_ERROR"
    assert (first.line, first.column, first.code) == (line, column, code), first
    assert words in first.message


async def answer(
    sandbox: Sandbox, compiled: Compiled, text: str = "{}", limits: Limits | None = None, variables: Mapping[str, str] | None = None
) -> Outcome:
    """How a call of a compiled function ends.

    Args:
        sandbox: Where it runs.
        compiled: The function.
        text: Its input.
        limits: Of the call.
        variables: Its environment.
    """
    return await run(sandbox, Module(compiled.wasm, compiled.abi.name), text, limits or Limits(), variables or {})


async def do(sandbox: Sandbox, compiled: Compiled, deed: str, text: str = "{}", *, timeout_ms: int = 20_000) -> Outcome:
    """Calls a function that looks into its environment for what it shall do."""
    return await answer(sandbox, compiled, text, Limits(timeout_ms=timeout_ms), {"DEED": deed, "GREETING": "Hello, J\u00f6rg"})
