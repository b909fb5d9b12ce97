"""What rustc says is read as something that hostile code may have written."""

import json
from typing import Any

import pytest

from services.compiler.languages.rust.diagnostics import MAX_DIAGNOSTICS, diagnostic, findings

SPAN = {
    "file_name": "function.rs",
    "byte_end": 9,
    "line_start": 1,
    "column_start": 4,
    "line_end": 1,
    "column_end": 6,
    "is_primary": True,
    "label": "here",
    "suggested_replacement": None,
    "expansion": None,
}


def said(**changed: Any) -> str:
    return json.dumps({"level": "error", "message": "wrong", "code": {"code": "E1"}, "spans": [SPAN], "children": [], **changed})


def test_a_finding_has_its_place_its_code_and_what_is_said_of_the_place() -> None:
    (found,) = findings(said())

    shown = diagnostic(found, "let x;", file="function.rs")

    assert (shown.line, shown.column, shown.end_line, shown.end_column) == (1, 4, 1, 6)
    assert (shown.severity, shown.code, shown.message, shown.excerpt) == ("ERROR", "E1", "wrong: here", "let x;")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "thread 'rustc' panicked",
        "null",
        "[1]",
        "{}",
        said()[:-1],
        said(spans=7),
        said(spans=["x"]),
        said(spans=[{**SPAN, "line_start": "1"}]),
        said(spans=[{**SPAN, "line_start": 1.5}]),
        said(spans=[{**SPAN, "expansion": 3}]),
        said(children=[[]]),
        said(code=3),
        "[" * 100_000,
        '{"children":[' * 50_000,
        said(message="aborting due to previous error"),
        said(level="failure-note"),
    ],
)
def test_what_is_no_finding_counts_for_nothing(text: str) -> None:
    assert findings(text) == []


def test_numbers_have_a_bound_and_findings_too() -> None:
    found = findings("\n".join([said(spans=[{**SPAN, "line_start": 10**40, "column_start": -5, "line_end": 10**40}])] * 500))

    shown = diagnostic(found[0], "let x;", file="function.rs")

    assert len(found) == MAX_DIAGNOSTICS
    assert (shown.line, shown.column) == (1, 7)


def test_what_is_said_is_stored_without_halves_of_characters() -> None:
    (found,) = findings(said(message="\ud800\0", code={"code": "\ud800"}))

    shown = diagnostic(found, "let x;", file="function.rs")

    (shown.message + (shown.code or "")).encode()
    assert "\0" not in shown.message


def test_a_place_in_a_library_is_shown_where_the_user_led_to_it() -> None:
    inside = {**SPAN, "file_name": "library/core/src/macros.rs", "line_start": 90, "expansion": {"span": SPAN}}
    (found,) = findings(said(spans=[inside]))

    assert diagnostic(found, "let x;", file="function.rs").column == 4
