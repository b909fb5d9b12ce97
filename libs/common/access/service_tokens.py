"""What Kiln's services prove themselves by to each other: JWTs that they sign themselves, by a secret that all of them have.

Signed tokens and no mutual TLS: they need no certificates that expire and are to be handed out, they work while the auth service is away,
and they are checked in the same place as a user's. What travels between services is not encrypted by them: for a network that others can
listen on, encrypt that network.
"""

import time
from collections.abc import Callable
from typing import Final

import jwt

from libs.common.access.access_tokens import LEEWAY_SECONDS
from libs.common.access.principal import Principal, Role
from libs.common.errors import Unauthenticated

TYPE: Final = "kiln-service+jwt"
ISSUER: Final = "kiln-service"
_AUDIENCE: Final = "kiln-services"
_ALGORITHM: Final = "HS256"
_SECONDS: Final = 300
# Of what is left a token is used for half: it must not expire on its way.
_RENEW_SECONDS: Final = _SECONDS / 2


class ServiceTokens:
    """Makes the tokens of one service, and verifies those of all.

    Args:
        secret: What all services have.
        name: The service's own name.
        clock: The Unix time in seconds.
    """

    def __init__(self, secret: str, name: str, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret.encode()
        self._name = name
        self._clock = clock
        self._token = ""
        self._until = 0.0

    def own(self) -> str:
        """A token of this service's own, good for some minutes more."""
        now = self._clock()
        if now >= self._until:
            claims = {"iss": ISSUER, "aud": _AUDIENCE, "sub": self._name, "iat": int(now), "exp": int(now + _SECONDS)}
            self._token = jwt.encode(claims, self._secret, algorithm=_ALGORITHM, headers={"typ": TYPE})
            self._until = now + _RENEW_SECONDS
        return self._token

    def verify(self, text: str) -> tuple[Principal, float]:
        """The service that a token is of, and when the token ends, as Unix time.

        Raises:
            Unauthenticated: it is none, or made with another secret, or has expired.
        """
        try:
            claims = jwt.decode(
                text,
                self._secret,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                issuer=ISSUER,
                leeway=LEEWAY_SECONDS,
                options={"require": ["iss", "aud", "sub", "exp", "iat"], "strict_aud": True},
            )
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"the service token is not valid: {error}", reason="BAD_TOKEN") from None
        return Principal(id=claims["sub"], name=claims["sub"], role=Role.SERVICE), float(claims["exp"])
