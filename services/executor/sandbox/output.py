"""Judges what a guest answered. All ABIs give UTF-8 here and get the same verdicts."""

from libs.common import jsontext
from services.executor.sandbox.host import Host
from services.executor.sandbox.outcome import ErrorType


def check_size(host: Host, size: int) -> None:
    """Ends the call when its output has, or must have, more bytes than it may.

    Raises:
        GuestStopped: It has.
    """
    if size > host.limits.max_output_bytes:
        raise host.stop(ErrorType.OUTPUT_TOO_LARGE, f"the output is larger than {host.limits.max_output_bytes} bytes")


def check_json(host: Host, output: bytes) -> None:
    """Ends the call when its output is not JSON.

    Raises:
        GuestStopped: It is not.
    """
    try:
        jsontext.check(output)
    except jsontext.InvalidJson as error:
        raise host.stop(ErrorType.INVALID_OUTPUT, f"the output is not valid JSON: {error}") from None
