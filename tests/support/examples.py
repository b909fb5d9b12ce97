"""The examples, and the language that each is written in."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SUFFIXES: Final = {".c": "c", ".cpp": "cpp", ".go": "go", ".rs": "rust", ".ts": "assemblyscript", ".zig": "zig"}


@dataclass(frozen=True)
class Example:
    """A function, an input and its output.

    Attributes:
        file: Its source, beside `input.json` and `output.json`.
    """

    file: Path

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.file.parent.name

    @property
    def language(self) -> str:
        """The id of its language."""
        return SUFFIXES[self.file.suffix]

    @property
    def source(self) -> str:
        """What its reader deploys."""
        return self.file.read_text(encoding="utf-8")

    @property
    def input(self) -> str:
        """As JSON."""
        return self.file.with_name("input.json").read_text(encoding="utf-8")

    @property
    def output(self) -> Any:
        """What it answers to this input."""
        return json.loads(self.file.with_name("output.json").read_text(encoding="utf-8"))


EXAMPLES: Final = [Example(file) for file in sorted((Path(__file__).parents[2] / "examples").glob("*/function.*"))]
