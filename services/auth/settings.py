"""Settings of the auth service."""

from pydantic import Field

from libs.common.settings import SealingSettings


class Settings(SealingSettings):
    """What the auth service reads from its environment."""

    listen_address: str = Field("127.0.0.1:50052", description="Where the service's gRPC server listens.")
    auth_session_idle_hours: float = Field(12, gt=0, le=8760, description="When a session ends that is not used.")
    auth_session_max_hours: float = Field(168, gt=0, le=8760, description="When a session ends however much it is used.")
    auth_signing_key_days: float = Field(30, ge=1, le=3650, description="How long access tokens are signed with one key.")
    auth_audit_days: float = Field(365, gt=0, le=36_500, description="How long the audit log keeps its events.")
    auth_sweep_seconds: float = Field(10, gt=0, description="How often keys are looked after, and what has ended is removed.")
