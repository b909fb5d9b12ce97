"""Diagnostics as rustc writes them with `--error-format=json`: one object a line, with the spans that it is about and what helps.

A span may lie in a macro or in a library; it is shown at the place in the user's own file where that was used.

Source: the chapter on JSON output of The rustc book.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from services.compiler.languages import Diagnostic, Severity
from services.compiler.languages.verdicts import excerpt, plain

MAX_DIAGNOSTICS: Final = 100
_MAX_MESSAGE_CHARACTERS: Final = 4_000
_MAX_CODE_CHARACTERS: Final = 100
_MAX_NOTES: Final = 8
_MAX_NUMBER: Final = 999_999_999
_SEVERITIES: Final[Mapping[str, Severity]] = {"error": "ERROR", "warning": "WARNING", "note": "INFO", "help": "INFO"}
# What is said of the whole: that something was found, and where to read about it.
_SUMMARY: Final = re.compile(r"aborting due to|\d+ warnings? emitted|For more information about|Some errors have detailed")
# What is said to those who have a terminal, a manifest or another compiler.
_ELSEWHERE: Final = re.compile(
    r"`#\[\w+\(.*\)\]` (?:on by default|implied by)|this error originates in|add `#!\[feature|Cargo\.toml|cargo add"
)


@dataclass(frozen=True, slots=True)
class Span:
    """Some characters of a file.

    Attributes:
        file: As the compiler knows it.
        place: Line and column, and line and column of the end, in characters.
        is_primary: Whether the finding lies there, and not only what led to it.
        label: What is said of this place.
        suggestion: What to write there instead.
        use: Where the macro that the place lies in was used.
    """

    file: str
    place: tuple[int, int, int, int]
    is_primary: bool
    label: str
    suggestion: str
    use: "Span | None"

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Self:
        """One as rustc writes it.

        Raises:
            KeyError, TypeError, ValueError: It is none.
        """
        line, column = _number(raw["line_start"]), _number(raw["column_start"])
        end_line, end_column = _number(raw["line_end"]), _number(raw["column_end"])
        # What lies in no file is told as the beginning of the first one.
        file = str(raw["file_name"]) if raw["byte_end"] else ""
        use = cls.read(raw["expansion"]["span"]) if raw["expansion"] else None
        label, suggestion = str(raw["label"] or ""), str(raw["suggested_replacement"] or "").strip()
        return cls(file, (line, column, end_line, end_column), bool(raw["is_primary"]), label, suggestion, use)

    def within(self, file: str) -> "Span | None":
        """The innermost use, within a file, of the macro that it lies in, or itself; None where there is none."""
        one: Span | None = self
        while one and one.file != file:
            one = one.use
        return one


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that rustc says.

    Attributes:
        level: rustc's word for how bad it is.
        message: What is found.
        code: Its word for the problem; None where there is none.
        spans: Places, those first that it is most about.
        children: What is said about it.
    """

    level: str
    message: str
    code: str | None
    spans: Sequence[Span]
    children: Sequence["Finding"]

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Self:
        """One as rustc writes it.

        Raises:
            KeyError, TypeError, ValueError: It is none.
        """
        code = str(raw["code"]["code"])[:_MAX_CODE_CHARACTERS] if raw["code"] else None
        spans = sorted(map(Span.read, raw["spans"]), key=lambda span: not span.is_primary)
        return cls(str(raw["level"]), str(raw["message"]), code, spans, [cls.read(child) for child in raw["children"]])

    def within(self, file: str) -> Span | None:
        """Where in a file it lies; None where it is about no part of it."""
        spans = [*self.spans, *(span for child in self.children for span in child.spans)]
        return next((found for span in spans if (found := span.within(file))), None)


def findings(said: str) -> Sequence[Finding]:
    """What rustc found; a line that it did not end counts for nothing."""
    found = []
    # Nothing else ends a line: texts that are quoted may hold what Python takes for ends, too.
    for line in said.split("\n"):
        try:
            one = Finding.read(json.loads(line))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if not _SUMMARY.match(one.message) and one.level != "failure-note":
            found.append(one)
    return found[:MAX_DIAGNOSTICS]


def diagnostic(finding: Finding, source: str, *, file: str, hide: Sequence[str] = ()) -> Diagnostic:
    """A finding as users see it.

    Args:
        finding: As rustc tells it.
        source: The user's file.
        file: The name by which rustc knew that file.
        hide: Folders whose names are left out of messages.
    """
    line, column, end_line, end_column = _place(finding.within(file), source.split("\n"))
    message = "\n".join([_headline(finding), *_notes(finding, file)])
    for folder in hide:
        message = message.replace(f"{folder}/", "")
    return Diagnostic(
        severity=_SEVERITIES.get(finding.level, "ERROR"),
        line=line,
        column=column,
        end_line=end_line,
        end_column=end_column,
        code=finding.code and plain(finding.code),
        message=plain(message[:_MAX_MESSAGE_CHARACTERS]),
        excerpt=excerpt(source, line),
    )


def _place(span: Span | None, lines: Sequence[str]) -> tuple[int, int, int | None, int | None]:
    """A place in what the user wrote: what is not closed is missed behind its end."""
    if span is None:
        return 1, 1, None, None
    line, column, end_line, end_column = span.place
    if line <= len(lines):
        # What is never closed ends where the adapter does.
        return (line, column, end_line, end_column) if end_line and end_line <= len(lines) else (line, column, None, None)
    last = max((number for number, line in enumerate(lines, 1) if line.strip()), default=1)
    column = len(lines[last - 1].rstrip()) + 1
    return last, column, last, column


def _headline(finding: Finding) -> str:
    """What is wrong, and what is so at the place itself."""
    label = next((span.label for span in finding.spans if span.is_primary and span.label), "")
    return finding.message if label in finding.message else f"{finding.message}: {label}"


def _notes(finding: Finding, file: str) -> Sequence[str]:
    places = [_note("note", span.label, span, file) for span in finding.spans if span.label and not span.is_primary]
    about = [
        _note(child.level, child.message.strip(), child.spans[0] if child.spans else None, file)
        for child in finding.children
        if not _ELSEWHERE.search(child.message)
    ]
    return list(dict.fromkeys([*places, *about]))[:_MAX_NOTES]


def _note(level: str, message: str, span: Span | None, file: str) -> str:
    inside = span and span.within(file)
    written = f": `{span.suggestion}`" if span and span.suggestion and "\n" not in span.suggestion else ""
    where = f" (line {inside.place[0]})" if inside else ""
    return f"{level}: {message}{written}{where}"


def _number(raw: object) -> int:
    if not isinstance(raw, int):
        raise TypeError(f"{raw} is no number")
    return min(max(raw, 1), _MAX_NUMBER)
