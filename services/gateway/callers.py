"""Who calls the gateway: what a request proves itself by, and the access token that services get for it.

A program sends an API key, or a token of an issuer that the auth service trusts; a browser sends its session's cookie. A page of another
site can make a browser send that cookie, so that a request by cookie that may change something must say that it comes from a page of
Kiln's own.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Final, TypeVar

import grpc

from libs.common import request, status
from libs.common.access.access_tokens import MAX_BYTES
from libs.common.access.bearer import AUTHORIZATION, bearer, presented
from libs.common.access.credentials import Kind
from libs.common.access.exchange import Exchange, is_exchanged
from libs.common.carrier import Metadata
from libs.common.errors import PermissionDenied, Unauthenticated
from libs.common.policy import Access, policy_of
from services.gateway.cookies import OtherCookies, SessionCookie

# The service that tells users from where they were signed in.
_AUTH: Final = "/kiln.auth."
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OF_THIS_SITE: Final = ("same-origin", "none")

T = TypeVar("T")


class Caller:
    """What a call came with.

    Args:
        authorization: As it is sent in `authorization`; empty for nothing.
        address: Where it came from.
        agent: What the program says of itself that sent it.
        by_cookie: Whether the first came as a cookie.

    Attributes:
        credential: What the first presents; empty for nothing, or for what is of another scheme.
    """

    __slots__ = ("address", "agent", "authorization", "by_cookie", "credential")

    def __init__(self, authorization: str, address: str, agent: str, *, by_cookie: bool = False) -> None:
        self.authorization = authorization
        self.credential = (presented(authorization) or "") if authorization else ""
        self.address = address
        self.agent = agent
        self.by_cookie = by_cookie

    @property
    def has_key(self) -> bool:
        """Whether it came with something that does not mean to be a session's token."""
        means_session = self.by_cookie or self.credential.startswith(f"{Kind.SESSION}_")
        return bool(self.authorization) and not means_session


class Callers:
    """Who calls, and access tokens for those who do.

    Args:
        exchange: Of credentials; None where nobody asks who calls.
        tls: Whether browsers speak it, to the gateway or to a proxy in front of it.

    Attributes:
        cookie: What browsers have their sessions in.
        other_cookies: What they have besides.
    """

    def __init__(self, exchange: Exchange | None, *, tls: bool) -> None:
        self._exchange = exchange
        self._tls = tls
        self.cookie = SessionCookie.of(tls=tls)
        self.other_cookies = OtherCookies(tls=tls)

    def of_http(self, method: str, headers: Mapping[str, str], address: str) -> Caller:
        """Who sends a request of HTTP.

        Raises:
            PermissionDenied: a page of another site made a browser send it.
        """
        caller = Caller(headers.get(AUTHORIZATION, ""), address, headers.get("user-agent", ""))
        # What a browser is never made to send by a page of another site: it asks Kiln first, which does not allow it.
        if caller.credential:
            return caller
        token = self.cookie.found_in(headers.get("cookie", ""))
        # Also one without a session may do harm: it would sign the browser in as somebody else.
        if method not in _SAFE and not self._is_of_this_site(headers, unless_told=not token):
            raise PermissionDenied("a page of another site cannot make this call", reason="CROSS_SITE")
        return Caller(bearer(token), address, caller.agent, by_cookie=True) if token and not caller.authorization else caller

    async def call(self, method: str, caller: Caller, call: Callable[[Metadata], Awaitable[T]]) -> T:
        """Makes a call for a caller: with the access token that its credential is exchanged for, or with what it sent itself.

        Args:
            method: Wire name of the RPC.
            caller: Who calls.
            call: Makes the call with metadata. Made again when it was refused because the caller changed in the same moment.

        Raises:
            Unauthenticated: the credential is not valid.
            Unavailable: it cannot be exchanged now.
        """
        if policy_of(method).access is Access.PUBLIC:
            # Nobody is asked there, so that a session that has ended keeps no browser from signing in again.
            return await call(_metadata(method, caller, ""))
        _refuse_unsendable(caller.authorization)
        credential = caller.credential
        if self._exchange is None or not is_exchanged(credential):
            return await call(_metadata(method, caller, caller.authorization))
        try:
            exchanged = self._exchange.remembered(credential) or await self._exchange.exchanged(credential, caller.address)
            return await call(_metadata(method, caller, exchanged.authorization))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED or status.from_rpc_error(error).reason != "STALE_TOKEN":
                raise
        self._exchange.forget(credential)
        exchanged = await self._exchange.exchanged(credential, caller.address)
        return await call(_metadata(method, caller, exchanged.authorization))

    def _is_of_this_site(self, headers: Mapping[str, str], *, unless_told: bool) -> bool:
        """Whether a page of Kiln's own sent a request, as browsers say.

        Args:
            headers: Of the request.
            unless_told: The answer for one that says nothing, as programs do.
        """
        if site := headers.get("sec-fetch-site"):
            return site in _OF_THIS_SITE
        if origin := headers.get("origin"):
            scheme, _, host = origin.partition("://")
            # Where nobody has said that browsers speak TLS, they may do so all the same.
            return host == headers.get("host") and (scheme == "https" or not self._tls)
        return unless_told


def _metadata(method: str, caller: Caller, authorization: str) -> Metadata:
    metadata = [(AUTHORIZATION, authorization)] if authorization else []
    if _is_told_from_where(method):
        metadata += [(request.CALLER_ADDRESS_HEADER, caller.address), (request.CALLER_AGENT_HEADER, _ascii(caller.agent))]
    return metadata


@cache
def _is_told_from_where(method: str) -> bool:
    """Whether where a caller is, is written down. Others need not carry it with every call."""
    return method.startswith(_AUTH) or policy_of(method).audited is not None


def _ascii(text: str) -> str:
    """As metadata may be."""
    return "".join(character if " " <= character <= "~" else "?" for character in text)


def _refuse_unsendable(authorization: str) -> None:
    """Refuses what is no credential and cannot be metadata, which gRPC would tell in words of its own."""
    if len(authorization) > MAX_BYTES or not (authorization.isascii() and authorization.isprintable()):
        raise Unauthenticated("authorization: must be `Bearer` and a credential", reason="BAD_CREDENTIALS")
