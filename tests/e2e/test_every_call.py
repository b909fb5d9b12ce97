"""What holds for every call alike, found by walking the protos: a call that is added later is tried too."""

from typing import Any, Final

import grpc
import httpx
import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from services.gateway import descriptors, surface
from services.gateway.descriptors import HttpRule, http_rule, wire_name
from services.gateway.transcoder import variables_of
from tests.support.platform import Platform, error_of

PUBLIC: Final = list(descriptors.public_methods())
# All but the streams.
IN_REST: Final = [method for method in PUBLIC if http_rule(method)]
# What a call needs in its body before it looks for the thing that it is about.
NEEDED: Final[dict[str, dict[str, Any]]] = {"RollbackFunction": {"version": 1}, "ExecuteBatch": {"inputs": [1]}}
# It announces a field, and ends.
NO_MESSAGE: Final = b"\xff"


def rule_of(method: MethodDescriptor) -> HttpRule:
    """A call's place in REST."""
    rule = http_rule(method)
    assert rule
    return rule


def path_of(method: MethodDescriptor, **values: str) -> str:
    """A call's path, with a value for each variable: a name that nothing has, and 1 for numbers."""
    path = rule_of(method).template
    for variable in variables_of(rule_of(method)):
        is_text = method.input_type.fields_by_name[variable].type == FieldDescriptor.TYPE_STRING
        path = path.replace(f"{{{variable}}}", values.get(variable, "nobody" if is_text else "1"))
    return path


def ask(platform: Platform, method: MethodDescriptor, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
    """What a call answers; a body is sent where the call takes one, and where one is given."""
    content = {} if body is None and rule_of(method).body else body
    return platform.http.request(rule_of(method).method, path, json=content, headers={"x-request-id": "mine-2"})


WITH_BODY: Final = [method for method in IN_REST if rule_of(method).body]
WITH_CLOSED_QUERY: Final = [method for method in IN_REST if not surface.has_open_query(method)]
WITHOUT_BODY: Final = [method for method in IN_REST if not rule_of(method).body]
OF_ONE_THING: Final = [method for method in IN_REST if "{id}" in rule_of(method).template]


@pytest.mark.parametrize("method", PUBLIC, ids=wire_name)
def test_bytes_that_are_no_message_are_refused_as_bad_input(platform: Platform, method: MethodDescriptor) -> None:
    with platform.channel() as channel:
        call: Any = channel.unary_unary(wire_name(method))
        with pytest.raises(grpc.RpcError) as caught:
            call(NO_MESSAGE, timeout=10)

    error: Any = caught.value
    info = error_details_pb2.ErrorInfo()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert any(detail.Unpack(info) for detail in rpc_status.from_call(error).details)
    assert info.reason == "MALFORMED_REQUEST"


@pytest.mark.parametrize("method", WITH_CLOSED_QUERY, ids=wire_name)
def test_a_key_in_the_query_that_nobody_knows_is_named(platform: Platform, method: MethodDescriptor) -> None:
    answer = ask(platform, method, f"{path_of(method)}?colour=red")

    assert answer.status_code == 400
    assert "colour" in error_of(answer)["message"]


@pytest.mark.parametrize("method", WITH_BODY, ids=wire_name)
def test_a_member_of_a_body_that_nobody_knows_is_named(platform: Platform, method: MethodDescriptor) -> None:
    answer = ask(platform, method, path_of(method), {"colour": "red"})

    assert answer.status_code == 400
    assert "colour" in error_of(answer)["message"]


@pytest.mark.parametrize("method", WITHOUT_BODY, ids=wire_name)
def test_a_body_that_nobody_asked_for_is_refused(platform: Platform, method: MethodDescriptor) -> None:
    answer = ask(platform, method, path_of(method), {})

    assert answer.status_code == 400
    assert "no body" in error_of(answer)["message"]


@pytest.mark.parametrize("method", OF_ONE_THING, ids=wire_name)
@pytest.mark.parametrize("name", ["nobody", "NO%20BODY", "%F0%9F%98%80"])
def test_a_name_that_nothing_has_is_not_found(platform: Platform, method: MethodDescriptor, name: str) -> None:
    answer = ask(platform, method, path_of(method, id=name), NEEDED.get(method.name))

    assert (answer.status_code, error_of(answer)["status"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("method", IN_REST, ids=wire_name)
def test_every_answer_carries_the_callers_request_id(platform: Platform, method: MethodDescriptor) -> None:
    assert ask(platform, method, path_of(method)).headers["x-request-id"] == "mine-2"
