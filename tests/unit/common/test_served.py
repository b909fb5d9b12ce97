"""Where a call comes from: as the gateway says of what it carries, and of others as the connection does."""

from dataclasses import dataclass

import pytest
from kiln.carrier.v1 import carrier_pb2

from libs.common.carried import Context
from libs.common.carrier import called
from libs.common.served import address_of, agent_of

SAID = (("x-kiln-caller-address", "2001:db8::1"), ("x-kiln-caller-agent", "a browser"))


@dataclass(frozen=True)
class Direct:
    """A call on a connection of its own."""

    said: tuple[tuple[str, str | bytes], ...]
    connection: str = "ipv4:192.0.2.1:4711"

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """What was sent along."""
        return self.said

    def peer(self) -> str:
        """Who is at the other end."""
        return self.connection


def test_a_direct_caller_is_where_its_connection_is_whatever_it_says() -> None:
    call = Direct((*SAID, ("user-agent", "grpc"), ("other-bin", b"x")))

    assert (address_of(call), agent_of(call)) == ("192.0.2.1", "grpc")


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:1", "127.0.0.1"),
        ("ipv6:[::1]:1", "::1"),
        ("ipv6:%5B2001:db8::1%5D:443", "2001:db8::1"),
        ("unix:/run/kiln", ""),
        ("unknown", ""),
        ("", ""),
    ],
)
def test_a_connection_tells_the_address(peer: str, address: str) -> None:
    assert address_of(Direct((), peer)) == address


def test_a_caller_whose_call_is_carried_is_where_the_gateway_says() -> None:
    call = Context(called(1, "", b"", 1, (*SAID, ("user-agent", "gateway"))))

    assert (address_of(call), agent_of(call)) == ("2001:db8::1", "a browser")
    assert (address_of(Context(carrier_pb2.Call())), agent_of(Context(carrier_pb2.Call()))) == ("", "")
