"""A way to a server that can be slow, fall silent, be cut and be mended, as networks are."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

# What was read from one side, and when it is to reach the other. Nothing means that there will be no more.
Underway = asyncio.Queue[tuple[float, bytes]]


@dataclass(eq=False)
class _Link:
    """One connection. What is lost on a silent one never comes, so that it stays silent for ever."""

    is_silent: bool
    onward: Underway = field(default_factory=asyncio.Queue)
    back: Underway = field(default_factory=asyncio.Queue)


class Proxy:
    """Passes connections on to a server, while it is neither cut nor silent.

    Attributes:
        port: Where it is.
        delay_seconds: How long everything is underway, in either direction.
        connections: How many were made so far.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._server: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None], _Link] = {}
        self._is_silent = False
        self.port = 0
        self.delay_seconds = 0.0
        self.connections = 0

    async def mend(self) -> None:
        """Lets new connections through; those that have been silent are lost."""
        self._is_silent = False
        await self._listen()

    async def cut(self) -> None:
        """Drops all connections, and refuses new ones."""
        server, self._server = self._server, None
        if server:
            server.close()
        for task in self._links:
            task.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)
        if server:
            await server.wait_closed()

    async def fall_silent(self) -> None:
        """From now on nothing passes, and nobody is told: connections stay open, and new ones are taken."""
        self._is_silent = True
        for link in self._links.values():
            link.is_silent = True
        await self._listen()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self.connections += 1
        link = self._links[task] = _Link(self._is_silent)
        writers = [writer]
        try:
            onward_reader, onward_writer = await asyncio.open_connection(*self._target)
            writers.append(onward_writer)
            await asyncio.gather(
                self._take(link, reader, link.onward),
                _deliver(link.onward, onward_writer),
                self._take(link, onward_reader, link.back),
                _deliver(link.back, writer),
            )
        except (OSError, asyncio.CancelledError):
            # Only `cut` cancels it.
            pass
        finally:
            for one in writers:
                one.transport.abort()
            del self._links[task]

    async def _take(self, link: _Link, reader: asyncio.StreamReader, underway: Underway) -> None:
        data = b"first"
        while data:
            try:
                data = await reader.read(65_536)
            except OSError:
                data = b""
            if not link.is_silent:
                underway.put_nowait((asyncio.get_running_loop().time() + self.delay_seconds, data))


async def _deliver(underway: Underway, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while True:
            at, data = await underway.get()
            await asyncio.sleep(at - asyncio.get_running_loop().time())
            if not data:
                break
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def proxied_address(address: str) -> AsyncIterator[tuple[str, Proxy]]:
    """The `host:port` of a server behind a proxy while the block runs, and the proxy."""
    host, _, port = address.rpartition(":")
    proxy = Proxy(host, int(port))
    await proxy.mend()
    try:
        yield f"127.0.0.1:{proxy.port}", proxy
    finally:
        await proxy.cut()


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[tuple[str, Proxy]]:
    """The same for the URL of a server."""
    parts = urlsplit(url)
    credentials, _, address = parts.netloc.rpartition("@")
    async with proxied_address(address) as (through, proxy):
        yield urlunsplit(parts._replace(netloc=f"{credentials}@{through}")), proxy
