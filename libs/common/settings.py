"""Settings: `KILN_*` environment variables, read once, in a service's `__main__`.

A service's own settings are named `KILN_<SERVICE>_<NAME>`, those that several share `KILN_<NAME>`. A secret may come from a file instead:
`KILN_<NAME>_FILE`. A variable that nobody knows stops the start and says which one was probably meant.
"""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

SERVICES: Final = ("gateway", "registry", "compiler", "executor")
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
    }
)

Model = TypeVar("Model", bound=BaseSettings)


class InvalidSettings(Exception):
    """The environment does not hold usable settings; the message says which variable and why."""


class ProcessSettings(BaseSettings):
    """What every process reads."""

    model_config = SettingsConfigDict(frozen=True, env_prefix=PREFIX, extra="ignore")

    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Least level that is logged.")
    drain_seconds: float = Field(10, gt=0, description="How long calls in flight may take to end when a service stops.")
    max_concurrent_calls: int = Field(1000, gt=0, description="Calls one server works on at once; more are refused.")


class ServiceSettings(ProcessSettings):
    """What every service behind the gateway reads besides."""

    listen_address: str = Field(description="Where the service's gRPC server listens.")


class DatabaseSettings(ServiceSettings):
    """What every service with a database reads besides."""

    database_url: SecretStr = Field(description="`postgresql://user:password@host:port/database`.")


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
        lines = [f"{variable_of.get(str(one['loc'][0]), one['loc'][0])}: {one['msg']}" for one in error.errors()]
        raise InvalidSettings("; ".join(lines)) from None


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
        known = variable.removesuffix("_FILE")
        if not variable.startswith(PREFIX) or known in names or known in SHARED or known.startswith(foreign):
            continue
        close = difflib.get_close_matches(known, [*names, *SHARED], n=1)
        raise InvalidSettings(f"{variable}: no such setting" + (f"; did you mean {close[0]}?" if close else ""))
