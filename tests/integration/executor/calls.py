"""Running guests in a sandbox, and reading what came of it."""

from collections.abc import Mapping
from types import MappingProxyType

from services.executor.sandbox import Call, ErrorType, Limits, Outcome, Sandbox
from tests.integration.executor.guests import Module

DEFAULT = Limits()
SHORT = Limits(timeout_ms=200)
NOTHING: Mapping[str, str] = MappingProxyType({})


async def run(
    sandbox: Sandbox, guest: Module, text: str = "{}", limits: Limits = DEFAULT, environment: Mapping[str, str] = NOTHING
) -> Outcome:
    await sandbox.prepare(guest.digest, guest.wasm, guest.abi)
    async with sandbox.reserve() as slot:
        return await slot.run(call(guest, text, limits, environment))


def call(guest: Module, text: str = "{}", limits: Limits = DEFAULT, environment: Mapping[str, str] = NOTHING) -> Call:
    return Call(digest=guest.digest, abi=guest.abi, input=text.encode(), limits=limits, environment=environment)


def fault(outcome: Outcome) -> tuple[ErrorType, str]:
    assert outcome.error is not None
    assert outcome.output is None
    return outcome.error.type, outcome.error.message
