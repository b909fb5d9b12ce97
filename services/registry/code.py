"""What a version is made from: a source in some language, or a prebuilt module; never both."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from libs.common.errors import InvalidArgument
from libs.common.languages import LANGUAGES, WASM


@dataclass(frozen=True, slots=True)
class Code:
    """The code of a version: a module when the language is `wasm`, else a source."""

    language: str
    source: str | None
    wasm: bytes | None

    def as_job(self) -> Mapping[str, str]:
        """The code as a build's message carries it, which is JSON: a module is base64."""
        if self.wasm is None:
            return {"language": self.language, "source": self.source or ""}
        return {"language": self.language, "wasm": base64.b64encode(self.wasm).decode()}


@dataclass(frozen=True, slots=True)
class CodePatch:
    """Code as a caller sends it; None is absent, or stays."""

    language: str | None = None
    source: str | None = None
    wasm: bytes | None = None

    def complete(self) -> Code:
        """The code of a new function.

        Raises:
            InvalidArgument: what the language takes is absent, or what it does not take is there.
        """
        return _checked(self.language or "", self.source, self.wasm)

    def applied(self, code: Code) -> Code:
        """The code after a change; a source or a module stays unless the language now takes the other of the two.

        Raises:
            InvalidArgument: as for `complete`.
        """
        language = self.language or code.language
        kept = code if (language == WASM) == (code.language == WASM) else CodePatch()
        return _checked(
            language,
            kept.source if self.source is None else self.source,
            kept.wasm if self.wasm is None else self.wasm,
        )


@dataclass(frozen=True, slots=True)
class CodePolicy:
    """What an installation takes."""

    max_source_bytes: int
    max_wasm_bytes: int

    def check(self, patch: CodePatch) -> None:
        """Checks what can be told without knowing the function.

        Raises:
            InvalidArgument: a field is bad.
        """
        if patch.language is not None:
            check_language(patch.language)
        if patch.source is not None:
            self._check_source(patch.source)
        if patch.wasm is not None:
            self._check_wasm(patch.wasm)

    def _check_source(self, source: str) -> None:
        if not source.strip():
            raise InvalidArgument.of("source", "must not be empty")
        if "\0" in source:
            raise InvalidArgument.of("source", f"has a NUL character at position {source.index(chr(0)) + 1}; remove it")
        if (size := len(source.encode())) > self.max_source_bytes:
            raise InvalidArgument.of("source", f"has {size} bytes; at most {self.max_source_bytes} are taken", reason="SOURCE_TOO_LARGE")

    def _check_wasm(self, wasm: bytes) -> None:
        if not wasm:
            raise InvalidArgument.of("wasm", "must not be empty")
        if len(wasm) > self.max_wasm_bytes:
            raise InvalidArgument.of("wasm", f"has {len(wasm)} bytes; at most {self.max_wasm_bytes} are taken", reason="WASM_TOO_LARGE")


def check_language(language: str) -> None:
    """Raises InvalidArgument unless Kiln knows the language."""
    if language not in LANGUAGES:
        raise InvalidArgument.of("language", f"must be one of: {', '.join(LANGUAGES)}", reason="UNKNOWN_LANGUAGE")


def _checked(language: str, source: str | None, wasm: bytes | None) -> Code:
    if language == WASM:
        if source is not None:
            raise InvalidArgument.of("source", f"language {WASM} takes none: send `wasm`, or the language of the source as `language`")
        if wasm is None:
            raise InvalidArgument.of("wasm", f"is missing: language {WASM} takes a prebuilt module, bytes in gRPC and base64 in REST")
    else:
        if wasm is not None:
            raise InvalidArgument.of("wasm", f"language {language} takes none: leave it out, or send `{WASM}` as `language`")
        if source is None:
            raise InvalidArgument.of("source", f"is missing: language {language} takes one")
    return Code(language, source, wasm)
