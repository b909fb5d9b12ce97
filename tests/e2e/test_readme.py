"""The README's transcript, typed as it stands: each command must answer what is printed below it, where an ellipsis is any text."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.platform import Platform

README: Final = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
CONSOLE: Final = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def typed() -> Iterator[tuple[str, str]]:
    """Each command of the transcript behind the one that starts Kiln, and what is printed below it."""
    start, *blocks = CONSOLE.findall(README)
    assert start.startswith("$ make run\n")
    for block in blocks:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            yield divided(part)


def divided(part: str) -> tuple[str, str]:
    """Command and answer: a command goes on behind a backslash, behind a pipe, and to the end of its here-document."""
    lines = part.splitlines(keepends=True)
    end = 1
    if here := re.search(r"<<'(\w+)'", lines[0]):
        end = lines.index(f"{here[1]}\n") + 1
    while lines[end - 1].rstrip().endswith(("\\", "|")):
        end += 1
    return "".join(lines[:end]), "".join(lines[end:]).strip()


def matches(expected: str, said: str) -> bool:
    """Whether something was said as expected."""
    return re.fullmatch(".*?".join(map(re.escape, expected.split("…"))), said, re.DOTALL) is not None


def test_the_transcript_works_when_typed(platform: Platform, tmp_path: Path) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    for command, expected in typed():
        if command.startswith("sleep"):
            platform.settled("greet")
        here = command.replace("localhost:8080", platform.http_address).replace("localhost:9090", platform.grpc_address)
        here = here.replace(".kiln/admin.key", str(platform.home / "admin.key"))
        ran = subprocess.run(["bash", "-c", here], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=60)
        assert matches(expected, ran.stdout.strip()), (command, ran.stdout, ran.stderr)


@pytest.mark.parametrize(("expected", "said", "does"), [("a…c", "abbc", True), ("a…c", "ab", False), ("{…}", "{}", True), ("", "x", False)])
def test_an_ellipsis_is_any_text_and_nothing_else_is(expected: str, said: str, does: bool) -> None:
    assert matches(expected, said) is does
