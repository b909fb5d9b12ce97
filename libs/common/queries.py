"""Named SQL: static text in a service's `queries.sql`, one statement a name.

    -- insert_function --  one line that says what it means
    INSERT ...;

A name without its statement, or the other way round, fails when the file is loaded.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

_HEADING: Final = re.compile(r"^-- (?P<name>[a-z][a-z0-9_]*) --(?P<meaning>.*)$", re.MULTILINE)


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
    headings = list(_HEADING.finditer(text))
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    statements: dict[str, str] = {}
    for heading, end in zip(headings, ends, strict=True):
        name, statement = heading["name"], text[heading.end() : end].strip().removesuffix(";")
        if not statement or not heading["meaning"].strip() or name in statements:
            raise ValueError(f"{path}: {name} needs one meaning and one statement")
        statements[name] = statement
    return statements
