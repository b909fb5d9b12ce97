"""Settings of the gateway."""

from pydantic import Field

from libs.common.settings import ProcessSettings, PublicUrlSettings, TlsSettings

MIB = 1024 * 1024


class Settings(ProcessSettings, TlsSettings, PublicUrlSettings):
    """Where the gateway listens, whom it asks, and what it puts up with from a client."""

    http_address: str = Field("127.0.0.1:8080", description="Where REST is served.")
    grpc_address: str = Field("127.0.0.1:9090", description="Where gRPC is served: the front door to every public service.")

    registry_address: str = Field(description="`host:port` of the registry.")
    compiler_address: str = Field(description="`host:port` of the compiler.")
    executor_address: str = Field(description="`host:port` of the executor.")
    gateway_connect_seconds: float = Field(
        3, gt=0, description="How long a call waits for a service that is not there, so that a restart of one or two seconds shows nowhere."
    )

    # A prebuilt module has 8 MiB at most, which base64 makes 10.7. JSON escapes may make a source of 4 MiB more than twice as long.
    gateway_max_body_bytes: int = Field(12 * MIB, gt=0, description="Largest body of a REST request; a larger one is 413.")
    gateway_max_header_bytes: int = Field(32 * 1024, gt=0, description="Request line and headers together; more is 431.")
    gateway_max_headers: int = Field(100, gt=0, description="Most headers of a request; more is 431.")
    gateway_header_seconds: float = Field(
        10, gt=0, description="A request's headers, and before them the handshake of TLS, must be there within this time."
    )
    gateway_body_seconds: float = Field(
        30, gt=0, description="A body, and an answer to a client that reads slowly, must move on by 64 KiB or end within this time."
    )
    gateway_keep_alive_seconds: int = Field(75, gt=0, description="How long a connection stays open between requests.")

    @property
    def service_addresses(self) -> dict[str, str]:
        """Address by service, as services are named in the packages of the protos: `kiln.<service>.v1`."""
        return {
            "registry": self.registry_address,
            "compiler": self.compiler_address,
            "executor": self.executor_address,
            "auth": self.auth_address,
        }
