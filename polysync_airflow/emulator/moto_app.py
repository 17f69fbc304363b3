"""moto behind the emulator: its unmodified app, and what the emulator looks up in its IAM and S3."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from moto.backends import get_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.test import Client

from polysync_airflow.emulator.errors import invalid
from polysync_airflow.emulator.store import ACCOUNT, partition

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# moto finds the service by the credential scope and does not check the signature.
_S3_AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=emulator/20000101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
)


@dataclass(frozen=True)
class Caller:
    """Whose access key it is: its ARN, and all names by which a trust policy may mean it."""

    arn: str
    names: frozenset[str]


class Moto:
    """moto's app. Its state belongs to the process, not to this object: run one emulator per process."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, as WSGI."""
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer

    def reset(self) -> None:
        """Forget everything in every service."""
        Client(self._app).post("/moto-api/reset").close()

    def read_object(self, bucket: str, key: str, version: str | None) -> bytes:
        """Return the contents of an S3 object.

        :raises ApiError: ValidationException if there is none.
        """
        query = {"versionId": version} if version else {}
        path = f"/{quote(bucket)}/{quote(key)}"
        headers = {"Authorization": _S3_AUTHORIZATION}
        with Client(self._app).get(path, query_string=query, headers=headers) as response:
            if response.status_code != 200:
                raise invalid(f"Unable to read s3://{bucket}/{key} (HTTP {response.status_code}).")
            return response.get_data()

    def trust_policy(self, role_arn: str) -> dict[str, Any] | None:
        """Return a role's trust policy, or None if the role does not exist."""
        account, place = _account_and_partition(role_arn)
        for role in get_backend("iam")[account][place].get_roles():
            if role.arn == role_arn:
                policy: dict[str, Any] = json.loads(role.assume_role_policy_document)
                return policy
        return None

    def oidc_audiences(self, provider_arn: str) -> list[str] | None:
        """Return the client ids of an OpenID Connect provider in IAM, or None if it does not exist."""
        account, place = _account_and_partition(provider_arn)
        provider = get_backend("iam")[account][place].open_id_providers.get(provider_arn)
        return None if provider is None else list(provider.client_id_list)

    def caller(self, access_key_id: str, region: str) -> Caller:
        """Return whose access key it is; a key that moto did not issue counts as the account's root."""
        place = partition(region)
        for backends in get_backend("sts").values():
            session = backends[place].get_assumed_role_from_access_key(access_key_id)
            if session is not None:
                account, _ = _account_and_partition(session.role_arn)
                return _caller(session.arn, account, place, session.role_arn)
        user = get_backend("iam")[ACCOUNT][place].get_user_from_access_key_id(access_key_id)
        root = f"arn:{place}:iam::{ACCOUNT}:root"
        return _caller(root if user is None else user.arn, ACCOUNT, place)


def _caller(arn: str, account: str, place: str, *more: str) -> Caller:
    # Naming the account in a trust policy means everybody in it.
    return Caller(arn, frozenset({arn, account, f"arn:{place}:iam::{account}:root", *more}))


def _account_and_partition(arn: str) -> tuple[str, str]:
    parts = arn.split(":")
    return (parts[4], parts[1]) if len(parts) > 5 and parts[4].isdigit() else (ACCOUNT, "aws")
