"""A worker that dies when it runs a call with the input `POISON`, and whose watch ends when it is to stop a guest."""

import os
from collections.abc import Callable
from typing import Final, Never
from unittest.mock import patch

from services.executor.sandbox import worker
from services.executor.sandbox.engine import Runner
from services.executor.sandbox.outcome import Call, Outcome
from services.executor.sandbox.watch import Errands, Watch

POISON: Final = '"poison"'


class MortalRunner(Runner):
    """Runs calls, except for one."""

    def run(self, call: Call) -> Outcome | None:
        outcome = super().run(call)
        if outcome is not None and call.input == POISON.encode():
            os.abort()
        return outcome


class MortalWatch(Watch):
    """Ends when it is to stop a guest."""

    def __init__(self, interrupt: Callable[[], None], errands: Errands) -> None:
        super().__init__(_fail, errands)


def _fail() -> Never:
    raise RuntimeError("the epoch does not move")


if __name__ == "__main__":
    with patch.object(worker, "Runner", MortalRunner), patch.object(worker, "Watch", MortalWatch):
        worker.main()
