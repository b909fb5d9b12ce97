"""Modules that somebody else has compiled: nothing is left to do but to find out which guest ABI they are of."""

import asyncio
import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from libs.common.abi import ABIS, Abi
from libs.common.languages import WASM
from services.compiler.languages import Bounds, Compiled, Failed, Toolchain
from services.compiler.languages.prepared import Prepared
from services.compiler.languages.verdicts import at_top, too_large
from services.compiler.wasm import Module, UnusableModule, missing_exports, parse

# Of the binary format.
_VERSION: Final = "1"
_STARTER: Final = Path(__file__).with_name("starter.wasm")


class Wasm:
    """The language of prebuilt modules. A function's code is the module itself.

    Args:
        abis: What a module may be of, by name.
    """

    id: Final = WASM
    name: Final = "WebAssembly module"

    def __init__(self, *, abis: Mapping[str, Abi] = ABIS) -> None:
        self._abis = abis

    @property
    def starter(self) -> str:
        """A module in base64; `starter.wat` beside it is its text."""
        return base64.b64encode(_STARTER.read_bytes()).decode()

    def toolchain(self) -> Toolchain:
        """Nothing is needed. Which ABI a module is of could change with this file alone: ABIs and the check are in a build's key."""
        fingerprint = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
        return Toolchain(available=True, version=_VERSION, install_hint="", fingerprint=fingerprint)

    def set_up(self) -> Sequence[Prepared]:
        """Nothing; see `Language.set_up`."""
        return ()

    def prepare(self, bounds: Bounds) -> None:
        """Nothing to do; see `Language.prepare`."""

    async def compile(self, source: bytes, bounds: Bounds) -> Compiled | Failed:
        """Finds out a module's ABI; see `Language.compile`. Nothing of the module runs, so it is read here and in no jail."""
        if len(source) > bounds.artifact_bytes:
            return too_large(len(source), bounds, "")
        try:
            module = await asyncio.to_thread(parse, source)
        except UnusableModule as error:
            return Failed("COMPILE_ERROR", (at_top(error.message, "", code=error.code),))
        nearest = nearest_abi(module, self._abis.values())
        if missing_exports(module, nearest):
            return Failed("COMPILE_ERROR", (at_top(self._refusal(module, nearest), "", code="INVALID_ABI"),))
        return Compiled(source, nearest, ())

    def _refusal(self, module: Module, nearest: Abi) -> str:
        missing = _named(missing_exports(module, nearest))
        possible = "; ".join(f"{abi.name} exports {_named(abi.exports)}" for abi in self._abis.values())
        return (
            f"the module's exports fit none of the guest ABIs. The nearest is {nearest.name}, of which it lacks the function {missing}. "
            f'Besides "memory", {possible}.'
        )


def nearest_abi(module: Module, abis: Iterable[Abi]) -> Abi:
    """The ABI of whose exports a module has the largest part; of several that it has alike, the one that asks for most."""
    return max(abis, key=lambda abi: (1 - len(missing_exports(module, abi)) / len(abi.exports), len(abi.exports)))


def _named(exports: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in exports)
