"""TLS: one certificate for REST and the front door, which is taken anew when it is renewed on disk."""

import asyncio
import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from libs.common.logs import logger
from libs.common.settings import InvalidSettings, TlsSettings

CERT: Final = "KILN_TLS_CERT_FILE"
KEY: Final = "KILN_TLS_KEY_FILE"
# Others are signed with by Python's TLS, and not by gRPC's.
_KINDS: Final = (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)

# What the two files hold; or, where they cannot be read, why.
Found = tuple[bytes, bytes] | str


class BadCertificate(Exception):
    """Certificate and key cannot be used; the message says which setting is wrong and why."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, which are good for TLS.

    Attributes:
        context: What HTTP is served with.
        configuration: What gRPC is served with.
        ends: When the certificate expires.
    """

    context: ssl.SSLContext
    configuration: grpc.ServerCertificateConfiguration
    ends: datetime


class Certificate:
    """The certificate of the gateway.

    Raises:
        InvalidSettings: the files hold none that can be used.
    """

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        self._files = (cert_file, key_file)
        self._seen = self._tried = _read(*self._files)
        try:
            self._pair = _pair(self._seen)
        except BadCertificate as error:
            raise InvalidSettings(str(error)) from None
        self._told = self._pair
        self._say("tls_certificate")

    def context(self) -> ssl.SSLContext:
        """What HTTP is served with: each handshake gets the certificate as it is then."""
        context = _new_context()

        def choose(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
            connection.context = self._pair.context

        # Called for clients that name no server as well. Into a context that is there already a certificate is not loaded: one of another
        # kind of key would stand beside the old one, and clients would get either.
        context.sni_callback = choose
        return context

    def credentials(self) -> grpc.ServerCredentials:
        """What gRPC is served with: the same."""
        news: Any = self._news  # which may be none, other than gRPC's types say
        return grpc.dynamic_ssl_server_credentials(self._pair.configuration, news, require_client_authentication=False)

    async def look(self) -> None:
        """Takes a renewed certificate; of one that cannot be used it tells in the log, and the old one stays.

        Two files are not renewed in one moment: they are believed once they are the same from one look to the next.
        """
        found = await asyncio.to_thread(_read, *self._files)
        is_settled, self._seen = found == self._seen, found
        if not is_settled or found == self._tried:
            return
        self._tried = found
        try:
            self._pair = _pair(found)
        except BadCertificate as error:
            logger().error("tls_certificate_not_renewed", error=str(error))
            return
        self._say("tls_certificate_renewed")

    def _news(self) -> grpc.ServerCertificateConfiguration | None:
        """Asked by gRPC before each handshake, on threads of its own; None for nothing new."""
        if self._told is self._pair:
            return None
        self._told = self._pair
        return self._told.configuration

    def _say(self, event: str) -> None:
        expired = self._pair.ends <= datetime.now(UTC)
        say = logger().warning if expired else logger().info
        say(event, ends=self._pair.ends.isoformat(), expired=expired)


def certificate_of(settings: TlsSettings) -> Certificate | None:
    """The certificate that settings name; None for none, which is for no TLS.

    Raises:
        InvalidSettings: it cannot be used.
    """
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    return Certificate(settings.tls_cert_file, settings.tls_key_file)


def _read(cert_file: Path, key_file: Path) -> Found:
    contents = []
    for setting, file in ((CERT, cert_file), (KEY, key_file)):
        try:
            contents.append(file.read_bytes())
        except OSError as error:
            return f"{setting}: cannot be read: {error}"
    return contents[0], contents[1]


def _pair(found: Found) -> Pair:
    if isinstance(found, str):
        raise BadCertificate(found)
    chain, key = found
    certificate, private = _certificate(chain), _key(key)
    if private.public_key() != certificate.public_key():
        raise BadCertificate(f"{KEY}: is not the key of the (first) certificate in {CERT}")
    context = _new_context()
    try:
        _load(context, chain + b"\n" + key)
    except ssl.SSLError as error:
        raise BadCertificate(f"{CERT}: cannot be used for TLS: {error.reason or error}") from None
    return Pair(context, grpc.ssl_server_certificate_configuration([(key, chain)]), certificate.not_valid_after_utc)


def _certificate(chain: bytes) -> x509.Certificate:
    """The server's own, which must be the first."""
    try:
        return x509.load_pem_x509_certificates(chain)[0]
    except ValueError:
        raise BadCertificate(f"{CERT}: holds no certificate in PEM, or one that is damaged") from None


def _key(key: bytes) -> PrivateKeyTypes:
    try:
        private = load_pem_private_key(key, password=None)
    except TypeError:
        raise BadCertificate(f"{KEY}: the key has a password; take it off") from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadCertificate(f"{KEY}: holds no private key in PEM, or one that is damaged") from None
    if not isinstance(private, _KINDS):
        raise BadCertificate(f"{KEY}: must be a key of RSA or ECDSA")
    return private


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """Takes what was read and checked: Python loads certificates from files alone, where others may stand by now."""
    with os.fdopen(os.memfd_create("tls"), "wb") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
