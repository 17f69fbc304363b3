"""
A fake credentials endpoint of a container, as the ECS agent and EKS Pod Identity
provide it.

botocore uses it with ``AWS_CONTAINER_CREDENTIALS_FULL_URI``. It sends an authorization
header from ``AWS_CONTAINER_AUTHORIZATION_TOKEN``. botocore allows plain http for
loopback and link-local hosts only, and tries three times, one second apart, with a
timeout of two seconds.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from uuid import uuid4

from tests.fakes.endpoints.credential_sources import (
    CachedCredentials,
    CredentialsSource,
    random_credentials,
)
from tests.fakes.endpoints.fake_server import FakeServer, Request, Response, Route

_ROLE_ARN = "arn:aws:iam::123456789012:role/airflow-worker"


class ContainerCredentials(FakeServer):
    """
    The credentials endpoint of one container, over http.

    Route: ``credentials``. Log field: ``access_key``.

    :param source: source of the credentials; None for random credentials.
    :param authorization: the authorization header that clients must send; None for a
        random one, empty for none.
    :param refresh_before: seconds before their expiry at which credentials are
        replaced.
    """

    def __init__(
        self,
        source: CredentialsSource | None = None,
        *,
        authorization: str | None = None,
        refresh_before: float = 300,
    ) -> None:
        super().__init__()
        self.credentials = CachedCredentials(
            source or random_credentials(), refresh_before
        )
        self._authorization = uuid4().hex if authorization is None else authorization

    @property
    def environment(self) -> dict[str, str]:
        """
        Variables that make botocore use this server, with the authorization in a
        variable as in ECS.
        """
        uri = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.url}/v1/credentials"}
        token = (
            {"AWS_CONTAINER_AUTHORIZATION_TOKEN": self._authorization}
            if self._authorization
            else {}
        )
        return uri | token

    def routes(self) -> Sequence[Route]:
        """Return the routes of the agent."""
        return (Route("credentials", "GET", "/v1/credentials", self._credentials),)

    def _credentials(self, request: Request) -> Response:
        authorization = request.headers.get("authorization", "")
        if self._authorization and not hmac.compare_digest(
            authorization.encode(), self._authorization.encode()
        ):
            text = "Access denied: the authorization token is invalid"
            return Response(
                401,
                {"code": "AccessDeniedException", "message": text},
                log_fields={"error": text},
            )
        current = self.credentials.current()
        return Response(
            body={"RoleArn": _ROLE_ARN, **current},
            log_fields={"access_key": current["AccessKeyId"]},
        )
