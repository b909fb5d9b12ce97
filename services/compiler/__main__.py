"""The compiler: what it reads, opens and serves."""

from functools import partial
from pathlib import Path

from kiln.compiler.v1 import compiler_pb2_grpc as grpc

from libs.common.logs import logger
from libs.common.migrate import install_queues, migrate
from libs.common.postgres import open_database
from libs.common.queue import COMPILATION_JOBS, COMPILATION_RESULTS, Queue, wakeups
from libs.common.server import Service, forever, run
from libs.common.settings import load
from services.compiler.announcer import Announcer
from services.compiler.hot import HotProcesses
from services.compiler.jail import JailUnavailable
from services.compiler.jails import Jails
from services.compiler.languages import Bounds, languages
from services.compiler.repository import ArtifactRepository
from services.compiler.servicer import CompilerInternalServicer, CompilerServicer
from services.compiler.settings import Settings
from services.compiler.worker import Worker, WorkerLimits

# What a compiler may say besides its artifact.
OUTPUT_BYTES = 64 * 1024
# How often it is looked whether a toolchain has come or gone; a look reads a few small files.
LOOK_SECONDS = 5


async def main() -> None:
    settings = load(Settings)
    async with Service("compiler", settings) as service:
        url = settings.database_url.get_secret_value()
        database = await service.open(open_database(url, name="compiler"))
        await migrate(database, "compiler", Path(__file__).with_name("migrations"))
        await install_queues(database, COMPILATION_JOBS, COMPILATION_RESULTS)

        hot = await service.open(HotProcesses(await jails(settings), spare=settings.compiler_concurrency))
        known = languages(hot)
        for language in known.values():
            language.prepare(bounds(settings))
        artifacts = ArtifactRepository(database)
        limits = WorkerLimits(
            settings.compiler_concurrency,
            settings.compiler_max_attempts,
            settings.compiler_visibility_seconds,
            lasting=settings.compiler_lasting_builds,
        )
        worker = Worker(artifacts, known, bounds(settings), limits)
        wakeup = await service.open(wakeups(url, Queue(COMPILATION_JOBS), poll_seconds=settings.compiler_poll_seconds))

        announcer = Announcer(database, known)
        await announcer.announce_changes()
        service.background(forever("languages", announcer.announce_changes, pause_seconds=LOOK_SECONDS))
        service.background(forever("worker", partial(worker.run, wakeup), pause_seconds=0.1))
        await service.serve(
            partial(grpc.add_CompilerServicer_to_server, CompilerServicer(known)),
            partial(grpc.add_CompilerInternalServicer_to_server, CompilerInternalServicer(artifacts)),
            services=["kiln.compiler.v1.Compiler", "kiln.compiler.v1.CompilerInternal"],
        )


def bounds(settings: Settings) -> Bounds:
    """What one build may use."""
    return Bounds(
        wall_seconds=settings.compiler_wall_seconds,
        cpu_seconds=settings.compiler_cpu_seconds,
        memory_bytes=settings.compiler_memory_mb << 20,
        output_bytes=OUTPUT_BYTES,
        artifact_bytes=settings.compiler_max_artifact_bytes,
    )


async def jails(settings: Settings) -> Jails:
    """Where compilers run; says so at once when that is nowhere. Builds then wait until it is somewhere."""
    found = Jails(settings.compiler_jail)
    try:
        await found.find()
    except JailUnavailable as error:
        logger().error("no_jail", error=str(error))
    return found


if __name__ == "__main__":
    run(main)
