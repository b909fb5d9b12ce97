"""Named SQL: static text in a service's `queries.sql`, one statement a name.

    -- insert_function --  one line that says what it means
    INSERT ...;

A name without its statement, or the other way round, fails when the file is loaded: a blank line, or the file's end, ends a statement.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

_HEADING: Final = re.compile(r"^-- (?P<name>[a-z][a-z0-9_]*) -- +(?P<meaning>\S.*)$", re.MULTILINE)


class Queries:
    """The statements of one file, as attributes."""

    def __init__(self, path: Path) -> None:
        self._statements = _split(path.read_text(encoding="utf-8"), path)

    def __getattr__(self, name: str) -> str:
        try:
            return self._statements[name]
        except KeyError:
            raise AttributeError(f"no query is named {name}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._statements)

    def __getitem__(self, name: str) -> str:
        return self._statements[name]


def _split(text: str, path: Path) -> Mapping[str, str]:
    statements: dict[str, str] = {}
    for part in text.strip().split("\n\n"):
        heading, _, body = part.partition("\n")
        found = _HEADING.fullmatch(heading)
        statement = body.strip().removesuffix(";")
        if not found or not statement or found["name"] in statements or _HEADING.search(statement) or ";\n" in statement:
            raise ValueError(f"{path}: one heading `-- name --  meaning` and one statement are needed, not: {part[:80]}")
        statements[found["name"]] = statement
    return statements
