"""
A test issuer of web identity tokens on the loopback interface, with certificates of its
own CA.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def key(name: str) -> Key:
    """
    Return a signing key, whose kid is its name. The keys whose names start with EC are
    on the curve P-256.
    """
    if name.startswith("EC"):
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def published(*names: str) -> dict[str, Any]:
    """Return the JSON Web Key Set of these keys."""
    keys = []
    for name in names:
        secret = key(name)
        if isinstance(secret, rsa.RSAPrivateKey):
            entry = RSAAlgorithm.to_jwk(secret.public_key(), as_dict=True)
        else:
            entry = ECAlgorithm.to_jwk(secret.public_key(), as_dict=True)
        # Microsoft's key set has no alg.
        entry.pop("key_ops", None)
        keys.append({**entry, "kid": name, "use": "sig"})
    return {"keys": keys}


def token(
    issuer: str, *, kid: str | None = "RSA1", alg: str = "RS256", **claims: Any
) -> str:
    """
    Return a signed token that is valid for ten minutes. A claim of None is omitted.
    """
    now = time.time()
    body = {
        "iss": issuer,
        "aud": "app",
        "sub": "airflow",
        "iat": now,
        "nbf": now,
        "exp": now + 600,
        **claims,
    }
    headers = {} if kid is None else {"kid": kid}
    claims_to_send = {name: value for name, value in body.items() if value is not None}
    return jwt.encode(
        claims_to_send, key(kid or "RSA1"), algorithm=alg, headers=headers
    )


@dataclass
class Issuer:
    """
    A running issuer. Tests can change what it publishes at any time.

    :param url: the URL of the issuer.
    :param keys: the JSON Web Key Set.
    :param published_issuer: the issuer in the discovery document; None for ``url``.
    :param requests: the paths of the requests.
    """

    url: str
    keys: dict[str, Any] = field(default_factory=lambda: published("RSA1", "EC1"))
    published_issuer: str | None = None
    requests: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The issuer as in the ARN of its provider in IAM."""
        return self.url.removeprefix("https://")

    def document_at(self, path: str) -> dict[str, Any] | None:
        """Return the document at a path, or None if there is none."""
        self.requests.append(path)
        base = self.url.rstrip("/")
        address = "/".join(self.url.split("/")[:3]) + path
        if address == f"{base}/.well-known/openid-configuration":
            return {
                "issuer": self.published_issuer or self.url,
                "jwks_uri": f"{base}/keys",
            }
        return self.keys if address == f"{base}/keys" else None


@contextmanager
def running(path: str, certificate: Path) -> Iterator[Issuer]:
    """
    Run an issuer.

    :param path: the path in the URL of the issuer, such as ``/tenant/v2.0``.
    :param certificate: a PEM file with the key and the certificate for 127.0.0.1.
    """
    issuer = Issuer("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = issuer.document_at(self.path)
            body = json.dumps(document or {}).encode()
            self.send_response(200 if document else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    # The handshake runs in the thread of the connection, so a failed handshake does not
    # end the server.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    issuer.url = f"https://127.0.0.1:{server.server_address[1]}{path}"
    thread = Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def certificates(folder: Path) -> tuple[Path, Path]:
    """Create a CA and a certificate for 127.0.0.1, and return the files of both."""
    root, leaf = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])
    usage = {name: name in ("key_cert_sign", "crl_sign") for name in _USAGES}
    ca = (
        _builder(authority, authority, root)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(root.public_key()), critical=False
        )
        .sign(root, hashes.SHA256())
    )
    host = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key())
    certificate = (
        _builder(host, authority, leaf)
        .add_extension(alternative, critical=False)
        .add_extension(signer, critical=False)
        .sign(root, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = leaf.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files = folder / "ca.pem", folder / "issuer.pem"
    files[0].write_bytes(ca.public_bytes(pem))
    files[1].write_bytes(secret + certificate.public_bytes(pem))
    return files


_USAGES = (
    *(
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
    ),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(minutes=5),
        not_valid_after=now + timedelta(days=1),
    )
