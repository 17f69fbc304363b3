"""Owns the credentials endpoint of a container, as the ECS agent and EKS Pod Identity offer it.

botocore comes here by ``AWS_CONTAINER_CREDENTIALS_FULL_URI``, with a header from
``AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`` (read at each request; no newline at its end) or else
``AWS_CONTAINER_AUTHORIZATION_TOKEN``. It takes plain http only from loopback and link-local hosts, waits two
seconds and tries three times, a second apart.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from tests.auth.endpoints.loopback import Answer, Endpoint, Fault, Request, Route
from tests.auth.endpoints.supply import Source, Supply, made_up

_ROLE_ARN = "arn:aws:iam::123456789012:role/airflow-worker"
#: What the agent answers about a task without a role: a fault for the route.
NOT_FOUND = Fault(
    404, {"code": "InvalidIdInRequest", "message": "Credentials not found", "HTTPErrorCode": 404}
)


class ContainerCredentials(Endpoint):
    """The endpoint of one container, over http.

    Route: ``credentials``.

    :param source: where credentials come from; made up if None.
    :param authorization: what clients must send; made up if None, and open to all if empty.
    :param renew_before: seconds before their end at which credentials are replaced.
    """

    def __init__(
        self, source: Source | None = None, *, authorization: str | None = None, renew_before: float = 300
    ) -> None:
        super().__init__()
        self.supply = Supply(source or made_up(), renew_before)
        self._authorization = uuid4().hex if authorization is None else authorization

    @property
    def environment(self) -> dict[str, str]:
        """The variables that bring botocore here, with the authorization in the environment as in ECS."""
        uri = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.url}/v1/credentials"}
        token = {"AWS_CONTAINER_AUTHORIZATION_TOKEN": self._authorization} if self._authorization else {}
        return uri | token

    def pod_environment(self, token_file: Path) -> dict[str, str]:
        """Return the variables that bring botocore here, with the authorization in a file as in EKS."""
        self.rotate(token_file, self._authorization)
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.url}/v1/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token_file),
        }

    def rotate(self, token_file: Path, authorization: str) -> None:
        """Demand another authorization from now on, and project it into a file."""
        token_file.touch(mode=0o600)
        token_file.write_text(authorization)
        self._authorization = authorization

    def routes(self) -> Sequence[Route]:
        """Return what the agent answers."""
        return (Route("credentials", "GET", "/v1/credentials", self._credentials),)

    def _credentials(self, request: Request) -> Answer:
        sent = request.headers.get("authorization", "")
        if self._authorization and not hmac.compare_digest(sent.encode(), self._authorization.encode()):
            text = "Access denied: the authorization token is invalid"
            return Answer(401, {"code": "AccessDeniedException", "message": text}, note={"error": text})
        current = self.supply.current()
        return Answer(body={"RoleArn": _ROLE_ARN, **current}, note={"access_key": current["AccessKeyId"]})
