"""The one way to call another service."""

from typing import Final

import grpc

from libs.common.access.service_tokens import ServiceTokens
from libs.common.client_interceptors import StreamClientInterceptor, StreamsClientInterceptor, UnaryClientInterceptor

# Twice the ceiling of a payload (4 MiB in, 4 MiB out) and room for the rest of an execution.
MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024

# How long the other side may leave a ping unanswered. A minute without it, whatever is said of keepalive.
PING_TIMEOUT: Final = ("grpc.http2.ping_timeout_ms", 10_000)

# A restarted service is found again within a second; an idle connection that died silently within 30.
OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    PING_TIMEOUT,
    ("grpc.use_local_subchannel_pool", 1),
)


def open_channel(address: str, tokens: ServiceTokens | None) -> grpc.aio.Channel:
    """A channel to `host:port`; use it as an async context manager. Failed calls raise the errors of `libs.common.errors`.

    Args:
        address: Where the other service is.
        tokens: What this service says that it is; None where nobody asks.
    """
    interceptors = [UnaryClientInterceptor(tokens), StreamClientInterceptor(tokens), StreamsClientInterceptor(tokens)]
    return grpc.aio.insecure_channel(address, options=OPTIONS, interceptors=interceptors)
