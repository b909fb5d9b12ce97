"""Floods of HTTP/2 frames, as a hostile client sends them over a raw connection."""

import socket
import struct
import time
from typing import Final

from kiln.registry.v1 import registry_pb2

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _CONTINUATION = 0, 1, 3, 4, 6, 9
_END_STREAM, _END_HEADERS = 1, 4
_CANCEL: Final = 8
# How long a server may leave a flood unread before it counts as stopped by it.
_PATIENCE_SECONDS: Final = 20


def connected(address: str) -> socket.socket:
    """A connection on which HTTP/2 has begun."""
    host, _, port = address.partition(":")
    connection = socket.create_connection((host, int(port)), timeout=5)
    connection.sendall(PREFACE + frame(_SETTINGS, 0, 0, b""))
    return connection


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def send_flood(connection: socket.socket, frames: bytes) -> int:
    """Sends all of it, or as much as the server takes before it hangs up; how many bytes that were."""
    connection.setblocking(False)
    sent, give_up = 0, time.monotonic() + _PATIENCE_SECONDS
    while sent < len(frames) and time.monotonic() < give_up:
        try:
            while connection.recv(65536):
                pass
            break
        except BlockingIOError:
            pass
        except OSError:
            break
        try:
            sent += connection.send(frames[sent : sent + 65536])
        except BlockingIOError:
            time.sleep(0.005)
        except OSError:
            break
    return sent


def _header(name: bytes, value: bytes) -> bytes:
    # HPACK: a literal without indexing, its name in full.
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


_CALL: Final = b"".join(
    _header(name, value)
    for name, value in (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/kiln.registry.v1.Registry/GetFunction"),
        (b":authority", b"x"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
)


def _message(encoded: bytes) -> bytes:
    """A message of gRPC: that it is not compressed, its length, and itself."""
    return b"\0" + struct.pack(">I", len(encoded)) + encoded


def _resets(streams: int, *, data: bytes = b"") -> bytes:
    """Calls that are taken back at once, with or without what makes them whole."""
    return b"".join(
        frame(_HEADERS, _END_HEADERS, stream, _CALL)
        + (frame(_DATA, _END_STREAM, stream, data) if data else b"")
        + frame(_RESET, 0, stream, struct.pack(">I", _CANCEL))
        for stream in range(1, 2 * streams, 2)
    )


FLOODS: Final[dict[str, bytes]] = {
    "pings": frame(_PING, 0, 0, bytes(8)) * 20_000,
    "settings": frame(_SETTINGS, 0, 0, struct.pack(">HI", 3, 100)) * 20_000,
    "continuation": frame(_HEADERS, 0, 1, _CALL) + frame(_CONTINUATION, 0, 1, _header(b"x", b"y" * 100) * 100) * 500,
    "rapid reset": _resets(10_000),
    "rapid reset of whole calls": _resets(10_000, data=_message(registry_pb2.GetFunctionRequest(id="x").SerializeToString())),
}
