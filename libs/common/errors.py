"""The one error model. Domain code raises these; it knows neither gRPC nor HTTP nor the database driver.

    KilnError
    ├── InvalidArgument        a field is bad; carries which
    ├── Unauthenticated        nobody knows who calls
    ├── PermissionDenied       who calls may not do that
    ├── NotFound
    ├── AlreadyExists
    ├── FailedPrecondition     right call, wrong state
    ├── Aborted                lost a race it asked to know about
    ├── ResourceExhausted      a limit is reached; may say when to come back
    ├── Cancelled              the caller went away
    ├── DeadlineExceeded
    ├── Unavailable            try again
    ├── Unimplemented
    └── Internal               our fault; the message is never shown

`libs.common.status` maps them to gRPC and HTTP and back, so that an error stays itself across the wire.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Violation:
    """One bad field of a request, by its proto name, and what is wrong with it."""

    field: str
    description: str


class KilnError(Exception):
    """Base of all errors that callers may see.

    Attributes:
        message: For people; says what to do next where that is known.
        reason: Stable UPPER_SNAKE word for programs.
        metadata: More facts for programs.
        retry_after: Seconds after which the same call may work; None where that is not known.
    """

    default_reason: ClassVar[str] = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after


class InvalidArgument(KilnError):
    """The request is wrong whatever the state of the platform. `violations` names the bad fields."""

    default_reason = "INVALID_ARGUMENT"

    def __init__(self, message: str, *, reason: str | None = None, violations: Sequence[Violation] = ()) -> None:
        super().__init__(message, reason=reason)
        self.violations = tuple(violations)

    @classmethod
    def of(cls, field: str, description: str, *, reason: str | None = None) -> "InvalidArgument":
        """One bad field, named in the message too."""
        return cls(f"{field}: {description}", reason=reason, violations=[Violation(field, description)])


class Unauthenticated(KilnError):
    """The call has no credential, or one that is not valid."""

    default_reason = "UNAUTHENTICATED"


class PermissionDenied(KilnError):
    """The caller may not do that; things that it may not even know of are NotFound instead."""

    default_reason = "PERMISSION_DENIED"


class NotFound(KilnError):
    """There is no such thing, or the caller may not know of it."""

    default_reason = "NOT_FOUND"


class AlreadyExists(KilnError):
    """A thing of that name is there."""

    default_reason = "ALREADY_EXISTS"


class FailedPrecondition(KilnError):
    """The platform is not in the state that the call needs."""

    default_reason = "FAILED_PRECONDITION"


class Aborted(KilnError):
    """The thing changed since the caller read it."""

    default_reason = "ABORTED"


class ResourceExhausted(KilnError):
    """A limit is reached."""

    default_reason = "RESOURCE_EXHAUSTED"


class Cancelled(KilnError):
    """The caller went away."""

    default_reason = "CANCELLED"


class DeadlineExceeded(KilnError):
    """The call's time is up."""

    default_reason = "DEADLINE_EXCEEDED"


class Unavailable(KilnError):
    """The platform cannot answer now; the same call may work soon."""

    default_reason = "UNAVAILABLE"


class Unimplemented(KilnError):
    """There is no such call."""

    default_reason = "UNIMPLEMENTED"


class Internal(KilnError):
    """A fault of the platform."""

    default_reason = "INTERNAL"
