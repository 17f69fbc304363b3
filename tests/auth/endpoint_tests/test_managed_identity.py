"""Owns the proof that azure-identity, unmodified, finds managed identities at the loopback endpoints."""

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
from tests.auth.endpoints.loopback import Fault
from tests.auth.endpoints.managed_identity import (
    IDENTITY_NOT_FOUND,
    ManagedIdentity,
    app_service_failing,
    imds_failing,
)


@pytest.fixture
def host(entra: Entra) -> Iterator[ManagedIdentity]:
    """A host with a system-assigned and two user-assigned identities."""
    with ManagedIdentity(entra, users=2) as host:
        yield host


@pytest.fixture(params=["imds", "app_service"])
def kind(request: pytest.FixtureRequest, host: ManagedIdentity, environ: Environ) -> str:
    """Either kind of endpoint, in the environment."""
    kind = str(request.param)
    environ(host.imds_environment if kind == "imds" else host.app_service_environment)
    return kind


def credential(**more: Any) -> ManagedIdentityCredential:
    """Return azure-identity's credential, without its patience."""
    return ManagedIdentityCredential(**{"retry_total": 0, "read_timeout": 0.3, **more})


def claims(token: str) -> dict[str, Any]:
    """Return what a token says."""
    said: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return said


def test_identities(entra: Entra, host: ManagedIdentity, kind: str) -> None:
    """Without a client id the system's identity answers, with one that user's; both in the tenant's tokens."""
    user = host.users[1]
    system = credential().get_token(entra.default_scope)
    assigned = credential(client_id=user.client_id).get_token(entra.default_scope)
    assert host.system is not None
    assert claims(system.token)["oid"] == host.system.object_id
    said = entra.keyring.verify(assigned.token, audience=entra.audience)
    assert (said["iss"], said["sub"], said["appid"]) == (entra.issuer, user.object_id, user.client_id)
    assert [call.note["client_id"] for call in host.calls.all(kind)] == ["system", user.client_id]


def test_identity_that_is_not_assigned(entra: Entra, host: ManagedIdentity, kind: str) -> None:
    """A client id that is none of the host's is refused in the words of the endpoint."""
    said = {"imds": "Identity not found", "app_service": "No User Assigned or Delegated Managed Identity"}
    with pytest.raises(CredentialUnavailableError, match=said[kind]):
        credential(client_id="00000000-0000-0000-0000-00000000dead").get_token(entra.default_scope)


def test_only_one_identity(entra: Entra, environ: Environ) -> None:
    """Where the only identity is a user-assigned one it answers for the system's; where none is, nobody does."""
    with ManagedIdentity(entra, system=False, users=1) as one:
        environ(one.imds_environment)
        assert claims(credential().get_token(entra.default_scope).token)["oid"] == one.users[0].object_id
    with ManagedIdentity(entra, system=False, users=0) as none:
        environ(none.imds_environment)
        with pytest.raises(CredentialUnavailableError, match="Identity not found"):
            credential().get_token(entra.default_scope)


def test_unknown_resource(entra: Entra, host: ManagedIdentity, kind: str) -> None:
    """A resource that the tenant does not know is refused, by App Service without the reason."""
    said = {"imds": "AADSTS500011", "app_service": "500, An unexpected error"}
    with pytest.raises(CredentialUnavailableError, match=said[kind]):
        credential().get_token("api://nowhere/.default")
    assert host.calls.all()[0].note["resource"] == "api://nowhere"


@pytest.mark.parametrize(
    ("imds", "app_service", "raised"),
    [
        (IDENTITY_NOT_FOUND, app_service_failing(500), CredentialUnavailableError),
        (imds_failing(429), app_service_failing(429), CredentialUnavailableError),
        (imds_failing(500), app_service_failing(500), CredentialUnavailableError),
        (Fault(404, "Not Found"), Fault(404, "Not Found"), json.JSONDecodeError),
        (Fault(delay=30), Fault(delay=30), ServiceResponseError),
        (Fault(drop=True), Fault(drop=True), ServiceResponseError),
    ],
)
def test_trouble(
    entra: Entra,
    host: ManagedIdentity,
    kind: str,
    imds: Fault,
    app_service: Fault,
    raised: type[Exception],
) -> None:
    """The metadata service's troubles are all one class; App Service's come through as they are."""
    fault, expected = (imds, CredentialUnavailableError) if kind == "imds" else (app_service, raised)
    with host.faults.during(fault), pytest.raises(expected):
        credential().get_token(entra.default_scope)


def test_absent(entra: Entra, host: ManagedIdentity, kind: str) -> None:
    """A refused connection is an error that the same credential recovers from."""
    patient = credential()
    expected: dict[str, type[AzureError]] = {
        "imds": CredentialUnavailableError,
        "app_service": ServiceRequestError,
    }
    with host.absent(), pytest.raises(expected[kind]):
        patient.get_token(entra.default_scope)
    assert patient.get_token(entra.default_scope).token


def test_retries(entra: Entra, host: ManagedIdentity, kind: str) -> None:
    """azure-identity repeats what failed for a moment."""
    host.faults.add(imds_failing(500), times=2)
    assert credential(retry_total=3, retry_backoff_factor=0).get_token(entra.default_scope).token
    assert [call.status for call in host.calls.all(kind)] == [500, 500, 200]


def test_short_lives(entra: Entra, host: ManagedIdentity, kind: str) -> None:
    """A token with less than five minutes to live is fetched anew at each request, a longer one is kept."""
    for lifetime, calls in ((240, 2), (3600, 1)):
        host.calls.clear()
        with entra.shaped(lifetime=lifetime):
            held = credential()
            assert held.get_token(entra.default_scope).token
            assert held.get_token(entra.default_scope).token
        assert host.calls.count(kind, status=200) == calls


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/metadata/identity/oauth2/token?api-version=2018-02-01&resource=sts.amazonaws.com", {}, 400),
        ("/metadata/identity/oauth2/token?api-version=2018-02-01", {"Metadata": "true"}, 400),
        ("/msi/token?api-version=2019-08-01&resource=sts.amazonaws.com", {"X-IDENTITY-HEADER": "guess"}, 401),
        ("/elsewhere", {"Metadata": "true"}, 404),
    ],
)
def test_strangers(host: ManagedIdentity, path: str, headers: dict[str, str], status: int) -> None:
    """Requests without the header that proves they come from the host itself get no token."""
    request = urllib.request.Request(host.url + path, headers=headers)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=5)
    caught.value.close()
    assert caught.value.code == status


def test_nothing_secret_is_kept(entra: Entra, host: ManagedIdentity, kind: str) -> None:
    """The call log holds no token and no header."""
    token = credential().get_token(entra.default_scope).token
    kept = repr(host.calls.all())
    assert "sts.amazonaws.com" in kept
    assert token not in kept
    assert host.app_service_environment["IDENTITY_HEADER"] not in kept
