"""WASI commands: they read the input from their standard input and write the output to their standard output.

Go is the language that needs this; how its programs end is read from the standard error, since it is told nowhere else. Source:
`throw`, `printpanics` and `newstack` in `runtime/` of Go 1.27.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from libs.common.abi import WASI_COMMAND
from services.executor.sandbox import output
from services.executor.sandbox.abi import kiln
from services.executor.sandbox.guest import Guest
from services.executor.sandbox.host import STACK_OVERFLOW, GuestStopped, Host, out_of_memory
from services.executor.sandbox.lines import Lines
from services.executor.sandbox.outcome import ErrorType, Level
from services.executor.sandbox.streams import Streams

CONTRACT: Final = WASI_COMMAND
FUNCTIONS: Final[Mapping[tuple[str, str], Callable[..., Any]]] = kiln.FUNCTIONS

_MAX_WORDS: Final = 500
# With which Go's runtime ends a program that panicked or cannot go on.
_GO_FAILED: Final = 2
_GO_VERDICT: Final = re.compile(r"panic: |fatal error: ")
_GO_OUT_OF_MEMORY: Final = re.compile(r"fatal error: .*(out of memory|cannot allocate memory)")
_GO_STACK_OVERFLOW: Final = "fatal error: stack overflow"


class _Output:
    """Collects the standard output, and no more of it than an output may have."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        output.check_size(self._host, len(self.data) + len(data))
        self.data += data

    def close(self) -> None:
        pass


class _Words:
    """What a command said on its standard error, as far as it tells why it failed.

    Attributes:
        last: The last line that is not empty.
        verdict: The last line by which Go's runtime says why it ends the program; a stack trace follows it.
    """

    def __init__(self) -> None:
        self.last = ""
        self.verdict = ""

    def see(self, line: str) -> None:
        """Looks at the next line. A panic during a panic is indented."""
        if words := line.strip()[:_MAX_WORDS]:
            self.last = words
            if _GO_VERDICT.match(words):
                self.verdict = words


def begin(host: Host, text: bytes) -> Callable[[Guest], bytes]:
    """A run of `_start`. What it returns ends a guest without a valid output by `GuestStopped`."""
    written, words = _Output(host), _Words()
    host.streams = Streams(memoryview(text), written, Lines(host, Level.INFO, words.see))
    return partial(_run, host, written, words)


def _run(host: Host, written: _Output, words: _Words, guest: Guest) -> bytes:
    try:
        guest.run("_start")
    except GuestStopped:
        if host.exit_code is None:
            raise
    host.streams.close()
    if host.exit_code:
        raise _failure(host, host.exit_code, words)
    # Leaving by proc_exit(0) is no fault.
    host.error = None
    return _result(host, bytes(written.data))


def _failure(host: Host, code: int, words: _Words) -> GuestStopped:
    why = words.last
    if code == _GO_FAILED and words.verdict:
        why = words.verdict
        if _GO_OUT_OF_MEMORY.match(why):
            return host.stop(*out_of_memory(host.limits))
        if why == _GO_STACK_OVERFLOW:
            return host.stop(*STACK_OVERFLOW)
    message = f"the function ended with exit code {code}"
    return host.stop(ErrorType.EXIT, f"{message}: {why}" if why else message)


def _result(host: Host, written: bytes) -> bytes:
    if not written:
        raise host.stop(ErrorType.INVALID_OUTPUT, "the function wrote nothing: it has to write its output, as JSON, to the standard output")
    output.check_json(host, written)
    return written
