"""Owns the endpoints on an Azure host that hand out managed identities: instance metadata and App Service.

azure-identity finds the first by ``AZURE_POD_IDENTITY_AUTHORITY_HOST`` (else ``http://169.254.169.254``), the
second by ``IDENTITY_ENDPOINT`` and ``IDENTITY_HEADER``, which win if both are set.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import uuid4

from tests.auth.endpoints.aadsts import Refusal
from tests.auth.endpoints.entra import Entra
from tests.auth.endpoints.issuing import Principal
from tests.auth.endpoints.loopback import Answer, Endpoint, Fault, Request, Route

#: What the metadata service answers where no identity is assigned.
IDENTITY_NOT_FOUND = Fault(400, {"error": "invalid_request", "error_description": "Identity not found"})


def imds_failing(status: int, *, retry_after: int | None = None) -> Fault:
    """Return how the metadata service says 410 (being updated), 429 or 500."""
    texts = {410: "Service is being updated", 429: "Too many requests", 500: "Failed to retrieve token"}
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Fault(status, {"error": "unknown", "error_description": texts[status]}, headers)


def app_service_failing(status: int) -> Fault:
    """Return how App Service says 429 or 500."""
    texts = {429: "Too many requests", 500: "An unexpected error occured while fetching the AAD Token."}
    return Fault(status, {"statusCode": status, "message": texts[status]})


class ManagedIdentity(Endpoint):
    """Both endpoints of a host, over http, with tokens of one tenant.

    Routes: ``imds``, ``app_service``. The call log notes ``client_id`` (or "system") and ``resource``.

    :param entra: the tenant, whose `Shape` holds here too.
    :param system: whether a system-assigned identity exists.
    :param users: how many user-assigned identities exist.
    """

    def __init__(self, entra: Entra, *, system: bool = True, users: int = 1) -> None:
        super().__init__()
        self._entra, self._secret = entra, uuid4().hex
        self.system = self._new() if system else None
        self.users = [self._new() for _ in range(users)]

    @staticmethod
    def _new() -> Principal:
        return Principal(str(uuid4()), str(uuid4()))

    @property
    def imds_environment(self) -> dict[str, str]:
        """The variable that brings azure-identity here as on a virtual machine."""
        return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": self.url}

    @property
    def app_service_environment(self) -> dict[str, str]:
        """The variables that bring azure-identity here as in App Service."""
        return {"IDENTITY_ENDPOINT": f"{self.url}/msi/token", "IDENTITY_HEADER": self._secret}

    def routes(self) -> Sequence[Route]:
        """Return what the host answers."""
        return (
            Route("imds", "GET", "/metadata/identity/oauth2/token", self._imds),
            Route("app_service", "GET", "/msi/token", self._app_service),
        )

    def _imds(self, request: Request) -> Answer:
        if request.headers.get("metadata", "").lower() != "true":
            return _imds_error("Required metadata header not specified")
        # The real service refuses what a proxy may have forwarded.
        if "x-forwarded-for" in request.headers:
            return _imds_error("Forwarded requests are not allowed")
        resource = request.query.get("resource")
        if not resource or "api-version" not in request.query:
            return _imds_error("Required query variable 'resource' or 'api-version' is missing")
        principal = self._principal(request)
        if principal is None:
            return _imds_error("Identity not found")
        try:
            return self._granted(request, principal, resource)
        except Refusal as refusal:
            return refusal.answer(**_note(request))

    def _app_service(self, request: Request) -> Answer:
        if request.headers.get("x-identity-header") != self._secret:
            return Answer(401, {"statusCode": 401, "message": "Unauthorized"})
        principal = self._principal(request)
        if principal is None:
            text = (
                "No User Assigned or Delegated Managed Identity found for specified "
                "ClientId/ResourceId/PrincipalId."
            )
            return Answer(400, {"statusCode": 400, "message": text}, note=_note(request))
        try:
            return self._granted(request, principal, request.query.get("resource", ""))
        except Refusal as refusal:
            body = {"statusCode": 500, "message": "An unexpected error occured while fetching the AAD Token."}
            return Answer(500, body, note={**_note(request), "error": f"AADSTS{refusal.code}"})

    def _principal(self, request: Request) -> Principal | None:
        wanted = {request.query.get("client_id"), request.query.get("object_id")} - {None}
        if wanted:
            return next((user for user in self.users if wanted & {user.client_id, user.object_id}), None)
        # Azure answers with the only user-assigned identity where there is no system-assigned one.
        return self.system or (self.users[0] if len(self.users) == 1 else None)

    def _granted(self, request: Request, principal: Principal, resource: str) -> Answer:
        token = self._entra.mint().token(principal, self._entra.find_api(resource), "2")
        now, lifetime = int(time.time()), self._entra.shape.lifetime
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
        return Answer(body=body, note=_note(request))


def _imds_error(text: str) -> Answer:
    return Answer(400, {"error": "invalid_request", "error_description": text}, note={"error": text})


def _note(request: Request) -> dict[str, str]:
    named = request.query.get("client_id") or request.query.get("object_id") or "system"
    return {"client_id": named, "resource": request.query.get("resource", "")}
