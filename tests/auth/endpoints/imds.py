"""Owns EC2's instance metadata service, version 2 only: session tokens, the role's name, its credentials.

botocore comes here by ``AWS_EC2_METADATA_SERVICE_ENDPOINT``, unless ``AWS_EC2_METADATA_DISABLED`` is true; it
tries once and waits a second (``AWS_METADATA_SERVICE_NUM_ATTEMPTS``, ``AWS_METADATA_SERVICE_TIMEOUT``). It
does not believe credentials that end soon: see the test that proves it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from threading import Lock
from uuid import uuid4

from tests.auth.endpoints.loopback import Answer, Endpoint, Request, Route
from tests.auth.endpoints.supply import Source, Supply, made_up

_LONGEST_SESSION = 21600
_CREDENTIALS = "/latest/meta-data/iam/security-credentials"


class InstanceMetadata(Endpoint):
    """The service of one instance, over http.

    Routes: ``session`` (the PUT), ``role``, ``credentials``, ``region``.

    :param source: where credentials come from; made up if None.
    :param role: name of the role in the instance profile; None if there is none (404).
    :param renew_before: seconds before their end at which credentials are replaced.
    """

    def __init__(
        self,
        source: Source | None = None,
        *,
        role: str | None = "airflow-worker",
        region: str = "us-east-1",
        renew_before: float = 300,
    ) -> None:
        super().__init__()
        self.role, self.region = role, region
        self.supply = Supply(source or made_up(), renew_before)
        self._sessions: dict[str, float] = {}
        self._lock = Lock()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that bring botocore here."""
        return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url, "AWS_EC2_METADATA_DISABLED": "false"}

    def routes(self) -> Sequence[Route]:
        """Return what the service answers."""
        return (
            Route("session", "PUT", "/latest/api/token", self._session),
            Route("role", "GET", f"{_CREDENTIALS}/?", self._role),
            Route("credentials", "GET", rf"{_CREDENTIALS}/(?P<role>[^/]+)", self._credentials),
            Route("region", "GET", "/latest/meta-data/placement/region", self._placement),
            Route("region", "GET", r"/latest/meta-data/placement/availability-zone/?", self._zone),
        )

    def _session(self, request: Request) -> Answer:
        lifetime = request.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        if not lifetime.isdigit() or not 1 <= int(lifetime) <= _LONGEST_SESSION:
            return Answer(400, "Bad Request")
        if "x-forwarded-for" in request.headers:
            return Answer(403, "Forbidden")
        token = uuid4().hex
        with self._lock:
            self._sessions[token] = time.time() + int(lifetime)
        return Answer(body=token, headers={"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": lifetime})

    def _stranger(self, request: Request) -> Answer | None:
        """Refuse a request without a session, which is how version 1 asked."""
        with self._lock:
            until = self._sessions.get(request.headers.get("x-aws-ec2-metadata-token", ""), 0.0)
        return None if time.time() < until else Answer(401, "Unauthorized", note={"error": "no session"})

    def _role(self, request: Request) -> Answer:
        return self._stranger(request) or (Answer(body=self.role) if self.role else Answer(404, "Not Found"))

    def _credentials(self, request: Request, role: str) -> Answer:
        refused = self._stranger(request)
        if refused or role != self.role:
            return refused or Answer(404, "Not Found")
        current = self.supply.current()
        body = {
            "Code": "Success",
            "LastUpdated": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "Type": "AWS-HMAC",
            **current,
        }
        return Answer(body=body, note={"access_key": current["AccessKeyId"]})

    def _placement(self, request: Request) -> Answer:
        return self._stranger(request) or Answer(body=self.region)

    def _zone(self, request: Request) -> Answer:
        return self._stranger(request) or Answer(body=f"{self.region}a")
