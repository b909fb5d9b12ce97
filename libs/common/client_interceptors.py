"""What happens around every RPC that a service calls: request id, deadline, its own token, and errors from their wire form."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc

from libs.common import request, status
from libs.common.access.bearer import AUTHORIZATION, bearer
from libs.common.access.service_tokens import ServiceTokens
from libs.common.policy import policy_of

# What a caller keeps of its own time for the way back, so that the inner error arrives before the outer deadline.
MARGIN_SECONDS: Final = 0.05


class UnaryClientInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    """Gives a unary call its deadline, request id and the service's own token, and raises the error that the server raised."""

    def __init__(self, tokens: ServiceTokens | None) -> None:
        self._tokens = tokens

    async def intercept_unary_unary(self, continuation: Callable[..., Awaitable[Any]], details: Any, message: Any) -> Any:
        try:
            call = await continuation(_outgoing(details, self._tokens), message)
            return await call
        except grpc.aio.AioRpcError as error:
            raise status.from_rpc_error(error) from None


class StreamClientInterceptor(grpc.aio.UnaryStreamClientInterceptor):
    """The same for a call that answers with a stream."""

    def __init__(self, tokens: ServiceTokens | None) -> None:
        self._tokens = tokens

    async def intercept_unary_stream(self, continuation: Callable[..., Awaitable[Any]], details: Any, message: Any) -> Any:
        return _translated(await continuation(_outgoing(details, self._tokens), message))


class StreamsClientInterceptor(grpc.aio.StreamStreamClientInterceptor):
    """The same for a call of two streams, whose errors stay gRPC's own."""

    def __init__(self, tokens: ServiceTokens | None) -> None:
        self._tokens = tokens

    async def intercept_stream_stream(self, continuation: Callable[..., Awaitable[Any]], details: Any, messages: Any) -> Any:
        return await continuation(_outgoing(details, self._tokens), messages)


async def _translated(answers: AsyncIterator[Any]) -> AsyncIterator[Any]:
    try:
        async for answer in answers:
            yield answer
    except grpc.aio.AioRpcError as error:
        raise status.from_rpc_error(error) from None


def _outgoing(details: Any, tokens: ServiceTokens | None) -> grpc.aio.ClientCallDetails:
    method = details.method.decode() if isinstance(details.method, bytes) else details.method
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    if identity := request.request_id.get():
        metadata[request.REQUEST_ID_HEADER] = identity
    if tokens and metadata.get(AUTHORIZATION) is None:
        metadata[AUTHORIZATION] = bearer(tokens.own())
    return grpc.aio.ClientCallDetails(
        method=details.method,
        timeout=details.timeout or onward_timeout(method),
        metadata=metadata,
        credentials=details.credentials,
        wait_for_ready=details.wait_for_ready,
    )


def onward_timeout(method: str) -> float | None:
    """Seconds an onward call may take: the RPC's own policy, and what remains of the caller's deadline less `MARGIN_SECONDS`."""
    allowed, remaining = policy_of(method).deadline_seconds, request.remaining_seconds()
    if allowed is None:
        return None
    return allowed if remaining is None else min(allowed, max(0.001, remaining - MARGIN_SECONDS))
