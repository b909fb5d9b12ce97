"""Diagnostics in the form of GNU's tools, `file:line:column: severity: message`, as clang, Go and Zig print them.

A finding may lie in a file that the user has never seen, such as a header of the standard library. It is shown at the place in the user's
own file that led there: the first one that its notes name, or the line that included that header, or else where that is declared which
it is about. Where nothing in the user's file led there it follows from another error, and is shown only when there is none.

Source: the section on formatting error messages of the GNU coding standards; clang's options -fdiagnostics-print-source-range-info,
which puts `{line:column-line:column}` before the severity, and -fdiagnostics-show-category=name, which puts `[-Wflag,Category]` at the end.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.compiler.languages import Diagnostic, Severity
from services.compiler.languages.verdicts import excerpt, plain

MAX_DIAGNOSTICS: Final = 100
_MAX_MESSAGE_CHARACTERS: Final = 4_000
# Notes that lie in headers explain a finding to those who wrote the headers.
_MAX_FOREIGN_NOTES: Final = 2

# Go leaves the column out where a directive of the user moved the line.
# Zig sets in what it says of an error that has no place of its own.
_FINDING: Final = re.compile(
    r"(?:    )?(?:\./)?(?P<file>[^\s:][^:\t]*):(?P<line>\d{1,9}):(?:(?P<column>\d{1,9}):)?(?P<ranges>(?:\{[\d:-]+\})*:?)\s"
    r"(?:(?P<severity>fatal error|error|warning|note|remark): )?(?P<message>.*)"
)
_UNPLACED: Final = re.compile(r"error: (?P<message>.*)")
_INCLUDED: Final = re.compile(r"In file included from (?P<file>[^:]+):(?P<line>\d{1,9})[:,]")
_REFERENCE: Final = re.compile(r"    \S.*: (?P<file>[^\s:]+):(?P<line>\d{1,9}):(?P<column>\d{1,9})")
_RANGE: Final = re.compile(r"\{(\d{1,9}):(\d{1,9})-(\d{1,9}):(\d{1,9})\}")
_CODE: Final = re.compile(r" \[(?:go\.dev/e/)?(?P<code>[^\[\],]+)(?:,[^\[\]]*)?\]$")
_SEVERITIES: Final[dict[str | None, Severity]] = {"warning": "WARNING", "remark": "INFO", "note": "INFO"}


@dataclass(slots=True)
class _Finding:
    """One finding, with everything that was said of it.

    Attributes:
        place: Line and column in the user's file, column in bytes; None while it is not known.
        included: The same of the line that included the header which it lies in.
        declared: The same of a declaration that its notes name.
        ends: Ranges of characters that the finding is about, all in the file of the finding.
    """

    severity: Severity
    message: list[str]
    place: tuple[int, int] | None
    included: tuple[int, int] | None = None
    declared: tuple[int, int] | None = None
    ends: Sequence[tuple[int, ...]] = ()
    notes: list[str] = field(default_factory=list)


def diagnostics_of(said: str, source: str, *, file: str, hide: Sequence[str] = ()) -> tuple[Diagnostic, ...]:
    """What a compiler said of a source.

    Args:
        said: All that it printed.
        source: The user's file.
        file: The name by which the compiler knew that file.
        hide: Folders whose names are left out of messages.
    """
    lines = source.split("\n")
    found = list(_findings(said.splitlines(), file, len(lines)))
    placed = [one for one in found if one.place or one.included or one.declared]
    findings = _first(placed if any(one.severity == "ERROR" for one in placed) else found)
    return tuple(_diagnostic(one, source, lines, hide) for one in findings)


def _first(findings: Sequence[_Finding]) -> Sequence[_Finding]:
    """As many as are shown, in their order: errors before all else, since they are why there is no module."""
    shown = sorted(range(len(findings)), key=lambda index: findings[index].severity != "ERROR")[:MAX_DIAGNOSTICS]
    return [findings[index] for index in sorted(shown)]


def _findings(said: Iterable[str], file: str, last_line: int) -> Iterator[_Finding]:
    current: _Finding | None = None
    included: tuple[int, int] | None = None
    for text in said:
        if found := _FINDING.fullmatch(text):
            is_there = found["file"] == file and 0 < int(found["line"]) <= last_line
            place = (int(found["line"]), int(found["column"] or 1)) if is_there else None
            if found["severity"] == "note" and current:
                _add_note(current, _CODE.sub("", found["message"]), place)
                continue
            if current:
                yield current
            current, included = _new_finding(found, place, included), None
        elif unplaced := _UNPLACED.fullmatch(text):
            if current:
                yield current
            current, included = _Finding("ERROR", [unplaced["message"]], None), None
        elif header := _INCLUDED.fullmatch(text):
            included = (int(header["line"]), 1) if header["file"] == file else included
        elif current and (reference := _REFERENCE.fullmatch(text)):
            if reference["file"] == file:
                current.place = current.place or (int(reference["line"]), int(reference["column"]))
        elif current and text.startswith("\t"):
            current.message.append(text.strip())
    if current:
        yield current


def _new_finding(found: "re.Match[str]", place: tuple[int, int] | None, included: tuple[int, int] | None) -> _Finding:
    ends = [tuple(map(int, numbers.groups())) for numbers in _RANGE.finditer(found["ranges"])] if place else []
    return _Finding(_SEVERITIES.get(found["severity"], "ERROR"), [found["message"]], place, included, ends=ends)


def _add_note(finding: _Finding, message: str, place: tuple[int, int] | None) -> None:
    if message.endswith("declared here"):
        finding.declared = finding.declared or place
    else:
        finding.place = finding.place or place
    if place or len(finding.notes) < _MAX_FOREIGN_NOTES:
        finding.notes.append(f"note: {message} (line {place[0]})" if place else f"note: {message}")


def _diagnostic(one: _Finding, source: str, lines: Sequence[str], hide: Sequence[str]) -> Diagnostic:
    line, column = one.place or one.included or one.declared or (1, 1)
    code = _CODE.search(one.message[0])
    message = "\n".join([_CODE.sub("", one.message[0]), *one.message[1:], *one.notes])
    for folder in hide:
        message = message.replace(f"{folder}/", "")
    end_line, end_column = _end(one, line, column, lines)
    return Diagnostic(
        severity=one.severity,
        line=line,
        column=_code_points(lines, line, column),
        end_line=end_line,
        end_column=end_column,
        code=code["code"] if code else None,
        message=plain(message[:_MAX_MESSAGE_CHARACTERS]),
        excerpt=excerpt(source, line),
    )


def _end(one: _Finding, line: int, column: int, lines: Sequence[str]) -> tuple[int | None, int | None]:
    """Where that range ends which begins at the finding's own place."""
    for begin_line, begin_column, end_line, end_column in one.ends:
        if (begin_line, begin_column) == (line, column):
            return end_line, _code_points(lines, end_line, end_column)
    return None, None


def _code_points(lines: Sequence[str], line: int, column: int) -> int:
    """A column in code points, of one in bytes."""
    text = lines[line - 1].encode() if 0 < line <= len(lines) else b""
    before = text[: column - 1].decode(errors="ignore")
    # The mark counts for some compilers, and is no part of the line for people.
    return len(before.removeprefix("\ufeff") if line == 1 else before) + 1
