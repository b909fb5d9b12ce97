"""Every call by every caller about every kind of target, by every way in, against one table that was written by hand."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from kiln.executor.v1 import executor_pb2

from libs.common.access.service_tokens import ServiceTokens
from services.gateway import descriptors
from services.gateway.descriptors import http_rule, message_class, owner, wire_name
from services.gateway.transcoder import variables_of
from tests.e2e.access_table import BY_REST, CALLERS, TABLE
from tests.support.platform import ECHO, Platform, running_platform

PASSWORD: Final = "nine horses cross a frozen lake"
ABSENT: Final = "01890000-0000-7000-8000-000000000000"
MALFORMED: Final = "N O T H I N G"
EXPIRE: Final = (
    "UPDATE auth.api_keys SET created_at = created_at - interval '2 days', expires_at = now() - interval '1 day' WHERE id = $1::uuid"
)
METHODS: Final[Mapping[str, MethodDescriptor]] = {
    wire_name(method).removeprefix("/"): method for service in descriptors.services() for method in service.methods
}
PUBLIC: Final = [wire_name(method).removeprefix("/") for method in descriptors.public_methods()]
CODES: Final[Mapping[grpc.StatusCode, str]] = {
    grpc.StatusCode.OK: "+",
    grpc.StatusCode.INVALID_ARGUMENT: "B",
    grpc.StatusCode.FAILED_PRECONDITION: "B",
    grpc.StatusCode.UNAUTHENTICATED: "U",
    grpc.StatusCode.PERMISSION_DENIED: "D",
    grpc.StatusCode.NOT_FOUND: "N",
}
STATUSES: Final = {200: "+", 201: "+", 204: "+", 400: "B", 401: "U", 403: "D", 404: "N"}

_numbers = itertools.count()


@dataclass
class World:
    """A platform with every caller, and targets of each kind: `own`, and of a user who makes no call."""

    platform: Platform
    credentials: dict[str, str] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)
    group: str = ""
    functions: dict[str, str] = field(default_factory=dict)
    environments: dict[str, str] = field(default_factory=dict)
    executions: dict[str, str] = field(default_factory=dict)
    stack: ExitStack = field(default_factory=ExitStack)
    channels: dict[str, grpc.Channel] = field(default_factory=dict)
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30, trust_env=False))

    def name(self, kind: str) -> str:
        """Another each time."""
        return f"{kind}-{next(_numbers)}"

    def lists(self, whose: str) -> dict[str, Any]:
        """Who may access what is `own`, and what is others'."""
        if whose == "own":
            return {"allowedUsers": [self.users["allowed"]], "allowedGroups": [self.group]}
        return {"allowedUsers": [self.users["nobody-else"]]}

    def owner(self, whose: str) -> str:
        """The user that it is of."""
        return self.users["allowed" if whose == "own" else "nobody-else"]

    def channel(self, address: str) -> grpc.Channel:
        """A connection that is kept."""
        if address not in self.channels:
            self.channels[address] = self.stack.enter_context(grpc.insecure_channel(address))
        return self.channels[address]


@pytest.fixture(scope="module")
def world(home: Path) -> Iterator[World]:
    with running_platform(home / "matrix") as platform:
        made = World(platform)
        with made.stack, made.client:
            _make_users(made)
            _make_callers(made)
            _make_targets(made)
            yield made


def _make_users(world: World) -> None:
    for name, role in (
        ("root", "ADMIN"), ("gone", "ADMIN"), ("allowed", "DEV"), ("group", "DEV"), ("other", "DEV"), ("nobody-else", "DEV")
    ):  # fmt: skip
        world.users[name] = world.platform.made("/users", name=name, role=role, password=PASSWORD)["id"]
    world.group = world.platform.made("/groups", name="friends")["id"]
    world.platform.http.post(f"/groups/{world.group}/members", json={"user": "group"}).raise_for_status()


def _make_targets(world: World) -> None:
    for whose in ("own", "others"):
        function = world.platform.deploy(f"function-{whose}", ECHO, **world.lists(whose))
        world.functions[whose] = function["id"]
        world.environments[whose] = world.platform.made("/environments", name=f"environment-{whose}", **world.lists(whose))["id"]
        world.executions[whose] = world.platform.execute(function["name"])["id"]
    # Only now is there a function that a key can be narrowed to.
    narrowed = world.platform.made("/api-keys", name="narrowed", user="root", functions=[world.functions["own"]], verbs=["READ", "EXECUTE"])
    world.credentials["narrowed"] = narrowed["key"]


def _make_callers(world: World) -> None:
    def key(user: str) -> dict[str, Any]:
        return world.platform.made("/api-keys", name="a key", user=user)

    world.credentials |= {name: key(name)["key"] for name in ("allowed", "group", "other")}
    world.credentials["admin"] = key("root")["key"]
    expired, revoked, disabled = key("root"), key("root"), key("gone")
    world.credentials |= {"nobody": "", "expired": expired["key"], "revoked": revoked["key"], "disabled": disabled["key"]}
    world.platform.in_database(EXPIRE, expired["id"])
    world.platform.http.delete(f"/api-keys/{revoked['id']}").raise_for_status()
    world.platform.http.put("/users/gone", json={"disabled": True}).raise_for_status()
    secret = (world.platform.home / "service.secret").read_text().strip()
    world.credentials["service"] = ServiceTokens(secret, "registry").own()


# What is asked: for each call a body that is right but for its target; what a call may take away is new each time.

Body = dict[str, Any]
Maker = Callable[[World, str], Body]


def _of(targets: str, **more: Any) -> Maker:
    """A call about one of the things that are there throughout."""
    return lambda world, whose: {"id": getattr(world, targets)[whose], **more}


def _of_group(**more: Any) -> Maker:
    return lambda world, whose: {
        "id": world.group if whose == "own" else world.platform.made("/groups", name=world.name("group"))["id"],
        **more,
    }


def _of_new(path: str, kind: str) -> Maker:
    """A call about something that is made for it."""
    return lambda world, whose: {"id": world.platform.made(path, name=world.name(kind), **world.lists(whose))["id"]}


def _of_new_function(world: World, whose: str) -> Body:
    # It need not be built.
    source = {"language": "assemblyscript", "source": ECHO}
    return {"id": world.platform.made("/functions", name=world.name("function"), **source, **world.lists(whose))["id"]}


def _of_new_user(world: World, whose: str) -> Body:
    return {"id": world.platform.made("/users", name=world.name("user"), password=PASSWORD)["id"]}


def _of_new_key(world: World, whose: str) -> Body:
    user = world.owner(whose)
    # A user may not have any number of keys.
    for key in world.platform.http.get("/api-keys", params={"user": user, "pageSize": 1000}).json()["apiKeys"]:
        if key["name"] == "made for a call":
            world.platform.http.delete(f"/api-keys/{key['id']}").raise_for_status()
    return {"id": world.platform.made("/api-keys", name="made for a call", user=user)["id"]}


def _of_new_session(world: World, whose: str) -> Body:
    name = "allowed" if whose == "own" else "nobody-else"
    with httpx.Client(base_url=world.platform.http.base_url, trust_env=False) as browser:
        browser.post("/auth/login", json={"name": name, "password": PASSWORD}).raise_for_status()
    found = world.platform.http.get("/sessions", params={"user": name, "pageSize": 1}).json()["sessions"]
    return {"id": found[0]["id"]}


def _member(world: World, whose: str) -> Body:
    return {"id": world.platform.made("/groups", name=world.name("group"))["id"], "user": "other"}


def _no_member(world: World, whose: str) -> Body:
    body = _member(world, whose)
    world.platform.http.post(f"/groups/{body['id']}/members", json={"user": "other"}).raise_for_status()
    return body


def _new(kind: str, **more: Any) -> Maker:
    return lambda world, _whose: {"name": world.name(kind), **more}


def _just(**body: Any) -> Maker:
    return lambda _world, _whose: dict(body)


BODIES: Final[Mapping[str, Maker]] = {
    "CreateFunction": _new("function", language="assemblyscript", source=ECHO),
    "GetFunction": _of("functions"),
    "UpdateFunction": _of("functions", description="changed"),
    "DeleteFunction": _of_new_function,
    "ListVersions": _of("functions"),
    "GetVersion": _of("functions", version=1),
    "BuildVersion": _of("functions", version=1),
    "RollbackFunction": _of("functions", version=1),
    "CreateEnvironment": _new("environment"),
    "GetEnvironment": _of("environments"),
    "UpdateEnvironment": _of("environments", description="changed"),
    "DeleteEnvironment": _of_new("/environments", "environment"),
    "ExecuteFunction": _of("functions", input=1),
    "ExecuteBatch": _of("functions", inputs=[1]),
    "ExecuteStream": _of("functions", input=1),
    "ListExecutions": _of("functions"),
    "GetExecution": _of("executions"),
    "Login": _just(name="nobody-else", password=PASSWORD),
    "BeginOidcLogin": _just(provider="nobody"),
    "CompleteOidcLogin": _just(provider="nobody", state="state", code="code"),
    "ChangePassword": _just(currentPassword=PASSWORD, newPassword="ten horses cross a frozen lake"),
    "CreateUser": _new("user", password=PASSWORD),
    "GetUser": lambda world, whose: {"id": world.owner(whose)},
    "UpdateUser": lambda world, whose: {"id": world.owner(whose), "role": "DEV"},
    "DeleteUser": _of_new_user,
    "CreateGroup": _new("group"),
    "GetGroup": _of_group(),
    "UpdateGroup": _of_group(description="changed"),
    "DeleteGroup": _of_group(),
    "ListMembers": _of_group(),
    "AddMember": _member,
    "RemoveMember": _no_member,
    "DeleteSession": _of_new_session,
    "CreateApiKey": _just(name="a key"),
    "GetApiKey": _of_new_key,
    "RotateApiKey": _of_new_key,
    "RevokeApiKey": _of_new_key,
    "ExchangeCredential": _just(credential="kiln_none"),
    "GetArtifact": _just(digest="sha256:" + "0" * 64),
    "ResolveVersion": _of("functions"),
}


def body_for(world: World, call: str, target: str) -> Body:
    make = BODIES.get(call.rpartition("/")[2], _just())
    if target in ("absent", "malformed"):
        # What else it says is right, so that nothing but its target can be refused.
        return {**make(world, "own" if "own" in TABLE[call] else "others"), "id": ABSENT if target == "absent" else MALFORMED}
    return make(world, target)


# The ways in


def by_rest(world: World, call: str, credential: str, body: Body) -> str:
    rule = http_rule(METHODS[call])
    assert rule
    rest = dict(body)
    path = rule.template
    for variable in variables_of(rule):
        path = path.replace(f"{{{variable}}}", str(rest.pop(variable)))
    headers = {"authorization": f"Bearer {credential}"} if credential else {}
    content: dict[str, Any] = {"json": rest} if rule.body else {"params": rest}
    answer = world.client.request(rule.method, f"{world.platform.http.base_url}{path}", headers=headers, **content)
    # Nobody stays signed in.
    world.client.cookies.clear()
    return STATUSES.get(answer.status_code, answer.text)


def by_grpc(address: str, world: World, call: str, credential: str, body: Body) -> str:
    method = METHODS[call]
    message: Message = json_format.ParseDict(body, message_class(method.input_type)())
    metadata = [("authorization", f"Bearer {credential}")] if credential else []
    try:
        answer = _first_answer(world.channel(address), method, message, metadata)
    except grpc.RpcError as error:
        return CODES.get(error.code(), str(error))
    # Of a stream of runs each answer has an outcome of its own.
    if isinstance(answer, executor_pb2.Execution) and answer.HasField("refusal"):
        return CODES[next(code for code in grpc.StatusCode if code.value[0] == answer.refusal.code)]
    return "+"


def _first_answer(channel: grpc.Channel, method: MethodDescriptor, message: Message, metadata: Any) -> Message | None:
    """What a call answers first; None where it answers nothing."""
    kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    call: Any = getattr(channel, kind)(wire_name(method), response_deserializer=message_class(method.output_type).FromString)
    asked: Any = iter([message.SerializeToString()])
    answers = call(asked if method.client_streaming else next(asked), metadata=metadata, timeout=30)
    if not method.server_streaming:
        only: Message = answers
        return only
    first: Message | None = next(answers, None)
    answers.cancel()
    return first


Way = Callable[[World, str, str, Body], str]


def ways_of(world: World, call: str) -> dict[str, Way]:
    """Every way in that a call has."""
    service = owner(METHODS[call].containing_service.full_name)
    ways: dict[str, Way] = {}
    for address in services_with(world, service, call):
        ways[f"the {address[0]} itself"] = lambda *asked, to=address[1]: by_grpc(to, *asked)
    if call in PUBLIC:
        ways["the front door"] = lambda *asked: by_grpc(world.platform.grpc_address, *asked)
        if http_rule(METHODS[call]):
            ways["REST"] = by_rest
    return ways


def services_with(world: World, service: str, call: str) -> list[tuple[str, str]]:
    """The services that a call is served by, and where."""
    names = ("registry", "executor", "compiler", "auth") if service == "carrier" else (service,)
    return [(name, world.platform.address_of(name)) for name in names]


# The table


def expected(call: str, target: str, way: str) -> dict[str, str]:
    """What the table says, by caller."""
    row = BY_REST.get(call, {}).get(target, TABLE[call][target]) if way == "REST" else TABLE[call][target]
    letters = row.replace(" ", "")
    assert len(letters) == len(CALLERS), row
    return dict(zip(CALLERS, letters, strict=True))


def test_the_table_has_every_call_and_no_other() -> None:
    assert set(TABLE) == set(METHODS)


@pytest.mark.parametrize("call", PUBLIC)
def test_the_table_is_about_one_thing_where_the_call_is(call: str) -> None:
    has_id = "id" in METHODS[call].input_type.fields_by_name

    assert ("-" in TABLE[call]) != has_id
    assert not has_id or {"others", "absent", "malformed"} <= set(TABLE[call])


@pytest.mark.parametrize("call", TABLE)
def test_every_caller_gets_what_the_table_says(world: World, call: str) -> None:
    wrong = []
    ways = ways_of(world, call)
    for target in TABLE[call]:
        body = body_for(world, call, target)
        for caller, (way, ask) in itertools.product(CALLERS, ways.items()):
            got, letter = ask(world, call, world.credentials[caller], body), expected(call, target, way)[caller]
            if got != letter:
                wrong.append(f"{caller} about {target}, by {way}: {got} and not {letter}")
            if got == "+":
                # The next one finds there what this one may have taken away.
                body = body_for(world, call, target)

    assert wrong == [], json.dumps(wrong, indent=1)


@pytest.mark.parametrize("call", [call for call in TABLE if call not in PUBLIC])
def test_what_services_ask_each_other_is_not_there_at_the_front_door_for_anyone(world: World, call: str) -> None:
    for caller in ("nobody", "allowed", "admin", "service"):
        got = by_grpc(world.platform.grpc_address, world, call, world.credentials[caller], {})

        assert "StatusCode.UNIMPLEMENTED" in got, (caller, got)
