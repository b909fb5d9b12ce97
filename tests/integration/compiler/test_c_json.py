"""The JSON header for functions in C: what it takes, what it refuses and where, and what it writes, beside Python's own json."""

import importlib.util
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT: Final = Path(__file__).parents[3]
HEADERS: Final = ROOT / "services/compiler/languages/c/include"
EXAMPLES: Final = sorted(path.parent for path in (ROOT / "examples").glob("*/function.c"))
# The runtime of the address sanitizer is not in the package of this compiler; that of the undefined one is.
FLAGS: Final = ("-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined", f"-I{HEADERS}")

ORDER: Final = (
    '{"name": "Ada", "price": 1.50, "count": 3, "paid": true, "note": null, "big": 1e400,'
    ' "lines": [10, "x", [], {}], "twice": 1, "nul": "a\\u0000b", "twice": 2}'
)

# A claim, the statements of a function that has `input` (ORDER) and `answer` (an empty array), and what the answer then holds.
ANSWERS: Final[dict[str, tuple[str, Any]]] = {
    "a key that is not there is absent": ('json_push(answer, json_from_bool(json_is(json_get(input, "no"), JSON_ABSENT)));', [True]),
    "a null is there": ('json_push(answer, json_from_bool(json_is(json_get(input, "note"), JSON_NULL)));', [True]),
    "absent values chain": ('json_push(answer, json_from_bool(json_at(json_get(json_get(input, "a"), "b"), 3) == NULL));', [True]),
    "absent values have no length": ("json_push(answer, json_from_integer((long long)json_length(NULL)));", [0]),
    "absent values have no members": ('json_each(item, json_get(input, "no")) json_push(answer, item.value);', []),
    "an index past the end is absent": ('json_push(answer, json_at(json_get(input, "lines"), 4));', [None]),
    "of equal keys the last counts": ('json_push(answer, json_get(input, "twice"));', [2]),
    "a string with a NUL has its whole length": (
        'json *nul = json_get(input, "nul"); json_push(answer, json_from_string_n(json_string(nul), json_length(nul)));'
        " json_push(answer, json_from_integer((long long)json_length(nul)));",
        ["a\0b", 3],
    ),
    "scalars are read as what they are": (
        'json_push(answer, json_from_number(json_number(json_get(input, "price")) * 2));'
        ' json_push(answer, json_from_integer(json_integer(json_get(input, "count")) * 2));'
        ' json_push(answer, json_from_bool(!json_bool(json_get(input, "paid"))));'
        ' json_push(answer, json_from_string(json_string(json_get(input, "name")) + 1));',
        [3, 6, False, "da"],
    ),
    "a number keeps the text it was written with": (
        'json_push(answer, json_from_string(json_number_text(json_get(input, "price"))));',
        ["1.50"],
    ),
    "a number too large for a double is infinite": (
        'json_push(answer, json_from_bool(isinf(json_number(json_get(input, "big")))));',
        [True],
    ),
    "a default stands in for what is absent": (
        'json_push(answer, json_from_string(json_get_string(input, "no", "none")));'
        ' json_push(answer, json_from_number(json_get_number(input, "no", 0.5)));'
        ' json_push(answer, json_from_integer(json_get_integer(input, "no", -7)));'
        ' json_push(answer, json_from_bool(json_get_bool(input, "no", true)));',
        ["none", 0.5, -7, True],
    ),
    "a default stands in for null": ('json_push(answer, json_from_string(json_get_string(input, "note", "none")));', ["none"]),
    "a default does not stand in for what is there": (
        'json_push(answer, json_from_string(json_get_string(input, "name", "none")));'
        ' json_push(answer, json_from_number(json_get_number(input, "price", 0)));'
        ' json_push(answer, json_from_integer(json_get_integer(input, "count", 0)));'
        ' json_push(answer, json_from_bool(json_get_bool(input, "paid", false)));',
        ["Ada", 1.5, 3, True],
    ),
    "members are gone over in order, equal keys included": (
        "json_each(item, input) json_push(answer, json_from_string_n(item.key, item.key_length));",
        ["name", "price", "count", "paid", "note", "big", "lines", "twice", "nul", "twice"],
    ),
    "elements are gone over with their index and no key": (
        'json_each(item, json_get(input, "lines")) if (item.key == NULL) json_push(answer, json_from_integer((long long)item.index));',
        [0, 1, 2, 3],
    ),
    "what is set or pushed is returned": (
        'json *inner = json_set(json_push(answer, json_object()), "list", json_array()); json_push(inner, json_null());',
        [{"list": [None]}],
    ),
    "setting a key again keeps its place": (
        'json *o = json_push(answer, json_object()); json_set(o, "a", json_from_integer(1)); json_set(o, "b", json_null());'
        ' json_set(o, "a", json_from_integer(2));',
        [{"a": 2, "b": None}],
    ),
    "removing a key removes it every time it is there": (
        'json_push(answer, json_from_bool(json_remove(input, "twice"))); json_push(answer, json_get(input, "twice"));'
        ' json_push(answer, json_from_bool(json_remove(input, "twice")));',
        [True, None, False],
    ),
    "an absent value is stored as null": (
        'json_set(json_push(answer, json_object()), "a", json_get(input, "no")); json_push(answer, NULL);',
        [{"a": None}, None],
    ),
    "no text is null": ("json_push(answer, json_from_string(NULL));", [None]),
    "a key is copied": ("char key[] = \"a\"; json_set(json_push(answer, json_object()), key, NULL); key[0] = 'b';", [{"a": None}]),
    "a value may be in a document twice": ("json *one = json_array(); json_push(answer, one); json_push(answer, one);", [[], []]),
    "the least and the greatest integer are written": (
        "json_push(answer, json_from_integer(INT64_MIN)); json_push(answer, json_from_integer(INT64_MAX));",
        [-(2**63), 2**63 - 1],
    ),
    "trying to parse what is JSON gives no message": (
        'const char *error = "before"; json_push(answer, json_try_parse("[1]", &error)); json_push(answer, json_from_bool(error == NULL));',
        [[1], True],
    ),
    "trying to parse what is not JSON gives a message and nothing else": (
        'const char *error; json_push(answer, json_try_parse("[1", &error)); json_push(answer, json_from_string(error));',
        [None, "not JSON: line 1, column 3: expected ',' or ']', found the end of the text"],
    ),
    "a message outlives the next": (
        'const char *one, *other; json_try_parse("", &one); json_try_parse("1 2", &other); json_push(answer, json_from_string(one));',
        ["not JSON: line 1, column 1: expected a value, found the end of the text"],
    ),
    "arguments are evaluated once": (
        'int i = 0; json_push(answer, json_at(json_get(input, "lines"), i++)); json_push(answer, json_from_integer(i));',
        [10, 1],
    ),
}

# A claim, such statements in line 1 of a file, and the message that ends the run.
FAILURES: Final[dict[str, tuple[str, str]]] = {
    "a string is no number": (
        'json_number(json_get(input, "name"));',
        'line 1: json_number(json_get(input, "name")) wants a number and found a string',
    ),
    "nothing is no number": (
        'json_number(json_get(input, "no"));',
        'line 1: json_number(json_get(input, "no")) wants a number and found nothing there',
    ),
    "a number is no string": (
        'json_string(json_get(input, "price"));',
        'line 1: json_string(json_get(input, "price")) wants a string and found a number',
    ),
    "null is no boolean": (
        'json_bool(json_get(input, "note"));',
        'line 1: json_bool(json_get(input, "note")) wants a boolean and found null',
    ),
    "a boolean is no object": (
        'json_get(json_get(input, "paid"), "x");',
        'line 1: json_get(json_get(input, "paid"), "x") wants an object and found a boolean',
    ),
    "an object is no array": ("json_at(input, 0);", "line 1: json_at(input, 0) wants an array and found an object"),
    "an array is no object to set": (
        'json_set(answer, "a", json_null());',
        'line 1: json_set(answer, "a", ...) wants an object and found an array',
    ),
    "nothing is no array to push to": (
        'json_push(json_get(input, "no"), json_null());',
        'line 1: json_push(json_get(input, "no"), ...) wants an array and found nothing there',
    ),
    "a number has no length": (
        'json_length(json_get(input, "count"));',
        'line 1: json_length(json_get(input, "count")) wants an array and found a number',
    ),
    "a string has no members": (
        'json_each(item, json_get(input, "name")) json_push(answer, item.value);',
        'line 1: json_each(json_get(input, "name")) wants an array and found a string',
    ),
    "a default is not for the wrong kind": (
        'json_get_string(input, "count", "none");',
        'line 1: json_get_string(input, "count") wants a string and found a number',
    ),
    "a fraction is no integer": (
        'json_get_integer(input, "price", 0);',
        'line 1: json_get_integer(input, "price") wants a whole number of 64 bits and found 1.50',
    ),
    "NaN is no number": ("json_from_number(NAN);", "line 1: json_from_number(NAN) wants a finite number and found NaN"),
    "an infinity is no number": (
        "json_from_number(-INFINITY);",
        "line 1: json_from_number(-INFINITY) wants a finite number and found an infinity",
    ),
    "a text cut inside a character is no string": (
        'json_from_string_n("\\xC3\\xA9\\xC3\\xA9", 3);',
        'line 1: json_from_string_n("\\xC3\\xA9\\xC3\\xA9", 3) wants UTF-8 and found byte 0xC3 at 2',
    ),
    "a key is UTF-8": ('json_set(input, "\\xFF", NULL);', 'line 1: json_set(input, "\\xFF", ...) wants UTF-8 and found byte 0xFF at 0'),
    "a value that holds itself is not written": (
        "json_push(answer, answer);",
        "json_write wants at most 512 levels of nesting and found more; does a value contain itself?",
    ),
}

# A document that is not JSON, and where its message points and why.
INVALID: Final[list[tuple[str | bytes, str]]] = [
    ("", "line 1, column 1: expected a value, found the end of the text"),
    (" \t\r\n ", "line 2, column 2: expected a value, found the end of the text"),
    ("\ufeff1", "line 1, column 1: expected a value, found byte 0xEF"),
    ("nul", "line 1, column 4: expected the word null, found the end of the text"),
    ("tru]", "line 1, column 4: expected the word true, found ']'"),
    ("False", "line 1, column 1: expected a value, found 'F'"),
    ("fAlse", "line 1, column 2: expected the word false, found 'A'"),
    ("NaN", "line 1, column 1: expected a value, found 'N'"),
    ("Infinity", "line 1, column 1: expected a value, found 'I'"),
    ("-Infinity", "line 1, column 2: expected a digit after the minus sign, found 'I'"),
    ("nulll", "line 1, column 5: expected nothing after the value, found 'l'"),
    ("1 2", "line 1, column 3: expected nothing after the value, found '2'"),
    ("{} // done", "line 1, column 4: expected nothing after the value, found '/'"),
    ("/* one */ 1", "line 1, column 1: expected a value, found '/'"),
    ("01", "line 1, column 2: expected no digit after a leading zero, found '1'"),
    ("[-012]", "line 1, column 4: expected no digit after a leading zero, found '1'"),
    ("+1", "line 1, column 1: expected a value, found '+'"),
    (".5", "line 1, column 1: expected a value, found '.'"),
    ("-", "line 1, column 2: expected a digit after the minus sign, found the end of the text"),
    ("-.5", "line 1, column 2: expected a digit after the minus sign, found '.'"),
    ("1.", "line 1, column 3: expected a digit after the point, found the end of the text"),
    ("1.e5", "line 1, column 3: expected a digit after the point, found 'e'"),
    ("1e", "line 1, column 3: expected a digit in the exponent, found the end of the text"),
    ("1e+", "line 1, column 4: expected a digit in the exponent, found the end of the text"),
    ("[1E-x]", "line 1, column 5: expected a digit in the exponent, found 'x'"),
    ("0x1F", "line 1, column 2: expected nothing after the value, found 'x'"),
    ("1_000", "line 1, column 2: expected nothing after the value, found '_'"),
    ("[", "line 1, column 2: expected a value, found the end of the text"),
    ("[1,]", "line 1, column 4: expected a value, found ']'"),
    ("[,1]", "line 1, column 2: expected a value, found ','"),
    ("[1,,2]", "line 1, column 4: expected a value, found ','"),
    ("[1 2]", "line 1, column 4: expected ',' or ']', found '2'"),
    ("[1}", "line 1, column 3: expected ',' or ']', found '}'"),
    ("]", "line 1, column 1: expected a value, found ']'"),
    ("{", "line 1, column 2: expected a key in quotes or '}', found the end of the text"),
    ("{a: 1}", "line 1, column 2: expected a key in quotes or '}', found 'a'"),
    ("{1: 1}", "line 1, column 2: expected a key in quotes or '}', found '1'"),
    ("{'a': 1}", "line 1, column 2: expected a key in quotes or '}', found '''"),
    ('{"a"}', "line 1, column 5: expected ':' after the key, found '}'"),
    ('{"a":}', "line 1, column 6: expected a value, found '}'"),
    ('{"a":1,}', "line 1, column 8: expected a key in quotes, found '}'"),
    ('{"a":1 "b":2}', "line 1, column 8: expected ',' or '}', found '\"'"),
    ('{"a":1]', "line 1, column 7: expected ',' or '}', found ']'"),
    ('{\n  "a": 1,\n  "b": x\n}', "line 3, column 8: expected a value, found 'x'"),
    ('"', "line 1, column 2: expected '\"' at the end of the string, found the end of the text"),
    ('"a\nb"', "line 1, column 3: expected control characters to be escaped, found byte 0x0A"),
    ('"\t"', "line 1, column 2: expected control characters to be escaped, found byte 0x09"),
    ('"\\x"', "line 1, column 3: expected one of \" \\ / b f n r t u after a backslash, found 'x'"),
    ('"\\', 'line 1, column 3: expected one of " \\ / b f n r t u after a backslash, found the end of the text'),
    ('"\\u12"', "line 1, column 6: expected four hexadecimal digits after \\u, found '\"'"),
    ('"\\u00g0"', "line 1, column 6: expected four hexadecimal digits after \\u, found 'g'"),
    ('"\\u+123"', "line 1, column 4: expected four hexadecimal digits after \\u, found '+'"),
    ('"\\ud800"', "line 1, column 8: expected a low surrogate after a high one, found '\"'"),
    ('"\\ud800\\n"', "line 1, column 8: expected a low surrogate after a high one, found '\\'"),
    ('"\\ud800\\u0041"', "line 1, column 8: expected a low surrogate after a high one, found '\\'"),
    ('"\\ud800\\ud800"', "line 1, column 8: expected a low surrogate after a high one, found '\\'"),
    ('"\\ud800\\ue000"', "line 1, column 8: expected a low surrogate after a high one, found '\\'"),
    ('"\\ud800\\uzzzz"', "line 1, column 10: expected four hexadecimal digits after \\u, found 'z'"),
    ('"a\\udc00"', "line 1, column 3: expected a high surrogate before a low one, found '\\'"),
    (b'"\xff"', "line 1, column 2: expected UTF-8, found byte 0xFF"),
    (b'"\x80"', "line 1, column 2: expected UTF-8, found byte 0x80"),
    (b'"\xc0\x80"', "line 1, column 2: expected UTF-8, found byte 0xC0"),
    (b'"\xe0\x80\x80"', "line 1, column 2: expected UTF-8, found byte 0xE0"),
    (b'"\xed\xa0\x80"', "line 1, column 2: expected UTF-8, found byte 0xED"),
    (b'"\xf4\x90\x80\x80"', "line 1, column 2: expected UTF-8, found byte 0xF4"),
    (b'"\xe2\x82"', "line 1, column 2: expected UTF-8, found byte 0xE2"),
    (b'"\xc3', "line 1, column 2: expected UTF-8, found byte 0xC3"),
    ('["\U0001f600é", x]', "line 1, column 8: expected a value, found 'x'"),
    ('["\\ud83d\\ude00\\u00e9", x]', "line 1, column 24: expected a value, found 'x'"),
    ("[" * 513, "line 1, column 513: expected at most 512 levels of nesting, found '['"),
    ('{"a":' * 600, "line 1, column 2561: expected at most 512 levels of nesting, found '{'"),
]

WHOLE: Final = st.integers() | st.integers(-(2**63) - 2, -(2**63) + 2) | st.integers(2**63 - 3, 2**63 + 2)
VALUES: Final = st.recursive(
    st.none() | st.booleans() | WHOLE | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


class Answer(NamedTuple):
    """What the program says of one document."""

    ok: bool
    text: str


Program = Callable[[str, Sequence[str | bytes]], list[Answer]]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The compiler that functions are compiled with, here for this machine."""
    found = importlib.util.find_spec("ziglang")
    assert found is not None
    assert found.submodule_search_locations is not None
    compiler = Path(found.submodule_search_locations[0]) / "zig"
    caches = tmp_path_factory.mktemp("zig")
    environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(caches / "global"), "ZIG_LOCAL_CACHE_DIR": str(caches / "local")}

    def build(*arguments: str | Path) -> Path:
        program = tmp_path_factory.mktemp("built") / "program"
        command = [compiler, "cc", *FLAGS, *arguments, "-lm", "-o", program]
        built = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (built.returncode, built.stderr) == (0, "")
        return program

    return build


@pytest.fixture(scope="session")
def program(build: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Runs one scenario of the test program over documents; any that upsets the sanitizer fails the test."""
    folder = tmp_path_factory.mktemp("snippets")
    bodies = [body for body, _ in (*ANSWERS.values(), *FAILURES.values())]
    functions = [
        f'#line 1 "function.c"\nstatic json *snippet_{i}(json *input) {{ (void)input; json *answer = json_array(); {body} return answer; }}'
        for i, body in enumerate(bodies)
    ]
    rows = ", ".join(f'{{"snippet_{i}", snippet_{i}}}' for i in range(len(bodies)))
    (folder / "snippets.inc").write_text("\n".join([*functions, f"#define SNIPPETS {rows}"]) + "\n")
    path = build(f"-I{folder}", Path(__file__).with_name("json_program.c"))

    def run(scenario: str, documents: Sequence[str | bytes]) -> list[Answer]:
        stdin = b"".join((document.encode() if isinstance(document, str) else document) + b"\0" for document in documents)
        done = subprocess.run([path, scenario], input=stdin, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        answers = [Answer(text[0] == "+", text[1:]) for text in done.stdout.decode().split("\0")[:-1]]
        assert len(answers) == len(documents)
        return answers

    return run


def decoded(text: str) -> Any:
    """A document with its numbers as their texts and its objects as their pairs, so that nothing is lost; stricter than Python's json."""

    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    value = json.loads(text, parse_int=str, parse_float=str, parse_constant=refuse, object_pairs_hook=lambda pairs: ("object", pairs))
    json.dumps(value, ensure_ascii=False).encode()  # a ValueError when there is a surrogate that is not one of a pair
    return value


@settings(max_examples=100, deadline=None)
@given(values=st.lists(VALUES, max_size=40), ascii_only=st.booleans(), indent=st.none() | st.integers(0, 2))
def test_what_is_parsed_is_written_with_the_same_meaning(program: Program, values: list[Any], ascii_only: bool, indent: int | None) -> None:
    documents = [json.dumps(value, ensure_ascii=ascii_only, indent=indent) for value in values]

    answers = program("as_it_is", documents)

    assert [(answer.ok, decoded(answer.text)) for answer in answers] == [(True, decoded(document)) for document in documents]


@settings(max_examples=100, deadline=None)
@given(values=st.lists(VALUES, max_size=40))
def test_what_is_written_is_compact(program: Program, values: list[Any]) -> None:
    documents = [json.dumps(value, ensure_ascii=False, separators=(",", ":")) for value in values]

    answers = program("as_it_is", documents)

    assert answers == [Answer(True, document) for document in documents]


MUTATIONS: Final = st.tuples(
    VALUES, st.integers(0, 200), st.integers(0, 2), st.text('[]{}:,"\\/ntrufalse0123.-+eEdD8 \n\t\x01\x7fé', max_size=3)
)


@settings(max_examples=100, deadline=None)
@given(mutations=st.lists(MUTATIONS, max_size=40))
def test_documents_that_were_damaged_are_refused_when_python_refuses_them(
    program: Program, mutations: list[tuple[Any, int, int, str]]
) -> None:
    texts = [json.dumps(value) for value, *_ in mutations]
    documents = [
        text[: at % (len(text) + 1)] + added + text[at % (len(text) + 1) + removed :]
        for text, (_, at, removed, added) in zip(texts, mutations, strict=True)
    ]

    answers = program("as_it_is", documents)

    for document, answer in zip(documents, answers, strict=True):
        try:
            expected = decoded(document)
        except ValueError:
            assert not answer.ok, document
        else:
            assert answer.ok, (document, answer.text)
            assert decoded(answer.text) == expected


@settings(max_examples=100, deadline=None)
@given(strings=st.lists(st.binary(max_size=6).map(lambda data: bytes(byte | 0x80 for byte in data)) | st.binary(max_size=6), max_size=40))
def test_strings_are_taken_when_python_takes_them_as_utf8(program: Program, strings: list[bytes]) -> None:
    strings = [bytes(byte for byte in string if byte >= 0x20 and byte not in b'"\\') for string in strings]

    answers = program("as_it_is", [b'"' + string + b'"' for string in strings])

    for string, answer in zip(strings, answers, strict=True):
        try:
            expected = string.decode()
        except UnicodeDecodeError:
            assert not answer.ok, string
        else:
            assert answer == Answer(True, f'"{expected}"')


@settings(max_examples=100, deadline=None)
@given(floats=st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**54), 2**54).map(float), max_size=200))
def test_doubles_read_back_as_they_were(program: Program, floats: list[float]) -> None:
    [answer] = program("numbers_through_doubles", [json.dumps(floats)])

    assert [number.hex() for number in json.loads(answer.text, parse_int=float)] == [number.hex() for number in floats]


def test_doubles_take_the_digits_they_need(program: Program) -> None:
    document = "[0.1, 1e2, 0.30000000000000004, 1.10, 100000000000000000000, 9007199254740991, -0.0, 1e-7, 1e15, 123456.75]"

    [answer] = program("numbers_through_doubles", [document])

    assert answer.text == "[0.1,100,0.30000000000000004,1.1,1e+20,9007199254740991,-0,1e-07,1000000000000000,123456.75]"


@st.composite
def number_texts(draw: st.DrawFn) -> str:
    """Whole numbers in all the ways that JSON can write them, and some that are not whole or too large."""
    digits = str(draw(WHOLE | st.integers(-1000, 1000)))
    fraction = draw(st.sampled_from(["", ".0", ".000", ".5", ".25", ".0001"]))
    exponent = draw(st.sampled_from(["", "e0", "E+2", "e-2", "e-0", "e4", "e17", "e-30"]))
    return digits + fraction + exponent


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(number_texts(), max_size=100))
def test_integers_are_exact_or_refused(program: Program, texts: list[str]) -> None:
    answers = program("through_an_integer", texts)

    for text, answer in zip(texts, answers, strict=True):
        number = Decimal(text)
        if number == number.to_integral_value() and -(2**63) <= number < 2**63:
            assert answer == Answer(True, str(int(number)))
        else:
            assert not answer.ok, text
            assert answer.text.endswith(f"wants a whole number of 64 bits and found {text[:40]}")


@pytest.mark.parametrize(
    ("text", "integer"),
    [
        ("-0", "0"),
        ("9007199254740993.0", "9007199254740993"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("0.00e99999999999999999999", "0"),
        ("9223372036854775808", None),
        ("1e99999999999999999999", None),
        ("1e-99999999999999999999", None),
    ],
)
def test_an_integer_at_the_edge_is_exact_or_refused(program: Program, text: str, integer: str | None) -> None:
    [answer] = program("through_an_integer", [text])

    assert (answer.text if answer.ok else None) == integer


@pytest.mark.parametrize(
    "text", [str(2**64), "1.10", "-0", "-0.0", "1E5", "1e+05", "0.1e-1", "1" * 5000, "1e400", "123456789.123456789012345"]
)
def test_a_number_that_was_parsed_is_written_with_the_same_digits(program: Program, text: str) -> None:
    [answer] = program("as_it_is", [f"[{text} ]"])

    assert answer == Answer(True, f"[{text}]")


@pytest.mark.parametrize(("document", "message"), INVALID, ids=[repr(document)[:40] for document, _ in INVALID])
def test_what_is_not_json_ends_the_run_and_says_where(program: Program, document: str | bytes, message: str) -> None:
    [answer] = program("as_it_is", [document])

    assert answer == Answer(False, f"not JSON: {message}")


def test_every_beginning_of_a_document_is_refused(program: Program) -> None:
    document = '{"a": [1.5e3, true, false, null, "\\u00e9\\ud83d\\ude00é\\n"], "b": {}}'
    beginnings = [document.encode()[:size] for size in range(len(document.encode()))]

    answers = program("as_it_is", beginnings)

    assert not any(answer.ok for answer in answers)


def test_512_levels_are_not_too_deep(program: Program) -> None:
    arrays, objects = "[" * 512 + "]" * 512, '{"a":' * 511 + "{}" + "}" * 511

    answers = program("as_it_is", [arrays, objects])

    assert answers == [Answer(True, arrays), Answer(True, objects)]


def test_depth_is_not_the_number_of_containers(program: Program) -> None:
    document = "[" + ",".join(["[[]]"] * 1000) + "]"

    [answer] = program("as_it_is", [document])

    assert answer == Answer(True, document)


@pytest.mark.parametrize("scenario", ["as_it_is", "member_by_member"])
def test_an_object_of_many_members_is_kept_whole_and_in_order(program: Program, scenario: str) -> None:
    document = json.dumps({f"key {i}": i for i in range(100_000)}, separators=(",", ":"))

    [answer] = program(scenario, [document])

    assert answer == Answer(True, document)


def test_of_equal_keys_the_last_counts_in_a_large_object_too(program: Program) -> None:
    document = "{" + ",".join(f'"{i % 50}":{i}' for i in range(200)) + "}"

    [answer] = program("member_by_member", [document])

    assert json.loads(answer.text) == json.loads(document)


def test_keys_are_removed_from_a_large_object(program: Program) -> None:
    document = json.dumps({str(i): i for i in range(100)})

    [answer] = program("without_even_keys", [document])

    assert list(json.loads(answer.text).items()) == [(str(i), i) for i in range(1, 99, 2)] + [("99", -99), ("0", None)]


def test_a_long_string_and_a_long_array_are_kept(program: Program) -> None:
    document = json.dumps(["é\n" * 500_000, list(range(200_000))], ensure_ascii=False, separators=(",", ":"))

    [answer] = program("as_it_is", [document])

    assert answer == Answer(True, document)


def test_every_character_comes_through_a_string(program: Program) -> None:
    every = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000))))

    raw, escaped = program("as_it_is", [json.dumps(every, ensure_ascii=False), json.dumps(every)])

    assert json.loads(raw.text) == every
    assert raw == escaped


def test_nul_is_kept_in_strings_and_in_keys(program: Program) -> None:
    document = r'{"a\u0000b":"\u0000","a":"c\u0000"}'

    [answer] = program("as_it_is", [document])

    assert answer == Answer(True, document)


@pytest.mark.parametrize("claim", ANSWERS, ids=lambda claim: claim.replace(" ", "-"))
def test_it_holds_that(program: Program, claim: str) -> None:
    number = list(ANSWERS).index(claim)

    [answer] = program(f"snippet_{number}", [ORDER])

    assert answer.ok, answer.text
    assert json.loads(answer.text) == ANSWERS[claim][1]


@pytest.mark.parametrize("claim", FAILURES, ids=lambda claim: claim.replace(" ", "-"))
def test_the_run_ends_since(program: Program, claim: str) -> None:
    number = len(ANSWERS) + list(FAILURES).index(claim)

    [answer] = program(f"snippet_{number}", [ORDER])

    assert answer == Answer(False, FAILURES[claim][1])


def test_the_function_in_the_comment_of_the_header_works(build: Callable[..., Path], tmp_path: Path) -> None:
    comment = (HEADERS / "json.h").read_text().split("*/")[0]
    shown = [line.removeprefix(" *") for line in comment.splitlines()]
    first, last = shown.index("   #include <json.h>"), shown.index("   }")
    (tmp_path / "function.c").write_text("\n".join(shown[first : last + 1]) + "\n")

    answer = answer_of(build, tmp_path / "function.c", '{"customer": "Ada", "lines": [{"price": 2.5, "quantity": 3}, {"price": 1}]}')

    assert json.loads(answer) == {"customer": "Ada", "total": 8.5}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_gives_the_output_beside_it(build: Callable[..., Path], example: Path) -> None:
    answer = answer_of(build, example / "function.c", (example / "input.json").read_text())

    assert json.loads(answer) == json.loads((example / "output.json").read_text())


def test_there_are_three_examples_or_more() -> None:
    assert len(EXAMPLES) >= 3


def answer_of(build: Callable[..., Path], function: Path, text: str) -> str:
    """What the `handle` of a file answers, called by a program that does nothing else."""
    program = build(function, Path(__file__).with_name("json_caller.c"))
    done = subprocess.run([program], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
