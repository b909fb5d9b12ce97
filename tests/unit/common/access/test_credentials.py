"""API keys and session tokens are told from anything else by their form alone."""

import zlib
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from libs.common.access.credentials import Credential, Kind, looks_like_credential, new_credential, parse_credential

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
KINDS = st.sampled_from(list(Kind))
CREDENTIALS = st.builds(Credential, KINDS, st.uuids(), st.text(ALPHABET, min_size=33, max_size=33))
ANY_CHARACTER = st.one_of(st.sampled_from(ALPHABET + "_"), st.characters())


@given(CREDENTIALS)
def test_a_credential_is_read_as_it_was_written(credential: Credential) -> None:
    assert parse_credential(credential.text) == credential
    assert looks_like_credential(credential.text)


@given(CREDENTIALS, st.data(), ANY_CHARACTER)
def test_any_one_changed_character_is_refused(credential: Credential, data: st.DataObject, other: str) -> None:
    text = credential.text
    place = data.draw(st.integers(0, len(text) - 1))
    assume(text[place] != other)

    assert parse_credential(text[:place] + other + text[place + 1 :]) is None


@given(CREDENTIALS, st.data())
def test_a_credential_that_was_cut_or_lengthened_is_refused(credential: Credential, data: st.DataObject) -> None:
    text = credential.text
    cut = data.draw(st.integers(0, len(text) - 1))
    more = data.draw(st.text(min_size=1, max_size=5))

    assert parse_credential(text[:cut]) is None
    assert parse_credential(text + more) is None
    assert parse_credential(more + text) is None


@given(CREDENTIALS, st.data())
def test_two_characters_that_changed_places_are_refused(credential: Credential, data: st.DataObject) -> None:
    text = credential.text
    place = data.draw(st.integers(0, len(text) - 2))
    assume(text[place] != text[place + 1])

    assert parse_credential(text[:place] + text[place + 1] + text[place] + text[place + 2 :]) is None


@given(st.text())
def test_what_nobody_made_is_refused(text: str) -> None:
    assert parse_credential(text) is None


@given(CREDENTIALS)
def test_a_credential_of_one_kind_is_none_of_another(credential: Credential) -> None:
    other = Kind.SESSION if credential.kind is Kind.API_KEY else Kind.API_KEY

    assert parse_credential(credential.text.replace(f"{credential.kind}_", f"{other}_", 1)) is None


@given(CREDENTIALS)
def test_nothing_stands_in_a_credential_but_letters_digits_and_two_underscores(credential: Credential) -> None:
    prefix, *rest = credential.text.split("_")

    assert prefix == credential.kind
    assert [len(part) for part in rest] == [22, 33 + 6]
    assert set("".join(rest)) <= set(ALPHABET)


@given(CREDENTIALS)
def test_no_representation_has_the_secret(credential: Credential) -> None:
    assert credential.secret not in repr(credential)
    assert credential.secret not in str(credential)
    assert credential.secret not in f"{[credential]}"
    assert credential.text not in f"{credential!r}"


def test_an_id_that_no_uuid_has_is_refused_whatever_its_checksum() -> None:
    # 22 characters hold more than 128 bits; such a text has a checksum as good as any.
    largest = Credential(Kind.API_KEY, UUID(int=(1 << 128) - 1), "0" * 33)
    assert parse_credential(largest.text) == largest

    too_large = _with_id("z" * 22)

    assert parse_credential(too_large) is None


@pytest.mark.parametrize("secret", ["", "0" * 32, "0" * 34, "0" * 32 + "_", "0" * 32 + "é"])
def test_a_secret_of_another_form_is_refused_whatever_its_checksum(secret: str) -> None:
    assert parse_credential(_with_id("0" * 22)) is not None

    assert parse_credential(_with_id("0" * 22, secret)) is None


@pytest.mark.parametrize("kind", list(Kind))
def test_no_two_are_alike(kind: Kind) -> None:
    made = [new_credential(kind) for _ in range(1000)]

    assert len({one.id for one in made}) == len({one.secret for one in made}) == len({one.digest for one in made}) == 1000
    assert all(parse_credential(one.text) == one for one in made)


@given(CREDENTIALS, CREDENTIALS)
def test_only_the_digest_of_its_own_secret_matches(one: Credential, other: Credential) -> None:
    assume(one.secret != other.secret)

    assert one.matches(one.digest)
    assert not one.matches(other.digest)
    assert not one.matches(b"")
    assert one.secret.encode() not in one.digest


@pytest.mark.parametrize("text", ["", "kiln", "kilnsession", "kilns_x", "Kiln_x", " kiln_x", "eyJhbGciOiJFZERTQSJ9.e30.x", "_kiln_"])
def test_what_does_not_begin_as_a_credential_does_not_look_like_one(text: str) -> None:
    assert not looks_like_credential(text)


def _with_id(identity: str, secret: str = "0" * 33) -> str:
    """A text with the right checksum."""
    body = f"kiln_{identity}_{secret}"
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = ALPHABET[digit] + digits
    return body + digits
