"""Unary calls on the executor's own port, against the better of two bare gRPC servers that take and give the same bytes, by turns."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import grpc
import httpx
from kiln.executor.v1 import executor_pb2 as pb
from kiln.executor.v1 import executor_pb2_grpc

from bench.figures import ratios, spread, table
from bench.platform import credential, rest
from bench.serving import functions
from bench.serving.loads import framed, h2load
from bench.serving.processes import Processes
from bench.serving.references.running import grpc_echo

_METHOD: Final = "kiln.executor.v1.Executor/ExecuteFunction"
_CALLS: Final = 8000
# Connections, and streams at a time on each.
_SHAPES: Final = ((1, 64), (8, 8))
_ECHOES: Final = ("sync_echo", "aio_echo")


def measure(client: httpx.Client, processes: Processes, rounds: int) -> Iterator[str]:
    """A table by shape."""
    ours: dict[tuple[int, int], list[float]] = {shape: [] for shape in _SHAPES}
    theirs: dict[tuple[int, int], list[float]] = {shape: [] for shape in _SHAPES}
    with ExitStack() as stack:
        request, answer = _once(client, processes.executor_address, functions.deploy(client))
        echoes = [stack.enter_context(grpc_echo(name, answer)) for name in _ECHOES]
        for _ in range(rounds):
            for shape in _SHAPES:
                ours[shape].append(_ours(client, processes.executor_address, shape))
                theirs[shape].append(max(_theirs(address, request, answer, shape) for address in echoes))
    yield table(
        ["unary gRPC, calls a second", "executor", "bare echo", "ratio"],
        [
            [
                f"{connections} x {streams}",
                spread(ours[shape], "{:.0f}".format),
                spread(theirs[shape], "{:.0f}".format),
                ratios(ours[shape], theirs[shape]),
            ]
            for shape in _SHAPES
            for connections, streams in [shape]
        ],
    )


def _ours(client: httpx.Client, address: str, shape: tuple[int, int]) -> float:
    name = functions.deploy(client)
    request, _ = _once(client, address, name)
    connections, streams = shape
    url, metadata = f"http://{address}/{_METHOD}", credential(client)
    load = h2load(url, request, calls=_CALLS, connections=connections, streams=streams, metadata=metadata)
    # h2load knows nothing of gRPC's own status; the history tells, which has the call before as well.
    functions.completed(client, name, answered=_CALLS + 1)
    return load.rate


def _theirs(address: str, request: bytes, answer: bytes, shape: tuple[int, int]) -> float:
    rest()
    connections, streams = shape
    load = h2load(f"http://{address}/{_METHOD}", request, calls=_CALLS, connections=connections, streams=streams)
    if load.answer_bytes != _CALLS * len(framed(answer)):
        raise SystemExit(f"{_CALLS} answers of {len(answer)} bytes came as {load.answer_bytes} bytes")
    return load.rate


def _once(client: httpx.Client, address: str, name: str) -> tuple[bytes, bytes]:
    """The bytes of a request and of its answer.

    Raises:
        SystemExit: the answer is no echo.
    """
    request = pb.ExecuteFunctionRequest(id=name, input_text=functions.INPUT_TEXT, payload_form=pb.TEXT)
    with grpc.insecure_channel(address) as channel:
        answer = executor_pb2_grpc.ExecutorStub(channel).ExecuteFunction(request, metadata=tuple(credential(client).items()), timeout=60)
    functions.check_execution(answer)
    return request.SerializeToString(), answer.SerializeToString()
