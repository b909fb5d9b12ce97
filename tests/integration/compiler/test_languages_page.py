"""The page of languages shows functions that do what it says of them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from libs.common.languages import WASM
from services.compiler.hot import HotProcesses
from services.compiler.languages import Compiled, Language, languages
from services.executor.sandbox import ErrorType, Sandbox
from tests.integration.compiler.compiling import answer, built, there

PAGE: Final = (Path(__file__).parents[3] / "docs" / "languages.md").read_text(encoding="utf-8")
# As a fence calls a language that an id calls otherwise.
FENCES: Final = {"typescript": "assemblyscript"}
BLOCKS: Final[Mapping[str, str]] = {
    FENCES.get(fence, fence): text for fence, text in re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.M | re.S)
}


@pytest.fixture(params=BLOCKS)
def language(compilers: HotProcesses, request: pytest.FixtureRequest) -> Language:
    """One that the page has a function of."""
    return there(languages(compilers)[request.param])


@pytest.fixture
async def shown(language: Language) -> Compiled:
    """That function."""
    return await built(language, BLOCKS[language.id])


async def test_a_function_of_the_page_greets_logs_and_fails_as_the_page_says(shown: Compiled, sandbox: Sandbox) -> None:
    greeted = await answer(sandbox, shown, '{"name": "Ada"}')
    unnamed = await answer(sandbox, shown, "{}")

    assert greeted.output is not None, greeted.error
    output = json.loads(greeted.output)
    assert list(output) == ["message", "at"]
    assert output["message"] == "Hello, Ada!"
    assert output["at"] > 1_600_000_000_000
    assert [line.message for line in greeted.logs] == ["greeting Ada"]
    assert unnamed.error is not None
    assert (unnamed.error.type, unnamed.error.message) == (ErrorType.ABORT, "the name is missing")
    assert shown.diagnostics == ()


async def test_a_function_of_the_page_greets_as_its_environment_says(language: Language, shown: Compiled, sandbox: Sandbox) -> None:
    if "GREETING" not in BLOCKS[language.id]:
        pytest.skip("this language cannot read its environment")

    outcome = await answer(sandbox, shown, '{"name": "Ada"}', variables={"GREETING": "Good morning"})

    assert outcome.output is not None, outcome.error
    assert json.loads(outcome.output)["message"] == "Good morning, Ada!"


def test_the_page_has_every_language_of_text_with_its_id(compilers: HotProcesses) -> None:
    table = re.findall(r"^\| \[.*\]\(#.*\) \| `(\w+)` \|", PAGE, re.M)

    assert set(table) == set(languages(compilers)) - {WASM}
    assert list(BLOCKS) == table
