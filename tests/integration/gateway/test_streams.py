"""Streams through the front door: every message as it is, both ways, as it comes."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from kiln.executor.v1 import executor_pb2 as pb
from kiln.executor.v1 import executor_pb2_grpc

from libs.common.errors import ResourceExhausted
from libs.common.status import from_rpc_error
from tests.integration.gateway.conftest import Gateway
from tests.support.services import fail
from tests.support.waiting import until


@pytest.fixture
async def stub(gateway: Gateway) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(gateway.grpc_address) as channel:
        yield executor_pb2_grpc.ExecutorStub(channel)


def echo(requests: Iterator[pb.ExecuteStreamRequest], _: Any) -> Iterator[pb.Execution]:
    for request in requests:
        yield pb.Execution(output_text=request.input_text)


async def test_messages_pass_both_ways_while_the_stream_is_open_and_it_ends_when_the_caller_does(gateway: Gateway, stub: Any) -> None:
    gateway.services.on("ExecuteStream", echo)
    stream = stub.ExecuteStream()

    for number in range(20):
        await stream.write(pb.ExecuteStreamRequest(id="a", input_text=str(number).encode()))
        assert (await asyncio.wait_for(stream.read(), 10)).output_text == str(number).encode()
    await stream.done_writing()

    assert await asyncio.wait_for(stream.read(), 10) is grpc.aio.EOF
    assert await stream.code() is grpc.StatusCode.OK


async def test_a_refusal_of_a_stream_comes_through_with_its_details(gateway: Gateway, stub: Any) -> None:
    gateway.services.on("ExecuteStream", lambda _, context: fail(context, ResourceExhausted("full", reason="TOO_MANY_STREAMS")))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(stub.ExecuteStream().read(), 10)

    assert from_rpc_error(caught.value).reason == "TOO_MANY_STREAMS"


async def test_a_stream_that_its_caller_cancels_is_cancelled_behind_the_door(gateway: Gateway, stub: Any) -> None:
    ended = threading.Event()

    def hang(requests: Iterator[pb.ExecuteStreamRequest], context: grpc.ServicerContext) -> Iterator[pb.Execution]:
        context.add_callback(ended.set)
        yield pb.Execution()
        ended.wait(20)

    gateway.services.on("ExecuteStream", hang)
    stream = stub.ExecuteStream()
    await stream.write(pb.ExecuteStreamRequest(id="a"))
    await asyncio.wait_for(stream.read(), 10)

    stream.cancel()

    await until(ended.is_set)


async def test_open_streams_take_no_room_from_calls(gateway: Gateway, stub: Any) -> None:
    gateway.services.on("ExecuteStream", echo)
    gateway.services.on("GetExecution", lambda message, _: pb.Execution(id=message.id))
    streams = [stub.ExecuteStream() for _ in range(9)]
    for stream in streams:
        await stream.write(pb.ExecuteStreamRequest(id="a", input_text=b"1"))
        await asyncio.wait_for(stream.read(), 10)

    answer = await asyncio.to_thread(gateway.http.get, "/executions/e")
    found = await stub.GetExecution(pb.GetExecutionRequest(id="e"), timeout=10)

    assert (answer.status_code, found.id) == (200, "e")
    for stream in streams:
        stream.cancel()
