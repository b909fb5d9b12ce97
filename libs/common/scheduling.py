"""How the system shares out processors between Kiln's processes."""

import os
from contextlib import suppress


def prefer_throughput() -> None:
    """Has this process, and those that it starts, run on where others of Kiln's become ready to run, instead of giving way at once.

    A call goes through several processes. Where they are more than the processors, each wakes the next, which takes its place after one
    call, and so few calls travel together. Left to run on they gather, and more are served under load. An idle processor takes up what is
    ready as before.
    """
    # Linux has it; elsewhere, and where a sandbox forbids it, everything runs as it would.
    with suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
