"""A call that is served: its deadline, who makes it, its line in the log, and its error as a status."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import grpc

from libs.common import errors, request, status
from libs.common.access.access_tokens import AccessToken
from libs.common.access.bearer import AUTHORIZATION
from libs.common.access.guard import Guard
from libs.common.access.principal import caller, set_caller
from libs.common.audit import Recording
from libs.common.deadlines import Deadlines
from libs.common.errors import KilnError, PermissionDenied
from libs.common.logs import logger
from libs.common.policy import Access, Policy

# Calls that answer even when the server is full.
_RESERVED: Final = ("/grpc.health.v1.Health/", "/kiln.carrier.v1.CarrierInternal/")
# How often it is asked whether who makes a call that stays open still may.
_RECHECK_SECONDS: Final = 1.0


class Serving:
    """All calls of a server that are being served.

    Args:
        guard: Says who makes a call, and whether it may.
        max_concurrent: Calls served at once; more are refused with `RESOURCE_EXHAUSTED`. Health checks, what opens a connection for
            carried calls, and streams that stay open do not count.

    Attributes:
        count: How many there are.
        watches: Streams that services keep open.
        deadlines: Ends those that take too long.
    """

    def __init__(self, guard: Guard, max_concurrent: int) -> None:
        self.guard = guard
        self.max_concurrent = max_concurrent
        self.count = 0
        self.watches: set[Call] = set()
        self.deadlines: Deadlines[Call] = Deadlines(Call.expire)


class End(NamedTuple):
    """How a call ended.

    Attributes:
        is_told: Whether its error is told by the status, and need not be raised.
    """

    code: grpc.StatusCode
    reason: str
    is_told: bool


_OK: Final = End(grpc.StatusCode.OK, "", is_told=False)


class Call:
    """A call that is served: what it knows of itself, its deadline, its line in the log, and its error as a status.

    One for every call, which begins and ends by plain functions: around calls that cost little themselves it must cost less.
    """

    __slots__ = (
        "_admitted",
        "_authorization",
        "_began",
        "_cancelling",
        "_context",
        "_expired",
        "_identity",
        "_method",
        "_policy",
        "_rechecking",
        "_seconds",
        "_serving",
        "_shut_out",
        "_stopped",
        "_task",
    )

    def __init__(self, serving: Serving, method: str, policy: Policy, context: Any) -> None:
        self._began = time.monotonic()
        self._serving = serving
        self._method = method
        self._policy = policy
        self._context = context
        self._admitted = self._expired = self._shut_out = self._stopped = False
        self._rechecking: asyncio.TimerHandle | None = None
        self._authorization = ""
        offered: str | None = None
        for key, value in context.invocation_metadata() or ():
            if key == request.REQUEST_ID_HEADER and isinstance(value, str):
                offered = value
            elif key == AUTHORIZATION and isinstance(value, str):
                self._authorization = value
        self._identity = request.accept_request_id(offered)
        request.request_id.set(self._identity)
        # Behind the answer: ahead of it, it would be a message of its own.
        context.set_trailing_metadata(((request.REQUEST_ID_HEADER, self._identity),))

    async def acknowledge(self) -> None:
        """Says that a stream is admitted, ahead of its answers: one that is refused has none of it, so that a caller who waits for it knows
        that nothing it sent was looked at.
        """
        await self._context.send_initial_metadata(((request.REQUEST_ID_HEADER, self._identity),))

    def begin(self) -> bool:
        """Counts the call, gives it its deadline, and recalls who makes it. False where that must be found out: `admit` does.

        Raises:
            ResourceExhausted: there are as many as may be.
            DeadlineExceeded: it has passed.
            Unauthenticated, PermissionDenied, Unavailable: who calls may not, or it cannot be known.
        """
        self._bound(self._policy.deadline_seconds)
        token = self._serving.guard.recall(self._policy, self._authorization)
        if token is None:
            return False
        self._let_in(token)
        return True

    async def admit(self) -> None:
        """Finds out who makes the call.

        Raises:
            Unauthenticated, PermissionDenied, Unavailable: who calls may not, or it cannot be known.
        """
        self._let_in(await self._serving.guard.admit(self._policy, self._authorization, address_of(self._context)))

    def expire(self) -> None:
        """Ends the call because its deadline has passed."""
        self._expired = True
        self._task.cancel()

    def _let_in(self, token: AccessToken | None) -> None:
        set_caller(token.principal if token else None)
        if self._policy.deadline_seconds is None and token:
            self._task = _current_task()
            self._recheck(token)
            if self._policy.access is Access.SERVICE:
                self._serving.watches.add(self)

    def stop(self) -> None:
        """Ends the call because its server stops."""
        self._stopped = True
        self._task.cancel()

    def _bound(self, allowed: float | None) -> None:
        if allowed is None:
            request.deadline.set(None)
            return
        if not self._method.startswith(_RESERVED):
            if self._serving.count >= self._serving.max_concurrent:
                raise errors.ResourceExhausted("too many calls at once", reason="TOO_MANY_CALLS", retry_after=1)
            self._serving.count += 1
            self._admitted = True
        offered = self._context.time_remaining()
        self._seconds = allowed if offered is None else min(allowed, offered)
        if self._seconds <= 0:
            raise errors.DeadlineExceeded("the call's deadline had passed before it began")
        request.deadline.set(time.monotonic() + self._seconds)
        self._task = _current_task()
        self._cancelling = self._task.cancelling()
        self._serving.deadlines.add(self, self._seconds)

    def _recheck(self, token: AccessToken) -> None:
        """Ends a call that stays open once its caller may not make it any more."""
        if self._serving.guard.is_stale(token):
            self._shut_out = True
            self._task.cancel()
        else:
            self._rechecking = asyncio.get_running_loop().call_later(_RECHECK_SECONDS, self._recheck, token)

    def end(self, error: BaseException | None) -> End:
        """The call has ended, perhaps by an error, which becomes its status."""
        if self._admitted:
            self._serving.count -= 1
            self._serving.deadlines.discard(self)
        else:
            self._serving.watches.discard(self)
        if self._rechecking:
            self._rechecking.cancel()
        end = self._tell(error) if error else _OK
        if not self._method.startswith("/grpc."):
            logger().info("rpc", method=self._method, code=end.code.name, ms=round((time.monotonic() - self._began) * 1000, 1))
        return end

    def _tell(self, error: BaseException) -> End:
        """Makes an error the call's status, unless the call is cancelled."""
        # As `asyncio.timeout` does it: whoever else has cancelled the task meant it.
        if self._expired and self._task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError):
            error = errors.DeadlineExceeded(f"the call took longer than {self._seconds:.3g} s")
        elif self._shut_out and isinstance(error, asyncio.CancelledError):
            self._task.uncancel()
            error = errors.Unauthenticated("who calls has changed since the call began", reason="STALE_TOKEN")
        elif self._stopped and isinstance(error, asyncio.CancelledError):
            self._task.uncancel()
            error = errors.Unavailable("the service is stopping", reason="STOPPING")
        if not isinstance(error, Exception):
            return End(grpc.StatusCode.CANCELLED, "", is_told=False)
        # The status is set instead of aborting: grpc.aio does not wait for aborted handlers when it stops (grpc/grpc#37239).
        known = shown(error, method=self._method)
        set_status(self._context, known, self._identity)
        return End(status.code_of(known), known.reason, is_told=True)


class AuditedCall(Call):
    """A call that is written down in the audit log."""

    __slots__ = ("recording",)

    def __init__(self, serving: Serving, method: str, policy: Policy, context: Any, recording: Recording) -> None:
        super().__init__(serving, method, policy, context)
        self.recording = recording

    async def recorded(self, message: Any, read: Callable[[Any], Any]) -> Any:
        """Admits the call and writes its beginning down; of one that anyone may make, its handler does that. The request.

        Raises:
            KilnError: it cannot be made.
        """
        self.recording.came(address_of(self._context), self._identity)
        try:
            if not self.begin():
                await self.admit()
        except PermissionDenied:
            with suppress(KilnError):
                self.recording.refused(await self._serving.guard.who(self._authorization, address_of(self._context)))
                self.recording.asked(read(message))
            raise
        request = read(message)
        self.recording.asked(request)
        if self._policy.access is not Access.PUBLIC:
            self.recording.by(caller())
            await self.recording.begin()
        return request

    async def end_recorded(self, error: BaseException | None) -> End:
        """The call has ended, which is written down."""
        end = self.end(error)
        await self.recording.end(end.code.name, end.reason)
        return end


def _current_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a call is served by a task")
    return task


def address_of(context: Any) -> str:
    """Where a caller is: as the gateway says where it carries the call, else where the connection comes from."""
    if getattr(context, "is_carried", False):
        return said(context, request.CALLER_ADDRESS_HEADER)
    # For instance `ipv4:127.0.0.1:40312` or `ipv6:%5B::1%5D:40312`.
    kind, _, rest = unquote(context.peer()).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""


def agent_of(context: Any) -> str:
    """What a caller says of its program."""
    return said(context, request.CALLER_AGENT_HEADER if getattr(context, "is_carried", False) else "user-agent")


def said(context: Any, wanted: str) -> str:
    """The value of some metadata; empty when there is none."""
    return next((value for key, value in context.invocation_metadata() or () if key == wanted and isinstance(value, str)), "")


def shown(error: Exception, **where: str) -> KilnError:
    """The error as a caller may see it. A fault of the platform is logged and tells the request id alone, whoever raised it.

    Args:
        error: What was raised.
        where: Fields of the line in the log.
    """
    if isinstance(error, errors.Internal) or not isinstance(error, KilnError):
        logger().error("internal_error", exc_info=error, **where)
        return errors.Internal(f"internal error; the platform's logs tell more under request id {request.request_id.get()}")
    return error


def set_status(context: Any, error: KilnError, identity: str) -> None:
    """Ends a call with an error, details included, without aborting its handler."""
    context.set_code(status.code_of(error))
    context.set_details(error.message)
    details = status.to_proto(error, identity).SerializeToString()
    context.set_trailing_metadata(((request.REQUEST_ID_HEADER, identity), (status.DETAILS, details)))
