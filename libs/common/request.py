"""What the platform knows of the call it is serving: carried in context variables, so that logs, records and onward calls share it."""

import re
import time
from contextvars import Context, ContextVar, copy_context
from typing import Final

from libs.common.ids import uuid7_text

REQUEST_ID_HEADER: Final = "x-request-id"
# The id of the execution that a call makes. Only the gateway makes it, so that a call that had to be sent again names the same execution;
# what a caller outside sends under this name is dropped.
EXECUTION_ID_HEADER: Final = "x-execution-id"
# Where the caller of a gateway is, as the gateway saw it, and what it says of itself; what a caller outside sends under these names is
# dropped.
CALLER_ADDRESS_HEADER: Final = "x-kiln-caller-address"
CALLER_AGENT_HEADER: Final = "x-kiln-caller-agent"
_ACCEPTABLE: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")

request_id: ContextVar[str] = ContextVar("request_id", default="")
# By time.monotonic(), in seconds; None where no call is being served.
deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


def accept_request_id(offered: str | None) -> str:
    """The caller's own id where it is one that may stand in a log line, else a new one."""
    return offered if offered and _ACCEPTABLE.fullmatch(offered) else uuid7_text()


def without_deadline() -> Context:
    """The context of the call being served, for what is done for others as well: this call may be in a hurry."""
    context = copy_context()
    context.run(deadline.set, None)
    return context


def remaining_seconds() -> float | None:
    """What is left of the deadline of the call being served; None without one. Never negative."""
    at = deadline.get()
    return None if at is None else max(0.0, at - time.monotonic())
