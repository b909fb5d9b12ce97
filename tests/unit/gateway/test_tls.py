"""What the files of a certificate may hold, and what becomes of them when they change."""

from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from libs.common.settings import InvalidSettings, TlsSettings
from services.gateway.tls import Certificate, certificate_of
from tests.support.tls import Authority, pem_of

AUTHORITY: Final = Authority()
CERT, KEY = AUTHORITY.issue()
OTHER_CERT, OTHER_KEY = AUTHORITY.issue()


class Files:
    """A certificate and a key on disk."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.hold(CERT, KEY)

    def hold(self, cert: bytes, key: bytes) -> None:
        """What they hold from now on."""
        self.cert.write_bytes(cert)
        self.key.write_bytes(key)

    def certificate(self) -> Certificate:
        """As the gateway takes them."""
        return Certificate(self.cert, self.key)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def encrypted(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)], ids=["ECDSA", "RSA"])
def test_keys_of_both_kinds_are_taken(files: Files, key: ec.EllipticCurvePrivateKey) -> None:
    files.hold(*AUTHORITY.issue(key))

    files.certificate()


def test_the_chain_behind_a_certificate_may_be_in_its_file(files: Files) -> None:
    files.hold(CERT + AUTHORITY.pem, KEY)

    files.certificate()


@pytest.mark.parametrize(
    ("cert", "key", "said"),
    [
        (b"", KEY, "KILN_TLS_CERT_FILE: holds no certificate"),
        (b"\xff\0", KEY, "KILN_TLS_CERT_FILE: holds no certificate"),
        (CERT.replace(b"M", b"!", 1), KEY, "KILN_TLS_CERT_FILE: holds no certificate"),
        (CERT[:300], KEY, "KILN_TLS_CERT_FILE: holds no certificate"),
        (KEY, CERT, "KILN_TLS_CERT_FILE: holds no certificate"),
        (CERT, b"", "KILN_TLS_KEY_FILE: holds no private key"),
        (CERT, KEY[:60], "KILN_TLS_KEY_FILE: holds no private key"),
        (CERT, CERT, "KILN_TLS_KEY_FILE: holds no private key"),
        (CERT, OTHER_KEY, "KILN_TLS_KEY_FILE: is not the key of"),
        (AUTHORITY.pem + CERT, KEY, "KILN_TLS_KEY_FILE: is not the key of"),
        (CERT, encrypted(ec.generate_private_key(ec.SECP256R1())), "KILN_TLS_KEY_FILE: the key has a password"),
        (CERT, pem_of(ed25519.Ed25519PrivateKey.generate()), "KILN_TLS_KEY_FILE: must be a key of RSA or ECDSA"),
        (*AUTHORITY.issue(rsa.generate_private_key(65537, 1024)), "KILN_TLS_CERT_FILE: cannot be used for TLS: EE_KEY_TOO_SMALL"),
    ],
    ids=range(13),
)
def test_files_that_cannot_be_used_are_told_apart_and_no_key_is_shown(files: Files, cert: bytes, key: bytes, said: str) -> None:
    files.hold(cert, key)

    with pytest.raises(InvalidSettings) as caught:
        files.certificate()

    assert str(caught.value).startswith(said)
    assert "PRIVATE" not in str(caught.value)


@pytest.mark.parametrize("name", ["cert", "key"])
def test_a_file_that_cannot_be_read_is_named(files: Files, name: str) -> None:
    getattr(files, name).unlink()

    with pytest.raises(InvalidSettings, match=f"KILN_TLS_{name.upper()}_FILE: cannot be read: .*{name}.pem"):
        files.certificate()


@pytest.mark.parametrize(("given", "missing"), [("cert", "KEY"), ("key", "CERT")])
def test_one_without_the_other_is_refused_and_the_missing_one_named(files: Files, given: str, missing: str) -> None:
    with pytest.raises(ValueError, match=f"KILN_TLS_{missing}_FILE: is missing"):
        TlsSettings(**{f"tls_{given}_file": getattr(files, given)})


def test_neither_is_no_tls() -> None:
    settings = TlsSettings(tls_cert_file=None, tls_key_file=None)

    assert certificate_of(settings) is None
    assert not settings.speaks_tls


# Renewal


async def looked(certificate: Certificate, times: int = 2) -> list[str]:
    """What is told of some looks."""
    with structlog.testing.capture_logs() as lines:
        for _ in range(times):
            await certificate.look()
    return [line["event"] for line in lines]


async def test_files_that_stay_are_no_news(files: Files) -> None:
    assert await looked(files.certificate(), 3) == []


async def test_a_renewed_certificate_is_taken_once_both_files_have_settled(files: Files) -> None:
    certificate = files.certificate()

    files.cert.write_bytes(OTHER_CERT)
    half = await looked(certificate, 1)
    files.key.write_bytes(OTHER_KEY)
    whole = await looked(certificate, 1)
    settled = await looked(certificate, 3)

    assert (half, whole, settled) == ([], [], ["tls_certificate_renewed"])


@pytest.mark.parametrize("broken", [(OTHER_CERT, KEY), (b"", b""), (OTHER_CERT, b"")])
async def test_a_broken_pair_is_told_of_once_and_the_next_good_one_taken(files: Files, broken: tuple[bytes, bytes]) -> None:
    certificate = files.certificate()

    files.hold(*broken)
    told = await looked(certificate, 5)
    files.hold(OTHER_CERT, OTHER_KEY)
    taken = await looked(certificate)

    assert (told, taken) == (["tls_certificate_not_renewed"], ["tls_certificate_renewed"])


async def test_files_that_go_away_are_told_of_and_may_come_back(files: Files) -> None:
    certificate = files.certificate()

    files.key.unlink()
    told = await looked(certificate, 3)
    files.hold(OTHER_CERT, OTHER_KEY)

    assert (told, await looked(certificate)) == (["tls_certificate_not_renewed"], ["tls_certificate_renewed"])


def test_a_certificate_that_has_expired_is_served_and_told_of(files: Files) -> None:
    files.hold(*AUTHORITY.issue(lasts=timedelta(days=-1)))

    with structlog.testing.capture_logs() as lines:
        files.certificate()

    assert [(line["event"], line["log_level"], line["expired"]) for line in lines] == [("tls_certificate", "warning", True)]
