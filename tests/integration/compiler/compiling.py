"""Compiling a source as a build does, and running what came of it as a call does."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from services.compiler.languages import Bounds, Compiled, Failed, Language
from services.compiler.wasm import check
from services.executor.sandbox import Limits, Outcome, Sandbox
from tests.integration.executor.calls import run
from tests.integration.executor.guests import Module

BOUNDS: Final = Bounds(wall_seconds=60, cpu_seconds=60, memory_bytes=1 << 30, output_bytes=1 << 18, artifact_bytes=8 << 20)
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


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
    """A source that does not compile, and is told so in a way that can be shown to anybody."""
    outcome = await language.compile(source.encode(), limits)
    assert isinstance(outcome, Failed), source
    assert any(one.severity == "ERROR" for one in outcome.diagnostics), outcome
    return outcome


async def answer(sandbox: Sandbox, compiled: Compiled, text: str = "{}", limits: Limits | None = None, **variables: str) -> Outcome:
    """How a call of a compiled function ends.

    Args:
        sandbox: Where it runs.
        compiled: The function.
        text: Its input.
        limits: Of the call.
        variables: Its environment.
    """
    return await run(sandbox, Module(compiled.wasm, compiled.abi.name), text, limits or Limits(), variables)
