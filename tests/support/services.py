"""Services that answer as a test says, for what stands in front of them or follows them."""

import secrets
import socket
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import IO, Any, Never

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from kiln.auth.v1 import auth_pb2
from kiln.carrier.v1 import carrier_pb2
from kiln.compiler.v1 import compiler_pb2
from kiln.executor.v1 import executor_pb2
from kiln.registry.v1 import registry_pb2

from libs.common import status
from libs.common.carried import Presented, sent_along
from libs.common.carrier_servicer import TICKET_BYTES
from libs.common.errors import KilnError
from libs.common.frames import SIGN
from libs.local.ports import free_ports

_FILES = (auth_pb2, compiler_pb2, executor_pb2, registry_pb2)
_METHODS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for file in _FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}

OPEN = "/kiln.carrier.v1.CarrierInternal/Open"
_LENGTH_BYTES = 4

Answering = Callable[[Any, grpc.ServicerContext], Any]


@dataclass(frozen=True)
class Call:
    """A call that arrived: the RPC's name, its message (None for a stream of them), its metadata, and whether it came among others."""

    name: str
    message: Any
    metadata: dict[str, str | bytes]
    is_carried: bool = field(default=False, compare=False)


class Services(grpc.GenericRpcHandler):
    """Every service of Kiln at one address. An RPC that a test says nothing about is UNIMPLEMENTED.

    Attributes:
        carried_port: Where it says that it takes carried calls.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._answers: dict[str, Answering] = {}
        self._refusals: list[KilnError] = []
        self.carried_port = 0
        self._tickets: set[bytes] = set()

    def on(self, name: str, answer: Answering) -> None:
        """What an RPC answers from now on: a message, or bytes as they go over the wire; or many, where it answers with a stream.

        Where the RPC is asked with a stream, `answer` is given that.
        """
        self._answers[name] = answer

    def refuse_streams(self, *refusals: KilnError) -> None:
        """How the next streams are refused, one after the other."""
        self._refusals += refusals

    def forget(self) -> None:
        """Back to nothing said and nothing asked."""
        self.calls.clear()
        self._answers.clear()
        self._refusals.clear()

    def service(self, handler_call_details: Any) -> Any:
        """The handler of an RPC."""
        if handler_call_details.method == OPEN:
            return grpc.unary_unary_rpc_method_handler(self._open, carrier_pb2.OpenRequest.FromString, _written)
        return self._handler(handler_call_details.method, _by_name(handler_call_details.invocation_metadata))

    def _handler(self, name: str, metadata: dict[str, str | bytes], *, is_carried: bool = False) -> Any:
        method = _METHODS.get(name)
        if method is None or method.name not in self._answers:
            return None
        read = message_factory.GetMessageClass(method.input_type).FromString

        def asked(given: Any) -> Any:
            question = map(read, given) if method.client_streaming else read(given)
            self.calls.append(Call(method.name, None if method.client_streaming else question, metadata, is_carried))
            return question

        def handle(given: Any, context: grpc.ServicerContext) -> bytes:
            return _written(self._answers[method.name](asked(given), context))

        def stream(given: Any, context: grpc.ServicerContext) -> Iterable[bytes]:
            if refusal := self._refusals.pop(0) if self._refusals else None:
                fail(context, refusal)
            # As a service says that a stream is admitted.
            context.send_initial_metadata((("x-request-id", "inner"),))
            return map(_written, self._answers[method.name](asked(given), context))

        if not method.server_streaming:
            return grpc.unary_unary_rpc_method_handler(handle)
        return grpc.stream_stream_rpc_method_handler(stream) if method.client_streaming else grpc.unary_stream_rpc_method_handler(stream)

    def listen(self) -> socket.socket:
        """Takes carried calls from now on, until what this returns is closed."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.carried_port = listening.getsockname()[1]
        Thread(target=self._accept, args=(listening,), daemon=True).start()
        return listening

    def _open(self, request: Any, context: grpc.ServicerContext) -> carrier_pb2.OpenResponse:
        ticket = secrets.token_bytes(TICKET_BYTES)
        self._tickets.add(ticket)
        return carrier_pb2.OpenResponse(port=self.carried_port, ticket=ticket)

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                Thread(target=self._carry, args=(listening.accept()[0],), daemon=True).start()

    def _carry(self, connection: socket.socket) -> None:
        """Makes the calls of a connection, each in a thread of its own, as they would be made by themselves."""
        calls: dict[int, _CarriedContext] = {}
        sending = Lock()

        def make(call: carrier_pb2.Call, of_call: "_CarriedContext") -> None:
            handler = self._handler(call.method, of_call.metadata, is_carried=True)
            if handler is None:
                of_call.answer.code, of_call.answer.details = 12, "Method not found!"
            else:
                try:
                    of_call.answer.message = handler.unary_unary(call.message, of_call)
                except _Aborted:
                    pass
                except Exception as error:
                    of_call.answer.code, of_call.answer.details = 2, f"Exception calling application: {error}"
            with suppress(OSError), sending:
                connection.sendall(framed(carrier_pb2.CarryResponse(answers=[of_call.answer])))

        with connection, suppress(OSError, EOFError), connection.makefile("rb") as coming:
            ticket = coming.read(TICKET_BYTES)
            if ticket not in self._tickets:
                return
            self._tickets.remove(ticket)
            presented = Presented()
            connection.sendall(SIGN)
            while True:
                request = carrier_pb2.CarryRequest.FromString(unframed(coming))
                for call in request.calls:
                    calls[call.number] = _CarriedContext(call, presented.by(call))
                    Thread(target=make, args=(call, calls[call.number]), daemon=True).start()
                for number in request.cancelled:
                    calls[number].cancel()
                if request.ping:
                    with sending:
                        connection.sendall(framed(carrier_pb2.CarryResponse(pong=True)))
        for one in calls.values():
            one.cancel()


def framed(message: Any) -> bytes:
    """A message as it is sent over a connection of carried calls."""
    encoded: bytes = message.SerializeToString()
    return len(encoded).to_bytes(_LENGTH_BYTES) + encoded


def unframed(coming: IO[bytes]) -> bytes:
    """The next message of such a connection.

    Raises:
        EOFError: it has ended.
    """
    length = coming.read(_LENGTH_BYTES)
    if len(length) < _LENGTH_BYTES:
        raise EOFError
    return coming.read(int.from_bytes(length))


class _Aborted(Exception):
    """Ends a carried call, whose status is set."""


class _CarriedContext:
    """Of gRPC's context, what tests use."""

    def __init__(self, call: carrier_pb2.Call, authorization: str) -> None:
        self.answer = carrier_pb2.Answer(number=call.number)
        self.metadata = _by_name(sent_along(call, authorization))
        self._callbacks: list[Callable[[], Any]] = []

    def add_callback(self, callback: Callable[[], Any]) -> None:
        self._callbacks.append(callback)

    def cancel(self) -> None:
        for callback in self._callbacks:
            callback()

    def abort_with_status(self, status: Any) -> Never:
        number: int = status.code.value[0]
        self.answer.code, self.answer.details = number, status.details
        self.answer.status_details = dict(status.trailing_metadata).get("grpc-status-details-bin", b"")
        raise _Aborted


def _by_name(pairs: Iterable[tuple[str, str | bytes]]) -> dict[str, str | bytes]:
    """Metadata by name. What came twice is there twice, as HTTP writes it."""
    found: dict[str, str | bytes] = {}
    for name, value in pairs:
        found[name] = f"{found[name]!s}, {value!s}" if name in found else value
    return found


def _written(answer: Any) -> bytes:
    return answer if isinstance(answer, bytes) else bytes(answer.SerializeToString())


@contextmanager
def running_services() -> Iterator[tuple[str, Services]]:
    """The address of such services, and what they do."""
    services, address = Services(), f"127.0.0.1:{free_ports(1)[0]}"
    server = grpc.server(ThreadPoolExecutor(16), handlers=[services])
    healthy = health.HealthServicer()
    healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    server.add_insecure_port(address)
    listening = services.listen()
    server.start()
    try:
        yield address, services
    finally:
        # Wakes who waits there, which closing does not.
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        server.stop(0).wait()


def fail(context: grpc.ServicerContext, error: KilnError) -> Never:
    """Ends a call as a service of Kiln does."""
    context.abort_with_status(rpc_status.to_status(status.to_proto(error, "inner")))
