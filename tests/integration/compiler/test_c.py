"""C as people write it: what is wrong with it, what it does when it fails, and what it may use."""

import json
from collections.abc import Mapping
from typing import Final

import pytest

from services.compiler.hot import HotProcesses
from services.compiler.languages import Bounds, Compiled
from services.compiler.languages.c import C
from services.executor.sandbox import ErrorType, Sandbox
from services.executor.sandbox.outcome import Level
from tests.integration.compiler.compiling import MACHINE, Fault, Mistake, answer, bounds, built, do, errors, expect, failed, there

USED: Final = "__attribute__((used))"
EMPTY: Final = 'char *handle(const char *input) { return "1"; }\n'

MISTAKES: Final[Mapping[str, Mistake]] = {
    "a missing semicolon": (
        "#include <json.h>\nchar *handle(const char *input) {\n  return strdup(input)\n}\n",
        3,
        23,
        "Parse Issue",
        "expected ';'",
    ),
    "an undeclared name": (
        "char *handle(const char *input) {\n  return nope;\n}\n",
        2,
        10,
        "Semantic Issue",
        "undeclared identifier 'nope'",
    ),
    "an undeclared function": (
        "char *handle(const char *input) {\n  return json_write(0);\n}\n",
        2,
        10,
        "-Wimplicit-function-declaration",
        "undeclared function 'json_write'",
    ),
    "a wrong type": ('int n = "x";\n' + EMPTY, 1, 5, "-Wint-conversion", "pointer to integer conversion"),
    "a header that is not there": (
        "#include <curl/curl.h>\n" + EMPTY,
        1,
        10,
        "Lexical or Preprocessor Issue",
        "'curl/curl.h' file not found",
    ),
    "a file of the host": ('#include "/etc/passwd"\n' + EMPTY, 1, 10, "Lexical or Preprocessor Issue", "file not found"),
    "no handle": ("int main(void) { return 0; }\n", 1, 1, "undefined-symbol", "does not define `char *handle(const char *input)`"),
    "an empty file": ("", 1, 1, "undefined-symbol", "does not define `char *handle(const char *input)`"),
    "a handle of another type": (
        "\nint handle(int n) { return n; }\n",
        2,
        5,
        "Semantic Issue",
        "must be `char *handle(const char *input)`",
    ),
    "a handle for this file alone": (
        "static char *handle(const char *input) { return 0; }\n",
        1,
        14,
        "Semantic Issue",
        "must be `char *handle(const char *input)`",
    ),
    "two handles": (EMPTY + EMPTY, 2, 7, "Semantic Issue", "redefinition of 'handle'\nnote: previous definition is here (line 1)"),
    "a function without a body": (
        "int helper(int);\nchar *handle(const char *input) {\n  helper(1);\n  return 0;\n}\n",
        1,
        5,
        "undefined-symbol",
        "`helper` is declared but not defined.",
    ),
    "a mistake that a header's macro finds": (
        "#include <json.h>\nchar *handle(const char *input) {\n  json *a = json_array();\n  json_set(a, 3, a);\n  return 0;\n}\n",
        4,
        15,
        "-Wint-conversion",
        "incompatible integer to pointer conversion",
    ),
    "an error of the source's own": ("#error not for this machine\n" + EMPTY, 1, 2, "User-Defined Issue", "not for this machine"),
    "an error behind wide characters": (
        'char *handle(const char *input) {\n  const char *s = "\U0001f600\u00e9"; return nope;\n}\n',
        2,
        32,
        "Semantic Issue",
        "'nope'",
    ),
    "an error behind tabs and line ends of Windows": (
        "char *handle(const char *input) {\r\n\t\treturn nope;\r\n}\r\n",
        2,
        10,
        "Semantic Issue",
        "'nope'",
    ),
    "an error behind a byte order mark": ("\ufeffnope;\n" + EMPTY, 1, 1, "-Wimplicit-int", "type specifier missing"),
    "an error in a last line without an end": ("char *handle(const char *input) { return nope; }", 1, 42, "Semantic Issue", "'nope'"),
    "an error that claims to be elsewhere": ('#line 7 "/etc/passwd"\nint n = nope;\n' + EMPTY, 1, 1, "Semantic Issue", "'nope'"),
    "an error that claims to be further down": ("#line 700\nint n = nope;\n" + EMPTY, 1, 1, "Semantic Issue", "'nope'"),
    "a bad instruction": (
        '__asm__("bogus");\n' + EMPTY,
        1,
        1,
        "Inline Assembly Issue",
        "invalid instruction",
    ),
}

FAULTS: Final[Mapping[str, Fault]] = {
    "kiln_fail": ('kiln_fail("no such customer: \u00e9");', ErrorType.ABORT, "no such customer: \u00e9"),
    "kiln_fail without a word": ('kiln_fail("");', ErrorType.ABORT, "the function failed"),
    "a failed assertion": ('assert(five == 4 && "it is 4");', ErrorType.ABORT, 'assertion failed: five == 4 && "it is 4" (line '),
    "abort": ("abort();", ErrorType.ABORT, "the function called abort()"),
    "exit": ("exit(3);", ErrorType.EXIT, "exit code 3"),
    "exit without a failure": ("exit(0);", ErrorType.EXIT, "exit code 0"),
    "NULL": ("return NULL;", ErrorType.ABORT, "handle returned NULL"),
    "an unreachable place": ("__builtin_trap();", ErrorType.TRAP, "unreachable"),
    "a division by zero": ("volatile int zero = 0; return five / zero ? input : 0;", ErrorType.TRAP, "divi"),
    "a wild pointer": ("volatile int *wild = (int *)0x7ffffff0; *wild = five;", ErrorType.TRAP, "out of bounds memory access"),
    "memory that is taken bit by bit": (
        "for (;;) { volatile char *block = malloc(100000); block[0] = 1; }",
        ErrorType.OUT_OF_MEMORY,
        "the function's limit is 64 MiB",
    ),
    "more memory than there is": ("return memset(malloc(1u << 30), 'x', five);", ErrorType.OUT_OF_MEMORY, "64 MiB"),
    "more zeros than there is memory": ("return calloc(1u << 10, 1u << 20);", ErrorType.OUT_OF_MEMORY, "64 MiB"),
    "more elements than can be counted": ("return calloc(1u << 30, 1u << 30);", ErrorType.OUT_OF_MEMORY, "64 MiB"),
    "memory that grows": ("char *p = NULL; for (size_t n = 1;; n *= 2) p = realloc(p, n);", ErrorType.OUT_OF_MEMORY, "64 MiB"),
    "memory that is aligned": ("return aligned_alloc(64, 1u << 30);", ErrorType.OUT_OF_MEMORY, "64 MiB"),
    "a copy too many": (
        "char *p = malloc(40 << 20); memset(p, 'x', 40 << 20); p[(40 << 20) - 1] = 0; return strdup(p);",
        ErrorType.OUT_OF_MEMORY,
        "64 MiB",
    ),
    "an endless recursion": ("return down(five) ? input : 0;", ErrorType.STACK_OVERFLOW, "too deep"),
    "a recursion with large variables": ("return wide(five) ? input : 0;", ErrorType.STACK_OVERFLOW, "too deep"),
    "an endless loop": ("for (;;) five = five + 1;", ErrorType.TIMEOUT, "ran longer"),
    "text that is no JSON": ('return "not json";', ErrorType.INVALID_OUTPUT, "not valid JSON"),
    "an empty text": ('return "";', ErrorType.INVALID_OUTPUT, "not valid JSON"),
    "text that is no UTF-8": ('return "\\"\\xff\\"";', ErrorType.INVALID_OUTPUT, "not UTF-8"),
}

# Statements, and what they answer.
ANSWERS: Final[Mapping[str, tuple[str, str]]] = {
    "a variable of the environment": ('return json_write(json_from_string(kiln_env("GREETING")));', '"Hello, J\u00f6rg"'),
    "a variable as C reads it": ('return json_write(json_from_string(getenv("GREETING")));', '"Hello, J\u00f6rg"'),
    "no variable": ('return json_write(json_from_bool(kiln_env("NOPE") == NULL && getenv("NOPE") == NULL));', "true"),
    "the time": (
        "long long apart = kiln_now_ms() / 1000 - time(NULL); return json_write(json_from_bool(apart > -100 && apart < 100));",
        "true",
    ),
    "randomness": (
        "long long a, b; kiln_random(&a, sizeof a); kiln_random(&b, sizeof b); return json_write(json_from_bool(a != b));",
        "true",
    ),
    "a counter": ("static int calls; return json_write(json_from_integer(++calls));", "1"),
    "no files": ('return json_write(json_from_bool(fopen("/etc/passwd", "r") == NULL && fopen("/tmp/x", "w") == NULL));', "true"),
    "no standard input": ("return json_write(json_from_bool(getchar() == EOF));", "true"),
}

LOGS: Final = (
    r"""printf("one\ntwo"); puts(" and a half"); fprintf(stderr, "bad\n"); kiln_log(KILN_WARN, "careful \u00e9"); printf("three");"""
)


def program() -> str:
    """One function that does each of these, whichever its environment names."""
    deeds = {name: fault[0] for name, fault in FAULTS.items()} | {name: statements for name, (statements, _) in ANSWERS.items()}
    deeds |= {"logs": LOGS, "failed log": LOGS + ' kiln_fail("failed");', "echo": "return strdup(input);"}
    lines = ["#include <assert.h>", "#include <json.h>", "#include <time.h>"]
    lines += ["static int down(int n) { volatile int kept = n; return n == -1 ? 0 : down(n + 1) + kept; }"]
    lines += ["static int wide(int n) { volatile char room[50000]; room[n] = 1; return n == -1 ? 0 : wide(n + 1) + room[n]; }"]
    lines += ["char *handle(const char *input) {", '  const char *deed = kiln_env("DEED");', "  volatile int five = 5;"]
    lines += [f"  if (strcmp(deed, {json.dumps(name)}) == 0) {{ {statements} }}" for name, statements in deeds.items()]
    return "\n".join([*lines, '  return "null";', "}"])


@pytest.fixture(scope="module")
def c(compilers: HotProcesses) -> C:
    """The language."""
    return there(C(compilers))


@pytest.fixture(scope="module")
async def deeds(c: C) -> Compiled:
    """The function that does it all."""
    return await built(c, program())


async def test_the_starter_greets(c: C, sandbox: Sandbox) -> None:
    outcome = await answer(sandbox, await built(c, c.starter), '{"name":"Kiln"}')

    assert outcome.output == b'{"message":"Hello, Kiln!"}'


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_it_is_told_where_there_is(c: C, mistake: str) -> None:
    await expect(c, MISTAKES[mistake])


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_call_fails_with(deeds: Compiled, sandbox: Sandbox, fault: str) -> None:
    _, kind, words = FAULTS[fault]

    outcome = await do(sandbox, deeds, fault, timeout_ms=300 if kind is ErrorType.TIMEOUT else 20_000)

    assert outcome.error is not None
    assert (outcome.error.type, words in outcome.error.message) == (kind, True), outcome.error


@pytest.mark.parametrize("deed", ANSWERS)
async def test_a_function_has(deeds: Compiled, sandbox: Sandbox, deed: str) -> None:
    outcome = await do(sandbox, deeds, deed)

    assert outcome.output is not None, outcome.error
    assert outcome.output.decode() == ANSWERS[deed][1]


@pytest.mark.parametrize("deed", ["logs", "failed log"])
async def test_what_it_prints_is_its_log_to_the_last_character(deeds: Compiled, sandbox: Sandbox, deed: str) -> None:
    outcome = await do(sandbox, deeds, deed)

    logs = [(line.level, line.message) for line in outcome.logs]
    assert sorted(logs, key=lambda log: log[0]) == sorted(
        [
            (Level.INFO, "one"),
            (Level.INFO, "two and a half"),
            (Level.INFO, "three"),
            (Level.WARN, "careful \u00e9"),
            (Level.ERROR, "bad"),
        ],
        key=lambda log: log[0],
    )


async def test_a_second_call_finds_nothing_of_the_first(deeds: Compiled, sandbox: Sandbox) -> None:
    first, second = await do(sandbox, deeds, "a counter"), await do(sandbox, deeds, "a counter")

    assert (first.output, second.output) == (b"1", b"1")


@pytest.mark.parametrize("text", ["[9007199254740993,18446744073709551615,1.10,-0.0]", r'"\u0000"', '{"\u00e9":"\U0001f600"}'])
async def test_text_passes_untouched(deeds: Compiled, sandbox: Sandbox, text: str) -> None:
    outcome = await do(sandbox, deeds, "echo", text)

    assert outcome.output == text.encode()


async def test_a_warning_fails_no_build(c: C, sandbox: Sandbox) -> None:
    compiled = await built(c, 'char *handle(const char *input) {\n  int unused = 1;\n  return "1";\n}\n')

    outcome = await answer(sandbox, compiled)

    assert [(one.severity, one.line, one.column, one.code) for one in compiled.diagnostics] == [("WARNING", 2, 7, "-Wunused-variable")]
    assert outcome.output == b"1"


async def test_an_error_is_told_though_more_warnings_than_are_shown_come_first(c: C) -> None:
    warnings = "".join(f"#warning number {number}\n" for number in range(150))

    outcome = await failed(c, warnings + "int n = nope;\n" + EMPTY)

    assert outcome.reason == "COMPILE_ERROR"
    assert [one.message for one in errors(outcome)] == ["use of undeclared identifier 'nope'"]
    assert len(outcome.diagnostics) == 100


# Names that Kiln or the library has already, and what comes of them: what is told, or None where it works.
NAMES: Final[Mapping[str, tuple[str, str | None]]] = {
    "main": ("int main(int argc, char **argv) { return 0; }\nvoid _start(void) {}\n", None),
    "strlen": ("unsigned long strlen(const char *s) { unsigned long n = 0; while (s[n]) n++; return n; }\n", None),
    "printf": ("int printf(const char *format, ...) { return 0; }\n", None),
    "json": ("int json, json_parse, kiln, memory;\n", None),
    "malloc": ("static char pool[1 << 16]; void *malloc(unsigned long size) { return pool + (1 << 15); }\n", None),
    "abort": ("void abort(void) { for (;;) {} }\n", "`abort` is defined by Kiln or the library already"),
    "kiln_fail": ("void kiln_fail(const char *message) { for (;;) {} }\n", "`kiln_fail` is defined"),
    "kiln_handle": ("int kiln_handle(int n) { return n; }\n", "`kiln_handle` has another type"),
    "kiln_place": ("int kiln_place(const char *text, unsigned long size) { return 0; }\n", "`kiln_place` has another type"),
    "kiln_alloc": ("void *kiln_alloc(unsigned long size) { return 0; }\n", "`kiln_alloc` is defined"),
    "_initialize": ("void _initialize(void) {}\n", "`_initialize` is defined"),
    "__wrap_malloc": ("void *__wrap_malloc(unsigned long size) { return 0; }\n", "`__wrap_malloc` is defined"),
    "kiln_log": ("int kiln_log = 1;\n", "redefinition of 'kiln_log' as different kind of symbol"),
}


@pytest.mark.parametrize("name", [name for name, (_, told) in NAMES.items() if told is None])
async def test_a_name_of_the_librarys_is_free(c: C, sandbox: Sandbox, name: str) -> None:
    outcome = await answer(sandbox, await built(c, NAMES[name][0] + EMPTY))

    assert outcome.output == b"1", outcome.error


@pytest.mark.parametrize("name", [name for name, (_, told) in NAMES.items() if told is not None])
async def test_a_name_of_kilns_own_is_told(c: C, name: str) -> None:
    source, told = NAMES[name]

    outcome = await failed(c, source + EMPTY)

    assert outcome.reason == "COMPILE_ERROR"
    assert str(told) in errors(outcome)[0].message
    assert name in errors(outcome)[0].excerpt


@pytest.mark.parametrize(
    ("source", "limits", "reason", "words"),
    [
        pytest.param(
            USED + " char data[20 << 20] = {1};\n",
            bounds(),
            "COMPILE_OUTPUT",
            "The compiled module has 2",
            id="a large module",
        ),
        pytest.param("char data[100 << 20];\n", bounds(), "COMPILE_OUTPUT", "too large a file", id="a large file"),
        pytest.param("char data[3000000000u] = {1};\n", bounds(memory_bytes=300 << 20), "COMPILE_MEMORY", "300 MiB", id="memory"),
        pytest.param(
            "#define A0 int x;\n" + "".join(f"#define A{n + 1} A{n} A{n} A{n} A{n} A{n} A{n} A{n} A{n}\n" for n in range(12)) + "A12\n",
            bounds(wall_seconds=1),
            "COMPILE_TIMEOUT",
            "1 seconds",
            id="time",
        ),
        pytest.param(
            "".join(f"#warning number {number}\n" for number in range(100)) + "int n = nope;\n",
            bounds(output_bytes=1000),
            "COMPILE_OUTPUT",
            "more than 1000 bytes",
            id="words",
        ),
        pytest.param("#pragma clang __debug crash\n", bounds(), "COMPILER_CRASHED", "The C compiler crashed", id="a crash"),
        pytest.param(
            "#pragma clang __debug llvm_fatal_error\n",
            bounds(),
            "COMPILE_ERROR",
            "#pragma clang __debug llvm_fatal_error",
            id="a fatal error",
        ),
    ],
)
async def test_a_build_passes_a_bound_and_names_it(c: C, source: str, limits: Bounds, reason: str, words: str) -> None:
    outcome = await failed(c, source + EMPTY, limits)

    assert outcome.reason == reason
    assert words in outcome.diagnostics[0].message
    assert (outcome.diagnostics[0].line, outcome.diagnostics[0].column) == (1, 1)


async def test_errors_without_number_are_cut_to_a_few(c: C) -> None:
    outcome = await failed(c, "".join(f"int n{number} = nope{number};\n" for number in range(5000)) + EMPTY)

    assert outcome.reason == "COMPILE_ERROR"
    assert 20 <= len(outcome.diagnostics) <= 100


async def test_brackets_without_number_are_an_error(c: C) -> None:
    await failed(c, "int n = " + "(" * 100_000 + "1" + ")" * 100_000 + ";\n" + EMPTY)


async def test_a_megabyte_of_comments_compiles(c: C) -> None:
    comment = "// \U0001f600 filler\n"

    await built(c, comment * ((1 << 20) // len(comment.encode())) + EMPTY)


async def test_the_same_source_gives_the_same_bytes_in_each_process(c: C) -> None:
    first, second = await built(c, c.starter), await built(c, c.starter)

    assert first.wasm == second.wasm


async def test_a_module_names_no_place_on_this_machine(c: C) -> None:
    compiled = await built(c, program())

    assert [place for place in MACHINE if place.encode() in compiled.wasm] == []
