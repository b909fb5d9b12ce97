"""A connection for carried calls, as whoever reaches the port can make it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import grpc
from kiln.carrier.v1 import carrier_pb2, carrier_pb2_grpc

from libs.common.frames import SIGN
from tests.support.services import framed


class Reached(Protocol):
    """What has a channel to a server on this machine."""

    @property
    def channel(self) -> grpc.aio.Channel:
        """That channel."""


class Visit:
    """A connection.

    Args:
        opened: What the server told of it.
        reader, writer: Its streams.
    """

    def __init__(self, opened: carrier_pb2.OpenResponse, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened = opened
        self.reader = reader
        self.writer = writer

    async def let_in(self) -> None:
        """Shows the ticket, and waits until that is found good."""
        self.writer.write(self.opened.ticket)
        assert await asyncio.wait_for(self.reader.readexactly(len(SIGN)), 5) == SIGN

    def send(self, request: carrier_pb2.CarryRequest) -> None:
        """Sends a frame."""
        self.writer.write(framed(request))

    async def answers(self) -> carrier_pb2.CarryResponse:
        """The next frame."""
        length = int.from_bytes(await asyncio.wait_for(self.reader.readexactly(4), 5))
        return carrier_pb2.CarryResponse.FromString(await asyncio.wait_for(self.reader.readexactly(length), 5))

    async def is_shut_out(self, seconds: float = 1) -> bool:
        """Whether the server ends the connection in that time, without a word."""
        try:
            return await asyncio.wait_for(self.reader.read(1), seconds) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False


async def opened(reached: Reached) -> carrier_pb2.OpenResponse:
    """A port and a ticket."""
    stub: Any = carrier_pb2_grpc.CarrierInternalStub(reached.channel)
    told: carrier_pb2.OpenResponse = await stub.Open(carrier_pb2.OpenRequest())
    return told


@asynccontextmanager
async def visiting(reached: Reached, told: carrier_pb2.OpenResponse | None = None) -> AsyncIterator[Visit]:
    """A connection while the block runs, on which nothing is sent yet."""
    told = told or await opened(reached)
    reader, writer = await asyncio.open_connection("127.0.0.1", told.port)
    try:
        yield Visit(told, reader, writer)
    finally:
        writer.transport.abort()
