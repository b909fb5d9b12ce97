"""What is sealed opens only as it was, where it was, and with its key."""

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.sealing import KEY_BYTES, Sealer, Unopenable, read_keys

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
SEALER = Sealer([OLD])
PLACE = "auth.signing_keys/1"


@given(st.binary(max_size=200), st.text())
def test_a_value_opens_as_it_was(value: bytes, place: str) -> None:
    assert SEALER.open(SEALER.seal(value, place), place) == value


@given(st.binary(max_size=40), st.data())
def test_a_value_of_which_any_bit_was_flipped_does_not_open(value: bytes, data: st.DataObject) -> None:
    sealed = bytearray(SEALER.seal(value, PLACE))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8

    with pytest.raises(Unopenable):
        SEALER.open(bytes(sealed), PLACE)


@given(st.binary(max_size=40), st.data())
def test_a_value_that_was_cut_or_lengthened_does_not_open(value: bytes, data: st.DataObject) -> None:
    sealed = SEALER.seal(value, PLACE)

    for other in (sealed[: data.draw(st.integers(0, len(sealed) - 1))], sealed + data.draw(st.binary(min_size=1, max_size=3))):
        with pytest.raises(Unopenable):
            SEALER.open(other, PLACE)


@pytest.mark.parametrize("other", ["auth.signing_keys/2", "auth.signing_keys", "", PLACE + " "])
def test_a_value_that_was_moved_to_another_place_does_not_open(other: str) -> None:
    with pytest.raises(Unopenable):
        SEALER.open(SEALER.seal(b"value", PLACE), other)


def test_a_value_of_another_key_does_not_open_and_says_why() -> None:
    with pytest.raises(Unopenable, match="not among those given"):
        Sealer([NEW]).open(SEALER.seal(b"value", PLACE), PLACE)


def test_a_key_can_be_followed_by_another() -> None:
    both = Sealer([NEW, OLD])
    old = SEALER.seal(b"value", PLACE)

    again = both.seal(both.open(old, PLACE), PLACE)

    assert (SEALER.is_current(old), both.is_current(old), both.is_current(again)) == (True, False, True)
    assert Sealer([NEW]).open(again, PLACE) == b"value"


def test_no_nonce_comes_twice_and_equal_values_do_not_look_equal() -> None:
    sealed = [SEALER.seal(b"value", PLACE) for _ in range(10_000)]

    assert len({one[8:20] for one in sealed}) == 10_000
    assert len({one[20:] for one in sealed}) == 10_000


def test_a_sealed_value_shows_neither_the_value_nor_the_key() -> None:
    sealed = SEALER.seal(b"canary-canary", PLACE)

    assert b"canary" not in sealed
    assert OLD[:8] not in sealed


@pytest.mark.parametrize("keys", [[], [b""], [os.urandom(31)], [OLD, os.urandom(33)]], ids=len)
def test_a_key_has_32_bytes(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer(keys)


@given(st.lists(st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES), min_size=1, max_size=3))
def test_keys_are_read_as_they_are_spelled(keys: list[bytes]) -> None:
    text = " , ".join(base64.b64encode(key).decode() for key in keys)

    assert read_keys(text) == keys
    assert read_keys(text + ",") == keys


@pytest.mark.parametrize(
    "text", ["", ",", "x", "secret", base64.b64encode(b"short").decode(), base64.b64encode(OLD).decode()[:-2], "é" * 44, "!" * 44]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_keys(text)
