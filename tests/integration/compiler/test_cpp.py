"""C++ as people write it: what is wrong with it, what it does when it fails, and what it may use."""

import json
from collections.abc import Mapping
from typing import Final

import pytest

from services.compiler.hot import HotProcesses
from services.compiler.languages import Bounds, Compiled
from services.compiler.languages.cpp import Cpp
from services.executor.sandbox import ErrorType, Sandbox
from services.executor.sandbox.outcome import Level
from tests.integration.compiler.compiling import MACHINE, Fault, Mistake, answer, bounds, built, do, errors, expect, failed, there

EMPTY: Final = 'std::string handle(std::string_view input) { return "1"; }\n'
SIGNATURE: Final = "`std::string handle(std::string_view input)`"


def body(statements: str) -> str:
    """A function of these statements, from line 2 on."""
    return f"std::string handle(std::string_view input) {{\n  {statements}\n}}\n"


MISTAKES: Final[Mapping[str, Mistake]] = {
    "a missing semicolon": (body("return std::string(input)"), 2, 28, "Parse Issue", "expected ';'"),
    "an undeclared name": (body("return nope;"), 2, 10, "Semantic Issue", "undeclared identifier 'nope'"),
    "a wrong type": (body('int n = "x"; return "";'), 2, 7, "Semantic Issue", "cannot initialize a variable of type 'int'"),
    "a header that is not there": (
        "#include <boost/any.hpp>\n" + EMPTY,
        1,
        10,
        "Lexical or Preprocessor Issue",
        "'boost/any.hpp' file not found",
    ),
    "a name whose header is missing": (body("std::chrono::sys_days d; std::regex r; return {};"), 2, 33, "Semantic Issue", "'regex'"),
    "no handle": ("int main() { return 0; }\n", 1, 1, "undefined-symbol", f"does not define {SIGNATURE}"),
    "an empty file": ("", 1, 1, "undefined-symbol", f"does not define {SIGNATURE}"),
    "a handle of another parameter": (
        "\nstd::string handle(std::string input) { return input; }\n",
        2,
        13,
        "undefined-symbol",
        f"does not define {SIGNATURE}",
    ),
    "a handle in a namespace": (f"namespace mine {{ {EMPTY} }}", 1, 30, "undefined-symbol", f"does not define {SIGNATURE}"),
    "a handle of another result": ("int handle(std::string_view) { return 1; }\n", 1, 5, "Semantic Issue", f"must be {SIGNATURE}"),
    "a handle for this file alone": ("static " + EMPTY, 1, 20, "Semantic Issue", f"must be {SIGNATURE}"),
    "a function without a body": (
        "namespace shop { struct Cart { int total(int n) const; }; }\n" + body("return std::to_string(shop::Cart{}.total(2));"),
        1,
        36,
        "undefined-symbol",
        "`shop::Cart::total(int) const` is declared but not defined.",
    ),
    "throw": (body('if (input.empty()) throw 1; return "";'), 2, 22, "Semantic Issue", "cannot use 'throw' with exceptions disabled"),
    "try": (body("try { return {}; } catch (...) { return {}; }"), 2, 3, "Semantic Issue", "cannot use 'try' with exceptions disabled"),
    "a mistake inside of an algorithm": (
        "#include <vector>\nstruct P { int x; };\n" + body("std::vector<P> v; std::sort(v.begin(), v.end()); return {};"),
        4,
        26,
        "Semantic Issue",
        "invalid operands to binary expression",
    ),
    "a mistake inside of a container": (
        "#include <map>\nstruct K { int x; };\n" + body("std::map<K, int> m; m[K{1}] = 2; return {};"),
        4,
        24,
        "Semantic Issue",
        "no matching function for call to object of type",
    ),
    "a mistake inside of a template of one's own": (
        "template <class T> int total(T t) { return t.nope(); }\n" + body("return std::to_string(total(input));"),
        1,
        46,
        "Semantic Issue",
        "no member named 'nope'",
    ),
    "an error behind wide characters": (body('auto s = "\U0001f600\u00e9"; return nope;'), 2, 25, "Semantic Issue", "'nope'"),
    "an error behind tabs and line ends of Windows": (
        "std::string handle(std::string_view input) {\r\n\t\treturn nope;\r\n}\r\n",
        2,
        10,
        "Semantic Issue",
        "'nope'",
    ),
    "an error behind a byte order mark": ("\ufeffnope;\n" + EMPTY, 1, 1, "Semantic Issue", "a type specifier is required"),
    "an error in a last line without an end": (EMPTY + "int n = nope;", 2, 9, "Semantic Issue", "'nope'"),
    "a constant that overflows": ("constexpr int n = 2147483647 + 1;\n" + EMPTY, 1, 15, "Semantic Issue", "constant expression"),
    "templates without an end": (
        "template <int N> struct A { static constexpr int v = A<N - 1>::v; };\nint n = A<9>::v;\n" + EMPTY,
        1,
        54,
        "Semantic Issue",
        "recursive template instantiation exceeded maximum depth",
    ),
    "a name of the library's": ("int malloc;\n" + EMPTY, 1, 5, "Semantic Issue", "redefinition of 'malloc'"),
    "a name of Kiln's": (
        'extern "C" void kiln_fail(const char *) { for (;;) {} }\n' + EMPTY,
        1,
        17,
        "duplicate-symbol",
        "`kiln_fail` is defined by Kiln or the library already",
    ),
    "a name of Kiln's adapter": (
        'extern "C" uint64_t kiln_handle(const char *, size_t) { return 0; }\n' + EMPTY,
        1,
        21,
        "duplicate-symbol",
        "`kiln_handle` is defined by Kiln or the library already",
    ),
    "a function of the library's of another type": (
        'extern "C" int kiln_place(int n) { return n; }\n' + EMPTY,
        1,
        16,
        "signature-mismatch",
        "`kiln_place` has another type where it is defined.",
    ),
}

FAULTS: Final[Mapping[str, Fault]] = {
    "kiln_fail": ('kiln_fail("no such customer: \u00e9");', ErrorType.ABORT, "no such customer: \u00e9"),
    "an index that is checked": ("return std::to_string(list.at(five));", ErrorType.ABORT, "std::out_of_range: vector"),
    "an index": ("return std::to_string(list[five]);", ErrorType.ABORT, "vector[] index out of bounds"),
    "the front of nothing": ("list.clear(); return std::to_string(list.front());", ErrorType.ABORT, "front() called on an empty vector"),
    "an array's index": (
        "std::array<int, 3> a{}; return std::to_string(a[five]);",
        ErrorType.ABORT,
        "out-of-bounds access in std::array<T, N>",
    ),
    "a text's index": ("return std::to_string(input[input.size() + five]);", ErrorType.ABORT, "string_view[] index out of bounds"),
    "a key that is not there": ("return std::to_string(std::map<int, int>{}.at(+five));", ErrorType.ABORT, "std::out_of_range: map::at"),
    "an empty optional": (
        "std::optional<int> o; return std::to_string(*o);",
        ErrorType.ABORT,
        "optional operator* called on a disengaged value",
    ),
    "the value of an empty optional": (
        "std::optional<int> o; return std::to_string(o.value());",
        ErrorType.ABORT,
        "std::bad_optional_access",
    ),
    "another alternative": (
        "std::variant<int, double> v = 1; return std::to_string(std::get<double>(v));",
        ErrorType.ABORT,
        "std::bad_variant_access",
    ),
    "an empty function": ("std::function<int()> f; return std::to_string(f());", ErrorType.ABORT, "std::bad_function_call"),
    "a number that is none": ('return std::to_string(std::stoi("abc"));', ErrorType.ABORT, "std::invalid_argument: stoi: no conversion"),
    "a negative size": ("list.resize(five - 6); return {};", ErrorType.ABORT, "std::length_error: vector"),
    "text that is no JSON to read": (
        'return json::parse("{").dump();',
        ErrorType.ABORT,
        "[json.exception.parse_error.101] parse error at line 1, column 2",
    ),
    "JSON of another type": (
        "return json(3).get<std::string>();",
        ErrorType.ABORT,
        "[json.exception.type_error.302] type must be string, but is number",
    ),
    "JSON without a key": ('return json::object().at("x").dump();', ErrorType.ABORT, "key 'x' not found"),
    "JSON of no UTF-8": ('return json("\\xff").dump();', ErrorType.ABORT, "invalid UTF-8 byte"),
    "a failed assertion": ("assert(five == 4);", ErrorType.ABORT, "assertion failed: five == 4 (line "),
    "abort": ("std::abort();", ErrorType.ABORT, "the function called abort()"),
    "terminate": ("std::terminate();", ErrorType.ABORT, "the function called abort()"),
    "exit": ("std::exit(3);", ErrorType.EXIT, "exit code 3"),
    "new": ("for (;;) { auto *block = new volatile char[100000]; block[0] = 1; }", ErrorType.OUT_OF_MEMORY, "64 MiB"),
    "aligned new": (
        "struct alignas(64) Line { char c[64]; }; for (;;) { volatile auto *l = new Line[1000]; l->c[0] = 1; }",
        ErrorType.OUT_OF_MEMORY,
        "64 MiB",
    ),
    "a vector that grows": ("for (;;) list.push_back(1);", ErrorType.OUT_OF_MEMORY, "64 MiB"),
    "a large vector": ("std::vector<int> v((1u << 28) / 5 * five); return std::to_string(v[five]);", ErrorType.OUT_OF_MEMORY, "64 MiB"),
    "an endless recursion": ("return std::to_string(down(five));", ErrorType.STACK_OVERFLOW, "too deep"),
    "an endless loop": ("for (;;) five = five + 1;", ErrorType.TIMEOUT, "ran longer"),
    "text that is no JSON": ('return "not json";', ErrorType.INVALID_OUTPUT, "not valid JSON"),
    "an empty text": ("return {};", ErrorType.INVALID_OUTPUT, "not valid JSON"),
}

# Statements, and what they answer.
ANSWERS: Final[Mapping[str, tuple[str, str]]] = {
    "a variable of the environment": ('return json(kiln_env("GREETING")).dump();', '"Hello, J\u00f6rg"'),
    "a variable as C++ reads it": ('return json(std::getenv("GREETING")).dump();', '"Hello, J\u00f6rg"'),
    "no variable": ('return json(!kiln_env("NOPE") && !std::getenv("NOPE")).dump();', "true"),
    "the time": (
        "using namespace std::chrono; auto apart = system_clock::now().time_since_epoch() - milliseconds(kiln_now_ms());"
        " return json(abs(apart) < 100s && steady_clock::now() <= steady_clock::now()).dump();",
        "true",
    ),
    "randomness": ("std::random_device d; return json(d() != d() || d() != d()).dump();", "true"),
    "a counter": ("static int calls; return json(++calls).dump();", "1"),
    "large integers": ("return json({-9007199254740993, 18446744073709551615u}).dump();", "[-9007199254740993,18446744073709551615]"),
    "NUL in a text": ('return json(std::string("a\\0b", 3)).dump();', '"a\\u0000b"'),
    "formats": ('return std::format("[{},{:.2f}]", 1, 2.5);', "[1,2.50]"),
    "regular expressions": ('return json(std::regex_match("a1", std::regex("[a-z][0-9]"))).dump();', "true"),
    "ranges": ("json all; for (int n : list | std::views::drop(1)) all.push_back(n); return all.dump();", "[2,3]"),
}  # fmt: skip

TOP: Final = """\
#include <cassert>
#include <chrono>
#include <cstdlib>
#include <format>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <ranges>
#include <regex>

using namespace std::chrono_literals;
using nlohmann::json;

static int down(int n) { volatile int kept = n; return n == -1 ? 0 : down(n + 1) + kept; }

std::string handle(std::string_view input) {
  std::string_view deed = kiln_env("DEED");
  volatile int five = 5;
  std::vector<int> list{1, 2, 3};
"""
LOGS: Final = (
    r"""std::cout << "one" << std::endl << "two"; std::puts(" and a half"); std::cerr << "bad\n"; """
    r"""kiln_log(KILN_WARN, "careful \u00e9"); std::cout << "three";"""
)


def program() -> str:
    """One function that does each of these, whichever its environment names."""
    deeds = {name: fault[0] for name, fault in FAULTS.items()} | {name: statements for name, (statements, _) in ANSWERS.items()}
    deeds |= {"logs": LOGS, "failed log": LOGS + ' kiln_fail("failed");', "echo": "return std::string(input);"}
    cases = [f"  if (deed == {json.dumps(name)}) {{ {statements} }}\n" for name, statements in deeds.items()]
    return TOP + "".join(cases) + '  return "null";\n}\n'


@pytest.fixture(scope="module")
def cpp(compilers: HotProcesses) -> Cpp:
    """The language."""
    return there(Cpp(compilers))


@pytest.fixture(scope="module")
async def deeds(cpp: Cpp) -> Compiled:
    """The function that does it all."""
    return await built(cpp, program())


async def test_the_starter_greets(cpp: Cpp, sandbox: Sandbox) -> None:
    outcome = await answer(sandbox, await built(cpp, cpp.starter), '{"name":"Kiln"}')

    assert outcome.output == b'{"message":"Hello, Kiln!"}'


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_it_is_told_where_there_is(cpp: Cpp, mistake: str) -> None:
    await expect(cpp, MISTAKES[mistake])


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_call_fails_with(deeds: Compiled, sandbox: Sandbox, fault: str) -> None:
    _, kind, words = FAULTS[fault]

    outcome = await do(sandbox, deeds, fault, timeout_ms=300 if kind is ErrorType.TIMEOUT else 20_000)

    assert outcome.error is not None
    assert (outcome.error.type, words in outcome.error.message) == (kind, True), outcome.error
    assert [place for place in MACHINE if place in outcome.error.message] == []


@pytest.mark.parametrize("deed", ANSWERS)
async def test_a_function_has(deeds: Compiled, sandbox: Sandbox, deed: str) -> None:
    outcome = await do(sandbox, deeds, deed)

    assert outcome.output is not None, outcome.error
    assert outcome.output.decode() == ANSWERS[deed][1]


@pytest.mark.parametrize("deed", ["logs", "failed log"])
async def test_what_it_prints_is_its_log_to_the_last_character(deeds: Compiled, sandbox: Sandbox, deed: str) -> None:
    outcome = await do(sandbox, deeds, deed)

    assert {(line.level, line.message) for line in outcome.logs} == {
        (Level.INFO, "one"),
        (Level.INFO, "two and a half"),
        (Level.INFO, "three"),
        (Level.WARN, "careful \u00e9"),
        (Level.ERROR, "bad"),
    }


async def test_a_second_call_finds_nothing_of_the_first(deeds: Compiled, sandbox: Sandbox) -> None:
    first, second = await do(sandbox, deeds, "a counter"), await do(sandbox, deeds, "a counter")

    assert (first.output, second.output) == (b"1", b"1")


@pytest.mark.parametrize("text", ["[9007199254740993,18446744073709551615,1.10,-0.0]", r'"\u0000"', '{"\u00e9":"\U0001f600"}'])
async def test_text_passes_untouched(deeds: Compiled, sandbox: Sandbox, text: str) -> None:
    outcome = await do(sandbox, deeds, "echo", text)

    assert outcome.output == text.encode()


async def test_a_warning_fails_no_build(cpp: Cpp, sandbox: Sandbox) -> None:
    compiled = await built(cpp, body('int unused = 1; return "1";'))

    outcome = await answer(sandbox, compiled)

    assert [(one.severity, one.line, one.column, one.code) for one in compiled.diagnostics] == [("WARNING", 2, 7, "-Wunused-variable")]
    assert outcome.output == b"1"


async def test_an_allocator_of_ones_own_is_used(cpp: Cpp, sandbox: Sandbox) -> None:
    allocator = (
        "static char pool[1 << 16]; static size_t used;\n"
        "void *operator new(size_t size) { used += (size + 15) / 16 * 16; return pool + used - (size + 15) / 16 * 16; }\n"
        "void operator delete(void *) noexcept {}\nvoid operator delete(void *, size_t) noexcept {}\n"
    )

    outcome = await answer(sandbox, await built(cpp, allocator + body("return std::to_string(used + std::string(99, '1').size());")))

    assert outcome.output is not None, outcome.error


@pytest.mark.parametrize(
    ("source", "limits", "reason", "words"),
    [
        pytest.param("[[gnu::used]] char data[20 << 20] = {1};\n", bounds(), "COMPILE_OUTPUT", "module has 2", id="a large module"),
        pytest.param(
            "[[gnu::used]] char data[3000000000u] = {1};\n", bounds(memory_bytes=400 << 20), "COMPILE_MEMORY", "400 MiB", id="memory"
        ),
        pytest.param(
            "template <int N, int M> struct A { static constexpr int v = A<N - 1, 2 * M>::v + A<N - 1, 2 * M + 1>::v; };\n"
            "template <int M> struct A<0, M> { static constexpr int v = 1; };\nint n = A<28, 0>::v;\n",
            bounds(wall_seconds=1),
            "COMPILE_TIMEOUT",
            "1 seconds",
            id="time",
        ),
        pytest.param("#pragma clang __debug crash\n", bounds(), "COMPILER_CRASHED", "The C++ compiler crashed", id="a crash"),
    ],
)
async def test_a_build_passes_a_bound_and_names_it(cpp: Cpp, source: str, limits: Bounds, reason: str, words: str) -> None:
    outcome = await failed(cpp, source + EMPTY, limits)

    assert outcome.reason == reason
    assert words in outcome.diagnostics[0].message
    assert (outcome.diagnostics[0].line, outcome.diagnostics[0].column) == (1, 1)


async def test_errors_without_number_are_cut_to_a_few(cpp: Cpp) -> None:
    outcome = await failed(cpp, "".join(f"int n{number} = nope{number};\n" for number in range(5000)) + EMPTY)

    assert 20 <= len(errors(outcome)) <= 100


async def test_a_megabyte_of_comments_compiles(cpp: Cpp) -> None:
    comment = "// \U0001f600 filler\n"

    await built(cpp, comment * ((1 << 20) // len(comment.encode())) + EMPTY)


async def test_the_same_source_gives_the_same_bytes_in_each_process(cpp: Cpp) -> None:
    first, second = await built(cpp, cpp.starter), await built(cpp, cpp.starter)

    assert first.wasm == second.wasm


async def test_a_module_names_no_place_on_this_machine(deeds: Compiled) -> None:
    assert [place for place in MACHINE if place.encode() in deeds.wasm] == []
