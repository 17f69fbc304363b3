"""
A fake managed identity endpoint of an Azure host: the instance metadata service (IMDS).

azure-identity uses it with ``AZURE_POD_IDENTITY_AUTHORITY_HOST`` (default:
``http://169.254.169.254``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import uuid4

from tests.fakes.endpoints.access_tokens import Principal
from tests.fakes.endpoints.entra import Entra
from tests.fakes.endpoints.entra_errors import EntraError
from tests.fakes.endpoints.fake_server import (
    FakeServer,
    Fault,
    Request,
    Response,
    Route,
)

# The response of IMDS on a host without an assigned identity.
IDENTITY_NOT_FOUND = Fault(
    400, {"error": "invalid_request", "error_description": "Identity not found"}
)


class ManagedIdentity(FakeServer):
    """
    The endpoint of one host, over http, with tokens of one tenant.

    Route: ``imds``. Log fields: ``client_id`` (or "system") and ``resource``.

    :param entra: the tenant that issues the tokens, with its ``TokenSettings``.
    :param system: whether the host has a system-assigned identity.
    :param users: number of user-assigned identities.
    """

    def __init__(self, entra: Entra, *, system: bool = True, users: int = 1) -> None:
        super().__init__()
        self._entra = entra
        self.system = self._new_principal() if system else None
        self.users = [self._new_principal() for _ in range(users)]

    @staticmethod
    def _new_principal() -> Principal:
        return Principal(str(uuid4()), str(uuid4()))

    @property
    def imds_environment(self) -> dict[str, str]:
        """Variable that makes azure-identity use IMDS, as on a virtual machine."""
        return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": self.url}

    def routes(self) -> Sequence[Route]:
        """Return the route."""
        return (Route("imds", "GET", "/metadata/identity/oauth2/token", self._imds),)

    def _imds(self, request: Request) -> Response:
        if request.headers.get("metadata", "").lower() != "true":
            return _imds_error_response("Required metadata header not specified")
        # The real service rejects requests that a proxy may have forwarded.
        if "x-forwarded-for" in request.headers:
            return _imds_error_response("Forwarded requests are not allowed")
        resource = request.query.get("resource")
        if not resource or "api-version" not in request.query:
            return _imds_error_response(
                "Required query variable 'resource' or 'api-version' is missing"
            )
        principal = self._principal(request)
        if principal is None:
            return _imds_error_response("Identity not found")
        try:
            return self._token_response(request, principal, resource)
        except EntraError as error:
            return error.response(**_log_fields(request))

    def _principal(self, request: Request) -> Principal | None:
        ids = {request.query.get("client_id"), request.query.get("object_id")} - {None}
        if ids:
            return next(
                (user for user in self.users if ids & {user.client_id, user.object_id}),
                None,
            )
        # Without a system-assigned identity, Azure uses the user-assigned identity if
        # there is only one.
        return self.system or (self.users[0] if len(self.users) == 1 else None)

    def _token_response(
        self, request: Request, principal: Principal, resource: str
    ) -> Response:
        token = self._entra.token_issuer().token(
            principal, self._entra.find_api(resource), "2"
        )
        now, lifetime = int(time.time()), self._entra.token_settings.lifetime
        body = {
            "access_token": token,
            "client_id": principal.client_id,
            "expires_in": str(lifetime),
            "expires_on": str(now + lifetime),
            "ext_expires_in": str(lifetime),
            "earliest_poll": str(now),
            "resource": resource,
            "token_type": "Bearer",
        }
        return Response(body=body, log_fields=_log_fields(request))


def _imds_error_response(text: str) -> Response:
    return Response(
        400,
        {"error": "invalid_request", "error_description": text},
        log_fields={"error": text},
    )


def _log_fields(request: Request) -> dict[str, str]:
    client_id = (
        request.query.get("client_id") or request.query.get("object_id") or "system"
    )
    return {"client_id": client_id, "resource": request.query.get("resource", "")}
