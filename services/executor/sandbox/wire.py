"""What the supervisor asks of its processes and what they answer, as MessagePack.

    to a worker      Run       ->  Ran | Missing; Stalled, in which it is named, when it was not begun
                     Load      ->  Loaded
                     Cancel        no answer of its own: the run it stops answers
    to the preparer  Compile   ->  Compiled | Uncompilable
    from both        Ready, once, before all else

Every request has a number, which its answer repeats. A worker does what it is asked one after the other, in its order.
"""

from typing import Final

import msgspec

from services.executor.sandbox.framing import BadFrame
from services.executor.sandbox.outcome import Call, Outcome


class Numbered(msgspec.Struct, array_like=True, tag=True):
    """A request or an answer.

    Attributes:
        number: The request's, set when it is sent.
    """

    number: int


class Run(Numbered):
    """Run a call."""

    call: Call


class Load(Numbered):
    """Hold a module ready, whose native code this is.

    Attributes:
        code: None when it is the next file on the socket for files.
    """

    digest: str
    abi: str
    code: bytes | None


class Cancel(Numbered):
    """Nobody waits for that run any more."""


class Compile(Numbered):
    """Make native code of a module."""

    abi: str
    wasm: bytes


class Ran(Numbered):
    """What came of a run."""

    outcome: Outcome


class Missing(Numbered):
    """Its module is not there: load it, then ask again."""


class Loaded(Numbered):
    """The module is ready, or cannot be: then there is a problem."""

    problem: str | None


class Stalled(Numbered):
    """That run goes on and on.

    Attributes:
        not_begun: The runs behind it, which are given back, and will not be run.
    """

    not_begun: list[int]


class Compiled(Numbered):
    """The native code."""

    code: bytes


class Uncompilable(Numbered):
    """There is none."""

    message: str


class Ready(msgspec.Struct, array_like=True, tag=True):
    """Requests are welcome.

    Attributes:
        uid: Whom the process has become.
        own_network: Whether it has a network of its own, with nothing in it.
    """

    uid: int
    own_network: bool


Request = Run | Load | Cancel | Compile
Answer = Ran | Missing | Loaded | Stalled | Compiled | Uncompilable | Ready

# An environment may be any mapping.
_encoder: Final = msgspec.msgpack.Encoder(enc_hook=dict)
_requests: Final[msgspec.msgpack.Decoder[Request]] = msgspec.msgpack.Decoder(Request)
_answers: Final[msgspec.msgpack.Decoder[Answer]] = msgspec.msgpack.Decoder(Answer)


def encode(message: Request | Answer) -> bytes:
    """The bytes of a message."""
    return _encoder.encode(message)


def request_of(message: bytes) -> Request:
    """What the supervisor asks for."""
    return _requests.decode(message)


def answer_of(message: bytes) -> Answer:
    """What a process says.

    Raises:
        BadFrame: It is nothing that it could say: whoever sent it is not to be trusted any more.
    """
    try:
        return _answers.decode(message)
    except msgspec.DecodeError as error:
        raise BadFrame(f"an answer that is none: {error}") from None
