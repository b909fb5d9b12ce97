"""Certificates of an authority that tests make themselves."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_DAY: Final = timedelta(days=1)


class Authority:
    """Issues certificates for this machine's loopback address.

    Attributes:
        pem: What those trust who trust it.
    """

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("an authority of tests")
        made = _builder(self._name, self._name, self._key, _DAY).add_extension(x509.BasicConstraints(True, None), critical=True)
        self.pem = made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def issue(self, key: CertificateIssuerPrivateKeyTypes | None = None, *, lasts: timedelta = _DAY) -> tuple[bytes, bytes]:
        """A certificate and its key, in PEM."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))])
        made = _builder(_named("kiln"), self._name, key, lasts).add_extension(names, critical=False)
        return made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM), pem_of(key)

    def context(self) -> ssl.SSLContext:
        """What a client of HTTP trusts it by."""
        return ssl.create_default_context(cadata=self.pem.decode())

    def credentials(self) -> grpc.ChannelCredentials:
        """What a client of gRPC trusts it by."""
        return grpc.ssl_channel_credentials(self.pem)


def pem_of(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    """A key as it is kept in files."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def serial_of(certificate: bytes) -> int:
    """Tells certificates apart."""
    loaded = x509.load_der_x509_certificate if certificate[:1] == b"\x30" else x509.load_pem_x509_certificate
    return loaded(certificate).serial_number


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: CertificateIssuerPrivateKeyTypes, lasts: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    began = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    return began.serial_number(x509.random_serial_number()).not_valid_before(now - 2 * _DAY).not_valid_after(now + lasts)
