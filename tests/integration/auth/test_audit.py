"""The audit log as an administrator reads it: what each call leaves there, and what none does."""

from collections.abc import Sequence
from typing import Any, Final

import pytest
from kiln.auth.v1 import auth_pb2 as pb

from libs.common.access.credentials import Kind, new_credential
from libs.common.audit import UNFINISHED
from libs.common.errors import (
    FailedPrecondition,
    InvalidArgument,
    KilnError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from libs.common.ids import parse_uuid, uuid7
from libs.common.policy import policy_of
from tests.integration.auth.refusals import bad_field, reason
from tests.integration.auth.serving import Serving, by, serving
from tests.support.auth import BETTER, GOOD, AuthWorld
from tests.support.identity_provider import FakeProvider

# Of no user, key or group, in no place where a name is looked for.
CANARY: Final = "Canary of 40 wings"


async def keep(served: Serving) -> None:
    """What has been handed over is in the log."""
    while await served.world.audit_events.keep_waiting():
        pass


async def events(served: Serving, **filters: Any) -> Sequence[pb.AuditEvent]:
    """The log, oldest first, less what the reading itself takes."""
    await keep(served)
    key = await served.world.key(served.world.root)
    answer = await served.audit.ListAuditEvents(pb.ListAuditEventsRequest(page_size=1000, **filters), **by(key.text))
    return list(reversed(answer.audit_events))


async def root_key(served: Serving) -> str:
    return (await served.world.key(served.world.root)).text


def told(event: pb.AuditEvent) -> tuple[str, str, str, str, str]:
    """What was done to what, about whom besides, and what came of it."""
    return event.action, event.entity_kind, event.entity_id, event.user, event.outcome


async def test_every_call_that_changes_something_leaves_who_did_it_to_what(world: AuthWorld, database_url: str) -> None:
    provider = FakeProvider()
    world.logins = world.logins_by(provider.client())
    async with serving(world, database_url) as served:
        await leaves_who_did_it_to_what(served, provider)


async def leaves_who_did_it_to_what(served: Serving, provider: FakeProvider) -> None:
    auth, root = served.auth, by(await root_key(served))
    ada = await auth.CreateUser(pb.CreateUserRequest(name="ada", password=GOOD), **root)
    await auth.UpdateUser(pb.UpdateUserRequest(id="ada", disabled=False), **root)
    crew = await auth.CreateGroup(pb.CreateGroupRequest(name="crew"), **root)
    await auth.UpdateGroup(pb.UpdateGroupRequest(id="crew", description="x"), **root)
    await auth.AddMember(pb.AddMemberRequest(id="crew", user="ada"), **root)
    login = await auth.Login(pb.LoginRequest(name="ada", password=GOOD))
    other = await auth.Login(pb.LoginRequest(name="ada", password=GOOD))
    mine = by(login.session_token)
    key = await auth.CreateApiKey(pb.CreateApiKeyRequest(name="robot"), **mine)
    await auth.RotateApiKey(pb.RotateApiKeyRequest(id=key.id), **mine)
    await auth.RevokeApiKey(pb.RevokeApiKeyRequest(id=key.id), **mine)
    await auth.DeleteSession(pb.DeleteSessionRequest(id=other.caller.session), **mine)
    await auth.ChangePassword(pb.ChangePasswordRequest(current_password=GOOD, new_password=BETTER), **mine)
    again = await auth.Login(pb.LoginRequest(name="ada", password=BETTER))
    await auth.Logout(pb.LogoutRequest(), **by(again.session_token))
    await auth.RemoveMember(pb.RemoveMemberRequest(id="crew", user="ada"), **root)
    await auth.DeleteGroup(pb.DeleteGroupRequest(id="crew"), **root)
    await auth.DeleteUser(pb.DeleteUserRequest(id="ada"), **root)
    begun = await auth.BeginOidcLogin(pb.BeginOidcLoginRequest(provider="home"))
    reply = provider.authorize(begun.location, preferred_username="zoe")
    complete = pb.CompleteOidcLoginRequest(provider="home", state=reply.state, code=reply.code, login=begun.login)
    foreign = await auth.CompleteOidcLogin(complete)
    with pytest.raises(Unauthenticated):
        await auth.CompleteOidcLogin(complete)

    log = await events(served)

    assert [told(one) for one in log] == [
        ("CreateUser", "user", ada.id, "", "OK"),
        ("UpdateUser", "user", ada.id, "", "OK"),
        ("CreateGroup", "group", crew.id, "", "OK"),
        ("UpdateGroup", "group", crew.id, "", "OK"),
        ("AddMember", "group", crew.id, ada.id, "OK"),
        ("Login", "session", login.caller.session, "", "OK"),
        ("Login", "session", other.caller.session, "", "OK"),
        ("CreateApiKey", "api_key", key.id, ada.id, "OK"),
        ("RotateApiKey", "api_key", key.id, ada.id, "OK"),
        ("RevokeApiKey", "api_key", key.id, "", "OK"),
        ("DeleteSession", "session", other.caller.session, "", "OK"),
        ("ChangePassword", "password", ada.id, "", "OK"),
        ("Login", "session", again.caller.session, "", "OK"),
        ("Logout", "session", again.caller.session, "", "OK"),
        ("RemoveMember", "group", crew.id, ada.id, "OK"),
        ("DeleteGroup", "group", crew.id, "", "OK"),
        ("DeleteUser", "user", ada.id, "", "OK"),
        ("CompleteOidcLogin", "session", foreign.caller.session, "", "OK"),
        ("identity_provider", "user", foreign.caller.id, "", "OK"),
    ]
    assert [(one.actor, one.actor_name) for one in log[-2:]] == [(foreign.caller.id, "zoe"), ("", provider.issuer)]
    methods = pb.DESCRIPTOR.services_by_name["Auth"].methods
    assert {one.action for one in log[:-1]} == {one.name for one in methods if policy_of(f"/kiln.auth.v1.Auth/{one.name}").audited}
    by_root, by_ada = await events(served, actor="root"), await events(served, actor="ada")
    assert len(by_root) + len(by_ada) + 2 == len(log)
    assert {(one.actor, one.role, bool(one.api_key), one.session) for one in by_root} == {(served.world.root.id, "ADMIN", True, "")}
    assert {(one.actor, one.role, one.session) for one in by_ada if one.action != "Login"} == {
        (ada.id, "DEV", login.caller.session),
        (ada.id, "DEV", again.caller.session),
    }
    assert {(one.actor, one.role, one.session) for one in by_ada if one.action == "Login"} == {(ada.id, "", "")}
    # What a provider says of a user is no call.
    calls = log[:-1]
    assert {(one.address, one.reason) for one in calls} == {("127.0.0.1", "")}
    assert all(parse_uuid(one.request_id) for one in calls)


async def test_who_may_not_is_in_the_log_and_nobody_is_not(served: Serving) -> None:
    user = await served.world.user("ada")
    login = await served.world.login(user)
    narrowed = await served.world.key(served.world.root, verbs=["READ"])
    wanted = pb.DeleteUserRequest(id="root")

    assert await reason(PermissionDenied, served.auth.DeleteUser(wanted, **by(login.token))) == "ADMIN_NEEDED"
    assert await reason(PermissionDenied, served.auth.DeleteUser(wanted, **by(narrowed.text))) == "KEY_NARROWED"
    assert await reason(Unauthenticated, served.auth.DeleteUser(wanted)) == "NO_CREDENTIAL"
    stranger = by(new_credential(Kind.API_KEY).text)
    assert await reason(Unauthenticated, served.auth.DeleteUser(wanted, **stranger)) == "BAD_CREDENTIALS"
    assert await reason(PermissionDenied, served.auth.ListUsers(pb.ListUsersRequest(), **by(login.token))) == "ADMIN_NEEDED"
    assert await reason(PermissionDenied, served.audit.ListAuditEvents(pb.ListAuditEventsRequest(), **by(login.token))) == "ADMIN_NEEDED"

    assert [(one.actor, one.entity_id, one.outcome, one.reason) for one in await events(served)] == [
        (str(user.id), "root", "PERMISSION_DENIED", "ADMIN_NEEDED"),
        (served.world.root.id, "root", "PERMISSION_DENIED", "KEY_NARROWED"),
    ]


async def test_logins_that_fail_name_users_that_there_are_and_nothing_else(served: Serving) -> None:
    ada, bob = await served.world.user("ada"), await served.world.user("bob")
    await served.world.update(bob, disabled=True)

    for name in ("ada", "bob", "carol", GOOD, CANARY):
        wrong = pb.LoginRequest(name=name, password=BETTER)
        assert await reason(Unauthenticated, served.auth.Login(wrong)) == "BAD_CREDENTIALS"

    log = await events(served)
    assert [(one.actor, one.actor_name) for one in log] == [(str(ada.id), "ada"), (str(bob.id), "bob"), ("", ""), ("", ""), ("", "")]
    assert {(*told(one), one.reason, one.address) for one in log} == {
        ("Login", "session", "", "", "UNAUTHENTICATED", "BAD_CREDENTIALS", "127.0.0.1")
    }


async def test_tries_that_come_too_fast_are_not_in_the_log(served: Serving) -> None:
    await served.world.user("ada")
    wrong = pb.LoginRequest(name="ada", password=BETTER)
    for _ in range(6):
        await reason(Unauthenticated, served.auth.Login(wrong))

    for _ in range(10):
        assert await reason(ResourceExhausted, served.auth.Login(wrong)) == "TOO_MANY_FAILURES"

    assert [one.outcome for one in await events(served)] == ["UNAUTHENTICATED"] * 6


async def test_a_call_that_the_gateway_carries_comes_from_where_its_caller_is(served: Serving) -> None:
    await served.world.user("ada")

    await served.login_from("2001:db8::1", "a browser", pb.LoginRequest(name="ada", password=GOOD))

    assert [one.address for one in await events(served)] == ["2001:db8::1"]


async def test_a_call_that_fails_is_in_the_log_with_its_reason(served: Serving) -> None:
    root, nobody = by(await root_key(served)), str(uuid7())
    assert await reason(NotFound, served.auth.DeleteUser(pb.DeleteUserRequest(id="nobody"), **root)) == "USER_NOT_FOUND"
    assert await reason(NotFound, served.auth.DeleteSession(pb.DeleteSessionRequest(id=nobody), **root)) == "SESSION_NOT_FOUND"
    assert await reason(FailedPrecondition, served.auth.DeleteUser(pb.DeleteUserRequest(id="root"), **root)) == "LAST_ADMIN"

    assert [(one.entity_id, one.outcome, one.reason) for one in await events(served)] == [
        ("nobody", "NOT_FOUND", "USER_NOT_FOUND"),
        (nobody, "NOT_FOUND", "SESSION_NOT_FOUND"),
        (served.world.root.id, "FAILED_PRECONDITION", "LAST_ADMIN"),
    ]


async def test_nothing_is_changed_while_it_cannot_be_written_down(served: Serving) -> None:
    root = by(await root_key(served))
    await served.auth.GetCaller(pb.GetCallerRequest(), **root)
    await served.world.database.execute("ALTER TABLE pgmq.q_audit_events RENAME TO away")

    assert await reason(Unavailable, served.auth.CreateUser(pb.CreateUserRequest(name="ada"), **root)) == "AUDIT_LOG_AWAY"
    await served.world.user("bob")
    assert await reason(Unavailable, served.auth.Login(pb.LoginRequest(name="bob", password=GOOD))) == "AUDIT_LOG_AWAY"
    await served.world.database.execute("ALTER TABLE pgmq.away RENAME TO q_audit_events")

    assert await served.world.find("ada") is None
    assert (await served.auth.ListSessions(pb.ListSessionsRequest(user="bob"), **root)).sessions == []
    assert await events(served) == []


# Secrets


async def test_no_secret_is_in_the_log_nor_on_its_way_there(served: Serving) -> None:
    auth, root = served.auth, await root_key(served)
    canaries = [GOOD, BETTER, CANARY, root]
    await auth.CreateUser(pb.CreateUserRequest(name="ada", password=GOOD), **by(root))
    login = await auth.Login(pb.LoginRequest(name="ada", password=GOOD))
    mine = by(login.session_token)
    key = await auth.CreateApiKey(pb.CreateApiKeyRequest(name=CANARY), **mine)
    rotated = await auth.RotateApiKey(pb.RotateApiKeyRequest(id=key.id), **mine)
    canaries += [login.session_token, key.key, rotated.key]
    await auth.CreateGroup(pb.CreateGroupRequest(name="crew", description=CANARY), **by(root))
    await auth.UpdateUser(pb.UpdateUserRequest(id="ada", password=BETTER), **by(root))
    for wrong in canaries:
        for call in (
            auth.Login(pb.LoginRequest(name=wrong, password=wrong)),
            auth.CreateUser(pb.CreateUserRequest(name=wrong, password=wrong), **by(root)),
            auth.DeleteUser(pb.DeleteUserRequest(id=wrong), **by(root)),
            auth.AddMember(pb.AddMemberRequest(id="crew", user=wrong), **by(root)),
            auth.RevokeApiKey(pb.RevokeApiKeyRequest(id=wrong), **by(root)),
            auth.DeleteSession(pb.DeleteSessionRequest(id=wrong), **by(root)),
            auth.CreateApiKey(pb.CreateApiKeyRequest(name="k", user=wrong, functions=[wrong]), **by(root)),
        ):
            with pytest.raises(KilnError):
                await call

    dump = await whole(served, "pgmq.q_audit_events")
    await keep(served)
    dump += await whole(served, "pgmq.q_audit_events") + await whole(served, "pgmq.a_audit_events")
    dump += await whole(served, "auth.audit_events")

    assert "RotateApiKey" in dump
    assert len(await events(served)) > 40
    for secret in canaries:
        assert secret.rpartition("_")[2] not in dump


async def whole(served: Serving, table: str) -> str:
    rows = await served.world.database.fetch(f"SELECT t::text AS whole FROM {table} t")
    return "\n".join(row["whole"] for row in rows)


# Reading


async def test_filters_hold_together_and_pages_are_of_what_passes_them(served: Serving) -> None:
    root = by(await root_key(served))
    users = [await served.auth.CreateUser(pb.CreateUserRequest(name=f"u{number}"), **root) for number in range(5)]
    for user in users[:3]:
        await served.auth.DeleteUser(pb.DeleteUserRequest(id=user.id), **root)
    await served.auth.CreateGroup(pb.CreateGroupRequest(name="crew"), **root)
    await reason(NotFound, served.auth.DeleteUser(pb.DeleteUserRequest(id="nobody"), **root))
    log = await events(served)
    me, key = log[0].actor, log[0].api_key

    assert len(log) == 10
    assert await events(served, actor=me.upper()) == await events(served, actor="root") == await events(served, api_key=key) == log
    assert await events(served, actor="u0") == []
    assert await events(served, entity_kind="group") == [log[8]]
    assert await events(served, action="DeleteUser", outcome="OK") == log[5:8]
    assert await events(served, outcome="NOT_FOUND") == [log[9]]
    assert await events(served, outcome=UNFINISHED) == []
    assert await events(served, entity_id=users[0].id.upper()) == [log[0], log[5]]
    assert await events(served, entity_id="nobody") == [log[9]]
    assert await events(served, action="NoSuchThing") == []
    assert await events(served, after=log[4].at) == [one for one in log if ms(one) >= ms(log[4])]
    assert await events(served, before=log[4].at) == [one for one in log if ms(one) < ms(log[4])]
    paged: list[pb.AuditEvent] = []
    token, sizes = "", []
    while True:
        request = pb.ListAuditEventsRequest(page_size=3, page_token=token, entity_kind="user")
        answer = await served.audit.ListAuditEvents(request, **root)
        paged += answer.audit_events
        sizes.append(len(answer.audit_events))
        if not (token := answer.next_page_token):
            break
    assert sizes == [3, 3, 3]
    assert list(reversed(paged)) == [one for one in log if one.entity_kind == "user"]


def ms(event: pb.AuditEvent) -> int:
    return event.at.seconds * 1000 + event.at.nanos // 1_000_000


async def test_what_can_match_nothing_is_refused_and_the_field_is_named(served: Serving) -> None:
    root = by(await root_key(served))

    def ask(**fields: Any) -> Any:
        return served.audit.ListAuditEvents(pb.ListAuditEventsRequest(**fields), **root)

    too_late = pb.ListAuditEventsRequest().before
    too_late.seconds = 1 << 60
    bad: list[tuple[str, dict[str, Any]]] = [
        ("actor", {"actor": "No Name"}),
        ("api_key", {"api_key": "robot"}),
        ("action", {"action": "Create-User"}),
        ("entity_kind", {"entity_kind": "User"}),
        ("entity_id", {"entity_id": "a b"}),
        ("outcome", {"outcome": "ok"}),
        ("before", {"before": too_late}),
        ("page_size", {"page_size": -1}),
        ("page_token", {"page_token": "x"}),
    ]
    for field, fields in bad:
        assert await bad_field(ask(**fields)) == field
    for _ in range(2):
        await reason(NotFound, served.auth.DeleteUser(pb.DeleteUserRequest(id="nobody"), **root))
    await keep(served)
    token = (await ask(page_size=1)).next_page_token
    assert token
    with pytest.raises(InvalidArgument):
        await ask(page_size=1, page_token=token, outcome="OK")


async def test_a_key_for_reading_reads_it_and_one_for_running_does_not(served: Serving) -> None:
    request = pb.ListAuditEventsRequest()
    reads, runs = [await served.world.key(served.world.root, verbs=[verb]) for verb in ("READ", "EXECUTE")]

    assert (await served.audit.ListAuditEvents(request, **by(reads.text))).audit_events == []
    assert await reason(PermissionDenied, served.audit.ListAuditEvents(request, **by(runs.text))) == "KEY_NARROWED"
