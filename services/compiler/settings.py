"""Settings of the compiler."""

import os
from typing import Literal

from pydantic import Field

from libs.common.settings import DatabaseSettings


class Settings(DatabaseSettings):
    """What the compiler reads from its environment."""

    listen_address: str = Field("127.0.0.1:50053", description="Where the service's gRPC server listens.")
    compiler_concurrency: int = Field(os.cpu_count() or 1, gt=0, description="Builds at once; as many as there are cores by default.")
    compiler_lasting_builds: int = Field(
        2 * (os.cpu_count() or 1), ge=0, description="Builds of more than a second that go on beside those, and keep none of them waiting."
    )
    compiler_wall_seconds: float = Field(30, gt=0, description="Longest a build may take.")
    compiler_cpu_seconds: int = Field(30, gt=0, description="Most processor time a build may take.")
    compiler_memory_mb: int = Field(1024, gt=0, description="Most memory a build may take, in MiB.")
    compiler_max_artifact_bytes: int = Field(8 << 20, gt=0, le=32 << 20, description="Largest compiled module.")
    compiler_max_attempts: int = Field(5, gt=0, description="How often a build may die with its compiler before its version is FAILED.")
    compiler_visibility_seconds: int = Field(
        15, gt=2, description="How soon another compiler takes over a build whose compiler has died; later by as much with each."
    )
    compiler_jail: Literal["auto", "bubblewrap", "landlock", "none"] = Field(
        "auto", description="What confines compilers: the best there is by default; `none` must be chosen, and is warned of at every start."
    )
    compiler_poll_seconds: float = Field(1, gt=0, description="How often jobs are looked for where no notification comes.")
