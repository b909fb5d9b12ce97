"""Every example compiles and answers its input with its output."""

import json
from collections import Counter

import pytest

from services.compiler.hot import HotProcesses
from services.compiler.languages import languages
from services.executor.sandbox import Sandbox
from tests.integration.compiler.compiling import answer, built, there
from tests.support.examples import EXAMPLES, SUFFIXES, Example


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
async def test_an_example_gives_the_output_beside_it(compilers: HotProcesses, sandbox: Sandbox, example: Example) -> None:
    language = there(languages(compilers)[example.language])

    compiled = await built(language, example.source)
    outcome = await answer(sandbox, compiled, example.input)

    assert compiled.diagnostics == ()
    assert outcome.output is not None, outcome.error
    assert json.loads(outcome.output) == example.output


def test_every_language_that_is_there_has_three_examples_or_more(compilers: HotProcesses) -> None:
    known = set(SUFFIXES.values())
    there = {name for name, language in languages(compilers).items() if name in known and language.toolchain().available}

    examples = Counter(example.language for example in EXAMPLES)

    assert there
    assert {name: examples[name] for name in there if examples[name] < 3} == {}
