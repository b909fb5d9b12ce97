"""The real compiler: what people write, what they get wrong, and what they try."""

import asyncio
import base64
import json
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from libs.common.abi import ASSEMBLYSCRIPT
from services.compiler import languages as registry
from services.compiler.hot import Answer, HotProcesses
from services.compiler.languages import Bounds, Compiled, Diagnostic, Failed, ToolchainUnavailable
from services.compiler.languages.assemblyscript import AssemblyScript, _find_node, _is_well, _outcome
from services.compiler.wasm import UnusableModule, check
from tests.integration.compiler.guest import Abort, call

FOLDER: Final = Path(registry.__file__).parent / "assemblyscript"
BOUNDS: Final = Bounds(wall_seconds=60, cpu_seconds=60, memory_bytes=1 << 30, output_bytes=1 << 18, artifact_bytes=8 << 20)


# A diagnostic as the driver tells of it.
FINDING: Final = {
    "severity": "ERROR",
    "line": 1,
    "column": 1,
    "endLine": None,
    "endColumn": None,
    "code": None,
    "message": "no",
    "excerpt": "",
}


def bounds(**changed: float) -> Bounds:
    return Bounds(**{**{name: getattr(BOUNDS, name) for name in Bounds.__slots__}, **changed})


def body(statements: str) -> str:
    return "export function handle(input: string): string {\n  " + statements + "\n}\n"


# Forty functions, each twice in the next.
ENDLESS: Final = "@inline function f0(n: i32): i32 { return n + 1; }\n" + "".join(
    f"@inline function f{n}(a: i32): i32 {{ return f{n - 1}(a) + f{n - 1}(a); }}\n" for n in range(1, 40)
)
SELF_CONTAINED: Final = "class A<T> { constructor() { new A<A<T>>(); } }\n" + body('new A<i32>(); return "";')
JSON_CLASS: Final = """@json
class Point {
  x: i32 = 0;
  label: string = "";
}
"""
USES_JSON: Final = JSON_CLASS + body("const p = JSON.parse<Point>(input); p.x += 1; return JSON.stringify(p);")

# name -> source, line and column of the first error, its code, and words of the advice.
MISTAKES: Final[Mapping[str, tuple[str, int, int, str, str]]] = {
    "closure": (body("let n = 1; const f = (y: i32): i32 => n + y; return f(2).toString();"), 2, 41, "AS100", "no closures yet"),
    "any": (body('let x: any = 1; return "";'), 2, 10, "TS2304", "no dynamic types"),
    "union": (body('let x: string | i32 = 1; return "";'), 2, 19, "AS100", "A value has one type"),
    "undefined type": (body('let x: string | undefined = ""; return "";'), 2, 19, "AS100", "use null"),
    "undefined value": (body('return input === undefined ? "" : "";'), 2, 20, "TS2304", "use null"),
    "async": ('async function f(): string { return ""; }', 1, 1, "TS1109", "no async"),
    "await": (body("const x = await f(); return x;"), 2, 13, "TS1109", "no await"),
    "promise": (body('new Promise<string>(); return "";'), 2, 7, "TS2304", "no promises"),
    "regex": (body('return /a/.test(input) ? "a" : "";'), 2, 10, "AS100", "no regular expressions"),
    "RegExp": (body('return new RegExp("a").test(input) ? "a" : "";'), 2, 14, "KILN004", "no regular expressions"),
    "deep": (body("return " + "(" * 600 + "input" + ")" * 600 + ";"), 2, 507, "KILN005", "deeper than 500 levels"),
    "deeper": (body("return " + "-" * 100_000 + "1;"), 1, 1, "KILN005", "deeper than 500 levels"),
    "long chain": (body("return " + "input + " * 600 + "input;"), 2, 842, "KILN005", "deeper than 500 levels"),
    "try": (body('try { throw new Error("x"); } catch (e) { return ""; }'), 2, 3, "AS100", "no try/catch"),
    "console": (body('console.log("a", "b"); return "";'), 2, 3, "TS2554", "`${a} ${b}`"),
    "object literal": (body('const o = { a: 1 }; return "";'), 2, 13, "TS2322", "needs a class"),
    "object destructuring": (body('const { a } = input; return "";'), 2, 3, "TS1003", "no destructuring"),
    "array destructuring": (body('const [a, b] = [1, 2]; return "";'), 2, 3, "TS1003", "no destructuring"),
    "spread": (body('const a = [1]; const b = [...a, 2]; return "";'), 2, 29, "AS100", "instead of spreading"),
    "for in": (body('for (const k in input) {} return "";'), 2, 14, "TS1155", "no for...in"),
    "for of": (body('for (const k of [1]) {} return "";'), 2, 3, "AS100", "Count instead"),
    "optional chaining": (body('const n = input?.length; return "";'), 2, 19, "TS1109", "no optional chaining"),
    "nullish": (body('return input ?? "";'), 2, 17, "TS1109", "no `??`"),
    "require": ('const fs = require("fs");\n' + body("return input;"), 1, 12, "TS2304", "no packages"),
    "import": ('import { readFileSync } from "fs";\n' + body("return readFileSync(input);"), 1, 30, "TS6054", "one file"),
    "dynamic import": (body('import("fs"); return "";'), 2, 3, "TS1109", "no dynamic imports"),
    "fetch": (body('fetch("https://example.com"); return "";'), 2, 3, "TS2304", "no network"),
    "timer": (body('setTimeout(() => {}, 1); return "";'), 2, 3, "TS2304", "no timers"),
    "record": (body('const o: Record<string, i32> = {}; return "";'), 2, 12, "TS2304", "Map<string, T>"),
    "no types": ('export function handle(input) { return ""; }', 1, 30, "TS1110", "need a type"),
    "object type": (body('let o: { a: i32 }; return "";'), 2, 10, "TS1110", "declare a class"),
    "tuple": (body('let o: [string, i32]; return "";'), 2, 10, "TS1110", "no tuples"),
    "generator": ("function* g(): i32 {}\n" + body("return input;"), 1, 9, "TS1003", "no generators"),
    "nullable": (body("let s: string | null = null; return s;"), 2, 39, "TS2322", "Compare with null first"),
    "toFixed": (body("return (1.5).toFixed(2);"), 2, 16, "TS2339", "Math.round"),
    "forEach": (body('new Map<string, i32>().forEach(() => {}); return "";'), 2, 26, "TS2339", "keys()"),
    "no handle": ("export function main(input: string): string { return input; }", 1, 1, "KILN001", "export function handle"),
    "no export": ("\nfunction handle(input: string): string { return input; }", 2, 10, "KILN001", "is not exported"),
    "a constant": ("export const handle = (input: string): string => input;", 1, 14, "KILN001", "must be a function"),
    "two parameters": ("export function handle(a: string, b: string): string { return a; }", 1, 17, "KILN001", "one parameter"),
    "no parameter": ('export function handle(): string { return ""; }', 1, 17, "KILN001", "one parameter"),
    "an optional parameter": ('export function handle(a: string = ""): string { return a; }', 1, 24, "KILN001", "optional"),
    "another parameter": ('export function handle(a: i32): string { return ""; }', 1, 27, "KILN001", "parameter of 'handle' is a string"),
    "another result": ("export function handle(a: string): i32 { return 1; }", 1, 36, "KILN001", "returns a string"),
    "a nullable result": ("export function handle(a: string): string | null { return a; }", 1, 36, "KILN001", "returns a string"),
    "generic": ("export function handle<T>(a: string): string { return a; }", 1, 17, "KILN001", "generic"),
    "external": (
        '@external("env", "foo")\ndeclare function foo(): void;\n' + body("foo(); return input;"),
        2,
        18,
        "KILN002",
        '"env"."foo"',
    ),
    "entropy": (body('crypto.getRandomValues(new Uint8Array(2)); return "";'), 2, 3, "KILN002", "crypto.getRandomValuesN"),
    "json class": (
        "@json\nclass A {\n  b: B = new B();\n}\nclass B {}\n" + body("return JSON.stringify(new A());"),
        5,
        1,
        "KILN003",
        "@json",
    ),
    "json option": (
        "@json\nclass A {\n  @omitnull() a: i32 = 0;\n}\n" + body("return JSON.stringify(new A());"),
        3,
        3,
        "KILN003",
        "@omitnull",
    ),
    "secret": ('import "../../../../../../etc/passwd";\n' + body("return input;"), 1, 8, "TS6054", "one file"),
    "emoji": (body('const s = "\U0001f600\U0001f600"; return nope;'), 2, 26, "TS2304", "nope"),
    "line ends": ("// a\u2028b\U0001f600\r\n\t/* \U0001f600 */ nope;\r\n" + body("return input;"), 2, 10, "TS2304", "nope"),
    "byte order mark": ("\ufeffnope;\n" + body("return input;"), 1, 1, "TS2304", "nope"),
    "empty": ("", 1, 1, "KILN001", "export function handle"),
}

# Sources that compile.
WORKING: Final[Mapping[str, str]] = {
    "json": USES_JSON,
    "json imported": 'import { JSON } from "json-as";\n' + USES_JSON,
    "json of a list": body("const n = JSON.parse<i32[]>(input); n.push(4); return JSON.stringify(n);"),
    "own JSON": 'namespace JSON { export function stringify(n: i32): string { return "own"; } }\n' + body("return JSON.stringify(1);"),
    "plain": body("return input + input;"),
    "renamed": "type Text = string;\nfunction run(t: Text): Text { return t; }\nexport { run as handle };",
    "top level": "let n = 20;\nfunction init(): void { n += 22; }\ninit();\n" + body("return n.toString();"),
    "host": body(
        'console.log("log"); console.warn("warn"); console.assert(false, "assert"); console.time("t"); console.timeEnd("t");\n'
        '  trace("trace", 1, 2);\n'
        '  return [Date.now().toString(), performance.now().toString(), Math.random() < 1 ? "random" : ""].join();'
    ),
    "exit": body('process.exit(3); return "";'),
    "abort": '\n\nfunction fail(): void {\n  throw new Error("broken \U0001f3fa");\n}\n' + body('fail(); return "";'),
    "unreachable": body('unreachable(); return "";'),
    "hoard": body("const kept: ArrayBuffer[] = []; while (true) kept.push(new ArrayBuffer(1 << 20)); return kept.length.toString();"),
    "too large": body("return new ArrayBuffer(1 << 30).byteLength.toString() + new ArrayBuffer(1 << 30).byteLength.toString();"),
    "stack ended in between": SELF_CONTAINED,
    "as deep as can be": body("return " + "(" * 450 + "input" + ")" * 450 + ";"),
    "recursion": body("return depth(500).toString();") + "function depth(n: i32): i32 { return n == 0 ? 0 : 1 + depth(n - 1); }",
    "plain again": body("return input + input;"),
    "json again": USES_JSON,
}


@cache
def builds() -> dict[str, dict[str, Any]]:
    """All sources above, built one after the other in one process, as a compiler that is kept hot would."""
    sources = {name: source for name, (source, *_) in MISTAKES.items()} | dict(WORKING)
    request = {"driver": str(FOLDER / "build.mjs"), "sources": list(sources.values()), "imports": sorted(ASSEMBLYSCRIPT.imports)}
    answer = subprocess.run(
        [str(_find_node()), str(Path(__file__).with_name("builds.mjs"))],
        input=json.dumps(request).encode(),
        capture_output=True,
        check=True,
        cwd=FOLDER,
    )
    return dict(zip(sources, json.loads(answer.stdout), strict=True))


def wasm(name: str) -> bytes:
    built = builds()[name]
    assert built["reason"] is None, built["diagnostics"]
    return base64.b64decode(built["wasm"])


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_where_it_is_and_what_to_write(mistake: str) -> None:
    _, line, column, code, advice = MISTAKES[mistake]

    built = builds()[mistake]

    first = built["diagnostics"][0]
    assert built["reason"] == "COMPILE_ERROR"
    assert (first["severity"], first["line"], first["column"], first["code"]) == ("ERROR", line, column, code), first
    assert advice in first["message"]


@pytest.mark.parametrize("mistake", ["closure", "for in", "object type", "tuple", "regex", "try", "optional chaining"])
def test_advice_is_not_drowned_by_what_follows_from_the_same_mistake(mistake: str) -> None:
    errors = [one["message"] for one in builds()[mistake]["diagnostics"]]

    assert len(errors) == 1, errors


def test_no_diagnostic_shows_the_host() -> None:
    assert "/work" not in json.dumps([one["diagnostics"] for one in builds().values()])
    assert str(FOLDER.parent) not in json.dumps([one["diagnostics"] for one in builds().values()])


@pytest.mark.parametrize("name", [name for name in WORKING if name != "stack ended in between"])
def test_what_compiles_fits_the_abi(name: str) -> None:
    check(wasm(name), ASSEMBLYSCRIPT, max_bytes=BOUNDS.artifact_bytes)


@pytest.mark.parametrize(
    ("name", "given", "output"),
    [
        ("json", '{"label":"\U0001f3fa\\n","x":41}', '{"x":42,"label":"\U0001f3fa\\n"}'),
        ("json imported", "{}", '{"x":1,"label":""}'),
        ("json of a list", "[1,2,3]", "[1,2,3,4]"),
        ("own JSON", "", "own"),
        ("plain", "\U0001f3fa", "\U0001f3fa\U0001f3fa"),
        ("renamed", "x", "x"),
        ("top level", "", "42"),
        ("recursion", "", "500"),
    ],
)
def test_a_function_answers(name: str, given: str, output: str) -> None:
    assert call(wasm(name), given).output == output


def test_the_console_clock_and_randomness_are_there() -> None:
    run = call(wasm("host"), "")

    assert run.output == "1700000000000,1.5,random"
    assert [log.split(" ")[0] for log in run.logs] == ["log", "warn", "assert", "t", "t", "trace"]


def test_an_exit_carries_its_code() -> None:
    assert call(wasm("exit"), "").exit_code == 3


def test_an_abort_carries_the_users_line() -> None:
    assert call(wasm("abort"), "").abort == Abort("broken \U0001f3fa", "function.ts", 4, 3)


@pytest.mark.parametrize("name", ["hoard", "too large"])
def test_running_out_of_memory_is_told_by_the_allocator(name: str) -> None:
    abort = call(wasm(name), "").abort

    assert abort is not None
    assert abort.file in ("~lib/rt/tlsf.ts", "~lib/rt/itcms.ts", "~lib/arraybuffer.ts")


def test_a_plain_trap_is_no_abort() -> None:
    with pytest.raises(Exception, match="unreachable"):
        call(wasm("unreachable"), "")


def test_a_stack_that_ends_is_told_and_leaves_the_next_build_alone() -> None:
    ended = builds()["stack ended in between"]

    assert ended["reason"] == "COMPILE_ERROR"
    assert "contains itself" in ended["diagnostics"][0]["message"]
    assert wasm("plain again") == wasm("plain")


def test_the_same_source_gives_the_same_bytes_whatever_was_built_before() -> None:
    assert wasm("json again") == wasm("json")


def test_a_function_without_json_does_not_pay_for_it() -> None:
    assert len(wasm("plain")) < 10_000 < len(wasm("json"))


async def build(compilers: HotProcesses, source: str, limits: Bounds = BOUNDS) -> Compiled | Failed:
    return await AssemblyScript(compilers).compile(source.encode(), limits)


async def test_the_starter_compiles_in_a_process_of_its_own_to_the_same_bytes_each_time(compilers: HotProcesses) -> None:
    first, second = await asyncio.gather(
        build(compilers, AssemblyScript(compilers).starter), build(compilers, AssemblyScript(compilers).starter)
    )

    assert isinstance(first, Compiled)
    assert first == second
    assert call(first.wasm, '{"name":"Kiln"}').output == '{"message":"Hello, Kiln!"}'


async def test_a_failed_build_has_typed_diagnostics(compilers: HotProcesses) -> None:
    outcome = await build(compilers, body("return nope;"))

    expected = Diagnostic("ERROR", 2, 10, 2, 14, "TS2304", "Cannot find name 'nope'.", "  return nope;")
    assert outcome == Failed("COMPILE_ERROR", (expected,))


async def test_an_external_import_is_named_by_the_compiler_and_refused_by_the_check(compilers: HotProcesses) -> None:
    source = MISTAKES["external"][0]

    class Lenient(AssemblyScript):
        abi = type(ASSEMBLYSCRIPT)("lenient", ASSEMBLYSCRIPT.exports, {**ASSEMBLYSCRIPT.imports, ("env", "foo"): None})  # type: ignore[dict-item, misc]

    outcome = await Lenient(compilers).compile(source.encode(), BOUNDS)

    assert isinstance(outcome, Compiled)
    with pytest.raises(UnusableModule, match=r"env.*foo"):
        check(outcome.wasm, ASSEMBLYSCRIPT, max_bytes=BOUNDS.artifact_bytes)


@pytest.mark.parametrize(
    ("source", "limits", "reason", "said"),
    [
        pytest.param(ENDLESS + body("return f39(1).toString();"), bounds(wall_seconds=0.2), "COMPILE_TIMEOUT", "0.2 seconds", id="time"),
        pytest.param(
            "const p = memory.data(2000000000);\n" + body("return p.toString();"),
            bounds(memory_bytes=400 << 20),
            "COMPILE_MEMORY",
            "400 MiB",
            id="memory",
        ),
        pytest.param(body("return input;"), bounds(artifact_bytes=1000), "COMPILE_OUTPUT", "limit is 1000", id="artifact"),
        pytest.param(
            SELF_CONTAINED,
            BOUNDS,
            "COMPILE_ERROR",
            "contains itself",
            id="stack",
        ),
    ],
)
async def test_a_build_that_passes_a_bound_fails_and_names_it(
    compilers: HotProcesses, source: str, limits: Bounds, reason: str, said: str
) -> None:
    outcome = await build(compilers, source, limits)

    assert isinstance(outcome, Failed)
    assert outcome.reason == reason
    assert (outcome.diagnostics[0].line, outcome.diagnostics[0].column) == (1, 1)
    assert said in outcome.diagnostics[0].message


async def test_a_large_source_compiles(compilers: HotProcesses) -> None:
    filler = "// " + "\U0001f600 filler " * 8 + "\n"
    source = filler * ((1 << 20) // len(filler.encode())) + body("return input;")

    assert isinstance(await build(compilers, source), Compiled)


async def test_a_message_that_quotes_half_of_a_surrogate_pair_can_be_stored_and_sent(compilers: HotProcesses) -> None:
    outcome = await build(compilers, 'import { a } from "./\\ud800";\n' + body("return a;"))

    assert isinstance(outcome, Failed)
    assert outcome.diagnostics[0].code == "TS6054"
    for one in outcome.diagnostics:
        assert (one.message + one.excerpt).encode()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "null",
        "[]",
        '{"reason": null}',
        '{"reason": "COMPILE_ERROR", "diagnostics": []}',
        json.dumps({"reason": "COMPILE_ERROR", "diagnostics": [{**FINDING} | {"line": 2**40}]}),
        json.dumps({"reason": "COMPILE_ERROR", "diagnostics": [{**FINDING} | {"line": float("inf")}]}),
        json.dumps({"reason": "COMPILE_ERROR", "diagnostics": [{**FINDING} | {"column": 0}]}),
        json.dumps({"reason": "COMPILE_ERROR", "diagnostics": [{**FINDING} | {"message": "x" * 100_000}]}),
        json.dumps({"reason": "COMPILE_ERROR", "diagnostics": [{**FINDING} | {"severity": "DIRE"}]}),
        json.dumps({"reason": "COMPILE_ERROR", "diagnostics": [dict(FINDING)] * 1000}),
    ],
    ids=lambda text: text[:60],
)
def test_an_answer_that_is_none_is_a_crash_and_nothing_else(text: str) -> None:
    answer = Answer(text.encode(), b"", exceeded=None, killed=False, said=b"")

    outcome = _outcome(answer, "source", BOUNDS)

    assert isinstance(outcome, Failed)
    assert outcome.reason == "COMPILER_CRASHED"
    assert not _is_well(answer)


async def test_many_errors_are_cut_to_fifty(compilers: HotProcesses) -> None:
    outcome = await build(compilers, body("\n".join(f"missing{n};" for n in range(200)) + "return input;"))

    assert len(outcome.diagnostics) == 50


def copy_of(folder: Path, change: Callable[[str], str]) -> Path:
    """The language's folder with another driver, next to the same packages."""
    for file in [*FOLDER.glob("*.mjs"), *FOLDER.glob("package*.json")]:
        (folder / file.name).write_text(file.read_text())
    (folder / "node_modules").symlink_to(FOLDER / "node_modules")
    driver = folder / "compile.mjs"
    driver.write_text(change(driver.read_text()))
    return folder


async def test_a_compiler_that_does_not_start_is_the_platforms_fault(compilers: HotProcesses, tmp_path: Path) -> None:
    broken = AssemblyScript(compilers, folder=copy_of(tmp_path, lambda _: "throw new Error('broken installation')"))

    with pytest.raises(ToolchainUnavailable, match="broken installation"):
        await broken.compile(body("return input;").encode(), BOUNDS)


async def test_a_compiler_that_ends_without_a_result_has_crashed(compilers: HotProcesses, tmp_path: Path) -> None:
    silent = AssemblyScript(compilers, folder=copy_of(tmp_path, lambda _: "process.stdout.write('KILN')"))

    outcome = await silent.compile(body("return input;").encode(), BOUNDS)

    assert isinstance(outcome, Failed)
    assert outcome.reason == "COMPILER_CRASHED"


async def test_a_missing_toolchain_says_how_to_install_it(compilers: HotProcesses, tmp_path: Path) -> None:
    absent = AssemblyScript(compilers, folder=tmp_path)

    assert not absent.toolchain().available
    assert "npm ci" in absent.toolchain().install_hint
    with pytest.raises(ToolchainUnavailable):
        await absent.compile(body("return input;").encode(), BOUNDS)


def test_the_fingerprint_changes_with_the_adapter(compilers: HotProcesses, tmp_path: Path) -> None:
    changed = AssemblyScript(compilers, folder=copy_of(tmp_path, lambda driver: driver + "// changed\n"))

    assert changed.toolchain().fingerprint != AssemblyScript(compilers).toolchain().fingerprint
