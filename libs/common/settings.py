"""Settings: `KILN_*` environment variables, read once, in a service's `__main__`.

A service's own settings are named `KILN_<SERVICE>_<NAME>`, those that several share `KILN_<NAME>`. A secret may come from a file instead:
`KILN_<NAME>_FILE`. A variable that nobody knows stops the start and says which one was probably meant.
"""

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.common.sealing import read_keys
from libs.common.urls import is_safe_url

SERVICES: Final = ("gateway", "registry", "compiler", "executor", "auth")
PREFIX: Final = "KILN_"

# Variables that more than one process reads, or that only the all-in-one run reads. Every other one belongs to a service.
SHARED: Final = frozenset(
    {
        "KILN_HOME",
        "KILN_HTTP_ADDRESS",
        "KILN_GRPC_ADDRESS",
        "KILN_DATABASE_URL",
        "KILN_LOG_LEVEL",
        "KILN_DRAIN_SECONDS",
        "KILN_LISTEN_ADDRESS",
        "KILN_MAX_CONCURRENT_CALLS",
        "KILN_REGISTRY_ADDRESS",
        "KILN_COMPILER_ADDRESS",
        "KILN_EXECUTOR_ADDRESS",
        "KILN_AUTH",
        "KILN_AUTH_ADDRESS",
        "KILN_AUTH_GRACE_SECONDS",
        "KILN_AUTH_PUBLIC_URL",
        "KILN_SERVICE_SECRET",
        "KILN_SEALING_KEY",
        "KILN_TLS_CERT_FILE",
        "KILN_TLS_KEY_FILE",
    }
)

MIN_SECRET_BYTES: Final = 32

Model = TypeVar("Model", bound=BaseSettings)


class InvalidSettings(Exception):
    """The environment does not hold usable settings; the message says which variable and why."""


class ProcessSettings(BaseSettings):
    """What every process reads."""

    model_config = SettingsConfigDict(frozen=True, env_prefix=PREFIX, extra="ignore")

    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Least level that is logged.")
    drain_seconds: float = Field(10, gt=0, description="How long calls in flight may take to end when a service stops.")
    max_concurrent_calls: int = Field(1000, gt=0, description="Calls one server works on at once; more are refused.")
    auth: Literal["on", "off"] = Field(
        "on", description="`off` lets everyone do everything, and is for a laptop: Kiln then listens on loopback addresses alone."
    )
    auth_address: str = Field("127.0.0.1:50052", description="Where the auth service is, as `host:port`.")
    auth_grace_seconds: float = Field(
        120, gt=0, description="How long callers that were seen are served once the auth service cannot be heard any more."
    )
    service_secret: SecretStr | None = Field(
        None, description="What Kiln's services prove themselves by to each other: 32 random characters or more, the same for all of them."
    )

    @model_validator(mode="after")
    def _has_secret(self) -> Self:
        if self.auth == "on" and (self.service_secret is None or len(self.service_secret.get_secret_value()) < MIN_SECRET_BYTES):
            raise ValueError(f"KILN_SERVICE_SECRET must have {MIN_SECRET_BYTES} characters or more, unless KILN_AUTH is off")
        return self


class ServiceSettings(ProcessSettings):
    """What every service behind the gateway reads besides."""

    listen_address: str = Field(description="Where the service's gRPC server listens.")


class DatabaseSettings(ServiceSettings):
    """What every service with a database reads besides."""

    database_url: SecretStr = Field(description="`postgresql://user:password@host:port/database`.")


class SealingSettings(DatabaseSettings):
    """What every service that keeps secrets there reads besides."""

    sealing_key: SecretStr = Field(
        description="What secrets in the database are sealed with: base64 of 32 random bytes, the same for all services. For another key: "
        "the old one, a comma, and the new one, until every process has both; then the new one first, until what the old one has sealed is "
        "sealed again, which takes a minute; then the new one alone.",
    )

    @field_validator("sealing_key")
    @classmethod
    def _are_keys(cls, text: SecretStr) -> SecretStr:
        read_keys(text.get_secret_value())
        return text


class PublicUrlSettings(BaseSettings):
    """What those read who must know where browsers find Kiln."""

    model_config = SettingsConfigDict(frozen=True, env_prefix=PREFIX, extra="ignore")

    auth_public_url: str = Field(
        "",
        description="Where browsers find Kiln, for instance `https://kiln.example.com`. Identity providers send browsers back to "
        "`/auth/oidc/<id>/callback` there; of https, cookies travel by TLS alone, also where a proxy in front of the gateway speaks that. "
        "`make run` knows it where it serves a loopback address.",
    )

    @field_validator("auth_public_url")
    @classmethod
    def _is_a_url(cls, text: str) -> str:
        if text and not is_safe_url(text):
            raise ValueError("must be an https URL, or one of http on a loopback address")
        parts = urlsplit(text)
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError("must end behind its host and port: Kiln is found at the root")
        return text

    @property
    def is_public_by_tls(self) -> bool:
        """Whether browsers speak TLS, to the gateway or to what is in front of it."""
        return urlsplit(self.auth_public_url).scheme == "https"


class TlsSettings(BaseSettings):
    """What those read who must know whether the gateway speaks TLS."""

    model_config = SettingsConfigDict(frozen=True, env_prefix=PREFIX, extra="ignore")

    tls_cert_file: Path | None = Field(
        None,
        description="A certificate in PEM, and below it those that lead to its authority. With it REST and the front door speak TLS alone. "
        "A renewed one is taken from the same files without a restart.",
    )
    tls_key_file: Path | None = Field(None, description="The private key of that certificate, in PEM and without a password.")

    @model_validator(mode="after")
    def _has_both_or_neither(self) -> Self:
        if (self.tls_cert_file is None) is not (self.tls_key_file is None):
            missing, there = ("KILN_TLS_CERT_FILE", "KILN_TLS_KEY_FILE")[:: 1 if self.tls_cert_file is None else -1]
            raise ValueError(f"{missing}: is missing, and {there} is set; set both, or neither for no TLS")
        return self

    @property
    def speaks_tls(self) -> bool:
        """Whether the gateway does."""
        return self.tls_cert_file is not None


def load(model: type[Model]) -> Model:
    """Reads the settings of one process from its environment.

    Raises:
        InvalidSettings: a variable is unknown, missing or bad.
    """
    names = variables_of(model)
    _refuse_unknown(os.environ, names)
    from_files: dict[str, Any] = {field: _read(path) for variable, field in names.items() if (path := os.environ.get(f"{variable}_FILE"))}
    try:
        return model(**from_files)
    except ValidationError as error:
        variable_of = {field: variable for variable, field in names.items()}
        lines = [_line(one["loc"], one["msg"], variable_of) for one in error.errors()]
        raise InvalidSettings("; ".join(lines)) from None


def _line(where: Sequence[int | str], message: str, variable_of: Mapping[str, str]) -> str:
    """What is wrong, behind the variable that it is about, if it is about one."""
    about = [variable_of.get(str(part), str(part)) for part in where[:1]]
    return ": ".join([*about, message.removeprefix("Value error, ")])


def variables_of(model: type[BaseSettings]) -> dict[str, str]:
    """Environment variable → field of a settings model."""
    return {PREFIX + name.upper(): name for name in model.model_fields}


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InvalidSettings(f"cannot read a setting from its file: {error}") from None
    except UnicodeDecodeError:
        raise InvalidSettings(f"cannot read a setting from its file: {path} is not UTF-8 text") from None


def _refuse_unknown(environment: Mapping[str, str], names: Mapping[str, str]) -> None:
    own = {name for name in SERVICES if any(variable.startswith(f"{PREFIX}{name.upper()}_") for variable in set(names) - SHARED)}
    foreign = tuple(f"{PREFIX}{service.upper()}_" for service in SERVICES if service not in own)
    for variable in environment:
        # Some settings are files themselves, and are named so.
        known = variable if variable in names or variable in SHARED else variable.removesuffix("_FILE")
        if not variable.startswith(PREFIX) or known in names or known in SHARED or known.startswith(foreign):
            continue
        close = difflib.get_close_matches(known, [*names, *SHARED], n=1)
        raise InvalidSettings(f"{variable}: no such setting" + (f"; did you mean {close[0]}?" if close else ""))
