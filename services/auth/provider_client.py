"""What is asked of one identity provider: where its pages are, by which keys its tokens are verified, and the token behind a code.

A provider that is away or slow delays only those who want something of it, and those for seconds at most. What it has told is kept.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

import httpx
import orjson
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.client import OAuth2Client

from libs.common.errors import KilnError, Unauthenticated, Unavailable
from libs.common.logs import logger
from libs.common.urls import is_safe_url
from services.auth.identity_providers import Provider

# For each question, however slowly the answer comes.
ASK_SECONDS: Final = 4.0
# How long what was told is believed, and for how long if nothing newer can be had.
FRESH_SECONDS: Final = 3600.0
STALE_SECONDS: Final = 24 * 3600.0
# How soon keys are asked for again because a token names one that was not among them.
KEYS_AGAIN_SECONDS: Final = 30.0
# How long a provider that has failed is left alone.
PAUSE_SECONDS: Final = 5.0
_MAX_ANSWER_BYTES: Final = 1 << 20
_LIMITS: Final = httpx.Limits(max_connections=8, max_keepalive_connections=2)

# What comes of asking, besides an answer, and of answers that are none. The last two authlib makes of a token's odd fields.
_NO_ANSWER: Final = (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError, TypeError, KeyError)

T = TypeVar("T")


class ProviderClient:
    """One provider. An async context manager.

    Args:
        provider: Which.
        transport: In the place of the network.
        clock: The time in seconds; only differences matter.

    Attributes:
        provider: The same.
    """

    def __init__(
        self, provider: Provider, *, transport: httpx.AsyncBaseTransport | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.provider = provider
        self._http = httpx.AsyncClient(
            transport=transport, verify=ssl.create_default_context(), trust_env=False, timeout=ASK_SECONDS, limits=_LIMITS
        )
        self._metadata = _Told(self._ask_metadata, clock)
        self._keys = _Told(self._ask_keys, clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self._http.aclose()

    async def authorization_url(self, *, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
        """Where a browser is sent to sign in.

        Raises:
            Unavailable: the provider does not answer.
        """
        endpoint = self._endpoint(await self._metadata.get(), "authorization_endpoint")
        client = self._client("none", redirect_uri)
        url: str = client.create_authorization_url(endpoint, state, verifier, nonce=nonce)[0]
        return url

    async def redeem(self, code: str, *, redirect_uri: str, verifier: str) -> str:
        """The ID token behind a code, not verified.

        Raises:
            Unauthenticated: the provider does not take the code.
            Unavailable: it does not answer.
        """
        metadata = await self._metadata.get()
        client = self._client(self._authentication(metadata), redirect_uri)
        endpoint = self._endpoint(metadata, "token_endpoint")
        try:
            async with asyncio.timeout(ASK_SECONDS):
                told = await client.fetch_token(
                    endpoint, grant_type="authorization_code", code=code, redirect_uri=redirect_uri, code_verifier=verifier
                )
        except OAuth2Error as error:
            # What it says is for whoever runs Kiln, who may have given it another secret, and may have anything in it.
            logger().warning("code_refused", provider=self.provider.id, error=str(error.error)[:100])
            why = f"{self.provider.shown} does not know this login any more; sign in again"
            raise Unauthenticated(why, reason="BAD_IDENTITY") from None
        except _NO_ANSWER as error:
            raise self._away(error) from None
        token = told.get("id_token")
        if not isinstance(token, str):
            raise Unauthenticated(f"{self.provider.shown} does not tell who signed in", reason="BAD_IDENTITY")
        return token

    async def keys(self, key_id: str | None) -> Sequence[Mapping[str, Any]]:
        """The keys (JWKs) that a token may be signed with: those of an id, or all where it names none.

        Raises:
            Unavailable: the provider does not answer.
        """
        for seconds in (FRESH_SECONDS, KEYS_AGAIN_SECONDS):
            known = await self._keys.get(seconds)
            if found := [one for one in known if key_id is None or one.get("kid") == key_id]:
                return found
        return ()

    def _client(self, authentication: str, redirect_uri: str) -> "_Client":
        secret = self.provider.client_secret.get_secret_value() if self.provider.client_secret else None
        return _Client(
            self._http,
            client_id=self.provider.client_id,
            client_secret=secret,
            token_endpoint_auth_method=authentication,
            scope=" ".join(self.provider.scopes),
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
        )

    def _authentication(self, metadata: Mapping[str, Any]) -> str:
        """How Kiln proves that it is the client: as OpenID Connect has it by default, unless the provider takes only the other."""
        if self.provider.client_secret is None:
            return "none"
        offered = metadata.get("token_endpoint_auth_methods_supported")
        is_post = isinstance(offered, list) and "client_secret_post" in offered and "client_secret_basic" not in offered
        return "client_secret_post" if is_post else "client_secret_basic"

    async def _ask_metadata(self) -> Mapping[str, Any]:
        told = await self._get(f"{self.provider.issuer.rstrip('/')}/.well-known/openid-configuration")
        if told.get("issuer") != self.provider.issuer:
            raise self._away("it says that it is another issuer")
        return told

    async def _ask_keys(self) -> Sequence[Mapping[str, Any]]:
        told = await self._get(self._endpoint(await self._metadata.get(), "jwks_uri"))
        keys = told.get("keys")
        if not isinstance(keys, list):
            raise self._away("it has no keys")
        return [one for one in keys if isinstance(one, dict)]

    async def _get(self, url: str) -> Mapping[str, Any]:
        try:
            async with asyncio.timeout(ASK_SECONDS), self._http.stream("GET", url, headers={"accept": "application/json"}) as answer:
                answer.raise_for_status()
                told = orjson.loads(await _body(answer))
        except _NO_ANSWER as error:
            raise self._away(error) from None
        if not isinstance(told, dict):
            raise self._away("its answer is no JSON object")
        return told

    def _endpoint(self, metadata: Mapping[str, Any], name: str) -> str:
        url = metadata.get(name)
        if not isinstance(url, str) or not is_safe_url(url):
            raise self._away(f"its {name} is none that is safe")
        return url

    def _away(self, why: Exception | str) -> Unavailable:
        # The caller hears that it is so; the log says why.
        logger().warning("provider_away", provider=self.provider.id, error=why if isinstance(why, str) else f"{type(why).__name__}: {why}")
        return Unavailable(
            f"the identity provider {self.provider.shown} cannot be asked now; try again", reason="PROVIDER_AWAY", retry_after=PAUSE_SECONDS
        )


class _Client(OAuth2Client):  # type: ignore[misc] # authlib has no types
    """Authlib's client over this service's HTTP: without a session of its own, so that logins share nothing but connections."""

    async def _fetch_token(self, url: str, body: str = "", headers: Any = None, auth: Any = None, method: str = "POST", **_: Any) -> Any:
        # A copy: authlib adds the secret to its own, which it would send to the next provider too.
        url, headers, body = auth.prepare(method, url, dict(headers), body)
        async with self.session.stream(method, url, content=body, headers=headers) as answer:
            whole = httpx.Response(answer.status_code, content=await _body(answer), request=answer.request)
        return self.parse_response_token(whole)


async def _body(answer: httpx.Response) -> bytes:
    """All of an answer that is being read; ValueError where that is too long."""
    body = b""
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > _MAX_ANSWER_BYTES:
            raise ValueError("its answer is too long")
    return body


class _Told(Generic[T]):
    """Something that a provider tells, and that is asked for again when it is old: once for all who want it.

    Args:
        ask: Asks; raises a KilnError when there is no answer.
        clock: The time in seconds.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]], clock: Callable[[], float]) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = asyncio.Lock()
        self._value: T | None = None
        self._told_at = 0.0
        self._failure: tuple[float, KilnError] | None = None

    async def get(self, seconds: float = FRESH_SECONDS) -> T:
        """The value, no older than that; but an older one, up to a day, while none can be had.

        Raises:
            KilnError: there is none.
        """
        if (known := self._younger_than(seconds)) is not None:
            return known
        async with self._lock:
            if (known := self._younger_than(seconds)) is not None:
                return known
            if self._failure is None or self._clock() - self._failure[0] >= PAUSE_SECONDS:
                await self._ask_again()
        if (known := self._younger_than(seconds if self._failure is None else STALE_SECONDS)) is not None:
            return known
        raise self._failure[1] if self._failure else AssertionError("what was just told is young")

    async def _ask_again(self) -> None:
        try:
            self._value = await self._ask()
        except KilnError as error:
            self._failure = self._clock(), error
        else:
            self._told_at, self._failure = self._clock(), None

    def _younger_than(self, seconds: float) -> T | None:
        return self._value if self._value is not None and self._clock() - self._told_at < seconds else None
