"""Owns the proof that azure-identity, unmodified, takes the loopback tenant for Entra, in luck and in trouble."""

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
from tests.auth.endpoints.aadsts import refusing
from tests.auth.endpoints.certificates import Pki
from tests.auth.endpoints.cluster import Cluster
from tests.auth.endpoints.entra import Entra
from tests.auth.endpoints.loopback import Fault
from tests.auth.endpoints.proofs import Application, Federation

SECRET = "correct-horse-battery-staple"  # not a credential of anything but the stand-in
SUBJECT = "system:serviceaccount:airflow:worker"
#: A fault answered once is a fault seen once.
AT_ONCE: dict[str, Any] = {"retry_total": 0}


@pytest.fixture
def app(entra: Entra) -> Application:
    """An application with a client secret."""
    return entra.register(secret=SECRET, expired_secret="expired")


def options(entra: Entra, **more: Any) -> dict[str, Any]:
    """Return what sends azure-identity to the tenant."""
    ours = {
        "authority": entra.url,
        "connection_verify": str(entra.ca_file),
        "disable_instance_discovery": True,
    }
    return {**ours, **AT_ONCE, **more}


def by_secret(entra: Entra, app: Application, secret: str = SECRET, **more: Any) -> ClientSecretCredential:
    """Return a credential of azure-identity with a client secret."""
    return ClientSecretCredential(entra.tenant, app.principal.client_id, secret, **options(entra, **more))


def by_certificate(entra: Entra, app: Application, path: Path, **more: Any) -> CertificateCredential:
    """Return a credential of azure-identity with a client certificate."""
    return CertificateCredential(entra.tenant, app.principal.client_id, str(path), **options(entra, **more))


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """Where the cluster projects its token."""
    return tmp_path / "azure-identity-token"


@pytest.fixture
def workload(entra: Entra, cluster: Cluster, token_file: Path) -> WorkloadIdentityCredential:
    """A credential of azure-identity for a federated application, its token file still missing."""
    app = entra.register(federation=Federation(cluster.url, SUBJECT, cluster.keyring))
    return WorkloadIdentityCredential(
        tenant_id=entra.tenant,
        client_id=app.principal.client_id,
        token_file_path=str(token_file),
        **options(entra),
    )


def fetched(entra: Entra, url: str) -> Any:
    """Return a published document, as an STS emulator would fetch it."""
    context = ssl.create_default_context(cafile=str(entra.ca_file))
    with urllib.request.urlopen(url, context=context, timeout=5) as answer:
        return json.load(answer)


def verified(entra: Entra, token: str) -> dict[str, Any]:
    """Return the claims of a token after the checks that STS makes, keys fetched by its issuer's name."""
    issuer = jwt.decode(token, options={"verify_signature": False})["iss"].rstrip("/")
    keys = jwt.PyJWKSet.from_dict(
        fetched(entra, fetched(entra, f"{issuer}/.well-known/openid-configuration")["jwks_uri"])
    )
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(token, key, ["RS256"], audience=entra.audience, issuer=entra.issuer)
    return claims


@pytest.mark.parametrize(("version", "client_claim"), [(1, "appid"), (2, "azp")])
def test_secret(entra: Entra, app: Application, version: int, client_claim: str) -> None:
    """A client secret yields a token whose signature, issuer, audience and ids hold, in both versions."""
    with entra.shaped(version=version):
        token = by_secret(entra, app).get_token(entra.default_scope)
        claims = verified(entra, token.token)
        discovered = fetched(entra, f"{entra.issuer.rstrip('/')}/.well-known/openid-configuration")
    assert discovered["issuer"] == claims["iss"]
    assert claims["sub"] == claims["oid"] == app.principal.object_id
    assert (claims[client_claim], claims["tid"]) == (app.principal.client_id, entra.tenant)
    assert claims["ver"] == f"{version}.0"
    assert abs(token.expires_on - claims["exp"]) <= 1


@pytest.mark.parametrize("chain", [False, True])
def test_certificate(entra: Entra, pki: Pki, chain: bool) -> None:
    """A client certificate signs in, its chain sent or not, and any other certificate does not."""
    mine, other = pki.client_certificate("mine"), pki.client_certificate("other")
    app = entra.register(certificate=mine.certificate)
    by_certificate(entra, app, mine.path, send_certificate_chain=chain).get_token(entra.default_scope)
    with pytest.raises(ClientAuthenticationError, match=r"AADSTS700027.*key was not found"):
        by_certificate(entra, app, other.path, send_certificate_chain=chain).get_token(entra.default_scope)
    assert [dict(call.note).get("proof") for call in entra.calls.all("token")] == ["certificate", None]


def test_certificate_by_its_newer_thumbprint(entra: Entra, pki: Pki) -> None:
    """MSAL signs PS256 and names SHA-256 if left to itself, which azure-identity does not yet do."""
    mine = pki.client_certificate("newer")
    app = entra.register(certificate=mine.certificate)
    credential = by_certificate(entra, app, mine.path, send_certificate_chain=True)
    assert isinstance(credential._client_credential, dict)
    del credential._client_credential["thumbprint"]
    verified(entra, credential.get_token(entra.default_scope).token)


def test_certificate_that_only_claims_its_thumbprint(entra: Entra, pki: Pki) -> None:
    """The thumbprint of the right certificate does not help without its key."""
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
    """The token that the cluster projected is exchanged, without any discovery."""
    cluster.project(token_file, cluster.token(SUBJECT))
    token = workload.get_token(entra.default_scope).token
    assert [(call.route, call.note["proof"]) for call in entra.calls.all()] == [("token", "federated")]
    verified(entra, token)


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
def test_foreign_assertion(
    entra: Entra,
    cluster: Cluster,
    workload: WorkloadIdentityCredential,
    token_file: Path,
    code: str,
    changes: dict[str, Any],
) -> None:
    """An assertion that is not the one expected is refused, each with its own code."""
    cluster.project(token_file, cluster.token(**{"subject": SUBJECT, **changes}))
    with pytest.raises(ClientAuthenticationError, match=code):
        workload.get_token(entra.default_scope)


def test_assertion_that_is_no_token(
    entra: Entra, cluster: Cluster, workload: WorkloadIdentityCredential, token_file: Path
) -> None:
    """A file that holds something else is refused as malformed, and a missing one never reaches the tenant."""
    with pytest.raises(FileNotFoundError):
        workload.get_token(entra.default_scope)
    cluster.project(token_file, "no token")
    with pytest.raises(ClientAuthenticationError, match="AADSTS50027"):
        workload.get_token(entra.default_scope)
    assert entra.calls.count() == 1


@pytest.mark.parametrize(("secret", "code"), [("wrong", "AADSTS7000215"), ("expired", "AADSTS7000222")])
def test_secret_refused(entra: Entra, app: Application, secret: str, code: str) -> None:
    """A wrong secret and an expired one are told apart, and answered 401."""
    with pytest.raises(ClientAuthenticationError, match=f"^Authentication failed: {code}"):
        by_secret(entra, app, secret).get_token(entra.default_scope)
    assert entra.calls.count("token", status=401) == 1


def test_unknown_names(entra: Entra, app: Application) -> None:
    """An unknown application, tenant or resource, and a bare scope, are refused each in its own way."""

    def refused(tenant: str, client: str, scope: str) -> str:
        with pytest.raises(ClientAuthenticationError) as caught:
            ClientSecretCredential(tenant, client, SECRET, **options(entra)).get_token(scope)
        return caught.value.message

    nobody, known = "00000000-0000-0000-0000-00000000dead", app.principal.client_id
    assert "AADSTS700016" in refused(entra.tenant, nobody, entra.default_scope)
    assert "AADSTS500011" in refused(entra.tenant, known, "api://nowhere/.default")
    assert "AADSTS1002012" in refused(entra.tenant, known, "sts.amazonaws.com")
    # MSAL drops what the discovery document's refusal says.
    assert "double check your tenant name" in refused(nobody, known, entra.default_scope)


def test_unknown_tenant_of_a_workload(entra: Entra, cluster: Cluster, token_file: Path) -> None:
    """Without discovery, the refusal of an unknown tenant is told."""
    cluster.project(token_file, cluster.token(SUBJECT))
    credential = WorkloadIdentityCredential(
        tenant_id="nowhere", client_id="any", token_file_path=str(token_file), **options(entra)
    )
    with pytest.raises(ClientAuthenticationError, match="AADSTS90002"):
        credential.get_token(entra.default_scope)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (refusing(90055), "AADSTS90055"),
        (refusing(50000), "HTTP Error: 500"),
        (refusing(90033), "HTTP Error: 503"),
        (Fault(502, "<html>Bad gateway</html>"), "HTTP Error: 502"),
        (Fault(drop=True), "Connection aborted"),
        (Fault(delay=30), "Read timed out"),
    ],
)
def test_trouble_with_a_secret(entra: Entra, app: Application, fault: Fault, said: str) -> None:
    """Whatever befalls the token endpoint, MSAL's credentials raise one and the same class."""
    with entra.faults.during(fault, on="token"), pytest.raises(ClientAuthenticationError, match=said):
        by_secret(entra, app, read_timeout=0.2).get_token(entra.default_scope)


@pytest.mark.parametrize(
    ("fault", "raised", "said"),
    [
        (refusing(90055), ClientAuthenticationError, "AADSTS90055"),
        (refusing(90033), ClientAuthenticationError, "AADSTS90033"),
        (Fault(drop=True), ServiceResponseError, "Connection aborted"),
    ],
)
def test_trouble_with_a_workload(
    entra: Entra,
    cluster: Cluster,
    workload: WorkloadIdentityCredential,
    token_file: Path,
    fault: Fault,
    raised: type[Exception],
    said: str,
) -> None:
    """The workload's credential, which does without MSAL, lets network errors through as they are."""
    cluster.project(token_file, cluster.token(SUBJECT))
    with entra.faults.during(fault, on="token"), pytest.raises(raised, match=said):
        workload.get_token(entra.default_scope)


def test_absent(
    entra: Entra,
    cluster: Cluster,
    app: Application,
    workload: WorkloadIdentityCredential,
    token_file: Path,
) -> None:
    """A refused connection is an error, and the tenant is back at the same address afterwards."""
    cluster.project(token_file, cluster.token(SUBJECT))
    with entra.absent():
        with pytest.raises(ClientAuthenticationError, match="Connection refused") as caught:
            by_secret(entra, app).get_token(entra.default_scope)
        with pytest.raises(ServiceRequestError, match="Connection refused"):
            workload.get_token(entra.default_scope)
    assert isinstance(caught.value.__cause__, ServiceRequestError)
    assert workload.get_token(entra.default_scope).token
    assert by_secret(entra, app).get_token(entra.default_scope).token


def test_retries(entra: Entra, app: Application) -> None:
    """azure-identity repeats what failed for a moment, POST included."""
    entra.faults.add(refusing(90033), on="token", times=2)
    credential = by_secret(entra, app, retry_total=3, retry_backoff_factor=0)
    assert credential.get_token(entra.default_scope).token
    assert [call.status for call in entra.calls.all("token")] == [503, 503, 200]


def test_msal_remembers_failures(entra: Entra, app: Application) -> None:
    """After a 503 a credential fails for a minute without asking again, whereas a new one recovers at once."""
    credential = by_secret(entra, app)
    with entra.faults.during(refusing(90033), on="token"), pytest.raises(ClientAuthenticationError):
        credential.get_token(entra.default_scope)
    with pytest.raises(ClientAuthenticationError, match="HTTP Error: 503"):
        credential.get_token(entra.default_scope)
    assert entra.calls.count("token") == 1
    assert by_secret(entra, app).get_token(entra.default_scope).token


def test_environment(entra: Entra, app: Application, environ: Environ) -> None:
    """Two environment variables do what the two parameters do."""
    environ(entra.environment)
    credential = ClientSecretCredential(
        entra.tenant, app.principal.client_id, SECRET, disable_instance_discovery=True
    )
    assert credential.get_token(entra.default_scope).token


def test_distrust(entra: Entra, app: Application, environ: Environ) -> None:
    """Who is not given the authority's certificate does not talk to the tenant, SSL_CERT_FILE or not."""
    environ({"SSL_CERT_FILE": str(entra.ca_file)})
    with pytest.raises(ClientAuthenticationError, match="CERTIFICATE_VERIFY_FAILED"):
        by_secret(entra, app, connection_verify=True).get_token(entra.default_scope)
    assert entra.calls.count() == 0


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        ({"audience": "api://other"}, jwt.InvalidAudienceError),
        ({"issuer": "https://127.0.0.1:1/other/"}, jwt.InvalidIssuerError),
        ({"skew": -7200}, jwt.ExpiredSignatureError),
        ({"skew": 3600}, jwt.ImmatureSignatureError),
        ({"forged": True}, jwt.InvalidSignatureError),
    ],
)
def test_wrong_tokens(entra: Entra, app: Application, shape: dict[str, Any], error: type[Exception]) -> None:
    """Tokens that STS must refuse reach the client, which does not look into them."""
    with entra.shaped(**shape):
        token = by_secret(entra, app).get_token(entra.default_scope).token
    with pytest.raises(error):
        entra_checks(entra, token)


def entra_checks(entra: Entra, token: str) -> None:
    """Check a token against the tenant's own keys and names, whatever issuer it claims."""
    keys = jwt.PyJWKSet.from_dict(fetched(entra, f"{entra.url}/{entra.tenant}/discovery/keys"))
    key = keys[jwt.get_unverified_header(token)["kid"]]
    jwt.decode(token, key, ["RS256"], audience=entra.audience, issuer=entra.issuer)


def test_new_keys(entra: Entra, app: Application) -> None:
    """Tokens signed before and after a change of keys both verify, until the older key is retired."""
    before = by_secret(entra, app).get_token(entra.default_scope).token
    entra.keyring.rotate()
    after = by_secret(entra, app).get_token(entra.default_scope).token
    assert verified(entra, before)["oid"] == verified(entra, after)["oid"]
    entra.keyring.rotate(retire=True)
    with pytest.raises(KeyError):
        verified(entra, after)


@pytest.mark.parametrize("make", ["secret", "workload"])
def test_short_lives(
    entra: Entra,
    cluster: Cluster,
    app: Application,
    workload: WorkloadIdentityCredential,
    token_file: Path,
    make: str,
) -> None:
    """A token of one second is really over after it, and a credential then fetches another."""
    cluster.project(token_file, cluster.token(SUBJECT))
    credential: Any = workload if make == "workload" else by_secret(entra, app)
    with entra.shaped(lifetime=1):
        first = credential.get_token(entra.default_scope).token
        time.sleep(1.1)
        with pytest.raises(jwt.ExpiredSignatureError):
            entra_checks(entra, first)
        second = credential.get_token(entra.default_scope).token
    assert first != second


def test_nothing_secret_is_kept(
    entra: Entra, cluster: Cluster, app: Application, workload: WorkloadIdentityCredential, token_file: Path
) -> None:
    """Neither the call log nor any repr holds a secret, an assertion or a token."""
    assertion = cluster.token(SUBJECT)
    cluster.project(token_file, assertion)
    credentials: list[Callable[[str], Any]] = [by_secret(entra, app).get_token, workload.get_token]
    tokens = [get(entra.default_scope).token for get in credentials]
    kept = repr((entra.calls.all(), entra.applications, vars(entra)))
    assert not [word for word in (SECRET, assertion, *tokens) if word in kept]
    assert entra.calls.count("token", status=200) == 2
