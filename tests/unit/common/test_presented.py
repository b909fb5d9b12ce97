"""What calls present is sent once on a connection, and no call is ever taken for one that presents something else."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from kiln.carrier.v1 import carrier_pb2 as pb

from libs.common import carrier
from libs.common.carried import Presented
from libs.common.carrier import Numbers
from libs.common.frames import MAX_PRESENTED


def sent(numbers: Numbers, authorization: str) -> pb.Call:
    """A call as it goes over the connection."""
    call = pb.Call()
    if authorization:
        numbers.present(call, authorization)
    return pb.Call.FromString(call.SerializeToString())


@given(st.lists(st.sampled_from(["", *(f"Bearer {number}" for number in range(8))]), max_size=60))
def test_each_call_presents_what_it_does_however_many_there_are(presented: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(carrier, "MAX_PRESENTED", 3)
        numbers, there = Numbers(), Presented()

        calls = [sent(numbers, authorization) for authorization in presented]

        assert [there.by(call) for call in calls] == presented
        assert {call.authorization for call in calls} <= {0, 1, 2, 3}


def test_it_is_sent_in_full_once() -> None:
    numbers = Numbers()

    calls = [sent(numbers, f"Bearer {number % 2}") for number in range(6)]

    assert [call.authorization_value for call in calls] == ["Bearer 0", "Bearer 1", "", "", "", ""]
    assert [call.authorization for call in calls] == [1, 2, 1, 2, 1, 2]


@pytest.mark.parametrize(
    "call",
    [pb.Call(authorization=1), pb.Call(authorization=MAX_PRESENTED + 1, authorization_value="Bearer x"), pb.Call(authorization=2**32 - 1)],
    ids=["nothing", "too many", "far too many"],
)
def test_a_number_that_stands_for_nothing_is_no_message(call: pb.Call) -> None:
    with pytest.raises(DecodeError):
        Presented().by(call)
