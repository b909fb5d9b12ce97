"""A server asks of every call who makes it, whichever way the call comes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc
import jwt
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from kiln.auth.v1 import auth_pb2, auth_pb2_grpc
from kiln.carrier.v1 import carrier_pb2, carrier_pb2_grpc
from kiln.executor.v1 import executor_pb2, executor_pb2_grpc
from kiln.registry.v1 import registry_pb2, registry_pb2_grpc

from libs.common import audit, status
from libs.common.access.access_tokens import AccessToken
from libs.common.access.exchange import Exchange
from libs.common.access.guard import TokenGuard
from libs.common.access.principal import Principal, Role, caller
from libs.common.access.service_tokens import ServiceTokens
from libs.common.access.watch import TokenState, TokenWatch
from libs.common.carrier import Carrier
from libs.common.channel import open_channel
from libs.common.errors import KilnError
from libs.common.interceptors import ServerInterceptor
from libs.common.served import address_of
from libs.common.server import forever, start_server
from libs.local.ports import free_ports
from tests.support.access import SERVICE_SECRET, PlayedAuth, Signer, playing_auth
from tests.support.audit import KeptAuditLog
from tests.support.callers import ADMIN, dev
from tests.support.waiting import until

GET: Final = "/kiln.registry.v1.Registry/GetFunction"
LOGIN: Final = "/kiln.auth.v1.Auth/Login"
OTHERS: Final = ServiceTokens(SERVICE_SECRET, "gateway")
Metadata = list[tuple[str, str]]

# The generated classes want every RPC.
RegistryServicer: Any = registry_pb2_grpc.RegistryServicer
InternalServicer: Any = registry_pb2_grpc.RegistryInternalServicer
ExecutorServicer: Any = executor_pb2_grpc.ExecutorServicer
AuthServicer: Any = auth_pb2_grpc.AuthServicer


class Registry(RegistryServicer):  # type: ignore[misc]
    """Answers with who calls."""

    async def GetFunction(self, request: Any, context: Any) -> registry_pb2.Function:  # noqa: N802 - gRPC's name
        await asyncio.sleep(0.01)
        return registry_pb2.Function(id=caller().id, name=caller().name)

    async def CreateFunction(self, request: Any, context: Any) -> registry_pb2.Function:  # noqa: N802
        return registry_pb2.Function(id=caller().id, name=caller().name)


class RegistryInternal(InternalServicer):  # type: ignore[misc]
    """The same for services."""

    async def ResolveVersion(self, request: Any, context: Any) -> registry_pb2.ResolveVersionResponse:  # noqa: N802
        return registry_pb2.ResolveVersionResponse(version=registry_pb2.RunnableVersion(abi=caller().name))

    async def Watch(self, requests: Any, context: Any) -> AsyncIterator[registry_pb2.WatchResponse]:  # noqa: N802
        async for _ in requests:
            yield registry_pb2.WatchResponse()


class Executor(ExecutorServicer):  # type: ignore[misc]
    """Answers each message of a stream with who calls."""

    async def ExecuteStream(self, requests: Any, context: Any) -> AsyncIterator[executor_pb2.Execution]:  # noqa: N802
        async for _ in requests:
            yield executor_pb2.Execution(id=caller().id)


class Auth(AuthServicer):  # type: ignore[misc]
    """Answers with where the caller is."""

    async def Login(self, request: Any, context: Any) -> auth_pb2.LoginResponse:  # noqa: N802
        await audit.begin(None, "")
        return auth_pb2.LoginResponse(session_token=address_of(context))


@dataclass
class Server:
    """A server, a channel to it that says nothing by itself, and the auth service that the server follows."""

    auth: PlayedAuth
    state: TokenState
    channel: grpc.aio.Channel
    address: str

    async def get(self, metadata: Metadata) -> str:
        """Who calls, as `GetFunction` sees it."""
        stub: Any = registry_pb2_grpc.RegistryStub(self.channel)
        answer = await stub.GetFunction(registry_pb2.GetFunctionRequest(id="x"), metadata=metadata, timeout=10)
        return str(answer.id)

    async def create(self, metadata: Metadata) -> str:
        """Who calls what is for an ADMIN."""
        stub: Any = registry_pb2_grpc.RegistryStub(self.channel)
        return str((await stub.CreateFunction(registry_pb2.CreateFunctionRequest(), metadata=metadata, timeout=10)).id)

    async def resolve(self, metadata: Metadata) -> str:
        """Who calls what is for services."""
        stub: Any = registry_pb2_grpc.RegistryInternalStub(self.channel)
        return str((await stub.ResolveVersion(registry_pb2.ResolveVersionRequest(), metadata=metadata, timeout=10)).version.abi)

    async def login(self, metadata: Metadata) -> str:
        """Where the caller of `Login` is, as the server sees it."""
        stub: Any = auth_pb2_grpc.AuthStub(self.channel)
        return str((await stub.Login(auth_pb2.LoginRequest(), metadata=metadata, timeout=10)).session_token)

    def execute(self, metadata: Metadata) -> Any:
        """A stream that stays open."""
        stub: Any = executor_pb2_grpc.ExecutorStub(self.channel)
        return stub.ExecuteStream(metadata=metadata)

    def carrier(self, tokens: ServiceTokens | None = OTHERS) -> Carrier:
        """A carrier to it."""
        return Carrier(self.channel, self.address, tokens)


def bearer(text: str) -> Metadata:
    return [("authorization", f"Bearer {text}")]


async def refusal(call: Any) -> tuple[str, str]:
    """Code and reason with which a call is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code().name, reason(caught.value)


def reason(error: grpc.aio.AioRpcError) -> str:
    known: KilnError = status.from_rpc_error(error)
    return known.reason


@pytest.fixture
def auth() -> Iterator[tuple[str, PlayedAuth]]:
    with playing_auth() as playing:
        yield playing


@asynccontextmanager
async def serving(auth: tuple[str, PlayedAuth], grace_seconds: float = 30) -> AsyncIterator[Server]:
    """A server that follows an auth service."""
    auth_address, played = auth
    address, tokens, state = f"127.0.0.1:{free_ports(1)[0]}", ServiceTokens(SERVICE_SECRET, "registry"), TokenState()
    async with open_channel(auth_address, tokens) as to_auth, grpc.aio.insecure_channel(address) as channel:
        stub: Any = auth_pb2_grpc.AuthInternalStub(to_auth)
        following = asyncio.create_task(forever("token_watch", TokenWatch(stub, state).follow, pause_seconds=0.1))
        running = await start_server(
            address,
            [
                lambda server: registry_pb2_grpc.add_RegistryServicer_to_server(Registry(), server),
                lambda server: registry_pb2_grpc.add_RegistryInternalServicer_to_server(RegistryInternal(), server),
                lambda server: executor_pb2_grpc.add_ExecutorServicer_to_server(Executor(), server),
                lambda server: auth_pb2_grpc.add_AuthServicer_to_server(Auth(), server),
            ],
            services=["kiln.registry.v1.Registry"],
            around=ServerInterceptor(
                TokenGuard(Exchange(stub, state), tokens, grace_seconds=grace_seconds), max_concurrent=50, audit_log=KeptAuditLog()
            ),
        )
        try:
            yield Server(played, state, channel, address)
        finally:
            await running.stop(0)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


@pytest_asyncio.fixture
async def server(auth: tuple[str, PlayedAuth]) -> AsyncIterator[Server]:
    """A server that has heard of everything."""
    async with serving(auth) as running:
        await until(lambda: running.state.silent_seconds is not None)
        yield running


# Calls by themselves


async def test_nobody_is_let_in_but_where_anyone_is(server: Server) -> None:
    nothing: Metadata = []

    assert await refusal(server.get(nothing)) == ("UNAUTHENTICATED", "NO_CREDENTIAL")
    assert await refusal(server.create(nothing)) == ("UNAUTHENTICATED", "NO_CREDENTIAL")
    assert await refusal(server.resolve(nothing)) == ("UNAUTHENTICATED", "NO_CREDENTIAL")
    assert await refusal(server.execute(nothing).read()) == ("UNAUTHENTICATED", "NO_CREDENTIAL")
    assert await server.login(nothing) == "127.0.0.1"


async def test_a_health_check_needs_nobody(server: Server) -> None:
    check: Any = health_pb2_grpc.HealthStub(server.channel)

    answer = await check.Check(health_pb2.HealthCheckRequest(service="kiln.registry.v1.Registry"), timeout=5)

    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_user_is_let_in_by_an_access_token(server: Server) -> None:
    user = dev()

    metadata = bearer(server.auth.token(user))

    assert [await server.get(metadata) for _ in range(2)] == [user.id] * 2
    assert await refusal(server.create(metadata)) == ("PERMISSION_DENIED", "ADMIN_NEEDED")
    assert await refusal(server.resolve(metadata)) == ("PERMISSION_DENIED", "NOT_FOR_YOU")
    assert await server.create(bearer(server.auth.token(ADMIN))) == ADMIN.id


async def test_whoever_signed_a_token_but_auth_is_refused(server: Server) -> None:
    forged = Signer(server.auth.signer.key_id).token(ADMIN)

    assert await refusal(server.get(bearer(forged))) == ("UNAUTHENTICATED", "BAD_TOKEN")
    assert await refusal(server.get(bearer("x"))) == ("UNAUTHENTICATED", "BAD_TOKEN")
    assert await refusal(server.get([("authorization", "Basic x")])) == ("UNAUTHENTICATED", "BAD_CREDENTIALS")


async def test_no_metadata_but_authorization_makes_anybody_somebody(server: Server) -> None:
    token = server.auth.token(ADMIN)
    forged: Metadata = [
        ("x-user-id", ADMIN.id),
        ("x-kiln-user", ADMIN.id),
        ("cookie", f"kiln_session={token}"),
        ("x-authorization", f"Bearer {token}"),
        ("proxy-authorization", f"Bearer {token}"),
    ]

    assert await refusal(server.get(forged)) == ("UNAUTHENTICATED", "NO_CREDENTIAL")


async def test_a_service_is_let_in_where_services_are_and_nowhere_else(server: Server) -> None:
    metadata = bearer(OTHERS.own())

    assert await server.resolve(metadata) == "gateway"
    assert await refusal(server.get(metadata)) == ("PERMISSION_DENIED", "NOT_FOR_YOU")
    assert await refusal(server.create(metadata)) == ("PERMISSION_DENIED", "NOT_FOR_YOU")
    forged = ServiceTokens("another-secret-of-32-characters-or-more", "gateway").own()
    assert await refusal(server.resolve(bearer(forged))) == ("UNAUTHENTICATED", "BAD_TOKEN")


async def test_a_token_of_a_trusted_issuer_is_exchanged_by_the_service_itself(server: Server) -> None:
    user = dev()
    token = jwt.encode({"iss": "https://id.example.com", "sub": user.id}, "a secret of thirty-two characters", headers={"typ": "at+jwt"})
    server.auth.principals[token] = user

    assert [await server.get(bearer(token)) for _ in range(3)] == [user.id] * 3
    assert await refusal(server.create(bearer(token))) == ("PERMISSION_DENIED", "ADMIN_NEEDED")
    # Not even where a service is let in does it pass for one.
    assert await refusal(server.resolve(bearer(token))) == ("PERMISSION_DENIED", "NOT_FOR_YOU")
    other = jwt.encode({"iss": "https://other.example.com"}, "a secret of thirty-two characters")
    assert [await refusal(server.get(bearer(other))) for _ in range(2)] == [("UNAUTHENTICATED", "BAD_CREDENTIALS")] * 2
    assert len(server.auth.exchanges) == 2


async def test_an_api_key_is_exchanged_once_by_the_service_itself(server: Server) -> None:
    user = dev()
    key = server.auth.key(user)

    assert [await server.get(bearer(key)) for _ in range(3)] == [user.id] * 3

    (asked,) = server.auth.exchanges
    assert (asked.message.credential, asked.message.address) == (key, "127.0.0.1")
    principal, _ = OTHERS.verify(str(asked.metadata["authorization"]).removeprefix("Bearer "))
    assert (principal.name, principal.role) == ("registry", Role.SERVICE)


async def test_an_unknown_api_key_is_refused(server: Server) -> None:
    key = server.auth.key(dev())
    server.auth.principals.clear()

    assert await refusal(server.get(bearer(key))) == ("UNAUTHENTICATED", "BAD_CREDENTIALS")


async def test_calls_at_the_same_time_know_their_own_callers(server: Server) -> None:
    users = [dev() for _ in range(20)]

    seen = await asyncio.gather(*(server.get(bearer(server.auth.token(user))) for user in users))

    assert seen == [user.id for user in users]


# Changes


async def test_a_token_that_is_no_longer_true_is_refused_within_seconds(server: Server) -> None:
    user, other = dev(), dev()
    metadata, key = bearer(server.auth.token(user)), bearer(server.auth.key(user))
    before = [await server.get(metadata), await server.get(key)]

    server.auth.change(user.id)
    server.auth.principals.clear()

    await until(lambda: is_refused(server.get(metadata), "STALE_TOKEN"), seconds=5)
    await until(lambda: is_refused(server.get(key), "BAD_CREDENTIALS"), seconds=5)
    assert before == [user.id] * 2
    assert await server.get(bearer(server.auth.token(other))) == other.id
    assert await server.get(bearer(server.auth.token(user))) == user.id


async def is_refused(call: Any, why: str) -> bool:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return reason(error) == why
    return False


async def test_a_stream_that_stays_open_ends_within_seconds_once_its_caller_may_not_any_more(server: Server) -> None:
    user, other = dev(session="a-session"), dev(session="another")
    ending, staying = (server.execute(bearer(server.auth.token(one))) for one in (user, other))
    watching: Any = registry_pb2_grpc.RegistryInternalStub(server.channel)
    watch = watching.Watch(metadata=bearer(OTHERS.own()))
    for stream in (ending, staying):
        await stream.write(executor_pb2.ExecuteStreamRequest())
    first = [(await stream.read()).id for stream in (ending, staying)]

    server.auth.change("a-session")
    end = await refusal(asyncio.wait_for(ending.read(), 5))

    assert first == [user.id, other.id]
    assert end == ("UNAUTHENTICATED", "STALE_TOKEN")
    # Nobody else's ends, and no service's.
    await staying.write(executor_pb2.ExecuteStreamRequest())
    await watch.write(registry_pb2.WatchRequest())
    assert (await asyncio.wait_for(staying.read(), 5)).id == other.id
    assert isinstance(await asyncio.wait_for(watch.read(), 5), registry_pb2.WatchResponse)
    for stream in (staying, watch):
        stream.cancel()


async def test_a_stream_says_that_it_is_admitted_before_anything_is_sent_and_one_that_is_refused_does_not(server: Server) -> None:
    admitted, refused = server.execute(bearer(server.auth.token(dev()))), server.execute(bearer("x"))

    said = [dict(await asyncio.wait_for(stream.initial_metadata(), 5)) for stream in (admitted, refused)]

    assert [list(one) for one in said] == [["x-request-id"], []]
    assert await refused.code() is grpc.StatusCode.UNAUTHENTICATED
    admitted.cancel()


async def test_a_stream_of_an_api_key_ends_as_well(server: Server) -> None:
    user = dev(api_key="a-key")
    stream = server.execute(bearer(server.auth.key(user)))
    await stream.write(executor_pb2.ExecuteStreamRequest())
    first = (await stream.read()).id

    server.auth.change("a-key")

    assert first == user.id
    assert await refusal(asyncio.wait_for(stream.read(), 10)) == ("UNAUTHENTICATED", "STALE_TOKEN")


# While auth is away


async def test_before_anything_was_heard_users_wait_and_services_do_not(auth: tuple[str, PlayedAuth]) -> None:
    auth[1].has_begun = False
    async with serving(auth) as server:
        user = dev()
        metadata = bearer(server.auth.token(user))

        early = await refusal(server.get(metadata))
        service = await server.resolve(bearer(OTHERS.own()))
        auth[1].has_begun = True

        await until(lambda: server.state.silent_seconds is not None)
        assert (early, service) == (("UNAVAILABLE", "STARTING"), "gateway")
        assert await server.get(metadata) == user.id


async def test_who_was_seen_is_served_while_auth_is_silent_for_the_grace_alone(auth: tuple[str, PlayedAuth]) -> None:
    async with serving(auth, grace_seconds=1.5) as server:
        await until(lambda: server.state.silent_seconds is not None)
        user = dev()
        metadata = bearer(server.auth.token(user))
        await server.get(metadata)

        server.auth.is_silent = True
        await until(lambda: (server.state.silent_seconds or 0) > 0.5)
        within = await server.get(metadata)
        await until(lambda: (server.state.silent_seconds or 0) > 1.5)
        past = await refusal(server.get(metadata))
        service = await server.resolve(bearer(OTHERS.own()))
        server.auth.is_silent = False

        await until(lambda: (server.state.silent_seconds or 0) < 0.5)
        assert (within, past, service) == (user.id, ("UNAVAILABLE", "AUTH_AWAY"), "gateway")
        assert await server.get(metadata) == user.id


# Calls that are carried


async def carried(carrier: Carrier, metadata: Metadata, method: str = GET) -> bytes:
    return await carrier.call(method, b"", seconds=5, metadata=metadata)


async def carried_caller(carrier: Carrier, metadata: Metadata) -> str:
    return str(registry_pb2.Function.FromString(await carried(carrier, metadata)).id)


async def test_each_carried_call_is_its_own_callers(server: Server) -> None:
    carrier = server.carrier()
    users = [dev() for _ in range(10)]

    seen = await asyncio.gather(*(carried_caller(carrier, bearer(server.auth.token(user))) for user in users))

    assert seen == [user.id for user in users]
    await carrier.close()


async def test_a_carried_call_has_nothing_of_what_the_connection_was_opened_with(server: Server) -> None:
    carrier = server.carrier()
    user = dev()

    nobody = await refusal(carried(carrier, []))
    bad = await refusal(carried(carrier, bearer("x")))
    good = await carried_caller(carrier, bearer(server.auth.token(user)))
    internal = await refusal(carried(carrier, [], "/kiln.registry.v1.RegistryInternal/ResolveVersion"))
    server.auth.change(user.id)

    assert (nobody, bad, good) == (("UNAUTHENTICATED", "NO_CREDENTIAL"), ("UNAUTHENTICATED", "BAD_TOKEN"), user.id)
    assert internal == ("UNAUTHENTICATED", "NO_CREDENTIAL")
    await until(lambda: server.state.is_stale(_token_of(user)))
    assert await refusal(carried(carrier, bearer(server.auth.signer.token(user)))) == ("UNAUTHENTICATED", "STALE_TOKEN")
    await carrier.close()


def _token_of(user: Principal) -> AccessToken:
    return AccessToken(user, 1, 0)


@pytest.mark.parametrize("who", ["nobody", "a user", "an ADMIN", "an API key", "another secret"])
async def test_only_a_service_may_carry_calls(server: Server, who: str) -> None:
    presented = {
        "nobody": [],
        "a user": bearer(server.auth.token(dev())),
        "an ADMIN": bearer(server.auth.token(ADMIN)),
        "an API key": bearer(server.auth.key(ADMIN)),
        "another secret": bearer(ServiceTokens("another-secret-of-32-characters-or-more", "gateway").own()),
    }
    expected = {"nobody": ("UNAUTHENTICATED", "NO_CREDENTIAL"), "another secret": ("UNAUTHENTICATED", "BAD_TOKEN")}
    stub: Any = carrier_pb2_grpc.CarrierInternalStub(server.channel)

    assert await refusal(stub.Open(carrier_pb2.OpenRequest(), metadata=presented[who])) == expected.get(
        who, ("PERMISSION_DENIED", "NOT_FOR_YOU")
    )


async def test_a_connection_of_a_service_carries_calls(server: Server) -> None:
    carrier = server.carrier()

    answer = await carried(carrier, [], LOGIN)

    assert auth_pb2.LoginResponse.FromString(answer).session_token == ""
    await carrier.close()


# Where callers are


@pytest.mark.parametrize("name", ["x-kiln-caller-address", "x-forwarded-for", "forwarded", "x-real-ip"])
async def test_where_a_caller_says_that_it_is_is_not_believed(server: Server, name: str) -> None:
    forged = [(name, "203.0.113.9")]

    assert await server.login(forged) == "127.0.0.1"
    assert await server.login(forged + bearer(server.auth.token(dev()))) == "127.0.0.1"
    assert await server.login(forged + bearer(OTHERS.own())) == "127.0.0.1"
    await server.get(forged + bearer(server.auth.key(dev())))
    assert [call.message.address for call in server.auth.exchanges] == ["127.0.0.1"]


async def test_what_a_service_says_of_callers_whose_calls_it_carries_is_believed(server: Server) -> None:
    carrier = server.carrier()

    answer = await carried(carrier, [("x-kiln-caller-address", "203.0.113.9")], LOGIN)

    assert auth_pb2.LoginResponse.FromString(answer).session_token == "203.0.113.9"
    await carrier.close()
