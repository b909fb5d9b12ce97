"""What an auth service tells, without one: keys, access tokens, and answers to exchanges."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from google.protobuf import timestamp_pb2
from jwt.utils import base64url_encode
from kiln.auth.v1 import auth_pb2 as pb

from libs.common.access import access_tokens
from libs.common.access.access_tokens import AccessToken
from libs.common.access.credentials import Kind, new_credential
from libs.common.access.principal import Principal
from libs.common.access.watch import TokenState
from libs.common.errors import KilnError, Unauthenticated
from tests.support.callers import ADMIN
from tests.support.services import Call, Services, fail, running_services

SERVICE_SECRET: Final = "what-all-services-of-a-test-have-in-common"
_HEARTBEAT_SECONDS: Final = 0.05


class Clock:
    """Stands still until it is moved; begins at the time that it is, since tokens are verified by that."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        """Moves it."""
        self.now += seconds


class Signer:
    """Signs access tokens as the auth service does, and others that it never would."""

    def __init__(self, key_id: str = "key-1") -> None:
        self.key = Ed25519PrivateKey.generate()
        self.key_id = key_id

    @property
    def public(self) -> dict[str, Ed25519PublicKey]:
        """What tokens are verified by."""
        return {self.key_id: self.key.public_key()}

    @property
    def jwk(self) -> pb.JsonWebKey:
        """The same as it is told."""
        x = base64url_encode(self.key.public_key().public_bytes_raw()).decode()
        return pb.JsonWebKey(kty="OKP", crv="Ed25519", x=x, kid=self.key_id, alg="EdDSA", use="sig")

    def token(self, principal: Principal = ADMIN, *, revision: int = 1, seconds: float = 300, now: float | None = None) -> str:
        """A token of a user's, good for some seconds."""
        issued_at = time.time() if now is None else now
        return access_tokens.sign(AccessToken(principal, revision, issued_at + seconds), self.key, self.key_id, issued_at)

    def claims(self, principal: Principal = ADMIN) -> dict[str, Any]:
        """What such a token says."""
        claims: dict[str, Any] = jwt.decode(self.token(principal), options={"verify_signature": False})
        return claims

    def signed(self, claims: dict[str, Any], **headers: Any) -> str:
        """A token that says something else; headers are as they should be, but for those given."""
        return jwt.encode(claims, self.key, algorithm="EdDSA", headers={"kid": self.key_id, "typ": "at+jwt", **headers})

    def answer(self, principal: Principal = ADMIN, **more: Any) -> pb.ExchangeCredentialResponse:
        """What a credential is exchanged for."""
        text = self.token(principal, **more)
        ends = int(access_tokens.verify(text, self.public).expires_at)
        return pb.ExchangeCredentialResponse(access_token=text, expires_at=timestamp_pb2.Timestamp(seconds=ends))

    def state(self, clock: Callable[[], float] = time.monotonic) -> TokenState:
        """A state that has just heard of this signer's key."""
        state = TokenState(clock)
        state.begin([self.jwk], [])
        return state


class FakeAuth:
    """`AuthInternal` as the exchange asks it.

    Attributes:
        principals: Whose each credential is; one that is not here is refused with `refusal`.
        refusal: How.
        asked: Credential and address of each question.
        gate: Answers wait for it.
    """

    def __init__(self, signer: Signer, refusal: KilnError) -> None:
        self.signer = signer
        self.refusal = refusal
        self.principals: dict[str, Principal] = {}
        self.revision = 1
        self.seconds = 300.0
        self.clock: Callable[[], float] = time.time
        self.asked: list[tuple[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def ExchangeCredential(self, request: pb.ExchangeCredentialRequest) -> pb.ExchangeCredentialResponse:  # noqa: N802 - gRPC's name
        """As the test says."""
        self.asked.append((request.credential, request.address))
        await self.gate.wait()
        principal = self.principals.get(request.credential)
        if principal is None:
            raise self.refusal
        return self.signer.answer(principal, revision=self.revision, seconds=self.seconds, now=self.clock())


class PlayedAuth:
    """The auth service at an address of its own, as a test plays it. It is asked from threads.

    Attributes:
        principals: Whose each credential is; one that is not here is refused.
        is_silent: Whether its watchers hear nothing.
        has_begun: Whether they ever do.
    """

    def __init__(self, services: Services, signer: Signer) -> None:
        self.signer = signer
        self.services = services
        self.principals: dict[str, Principal] = {}
        self.is_silent = False
        self.has_begun = True
        self._stale: list[pb.Stale] = []
        self.forget()

    def forget(self) -> None:
        """Back to nobody known and nothing asked."""
        self.principals.clear()
        self.services.forget()
        self.services.on("WatchTokens", self._watch)
        self.services.on("ExchangeCredential", self._exchange)

    @property
    def revision(self) -> int:
        """The newest."""
        return len(self._stale) + 1

    @property
    def exchanges(self) -> list[Call]:
        """Who asked for what."""
        return [call for call in self.services.calls if call.name == "ExchangeCredential"]

    def change(self, identity: str) -> None:
        """Something of a user, session or key changes."""
        self._stale.append(pb.Stale(id=identity, revision=self.revision + 1))

    def key(self, principal: Principal, kind: Kind = Kind.API_KEY) -> str:
        """A credential of somebody's."""
        text = new_credential(kind).text
        self.principals[text] = principal
        return text

    def token(self, principal: Principal) -> str:
        """An access token of somebody's, as of now."""
        return self.signer.token(principal, revision=self.revision)

    def _exchange(self, request: pb.ExchangeCredentialRequest, context: grpc.ServicerContext) -> pb.ExchangeCredentialResponse:
        principal = self.principals.get(request.credential)
        if principal is None:
            fail(context, Unauthenticated("no such credential", reason="BAD_CREDENTIALS"))
        return self.signer.answer(principal, revision=self.revision)

    def _watch(self, request: pb.WatchTokensRequest, context: grpc.ServicerContext) -> Iterator[pb.WatchTokensResponse]:
        told = 0
        while not self.has_begun and context.is_active():
            time.sleep(_HEARTBEAT_SECONDS)
        yield pb.WatchTokensResponse(keys=[self.signer.jwk])
        while context.is_active():
            if not self.is_silent:
                news = self._stale[told:]
                told += len(news)
                yield pb.WatchTokensResponse(stale=news, revision=self.revision)
            time.sleep(_HEARTBEAT_SECONDS)


@contextmanager
def playing_auth() -> Iterator[tuple[str, PlayedAuth]]:
    """The address of such a service, and the service."""
    with running_services() as (address, services):
        yield address, PlayedAuth(services, Signer())


def stale(identity: str, revision: int) -> Iterable[pb.Stale]:
    """The news that something changed."""
    return [pb.Stale(id=identity, revision=revision)]
