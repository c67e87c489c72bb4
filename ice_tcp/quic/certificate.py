"""Self-signed certificates, known to the peer by their fingerprint alone (RFC 8122 s5)."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_FINGERPRINT = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){31}\Z")
_COMMON_NAME = "ice-tcp"
_CLOCK_SKEW = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its private key, for one session or for many."""

    x509: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def generate(cls, *, days: int = 30) -> Self:
        """A new self-signed certificate (ECDSA on P-256), valid for so many days."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _COMMON_NAME)])
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_SKEW)
            .not_valid_after(now + timedelta(days=days))
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, as 32 pairs of hexadecimal digits with colons: send it to the peer."""
        return fingerprint_of(self.x509)


def fingerprint_of(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate as RFC 8122 s5 writes it, without the name of the hash."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def checked_fingerprint(text: str) -> str:
    """A fingerprint in its canonical spelling. Raises ValueError if it is not a SHA-256 fingerprint."""
    fingerprint = text.strip().upper()
    if not _FINGERPRINT.match(fingerprint):
        raise ValueError(f"{text!r} is not a SHA-256 fingerprint: 32 pairs of hexadecimal digits with colons")
    return fingerprint


def matches(certificate: x509.Certificate, fingerprint: str) -> bool:
    """Whether a certificate has this (checked) fingerprint."""
    return hmac.compare_digest(fingerprint_of(certificate), fingerprint)
