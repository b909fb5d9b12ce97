"""What compilers print, read: the place is the user's, whatever the finding's is."""

import pytest

from services.compiler.languages import Diagnostic
from services.compiler.languages.gnu import MAX_DIAGNOSTICS, diagnostics_of

SOURCE = "#include <x>\nint a;\n\tint b = \U0001f600 c;\nint d;\n"


def read(said: str, source: str = SOURCE) -> tuple[Diagnostic, ...]:
    return diagnostics_of(said, source, file="f.c", hide=["/opt/kiln/include"])


def places(said: str, source: str = SOURCE) -> list[tuple[int, int]]:
    return [(one.line, one.column) for one in read(said, source)]


def test_a_finding_has_all_that_was_said_of_it() -> None:
    said = "f.c:2:5:{2:5-2:6}: warning: unused variable 'a' [-Wunused-variable,Unused Entity Issue]"

    assert read(said) == (Diagnostic("WARNING", 2, 5, 2, 6, "-Wunused-variable", "unused variable 'a'", "int a;"),)


@pytest.mark.parametrize(
    ("word", "severity"),
    [("fatal error: ", "ERROR"), ("error: ", "ERROR"), ("warning: ", "WARNING"), ("remark: ", "INFO"), ("", "ERROR")],
)
def test_the_word_before_the_message_is_its_severity_and_none_is_an_error(word: str, severity: str) -> None:
    [one] = read(f"f.c:2:5: {word}words")

    assert (one.severity, one.message) == (severity, "words")


def test_columns_are_told_in_code_points() -> None:
    # A tab is one, the face is four bytes.
    assert places("f.c:3:15: error: here") == [(3, 12)]


def test_a_byte_order_mark_has_no_column() -> None:
    assert places("f.c:1:4: error: a\nf.c:1:5: error: b\nf.c:2:1: error: c", "\ufeffxy\nz") == [(1, 1), (1, 2), (2, 1)]


def test_a_column_past_the_end_is_the_end() -> None:
    assert places("f.c:2:999: error: here") == [(2, 7)]


def test_a_place_without_a_column_is_the_beginning_of_its_line() -> None:
    assert places("f.c:2: error: here\nf.c:4: there") == [(2, 1), (4, 1)]


def test_a_file_may_be_told_as_one_of_this_folder() -> None:
    assert places("./f.c:2:5: error: here") == [(2, 5)]


@pytest.mark.parametrize("place", ["f.c:900:1", "f.c:0:1", "other.c:2:1", "/etc/f.c:2:1"])
def test_a_place_that_is_not_the_sources_is_its_top(place: str) -> None:
    assert places(f"{place}: error: here") == [(1, 1)]


def test_a_finding_in_a_header_lies_where_a_note_leads_to() -> None:
    said = "/opt/kiln/include/x:9:1: error: no\n/opt/kiln/include/y:1:1: note: in y\nf.c:4:5: note: requested here"

    [one] = read(said)

    assert (one.line, one.column, one.message) == (4, 5, "no\nnote: in y\nnote: requested here (line 4)")


def test_a_finding_in_a_header_without_such_a_note_lies_where_it_was_included() -> None:
    assert places("In file included from f.c:1:\nIn file included from /opt/kiln/include/x:3:\n/opt/kiln/include/y:9:1: error: no") == [
        (1, 1)
    ]
    assert places("In file included from f.c:2:\n/opt/kiln/include/y:9:1: error: no\nf.c:4:1: error: yes") == [(2, 1), (4, 1)]


def test_a_reference_of_zigs_leads_to_the_source() -> None:
    assert places("/lib/std.zig:7:9: error: no\nreferenced by:\n    handle: f.c:4:5") == [(4, 5)]


def test_a_reference_says_more_than_where_something_is_declared() -> None:
    said = "/lib/std.zig:7:9: error: no\nf.c:2:1: note: struct declared here\n"

    assert places(f"{said}referenced by:\n    handle: f.c:4:5") == [(4, 5)]
    assert places(said) == [(2, 1)]


def test_an_error_without_a_place_lies_where_its_notes_say() -> None:
    said = (
        "error: dependency loop with length 2\n    f.c:2:5: note: a needs b here\n    int a;\n        ^\n"
        "    referenced by:\n        handle: f.c:4:5\n    f.c:3:6: note: b needs a here\n    note: break the loop"
    )

    [one] = read(said)

    assert (one.severity, one.line, one.column) == ("ERROR", 2, 5)
    assert one.message == "dependency loop with length 2\nnote: a needs b here (line 2)\nnote: b needs a here (line 3)"


def test_an_error_without_any_place_lies_at_the_top() -> None:
    [one] = read("error: no")

    assert (one.severity, one.line, one.column, one.message) == ("ERROR", 1, 1, "no")


def test_lines_that_begin_with_a_tab_go_on() -> None:
    [one] = read("f.c:2:5: error: not enough\n\thave (int)\n\twant (int, int) [code]")

    assert one.message == "not enough\nhave (int)\nwant (int, int) [code]"


def test_notes_of_headers_are_few() -> None:
    [one] = read("f.c:2:5: error: no\n" + "".join(f"/opt/kiln/include/x:{line}:1: note: {line}\n" for line in range(1, 9)))

    assert one.message == "no\nnote: 1\nnote: 2"


def test_folders_of_this_machine_are_hidden() -> None:
    [one] = read("f.c:2:5: error: see /opt/kiln/include/x.h\n\t/opt/kiln/include/y.h:2:1: other")

    assert one.message == "see x.h\ny.h:2:1: other"


def test_control_characters_are_escaped_and_half_a_character_is_replaced() -> None:
    [one] = read("f.c:2:5: error: \x1b[31m\x07 \ud800")

    assert one.message == "\\x1b[31m\\x07 \ufffd"


def test_errors_are_shown_before_all_else() -> None:
    warnings = "f.c:2:5: warning: w\n" * (2 * MAX_DIAGNOSTICS)

    found = read(warnings + "f.c:4:1: error: last\n" + warnings)

    assert len(found) == MAX_DIAGNOSTICS
    assert [one.severity for one in found if one.severity == "ERROR"] == ["ERROR"]
    assert found[-1].message == "last"


def test_a_flood_is_cut() -> None:
    [one] = read(f"f.c:2:5: error: {'x' * 100_000}")

    assert len(read("f.c:2:5: error: e\n" * 10_000)) == MAX_DIAGNOSTICS
    assert len(one.message) == 4000


@pytest.mark.parametrize(
    "said",
    [
        "",
        "words",
        "zig: error: clang frontend command failed with exit code 132 (use -v to see invocation)",
        "1.\tf.c:3:1: current parser token 'x'",
        "Stack dump without symbol names (ensure you have llvm-symbolizer in your PATH):",
        "wasm-ld: error: f.o: undefined symbol: x",
        "f.c:999999999999:1: error: x",
    ],
)
def test_what_is_no_finding_is_none(said: str) -> None:
    assert read(said) == ()
