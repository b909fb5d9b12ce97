"""What all languages have in common, for every one that there is."""

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Final

import pytest

from libs.common.languages import LANGUAGES, WASM
from services.compiler.build import key_of
from services.compiler.hot import HotProcesses
from services.compiler.jails import Jails
from services.compiler.languages import Bounds, Compiled, Language, languages
from services.compiler.wasm import check
from services.executor.sandbox import Call, Limits, Sandbox

BOUNDS: Final = Bounds(wall_seconds=60, cpu_seconds=60, memory_bytes=1 << 30, output_bytes=1 << 18, artifact_bytes=8 << 20)
ALL: Final = languages(HotProcesses(Jails("auto"), spare=0))
COMPILED: Final = [one for one in LANGUAGES if one != WASM]


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    """Where starters run."""
    async with Sandbox(workers=1, max_workers=1, compile_seconds=60) as opened:
        yield opened


@pytest.fixture
def language(request: pytest.FixtureRequest, compilers: HotProcesses) -> Language:
    """A language by its id, when its toolchain is there."""
    found = languages(compilers)[request.param]
    toolchain = found.toolchain()
    if not toolchain.available:
        pytest.skip(f"{found.name} is not installed: {toolchain.install_hint}")
    return found


async def compiled(language: Language) -> Compiled:
    outcome = await language.compile(language.starter.encode(), BOUNDS)
    assert isinstance(outcome, Compiled), outcome
    return outcome


def test_the_registry_takes_the_languages_that_there_are() -> None:
    assert tuple(ALL) == tuple(sorted(LANGUAGES))


@pytest.mark.parametrize("id_", LANGUAGES)
def test_a_language_says_what_it_is(id_: str) -> None:
    language, toolchain = ALL[id_], ALL[id_].toolchain()

    assert language.id == id_
    assert language.name
    assert language.starter
    assert toolchain.available == bool(toolchain.version) == bool(toolchain.fingerprint) != bool(toolchain.install_hint)


@pytest.mark.parametrize("language", COMPILED, indirect=True)
async def test_a_starter_greets(language: Language, sandbox: Sandbox) -> None:
    outcome = await compiled(language)

    check(outcome.wasm, outcome.abi, max_bytes=BOUNDS.artifact_bytes)
    digest = hashlib.sha256(outcome.wasm).hexdigest()
    await sandbox.prepare(digest, outcome.wasm, outcome.abi.name)
    async with sandbox.reserve() as slot:
        run = await slot.run(Call(digest, outcome.abi.name, '{"name": "Käfer"}'.encode(), Limits()))
    assert outcome.diagnostics == ()
    assert (run.error, json.loads(run.output or b"null")) == (None, {"message": "Hello, Käfer!"})


@pytest.mark.parametrize("language", COMPILED, indirect=True)
async def test_a_source_becomes_the_same_module_each_time(language: Language) -> None:
    assert (await compiled(language)).wasm == (await compiled(language)).wasm


@pytest.mark.parametrize("language", COMPILED, indirect=True)
def test_a_build_has_a_name_of_its_own(language: Language) -> None:
    keys = {key_of(one, language.starter.encode(), BOUNDS) for one in ALL.values() if one.toolchain().available}

    assert None not in keys
    assert len(keys) == sum(one.toolchain().available for one in ALL.values())
