"""The engine in this process: what becomes of a call when the host itself fails."""

import socket
from typing import Never

import pytest

from services.executor.sandbox import Call, ErrorType, Outcome
from services.executor.sandbox.engine import Linkers, Runner, compile_module, new_engine
from services.executor.sandbox.host import Sources
from services.executor.sandbox.watch import Watch
from tests.integration.executor.guests import Module
from tests.integration.executor.plain_guests import WASI, calling, command

CODE_BYTES = 1 << 20


def broken(*_arguments: object) -> Never:
    raise OSError("the secret of the host")


def run(guest: Module, sources: Sources) -> Outcome | None:
    engine = new_engine()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        runner = Runner(engine, Watch(engine.increment_epoch, ours), CODE_BYTES, sources)
        runner.load(guest.digest, guest.abi, compile_module(engine, Linkers(engine), guest.abi, guest.wasm))
        return runner.run(Call(guest.digest, guest.abi, b"{}"))


@pytest.mark.parametrize(
    "guest",
    [
        calling("kiln", "random", [0, 8]),
        calling(WASI, "random_get", [0, 8]),
        command("(drop (call $random_get (i32.const 0) (i32.const 8)))", imports=("random_get",)),
        command("", "(func $early (drop (call $random_get (i32.const 0) (i32.const 8)))) (start $early)", imports=("random_get",)),
    ],
    ids=["kiln", "wasi in kiln", "command", "start function"],
)
def test_a_host_function_that_fails_ends_the_call_without_its_words(guest: Module) -> None:
    outcome = run(guest, Sources(random=broken))

    assert outcome is not None
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.message) == (ErrorType.PLATFORM, "a host function failed: OSError")
    assert "secret" not in repr(outcome)
