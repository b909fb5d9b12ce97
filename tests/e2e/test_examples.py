"""Every example, deployed and run as its reader would."""

import json
from pathlib import Path

import pytest

from tests.support.platform import Platform

EXAMPLES = sorted(path.parent for path in (Path(__file__).parents[2] / "examples").glob("*/function.*"))


@pytest.fixture(scope="session")
def deployed(platform: Platform) -> Platform:
    """The platform with every example deployed, all at once."""
    for example in EXAMPLES:
        platform.create(f"example-{example.name}", (example / "function.ts").read_text())
    return platform


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_answers_its_input_with_its_output(deployed: Platform, example: Path) -> None:
    function = deployed.settled(f"example-{example.name}")
    assert function["status"] == "READY", function["compileError"]

    execution = deployed.execute(function["name"], json.loads((example / "input.json").read_text()))

    assert execution["status"] == "COMPLETED", execution["errorMessage"]
    assert execution["output"] == json.loads((example / "output.json").read_text())


def test_there_are_at_least_eight_examples() -> None:
    assert len(EXAMPLES) >= 8
