"""The process that runs guests: `python -m services.executor.sandbox.worker`, started by the supervisor.

One thread serves the supervisor and runs guests, one after the other. The main thread watches over them, and stays free for that.
"""

import socket
from functools import partial
from typing import BinaryIO

from services.executor.sandbox.desk import Desk
from services.executor.sandbox.engine import Refused, Runner, new_engine
from services.executor.sandbox.host import Sources
from services.executor.sandbox.process import MAX_MESSAGE_BYTES, Arguments, enter, say_ready, start_thread
from services.executor.sandbox.watch import SupervisorGone, Watch
from services.executor.sandbox.wire import Load, Loaded, Missing, Ran, Run


def serve(desk: Desk, files: socket.socket, runner: Runner) -> None:
    """Does what the supervisor asks for, until it is gone.

    Raises:
        SupervisorGone: It is.
    """
    while True:
        request = desk.take()
        if isinstance(request, Run):
            outcome = runner.run(request.call)
            desk.leave(Missing(request.number) if outcome is None else Ran(request.number, outcome))
        elif isinstance(request, Load):
            desk.leave(Loaded(request.number, _problem_of_loading(runner, files, request)))


def _problem_of_loading(runner: Runner, files: socket.socket, request: Load) -> str | None:
    try:
        if request.code is None:
            with _next_of(files) as file:
                runner.load_file(request.digest, request.abi, file)
        else:
            runner.load(request.digest, request.abi, request.code)
    except Refused as error:
        return str(error)
    return None


def _next_of(files: socket.socket) -> BinaryIO:
    _, descriptors, _, _ = socket.recv_fds(files, 1, 1)
    if not descriptors:
        raise SupervisorGone
    return open(descriptors[0], "rb", buffering=0)


def main() -> None:
    arguments = Arguments.of_argv()
    stream, contained = enter(arguments)
    desk = Desk(stream, MAX_MESSAGE_BYTES)
    files = socket.socket(fileno=arguments.files)
    engine = new_engine()
    watch = Watch(engine.increment_epoch, desk)
    runner = Runner(engine, watch, arguments.code_bytes, Sources())
    start_thread(partial(serve, desk, files, runner))
    say_ready(desk, contained)
    watch.keep()


if __name__ == "__main__":
    main()
