"""The auth service's RPCs: between messages and the domain, nothing else."""

import base64
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final
from uuid import UUID

from google.protobuf import empty_pb2
from grpc import StatusCode
from kiln.auth.v1 import auth_pb2 as pb
from kiln.auth.v1 import auth_pb2_grpc
from kiln.options.v1 import options_pb2

from libs.common.access.principal import Principal, Role, caller
from libs.common.audit import UNFINISHED, Event
from libs.common.errors import InvalidArgument
from libs.common.ids import parse_uuid
from libs.common.messages import given, moment_given, timestamp
from libs.common.pages import page_of
from libs.common.served import address_of, agent_of
from services.auth.api_keys import ApiKeys, Issued, NewApiKey
from services.auth.audit_events import AuditEvents, began_at
from services.auth.callers import own_id
from services.auth.exchange import Exchange
from services.auth.groups import Groups
from services.auth.names import Reference
from services.auth.oidc_logins import HOME, OidcLogins, Reply
from services.auth.records import ApiKey, AuditFilter, Group, Session, SigningKey, User
from services.auth.repository import AuthRepository
from services.auth.sessions import Origin, Sessions
from services.auth.users import NewUser, UserPatch, Users
from services.auth.watch import Watch

_ACTION: Final = re.compile(r"[A-Za-z_]{1,100}")
_KIND: Final = re.compile(r"[a-z_]{1,50}")
# An id, or a name.
_ENTITY: Final = re.compile(r"[a-z0-9._-]{1,63}")
_OUTCOMES: Final = (*(code.name for code in StatusCode), UNFINISHED)


class AuthServicer(auth_pb2_grpc.AuthServicer):
    """Public RPCs."""

    def __init__(
        self, users: Users, groups: Groups, sessions: Sessions, logins: OidcLogins, api_keys: ApiKeys, repository: AuthRepository
    ) -> None:
        self._users = users
        self._groups = groups
        self._sessions = sessions
        self._logins = logins
        self._api_keys = api_keys
        self._repository = repository

    async def Login(self, request: pb.LoginRequest, context: Any) -> pb.LoginResponse:
        begun = await self._sessions.login(request.name, request.password, origin_of(context))
        expires_at = timestamp(begun.session.expires_at)
        return pb.LoginResponse(caller=caller_to_proto(begun.caller, has_password=True), expires_at=expires_at, session_token=begun.token)

    async def ListIdentityProviders(self, request: pb.ListIdentityProvidersRequest, context: Any) -> pb.ListIdentityProvidersResponse:
        providers = [
            pb.IdentityProvider(id=one.id, title=one.shown, login_url=self._logins.login_url(one)) for one in self._logins.providers
        ]
        return pb.ListIdentityProvidersResponse(providers=providers)

    async def BeginOidcLogin(self, request: pb.BeginOidcLoginRequest, context: Any) -> pb.BeginOidcLoginResponse:
        location, login = await self._logins.begin(request.provider)
        return pb.BeginOidcLoginResponse(location=location, login=login)

    async def CompleteOidcLogin(self, request: pb.CompleteOidcLoginRequest, context: Any) -> pb.CompleteOidcLoginResponse:
        reply = Reply(request.state, request.code, request.error, request.iss)
        begun = await self._logins.complete(request.provider, reply, request.login, origin_of(context))
        return pb.CompleteOidcLoginResponse(
            location=HOME,
            session_token=begun.token,
            caller=caller_to_proto(begun.caller),
            expires_at=timestamp(begun.session.expires_at),
        )

    async def Logout(self, request: pb.LogoutRequest, context: Any) -> empty_pb2.Empty:
        await self._sessions.logout(caller())
        return empty_pb2.Empty()

    async def GetCaller(self, request: pb.GetCallerRequest, context: Any) -> pb.Caller:
        user = await self._repository.find_user(Reference(own_id(caller()), None))
        return caller_to_proto(caller(), has_password=user is not None and user.has_password)

    async def ChangePassword(self, request: pb.ChangePasswordRequest, context: Any) -> empty_pb2.Empty:
        await self._sessions.change_password(caller(), request.current_password, request.new_password, origin_of(context))
        return empty_pb2.Empty()

    async def GetKeySet(self, request: pb.GetKeySetRequest, context: Any) -> pb.KeySet:
        return pb.KeySet(keys=map(key_to_proto, await self._repository.list_signing_keys()))

    async def CreateUser(self, request: pb.CreateUserRequest, context: Any) -> pb.User:
        new = NewUser(request.name, _role(request.role), request.password or None)
        return user_to_proto(await self._users.create(caller(), new))

    async def ListUsers(self, request: pb.ListUsersRequest, context: Any) -> pb.ListUsersResponse:
        found = await self._users.list(page_of(request.page_size, request.page_token, "users"))
        return pb.ListUsersResponse(users=map(user_to_proto, found.items), next_page_token=found.next_page_token)

    async def GetUser(self, request: pb.GetUserRequest, context: Any) -> pb.User:
        return user_to_proto(await self._users.get(request.id))

    async def UpdateUser(self, request: pb.UpdateUserRequest, context: Any) -> pb.User:
        role = _role(request.role) if request.HasField("role") else None
        patch = UserPatch(role, given(request, "disabled"), given(request, "password"))
        return user_to_proto(await self._users.update(caller(), request.id, patch))

    async def DeleteUser(self, request: pb.DeleteUserRequest, context: Any) -> empty_pb2.Empty:
        await self._users.delete(caller(), request.id)
        return empty_pb2.Empty()

    async def CreateGroup(self, request: pb.CreateGroupRequest, context: Any) -> pb.Group:
        return group_to_proto(await self._groups.create(caller(), request.name, request.description))

    async def ListGroups(self, request: pb.ListGroupsRequest, context: Any) -> pb.ListGroupsResponse:
        found = await self._groups.list(page_of(request.page_size, request.page_token, "groups"))
        return pb.ListGroupsResponse(groups=map(group_to_proto, found.items), next_page_token=found.next_page_token)

    async def GetGroup(self, request: pb.GetGroupRequest, context: Any) -> pb.Group:
        return group_to_proto(await self._groups.get(request.id))

    async def UpdateGroup(self, request: pb.UpdateGroupRequest, context: Any) -> pb.Group:
        return group_to_proto(await self._groups.update(caller(), request.id, given(request, "description")))

    async def DeleteGroup(self, request: pb.DeleteGroupRequest, context: Any) -> empty_pb2.Empty:
        await self._groups.delete(caller(), request.id)
        return empty_pb2.Empty()

    async def ListMembers(self, request: pb.ListMembersRequest, context: Any) -> pb.ListMembersResponse:
        page = page_of(request.page_size, request.page_token, "members", request.id)
        found = await self._groups.list_members(request.id, page)
        return pb.ListMembersResponse(members=map(user_to_proto, found.items), next_page_token=found.next_page_token)

    async def AddMember(self, request: pb.AddMemberRequest, context: Any) -> pb.User:
        return user_to_proto(await self._groups.add_member(caller(), request.id, request.user))

    async def RemoveMember(self, request: pb.RemoveMemberRequest, context: Any) -> empty_pb2.Empty:
        await self._groups.remove_member(caller(), request.id, request.user)
        return empty_pb2.Empty()

    async def ListSessions(self, request: pb.ListSessionsRequest, context: Any) -> pb.ListSessionsResponse:
        page = page_of(request.page_size, request.page_token, "sessions", request.user or caller().id)
        found = await self._sessions.list(caller(), request.user, page)
        current = caller().session
        return pb.ListSessionsResponse(
            sessions=[session_to_proto(one, current) for one in found.items], next_page_token=found.next_page_token
        )

    async def DeleteSession(self, request: pb.DeleteSessionRequest, context: Any) -> empty_pb2.Empty:
        await self._sessions.delete(caller(), request.id)
        return empty_pb2.Empty()

    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, context: Any) -> pb.ApiKey:
        verbs = [_verb(number) for number in request.verbs]
        new = NewApiKey(request.name, request.user, given(request, "expires_in_days"), list(request.functions), verbs)
        return issued_to_proto(await self._api_keys.create(caller(), new))

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, context: Any) -> pb.ListApiKeysResponse:
        page = page_of(request.page_size, request.page_token, "api keys", request.user or caller().id)
        found = await self._api_keys.list(caller(), request.user, page)
        return pb.ListApiKeysResponse(api_keys=map(api_key_to_proto, found.items), next_page_token=found.next_page_token)

    async def GetApiKey(self, request: pb.GetApiKeyRequest, context: Any) -> pb.ApiKey:
        return api_key_to_proto(await self._api_keys.get(caller(), request.id))

    async def RotateApiKey(self, request: pb.RotateApiKeyRequest, context: Any) -> pb.ApiKey:
        overlap, days = given(request, "overlap_hours"), given(request, "expires_in_days")
        return issued_to_proto(await self._api_keys.rotate(caller(), request.id, overlap, days))

    async def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, context: Any) -> empty_pb2.Empty:
        await self._api_keys.revoke(caller(), request.id)
        return empty_pb2.Empty()


class AuditServicer(auth_pb2_grpc.AuditServicer):
    """The audit log."""

    def __init__(self, events: AuditEvents) -> None:
        self._events = events

    async def ListAuditEvents(self, request: pb.ListAuditEventsRequest, context: Any) -> pb.ListAuditEventsResponse:
        wanted = audit_filter(request)
        found = await self._events.list(page_of(request.page_size, request.page_token, "audit events", wanted), wanted)
        return pb.ListAuditEventsResponse(
            audit_events=[audit_event_to_proto(one) for one in found.items], next_page_token=found.next_page_token
        )


class AuthInternalServicer(auth_pb2_grpc.AuthInternalServicer):
    """RPCs for other services."""

    def __init__(self, exchange: Exchange, watch: Watch) -> None:
        self._exchange = exchange
        self._watch = watch

    async def ExchangeCredential(self, request: pb.ExchangeCredentialRequest, context: Any) -> pb.ExchangeCredentialResponse:
        token, expires_at = await self._exchange.exchange(request.credential, request.address)
        return pb.ExchangeCredentialResponse(access_token=token, expires_at=timestamp(expires_at))

    async def WatchTokens(self, request: pb.WatchTokensRequest, context: Any) -> AsyncIterator[pb.WatchTokensResponse]:
        async with aclosing(self._watch.follow()) as words:
            async for word in words:
                stale = [pb.Stale(id=str(one.id), revision=one.revision) for one in word.stale]
                yield pb.WatchTokensResponse(keys=map(key_to_proto, word.keys or ()), stale=stale, revision=word.revision)


def origin_of(context: Any) -> Origin:
    """Where a call came from: as the gateway tells of its callers, and of others as the connection does."""
    return Origin(address_of(context), agent_of(context))


def caller_to_proto(principal: Principal, *, has_password: bool = False) -> pb.Caller:
    """Who calls, as it travels."""
    return pb.Caller(
        id=str(own_id(principal)),
        name=principal.name,
        role=principal.role.value,
        groups=sorted(principal.groups),
        session=principal.session,
        api_key=principal.api_key,
        functions=sorted(principal.functions),
        verbs=sorted(principal.verbs),
        has_password=has_password,
    )


def user_to_proto(user: User) -> pb.User:
    """A user as it travels."""
    return pb.User(
        id=str(user.id),
        name=user.name,
        role=user.role.value,
        disabled=user.disabled,
        groups=map(str, user.groups),
        has_password=user.has_password,
        created_at=timestamp(user.created_at),
        updated_at=timestamp(user.updated_at),
        issuer=user.issuer,
    )


def group_to_proto(group: Group) -> pb.Group:
    """A group as it travels."""
    return pb.Group(
        id=str(group.id),
        name=group.name,
        description=group.description,
        created_at=timestamp(group.created_at),
        updated_at=timestamp(group.updated_at),
    )


def session_to_proto(session: Session, current: str) -> pb.Session:
    """A session as it travels. `current` is the id of the one that the call is made with."""
    return pb.Session(
        id=str(session.id),
        user=str(session.user_id),
        created_at=timestamp(session.created_at),
        expires_at=timestamp(session.expires_at),
        last_used_at=timestamp(session.last_used_at),
        address=session.address,
        user_agent=session.user_agent,
        current=str(session.id) == current,
    )


def api_key_to_proto(key: ApiKey) -> pb.ApiKey:
    """An API key as it travels, without the key itself."""
    return pb.ApiKey(
        id=str(key.id),
        name=key.name,
        user=str(key.user_id),
        functions=map(str, key.functions),
        verbs=key.verbs,
        created_at=timestamp(key.created_at),
        expires_at=timestamp(key.expires_at),
        last_used_at=timestamp(key.last_used_at),
        last_used_address=key.last_used_address,
        revoked_at=timestamp(key.revoked_at),
        successor=str(key.successor or ""),
    )


def issued_to_proto(issued: Issued) -> pb.ApiKey:
    """A new API key as it travels, this once with the key itself."""
    answer = api_key_to_proto(issued.api_key)
    answer.key = issued.text
    return answer


def key_to_proto(key: SigningKey) -> pb.JsonWebKey:
    """The public part of a signing key as RFC 8037 has it."""
    x = base64.urlsafe_b64encode(key.public).decode().rstrip("=")
    return pb.JsonWebKey(kty="OKP", crv="Ed25519", x=x, kid=key.id, alg="EdDSA", use="sig")


def audit_filter(request: pb.ListAuditEventsRequest) -> AuditFilter:
    """What a caller wants to see of the audit log.

    Raises:
        InvalidArgument: something could match nothing, whatever there is.
    """
    actor = Reference.of(request.actor)
    if request.actor and actor is None:
        raise InvalidArgument.of("actor", "must be the id or the name of a user")
    if request.outcome and request.outcome not in _OUTCOMES:
        raise InvalidArgument.of("outcome", f"must be of {', '.join(_OUTCOMES)}")
    return AuditFilter(
        actor=actor.id if actor else None,
        actor_name=actor.name if actor else None,
        api_key=_filter_id(request.api_key, "api_key"),
        action=_filter_word(request.action, "action", _ACTION),
        entity_kind=_filter_word(request.entity_kind, "entity_kind", _KIND),
        entity_id=_filter_word(request.entity_id.lower(), "entity_id", _ENTITY),
        outcome=request.outcome or None,
        after=moment_given(request, "after"),
        before=moment_given(request, "before"),
    )


def audit_event_to_proto(event: Event) -> pb.AuditEvent:
    """An event as it travels."""
    return pb.AuditEvent(at=timestamp(began_at(event)), **event.to_body())


def _filter_id(text: str, field: str) -> UUID | None:
    identity = parse_uuid(text)
    if text and identity is None:
        raise InvalidArgument.of(field, "must be an id: a UUID")
    return identity


def _filter_word(text: str, field: str, form: re.Pattern[str]) -> str | None:
    if text and not form.fullmatch(text):
        raise InvalidArgument.of(field, "has the form of none")
    return text or None


def _role(number: int) -> Role:
    if number not in pb.Role.values():
        raise InvalidArgument.of("role", "must be ADMIN or DEV")
    return Role.ADMIN if number == pb.ADMIN else Role.DEV


def _verb(number: int) -> str:
    """Its name; an empty one for a number without."""
    return options_pb2.Verb.Name(number) if number in options_pb2.Verb.values() else ""
