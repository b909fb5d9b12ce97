"""Who calls the gateway: what a request proves itself by, and the access token that services get for it.

A program sends an API key, or a token of an issuer that the auth service trusts; a browser sends its session's cookie. A page of another
site can make a browser send that cookie, so that a request by cookie that may change something must say that it comes from a page of
Kiln's own.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import grpc

from libs.common import request, status
from libs.common.access.access_tokens import MAX_BYTES
from libs.common.access.bearer import AUTHORIZATION, bearer, presented
from libs.common.access.exchange import Exchange, is_exchanged
from libs.common.carrier import Metadata
from libs.common.errors import PermissionDenied, Unauthenticated
from libs.common.policy import Access, policy_of

# TLS may say `__Host-`, which browsers take from nobody else.
COOKIE: Final = "kiln_session"
# The service that tells users from where they were signed in.
_AUTH: Final = "/kiln.auth."
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OF_THIS_SITE: Final = ("same-origin", "none")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Caller:
    """What a call came with.

    Attributes:
        authorization: As it is sent in `authorization`; empty for nothing.
        address: Where it came from.
        agent: What the program says of itself that sent it.
    """

    authorization: str
    address: str
    agent: str


class Callers:
    """Access tokens for those who call.

    Args:
        exchange: Of credentials; None where nobody asks who calls.
    """

    def __init__(self, exchange: Exchange | None) -> None:
        self._exchange = exchange

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
        credential = presented(caller.authorization) or ""
        if self._exchange is None or not is_exchanged(credential):
            return await call(_metadata(method, caller, caller.authorization))
        try:
            return await call(_metadata(method, caller, bearer(await self._exchange.token(credential, caller.address))))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED or status.from_rpc_error(error).reason != "STALE_TOKEN":
                raise
        self._exchange.forget(credential)
        return await call(_metadata(method, caller, bearer(await self._exchange.token(credential, caller.address))))


def caller_of(method: str, headers: Mapping[str, str], address: str) -> Caller:
    """Who sends a request of HTTP.

    Raises:
        PermissionDenied: a page of another site made a browser send it.
    """
    authorization = headers.get(AUTHORIZATION, "")
    # What a browser is never made to send by a page of another site: it asks Kiln first, which does not allow it.
    if not presented(authorization):
        token = cookie_of(headers, COOKIE)
        # Also one without a session may do harm: it would sign the browser in as somebody else.
        if method not in _SAFE and not _is_of_this_site(headers, unless_told=not token):
            raise PermissionDenied("a page of another site cannot make this call", reason="CROSS_SITE")
        if token and not authorization:
            authorization = bearer(token)
    return Caller(authorization, address, headers.get("user-agent", ""))


def cookie_of(headers: Mapping[str, str], wanted: str) -> str:
    """The value of a cookie, whatever others there are: programs at other ports of the same machine set theirs for this one too."""
    pairs = (pair.strip().partition("=") for pair in headers.get("cookie", "").split(";"))
    return next((value for name, _, value in pairs if name == wanted), "")


def session_cookie(token: str) -> str:
    """The header that gives a browser its session."""
    return f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax"


def other_cookie(name: str, path: str, seconds: int, value: str) -> str:
    """The header that gives a browser another cookie, or takes it back where there is no value."""
    return f"{name}={value}; Path={path}; HttpOnly; SameSite=Lax; Max-Age={seconds if value else 0}"


def no_cookie() -> str:
    """The header that takes it back."""
    return f"{COOKIE}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"


def _metadata(method: str, caller: Caller, authorization: str) -> Metadata:
    metadata = [(AUTHORIZATION, authorization)] if authorization else []
    if method.startswith(_AUTH):
        # Where it is written down. Others need not carry it with every call.
        metadata += [(request.CALLER_ADDRESS_HEADER, caller.address), (request.CALLER_AGENT_HEADER, _ascii(caller.agent))]
    return metadata


def _ascii(text: str) -> str:
    """As metadata may be."""
    return "".join(character if " " <= character <= "~" else "?" for character in text)


def _refuse_unsendable(authorization: str) -> None:
    """Refuses what is no credential and cannot be metadata, which gRPC would tell in words of its own."""
    if len(authorization) > MAX_BYTES or not (authorization.isascii() and authorization.isprintable()):
        raise Unauthenticated("authorization: must be `Bearer` and a credential", reason="BAD_CREDENTIALS")


def _is_of_this_site(headers: Mapping[str, str], *, unless_told: bool) -> bool:
    """Whether a page of Kiln's own sent a request, as browsers say.

    Args:
        headers: Of the request.
        unless_told: The answer for one that says nothing, as programs do.
    """
    if site := headers.get("sec-fetch-site"):
        return site in _OF_THIS_SITE
    if origin := headers.get("origin"):
        return origin.partition("://")[2] == headers.get("host")
    return unless_told
