"""A hundred inputs in one batch through gRPC, against a hundred calls one after the other, by turns."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import grpc
import httpx
from kiln.executor.v1 import executor_pb2 as pb
from kiln.executor.v1 import executor_pb2_grpc

from bench.figures import ratios, spread, table
from bench.platform import credential
from bench.serving import functions
from bench.serving.processes import Processes

_INPUTS: Final = 100
# So many batches make one turn: the system accounts for processor time in hundredths of a second.
_BATCHES: Final = 20

Metadata = tuple[tuple[str, str], ...]
Call = Callable[[executor_pb2_grpc.ExecutorStub, str], Sequence[pb.Execution]]


@dataclass(frozen=True, slots=True)
class _Turns:
    """Executions a second, and executions a second of processor time of the executor and its workers, turn by turn."""

    rates: list[float] = field(default_factory=list)
    per_core: list[float] = field(default_factory=list)


def measure(client: httpx.Client, processes: Processes, rounds: int) -> Iterator[str]:
    """A table of both rates."""
    batch, single = _Turns(), _Turns()
    with grpc.insecure_channel(processes.executor_address) as channel:
        stub, metadata = executor_pb2_grpc.ExecutorStub(channel), tuple(credential(client).items())
        for _ in range(rounds):
            for turns, call in ((batch, partial(_batch, metadata)), (single, partial(_one_after_the_other, metadata))):
                _take_turn(client, processes, stub, call, turns)
    rows = (("executions a second", batch.rates, single.rates), ("a second of one core", batch.per_core, single.per_core))
    yield table(
        [f"{_INPUTS} inputs", "`ExecuteBatch`", "one after the other", "ratio"],
        [[name, spread(ours, "{:.0f}".format), spread(theirs, "{:.0f}".format), ratios(ours, theirs)] for name, ours, theirs in rows],
    )


def _take_turn(client: httpx.Client, processes: Processes, stub: executor_pb2_grpc.ExecutorStub, call: Call, turns: _Turns) -> None:
    name = functions.deploy(client)
    call(stub, name)

    def timed() -> float:
        began = time.perf_counter()
        for _ in range(_BATCHES):
            for execution in call(stub, name):
                functions.check_execution(execution)
        return time.perf_counter() - began

    took, used = processes.during(timed)
    functions.completed(client, name, answered=(_BATCHES + 1) * _INPUTS)
    turns.rates.append(_BATCHES * _INPUTS / took)
    turns.per_core.append(_BATCHES * _INPUTS / (used["executor"] + used["its workers"]))


def _batch(metadata: Metadata, stub: executor_pb2_grpc.ExecutorStub, name: str) -> Sequence[pb.Execution]:
    request = pb.ExecuteBatchRequest(id=name, input_texts=[functions.INPUT_TEXT] * _INPUTS, payload_form=pb.TEXT)
    return stub.ExecuteBatch(request, metadata=metadata, timeout=60).executions


def _one_after_the_other(metadata: Metadata, stub: executor_pb2_grpc.ExecutorStub, name: str) -> Sequence[pb.Execution]:
    request = pb.ExecuteFunctionRequest(id=name, input_text=functions.INPUT_TEXT, payload_form=pb.TEXT)
    return [stub.ExecuteFunction(request, metadata=metadata, timeout=60) for _ in range(_INPUTS)]
