"""The compiler's RPCs: between messages and the domain, nothing else."""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from kiln.compiler.v1 import compiler_pb2 as pb
from kiln.compiler.v1 import compiler_pb2_grpc

from libs.common.errors import InvalidArgument, NotFound
from services.compiler.languages import Language
from services.compiler.repository import ArtifactRepository

CHUNK_BYTES: Final = 256 * 1024


class CompilerServicer(compiler_pb2_grpc.CompilerServicer):
    """Public RPCs."""

    def __init__(self, languages: Mapping[str, Language]) -> None:
        self._languages = languages

    async def ListLanguages(self, request: pb.ListLanguagesRequest, context: Any) -> pb.ListLanguagesResponse:
        return pb.ListLanguagesResponse(languages=map(language_to_proto, self._languages.values()))


class CompilerInternalServicer(compiler_pb2_grpc.CompilerInternalServicer):
    """RPCs for other services."""

    def __init__(self, artifacts: ArtifactRepository) -> None:
        self._artifacts = artifacts

    async def GetArtifact(self, request: pb.GetArtifactRequest, context: Any) -> AsyncIterator[pb.GetArtifactResponse]:
        if not re.fullmatch("sha256:[0-9a-f]{64}", request.digest):
            raise InvalidArgument.of("digest", "must be sha256: and 64 hex digits")
        wasm = await self._artifacts.find(request.digest)
        if wasm is None:
            raise NotFound("there is no such artifact", reason="ARTIFACT_NOT_FOUND")
        for begin in range(0, len(wasm), CHUNK_BYTES):
            yield pb.GetArtifactResponse(chunk=wasm[begin : begin + CHUNK_BYTES])


def language_to_proto(language: Language) -> pb.Language:
    """A language as it travels."""
    toolchain = language.toolchain()
    return pb.Language(
        id=language.id,
        name=language.name,
        version=toolchain.version,
        available=toolchain.available,
        install_hint=toolchain.install_hint,
        starter=language.starter,
    )
