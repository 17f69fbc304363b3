"""
Runs moto behind the emulator: its unmodified WSGI app, and reads of S3 objects for pipeline definitions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.test import Client

from polysync_airflow.emulator.errors import invalid

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# The services that a pipeline or its test needs. Other services of moto do more than to keep state: its
# Lambda, for example, runs containers.
MOTO_SERVICES = frozenset({"iam", "logs", "s3", "sagemaker", "sts"})
# moto selects the service by the credential scope and does not verify the signature.
_S3_AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=emulator/20000101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
)


class Moto:
    """moto's WSGI app. moto keeps its state in the process, so run only one emulator per process."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Handle a request as a WSGI app."""
        response_body: Iterable[bytes] = self._app(environ, start_response)
        return response_body

    def reset(self) -> None:
        """Remove all resources of all services."""
        Client(self._app).post("/moto-api/reset").close()

    def read_object(self, bucket: str, key: str, version: str | None) -> bytes:
        """
        Return the content of an S3 object.

        :param bucket: the bucket.
        :param key: the key of the object.
        :param version: the version id; None for the latest version.
        :raises ApiError: ValidationException if the object cannot be read.
        """
        query = {"versionId": version} if version else {}
        path = f"/{quote(bucket)}/{quote(key)}"
        headers = {"Authorization": _S3_AUTHORIZATION}
        with Client(self._app).get(path, query_string=query, headers=headers) as response:
            if response.status_code != 200:
                raise invalid(f"Unable to read s3://{bucket}/{key} (HTTP {response.status_code}).")
            return response.get_data()
