"""Code is a source or a module, whichever the language takes, and what does not fit is named."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import InvalidArgument
from libs.common.languages import LANGUAGES
from services.registry.code import Code, CodePatch, CodePolicy

POLICY = CodePolicy(max_source_bytes=10, max_wasm_bytes=20)
TEXT = Code("assemblyscript", "one", None)
MODULE = Code("wasm", None, b"\0asm")
PATCHES = st.builds(
    CodePatch, st.none() | st.sampled_from(LANGUAGES), st.none() | st.text(min_size=1, max_size=3), st.none() | st.binary(max_size=3)
)


def refused_field(call: Any, *arguments: Any) -> tuple[str, str]:
    """The field that a refusal is about, and what it says of it."""
    with pytest.raises(InvalidArgument) as caught:
        call(*arguments)
    (violation,) = caught.value.violations
    return violation.field, violation.description


@pytest.mark.parametrize(
    ("patch", "code"),
    [
        (CodePatch("assemblyscript", "one", None), TEXT),
        (CodePatch("wasm", None, b"\0asm"), MODULE),
    ],
)
def test_a_new_function_has_what_its_language_takes(patch: CodePatch, code: Code) -> None:
    assert patch.complete() == code


@pytest.mark.parametrize(
    ("patch", "field", "advice"),
    [
        (CodePatch("assemblyscript"), "source", "is missing"),
        (CodePatch("assemblyscript", "one", b"\0asm"), "wasm", "send `wasm` as `language`"),
        (CodePatch("assemblyscript", None, b"\0asm"), "wasm", "send `wasm` as `language`"),
        (CodePatch("wasm"), "wasm", "is missing"),
        (CodePatch("wasm", "one"), "source", "send `wasm`"),
        (CodePatch("wasm", "one", b"\0asm"), "source", "send `wasm`"),
        (CodePatch("wasm", "", b"\0asm"), "source", "send `wasm`"),
    ],
)
def test_what_a_new_function_lacks_or_has_too_much_is_named(patch: CodePatch, field: str, advice: str) -> None:
    name, said = refused_field(patch.complete)

    assert (name, advice in said) == (field, True)


@pytest.mark.parametrize(
    ("code", "patch", "after"),
    [
        (TEXT, CodePatch(), TEXT),
        (TEXT, CodePatch(source="two"), Code("assemblyscript", "two", None)),
        (TEXT, CodePatch(language="assemblyscript"), TEXT),
        (TEXT, CodePatch("wasm", None, b"\0asm"), MODULE),
        (MODULE, CodePatch(), MODULE),
        (MODULE, CodePatch(wasm=b"new"), Code("wasm", None, b"new")),
        (MODULE, CodePatch(language="wasm"), MODULE),
        (MODULE, CodePatch("assemblyscript", "one"), TEXT),
    ],
)
def test_a_change_keeps_what_the_language_still_takes(code: Code, patch: CodePatch, after: Code) -> None:
    assert patch.applied(code) == after


@pytest.mark.parametrize(
    ("code", "patch", "field", "advice"),
    [
        (MODULE, CodePatch(source="one"), "source", "the language of the source as `language`"),
        (MODULE, CodePatch(language="assemblyscript"), "source", "is missing"),
        (TEXT, CodePatch(wasm=b"\0asm"), "wasm", "send `wasm` as `language`"),
        (TEXT, CodePatch(language="wasm"), "wasm", "is missing"),
    ],
)
def test_a_change_between_text_and_module_names_what_must_come_with_it(code: Code, patch: CodePatch, field: str, advice: str) -> None:
    name, said = refused_field(patch.applied, code)

    assert (name, advice in said) == (field, True)


@given(PATCHES, PATCHES)
def test_code_is_always_one_of_the_two_and_fits_its_language(first: CodePatch, second: CodePatch) -> None:
    try:
        code = second.applied(first.complete())
    except InvalidArgument:
        return

    assert (code.source is None) != (code.wasm is None)
    assert (code.wasm is not None) == (code.language == "wasm")


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        (CodePatch(language=""), "language"),
        (CodePatch(language="cobol"), "language"),
        (CodePatch(source=" \n"), "source"),
        (CodePatch(source="a\0"), "source"),
        (CodePatch(source="é" * 5 + "x"), "source"),
        (CodePatch(wasm=b""), "wasm"),
        (CodePatch(wasm=bytes(21)), "wasm"),
    ],
)
def test_a_bad_field_is_named_whatever_the_function(patch: CodePatch, field: str) -> None:
    assert refused_field(POLICY.check, patch)[0] == field


def test_the_largest_of_either_is_taken() -> None:
    POLICY.check(CodePatch("wasm", "é" * 5, bytes(20)))


@given(st.binary(max_size=20))
def test_a_job_carries_a_module_as_base64_and_no_source(wasm: bytes) -> None:
    job = Code("wasm", None, wasm).as_job()

    assert (sorted(job), base64.b64decode(job["wasm"], validate=True)) == (["language", "wasm"], wasm)


def test_a_job_carries_a_source_as_it_is_and_no_module() -> None:
    assert TEXT.as_job() == {"language": "assemblyscript", "source": "one"}
