"""JSON keeps its meaning between text and `google.protobuf.Value`, and what a value cannot hold is refused, not bent."""

import json
import math
from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2
from hypothesis import given
from hypothesis import strategies as st
from kiln.executor.v1 import executor_pb2 as pb

from libs.common.errors import FailedPrecondition, InvalidArgument
from services.executor.payload import answer_form, as_text, as_value, given_inputs, given_text

NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=20
)


def value_of(number: float) -> struct_pb2.Value:
    return struct_pb2.Value(number_value=number)


def text_of(value: struct_pb2.Value) -> bytes:
    return given_text(pb.ExecuteFunctionRequest(input=value))


# From a value to text


@given(VALUES)
def test_a_value_becomes_text_that_means_the_same(value: Any) -> None:
    text = text_of(json_format.ParseDict(value, struct_pb2.Value()))

    assert json.loads(text) == value


@pytest.mark.parametrize(
    ("number", "text"), [(1.0, b"1"), (-7.0, b"-7"), (0.5, b"0.5"), (1.1, b"1.1"), (2.0**53, b"9007199254740992"), (1e300, b"1e+300")]
)
def test_a_whole_double_is_written_without_a_fraction_wherever_it_stands(number: float, text: bytes) -> None:
    inside = json_format.ParseDict({"a": [number]}, struct_pb2.Value())

    assert text_of(value_of(number)) == text
    assert text_of(inside) == b'{"a":[' + text + b"]}"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_say_is_refused_by_the_name_of_its_field(number: float) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        text_of(struct_pb2.Value(list_value=struct_pb2.ListValue(values=[value_of(number)])))

    assert [one.field for one in refusal.value.violations] == ["input"]


def test_a_value_of_no_kind_is_null() -> None:
    assert text_of(struct_pb2.Value()) == b"null"


def test_text_is_passed_on_as_it_is() -> None:
    text = b' {"b": 1.10, "a": 18446744073709551616, "a": "\\u0000"}'

    assert given_text(pb.ExecuteFunctionRequest(input_text=text)) == text


def test_no_input_is_an_empty_object_and_an_empty_text_is_not() -> None:
    assert given_text(pb.ExecuteFunctionRequest()) == b"{}"
    assert given_text(pb.ExecuteFunctionRequest(input_text=b"")) == b""


# The inputs of a batch


def test_inputs_are_in_the_form_they_were_given_in() -> None:
    values = given_inputs(pb.ExecuteBatchRequest(inputs=[value_of(1), value_of(2)]), 2)
    texts = given_inputs(pb.ExecuteBatchRequest(input_texts=[b"1", b"[ ]"]), 2)

    assert (list(values), list(texts)) == ([value_of(1), value_of(2)], [b"1", b"[ ]"])
    assert [as_text(one) for one in [*values, *texts]] == [b"1", b"2", b"1", b"[ ]"]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (pb.ExecuteBatchRequest(), "INVALID_ARGUMENT"),
        (pb.ExecuteBatchRequest(inputs=[value_of(1)], input_texts=[b"1"]), "INVALID_ARGUMENT"),
        (pb.ExecuteBatchRequest(input_texts=[b"1"] * 3), "TOO_MANY_INPUTS"),
        (pb.ExecuteBatchRequest(inputs=[value_of(1)] * 3), "TOO_MANY_INPUTS"),
    ],
)
def test_inputs_that_are_none_or_too_many_or_of_both_forms_are_refused_by_name(request_: pb.ExecuteBatchRequest, reason: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        given_inputs(request_, 2)

    assert ([one.field for one in refusal.value.violations], refusal.value.reason) == (["inputs"], reason)


@pytest.mark.parametrize(
    ("request_", "form"),
    [
        (pb.ExecuteBatchRequest(inputs=[value_of(1)]), pb.VALUE),
        (pb.ExecuteBatchRequest(input_texts=[b"1"]), pb.TEXT),
        (pb.ExecuteBatchRequest(input_texts=[b"1"], payload_form=pb.VALUE), pb.VALUE),
        (pb.ExecuteStreamRequest(input_text=b"1"), pb.TEXT),
        (pb.ExecuteStreamRequest(input=value_of(1)), pb.VALUE),
    ],
)
def test_many_calls_are_answered_in_the_form_of_their_inputs_or_the_one_asked_for(
    request_: pb.ExecuteBatchRequest | pb.ExecuteStreamRequest, form: int
) -> None:
    assert answer_form(request_) == form


# From text to a value


@given(VALUES)
def test_text_becomes_a_value_that_means_the_same(value: Any) -> None:
    found = as_value(json.dumps(value).encode())

    assert json_format.MessageToDict(found) == value


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_what_is_not_refused_as_too_deep_can_be_read_by_clients(opening: str, closing: str) -> None:
    fitting = []

    for depth in range(1, 110):
        try:
            value = as_value((opening * depth + "1" + closing * depth).encode())
        except FailedPrecondition:
            continue
        answer = pb.ListExecutionsResponse(executions=[pb.Execution(input=value, output=value)])
        assert pb.ListExecutionsResponse.FromString(answer.SerializeToString()) == answer
        fitting.append(depth)

    assert fitting == list(range(1, len(fitting) + 1))
    assert 15 < len(fitting) < 100


@pytest.mark.parametrize(
    "text",
    [b"[" * 512 + b"]" * 512, b"1e400", b"[-1e400]", b"1" + b"0" * 400, rb'"\ud800"', rb'{"\udc00":1}', b'{"a":1,"a":2}'],
    ids=["too deep", "infinite", "negative infinite", "a long integer", "half a pair", "half a pair as a name", "a name twice"],
)
def test_what_a_value_cannot_hold_is_refused_with_the_way_out(text: bytes) -> None:
    with pytest.raises(FailedPrecondition, match="payloadForm TEXT") as refusal:
        as_value(text)

    assert refusal.value.reason == "UNFIT_FOR_VALUE"


# The form of an answer


@pytest.mark.parametrize(
    ("request_", "form"),
    [
        (pb.ExecuteFunctionRequest(), pb.VALUE),
        (pb.ExecuteFunctionRequest(input=value_of(1)), pb.VALUE),
        (pb.ExecuteFunctionRequest(input_text=b"1"), pb.TEXT),
        (pb.ExecuteFunctionRequest(input_text=b"1", payload_form=pb.VALUE), pb.VALUE),
        (pb.ExecuteFunctionRequest(input=value_of(1), payload_form=pb.TEXT), pb.TEXT),
    ],
)
def test_an_answer_has_the_form_that_was_asked_for_else_that_of_its_input(
    request_: pb.ExecuteFunctionRequest, form: "pb.PayloadForm"
) -> None:
    assert answer_form(request_) == form
