"""Settings of the auth service."""

from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from libs.common.settings import PublicUrlSettings, SealingSettings
from services.auth.identity_providers import Provider, read_providers


class Settings(SealingSettings, PublicUrlSettings):
    """What the auth service reads from its environment."""

    listen_address: str = Field("127.0.0.1:50052", description="Where the service's gRPC server listens.")
    auth_session_idle_hours: float = Field(12, gt=0, le=8760, description="When a session ends that is not used.")
    auth_session_max_hours: float = Field(168, gt=0, le=8760, description="When a session ends however much it is used.")
    auth_signing_key_days: float = Field(30, ge=1, le=3650, description="How long access tokens are signed with one key.")
    auth_audit_days: float = Field(365, gt=0, le=36_500, description="How long the audit log keeps its events.")
    auth_sweep_seconds: float = Field(10, gt=0, description="How often keys are looked after, and what has ended is removed.")
    auth_oidc: SecretStr = Field(
        SecretStr("[]"),
        description="Identity providers by which users sign in (OpenID Connect), and whose tokens programs may present: a list in JSON, "
        "described in [Identity providers](../identity-providers.md).",
    )

    @property
    def providers(self) -> tuple[Provider, ...]:
        """The identity providers."""
        return read_providers(self.auth_oidc.get_secret_value())

    @field_validator("auth_oidc")
    @classmethod
    def _are_providers(cls, text: SecretStr) -> SecretStr:
        read_providers(text.get_secret_value())
        return text

    @model_validator(mode="after")
    def _has_public_url(self) -> Self:
        if not self.auth_public_url and any(one.client_id for one in self.providers):
            raise ValueError("KILN_AUTH_PUBLIC_URL must be set where users sign in by an identity provider")
        return self
