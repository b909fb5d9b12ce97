"""Rust from source to answer: what people write, what they get wrong, and what they try."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from services.compiler.hot import HotProcesses
from services.compiler.languages import Bounds, Compiled, Failed, ToolchainUnavailable
from services.compiler.languages.rust import Rust, toolchain
from services.compiler.languages.rust.crates import crates
from services.compiler.languages.verdicts import excerpt
from services.compiler.wasm import check
from services.executor.sandbox import ErrorType, Level, Limits, Outcome, Sandbox
from tests.integration.compiler.abuses.rust import ABUSES
from tests.integration.executor.calls import fault, run
from tests.integration.executor.guests import Module

BOUNDS: Final = Bounds(wall_seconds=60, cpu_seconds=30, memory_bytes=1 << 30, output_bytes=1 << 18, artifact_bytes=8 << 20)
SHORT: Final = replace(BOUNDS, cpu_seconds=3)
CANARY: Final = "canary-5e1f0c"

installed: Final = toolchain.find()
pytestmark = pytest.mark.skipif(
    installed is None or not crates(installed).is_made, reason="Rust is not installed, or not set up: run `make toolchains`"
)


def body(statements: str) -> str:
    return "pub fn handle(input: &str) -> Result<String, String> {\n    " + statements + "\n}\n"


# name -> source, line and column of the first error, its code, and words of its message.
MISTAKES: Final[Mapping[str, tuple[str, int, int, str | None, str]]] = {
    "a type": (
        body('let n: i32 = "a"; Ok(n.to_string())'),
        2,
        18,
        "E0308",
        "expected `i32`, found `&str`\nnote: expected due to this (line 2)",
    ),
    "a name": (body("Ok(inputs.to_string())"), 2, 8, "E0425", "help: a local variable with a similar name exists: `input`"),
    "a move": (body("let s = String::new(); drop(s); Ok(s)"), 2, 40, "E0382", "note: value moved here (line 2)"),
    "a borrow": (body("let mut v = vec![1]; let a = &v[0]; v.push(2); Ok(a.to_string())"), 2, 41, "E0502", "immutable borrow occurs here"),
    "a method": (body("Ok(input.trimmed())"), 2, 14, "E0599", "no method named `trimmed`"),
    "wide characters": (body('let é = "日本😀"; Ok(nope(é))'), 2, 23, "E0425", "cannot find function `nope`"),
    "ends of lines that are none": (body('let s = "\u2028\u0085\x0c"; Ok(nope(s))'), 2, 23, "E0425", "cannot find function `nope`"),
    "in a macro": (body('println!("{} {}", 1); Ok(String::new())'), 2, 15, None, "2 positional arguments in format string"),
    "in a macro of one's own": ("macro_rules! bad { () => { nope() } }\n" + body("bad!(); Ok(String::new())"), 1, 28, "E0425", "`nope`"),
    "in a derive": (
        "#[derive(serde::Serialize)]\nstruct A { b: B }\nstruct B;\n" + body("serde_json::to_string(&0).map_err(|e| e.to_string())"),
        2,
        12,
        "E0277",
        "`B: Serialize`",
    ),
    "a crate": ("use regex::Regex;\n" + body("Ok(String::new())"), 1, 5, "E0432", "use the crates std, kiln, serde and serde_json only"),
    "not closed": (
        "pub fn handle(input: &str) -> Result<String, String> {\n    Ok(input.to_string())\n\n",
        2,
        26,
        None,
        "unclosed delimiter",
    ),
    "a text not closed": (body('Ok("a.to_string())'), 2, 8, "E0765", "unterminated double quote string"),
    "no handle": ("pub fn main() {}\n", 1, 1, "E0425", "does not define `pub fn handle(input: &str) -> Result<String, E>`"),
    "nothing": ("", 1, 1, "E0425", "does not define `pub fn handle(input: &str) -> Result<String, E>`"),
    "another parameter": (
        "// handle\nfn handle(n: i32) -> Result<String, String> { Ok(n.to_string()) }",
        2,
        4,
        "E0308",
        "`handle` must be",
    ),
    "two parameters": ("fn handle(a: &str, b: &str) -> Result<String, String> { Ok([a, b].concat()) }", 1, 4, "E0061", "`handle` must be"),
    "another result": ("pub fn handle(input: &str) -> String { input.to_string() }", 1, 8, "E0308", "expected enum `Result`"),
    "an error that is no text": (
        "fn handle(_: &str) -> Result<String, Vec<u8>> { Err(vec![]) }",
        1,
        4,
        "E0277",
        "`Vec<u8>` doesn't implement",
    ),
    "async": ("pub async fn handle(input: &str) -> Result<String, String> { Ok(input.to_string()) }", 1, 14, "E0308", "`handle` must be"),
}

# name -> source and its whole output for the input `"x"`.
WORKING: Final[Mapping[str, tuple[str, str]]] = {
    "inner attributes": ("#![forbid(unsafe_code)]\n#![deny(warnings)]\n//! Text.\n/// Text.\n" + body("Ok(input.to_string())"), '"x"'),
    "not public": ("fn handle(input: &'static str) -> Result<String, &'static str> { Ok(input.into()) }", '"x"'),
    "a boxed error": ("fn handle(input: &str) -> Result<String, Box<dyn std::error::Error>> { Ok(input.into()) } // end", '"x"'),
    "modules": ("mod a { pub mod b { pub fn c() -> i32 { crate::d() } } }\nfn d() -> i32 { 7 }\n" + body("Ok(a::b::c().to_string())"), "7"),
    "no standard library": (
        "#![no_std]\nextern crate alloc;\nuse alloc::string::{String, ToString};\n" + body("Ok(input.to_string())"),
        '"x"',
    ),
    "names of Kiln's": (
        "mod kiln { pub fn log() -> i32 { 5 } }\nmacro_rules! println { () => { kiln::log() } }\n" + body("Ok((println!()).to_string())"),
        "5",
    ),
    "a value": (body('Ok(serde_json::json!({ "a": [1, null], "b": input.len() }).to_string())'), '{"a":[1,null],"b":3}'),
    "a map": (body("let mut m = std::collections::HashMap::new(); m.insert(input, 1); Ok(m[input].to_string())"), "1"),
    "windows": ("\ufeff" + body("Ok(input.to_string())").replace("\n", "\r\n"), '"x"'),
    "host": (
        body(
            'let mut bytes = [0u8; 16]; kiln::random(&mut bytes); let name = kiln::env("NAME").unwrap();\n'
            '    Ok(format!("[{}, {}, {name:?}, {}]", bytes != [0; 16], kiln::now_ms() > 1 << 40, kiln::env("NO").is_none()))'
        ),
        '[true, true, "värde", true]',
    ),
}
WORKING_ENVIRONMENT: Final = {"NAME": "värde"}


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(workers=1, max_workers=1) as opened:
        yield opened


@pytest.fixture
def rust(compilers: HotProcesses) -> Rust:
    return Rust(compilers)


async def built(rust: Rust, source: str) -> Module:
    compiled = await rust.compile(source.encode(), BOUNDS)
    assert isinstance(compiled, Compiled), compiled
    check(compiled.wasm, compiled.abi, max_bytes=BOUNDS.artifact_bytes)
    return Module(compiled.wasm, compiled.abi.name)


async def answered(rust: Rust, sandbox: Sandbox, source: str, text: str = '"x"', limits: Limits | None = None) -> Outcome:
    return await run(sandbox, await built(rust, source), text, limits or Limits(), WORKING_ENVIRONMENT)


async def failed(rust: Rust, source: str, bounds: Bounds = BOUNDS) -> Failed:
    answer = await rust.compile(source.encode(), bounds)
    assert isinstance(answer, Failed)
    return answer


# What works


async def test_the_starter_answers(rust: Rust, sandbox: Sandbox) -> None:
    outcome = await answered(rust, sandbox, rust.starter, '{"name": "Åsa"}')

    assert json.loads(outcome.output or b"") == {"message": "Hello, Åsa!"}


async def test_the_same_source_gives_the_same_module(rust: Rust) -> None:
    assert (await built(rust, rust.starter)).digest == (await built(rust, rust.starter)).digest


@pytest.mark.parametrize("name", WORKING)
async def test_what_people_write_works(rust: Rust, sandbox: Sandbox, name: str) -> None:
    source, output = WORKING[name]

    outcome = await answered(rust, sandbox, source)

    assert (outcome.error, (outcome.output or b"").decode()) == (None, output)


async def test_what_is_printed_is_a_log(rust: Rust, sandbox: Sandbox) -> None:
    source = body(
        'println!("one {}", 1); print!("two"); print!(" and\\nmore"); eprintln!(); let n = dbg!(1 + 1);\n'
        '    kiln::log(kiln::Level::Debug, n); kiln::log(kiln::Level::Warn, "careful"); Ok(n.to_string())'
    )

    logs = (await answered(rust, sandbox, source)).logs

    assert [(line.level, line.message) for line in logs] == [
        (Level.INFO, "one 1"),
        (Level.INFO, "two and"),
        (Level.ERROR, ""),
        (Level.ERROR, "[function.rs:2] 1 + 1 = 2"),
        (Level.DEBUG, "2"),
        (Level.WARN, "careful"),
        (Level.INFO, "more"),
    ]


async def test_a_warning_comes_with_the_module(rust: Rust) -> None:
    compiled = await rust.compile(body("let unused = 1; Ok(String::new())").encode(), BOUNDS)

    assert isinstance(compiled, Compiled)
    assert [(one.severity, one.line, one.column, one.end_column) for one in compiled.diagnostics if "`unused`" in one.message] == [
        ("WARNING", 2, 9, 15)
    ]


# Runs that fail


@pytest.mark.parametrize(
    ("statements", "kind", "words"),
    [
        ('Err(format!("no {}", input))', ErrorType.ABORT, 'no "x"'),
        ("Err(String::new())", ErrorType.ABORT, "the function returned an error without a message"),
        ('panic!("odd")', ErrorType.ABORT, "panicked at function.rs:2:5: odd"),
        ("let v: Vec<i32> = vec![]; Ok(v[input.len()].to_string())", ErrorType.ABORT, "panicked at function.rs:2:34: index out of bounds"),
        ("Ok((1 / (input.len() - 3)).to_string())", ErrorType.ABORT, "panicked at function.rs:2:8: attempt to divide by zero"),
        ('"a".parse::<i32>().unwrap(); todo!()', ErrorType.ABORT, "panicked at function.rs:2:24: called `Result::unwrap()`"),
        ("std::panic::panic_any(3)", ErrorType.ABORT, "panicked at function.rs:2:5: a value that is no text"),
        ("std::time::Instant::now(); todo!()", ErrorType.ABORT, "use kiln::now_ms()"),
        ("std::thread::spawn(|| {}); todo!()", ErrorType.ABORT, "functions have one thread"),
        ("let mut v = vec![]; loop { v.push(vec![1u8; 1 << 20]); }", ErrorType.OUT_OF_MEMORY, ""),
        ("Ok(vec![input; 1 << 27].concat())", ErrorType.OUT_OF_MEMORY, ""),
        ("std::process::abort()", ErrorType.TRAP, "unreachable"),
        ("fn f(n: usize) -> usize { let v = vec![n; 9]; f(n + 1) + v[n % 9] } Ok(f(1).to_string())", ErrorType.STACK_OVERFLOW, ""),
        ("loop {}", ErrorType.TIMEOUT, ""),
        ('Ok("no".to_string())', ErrorType.INVALID_OUTPUT, ""),
    ],
)
async def test_a_run_that_fails_says_why(rust: Rust, sandbox: Sandbox, statements: str, kind: ErrorType, words: str) -> None:
    found, message = fault(await answered(rust, sandbox, body(statements), limits=Limits(timeout_ms=1000)))

    assert found is kind
    assert words in message


async def test_what_was_printed_before_a_failure_is_logged(rust: Rust, sandbox: Sandbox) -> None:
    outcome = await answered(rust, sandbox, body('print!("last words"); panic!("odd")'))

    assert [line.message for line in outcome.logs] == ["last words"]


# Sources that do not compile


@pytest.mark.parametrize("name", MISTAKES)
async def test_a_mistake_is_told_where_it_is(rust: Rust, name: str) -> None:
    source, line, column, code, words = MISTAKES[name]

    failure = await failed(rust, source)

    first = next(one for one in failure.diagnostics if one.severity == "ERROR")
    assert failure.reason == "COMPILE_ERROR"
    assert (first.line, first.column, first.code) == (line, column, code)
    assert words in first.message
    assert first.excerpt == excerpt(source, line)
    assert not any(path in one.message for one in failure.diagnostics for path in ("/usr", "/tmp", str(Path.cwd()), "__kiln"))


async def test_a_module_that_is_too_large_is_refused(rust: Rust) -> None:
    source = "static BIG: [u8; 1 << 20] = [7; 1 << 20];\n" + body("Ok(BIG[input.len()].to_string())")

    failure = await failed(rust, source, replace(BOUNDS, artifact_bytes=1 << 20))

    assert failure.reason == "COMPILE_OUTPUT"


@pytest.mark.parametrize(
    ("source", "output_bytes", "words"),
    [
        ("#[no_mangle]\npub static BIG: [u8; 100 << 20] = [7; 100 << 20];\n" + body("todo!()"), 1 << 18, "large array"),
        (body("Ok(nope)"), 100, "said more than 100 bytes"),
    ],
)
async def test_a_compiler_that_was_cut_off_is_no_crash(rust: Rust, source: str, output_bytes: int, words: str) -> None:
    failure = await failed(rust, source, replace(BOUNDS, output_bytes=output_bytes))

    assert failure.reason == "COMPILE_OUTPUT"
    assert words in failure.diagnostics[0].message


async def test_a_compiler_that_takes_too_long_is_ended(rust: Rust) -> None:
    failure = await failed(rust, ABUSES["recursion without a limit"][0], replace(BOUNDS, wall_seconds=1))

    assert failure.reason == "COMPILE_TIMEOUT"


# What is installed


def test_without_a_toolchain_it_says_what_to_do(rust: Rust, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "_roots", lambda: iter(()))

    found = rust.toolchain()

    assert (found.available, found.version, found.fingerprint) == (False, "", "")
    assert "make toolchains" in found.install_hint
    assert rust.set_up() == ()


async def test_a_toolchain_is_noticed_while_the_service_runs(rust: Rust, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as absent:
        absent.setattr(toolchain, "_roots", lambda: iter(()))
        with pytest.raises(ToolchainUnavailable, match="make toolchains"):
            await rust.compile(rust.starter.encode(), BOUNDS)

    assert rust.toolchain().available
    assert isinstance(await rust.compile(rust.starter.encode(), BOUNDS), Compiled)


def test_a_toolchain_without_the_target_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "toolchains" / "one"
    for file in ("bin/rustc", "lib/rustlib/host/bin/rust-lld"):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    monkeypatch.setattr(toolchain, "_SYSTEM", root / "bin" / "rustc")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("RUSTUP_HOME", str(tmp_path))
    assert toolchain.find() is None

    library = root / "lib/rustlib/wasm32-unknown-unknown/lib/libstd-1.rlib"
    library.parent.mkdir(parents=True)
    library.touch()

    found = toolchain.find()
    assert found
    assert found.root == root
