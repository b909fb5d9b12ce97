"""Tokens of somebody else's are told from Kiln's own and from nonsense without asking anyone."""

import base64

import jwt
import pytest

from libs.common.access.credentials import Kind, new_credential
from libs.common.access.exchange import is_exchanged
from libs.common.access.foreign_tokens import MAX_BYTES, foreign_issuer
from libs.common.access.service_tokens import ServiceTokens
from tests.support.access import SERVICE_SECRET, Signer

ISSUER = "https://id.example.com"


def token(**claims: object) -> str:
    return jwt.encode(claims, "a secret of thirty-two characters", algorithm="HS256")


def test_a_token_says_who_it_is_of_whatever_it_is_signed_with() -> None:
    for text in (token(iss=ISSUER), token(iss=ISSUER).rpartition(".")[0] + ".", "x." + token(iss=ISSUER).split(".")[1] + ".x"):
        assert foreign_issuer(text) == ISSUER
        assert is_exchanged(text)


@pytest.mark.parametrize("text", [Signer().token(), ServiceTokens(SERVICE_SECRET, "gateway").own()], ids=["access token", "service token"])
def test_kilns_own_tokens_are_not_foreign(text: str) -> None:
    assert foreign_issuer(text) is None
    assert not is_exchanged(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "..",
        "a.b.c",
        "é.é.é",
        "a.é.c",
        "a." + base64.urlsafe_b64encode(b"[1]").decode() + ".c",
        "a." + base64.urlsafe_b64encode(b"{").decode() + ".c",
        "a." + base64.urlsafe_b64encode(b'{"iss": "\xff"}').decode() + ".c",
        "a." + base64.urlsafe_b64encode(b"[" * 5000).decode() + ".c",
        token(),
        token(iss=""),
        token(iss=ISSUER) + ".",
        token(iss=ISSUER, more="x" * MAX_BYTES),
    ],
    ids=len,
)
def test_what_is_no_token_of_anybodys_is_not_foreign(text: str) -> None:
    assert foreign_issuer(text) is None


def test_a_megabyte_of_dots_is_told_at_once() -> None:
    assert foreign_issuer("." * (1 << 20)) is None


def test_kilns_credentials_are_exchanged_too() -> None:
    assert is_exchanged(new_credential(Kind.API_KEY).text)
    assert not is_exchanged("x")
