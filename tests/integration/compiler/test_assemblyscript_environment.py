"""AssemblyScript's `process.env`, which Kiln fills."""

import json
from collections.abc import Mapping

import pytest

from services.compiler.hot import HotProcesses
from services.compiler.languages import Compiled, languages
from services.executor.sandbox import ErrorType, Sandbox
from tests.integration.compiler.compiling import answer, built, there

SOURCE = """
const GREETING: string = process.env.has("GREETING") ? process.env.get("GREETING") : "none";

export function handle(input: string): string {
  if (input == '"get"') return JSON.stringify(process.env.get("MISSING"));
  process.env.set("OWN", "mine");
  const names = process.env.keys();
  const found: string[] = [GREETING];
  for (let i = 0; i < names.length; i++) found.push(names[i] + "=" + process.env.get(names[i]));
  return JSON.stringify(found);
}
"""
PLAIN = "export function handle(input: string): string { return input; }\n"


@pytest.fixture(scope="module")
async def reader(compilers: HotProcesses) -> Compiled:
    return await built(there(languages(compilers)["assemblyscript"]), SOURCE)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"GREETING": "Hello"},
        {"A": "", "GREETING": "J\u00f6rg \U0001f525 = \n ", "B": "x" * 30_000, "_1": "="},
        {f"NAME_{n}": str(n) for n in range(100)},
    ],
    ids=["nothing", "one", "odd ones", "many"],
)
async def test_every_variable_is_there_before_the_first_line_runs(reader: Compiled, sandbox: Sandbox, variables: Mapping[str, str]) -> None:
    for _ in range(2):
        outcome = await answer(sandbox, reader, variables=variables)

        assert outcome.output is not None, outcome.error
        own = {**variables, "OWN": "mine"}
        assert json.loads(outcome.output) == [variables.get("GREETING", "none"), *(f"{name}={value}" for name, value in own.items())]


async def test_one_that_is_not_there_fails_with_the_line_that_asks(reader: Compiled, sandbox: Sandbox) -> None:
    outcome = await answer(sandbox, reader, '"get"', variables={"OTHER": "x"})

    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.message) == (ErrorType.ABORT, "Key does not exist")


async def test_a_function_that_reads_none_imports_nothing_for_it(reader: Compiled, compilers: HotProcesses) -> None:
    plain = await built(there(languages(compilers)["assemblyscript"]), PLAIN)

    assert b"process.env" not in plain.wasm
    assert b"process.env.read" in reader.wasm


async def test_an_address_outside_of_memory_is_a_trap_that_says_so(compilers: HotProcesses, sandbox: Sandbox) -> None:
    source = (
        '@external("env", "process.env.read") declare function read(address: usize): void;\n'
        "export function handle(input: string): string { read(0xfffffff0); return input; }\n"
    )
    hostile = await built(there(languages(compilers)["assemblyscript"]), source)

    outcome = await answer(sandbox, hostile, variables={"NAME": "value that is longer than what is left"})

    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.message.partition(" an ")[0]) == (ErrorType.TRAP, "the function gave process.env.read")
