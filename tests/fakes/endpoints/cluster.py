"""
A fake Kubernetes cluster: its service account issuer, with projected token files and
published keys.

A projected token has two uses: as the federated assertion of a workload identity at
Entra ID, and, with the ``file`` token source, as the web identity token at STS.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from tests.fakes.endpoints.certificates import Pki
from tests.fakes.endpoints.fake_server import FakeServer, Request, Response, Route
from tests.fakes.endpoints.keyring import Keyring

# The audience of an assertion for Entra ID.
ENTRA_AUDIENCE = "api://AzureADTokenExchange"


class Cluster(FakeServer):
    """
    An https server with the discovery document and the keys of the cluster. Its ``url``
    is the issuer.

    Routes: ``discovery``, ``jwks``.

    :param pki: the authority that issues the server certificate.
    """

    def __init__(self, pki: Pki) -> None:
        super().__init__(tls=pki.server_context())
        self.keyring = Keyring()

    def routes(self) -> Sequence[Route]:
        """Return the routes of the API server that need no authentication."""
        return (
            Route(
                "discovery", "GET", "/.well-known/openid-configuration", self._discovery
            ),
            Route(
                "jwks",
                "GET",
                "/openid/v1/jwks",
                lambda _: Response(body=self.keyring.jwks()),
            ),
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
        """
        Return a token of a service account.

        :param subject: the service account, such as
            ``system:serviceaccount:airflow:worker``.
        :param audience: ``aud``.
        :param lifetime: seconds.
        :param issuer: ``iss``; None for the URL of this server.
        :param forged: sign with a key that is not published.
        """
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
        """
        Write a token to a file as the kubelet does: the file is replaced in one step.
        """
        new = path.with_name(f".{path.name}.new")
        new.touch(mode=0o600)
        new.write_text(token)
        return new.replace(path)

    def _discovery(self, _: Request) -> Response:
        document = {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        return Response(body=document)
