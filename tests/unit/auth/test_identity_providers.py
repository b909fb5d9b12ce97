"""Identity providers in the settings: what is taken, and what stops the start with a word that helps."""

import json
from typing import Any

import pytest

from libs.common.settings import InvalidSettings, load
from services.auth.identity_providers import read_providers
from services.auth.settings import Settings

SECRET = "canary-of-a-secret"


def acme(**fields: Any) -> dict[str, Any]:
    given = {"id": "acme", "issuer": "https://id.acme.example", "clientId": "kiln", "clientSecret": SECRET} | fields
    return {name: value for name, value in given.items() if value is not None}


def test_a_provider_needs_a_name_an_issuer_and_a_client() -> None:
    (provider,) = read_providers(json.dumps([acme()]))

    assert (provider.shown, provider.scopes, provider.audience, provider.name_claim) == (
        "acme",
        ("openid", "profile", "email"),
        "",
        "preferred_username",
    )
    assert SECRET not in repr(provider)
    assert SECRET not in str(provider)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("x", "in JSON"),
        ("{}", "a list"),
        ([1], r"^\[0\]"),
        ([acme(id=None)], r"^\[0\]\.id: "),
        ([acme(id="Acme/..")], r"^\[0\]\.id: "),
        ([acme(), acme(id="b", issuer="http://id.example.com")], r"^\[1\]\.issuer: .*https"),
        ([acme(issuer="https://id.example.com?x=1")], "issuer"),
        ([acme(issuer="https://user@id.example.com")], "issuer"),
        ([acme(issuer="ftp://id.example.com")], "issuer"),
        ([acme(issuer="")], "issuer"),
        ([acme(clientId=None)], "clientId or audience"),
        ([acme(audience=acme()["clientId"])], "audience must be another than clientId"),
        ([acme(clientID="x")], r"clientID: "),
        ([acme(scopes=["email"])], "scopes.*openid"),
        ([acme(scopes="openid")], "scopes"),
        ([acme(adminValues=["a"])], "roleClaim and adminValues"),
        ([acme(roleClaim="a")], "roleClaim and adminValues"),
        ([acme(requireVerifiedEmail="perhaps")], "requireVerifiedEmail"),
        ([acme(), acme(issuer="https://b.example")], "same id"),
        ([acme(), acme(id="b")], "same issuer"),
        ([acme(id=f"p{number}", issuer=f"https://{number}.example") for number in range(21)], "at most 20"),
    ],
    ids=str,
)
def test_a_provider_that_is_not_right_is_named_with_its_field_and_without_any_value(given: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        read_providers(given if isinstance(given, str) else json.dumps(given))

    assert SECRET not in str(caught.value)


def start(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    required = {
        "KILN_DATABASE_URL": "postgresql://x",
        "KILN_SERVICE_SECRET": "x" * 32,
        "KILN_SEALING_KEY": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    }
    for name, value in (required | variables).items():
        monkeypatch.setenv(name, value)
    return load(Settings)


def test_settings_have_the_providers_and_no_representation_has_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = start(monkeypatch, KILN_AUTH_OIDC=json.dumps([acme()]), KILN_AUTH_PUBLIC_URL="https://kiln.example.com")

    assert settings.providers[0].client_secret
    assert settings.providers[0].client_secret.get_secret_value() == SECRET
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"KILN_AUTH_OIDC": "[{}]"}, r"^KILN_AUTH_OIDC: \[0\]\.id: "),
        ({"KILN_AUTH_OIDC": json.dumps([acme()])}, "KILN_AUTH_PUBLIC_URL must be set"),
        ({"KILN_AUTH_PUBLIC_URL": "http://kiln.example.com"}, "^KILN_AUTH_PUBLIC_URL: must be an https URL"),
        ({"KILN_AUTH_PUBLIC_URL": "https://example.com/kiln"}, "^KILN_AUTH_PUBLIC_URL: must end behind its host and port"),
    ],
    ids=str,
)
def test_a_start_that_cannot_go_well_says_why(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str) -> None:
    with pytest.raises(InvalidSettings, match=named) as caught:
        start(monkeypatch, **variables)

    assert SECRET not in str(caught.value)


def test_programs_need_no_public_url(monkeypatch: pytest.MonkeyPatch) -> None:
    assert start(monkeypatch, KILN_AUTH_OIDC=json.dumps([acme(clientId=None, audience="kiln")])).providers
