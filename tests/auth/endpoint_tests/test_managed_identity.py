"""azure-identity, unmodified, works with the fake IMDS and App Service endpoints as with the real ones."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from azure.core.exceptions import AzureError, ServiceRequestError, ServiceResponseError
from azure.identity import CredentialUnavailableError, ManagedIdentityCredential

from tests.auth.endpoint_tests.conftest import Environ
from tests.auth.endpoints.entra import Entra
from tests.auth.endpoints.fake_server import Fault
from tests.auth.endpoints.metadata.managed_identity import (
    IDENTITY_NOT_FOUND,
    ManagedIdentity,
    app_service_error,
    imds_error,
)


@pytest.fixture
def host(entra: Entra) -> Iterator[ManagedIdentity]:
    """A fake host with a system-assigned and two user-assigned identities."""
    with ManagedIdentity(entra, users=2) as host:
        yield host


@pytest.fixture(params=["imds", "app_service"])
def service(request: pytest.FixtureRequest, host: ManagedIdentity, environ: Environ) -> str:
    """IMDS or App Service; the environment makes azure-identity use it."""
    service = str(request.param)
    environ(host.imds_environment if service == "imds" else host.app_service_environment)
    return service


def credential(**more: Any) -> ManagedIdentityCredential:
    """Return azure-identity's credential without retries and with a short timeout."""
    return ManagedIdentityCredential(**{"retry_total": 0, "read_timeout": 0.3, **more})


def decode_claims(token: str) -> dict[str, Any]:
    """Return the claims of a token without verifying it."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def test_system_and_user_assigned_identities(entra: Entra, host: ManagedIdentity, service: str) -> None:
    """The token is for the user-assigned identity of the client id, or else for the system-assigned one."""
    user = host.users[1]
    system = credential().get_token(entra.default_scope)
    assigned = credential(client_id=user.client_id).get_token(entra.default_scope)
    assert host.system is not None
    assert decode_claims(system.token)["oid"] == host.system.object_id
    claims = entra.keyring.verify(assigned.token, audience=entra.audience)
    assert (claims["iss"], claims["sub"], claims["appid"]) == (entra.issuer, user.object_id, user.client_id)
    assert [call.log_fields["client_id"] for call in host.calls.all(service)] == ["system", user.client_id]


def test_unassigned_identity(entra: Entra, host: ManagedIdentity, service: str) -> None:
    """A client id that is not assigned to the host is an error, with the text of the endpoint."""
    messages = {"imds": "Identity not found", "app_service": "No User Assigned or Delegated Managed Identity"}
    with pytest.raises(CredentialUnavailableError, match=messages[service]):
        credential(client_id="00000000-0000-0000-0000-00000000dead").get_token(entra.default_scope)


def test_single_user_assigned_identity(entra: Entra, environ: Environ) -> None:
    """A single user-assigned identity is used if there is no system-assigned one; no identity is an error."""
    with ManagedIdentity(entra, system=False, users=1) as one:
        environ(one.imds_environment)
        assert (
            decode_claims(credential().get_token(entra.default_scope).token)["oid"] == one.users[0].object_id
        )
    with ManagedIdentity(entra, system=False, users=0) as none:
        environ(none.imds_environment)
        with pytest.raises(CredentialUnavailableError, match="Identity not found"):
            credential().get_token(entra.default_scope)


def test_unknown_resource(entra: Entra, host: ManagedIdentity, service: str) -> None:
    """An unknown resource is an error; App Service does not give the reason."""
    messages = {"imds": "AADSTS500011", "app_service": "500, An unexpected error"}
    with pytest.raises(CredentialUnavailableError, match=messages[service]):
        credential().get_token("api://nowhere/.default")
    assert host.calls.all()[0].log_fields["resource"] == "api://nowhere"


@pytest.mark.parametrize(
    ("imds", "app_service", "raised"),
    [
        (IDENTITY_NOT_FOUND, app_service_error(500), CredentialUnavailableError),
        (imds_error(429), app_service_error(429), CredentialUnavailableError),
        (imds_error(500), app_service_error(500), CredentialUnavailableError),
        (Fault(404, "Not Found"), Fault(404, "Not Found"), json.JSONDecodeError),
        (Fault(delay=30), Fault(delay=30), ServiceResponseError),
        (Fault(drop=True), Fault(drop=True), ServiceResponseError),
    ],
)
def test_error_classes(
    entra: Entra,
    host: ManagedIdentity,
    service: str,
    imds: Fault,
    app_service: Fault,
    raised: type[Exception],
) -> None:
    """All errors of IMDS have one class in azure-identity; the errors of App Service have several."""
    fault, expected = (imds, CredentialUnavailableError) if service == "imds" else (app_service, raised)
    with host.faults.during(fault), pytest.raises(expected):
        credential().get_token(entra.default_scope)


def test_unreachable(entra: Entra, host: ManagedIdentity, service: str) -> None:
    """A refused connection is an error, and the same credential object works again afterwards."""
    same_credential = credential()
    expected: dict[str, type[AzureError]] = {
        "imds": CredentialUnavailableError,
        "app_service": ServiceRequestError,
    }
    with host.unreachable(), pytest.raises(expected[service]):
        same_credential.get_token(entra.default_scope)
    assert same_credential.get_token(entra.default_scope).token


def test_retries(entra: Entra, host: ManagedIdentity, service: str) -> None:
    """azure-identity retries transient errors."""
    host.faults.add(imds_error(500), times=2)
    assert credential(retry_total=3, retry_backoff_factor=0).get_token(entra.default_scope).token
    assert [call.status for call in host.calls.all(service)] == [500, 500, 200]


def test_token_caching(entra: Entra, host: ManagedIdentity, service: str) -> None:
    """azure-identity caches a token only if it is valid for more than five minutes."""
    for lifetime, calls in ((240, 2), (3600, 1)):
        host.calls.clear()
        with entra.changed_tokens(lifetime=lifetime):
            same_credential = credential()
            assert same_credential.get_token(entra.default_scope).token
            assert same_credential.get_token(entra.default_scope).token
        assert host.calls.count(service, status=200) == calls


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/metadata/identity/oauth2/token?api-version=2018-02-01&resource=sts.amazonaws.com", {}, 400),
        ("/metadata/identity/oauth2/token?api-version=2018-02-01", {"Metadata": "true"}, 400),
        ("/msi/token?api-version=2019-08-01&resource=sts.amazonaws.com", {"X-IDENTITY-HEADER": "guess"}, 401),
        ("/elsewhere", {"Metadata": "true"}, 404),
    ],
)
def test_requests_without_required_header(
    host: ManagedIdentity, path: str, headers: dict[str, str], status: int
) -> None:
    """Requests without the header that only clients on the host send get no token."""
    request = urllib.request.Request(host.url + path, headers=headers)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=5)
    caught.value.close()
    assert caught.value.code == status


def test_call_log_has_no_secrets(entra: Entra, host: ManagedIdentity, service: str) -> None:
    """The call log contains no token and no header."""
    token = credential().get_token(entra.default_scope).token
    call_log = repr(host.calls.all())
    assert "sts.amazonaws.com" in call_log
    assert token not in call_log
    assert host.app_service_environment["IDENTITY_HEADER"] not in call_log
