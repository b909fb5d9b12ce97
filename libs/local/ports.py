"""Ports for servers that nobody has given one."""

import random
import socket
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

_GIVEN_BY_THE_SYSTEM: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_ALL: Final = range(10_000, 65_000)
_TRIED: Final = 1_000


class NoPorts(Exception):
    """There are not that many."""


def free_ports(count: int, *, kept: Collection[int] = ()) -> list[int]:
    """Loopback ports that nothing listens on now.

    They are none of those that the system gives to connections and to whoever asks for any port: while a service is being started again,
    one of these could become somebody else's by chance, and callers of the service would talk to a stranger.

    Args:
        count: How many.
        kept: Ports that somebody else is going to listen on.

    Raises:
        NoPorts: so many were not found.
    """
    lowest, highest = map(int, _GIVEN_BY_THE_SYSTEM.read_text().split())
    candidates = [port for port in _ALL if not lowest <= port <= highest and port not in kept]
    found: list[int] = []
    for port in random.sample(candidates, min(_TRIED, len(candidates))):
        with suppress(OSError):
            socket.create_server(("127.0.0.1", port)).close()
            found.append(port)
        if len(found) == count:
            return found
    raise NoPorts(f"no {count} loopback ports are free outside of {lowest} to {highest}, which the system gives away (ip_local_port_range)")
