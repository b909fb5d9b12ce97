"""REST to gRPC: an endpoint for every public RPC, made from the `google.api.http` annotation beside it."""

from collections.abc import Awaitable, Iterator
from functools import lru_cache
from typing import Final

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from libs.common import status
from libs.common.carrier import Metadata
from libs.common.errors import InvalidArgument, KilnError, Unauthenticated
from libs.common.policy import policy_of
from libs.common.request import request_id
from services.gateway import descriptors, problems, reading, surface, writing
from services.gateway.backends import Backend, Backends, onward_metadata
from services.gateway.callers import Callers
from services.gateway.descriptors import HttpRule
from services.gateway.exchange import JSON, Answer, Header, Request
from services.gateway.routes import variable_of

_EMPTY: Final = "google.protobuf.Empty"
_UTF8: Final = ("charset=utf-8", "charset=utf8", "")


class RpcEndpoint:
    """One RPC in REST.

    Raises:
        ValueError: the annotation is not of a form that REST can serve.
    """

    def __init__(self, method: MethodDescriptor, rule: HttpRule, backend: Backend, callers: Callers) -> None:
        wire_name = descriptors.wire_name(method)
        seconds = policy_of(wire_name).deadline_seconds
        if method.client_streaming or method.server_streaming or seconds is None:
            raise ValueError(f"{wire_name} streams, which REST cannot")
        self._method, self._backend, self._callers = method, backend, callers
        self._binding = Binding(method, rule)
        self._wire_name, self._seconds = wire_name, seconds
        self._output = descriptors.message_class(method.output_type)
        self._status = success_status(method)
        self._cookie = surface.cookie(method.output_type)
        self._clears_cookie = surface.clears_cookie(method)
        self._cookies_in, self._cookies_out = surface.other_cookies(method.input_type), surface.other_cookies(method.output_type)
        self._location = surface.location(method.output_type)

    @property
    def redirects(self) -> bool:
        """Whether browsers go there by links, and on from there."""
        return bool(self._location)

    async def __call__(self, request: Request) -> Answer:
        """Calls the RPC for a request.

        Raises:
            KilnError: the request is bad, or the service refused.
        """
        caller = self._callers.of_http(request.method, request.headers, request.address)
        bound = self._binding.message(request)
        for field, cookie in self._cookies_in:
            setattr(bound, field, self._callers.other_cookies.found_in(request.headers.get("cookie", ""), cookie))
        message = bound.SerializeToString()
        metadata = onward_metadata(self._wire_name, request_id.get())

        def call(of_caller: Metadata) -> Awaitable[bytes]:
            return self._backend.unary(self._wire_name, message, seconds=self._seconds, metadata=[*metadata, *of_caller])

        try:
            answer = await self._callers.call(self._wire_name, caller, call)
        except (grpc.aio.AioRpcError, Unauthenticated) as error:
            known = error if isinstance(error, Unauthenticated) else self._in_rest_words(error)
            if self._clears_cookie and isinstance(known, Unauthenticated) and not caller.has_key:
                # Whose session has ended already is where it wants to be, but for the cookie.
                return self._done()
            raise known from None
        if self._status == 204:
            return self._done()
        output = self._output.FromString(answer)
        headers = writing.header_values(output)
        self._add_cookies(headers, output)
        if self._location:
            return Answer(self._status, headers=[("Location", getattr(output, self._location)), ("Cache-Control", "no-store"), *headers])
        return Answer(self._status, writing.to_json(output), JSON, headers)

    def _done(self) -> Answer:
        return Answer(204, headers=[("Set-Cookie", self._callers.cookie.taken_back())] if self._clears_cookie else [])

    def _add_cookies(self, headers: list[Header], output: Message) -> None:
        if self._cookie:
            headers.append(("Set-Cookie", self._callers.cookie.given(getattr(output, self._cookie))))
        for field, cookie in self._cookies_out:
            headers.append(("Set-Cookie", self._callers.other_cookies.given(cookie, getattr(output, field))))

    def _in_rest_words(self, error: grpc.aio.AioRpcError) -> KilnError:
        return problems.in_rest_words(status.from_rpc_error(error), self._method.input_type)


def endpoints(backends: Backends, callers: Callers) -> Iterator[tuple[HttpRule, RpcEndpoint]]:
    """An endpoint for each public RPC."""
    for method in descriptors.public_methods():
        if rule := descriptors.http_rule(method):
            yield rule, RpcEndpoint(method, rule, backends[descriptors.owner(method.containing_service.full_name)], callers)


def success_status(method: MethodDescriptor) -> int:
    """The HTTP status of an answer without error."""
    if method.output_type.full_name == _EMPTY:
        return 204
    if surface.location(method.output_type):
        return 302
    return 201 if method.name.startswith("Create") else 200


def variables_of(rule: HttpRule) -> list[str]:
    """The field paths that a rule's template has as variables."""
    return [name for segment in rule.template.split("/") if (name := variable_of(segment)) is not None]


class Binding:
    """How requests in REST become the messages of an RPC."""

    def __init__(self, method: MethodDescriptor, rule: HttpRule) -> None:
        given = method.input_type
        self._new = descriptors.message_class(given)
        self._constants = surface.constants(given)
        self._body = rule.body
        self._variables = {path: reading.of_variable(given, path) for path in variables_of(rule)}
        self._bound = frozenset(surface.rest_path(given, path) for path in self._variables)
        self._bound_in_query = self._bound | {surface.rest_path(given, rule.body)} if rule.body else self._bound
        self._has_open_query = surface.has_open_query(method)

    def message(self, request: Request) -> Message:
        """The message for a request.

        Raises:
            InvalidArgument: something in the request is unknown, given twice, or bad; it names which.
        """
        message = self._new()
        for name, value in self._constants:
            setattr(message, name, value)
        if self._body:
            require_json(request)
        elif request.body:
            raise InvalidArgument("this call takes no body")
        if self._body == "*":
            reading.read_body(message, request.body, bound=self._bound)
            reading.refuse_query(request.query)
        else:
            if self._body:
                reading.read_body(getattr(message, self._body), request.body)
            reading.read_query(message, request.query, bound=self._bound_in_query, is_open=self._has_open_query)
        for path, text in request.variables.items():
            self._variables[path](message, text)
        reading.read_headers(message, request.headers)
        return message


def require_json(request: Request) -> None:
    """Refuses a body that does not say it is JSON in UTF-8.

    Raises:
        InvalidArgument: reason `UNSUPPORTED_MEDIA_TYPE`.
    """
    if request.body and not (_is_json(request.headers.get("content-type", "")) and "content-encoding" not in request.headers):
        raise InvalidArgument("the body must be sent with `Content-Type: application/json`, in UTF-8", reason="UNSUPPORTED_MEDIA_TYPE")


@lru_cache(maxsize=64)
def _is_json(content_type: str) -> bool:
    media_type, *parameters = (part.strip().lower() for part in content_type.split(";"))
    return media_type == JSON and all(parameter.replace('"', "") in _UTF8 for parameter in parameters)
