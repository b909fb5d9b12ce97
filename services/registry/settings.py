"""Settings of the registry."""

from pydantic import Field

from libs.common.settings import SealingSettings


class Settings(SealingSettings):
    """What the registry reads from its environment."""

    listen_address: str = Field("127.0.0.1:50051", description="Where the service's gRPC server listens.")
    registry_max_source_bytes: int = Field(1 << 20, gt=0, le=4 << 20, description="Largest source of a function, in bytes of UTF-8.")
    # A message between services has 16 MiB at most, and that of a build carries the module in base64.
    registry_max_wasm_bytes: int = Field(8 << 20, gt=0, le=8 << 20, description="Largest prebuilt module of a function.")
    registry_default_timeout_ms: int = Field(5_000, gt=0, description="`timeoutMs` of functions that set none.")
    registry_max_timeout_ms: int = Field(60_000, gt=0, description="Highest `timeoutMs` a function may set.")
    registry_default_memory_mb: int = Field(64, gt=0, description="`memoryMb` of functions that set none.")
    registry_max_memory_mb: int = Field(512, gt=0, description="Highest `memoryMb` a function may set.")
    registry_default_output_bytes: int = Field(1 << 20, gt=0, description="`maxOutputBytes` of functions that set none.")
    registry_max_output_bytes: int = Field(4 << 20, gt=0, description="Highest `maxOutputBytes` a function may set.")
    registry_default_log_bytes: int = Field(64 << 10, ge=0, description="`maxLogBytes` of functions that set none.")
    registry_max_log_bytes: int = Field(1 << 20, gt=0, description="Highest `maxLogBytes` a function may set.")
    # The executor's own default is 16 workers and 256 calls that wait, so that no function fills it alone.
    registry_default_concurrency: int = Field(
        256,
        gt=0,
        description="`maxConcurrency` of functions that set none. By default it is more than an executor runs at once, so that only a "
        "flood meets it, and less than it holds with those that wait, so that no function takes all of that.",
    )
    registry_max_concurrency: int = Field(
        1000,
        gt=0,
        description="Highest `maxConcurrency` a function may set. How many runs an executor has room for is "
        "`KILN_EXECUTOR_MAX_WORKERS` and `KILN_EXECUTOR_MAX_WAITING`.",
    )
    registry_poll_seconds: float = Field(1, gt=0, description="How often results are looked for where no notification comes.")
    registry_sweep_seconds: float = Field(10, gt=0, description="How often builds that lost their job are looked for.")
    registry_lost_after_seconds: float = Field(30, gt=0, description="When a build without job and result is sent again.")
    registry_tombstone_seconds: float = Field(604_800, gt=0, description="How long deletions are remembered for executors that are away.")
    registry_archive_seconds: float = Field(86_400, gt=0, description="How long finished queue messages are kept.")
