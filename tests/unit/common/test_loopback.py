"""Which addresses are this machine's own to itself and nobody else's."""

import pytest

from libs.common.loopback import is_loopback, is_loopback_authority

HERE = ["localhost", "LOCALHOST", "127.0.0.1", "127.255.0.9", "[::1]"]
ELSEWHERE = [
    "",
    "kiln.example",
    "localhost.",
    "localhost.kiln.example",
    "10.0.0.1",
    "0.0.0.0",
    "[::]",
    "[fe80::1]",
    "127.0.0.1.kiln.example",
]


@pytest.mark.parametrize("host", HERE)
def test_what_is_reached_from_here_alone(host: str) -> None:
    assert is_loopback(f"{host}:8080")
    assert is_loopback_authority(host)
    assert is_loopback_authority(f"{host}:8080")


@pytest.mark.parametrize("host", ELSEWHERE)
def test_what_others_reach_or_may_name(host: str) -> None:
    assert not is_loopback(f"{host}:8080")
    assert not is_loopback_authority(host)
    assert not is_loopback_authority(f"{host}:8080")


@pytest.mark.parametrize("authority", ["x@localhost", "localhost:80:80", "localhost:x", "[localhost", "::1:80", "localhost,localhost", " "])
def test_what_is_no_authority_is_nowhere(authority: str) -> None:
    assert not is_loopback_authority(authority)
