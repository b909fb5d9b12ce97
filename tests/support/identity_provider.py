"""An identity provider without a network: discovery, keys, and codes that it takes once, with the verifier that belongs to them."""

import base64
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm

from services.auth.identity_providers import Provider
from services.auth.oidc_logins import Reply
from services.auth.provider_client import ProviderClient

ISSUER: Final = "https://id.example.com"
CLIENT: Final = "kiln-at-home"
SECRET: Final = "what only the provider and Kiln know"
AUDIENCE: Final = "https://kiln.example.com"


@dataclass(frozen=True)
class _Code:
    """What a code stands for."""

    challenge: str
    redirect_uri: str
    claims: Mapping[str, Any]


class FakeProvider:
    """The provider.

    Attributes:
        asked: The paths that it was asked for.
        is_away: Whether it answers nothing but errors.
        now: The time in seconds by which what it told grows old.
        token_answer: What it answers to every code; None for what it should.
    """

    def __init__(self, issuer: str = ISSUER) -> None:
        self.issuer = issuer
        self.asked: list[str] = []
        self.is_away = False
        self.now = 0.0
        self.token_answer: httpx.Response | None = None
        self.metadata: dict[str, Any] = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/keys",
        }
        self._codes: dict[str, _Code] = {}
        self._keys: dict[str, RSAPrivateKey] = {}
        self.new_key("key-1")

    def new_key(self, key_id: str) -> None:
        """Signs by another key from now on; the others stay published."""
        self.key_id = key_id
        self._keys[key_id] = generate_private_key(65537, 2048)

    def provider(self, **fields: Any) -> Provider:
        """It as settings name it; fields are as they are there."""
        given = {"id": "home", "title": "Home", "issuer": self.issuer, "clientId": CLIENT, "clientSecret": SECRET, "audience": AUDIENCE}
        return Provider.model_validate(given | fields)

    def client(self, **fields: Any) -> ProviderClient:
        """Who asks it."""
        return ProviderClient(self.provider(**fields), transport=httpx.MockTransport(self._answer), clock=lambda: self.now)

    def claims(self, audience: Any = AUDIENCE, **claims: Any) -> dict[str, Any]:
        """What a token says by default, and what it says besides; None takes a claim away."""
        now = int(time.time())
        every = {"iss": self.issuer, "sub": "ada", "aud": audience, "iat": now, "exp": now + 300, "preferred_username": "ada"} | claims
        return {name: value for name, value in every.items() if value is not None}

    def sign(self, claims: Mapping[str, Any], key: Any = None, algorithm: str = "RS256", **headers: Any) -> str:
        """A token."""
        signer = self._keys[self.key_id] if key is None else key
        return jwt.encode(dict(claims), signer, algorithm=algorithm, headers={"kid": self.key_id, **headers})

    def token(self, **claims: Any) -> str:
        """A token as a program presents it."""
        return self.sign(self.claims(**claims))

    def authorize(self, location: str, **claims: Any) -> Reply:
        """Somebody signs in on the page that a browser was sent to."""
        asked = dict(parse_qsl(urlsplit(location).query))
        assert (asked["client_id"], asked["response_type"], asked["code_challenge_method"]) == (CLIENT, "code", "S256")
        code = f"code-{len(self._codes)}"
        said = self.claims(CLIENT, **{"nonce": asked["nonce"], **claims})
        self._codes[code] = _Code(asked["code_challenge"], asked["redirect_uri"], said)
        return Reply(state=asked["state"], code=code, error="", issuer="")

    def public_keys(self) -> list[dict[str, Any]]:
        """Its key set."""
        keys = [(key_id, RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)) for key_id, key in self._keys.items()]
        return [{**key, "kid": key_id, "use": "sig"} for key_id, key in keys]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.asked.append(path)
        if self.is_away:
            raise httpx.ConnectError("nobody is there")
        if path == "/.well-known/openid-configuration":
            return httpx.Response(200, json=self.metadata)
        return httpx.Response(200, json={"keys": self.public_keys()}) if path == "/keys" else self._redeem(request)

    def _redeem(self, request: httpx.Request) -> httpx.Response:
        if self.token_answer:
            return self.token_answer
        form = dict(parse_qsl(request.content.decode()))
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        code = self._codes.pop(form["code"], None)
        if request.headers.get("authorization") != f"Basic {basic}":
            return httpx.Response(401, json={"error": "invalid_client"})
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
        if code is None or (challenge, form["redirect_uri"]) != (code.challenge, code.redirect_uri):
            return httpx.Response(400, json={"error": "invalid_grant"})
        return httpx.Response(200, json={"access_token": "unused", "token_type": "Bearer", "id_token": self.sign(code.claims)})
