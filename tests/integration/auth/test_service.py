"""The auth service as its callers meet it: over gRPC."""

import asyncio
import base64
import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
import structlog
from google.protobuf import json_format
from kiln.auth.v1 import auth_pb2 as pb
from kiln.options.v1 import options_pb2 as options

from libs.common import logs
from libs.common.access.credentials import parse_credential
from libs.common.access.principal import Role
from libs.common.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    KilnError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
)
from libs.common.ids import uuid7
from services.auth.names import Reference
from services.auth.throttle import Throttle
from services.auth.users import NewUser, UserPatch
from tests.integration.auth.refusals import bad_field, reason, refusal
from tests.integration.auth.serving import Serving, by
from tests.support.auth import BETTER, GOOD
from tests.support.waiting import until


async def admin_key(served: Serving) -> str:
    return (await served.world.key(served.world.root)).text


async def dev(served: Serving, name: str = "ada") -> tuple[pb.User, str]:
    """A new DEV, and the token of its session."""
    root = by(await admin_key(served))
    user = await served.auth.CreateUser(pb.CreateUserRequest(name=name, password=GOOD), **root)
    login = await served.auth.Login(pb.LoginRequest(name=name, password=GOOD))
    return user, login.session_token


async def shut_out(served: Serving, credential: str) -> str:
    """Why a credential is refused, once it is: its end acts everywhere within some seconds."""
    reasons: list[str] = []

    async def is_refused() -> bool:
        try:
            await served.auth.GetCaller(pb.GetCallerRequest(), **by(credential))
        except Unauthenticated as error:
            reasons.append(error.reason)
        return bool(reasons)

    await until(is_refused, seconds=5)
    return reasons[0]


async def test_who_signs_in_is_who_it_is_until_it_signs_out(served: Serving) -> None:
    user, _ = await dev(served)

    login = await served.login_from("2001:db8::1", "a browser", pb.LoginRequest(name="ada", password=GOOD))
    call = by(login.session_token)
    who = await served.auth.GetCaller(pb.GetCallerRequest(), **call)
    sessions = await served.auth.ListSessions(pb.ListSessionsRequest(), **call)
    await served.auth.Logout(pb.LogoutRequest(), **call)

    assert who == login.caller
    assert (who.id, who.name, who.role, who.api_key, list(who.verbs)) == (user.id, "ada", pb.DEV, "", [])
    assert [one.current for one in sessions.sessions] == [True, False]
    newest, older = sessions.sessions
    assert (newest.id, newest.user, newest.expires_at) == (who.session, user.id, login.expires_at)
    assert (newest.address, newest.user_agent) == ("2001:db8::1", "a browser")
    assert older.address == "127.0.0.1"
    assert older.user_agent.startswith("grpc-python-asyncio/")
    assert await shut_out(served, login.session_token) == "BAD_CREDENTIALS"


async def test_a_key_is_told_once_and_acts_for_its_user(served: Serving) -> None:
    user, token = await dev(served)
    function = str(uuid7())
    request = pb.CreateApiKeyRequest(name="robot", functions=[function], verbs=[options.EXECUTE, options.READ], expires_in_days=3)

    made = await served.auth.CreateApiKey(request, **by(token))
    who = await served.auth.GetCaller(pb.GetCallerRequest(), **by(made.key))
    got = await served.auth.GetApiKey(pb.GetApiKeyRequest(id=made.id), **by(token))
    listed = await served.auth.ListApiKeys(pb.ListApiKeysRequest(), **by(token))
    rotated = await served.auth.RotateApiKey(pb.RotateApiKeyRequest(id=made.id, overlap_hours=0), **by(token))
    await served.auth.RevokeApiKey(pb.RevokeApiKeyRequest(id=rotated.id), **by(token))

    assert (who.id, who.api_key, who.session, list(who.functions)) == (user.id, made.id, "", [function])
    assert set(who.verbs) == set(made.verbs) == {options.READ, options.EXECUTE}
    assert (made.user, made.name, list(made.functions), made.HasField("last_used_at")) == (user.id, "robot", [function], False)
    assert [got.key, *(one.key for one in listed.api_keys)] == ["", ""]
    assert got.HasField("last_used_at")
    assert rotated.key not in ("", made.key)
    for key in (made.key, rotated.key):
        assert await shut_out(served, key) == "BAD_CREDENTIALS"


async def test_absent_fields_of_an_update_stay_and_empty_ones_clear(served: Serving) -> None:
    root = by(await admin_key(served))
    user, _ = await dev(served)
    await served.auth.CreateGroup(pb.CreateGroupRequest(name="crew", description="old"), **root)
    await served.auth.AddMember(pb.AddMemberRequest(id="crew", user="ada"), **root)

    promoted = await served.auth.UpdateUser(pb.UpdateUserRequest(id="ada", role=pb.ADMIN), **root)
    disabled = await served.auth.UpdateUser(pb.UpdateUserRequest(id=user.id, disabled=True), **root)
    enabled = await served.auth.UpdateUser(pb.UpdateUserRequest(id="ada", disabled=False, role=pb.ROLE_UNSPECIFIED), **root)
    same = await served.auth.UpdateGroup(pb.UpdateGroupRequest(id="crew"), **root)
    cleared = await served.auth.UpdateGroup(pb.UpdateGroupRequest(id="crew", description=""), **root)
    members = await served.auth.ListMembers(pb.ListMembersRequest(id="crew"), **root)
    await served.auth.RemoveMember(pb.RemoveMemberRequest(id="crew", user="ada"), **root)

    assert [(one.role, one.disabled) for one in (promoted, disabled, enabled)] == [(pb.ADMIN, False), (pb.ADMIN, True), (pb.DEV, False)]
    assert (same.description, cleared.description) == ("old", "")
    assert [one.id for one in members.members] == [user.id]
    assert list(members.members[0].groups) == [same.id]
    assert list((await served.auth.GetUser(pb.GetUserRequest(id="ada"), **root)).groups) == []
    await served.auth.DeleteGroup(pb.DeleteGroupRequest(id="crew"), **root)
    await served.auth.DeleteUser(pb.DeleteUserRequest(id="ada"), **root)
    assert [one.name for one in (await served.auth.ListUsers(pb.ListUsersRequest(), **root)).users] == ["root"]
    assert list((await served.auth.ListGroups(pb.ListGroupsRequest(), **root)).groups) == []


async def test_every_mistake_has_its_error(served: Serving) -> None:
    auth, root = served.auth, by(await admin_key(served))
    _, token = await dev(served)
    mine, other = by(token), str(uuid7())
    keys = [await auth.CreateApiKey(pb.CreateApiKeyRequest(name=name), **mine) for name in ("revoked", "rotated", "good")]
    narrowed = by((await auth.CreateApiKey(pb.CreateApiKeyRequest(name="n", verbs=[options.MANAGE]), **mine)).key)
    await auth.RevokeApiKey(pb.RevokeApiKeyRequest(id=keys[0].id), **mine)
    await auth.RotateApiKey(pb.RotateApiKeyRequest(id=keys[1].id), **mine)
    await auth.CreateGroup(pb.CreateGroupRequest(name="crew"), **root)

    def change(current: str, new: str, call: dict[str, Any]) -> Any:
        return auth.ChangePassword(pb.ChangePasswordRequest(current_password=current, new_password=new), **call)

    refusals: list[tuple[type[KilnError], str, Any]] = [
        (Unauthenticated, "BAD_CREDENTIALS", auth.Login(pb.LoginRequest(name="ada", password=BETTER))),
        (Unauthenticated, "BAD_CREDENTIALS", auth.Login(pb.LoginRequest())),
        (Unauthenticated, "BAD_CREDENTIALS", served.internal.ExchangeCredential(pb.ExchangeCredentialRequest(credential="x"))),
        (Unauthenticated, "BAD_CREDENTIALS", change(BETTER, BETTER, mine)),
        (InvalidArgument, "INVALID_ARGUMENT", change(GOOD, "short", mine)),
        (PermissionDenied, "SESSION_NEEDED", change(GOOD, BETTER, by(keys[2].key))),
        (InvalidArgument, "INVALID_ARGUMENT", auth.CreateUser(pb.CreateUserRequest(name="Bad"), **root)),
        (AlreadyExists, "NAME_TAKEN", auth.CreateUser(pb.CreateUserRequest(name="ada"), **root)),
        (AlreadyExists, "NAME_TAKEN", auth.CreateGroup(pb.CreateGroupRequest(name="crew"), **root)),
        (InvalidArgument, "INVALID_ARGUMENT", auth.ListUsers(pb.ListUsersRequest(page_size=-1), **root)),
        (InvalidArgument, "INVALID_ARGUMENT", auth.ListGroups(pb.ListGroupsRequest(page_token="x"), **root)),
        (InvalidArgument, "INVALID_ARGUMENT", auth.ListSessions(pb.ListSessionsRequest(page_token="x"), **mine)),
        (InvalidArgument, "INVALID_ARGUMENT", auth.ListApiKeys(pb.ListApiKeysRequest(page_size=-1), **mine)),
        (InvalidArgument, "INVALID_ARGUMENT", auth.ListMembers(pb.ListMembersRequest(id="crew", page_token="x"), **root)),
        (NotFound, "USER_NOT_FOUND", auth.GetUser(pb.GetUserRequest(id="nobody"), **root)),
        (NotFound, "USER_NOT_FOUND", auth.UpdateUser(pb.UpdateUserRequest(id=other), **root)),
        (NotFound, "USER_NOT_FOUND", auth.ListSessions(pb.ListSessionsRequest(user="nobody"), **root)),
        (FailedPrecondition, "LAST_ADMIN", auth.DeleteUser(pb.DeleteUserRequest(id="root"), **root)),
        (FailedPrecondition, "LAST_ADMIN", auth.UpdateUser(pb.UpdateUserRequest(id="root", disabled=True), **root)),
        (NotFound, "GROUP_NOT_FOUND", auth.GetGroup(pb.GetGroupRequest(id="nothing"), **root)),
        (InvalidArgument, "INVALID_ARGUMENT", auth.AddMember(pb.AddMemberRequest(id="crew", user="nobody"), **root)),
        (NotFound, "MEMBER_NOT_FOUND", auth.RemoveMember(pb.RemoveMemberRequest(id="crew", user="ada"), **root)),
        (PermissionDenied, "NOT_YOURS", auth.ListSessions(pb.ListSessionsRequest(user="root"), **mine)),
        (PermissionDenied, "NOT_YOURS", auth.ListApiKeys(pb.ListApiKeysRequest(user="nobody"), **mine)),
        (PermissionDenied, "NOT_YOURS", auth.CreateApiKey(pb.CreateApiKeyRequest(name="x", user="root"), **mine)),
        (InvalidArgument, "INVALID_ARGUMENT", auth.CreateApiKey(pb.CreateApiKeyRequest(name="x", user="nobody"), **root)),
        (PermissionDenied, "KEY_NARROWED", auth.CreateApiKey(pb.CreateApiKeyRequest(name="x"), **narrowed)),
        (PermissionDenied, "KEY_NARROWED", auth.RotateApiKey(pb.RotateApiKeyRequest(id=keys[2].id), **narrowed)),
        (FailedPrecondition, "KEY_ENDED", auth.RotateApiKey(pb.RotateApiKeyRequest(id=keys[0].id), **mine)),
        (FailedPrecondition, "KEY_ROTATED", auth.RotateApiKey(pb.RotateApiKeyRequest(id=keys[1].id), **mine)),
        (InvalidArgument, "INVALID_ARGUMENT", auth.RotateApiKey(pb.RotateApiKeyRequest(id=keys[2].id, overlap_hours=169), **mine)),
        (NotFound, "SESSION_NOT_FOUND", auth.DeleteSession(pb.DeleteSessionRequest(id=other), **root)),
        (NotFound, "API_KEY_NOT_FOUND", auth.GetApiKey(pb.GetApiKeyRequest(id=other), **mine)),
        (NotFound, "API_KEY_NOT_FOUND", auth.RevokeApiKey(pb.RevokeApiKeyRequest(id=other), **mine)),
        (Unauthenticated, "NO_CREDENTIAL", auth.ListSessions(pb.ListSessionsRequest())),
    ]

    for kind, expected, call in refusals:
        assert await reason(kind, call) == expected


async def test_numbers_that_name_nothing_are_refused_and_the_field_is_named(served: Serving) -> None:
    root = by(await admin_key(served))
    role, verb, none = pb.CreateUserRequest(name="ada"), pb.CreateApiKeyRequest(name="k"), pb.CreateApiKeyRequest(name="k")
    role.MergeFromString(b"\x10\x07")
    verb.MergeFromString(b"\x2a\x01\x07")
    none.verbs.append(options.VERB_UNSPECIFIED)

    assert await bad_field(served.auth.CreateUser(role, **root)) == "role"
    assert await bad_field(served.auth.CreateApiKey(verb, **root)) == "verbs"
    assert await bad_field(served.auth.CreateApiKey(none, **root)) == "verbs"


async def test_too_many_failures_say_when_to_come_back(served: Serving) -> None:
    await dev(served)
    wrong = pb.LoginRequest(name="ada", password=BETTER)
    for _ in range(6):
        assert await reason(Unauthenticated, served.auth.Login(wrong)) == "BAD_CREDENTIALS"

    error = await refusal(ResourceExhausted, served.auth.Login(wrong))

    assert (error.reason, error.retry_after) == ("TOO_MANY_FAILURES", 1)
    elsewhere = await served.login_from("192.0.2.9", "", pb.LoginRequest(name="ada", password=GOOD))
    assert elsewhere.caller.name == "ada"


async def test_access_tokens_are_verified_by_the_published_keys_alone(served: Serving) -> None:
    _, token = await dev(served)

    answer = await served.internal.ExchangeCredential(pb.ExchangeCredentialRequest(credential=token, address="192.0.2.1"))
    key_set = json_format.MessageToDict(await served.auth.GetKeySet(pb.GetKeySetRequest()))
    (key,) = jwt.PyJWKSet.from_json(json.dumps(key_set)).keys
    claims = jwt.decode(answer.access_token, key, ["EdDSA"], audience="kiln", issuer="kiln")

    assert jwt.get_unverified_header(answer.access_token) == {"alg": "EdDSA", "typ": "at+jwt", "kid": key.key_id}
    assert (claims["name"], claims["exp"]) == ("ada", answer.expires_at.seconds)
    assert key_set["keys"][0]["use"] == "sig"


async def test_who_watches_hears_the_keys_at_first_then_what_changes_and_a_heartbeat(served: Serving) -> None:
    user, token = await dev(served)
    heard: list[pb.WatchTokensResponse] = []

    async def watch() -> None:
        async for answer in served.internal.WatchTokens(pb.WatchTokensRequest()):
            heard.append(answer)

    watching = asyncio.create_task(watch())
    await until(lambda: bool(heard))
    key_set = await served.auth.GetKeySet(pb.GetKeySetRequest())
    before = (await served.world.token(token))["rev"]
    await served.auth.UpdateUser(pb.UpdateUserRequest(id="ada", disabled=True), **by(await admin_key(served)))
    await until(lambda: any(one.id == user.id for answer in heard for one in answer.stale))
    count = len(heard)
    await until(lambda: len(heard) >= count + 2)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)

    assert list(heard[0].keys) == list(key_set.keys)
    (revision,) = {one.revision for answer in heard for one in answer.stale if one.id == user.id}
    assert before < revision <= heard[-1].revision


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.BytesIO]:
    """What this process says on stderr, with logging configured as the service does."""
    root, said = logging.getLogger(), io.BytesIO()
    handlers, level = list(root.handlers), root.level
    with monkeypatch.context() as patch:
        stderr = io.TextIOWrapper(said, write_through=True)
        patch.setattr(sys, "stderr", stderr)
        patch.setattr(logs._bound, "logger", logs._bound.logger)
        logs.configure("auth", "debug")
        yield said
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_no_secret_is_logged_or_told_or_kept(log: io.BytesIO, served: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    root = await admin_key(served)
    _, token = await dev(served)
    made = await served.auth.CreateApiKey(pb.CreateApiKeyRequest(name="robot"), **by(token))
    rotated = await served.auth.RotateApiKey(pb.RotateApiKeyRequest(id=made.id), **by(token))
    again = await served.auth.Login(pb.LoginRequest(name="ada", password=GOOD))
    await served.auth.ChangePassword(pb.ChangePasswordRequest(current_password=GOOD, new_password=BETTER), **by(token))
    told = [
        await refusal(Unauthenticated, served.auth.Login(pb.LoginRequest(name="ada", password=GOOD))),
        await refusal(InvalidArgument, served.auth.CreateUser(pb.CreateUserRequest(name="bob", password="k" * 30), **by(root))),
        await refusal(Unauthenticated, served.internal.ExchangeCredential(pb.ExchangeCredentialRequest(credential=again.session_token))),
    ]

    async def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Throttle, "admit", broken)
    with pytest.raises(KilnError) as fault:
        await served.auth.Login(pb.LoginRequest(name="ada", password=BETTER))
    new, patch = NewUser("ada", Role.DEV, BETTER), UserPatch(None, None, BETTER)
    issued, found = await served.world.key(served.world.root), await served.world.repository.find_password(Reference(None, "ada"))
    credential = parse_credential(rotated.key)
    assert credential
    bearer = await served.world.repository.find_bearer(credential, served.world.clock.now)
    shown = [repr(one) for one in (new, patch, issued, found, credential, bearer, await served.world.repository.list_signing_keys())]

    dump = []
    for row in await served.world.database.fetch("SELECT table_name FROM information_schema.tables WHERE table_schema = 'auth'"):
        rows = await served.world.database.fetch(f'SELECT t::text AS whole FROM auth."{row["table_name"]}" t')
        dump += [one["whole"] for one in rows]
    logged = log.getvalue().decode()
    sinks = "\n".join([*dump, logged, *shown, *(f"{one!r} {one.metadata}" for one in told), repr(fault.value)])
    secrets = [GOOD, BETTER, "k" * 30, root, token, made.key, rotated.key, again.session_token, issued.text]

    assert "ada" in sinks
    assert "broken" in logged
    assert "Traceback" in logged
    for secret in secrets:
        # Of a credential nobody needs the prefix or the id: the secret itself is what must be nowhere, in any form that a dump has.
        core = secret.rpartition("_")[2]
        for form in (core, core.encode().hex(), base64.b64encode(core.encode()).decode()):
            assert not re.search(re.escape(form), sinks)
