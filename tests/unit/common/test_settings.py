"""The environment is understood in full, or the start stops with a word that helps."""

import os
from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from libs.common.settings import SERVICES, SHARED, DatabaseSettings, InvalidSettings, load, variables_of

SECRET = "postgresql://kiln:not-to-be-shown@localhost/kiln"
SERVICE_SECRET = "not-to-be-shown-either-and-long-enough"


class RegistryLike(DatabaseSettings):
    """Settings of a service with some of its own."""

    registry_poll_seconds: float = Field(1, gt=0)
    registry_token: SecretStr = SecretStr("")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a registry must be told, and nothing else."""
    for name in [one for one in os.environ if one.startswith("KILN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KILN_DATABASE_URL", SECRET)
    monkeypatch.setenv("KILN_LISTEN_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("KILN_SERVICE_SECRET", SERVICE_SECRET)


def refusal() -> str:
    with pytest.raises(InvalidSettings) as caught:
        load(RegistryLike)
    return str(caught.value)


def test_settings_are_read_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KILN_REGISTRY_POLL_SECONDS", "2.5")

    settings = load(RegistryLike)

    assert settings.registry_poll_seconds == 2.5
    assert settings.database_url.get_secret_value() == SECRET


def test_variables_of_others_than_kiln_are_let_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KILNED", "1")
    monkeypatch.setenv("REGISTRY_POLL_SECOND", "1")

    load(RegistryLike)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("KILN_REGISTRY_POLL_SECOND", "KILN_REGISTRY_POLL_SECONDS"),
        ("KILN_DATABSE_URL", "KILN_DATABASE_URL"),
        ("KILN_LOGLEVEL", "KILN_LOG_LEVEL"),
        ("KILN_DATABSE_URL_FILE", "KILN_DATABASE_URL"),
    ],
)
def test_an_unknown_variable_is_refused_and_the_one_meant_is_named(monkeypatch: pytest.MonkeyPatch, typed: str, meant: str) -> None:
    monkeypatch.setenv(typed, "1")

    assert refusal() == f"{typed}: no such setting; did you mean {meant}?"


def test_an_unknown_variable_that_resembles_none_is_refused_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KILN_XYZZY", "1")

    assert refusal() == "KILN_XYZZY: no such setting"


@pytest.mark.parametrize("service", [one for one in SERVICES if one != "registry"])
def test_another_services_own_variables_are_let_pass(monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    monkeypatch.setenv(f"KILN_{service.upper()}_ANYTHING", "1")
    monkeypatch.setenv(f"KILN_{service.upper()}_ANYTHING_FILE", "/nowhere")

    load(RegistryLike)


@pytest.mark.parametrize("variable", sorted(SHARED - {"KILN_DATABASE_URL", "KILN_LISTEN_ADDRESS"} - set(variables_of(RegistryLike))))
def test_shared_variables_that_this_service_does_not_read_are_let_pass(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "anything")

    load(RegistryLike)


def test_a_secret_comes_from_a_file_without_the_newline_at_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://from-a-file\n")
    monkeypatch.setenv("KILN_DATABASE_URL_FILE", str(file))
    monkeypatch.delenv("KILN_DATABASE_URL")

    assert load(RegistryLike).database_url.get_secret_value() == "postgresql://from-a-file"


def test_a_file_goes_before_the_variable_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://from-a-file")
    monkeypatch.setenv("KILN_DATABASE_URL_FILE", str(file))

    assert load(RegistryLike).database_url.get_secret_value() == "postgresql://from-a-file"


def test_a_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KILN_DATABASE_URL_FILE", str(tmp_path / "missing"))

    assert "missing" in refusal()


def test_a_file_that_is_no_text_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "binary"
    file.write_bytes(b"\xff\xfe\x00")
    monkeypatch.setenv("KILN_DATABASE_URL_FILE", str(file))

    assert "binary" in refusal()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("KILN_REGISTRY_POLL_SECONDS", "soon"),
        ("KILN_REGISTRY_POLL_SECONDS", "0"),
        ("KILN_REGISTRY_POLL_SECONDS", "nan"),
        ("KILN_LOG_LEVEL", "loud"),
        ("KILN_MAX_CONCURRENT_CALLS", "-1"),
        ("KILN_MAX_CONCURRENT_CALLS", ""),
    ],
)
def test_a_bad_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)

    assert refusal().startswith(f"{variable}: ")


def test_every_bad_value_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KILN_REGISTRY_POLL_SECONDS", "soon")
    monkeypatch.setenv("KILN_DRAIN_SECONDS", "later")

    message = refusal()

    assert "KILN_REGISTRY_POLL_SECONDS" in message
    assert "KILN_DRAIN_SECONDS" in message


def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KILN_DATABASE_URL")

    assert refusal() == "KILN_DATABASE_URL: Field required"


@pytest.mark.parametrize("secret", [None, "short", "x" * 31])
def test_without_a_secret_of_the_services_nothing_starts_unless_auth_is_off(monkeypatch: pytest.MonkeyPatch, secret: str | None) -> None:
    if secret is None:
        monkeypatch.delenv("KILN_SERVICE_SECRET")
    else:
        monkeypatch.setenv("KILN_SERVICE_SECRET", secret)

    assert refusal() == "KILN_SERVICE_SECRET must have 32 characters or more, unless KILN_AUTH is off"

    monkeypatch.setenv("KILN_AUTH", "off")
    assert load(RegistryLike).auth == "off"


def test_a_refusal_and_the_settings_themselves_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not-to-be-shown" not in repr(load(RegistryLike))

    monkeypatch.setenv("KILN_DRAIN_SECONDS", "later")

    assert "not-to-be-shown" not in refusal()


def test_settings_do_not_change_once_read() -> None:
    settings = load(RegistryLike)

    with pytest.raises(ValueError, match="frozen"):
        settings.log_level = "debug"
