"""Every example, deployed and run as its reader would."""

import json

import pytest

from tests.support.examples import EXAMPLES, Example
from tests.support.platform import Platform


@pytest.fixture(scope="session")
def hints(platform: Platform) -> dict[str, str]:
    """What to do before functions can be written in a language, by its id; empty where they can be."""
    return {one["id"]: one["installHint"] for one in platform.http.get("/languages").json()["languages"]}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_answers_its_input_with_its_output(platform: Platform, hints: dict[str, str], example: Example) -> None:
    if hint := hints[example.language]:
        pytest.skip(hint)
    # One after the other: what they share is a machine, and each has a time to compile in.
    platform.create(name := f"example-{example.name}", example.source, language=example.language)
    function = platform.settled(name)
    assert function["status"] == "READY", function["compileError"]

    execution = platform.execute(name, json.loads(example.input))

    assert execution["status"] == "COMPLETED", execution["errorMessage"]
    assert execution["output"] == example.output


def test_there_are_at_least_eighteen_examples() -> None:
    assert len(EXAMPLES) >= 18
