"""Every example compiles and answers its input with its output."""

import json
from pathlib import Path
from typing import Final

import pytest

from services.compiler.hot import HotProcesses
from services.compiler.languages import Bounds, Compiled
from services.compiler.languages.assemblyscript import AssemblyScript
from services.compiler.wasm import check
from tests.integration.compiler.guest import call

EXAMPLES: Final = sorted(path.parent for path in (Path(__file__).parents[3] / "examples").glob("*/function.ts"))
BOUNDS: Final = Bounds(wall_seconds=60, cpu_seconds=60, memory_bytes=1 << 30, output_bytes=1 << 18, artifact_bytes=8 << 20)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
async def test_an_example_gives_the_output_beside_it(compilers: HotProcesses, example: Path) -> None:
    language = AssemblyScript(compilers)

    outcome = await language.compile((example / "function.ts").read_bytes(), BOUNDS)

    assert isinstance(outcome, Compiled), outcome
    assert outcome.diagnostics == ()
    check(outcome.wasm, outcome.abi, max_bytes=BOUNDS.artifact_bytes)
    run = call(outcome.wasm, (example / "input.json").read_text())
    assert run.output is not None, run
    assert json.loads(run.output) == json.loads((example / "output.json").read_text())


def test_there_are_nine_examples_or_more() -> None:
    assert len(EXAMPLES) >= 9
