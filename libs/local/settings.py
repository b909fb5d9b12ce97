"""Settings of the all-in-one run. The services read the rest of the environment themselves."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from libs.common.settings import TlsSettings


class Settings(TlsSettings):
    """What `make run` reads."""

    home: Path = Field(Path(".kiln"), description="Where data, logs and the database live; one run per home.")
    http_address: str = Field("127.0.0.1:8080", pattern=r"^[^:]+:\d+$", description="Where REST is served, as `host:port`.")
    grpc_address: str = Field("127.0.0.1:9090", pattern=r"^[^:]+:\d+$", description="Where the gRPC front door is, as `host:port`.")
    auth: Literal["on", "off"] = Field("on", description="`off` lets everyone do everything, on loopback addresses alone.")
    database_url: SecretStr | None = Field(None, description="A PostgreSQL to use instead of the embedded one.")
