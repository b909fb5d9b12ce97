"""What URLs are safe."""

import pytest

from libs.common.urls import is_safe_url


@pytest.mark.parametrize(
    "url",
    ["https://id.example.com", "https://id.example.com:8443/realms/a/", "http://127.0.0.1:9400", "http://[::1]:1", "http://localhost"],
)
def test_https_is_safe_anywhere_and_http_on_this_machine(url: str) -> None:
    assert is_safe_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example.com",
        "http://127.0.0.1.example.com",
        "https://",
        "https://a b",
        "https://a\n",
        "https://é",
        "//a",
        "https://a:x",
        "http://[::2]",
        "",
    ],
)
def test_nothing_else_is(url: str) -> None:
    assert not is_safe_url(url)
