"""
A private certificate authority that issues the certificates of the fake https servers
and of clients.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from tests.fakes.endpoints.fake_server import HOST


def new_key() -> RSAPrivateKey:
    """Return a new RSA key."""
    return generate_private_key(public_exponent=65537, key_size=2048)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(key: RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass(frozen=True)
class ClientCertificate:
    """
    A certificate with its key: the app registration has the certificate, its client has
    both.
    """

    certificate: x509.Certificate
    key: RSAPrivateKey = field(repr=False)
    # PEM file with key and certificate, as azure-identity reads it.
    path: Path


class Pki:
    """
    A new certificate authority, which only clients with its ``ca_file`` trust.

    :param directory: directory for the PEM files.
    """

    def __init__(self, directory: Path) -> None:
        self._directory, self._key = directory, new_key()
        self._issuer = _name("Loopback test CA")
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        builder = self._builder("Loopback test CA", self._key).add_extension(
            constraints, critical=True
        )
        usage = x509.KeyUsage(
            True, False, False, False, False, True, True, False, False
        )
        certificate = builder.add_extension(usage, critical=True).sign(
            self._key, hashes.SHA256()
        )
        # CA bundle for ``REQUESTS_CA_BUNDLE``, ``verify`` and similar settings.
        self.ca_file = directory / "ca.pem"
        self.ca_file.write_bytes(certificate.public_bytes(Encoding.PEM))

    def server_context(self) -> ssl.SSLContext:
        """Return the TLS context of a server on the loopback interface."""
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ip_address(HOST))]
        )
        key = new_key()
        certificate = (
            self._builder(HOST, key)
            .add_extension(names, False)
            .sign(self._key, hashes.SHA256())
        )
        chain = self._write("server", key, certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        return context

    def client_certificate(self, name: str = "client") -> ClientCertificate:
        """Return a certificate with which an application can sign assertions."""
        key = new_key()
        certificate = self._builder(name, key).sign(self._key, hashes.SHA256())
        return ClientCertificate(certificate, key, self._write(name, key, certificate))

    def _write(
        self, name: str, key: RSAPrivateKey, certificate: x509.Certificate
    ) -> Path:
        path = self._directory / f"{name}.pem"
        path.touch(mode=0o600)
        path.write_bytes(_pem(key) + certificate.public_bytes(Encoding.PEM))
        return path

    def _builder(self, subject: str, key: RSAPrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            self._key.public_key()
        )
        return (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(self._issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=2))
            .add_extension(identifier, False)
            .add_extension(signer, False)
        )
