"""An error stays itself on its way through gRPC, and HTTP has a status for every one."""

from collections.abc import Iterator

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from libs.common import errors
from libs.common.errors import InvalidArgument, KilnError, NotFound, ResourceExhausted, Unavailable, Violation
from libs.common.status import HTTP_BY_REASON, TABLE, code_of, from_proto, http_status, to_proto

SUCCESSES = {grpc.StatusCode.OK}
# What Kiln never says by itself, but a proxy or an old server might.
FOREIGN_CODES = sorted(set(grpc.StatusCode) - SUCCESSES - {code for _, code, _ in TABLE}, key=str)


def kinds(base: type[KilnError] = KilnError) -> Iterator[type[KilnError]]:
    """Every class of error below one."""
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)


ALL_KINDS = list(kinds())
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
REASONS = st.from_regex(r"[A-Z][A-Z0-9_]{0,40}", fullmatch=True)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_error_has_a_grpc_code_and_an_http_status(kind: type[KilnError]) -> None:
    error = kind("gone wrong")

    assert code_of(error) not in SUCCESSES
    assert 400 <= http_status(error) < 600


def test_the_table_names_every_error_and_every_code_once() -> None:
    assert sorted(kind.__name__ for kind, _, _ in TABLE) == sorted(kind.__name__ for kind in ALL_KINDS)
    assert len({code for _, code, _ in TABLE}) == len(TABLE)


def test_the_tree_of_errors_is_drawn_in_full() -> None:
    assert errors.__doc__
    assert [kind.__name__ for kind in ALL_KINDS if kind.__name__ not in errors.__doc__] == []


def test_client_faults_are_never_server_errors_and_the_other_way_round() -> None:
    platform = {errors.Internal, errors.Unimplemented, errors.Unavailable, errors.DeadlineExceeded}

    assert {kind for kind, _, http in TABLE if http >= 500} == platform


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_error_comes_back_as_the_same_class(kind: type[KilnError]) -> None:
    returned = from_proto(to_proto(kind("gone wrong"), "request"))

    assert type(returned) is kind
    assert returned.message == "gone wrong"
    assert returned.reason == kind.default_reason


@given(TEXT, REASONS, st.dictionaries(TEXT, TEXT), st.none() | st.integers(0, 10**7))
def test_reason_metadata_and_retry_delay_survive(message: str, reason: str, metadata: dict[str, str], milliseconds: int | None) -> None:
    delay = None if milliseconds is None else milliseconds / 1000
    error = Unavailable(message, reason=reason, metadata=metadata, retry_after=delay)

    returned = from_proto(to_proto(error, "request"))

    assert (returned.message, returned.reason, returned.metadata) == (message, reason, metadata)
    assert returned.retry_after == (None if delay is None else pytest.approx(delay, abs=1e-6))


@given(st.lists(st.builds(Violation, TEXT, TEXT)))
def test_bad_fields_survive(violations: list[Violation]) -> None:
    returned = from_proto(to_proto(InvalidArgument("bad", violations=violations), "request"))

    assert isinstance(returned, InvalidArgument)
    assert returned.violations == tuple(violations)


def test_a_bad_field_is_named_in_the_message_too() -> None:
    assert InvalidArgument.of("name", "is too long").message == "name: is too long"


def test_each_detail_is_sent_at_most_once() -> None:
    error = ResourceExhausted("slow down", retry_after=2)

    kinds_sent = [detail.TypeName() for detail in to_proto(error, "request").details]

    assert sorted(kinds_sent) == ["google.rpc.ErrorInfo", "google.rpc.RequestInfo", "google.rpc.RetryInfo"]


def test_the_request_id_travels_with_the_error() -> None:
    status = to_proto(NotFound("gone"), "request-7")
    told = error_details_pb2.RequestInfo()

    assert any(detail.Unpack(told) for detail in status.details)
    assert told.request_id == "request-7"


@pytest.mark.parametrize("code", FOREIGN_CODES)
def test_codes_that_are_not_ours_become_internal(code: grpc.StatusCode) -> None:
    number: int = code.value[0]

    assert type(from_proto(status_pb2.Status(code=number, message="odd"))) is errors.Internal


def test_a_number_that_is_no_code_becomes_internal() -> None:
    assert type(from_proto(status_pb2.Status(code=4711, message="odd"))) is errors.Internal


def test_an_error_without_details_keeps_its_class_and_the_default_reason() -> None:
    returned = from_proto(status_pb2.Status(code=5, message="gone"))

    assert type(returned) is NotFound
    assert returned.reason == "NOT_FOUND"


@pytest.mark.parametrize(("reason", "expected"), HTTP_BY_REASON.items())
def test_a_reason_with_a_better_http_status_gets_it_for_client_faults_only(reason: str, expected: int) -> None:
    assert http_status(InvalidArgument("no", reason=reason)) == expected
    assert 400 <= expected < 500
