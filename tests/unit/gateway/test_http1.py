"""Heads of requests that two readers could understand differently."""

import pytest

from libs.common.errors import KilnError
from services.gateway.exchange import Header
from services.gateway.heads import check

HOST = ("host", "kiln")


def check_lines(version: str, lines: list[Header]) -> None:
    names = [name for name, _ in lines]
    check(version, dict(reversed(lines)), [name for at, name in enumerate(names) if name in names[:at]], 1000)


@pytest.mark.parametrize(
    "headers",
    [
        [HOST],
        [HOST, ("content-length", "0")],
        [HOST, ("content-length", "1000")],
        [HOST, ("transfer-encoding", "chunked")],
        [HOST, ("transfer-encoding", "Chunked")],
    ],
)
def test_a_plain_head_passes(headers: list[Header]) -> None:
    check_lines("1.1", headers)


@pytest.mark.parametrize(
    ("version", "headers", "word"),
    [
        ("0.9", [], "HTTP/0.9"),
        ("2.0", [HOST], "HTTP/2.0"),
        ("1.1", [], "Host"),
        ("1.1", [HOST, ("host", "other")], "Host"),
        ("1.0", [HOST, HOST], "Host"),
        ("1.1", [HOST, ("content-length", "5"), ("transfer-encoding", "chunked")], "transfer coding"),
        ("1.1", [HOST, ("transfer-encoding", "identity, chunked")], "transfer coding"),
        ("1.1", [HOST, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], "transfer coding"),
        ("1.1", [HOST, ("transfer-encoding", "xchunked")], "transfer coding"),
        ("1.1", [HOST, ("transfer-encoding", "gzip")], "transfer coding"),
        ("1.0", [HOST, ("transfer-encoding", "chunked")], "transfer coding"),
        ("1.1", [HOST, ("content-length", "5"), ("content-length", "5")], "Content-Length"),
        ("1.1", [HOST, ("content-length", "+5")], "Content-Length"),
        ("1.1", [HOST, ("content-length", "-5")], "Content-Length"),
        ("1.1", [HOST, ("content-length", "5, 5")], "Content-Length"),
        ("1.1", [HOST, ("content-length", "0x5")], "Content-Length"),
        ("1.1", [HOST, ("content-length", "")], "Content-Length"),
        ("1.1", [HOST, ("content-length", "9" * 19)], "Content-Length"),
        ("1.1", [HOST, ("content-length", "1001")], "larger"),
    ],
)
def test_a_head_with_two_meanings_is_refused(version: str, headers: list[Header], word: str) -> None:
    with pytest.raises(KilnError) as caught:
        check_lines(version, headers)

    assert word in caught.value.message
