"""moto behind the emulator: its unmodified app, and the S3 objects the emulator reads from it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.test import Client

from polysync_airflow.emulator.errors import invalid

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# moto finds the service by the credential scope and does not check the signature.
_S3_AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=emulator/20000101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
)


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
