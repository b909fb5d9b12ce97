"""What becomes of modules by chance on the way that a person's module takes: read, checked, made native code of, and called."""

from collections import Counter
from typing import Final

from services.compiler.build import Rejected, build
from services.compiler.languages import Bounds
from services.compiler.languages.wasm import Wasm
from services.executor.sandbox import ErrorType, Limits, Sandbox, Unloadable
from tests.integration.executor.calls import run
from tests.integration.executor.guests import Module
from tests.support.smith import smithed

_BOUNDS: Final = Bounds(wall_seconds=60, cpu_seconds=60, memory_bytes=1 << 30, output_bytes=1 << 18, artifact_bytes=8 << 20)
_LIMITS: Final = Limits(timeout_ms=200, memory_mb=32)
_INPUTS: Final = ("{}", '"ü"', "[" + "1," * 1000 + "1]")


async def publish_and_call(sandbox: Sandbox, seed: int) -> Counter[str]:
    """How a module's build, or else each of its calls, has ended.

    Raises:
        AssertionError: the platform is at fault, or a refusal says nothing.
    """
    made = smithed(seed)
    built = await build(Wasm(), made.wasm, _BOUNDS, key=None)
    if isinstance(built, Rejected):
        assert built.diagnostics[0].message
        return Counter(["REJECTED"])
    module = Module(built.wasm, built.abi)
    try:
        outcomes = [await run(sandbox, module, text, _LIMITS) for text in _INPUTS]
    except Unloadable:
        return Counter(["UNLOADABLE"])
    ends = Counter(one.error.type if one.error else "COMPLETED" for one in outcomes)
    assert not ends[ErrorType.PLATFORM], f"module {seed}: {outcomes}"
    return ends
