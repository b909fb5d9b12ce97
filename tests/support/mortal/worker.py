"""A worker that is killed by its own fault when it runs a call with the input `POISON`."""

import os
from typing import Final
from unittest.mock import patch

from services.executor.sandbox import worker
from services.executor.sandbox.engine import Runner
from services.executor.sandbox.outcome import Call, Outcome

POISON: Final = '"poison"'


class MortalRunner(Runner):
    """Runs calls, except for one."""

    def run(self, call: Call) -> Outcome | None:
        outcome = super().run(call)
        if outcome is not None and call.input == POISON.encode():
            os.abort()
        return outcome


if __name__ == "__main__":
    with patch.object(worker, "Runner", MortalRunner):
        worker.main()
