"""Owns a Kubernetes cluster's service account issuer: projected token files and the keys that prove them.

The token that a kubelet projects serves two ends: as the federated assertion of a workload identity towards
Entra, and as the web identity of the ``file`` token source, straight towards STS.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from tests.auth.endpoints.certificates import Pki
from tests.auth.endpoints.keyring import Keyring
from tests.auth.endpoints.loopback import Answer, Endpoint, Request, Route

#: What an assertion for Entra is addressed to.
ENTRA_AUDIENCE = "api://AzureADTokenExchange"


class Cluster(Endpoint):
    """An https service with the cluster's discovery document and keys; ``url`` is the issuer.

    Routes: ``discovery``, ``jwks``.
    """

    def __init__(self, pki: Pki) -> None:
        super().__init__(tls=pki.server_context())
        self.keyring = Keyring()

    def routes(self) -> Sequence[Route]:
        """Return what the API server of a cluster answers to anybody."""
        return (
            Route("discovery", "GET", "/.well-known/openid-configuration", self._discovery),
            Route("jwks", "GET", "/openid/v1/jwks", lambda _: Answer(body=self.keyring.jwks())),
        )

    def token(
        self,
        subject: str,
        *,
        audience: str = ENTRA_AUDIENCE,
        lifetime: float = 3600,
        issuer: str | None = None,
        forged: bool = False,
    ) -> str:
        """Return a service account's token, such as of ``system:serviceaccount:airflow:worker``."""
        now = int(time.time())
        claims = {
            "aud": [audience],
            "iss": issuer or self.url,
            "sub": subject,
            "iat": now,
            "nbf": now,
            "exp": now + int(lifetime),
            "jti": str(uuid4()),
        }
        return self.keyring.sign(claims, forged=forged)

    def project(self, path: Path, token: str) -> Path:
        """Put a token into a file as a kubelet does: the file changes in one step."""
        fresh = path.with_name(f".{path.name}.new")
        fresh.touch(mode=0o600)
        fresh.write_text(token)
        return fresh.replace(path)

    def _discovery(self, _: Request) -> Answer:
        document = {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        return Answer(body=document)
