"""The process that makes native code: `python -m services.executor.sandbox.preparer`, started by the supervisor.

It never runs what it compiles. A module that is made to keep a compiler busy, or to make it fail, hits this process and no worker.
"""

from services.executor.sandbox.engine import Linkers, Refused, compile_module, new_compiler
from services.executor.sandbox.framing import Channel
from services.executor.sandbox.process import MAX_BODY_BYTES, Arguments, enter, say_ready


def main() -> None:
    stream, contained = enter(Arguments.of_argv())
    channel = Channel(stream, MAX_BODY_BYTES)
    engine = new_compiler()
    linkers = Linkers(engine)
    say_ready(channel, contained)
    while message := channel.receive():
        try:
            code = compile_module(engine, linkers, message.head["abi"], message.body)
        except Refused as error:
            channel.send({"kind": "refused", "message": str(error)})
        else:
            channel.send({"kind": "compiled"}, code)


if __name__ == "__main__":
    main()
