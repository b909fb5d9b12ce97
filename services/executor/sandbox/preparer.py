"""The process that makes native code: `python -m services.executor.sandbox.preparer`, started by the supervisor.

It never runs what it compiles. A module that is made to keep a compiler busy, or to make it fail, hits this process and no worker.
"""

from contextlib import suppress

from services.executor.sandbox.desk import Desk
from services.executor.sandbox.engine import Linkers, Refused, compile_module, new_compiler
from services.executor.sandbox.process import MAX_MESSAGE_BYTES, Arguments, enter, say_ready
from services.executor.sandbox.watch import SupervisorGone
from services.executor.sandbox.wire import Compile, Compiled, Uncompilable


def serve(desk: Desk) -> None:
    """Makes native code of what the supervisor sends, until it is gone.

    Raises:
        SupervisorGone: It is.
    """
    engine = new_compiler()
    linkers = Linkers(engine)
    while True:
        request = desk.take()
        if isinstance(request, Compile):
            try:
                desk.leave(Compiled(request.number, compile_module(engine, linkers, request.abi, request.wasm)))
            except Refused as error:
                desk.leave(Uncompilable(request.number, str(error)))


def main() -> None:
    stream, contained = enter(Arguments.of_argv())
    desk = Desk(stream, MAX_MESSAGE_BYTES)
    say_ready(desk, contained)
    with suppress(SupervisorGone):
        serve(desk)


if __name__ == "__main__":
    main()
