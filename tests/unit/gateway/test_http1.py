"""Heads of requests that two readers could understand differently."""

import pytest

from services.gateway.http1 import fault_of_head

HOST = (b"host", b"kiln")


@pytest.mark.parametrize(
    "headers",
    [
        [HOST],
        [HOST, (b"content-length", b"0")],
        [HOST, (b"content-length", b"1000")],
        [HOST, (b"transfer-encoding", b"chunked")],
        [HOST, (b"transfer-encoding", b"Chunked")],
    ],
)
def test_a_plain_head_passes(headers: list[tuple[bytes, bytes]]) -> None:
    assert fault_of_head("1.1", headers, 1000) is None


@pytest.mark.parametrize(
    ("version", "headers", "word"),
    [
        ("0.9", [], "HTTP/0.9"),
        ("2.0", [HOST], "HTTP/2.0"),
        ("1.1", [], "Host"),
        ("1.1", [HOST, (b"host", b"other")], "Host"),
        ("1.0", [HOST, HOST], "Host"),
        ("1.1", [HOST, (b"content-length", b"5"), (b"transfer-encoding", b"chunked")], "transfer coding"),
        ("1.1", [HOST, (b"transfer-encoding", b"identity, chunked")], "transfer coding"),
        ("1.1", [HOST, (b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")], "transfer coding"),
        ("1.1", [HOST, (b"transfer-encoding", b"xchunked")], "transfer coding"),
        ("1.1", [HOST, (b"transfer-encoding", b"gzip")], "transfer coding"),
        ("1.0", [HOST, (b"transfer-encoding", b"chunked")], "transfer coding"),
        ("1.1", [HOST, (b"content-length", b"5"), (b"content-length", b"5")], "Content-Length"),
        ("1.1", [HOST, (b"content-length", b"+5")], "Content-Length"),
        ("1.1", [HOST, (b"content-length", b"-5")], "Content-Length"),
        ("1.1", [HOST, (b"content-length", b"5, 5")], "Content-Length"),
        ("1.1", [HOST, (b"content-length", b"0x5")], "Content-Length"),
        ("1.1", [HOST, (b"content-length", b"")], "Content-Length"),
        ("1.1", [HOST, (b"content-length", b"9" * 19)], "Content-Length"),
        ("1.1", [HOST, (b"content-length", b"1001")], "larger"),
    ],
)
def test_a_head_with_two_meanings_is_refused(version: str, headers: list[tuple[bytes, bytes]], word: str) -> None:
    fault = fault_of_head(version, headers, 1000)

    assert fault
    assert word in fault.message
