"""Settings of the executor."""

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from libs.common.settings import DatabaseSettings


class Settings(DatabaseSettings):
    """What the executor reads from its environment."""

    listen_address: str = Field("127.0.0.1:50054", description="Where the service's gRPC server listens.")
    registry_address: str = Field("127.0.0.1:50051", description="Where the registry is, as `host:port`.")
    compiler_address: str = Field("127.0.0.1:50053", description="Where the compiler is, as `host:port`.")
    executor_journal_folder: Path = Field(
        description="Where runs are recorded until the database has them, on a disk that outlives the process."
    )
    executor_journal_mb: int = Field(
        1024, ge=64, description="How large the journal may become while the database is away, in MiB; then calls are refused."
    )
    executor_native_folder: Annotated[Path | None, BeforeValidator(lambda text: text or None)] = Field(
        None,
        description="Where native code is kept for the next start. With none it is made again after each, from the compiler's artifacts.",
    )
    executor_native_mb: int = Field(
        1024, ge=1, description="How much native code is kept there, in MiB; what was used least recently goes first."
    )
    executor_workers: int = Field(2, gt=0, le=256, description="Worker processes that always run.")
    executor_max_workers: int = Field(16, gt=0, le=1024, description="Worker processes at most, when calls run long.")
    executor_max_waiting: int = Field(256, ge=0, description="Calls that may wait for a place in a worker; more are refused.")
    executor_batch_workers: int = Field(
        8,
        gt=0,
        le=1024,
        description="Runs of batches and streams at once, all together, where they last; the other workers are for single calls.",
    )
    executor_max_batch_inputs: int = Field(1000, gt=0, le=1000, description="Inputs of one batch at most.")
    executor_max_streams: int = Field(100, gt=0, description="Streams of calls that may be open; more are refused.")
    executor_max_input_bytes: int = Field(1 << 20, gt=0, le=4 << 20, description="Largest input of a call.")
    executor_code_cache_mb: int = Field(256, gt=0, description="Native code kept ready in memory, in MiB.")
    executor_quarantine_seconds: float = Field(
        300, gt=0, description="How long a version is kept from running that killed its workers again and again."
    )
    executor_lease_seconds: float = Field(15, gt=1, description="Runs of an executor that was silent so long are FAILED.")
    executor_purge_seconds: float = Field(10, gt=0, description="How often the history of deleted functions is looked for.")
