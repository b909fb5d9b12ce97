"""The process that runs guests: `python -m services.executor.sandbox.worker`, started by the supervisor.

One thread serves the supervisor and runs guests, one after the other. The main thread watches over them, and stays free for that.
"""

from services.executor.sandbox.engine import Refused, Runner, new_engine
from services.executor.sandbox.framing import Channel, Message
from services.executor.sandbox.host import Sources, stopped_because
from services.executor.sandbox.outcome import GuestError, Outcome
from services.executor.sandbox.process import MAX_BODY_BYTES, Arguments, enter, say_ready, start_thread
from services.executor.sandbox.watch import Watch
from services.executor.sandbox.wire import call_of, ran_head


class Server:
    """Does what the supervisor asks for.

    Args:
        channel: To the supervisor.
        runner: Runs guests.
    """

    def __init__(self, channel: Channel, runner: Runner) -> None:
        self._channel = channel
        self._runner = runner

    def serve(self) -> None:
        """Until the supervisor is gone."""
        while message := self._channel.receive():
            match message.kind:
                case "run":
                    self._run(message)
                case "load":
                    self._load(message)
                case "cancel":
                    # It crossed the answer of the run it was meant for.
                    pass

    def _load(self, message: Message) -> None:
        problem = None
        try:
            self._runner.load(message.head["digest"], message.head["abi"], message.body)
        except Refused as error:
            problem = str(error)
        self._channel.send({"kind": "loaded", "problem": problem})

    def _run(self, message: Message) -> None:
        call = call_of(message)
        if self._channel.has_more:
            # Nothing but a cancel comes behind a run, and this one was read with it: the watch will not see it.
            outcome: Outcome | None = Outcome(None, GuestError(*stopped_because("CANCELLED", call.limits)))
        else:
            outcome = self._runner.run(call)
        if outcome is None:
            self._channel.send({"kind": "missing"})
        else:
            self._channel.send(ran_head(outcome), outcome.output or b"")


def main() -> None:
    arguments = Arguments.of_argv()
    stream, contained = enter(arguments)
    channel = Channel(stream, MAX_BODY_BYTES)
    engine = new_engine()
    watch = Watch(engine.increment_epoch, stream)
    start_thread(Server(channel, Runner(engine, watch, arguments.code_bytes, Sources())).serve)
    say_ready(channel, contained)
    watch.keep()


if __name__ == "__main__":
    main()
