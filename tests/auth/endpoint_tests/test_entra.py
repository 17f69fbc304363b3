"""azure-identity, unmodified, works with the fake Entra tenant as with the real one."""

from __future__ import annotations

import json
import ssl
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError, ServiceResponseError
from azure.identity import CertificateCredential, ClientSecretCredential, WorkloadIdentityCredential

from tests.auth.endpoint_tests.conftest import Environ
from tests.auth.endpoints.certificates import Pki
from tests.auth.endpoints.client_authentication import Application, FederatedCredential
from tests.auth.endpoints.cluster import Cluster
from tests.auth.endpoints.entra import Entra
from tests.auth.endpoints.entra_errors import entra_error_fault
from tests.auth.endpoints.fake_server import Fault

SECRET = "correct-horse-battery-staple"  # a credential of the fake tenant only
SUBJECT = "system:serviceaccount:airflow:worker"
# Without retries, one fault affects one call.
NO_RETRIES: dict[str, Any] = {"retry_total": 0}


@pytest.fixture
def app(entra: Entra) -> Application:
    """An application with a client secret."""
    return entra.register(secret=SECRET, expired_secret="expired")


def options(entra: Entra, **overrides: Any) -> dict[str, Any]:
    """Return the options that make azure-identity use the fake tenant."""
    defaults = {
        "authority": entra.url,
        "connection_verify": str(entra.ca_file),
        "disable_instance_discovery": True,
    }
    return {**defaults, **NO_RETRIES, **overrides}


def by_secret(
    entra: Entra, app: Application, secret: str = SECRET, **overrides: Any
) -> ClientSecretCredential:
    """Return azure-identity's credential with a client secret."""
    return ClientSecretCredential(
        entra.tenant, app.principal.client_id, secret, **options(entra, **overrides)
    )


def by_certificate(entra: Entra, app: Application, path: Path, **overrides: Any) -> CertificateCredential:
    """Return azure-identity's credential with a client certificate."""
    return CertificateCredential(
        entra.tenant, app.principal.client_id, str(path), **options(entra, **overrides)
    )


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """Path of the file into which the cluster projects its token."""
    return tmp_path / "azure-identity-token"


@pytest.fixture
def workload(entra: Entra, cluster: Cluster, token_file: Path) -> WorkloadIdentityCredential:
    """azure-identity's credential for a federated application. The token file does not exist yet."""
    app = entra.register(federated_credential=FederatedCredential(cluster.url, SUBJECT, cluster.keyring))
    return WorkloadIdentityCredential(
        tenant_id=entra.tenant,
        client_id=app.principal.client_id,
        token_file_path=str(token_file),
        **options(entra),
    )


def fetch_json(entra: Entra, url: str) -> Any:
    """Fetch a published JSON document."""
    context = ssl.create_default_context(cafile=str(entra.ca_file))
    with urllib.request.urlopen(url, context=context, timeout=5) as response:
        return json.load(response)


def verify_with_published_keys(entra: Entra, token: str) -> dict[str, Any]:
    """Verify a token as STS does, with the keys that its issuer publishes, and return its claims."""
    issuer = jwt.decode(token, options={"verify_signature": False})["iss"].rstrip("/")
    keys = jwt.PyJWKSet.from_dict(
        fetch_json(entra, fetch_json(entra, f"{issuer}/.well-known/openid-configuration")["jwks_uri"])
    )
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(token, key, ["RS256"], audience=entra.audience, issuer=entra.issuer)
    return claims


@pytest.mark.parametrize(("version", "client_claim"), [(1, "appid"), (2, "azp")])
def test_secret(entra: Entra, app: Application, version: int, client_claim: str) -> None:
    """A client secret gives a token with valid signature, issuer, audience and ids, in both versions."""
    with entra.changed_tokens(version=version):
        token = by_secret(entra, app).get_token(entra.default_scope)
        claims = verify_with_published_keys(entra, token.token)
        discovered = fetch_json(entra, f"{entra.issuer.rstrip('/')}/.well-known/openid-configuration")
    assert discovered["issuer"] == claims["iss"]
    assert claims["sub"] == claims["oid"] == app.principal.object_id
    assert (claims[client_claim], claims["tid"]) == (app.principal.client_id, entra.tenant)
    assert claims["ver"] == f"{version}.0"
    assert abs(token.expires_on - claims["exp"]) <= 1


@pytest.mark.parametrize("chain", [False, True])
def test_certificate(entra: Entra, pki: Pki, chain: bool) -> None:
    """The registered certificate signs in, with and without its chain; another certificate does not."""
    mine, other = pki.client_certificate("mine"), pki.client_certificate("other")
    app = entra.register(certificate=mine.certificate)
    by_certificate(entra, app, mine.path, send_certificate_chain=chain).get_token(entra.default_scope)
    with pytest.raises(ClientAuthenticationError, match=r"AADSTS700027.*key was not found"):
        by_certificate(entra, app, other.path, send_certificate_chain=chain).get_token(entra.default_scope)
    assert [dict(call.log_fields).get("client_auth") for call in entra.calls.all("token")] == [
        "certificate",
        None,
    ]


def test_certificate_with_sha256_thumbprint(entra: Entra, pki: Pki) -> None:
    """The tenant accepts PS256 and a SHA-256 thumbprint. It is MSAL's default, not yet azure-identity's."""
    mine = pki.client_certificate("newer")
    app = entra.register(certificate=mine.certificate)
    credential = by_certificate(entra, app, mine.path, send_certificate_chain=True)
    assert isinstance(credential._client_credential, dict)
    del credential._client_credential["thumbprint"]
    verify_with_published_keys(entra, credential.get_token(entra.default_scope).token)


def test_certificate_thumbprint_with_another_key(entra: Entra, pki: Pki) -> None:
    """An assertion that names the registered certificate but is signed with another key is rejected."""
    mine, other = pki.client_certificate("owner"), pki.client_certificate("thief")
    app = entra.register(certificate=mine.certificate)
    credential = by_certificate(entra, app, mine.path)
    assert isinstance(credential._client_credential, dict)
    credential._client_credential["private_key"] = other.path.read_text()
    with pytest.raises(ClientAuthenticationError, match=r"AADSTS700027.*signature is invalid"):
        credential.get_token(entra.default_scope)


def test_workload_identity(
    entra: Entra, cluster: Cluster, workload: WorkloadIdentityCredential, token_file: Path
) -> None:
    """The tenant exchanges the token that the cluster projected, without discovery requests."""
    cluster.project(token_file, cluster.token(SUBJECT))
    token = workload.get_token(entra.default_scope).token
    assert [(call.route, call.log_fields["client_auth"]) for call in entra.calls.all()] == [
        ("token", "federated")
    ]
    verify_with_published_keys(entra, token)


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("AADSTS700213", {"subject": "system:serviceaccount:other:worker"}),
        ("AADSTS700211", {"issuer": "https://127.0.0.1:1"}),
        ("AADSTS700212", {"audience": "sts.amazonaws.com"}),
        ("AADSTS700024", {"lifetime": -900}),
        ("AADSTS50013", {"forged": True}),
    ],
)
def test_rejected_assertion(
    entra: Entra,
    cluster: Cluster,
    workload: WorkloadIdentityCredential,
    token_file: Path,
    code: str,
    changes: dict[str, Any],
) -> None:
    """An assertion with a wrong subject, issuer, audience, lifetime or key is rejected with its own code."""
    cluster.project(token_file, cluster.token(**{"subject": SUBJECT, **changes}))
    with pytest.raises(ClientAuthenticationError, match=code):
        workload.get_token(entra.default_scope)


def test_malformed_and_missing_token_file(
    entra: Entra, cluster: Cluster, workload: WorkloadIdentityCredential, token_file: Path
) -> None:
    """A file without a JWT is rejected as malformed; for a missing file, no request is sent."""
    with pytest.raises(FileNotFoundError):
        workload.get_token(entra.default_scope)
    cluster.project(token_file, "not a token")
    with pytest.raises(ClientAuthenticationError, match="AADSTS50027"):
        workload.get_token(entra.default_scope)
    assert entra.calls.count() == 1


@pytest.mark.parametrize(("secret", "code"), [("wrong", "AADSTS7000215"), ("expired", "AADSTS7000222")])
def test_rejected_secret(entra: Entra, app: Application, secret: str, code: str) -> None:
    """A wrong and an expired secret have different codes, both with HTTP status 401."""
    with pytest.raises(ClientAuthenticationError, match=f"^Authentication failed: {code}"):
        by_secret(entra, app, secret).get_token(entra.default_scope)
    assert entra.calls.count("token", status=401) == 1


def test_unknown_application_tenant_and_resource(entra: Entra, app: Application) -> None:
    """An unknown application, tenant or resource, and a scope without suffix, have specific errors."""

    def error_message(tenant: str, client: str, scope: str) -> str:
        with pytest.raises(ClientAuthenticationError) as caught:
            ClientSecretCredential(tenant, client, SECRET, **options(entra)).get_token(scope)
        return caught.value.message

    unknown, known = "00000000-0000-0000-0000-00000000dead", app.principal.client_id
    assert "AADSTS700016" in error_message(entra.tenant, unknown, entra.default_scope)
    assert "AADSTS500011" in error_message(entra.tenant, known, "api://nowhere/.default")
    assert "AADSTS1002012" in error_message(entra.tenant, known, "sts.amazonaws.com")
    # MSAL drops the text of the error response to the discovery request.
    assert "double check your tenant name" in error_message(unknown, known, entra.default_scope)


def test_unknown_tenant_of_workload_identity(entra: Entra, cluster: Cluster, token_file: Path) -> None:
    """Workload identity uses no discovery, so its error contains the code of an unknown tenant."""
    cluster.project(token_file, cluster.token(SUBJECT))
    credential = WorkloadIdentityCredential(
        tenant_id="nowhere", client_id="any", token_file_path=str(token_file), **options(entra)
    )
    with pytest.raises(ClientAuthenticationError, match="AADSTS90002"):
        credential.get_token(entra.default_scope)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (entra_error_fault(90055), "AADSTS90055"),
        (entra_error_fault(50000), "HTTP Error: 500"),
        (entra_error_fault(90033), "HTTP Error: 503"),
        (Fault(502, "<html>Bad gateway</html>"), "HTTP Error: 502"),
        (Fault(drop=True), "Connection aborted"),
        (Fault(delay=30), "Read timed out"),
    ],
)
def test_client_secret_error_class(entra: Entra, app: Application, fault: Fault, message: str) -> None:
    """A client secret credential (MSAL) raises the same class for all errors of the token endpoint."""
    with entra.faults.during(fault, on="token"), pytest.raises(ClientAuthenticationError, match=message):
        by_secret(entra, app, read_timeout=0.2).get_token(entra.default_scope)


@pytest.mark.parametrize(
    ("fault", "raised", "message"),
    [
        (entra_error_fault(90055), ClientAuthenticationError, "AADSTS90055"),
        (entra_error_fault(90033), ClientAuthenticationError, "AADSTS90033"),
        (Fault(drop=True), ServiceResponseError, "Connection aborted"),
    ],
)
def test_workload_identity_error_classes(
    entra: Entra,
    cluster: Cluster,
    workload: WorkloadIdentityCredential,
    token_file: Path,
    fault: Fault,
    raised: type[Exception],
    message: str,
) -> None:
    """A workload identity credential, which does not use MSAL, raises other classes for network errors."""
    cluster.project(token_file, cluster.token(SUBJECT))
    with entra.faults.during(fault, on="token"), pytest.raises(raised, match=message):
        workload.get_token(entra.default_scope)


def test_unreachable(
    entra: Entra,
    cluster: Cluster,
    app: Application,
    workload: WorkloadIdentityCredential,
    token_file: Path,
) -> None:
    """A refused connection is an error, and the credentials work again when the tenant is reachable."""
    cluster.project(token_file, cluster.token(SUBJECT))
    with entra.unreachable():
        with pytest.raises(ClientAuthenticationError, match="Connection refused") as caught:
            by_secret(entra, app).get_token(entra.default_scope)
        with pytest.raises(ServiceRequestError, match="Connection refused"):
            workload.get_token(entra.default_scope)
    assert isinstance(caught.value.__cause__, ServiceRequestError)
    assert workload.get_token(entra.default_scope).token
    assert by_secret(entra, app).get_token(entra.default_scope).token


def test_retries(entra: Entra, app: Application) -> None:
    """azure-identity retries transient errors, also of POST requests."""
    entra.faults.add(entra_error_fault(90033), on="token", times=2)
    credential = by_secret(entra, app, retry_total=3, retry_backoff_factor=0)
    assert credential.get_token(entra.default_scope).token
    assert [call.status for call in entra.calls.all("token")] == [503, 503, 200]


def test_msal_caches_failures(entra: Entra, app: Application) -> None:
    """After a 503, a credential object fails for one minute without a request; a new object works at once."""
    credential = by_secret(entra, app)
    with entra.faults.during(entra_error_fault(90033), on="token"), pytest.raises(ClientAuthenticationError):
        credential.get_token(entra.default_scope)
    with pytest.raises(ClientAuthenticationError, match="HTTP Error: 503"):
        credential.get_token(entra.default_scope)
    assert entra.calls.count("token") == 1
    assert by_secret(entra, app).get_token(entra.default_scope).token


def test_environment_variables(entra: Entra, app: Application, environ: Environ) -> None:
    """Two environment variables have the same effect as the parameters for authority and CA."""
    environ(entra.environment)
    credential = ClientSecretCredential(
        entra.tenant, app.principal.client_id, SECRET, disable_instance_discovery=True
    )
    assert credential.get_token(entra.default_scope).token


def test_untrusted_certificate(entra: Entra, app: Application, environ: Environ) -> None:
    """A client without the CA certificate does not connect, even if SSL_CERT_FILE is set."""
    environ({"SSL_CERT_FILE": str(entra.ca_file)})
    with pytest.raises(ClientAuthenticationError, match="CERTIFICATE_VERIFY_FAILED"):
        by_secret(entra, app, connection_verify=True).get_token(entra.default_scope)
    assert entra.calls.count() == 0


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"audience": "api://other"}, jwt.InvalidAudienceError),
        ({"issuer": "https://127.0.0.1:1/other/"}, jwt.InvalidIssuerError),
        ({"skew": -7200}, jwt.ExpiredSignatureError),
        ({"skew": 3600}, jwt.ImmatureSignatureError),
        ({"forged": True}, jwt.InvalidSignatureError),
    ],
)
def test_invalid_tokens(
    entra: Entra, app: Application, settings: dict[str, Any], error: type[Exception]
) -> None:
    """azure-identity returns tokens that a verifier rejects, because it does not verify them."""
    with entra.changed_tokens(**settings):
        token = by_secret(entra, app).get_token(entra.default_scope).token
    with pytest.raises(error):
        verify_with_tenant_keys(entra, token)


def verify_with_tenant_keys(entra: Entra, token: str) -> None:
    """Verify a token with the tenant's keys, issuer and audience, independent of its ``iss``."""
    keys = jwt.PyJWKSet.from_dict(fetch_json(entra, f"{entra.url}/{entra.tenant}/discovery/keys"))
    key = keys[jwt.get_unverified_header(token)["kid"]]
    jwt.decode(token, key, ["RS256"], audience=entra.audience, issuer=entra.issuer)


def test_key_rotation(entra: Entra, app: Application) -> None:
    """Tokens signed before and after a key rotation are valid until the older key is retired."""
    before = by_secret(entra, app).get_token(entra.default_scope).token
    entra.keyring.rotate()
    after = by_secret(entra, app).get_token(entra.default_scope).token
    assert verify_with_published_keys(entra, before)["oid"] == verify_with_published_keys(entra, after)["oid"]
    entra.keyring.rotate(retire=True)
    with pytest.raises(KeyError):
        verify_with_published_keys(entra, after)


@pytest.mark.parametrize("make", ["secret", "workload"])
def test_short_lived_token(
    entra: Entra,
    cluster: Cluster,
    app: Application,
    workload: WorkloadIdentityCredential,
    token_file: Path,
    make: str,
) -> None:
    """A token with a lifetime of one second expires, and the credential then fetches a new one."""
    cluster.project(token_file, cluster.token(SUBJECT))
    credential: Any = workload if make == "workload" else by_secret(entra, app)
    with entra.changed_tokens(lifetime=1):
        first = credential.get_token(entra.default_scope).token
        time.sleep(1.1)
        with pytest.raises(jwt.ExpiredSignatureError):
            verify_with_tenant_keys(entra, first)
        second = credential.get_token(entra.default_scope).token
    assert first != second


def test_call_log_and_repr_have_no_secrets(
    entra: Entra, cluster: Cluster, app: Application, workload: WorkloadIdentityCredential, token_file: Path
) -> None:
    """Neither the call log nor any repr contains a secret, an assertion or a token."""
    assertion = cluster.token(SUBJECT)
    cluster.project(token_file, assertion)
    credentials: list[Callable[[str], Any]] = [by_secret(entra, app).get_token, workload.get_token]
    tokens = [get(entra.default_scope).token for get in credentials]
    text = repr((entra.calls.all(), entra.applications, vars(entra)))
    assert not [secret for secret in (SECRET, assertion, *tokens) if secret in text]
    assert entra.calls.count("token", status=200) == 2
