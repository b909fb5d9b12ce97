"""Go as people write it: what is wrong with it, what it does when it fails, and what it may use."""

import json
from collections.abc import Mapping
from typing import Final

import pytest

from services.compiler.hot import HotProcesses
from services.compiler.languages import Bounds, Compiled
from services.compiler.languages.go import Go
from services.executor.sandbox import ErrorType, Sandbox
from services.executor.sandbox.outcome import Level
from tests.integration.compiler.compiling import MACHINE, Fault, Mistake, answer, bounds, built, do, errors, expect, failed, there

HEAD: Final = "package main\n"
ECHO: Final = "func Handle(input []byte) ([]byte, error) { return input, nil }\n"
SIGNATURE: Final = "`func Handle(input []byte) ([]byte, error)`"


def body(statements: str) -> str:
    """A function of these statements, from line 3 on."""
    return f"{HEAD}func Handle(input []byte) ([]byte, error) {{\n\t{statements}\n}}\n"


MISTAKES: Final[Mapping[str, Mistake]] = {
    "a missing bracket": (
        HEAD + "func Handle(input []byte) ([]byte, error) {\n\treturn input, nil\n",
        4,
        1,
        None,
        "unexpected EOF, expected }",
    ),
    "an undeclared name": (body("return nope, nil"), 3, 9, "UndeclaredName", "undefined: nope"),
    "a wrong type": (body('var n int = "x"; return nil, nil'), 3, 6, "UnusedVar", "declared and not used: n"),
    "a wrong result": (body("return 1, nil"), 3, 9, "IncompatibleAssign", "cannot use 1"),
    "one result": (body("return input"), 3, 9, "WrongResultCount", "not enough return values\nhave ([]byte)\nwant ([]byte, error)"),
    "a package that is not imported": (body("return json.Marshal(1)"), 3, 9, "UndeclaredName", "undefined: json"),
    "a package that is not used": (f'{HEAD}import "os"\n{ECHO}', 2, 8, "UnusedImport", '"os" imported and not used'),
    "a package of somebody's": (f'{HEAD}import "example.com/x"\n{ECHO}', 2, 8, "BrokenImport", "There is no package example.com/x: "),
    "C": (f'{HEAD}import "C"\n{ECHO}', 2, 8, "BrokenImport", "Go's standard library only"),
    "an unused variable": (body("x := 1\n\treturn input, nil"), 3, 2, "UnusedVar", "declared and not used: x"),
    "no return": (body(""), 4, 1, "MissingReturn", "missing return"),
    "no handle": (f"{HEAD}func handle() {{}}\n", 1, 1, "UndeclaredName", f"does not define {SIGNATURE}"),
    "an empty file": ("", 1, 1, None, "package statement must be first"),
    "no package": (ECHO, 1, 1, None, "package statement must be first"),
    "another package": ("// package x\npackage lib\n" + ECHO, 2, 9, "MismatchedPkgName", "it must be of package main"),
    "a handle of strings": (
        HEAD + "func Handle(input string) (string, error) { return input, nil }\n",
        2,
        6,
        "IncompatibleAssign",
        f"`Handle` has type func(input string) (string, error); it must be {SIGNATURE}",
    ),
    "a handle that is no function": (HEAD + "var Handle = 3\n", 2, 5, "IncompatibleAssign", "`Handle` has type int; it must be"),
    "a handle that is a type": (HEAD + "type Handle struct{}\n", 2, 6, "IncompatibleAssign", f"it must be {SIGNATURE}"),
    "a generic handle": (
        HEAD + "func Handle[T any](input []byte) ([]byte, error) { return input, nil }\n",
        2,
        6,
        "IncompatibleAssign",
        SIGNATURE,
    ),
    "a function without a body": (f"{HEAD}func helper() int\n{ECHO}", 2, 6, None, "missing function body"),
    "a constraint of the standard library": (
        f'{HEAD}import "slices"\ntype P struct{{}}\nfunc f() {{ slices.Sort([]P{{}}) }}\n{ECHO}',
        4,
        23,
        "InvalidTypeArg",
        "P does not satisfy cmp.Ordered",
    ),
    "an error behind wide characters": (body('_ = "\U0001f600\u00e9"; return nope, nil'), 3, 19, "UndeclaredName", "undefined: nope"),
    "an error behind tabs and line ends of Windows": (
        "package main\r\n\r\nfunc Handle(input []byte) ([]byte, error) {\r\n\t\treturn nope, nil\r\n}\r\n",
        4,
        10,
        "UndeclaredName",
        "undefined: nope",
    ),
    "an error behind a byte order mark": ("\ufeffnope\n" + ECHO, 1, 1, None, "package statement must be first"),
    "an error in a last line without an end": (HEAD + ECHO + "var x = nope // here", 3, 9, "UndeclaredName", "undefined: nope"),
    "an error that claims to be elsewhere": (
        f"{HEAD}//line /etc/passwd:7\nvar x = nope\n{ECHO}",
        1,
        1,
        "UndeclaredName",
        "undefined: nope",
    ),
    "an error that claims to be further down": (f"{HEAD}//line function.go:700\nvar x = nope\n{ECHO}", 1, 1, "UndeclaredName", "undefined"),
    "an embedded file": (
        f'{HEAD}import _ "embed"\n//go:embed function.go\nvar text string\n{ECHO}',
        3,
        3,
        None,
        "did not supply embed configuration",
    ),
    "a message with control characters": (body('return "\x1b[31m", nil'), 3, 9, "IncompatibleAssign", r'cannot use "\x1b[31m"'),
    "two functions of a name": (f"{HEAD}{ECHO}{ECHO}", 3, 6, "DuplicateDecl", "Handle redeclared in this block"),
    "a type without an end": (
        f"{HEAD}type A struct {{ b B }}\ntype B struct {{ a A }}\n{ECHO}",
        2,
        6,
        "InvalidDeclCycle",
        "invalid recursive",
    ),
}

# Names of the adapter's.
NAMES: Final = ("main", "kilnRun", "kilnStop", "kilnFail")

FAULTS: Final[Mapping[str, Fault]] = {
    "an error": ('return nil, errors.New("no such customer: \u00e9")', ErrorType.ABORT, "no such customer: \u00e9"),
    "an error with another inside": ('return nil, fmt.Errorf("outer: %w", custom{7})', ErrorType.ABORT, "outer: custom 7"),
    "an error without a word": ('return nil, errors.New("")', ErrorType.ABORT, "an error without a message"),
    "an error beside a result": ('return []byte("1"), errors.New("failed")', ErrorType.ABORT, "failed"),
    "a panic": ('panic("on purpose")', ErrorType.ABORT, "panic: on purpose"),
    "a panic of an error": ("panic(custom{3})", ErrorType.ABORT, "panic: custom 3"),
    "a panic of nothing": ("panic(nil)", ErrorType.ABORT, "panic called with nil argument"),
    "an index out of range": ("list := []int{1}; return nil, custom{list[five]}", ErrorType.ABORT, "index out of range [5] with length 1"),
    "a nil map": ('var m map[string]int; m["a"] = five', ErrorType.ABORT, "assignment to entry in nil map"),
    "a nil pointer": ("var c *custom; return nil, custom{c.code}", ErrorType.ABORT, "nil pointer dereference"),
    "a division by zero": ("return nil, custom{1 / (five - 5)}", ErrorType.ABORT, "integer divide by zero"),
    "a wrong type assertion": ("var x any = five; _ = x.(string)", ErrorType.ABORT, "interface conversion"),
    "a panic in the background": (
        'go func() { panic("in the background") }()\n\t\ttime.Sleep(time.Second)',
        ErrorType.EXIT,
        "exit code 2: panic: in the background",
    ),
    "a deadlock": ("<-make(chan int)", ErrorType.EXIT, "all goroutines are asleep - deadlock!"),
    "an exit": ("os.Exit(3)", ErrorType.EXIT, "exit code 3"),
    "a fatal log": ('log.Fatal("fatal words")', ErrorType.EXIT, "fatal words"),
    "memory that grows": ("kept := []int{}\n\t\tfor { kept = append(kept, 1) }", ErrorType.OUT_OF_MEMORY, "64 MiB"),
    "memory that is kept": ("kept := [][]byte{}\n\t\tfor { kept = append(kept, make([]byte, 1<<20)) }", ErrorType.OUT_OF_MEMORY, "64 MiB"),
    "more memory than there is": ("return make([]byte, 1<<28*five/5), nil", ErrorType.OUT_OF_MEMORY, "64 MiB"),
    "an endless recursion": ("return nil, custom{down(five)}", ErrorType.STACK_OVERFLOW, "too deep"),
    "an endless loop": ("for i := 0; ; i++ { five ^= i }", ErrorType.TIMEOUT, "ran longer"),
    "a sleep past its time": ("time.Sleep(time.Hour)", ErrorType.TIMEOUT, "ran longer"),
    "text that is no JSON": ('return []byte("not json"), nil', ErrorType.INVALID_OUTPUT, "not valid JSON"),
    "nothing": ("return nil, nil", ErrorType.INVALID_OUTPUT, "wrote nothing"),
    "an early end": ("os.Exit(0)", ErrorType.INVALID_OUTPUT, "wrote nothing"),
    "a file": ('_, err := os.ReadFile("/etc/passwd"); return nil, err', ErrorType.ABORT, "open /etc/passwd: "),
    "a written file": ('return nil, os.WriteFile("/tmp/x", nil, 0o600)', ErrorType.ABORT, "open /tmp/x: "),
    "a connection": ('_, err := net.Dial("tcp", "127.0.0.1:80"); return nil, err', ErrorType.ABORT, "dial tcp"),
    "a program": ('return nil, exec.Command("/bin/true").Run()', ErrorType.ABORT, "open /dev/null: "),
}

# Statements, and what they answer.
ANSWERS: Final[Mapping[str, tuple[str, str]]] = {
    "a variable of the environment": ('return json.Marshal(os.Getenv("GREETING"))', '"Hello, J\u00f6rg"'),
    "no variable": ('_, ok := os.LookupEnv("NOPE"); return json.Marshal(ok)', "false"),
    "no more variables": ("return json.Marshal(len(os.Environ()))", "2"),
    "the time": ("return json.Marshal(time.Now().Year() >= 2024)", "true"),
    "a short sleep": (
        "began := time.Now(); time.Sleep(time.Millisecond); return json.Marshal(time.Since(began) >= time.Millisecond)",
        "true",
    ),
    "randomness": ("return json.Marshal(rand.Int63() != rand.Int63() && crand.Text() != crand.Text())", "true"),
    "a counter": ("calls++; return json.Marshal(calls)", "1"),
    "goroutines": (
        "c := make(chan int); for i := range 9 { go func() { c <- i }() }; sum := 0; for range 9 { sum += <-c }; return json.Marshal(sum)",
        "36",
    ),
    "time zones": (
        'zone, err := time.LoadLocation("Europe/Berlin"); if err != nil { return nil, err }; return json.Marshal(zone.String())',
        '"Europe/Berlin"',
    ),
    "large integers": (
        "return json.Marshal([]any{int64(-9007199254740993), uint64(18446744073709551615)})",
        "[-9007199254740993,18446744073709551615]",
    ),
    "a recovered panic": (
        'cause := func() (c any) { defer func() { c = recover() }(); panic("x") }(); return json.Marshal(cause)',
        '"x"',
    ),
}

IMPORTS: Final = """\
import crand "crypto/rand"
import "encoding/json"
import "errors"
import "fmt"
import "log"
import "log/slog"
import "math/rand"
import "net"
import "os"
import "os/exec"
import "time"
import _ "time/tzdata"
"""
TOP: Final = """
var calls int

type custom struct{ code int }

func (c custom) Error() string { return fmt.Sprintf("custom %d", c.code) }

func down(n int) int { return down(n+1) + n }

func Handle(input []byte) ([]byte, error) {
	five := 5
	switch os.Getenv("DEED") {
"""
LOGS: Final = """fmt.Println("one")
		fmt.Print("two")
		fmt.Fprintln(os.Stderr, " and a half")
		println("built in")
		log.SetFlags(0)
		log.Print("logged \u00e9")
		slog.Warn("careful", "n", 3)
		fmt.Print("three")"""


def program() -> str:
    """One function that does each of these, whichever its environment names."""
    deeds = {name: fault[0] for name, fault in FAULTS.items()} | {name: statements for name, (statements, _) in ANSWERS.items()}
    deeds |= {"logs": LOGS, "echo": "return input, nil"}
    cases = "".join(f"\tcase {json.dumps(name)}:\n\t\t{statements}\n" for name, statements in deeds.items())
    return f'{HEAD}{IMPORTS}{TOP}{cases}\t}}\n\treturn []byte("null"), nil\n}}\n'


@pytest.fixture(scope="module")
def go(compilers: HotProcesses) -> Go:
    """The language."""
    return there(Go(compilers))


@pytest.fixture(scope="module")
async def deeds(go: Go) -> Compiled:
    """The function that does it all."""
    return await built(go, program())


async def test_the_starter_greets(go: Go, sandbox: Sandbox) -> None:
    outcome = await answer(sandbox, await built(go, go.starter), '{"name":"Kiln"}')

    assert outcome.output == b'{"message":"Hello, Kiln!"}'


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_it_is_told_where_there_is(go: Go, mistake: str) -> None:
    await expect(go, MISTAKES[mistake])


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_of_kilns_own_is_told(go: Go, name: str) -> None:
    await expect(go, (f"{HEAD}func {name}() {{}}\n{ECHO}", 2, 6, "DuplicateDecl", f"`{name}` is a name of Kiln's own"))


@pytest.mark.parametrize("name", ["kilnFmt", "kilnOS"])
async def test_a_name_of_a_package_as_kiln_calls_it_is_told(go: Go, name: str) -> None:
    await expect(go, (f"{HEAD}var {name} = 1\n{ECHO}", 2, 5, "DuplicateDecl", f"`{name}` is a name of Kiln's own"))


async def test_every_other_name_is_free(go: Go, sandbox: Sandbox) -> None:
    names = 'import kilnOS "fmt"\nvar memory, malloc, handle, _start, abort, json = 1, 2, 3, 4, 5, kilnOS.Sprint(6)\nfunc init() {}\n'

    outcome = await answer(sandbox, await built(go, HEAD + names + ECHO), "7")

    assert outcome.output == b"7"


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_call_fails_with(deeds: Compiled, sandbox: Sandbox, fault: str) -> None:
    _, kind, words = FAULTS[fault]

    outcome = await do(sandbox, deeds, fault, timeout_ms=300 if kind is ErrorType.TIMEOUT else 20_000)

    assert outcome.error is not None
    assert (outcome.error.type, words in outcome.error.message) == (kind, True), outcome.error


async def test_a_panic_leaves_its_trace_with_the_users_lines_in_the_log(deeds: Compiled, sandbox: Sandbox) -> None:
    line = program().splitlines().index('\t\tpanic("on purpose")') + 1

    outcome = await do(sandbox, deeds, "a panic")

    log = "\n".join(one.message for one in outcome.logs)
    assert f"function.go:{line}" in log
    assert [place for place in MACHINE if place in log] == []


async def test_a_panic_before_the_call_ends_it(go: Go, sandbox: Sandbox) -> None:
    outcome = await answer(sandbox, await built(go, f'{HEAD}func init() {{ panic("at the start") }}\n{ECHO}'))

    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.message) == (ErrorType.EXIT, "the function ended with exit code 2: panic: at the start")


@pytest.mark.parametrize("deed", ANSWERS)
async def test_a_function_has(deeds: Compiled, sandbox: Sandbox, deed: str) -> None:
    outcome = await do(sandbox, deeds, deed)

    assert outcome.output is not None, outcome.error
    assert outcome.output.decode() == ANSWERS[deed][1]


async def test_what_it_prints_is_its_log_to_the_last_character_and_no_output(deeds: Compiled, sandbox: Sandbox) -> None:
    outcome = await do(sandbox, deeds, "logs")

    logs = [(line.level, line.message) for line in outcome.logs]
    assert outcome.output == b"null"
    assert logs[:4] == [(Level.INFO, line) for line in ("one", "two and a half", "built in", "logged \u00e9")]
    assert [line[1] for line in logs[4:]] == ["WARN careful n=3", "three"]


async def test_a_second_call_finds_nothing_of_the_first(deeds: Compiled, sandbox: Sandbox) -> None:
    first, second = await do(sandbox, deeds, "a counter"), await do(sandbox, deeds, "a counter")

    assert (first.output, second.output) == (b"1", b"1")


@pytest.mark.parametrize("text", ["[9007199254740993,18446744073709551615,1.10,-0.0]", r'"\u0000"', '{"\u00e9":"\U0001f600"}'])
async def test_text_passes_untouched(deeds: Compiled, sandbox: Sandbox, text: str) -> None:
    outcome = await do(sandbox, deeds, "echo", text)

    assert outcome.output == text.encode()


@pytest.mark.parametrize(
    ("source", "limits", "reason", "words"),
    [
        pytest.param(
            'import "net/http"\nvar _ = http.Get\n' + ECHO.replace("return", "http.Get(string(input)); return"),
            bounds(),
            "COMPILE_OUTPUT",
            "bytes, the limit is 8388608.",
            id="a large module",
        ),
        pytest.param(
            "type T0 struct{ a, b int }\n" + "".join(f"type T{n + 1} struct{{ a, b T{n} }}\n" for n in range(28)) + "var x T28\n" + ECHO,
            bounds(wall_seconds=1),
            "COMPILE_TIMEOUT",
            "1 seconds",
            id="time",
        ),
        pytest.param(ECHO, bounds(memory_bytes=20 << 20), "COMPILE_MEMORY", "20 MiB", id="memory"),
        pytest.param(
            "var x = 1\nvar y = " + "+".join(["x"] * 200_000) + "\n" + ECHO, bounds(), "COMPILER_CRASHED", "crashed", id="a crash"
        ),
    ],
)
async def test_a_build_passes_a_bound_and_names_it(go: Go, source: str, limits: Bounds, reason: str, words: str) -> None:
    outcome = await failed(go, HEAD + source, limits)

    assert outcome.reason == reason
    assert words in outcome.diagnostics[0].message
    assert (outcome.diagnostics[0].line, outcome.diagnostics[0].column) == (1, 1)


async def test_an_array_that_is_larger_than_the_linker_can_is_an_error(go: Go) -> None:
    outcome = await failed(go, f"{HEAD}var data = [3000000000]byte{{1}}\n{ECHO.replace('input, nil', 'data[:2], nil')}")

    assert "symbol too large" in errors(outcome)[0].message


async def test_errors_without_number_are_cut_to_a_few(go: Go) -> None:
    outcome = await failed(go, HEAD + "".join(f'var v{number} int = "x"\n' for number in range(5000)) + ECHO)

    assert 10 <= len(outcome.diagnostics) <= 100


async def test_a_megabyte_of_comments_compiles(go: Go) -> None:
    comment = "// \U0001f600 filler\n"

    await built(go, HEAD + comment * ((1 << 20) // len(comment.encode())) + ECHO)


async def test_the_same_source_gives_the_same_bytes_in_each_process(go: Go) -> None:
    first, second = await built(go, go.starter), await built(go, go.starter)

    assert first.wasm == second.wasm


async def test_a_module_names_no_place_on_this_machine(deeds: Compiled) -> None:
    assert [place for place in MACHINE if place.encode() in deeds.wasm] == []
