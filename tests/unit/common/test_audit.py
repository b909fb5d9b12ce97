"""Calls that change something are written down before they are made, and what came of them after; never what they say."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final
from uuid import uuid4

import grpc
import pytest
from google.protobuf import empty_pb2
from google.protobuf.message import Message
from kiln.auth.v1 import auth_pb2 as auth
from kiln.registry.v1 import registry_pb2 as registry

from libs.common import audit
from libs.common.access.access_tokens import AccessToken
from libs.common.access.credentials import Kind, new_credential
from libs.common.access.principal import Principal, Role
from libs.common.audit import UNFINISHED, Event
from libs.common.carried import Context, Handlers
from libs.common.carrier import called
from libs.common.errors import InvalidArgument, KilnError, NotFound, PermissionDenied, ResourceExhausted, Unauthenticated, Unavailable
from libs.common.ids import milliseconds_of, uuid7
from libs.common.interceptors import ServerInterceptor
from libs.common.policy import Policy
from tests.support.audit import KeptAuditLog
from tests.support.callers import ADMIN, dev

DELETE: Final = "/kiln.registry.v1.Registry/DeleteFunction"
UPDATE: Final = "/kiln.registry.v1.Registry/UpdateFunction"
GET: Final = "/kiln.registry.v1.Registry/GetFunction"
LOGIN: Final = "/kiln.auth.v1.Auth/Login"
ADD: Final = "/kiln.auth.v1.Auth/AddMember"
LOGOUT: Final = "/kiln.auth.v1.Auth/Logout"

Inner = Callable[[Any, Any], Awaitable[Message]]


class Gate:
    """A guard that lets in whom a test says, or refuses as it says."""

    def __init__(self) -> None:
        self.caller: Principal | None = ADMIN
        self.refusal: KilnError | None = None

    def recall(self, policy: Policy, authorization: str) -> AccessToken | None:
        """Asks each time."""
        return None

    async def admit(self, policy: Policy, authorization: str, address: str) -> AccessToken | None:
        """As the test says."""
        if self.refusal:
            raise self.refusal
        return AccessToken(self.caller, 1, 0) if self.caller else None

    async def who(self, authorization: str, address: str) -> Principal:
        """As the test says."""
        if self.caller is None:
            raise Unauthenticated("nobody")
        return self.caller

    def is_stale(self, token: AccessToken) -> bool:
        """Never."""
        return False


class World:
    """An interceptor with a guard and a log of the test's."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.log = KeptAuditLog()
        self.around = ServerInterceptor(self.gate, max_concurrent=10, audit_log=self.log)

    async def call(self, method: str, message: Message | bytes, inner: Inner, *, timeout_ms: int = 10_000) -> Context:
        """Makes a call; what is left of it."""
        handler: Any = grpc.unary_unary_rpc_method_handler(
            inner, request_deserializer=reader_of(method), response_serializer=lambda answer: answer.SerializeToString()
        )
        said = (("x-kiln-caller-address", "192.0.2.7"), ("x-request-id", "request-7"))
        context = Context(called(1, method, b"", timeout_ms / 1000, said), "Bearer x")
        await self.around.wrapped(method, handler).unary_unary(
            message if isinstance(message, bytes) else message.SerializeToString(), context
        )
        return context


def reader_of(method: str) -> Callable[[bytes], Message]:
    module: Any = registry if method.startswith("/kiln.registry") else auth
    reader: Callable[[bytes], Message] = getattr(module, f"{method.rpartition('/')[2]}Request").FromString
    return reader


def answering(answer: Message) -> Inner:
    async def inner(request: Any, context: Any) -> Message:
        return answer

    return inner


def raising(error: Exception) -> Inner:
    async def inner(request: Any, context: Any) -> Message:
        raise error

    return inner


async def never(request: Any, context: Any) -> Message:
    """A handler that must not be reached."""
    raise AssertionError


EMPTY: Final = empty_pb2.Empty()


@pytest.fixture
async def world() -> World:
    return World()


def outcomes(world: World) -> list[str]:
    return [one.outcome for one in world.log.events]


# Beginnings and ends


async def test_the_beginning_is_in_the_log_before_the_handler_runs_and_the_end_after(world: World) -> None:
    seen: list[list[str]] = []

    async def inner(request: Any, context: Any) -> Message:
        seen.append(outcomes(world))
        return EMPTY

    await world.call(DELETE, registry.DeleteFunctionRequest(id="greet"), inner)

    assert seen == [[UNFINISHED]]
    assert outcomes(world) == [UNFINISHED, "OK"]
    assert len({one.id for one in world.log.events}) == 1


async def test_an_event_tells_who_did_what_to_what_from_where_and_in_which_request(world: World) -> None:
    session, function = str(uuid4()), str(uuid4())
    world.gate.caller = Principal(ADMIN.id, "root", Role.ADMIN, session=session)

    await world.call(DELETE, registry.DeleteFunctionRequest(id=function.upper()), answering(EMPTY))

    (begun, ended) = world.log.events
    expected = Event(begun.id, "DeleteFunction", "function", function, "", ADMIN.id, "root", "ADMIN", session, "", "192.0.2.7", "request-7")
    assert begun == expected
    assert ended == replace(expected, outcome="OK")


async def test_a_call_whose_beginning_cannot_be_written_is_not_made(world: World) -> None:
    for error in (Unavailable("away"), RuntimeError("canary")):
        world.log.error = error
        context = await world.call(DELETE, registry.DeleteFunctionRequest(id="greet"), never)

        assert context.answer.code == grpc.StatusCode.UNAVAILABLE.value[0]
        assert "cannot be written down in the audit log" in context.answer.details
    assert world.log.events == []


async def test_a_log_that_does_not_answer_is_not_waited_for_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "WRITE_SECONDS", 0.05)
    world.log.gate.clear()

    context = await world.call(DELETE, registry.DeleteFunctionRequest(id="greet"), never)

    assert context.answer.code == grpc.StatusCode.UNAVAILABLE.value[0]


async def test_an_end_that_cannot_be_written_does_not_change_the_answer(world: World) -> None:
    async def inner(request: Any, context: Any) -> Message:
        world.log.error = Unavailable("away")
        return EMPTY

    context = await world.call(DELETE, registry.DeleteFunctionRequest(id="greet"), inner)

    assert context.answer.code == 0
    assert outcomes(world) == [UNFINISHED]


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (NotFound("gone", reason="FUNCTION_NOT_FOUND"), "NOT_FOUND", "FUNCTION_NOT_FOUND"),
        (PermissionDenied("no", reason="NOT_YOURS"), "PERMISSION_DENIED", "NOT_YOURS"),
        (InvalidArgument.of("id", "hunter2"), "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        (RuntimeError("hunter2"), "INTERNAL", "INTERNAL"),
    ],
)
async def test_a_call_that_fails_ends_with_its_code_and_reason_and_none_of_its_words(
    world: World, error: Exception, outcome: str, reason: str
) -> None:
    await world.call(DELETE, registry.DeleteFunctionRequest(id="greet"), raising(error))

    assert world.log.told == [("DeleteFunction", UNFINISHED, ""), ("DeleteFunction", outcome, reason)]
    assert "hunter2" not in repr(world.log.events)


async def test_a_call_that_takes_too_long_is_told_as_such(world: World) -> None:
    async def inner(request: Any, context: Any) -> Message:
        await asyncio.sleep(60)
        raise AssertionError

    await world.call(DELETE, registry.DeleteFunctionRequest(id="greet"), inner, timeout_ms=50)

    assert outcomes(world) == [UNFINISHED, "DEADLINE_EXCEEDED"]


async def test_a_call_that_is_cancelled_has_its_end_all_the_same_even_when_that_is_cancelled_too(world: World) -> None:
    begun = asyncio.Event()

    async def inner(request: Any, context: Any) -> Message:
        begun.set()
        await asyncio.sleep(60)
        raise AssertionError

    task = asyncio.create_task(world.call(DELETE, registry.DeleteFunctionRequest(id="greet"), inner))
    await begun.wait()
    world.log.gate.clear()
    for _ in range(2):
        task.cancel()
        await asyncio.wait([task], timeout=0.02)
    assert task.cancelled()
    world.log.gate.set()
    await asyncio.sleep(0.02)

    assert outcomes(world) == [UNFINISHED, "CANCELLED"]


async def test_a_call_that_is_cancelled_while_its_beginning_is_written_is_not_made_and_has_an_end(world: World) -> None:
    world.log.gate.clear()
    task = asyncio.create_task(world.call(DELETE, registry.DeleteFunctionRequest(id="greet"), never))
    await asyncio.sleep(0.02)

    task.cancel()
    await asyncio.sleep(0.02)
    world.log.gate.set()
    await asyncio.wait([task])

    # Whether the beginning was kept, nobody could say; the end stands alone.
    assert outcomes(world) == ["CANCELLED"]


# Who is not let in


async def test_a_caller_who_may_not_is_written_down_with_what_it_wanted(world: World) -> None:
    world.gate.caller = dev(name="ada")
    world.gate.refusal = PermissionDenied("no", reason="ADMIN_NEEDED")

    context = await world.call(DELETE, registry.DeleteFunctionRequest(id="greet"), never)

    (event,) = world.log.events
    assert context.answer.code == grpc.StatusCode.PERMISSION_DENIED.value[0]
    assert (event.actor, event.actor_name, event.role) == (world.gate.caller.id, "ada", "DEV")
    assert (event.entity_id, event.outcome, event.reason) == ("greet", "PERMISSION_DENIED", "ADMIN_NEEDED")


async def test_who_may_not_hears_that_also_when_it_cannot_be_written_down(world: World) -> None:
    world.gate.refusal = PermissionDenied("no", reason="ADMIN_NEEDED")
    world.log.error = Unavailable("away")

    context = await world.call(DELETE, b"\xff", never)

    assert context.answer.code == grpc.StatusCode.PERMISSION_DENIED.value[0]


async def test_a_refused_caller_who_sends_no_message_is_written_down_without_what_it_wanted(world: World) -> None:
    world.gate.refusal = PermissionDenied("no", reason="ADMIN_NEEDED")

    await world.call(DELETE, b"\xff", never)

    (event,) = world.log.events
    assert (event.actor, event.entity_id, event.outcome) == (ADMIN.id, "", "PERMISSION_DENIED")


@pytest.mark.parametrize("refusal", [Unauthenticated("who?"), Unavailable("auth is away"), ResourceExhausted("too many")])
async def test_calls_of_nobody_fill_no_log(world: World, refusal: KilnError) -> None:
    world.gate.refusal = refusal

    await world.call(DELETE, registry.DeleteFunctionRequest(id="greet"), never)

    assert world.log.events == []


async def test_bytes_that_are_no_message_fill_no_log(world: World) -> None:
    context = await world.call(DELETE, b"\xff", never)

    assert context.answer.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert world.log.events == []


async def test_what_only_reads_is_not_written_down(world: World) -> None:
    context = await world.call(GET, registry.GetFunctionRequest(id="greet"), answering(registry.Function()))

    assert context.answer.code == 0
    assert world.log.events == []


# Logins


async def test_a_login_begins_where_its_handler_lets_it_through_and_names_who_was_tried(world: World) -> None:
    user, session = uuid4(), str(uuid4())

    async def inner(request: Any, context: Any) -> Message:
        assert world.log.events == []
        await audit.begin(user, "ada")
        assert outcomes(world) == [UNFINISHED]
        return auth.LoginResponse(caller=auth.Caller(session=session), session_token="secret")

    world.gate.caller = None
    await world.call(LOGIN, auth.LoginRequest(name="hunter2", password="hunter2"), inner)

    ended = world.log.events[-1]
    assert (ended.actor, ended.actor_name, ended.role, ended.entity_id, ended.outcome) == (str(user), "ada", "", session, "OK")
    assert "hunter2" not in repr(world.log.events)


async def test_a_login_of_nobody_who_is_known_names_nobody(world: World) -> None:
    async def inner(request: Any, context: Any) -> Message:
        await audit.begin(None, request.name)
        raise Unauthenticated("no", reason="BAD_CREDENTIALS")

    world.gate.caller = None
    await world.call(LOGIN, auth.LoginRequest(name="hunter2", password="hunter2"), inner)

    ended = world.log.events[-1]
    assert (ended.actor, ended.actor_name, ended.entity_id) == ("", "", "")
    assert (ended.outcome, ended.reason, ended.address) == ("UNAUTHENTICATED", "BAD_CREDENTIALS", "192.0.2.7")


async def test_a_login_that_is_turned_away_before_fills_no_log(world: World) -> None:
    world.gate.caller = None

    await world.call(LOGIN, auth.LoginRequest(name="ada"), raising(ResourceExhausted("too early")))

    assert world.log.events == []


async def test_a_handler_that_forgets_to_begin_is_a_fault_of_ours(world: World) -> None:
    world.gate.caller = None

    context = await world.call(LOGIN, auth.LoginRequest(name="ada"), answering(auth.LoginResponse()))

    assert context.answer.code == grpc.StatusCode.INTERNAL.value[0]


async def test_outside_of_a_call_there_is_nothing_to_write_down() -> None:
    await audit.begin(uuid4(), "ada")
    audit.about(uuid4())


# What it was done to


async def test_an_id_in_the_answer_takes_the_place_of_a_name_in_the_request(world: World) -> None:
    identity = str(uuid4())

    await world.call(UPDATE, registry.UpdateFunctionRequest(id="greet"), answering(registry.Function(id=identity)))

    assert [one.entity_id for one in world.log.events] == ["greet", identity]


async def test_a_handler_says_what_it_was_about_where_no_message_has_it(world: World) -> None:
    group, user = uuid4(), uuid4()

    async def inner(request: Any, context: Any) -> Message:
        audit.about(group, user=user)
        raise NotFound("no member")

    await world.call(ADD, auth.AddMemberRequest(id="crew", user="ada"), inner)

    assert [(one.entity_id, one.user) for one in world.log.events] == [("crew", "ada"), (str(group), str(user))]


async def test_a_callers_own_session_is_what_it_signs_out_of(world: World) -> None:
    session = str(uuid4())
    world.gate.caller = dev(session=session)

    await world.call(LOGOUT, auth.LogoutRequest(), answering(EMPTY))

    assert [(one.entity_kind, one.entity_id) for one in world.log.events] == [("session", session)] * 2


@pytest.mark.parametrize(
    "text",
    [
        "correct horse battery staple",
        "kiln_0198c0de_secret",
        new_credential(Kind.API_KEY).text,
        new_credential(Kind.SESSION).text,
        "Hunter2",
        "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0.c2ln",
        "x" * 64,
        "a\nb",
        "",
        "é",
        f"{{{uuid4()}}}",
    ],
    ids=[
        "words",
        "like a key",
        "a key",
        "a session",
        "a password",
        "a token",
        "long",
        "two lines",
        "nothing",
        "a letter",
        "an id in braces",
    ],
)
async def test_what_has_not_the_form_of_an_id_or_a_name_is_not_written_down(world: World, text: str) -> None:
    await world.call(ADD, auth.AddMemberRequest(id=text, user=text), raising(NotFound("none")))

    assert [(one.entity_id, one.user) for one in world.log.events] == [("", "")] * 2


# Servers


class Servicer:
    """Takes the place of generated code that adds a servicer."""

    def __init__(self, method: str, handler: Any) -> None:
        self.service, _, self.name = method.removeprefix("/").partition("/")
        self.handler = handler

    def add_to(self, around: ServerInterceptor) -> None:
        Handlers(around, grpc.aio.server()).add_registered_method_handlers(self.service, {self.name: self.handler})


async def test_a_server_without_a_log_has_no_rpc_that_must_be_in_it() -> None:
    around = ServerInterceptor(Gate(), max_concurrent=1)

    with pytest.raises(ValueError, match="DeleteFunction is to be in the audit log, and there is none"):
        Servicer(DELETE, grpc.unary_unary_rpc_method_handler(never)).add_to(around)
    Servicer(GET, grpc.unary_unary_rpc_method_handler(never)).add_to(around)


async def test_an_rpc_that_must_be_in_it_is_no_stream(world: World) -> None:
    with pytest.raises(ValueError, match="is not unary"):
        Servicer(DELETE, grpc.unary_stream_rpc_method_handler(never)).add_to(world.around)


# Events as messages


def test_an_event_travels_whole() -> None:
    event = Event(uuid7(), "DeleteUser", "user", "ada", "b", "c", "d", "DEV", "e", "f", "g", "h", "OK", "i")

    assert Event.of_body(event.to_body()) == event
    assert milliseconds_of(event.id) > 0


def test_an_event_of_another_release_is_read_as_far_as_it_is_known() -> None:
    identity = uuid7()

    told = Event.of_body({"id": str(identity), "action": "DeleteUser", "entity_kind": "user", "mood": "good"})

    assert told == Event(identity, "DeleteUser", "user")


@pytest.mark.parametrize("body", [{}, {"id": "x", "action": "a", "entity_kind": "b"}, {"id": str(uuid4()), "action": "a"}])
def test_what_is_no_event_is_refused(body: dict[str, str]) -> None:
    with pytest.raises((KeyError, ValueError)):
        Event.of_body(body)
