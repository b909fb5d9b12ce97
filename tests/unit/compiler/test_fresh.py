"""The driver's answer, which has met hostile input: every part of it is checked."""

import signal
from pathlib import Path
from typing import Any

import pytest

from services.compiler.hot import Answer, StartFailed
from services.compiler.languages import Bounds, Failed, ToolchainUnavailable
from services.compiler.languages.fresh import FreshCompiler, Ran, Recipe
from services.compiler.languages.verdicts import not_said
from services.compiler.process import Limit

BOUNDS = Bounds(wall_seconds=60, cpu_seconds=60, memory_bytes=1 << 30, output_bytes=1000, artifact_bytes=100)
RECIPE = Recipe({"f": "source"}, [["/bin/true"]], "f.wasm")


class Hot:
    """Processes that answer as a test says, one answer a question."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)

    async def ask(self, *_: Any, **__: Any) -> Answer:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def outcome(*answers: Answer | Exception) -> Ran | Failed:
    hot: Any = Hot(*answers)
    ran = await FreshCompiler(hot, "Example", [Path("/opt")], {}).run(RECIPE, "source", BOUNDS)
    assert hot.answers == []
    return ran


def said(text: bytes, module: bytes = b"") -> Answer:
    return Answer(text, module, None, killed=False, said=b"")


def fields(*, status: int = 0, size: int = 3, words: bytes = b"") -> bytes:
    return status.to_bytes(4, "big", signed=True) + size.to_bytes(8, "big") + words


async def test_an_answer_is_read() -> None:
    assert await outcome(said(fields(words=b"words"), b"abc")) == Ran(0, "words", b"abc")


@pytest.mark.parametrize("text", [b"", b"{}", fields()[:-1]])
async def test_an_answer_that_is_none_is_a_crash(text: bytes) -> None:
    failed = await outcome(said(text))

    assert isinstance(failed, Failed)
    assert failed.reason == "COMPILER_CRASHED"
    assert failed.diagnostics[0].message == "The Example compiler crashed: it ended without a result."


async def test_words_are_made_fit_to_be_stored() -> None:
    ran = await outcome(said(fields(words=b"a\0b\xffc")))

    assert isinstance(ran, Ran)
    assert ran.said == "a\ufffdb\ufffdc"


@pytest.mark.parametrize(("size", "told"), [(4096, 4096), (0, 101), (2**64 - 1, 2**64 - 1)])
async def test_a_module_that_is_too_large_is_told_with_its_size(size: int, told: int) -> None:
    failed = await outcome(said(fields(size=size), b"x" * 101))

    assert isinstance(failed, Failed)
    assert (failed.reason, failed.diagnostics[0].message) == ("COMPILE_OUTPUT", f"The compiled module has {told} bytes, the limit is 100.")


async def test_a_build_of_which_somebody_killed_a_command_is_done_again() -> None:
    assert await outcome(said(fields(status=-signal.SIGKILL)), said(fields())) == Ran(0, "", b"")


async def test_a_build_whose_process_ended_has_crashed() -> None:
    failed = await outcome(Answer(None, b"", None, killed=False, said=b""))

    assert isinstance(failed, Failed)
    assert failed.reason == "COMPILER_CRASHED"


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        (Limit.WALL, "COMPILE_TIMEOUT"),
        (Limit.CPU, "COMPILE_TIMEOUT"),
        (Limit.MEMORY, "COMPILE_MEMORY"),
        (Limit.OUTPUT, "COMPILE_OUTPUT"),
        (Limit.PROCESSES, "COMPILE_PROCESSES"),
    ],
)
async def test_a_bound_that_was_passed_is_told_at_once(limit: Limit, reason: str) -> None:
    failed = await outcome(Answer(None, b"", limit, killed=False, said=b""))

    assert isinstance(failed, Failed)
    assert (failed.reason, failed.diagnostics[0].severity) == (reason, "ERROR")


async def test_a_compiler_that_does_not_start_is_the_platforms_fault() -> None:
    with pytest.raises(ToolchainUnavailable, match="the Example compiler does not start: broken"):
        await outcome(StartFailed("broken"))


@pytest.mark.parametrize(
    ("status", "words", "reason"),
    [
        (-signal.SIGXFSZ, "", "COMPILE_OUTPUT"),
        (128 + signal.SIGXFSZ, "", "COMPILE_OUTPUT"),
        (1, "w" * 1000, "COMPILE_OUTPUT"),
        (1, "", "COMPILER_CRASHED"),
        (-signal.SIGSEGV, "/opt/secret/place: Stack dump", "COMPILER_CRASHED"),
    ],
)
def test_a_failure_that_was_not_explained_still_has_an_error_without_the_compilers_own_words(status: int, words: str, reason: str) -> None:
    failed = not_said("Example", status, words, BOUNDS, "source")

    assert (failed.reason, failed.diagnostics[0].severity) == (reason, "ERROR")
    assert "secret" not in failed.diagnostics[0].message
