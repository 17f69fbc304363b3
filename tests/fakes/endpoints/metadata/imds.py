"""
A fake EC2 instance metadata service, version 2 only: session tokens, and the role with
its credentials.

botocore uses it with ``AWS_EC2_METADATA_SERVICE_ENDPOINT``, unless
``AWS_EC2_METADATA_DISABLED`` is true. botocore tries once, with a timeout of one second
(``AWS_METADATA_SERVICE_NUM_ATTEMPTS``, ``AWS_METADATA_SERVICE_TIMEOUT``). It ignores
the expiry time of credentials that expire soon.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from threading import Lock
from uuid import uuid4

from tests.fakes.endpoints.credential_sources import (
    CachedCredentials,
    CredentialsSource,
    random_credentials,
)
from tests.fakes.endpoints.fake_server import FakeServer, Request, Response, Route

_MAX_SESSION_SECONDS = 21600
_CREDENTIALS = "/latest/meta-data/iam/security-credentials"


class InstanceMetadata(FakeServer):
    """
    The metadata service of one instance, over http.

    Routes: ``session`` (the PUT), ``role``, ``credentials``, ``region``. Log field:
    ``access_key``.

    :param source: source of the credentials; None for random credentials.
    :param role: name of the role in the instance profile; None for no role (404).
    :param region: AWS region of the instance.
    :param refresh_before: seconds before their expiry at which credentials are
        replaced.
    """

    def __init__(
        self,
        source: CredentialsSource | None = None,
        *,
        role: str | None = "airflow-worker",
        region: str = "us-east-1",
        refresh_before: float = 300,
    ) -> None:
        super().__init__()
        self.role, self.region = role, region
        self.credentials = CachedCredentials(
            source or random_credentials(), refresh_before
        )
        self._sessions: dict[str, float] = {}
        self._lock = Lock()

    @property
    def environment(self) -> dict[str, str]:
        """Variables that make botocore use this server."""
        return {
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url,
            "AWS_EC2_METADATA_DISABLED": "false",
        }

    def routes(self) -> Sequence[Route]:
        """Return the routes of the service."""
        return (
            Route("session", "PUT", "/latest/api/token", self._session),
            Route("role", "GET", f"{_CREDENTIALS}/?", self._role),
            Route(
                "credentials",
                "GET",
                rf"{_CREDENTIALS}/(?P<role>[^/]+)",
                self._credentials,
            ),
            Route(
                "region", "GET", "/latest/meta-data/placement/region", self._placement
            ),
            Route(
                "region",
                "GET",
                r"/latest/meta-data/placement/availability-zone/?",
                self._zone,
            ),
        )

    def _session(self, request: Request) -> Response:
        lifetime = request.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        if not lifetime.isdigit() or not 1 <= int(lifetime) <= _MAX_SESSION_SECONDS:
            return Response(400, "Bad Request")
        if "x-forwarded-for" in request.headers:
            return Response(403, "Forbidden")
        token = uuid4().hex
        with self._lock:
            self._sessions[token] = time.time() + int(lifetime)
        return Response(
            body=token, headers={"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": lifetime}
        )

    def _unauthorized(self, request: Request) -> Response | None:
        """
        Return an error response for a request without a session token, as in version 1;
        None otherwise.
        """
        with self._lock:
            expires_at = self._sessions.get(
                request.headers.get("x-aws-ec2-metadata-token", ""), 0.0
            )
        return (
            None
            if time.time() < expires_at
            else Response(401, "Unauthorized", log_fields={"error": "no session"})
        )

    def _role(self, request: Request) -> Response:
        return self._unauthorized(request) or (
            Response(body=self.role) if self.role else Response(404, "Not Found")
        )

    def _credentials(self, request: Request, role: str) -> Response:
        unauthorized = self._unauthorized(request)
        if unauthorized or role != self.role:
            return unauthorized or Response(404, "Not Found")
        current = self.credentials.current()
        body = {
            "Code": "Success",
            "LastUpdated": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "Type": "AWS-HMAC",
            **current,
        }
        return Response(body=body, log_fields={"access_key": current["AccessKeyId"]})

    def _placement(self, request: Request) -> Response:
        return self._unauthorized(request) or Response(body=self.region)

    def _zone(self, request: Request) -> Response:
        return self._unauthorized(request) or Response(body=f"{self.region}a")
