"""
The errors of failed sign-ins: who returned the error, the claims of the token, and the
cure.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polysync_airflow.exceptions import CredentialsError
from polysync_airflow.hooks import PolysyncSageMakerHook
from sagemaker_emulator import EmulatorServer
from tests.fakes.endpoints.client_authentication import Application
from tests.fakes.endpoints.entra_errors import entra_error_fault
from tests.fakes.endpoints.fake_server import Fault
from tests.fakes.endpoints.metadata.imds import InstanceMetadata
from tests.fakes.endpoints.metadata.managed_identity import (
    IDENTITY_NOT_FOUND,
    ManagedIdentity,
)
from tests.unit.auth.sign_in import auth_methods
from tests.unit.auth.sign_in.auth_methods import SECRET, SUBJECT
from tests.unit.auth.sign_in.conftest import JWT, ROLE, SignInContext


def sign_in_error() -> CredentialsError:
    """Sign in, and return the error."""
    with pytest.raises(CredentialsError) as caught:
        PolysyncSageMakerHook().describe_pipeline("fanout")
    assert not JWT.search(str(caught.value))
    assert SECRET not in str(caught.value)
    return caught.value


def project_token(context: SignInContext, **claims: Any) -> None:
    """Set up a projected token with other claims than the account expects."""
    auth_methods.identity_file(context)
    claims = {"subject": SUBJECT, "audience": "sts.amazonaws.com", **claims}
    context.cluster.project(context.folder / "token", context.cluster.token(**claims))


def wrong_subject(context: SignInContext) -> None:
    """The trust policy names another subject."""
    project_token(context, subject="system:serviceaccount:other:pod")


def wrong_audience(context: SignInContext) -> None:
    """The token is for another audience."""
    project_token(context, audience="api://other")


def unknown_issuer(context: SignInContext) -> None:
    """The account has no OIDC provider for the issuer."""
    project_token(context, issuer="https://login.example/unknown")


def forged(context: SignInContext) -> None:
    """The token is signed with another key than those of the issuer."""
    project_token(context, forged=True)


def expired(context: SignInContext) -> None:
    """The token has expired."""
    project_token(context, lifetime=-60)


def clock_skew(context: SignInContext) -> None:
    """The issuer's clock is two hours ahead."""
    auth_methods.client_secret(context)
    context.stack.enter_context(context.entra.changed_tokens(skew=7200))


def no_token_yet(context: SignInContext) -> None:
    """The platform has not projected the token yet."""
    auth_methods.identity_file(context)
    (context.folder / "token").unlink()


def malformed_token(context: SignInContext) -> None:
    """The file does not contain a JWT."""
    auth_methods.identity_file(context)
    (context.folder / "token").write_text("password=hunter2")


def wrong_external_id(context: SignInContext) -> None:
    """The connection has another external id than the trust policy requires."""
    login, password = context.account.user()
    context.account.role_for_caller("another")
    context.connect(
        auth_method="assume_role",
        login=login,
        password=password,
        role_arn=ROLE,
        external_id="id-of-this-connection",
    )


def missing_role(context: SignInContext) -> None:
    """The role does not exist."""
    login, password = context.account.user()
    context.connect(
        auth_method="assume_role", login=login, password=password, role_arn=ROLE
    )


def entra_secret(
    secret: str = SECRET, **changes: Any
) -> Callable[[SignInContext], None]:
    """
    Return a setup function for an Entra application with a wrong field in the
    connection.
    """

    def setup(context: SignInContext) -> None:
        application = context.entra.register(secret=SECRET)
        fields = {
            "tenant_id": context.entra.tenant,
            "client_id": application.principal.client_id,
            "client_secret": secret,
            **changes,
        }
        context.connect_entra(application, "client_secret", **fields)

    return setup


def unknown_application_uri(context: SignInContext) -> None:
    """The tenant has no application with this URI."""
    auth_methods.client_secret(context)
    connection = json.loads(os.environ["AIRFLOW_CONN_POLYSYNC_DEFAULT"])
    connection["extra"]["application_id_uri"] = "api://unknown"
    context.monkeypatch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", json.dumps(connection))


def missing_certificate(context: SignInContext) -> None:
    """The certificate file does not exist."""
    auth_methods.client_certificate(context)
    (context.folder / "certificate.pem").unlink()


def malformed_certificate(context: SignInContext) -> None:
    """The certificate file does not contain a certificate."""
    auth_methods.client_certificate(context)
    (context.folder / "certificate.pem").write_text("password=hunter2")


def no_managed_identity(context: SignInContext) -> None:
    """The host has no managed identity."""
    host = context.stack.enter_context(ManagedIdentity(context.entra))
    host.faults.add(IDENTITY_NOT_FOUND)
    context.environ(host.imds_environment)
    assert host.system
    context.connect_entra(Application(host.system), "managed_identity")


def entra_down(context: SignInContext) -> None:
    """Entra ID returns HTTP 503."""
    auth_methods.client_secret(context)
    context.entra.faults.add(Fault(status=503), on="token")


def entra_transient_error(context: SignInContext) -> None:
    """Entra ID returns a transient error with an AADSTS code."""
    auth_methods.client_secret(context)
    context.entra.faults.add(entra_error_fault(90033), on="token")


def no_instance_profile(context: SignInContext) -> None:
    """The instance has no instance profile."""
    imds = context.stack.enter_context(InstanceMetadata(role=None))
    context.environ(imds.environment)
    context.connect(auth_method="instance_profile")


def no_metadata_service(context: SignInContext) -> None:
    """The metadata service is not reachable."""
    context.environ({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9"})
    context.connect(auth_method="instance_profile")


wrong_client_secret = entra_secret("a-wrong-client-secret")
unknown_tenant = entra_secret(tenant_id="1" * 36)
malformed_tenant = entra_secret(tenant_id="a b")

ACCESS_DENIED = "AccessDenied"
INVALID_TOKEN = "InvalidIdentityToken"
ENTRA = "Microsoft Entra ID issued no token"
# What is wrong, whether the error is permanent, texts in the message.
ERRORS: list[tuple[Callable[[SignInContext], None], bool, list[str]]] = [
    (wrong_subject, True, ["AWS STS: AssumeRoleWithWebIdentity", ACCESS_DENIED]),
    (wrong_subject, True, ["subject system:serviceaccount:other:pod", ":sub"]),
    (wrong_subject, True, ['"Federated"']),
    (wrong_audience, True, [INVALID_TOKEN, "audience api://other", ":aud"]),
    (unknown_issuer, True, [INVALID_TOKEN, "login.example/unknown", "OIDC provider"]),
    (unknown_issuer, True, ["update the thumbprint"]),
    (forged, True, [INVALID_TOKEN, "issuer https://127.0.0.1"]),
    (expired, False, ["ExpiredTokenException", "expires 20", "clock"]),
    (clock_skew, True, [INVALID_TOKEN, "a clock is wrong", "expires 20"]),
    (no_token_yet, False, ["identity_file", "FileNotFoundError", "projected"]),
    (malformed_token, False, ["identity_file", "not contain a JSON Web Token"]),
    (wrong_external_id, True, ["AssumeRole", ACCESS_DENIED, "external id", '"AWS"']),
    (wrong_external_id, True, ['"sts:ExternalId": "<external_id of the connection>"']),
    (missing_role, True, ["AssumeRole", ROLE, "does not exist"]),
    (wrong_client_secret, True, [ENTRA, "AADSTS7000215", "not its id"]),
    (unknown_tenant, True, ["AADSTS90002", "check tenant_id"]),
    (unknown_application_uri, True, ["AADSTS500011", "application_id_uri"]),
    (malformed_tenant, True, ["client_secret", "Invalid tenant"]),
    (missing_certificate, False, ["client_certificate", "No such file"]),
    (malformed_certificate, True, ["client_certificate", "certificate"]),
    (no_managed_identity, False, ["managed_identity", "assign the managed identity"]),
    (entra_down, False, [ENTRA]),
    (entra_transient_error, False, [ENTRA, "503"]),
    (no_instance_profile, False, ["instance_profile", "attach an instance profile"]),
    (no_metadata_service, False, ["instance_profile", "metadata service"]),
]


@pytest.mark.parametrize(("setup", "permanent", "expected"), ERRORS)
def test_error_names_the_reason_and_the_cure(
    setup: Callable[[SignInContext], None],
    permanent: bool,
    expected: list[str],
    context: SignInContext,
    emulator: EmulatorServer,
) -> None:
    """
    The error has the service, the reason, the cure and ``permanent``, but no token and
    no secret.
    """
    setup(context)

    error = sign_in_error()

    print(error)
    for text in expected:
        assert text in str(error)
    assert error.permanent is permanent
    for secret in ("a-wrong-client-secret", "id-of-this-connection"):
        assert secret not in str(error)
    # A log shows the text of a cause as it is, so only a debugger finds the cause.
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


def test_trust_policy_in_the_message_allows_the_sign_in(
    context: SignInContext, emulator: EmulatorServer
) -> None:
    """
    With the trust policy from the error message, the same token can assume the role.
    """
    wrong_subject(context)
    message = str(sign_in_error())
    policy = message[message.index("{\n") :]

    context.account.iam.update_assume_role_policy(
        RoleName="polysync", PolicyDocument=policy
    )
    # The error is repeated during the backoff of one second. With another session name,
    # the connection gets other credentials at once.
    context.connect_file(context.folder / "token", session_name="again")

    assert PolysyncSageMakerHook().describe_pipeline("fanout").name == "fanout"


@pytest.mark.parametrize("path_form", ["direct", "dots", "link"])
def test_files_outside_the_allowed_folders_are_not_read(
    path_form: str,
    context: SignInContext,
    emulator: EmulatorServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """
    A path outside the allowed folders is an error, directly, with ``..`` and through a
    symbolic link.
    """
    outside = tmp_path_factory.mktemp("outside") / "token"
    context.cluster.project(
        outside, context.cluster.token(SUBJECT, audience="sts.amazonaws.com")
    )
    context.account.role_for_token(context.cluster.url, "sts.amazonaws.com", SUBJECT)
    link = context.folder / "link"
    link.symlink_to(outside)
    paths: dict[str, Path | str] = {
        "direct": outside,
        "dots": f"{context.folder}/../{outside.parent.name}/token",
        "link": link,
    }
    context.connect_file(paths[path_form])
    emulator.control.clear_calls()

    error = sign_in_error()

    assert "outside the folders that this deployment allows" in str(error)
    assert "allowed_identity_folders" in str(error)
    assert emulator.control.calls() == []


def test_host_sign_in_ignores_variables_and_files(
    context: SignInContext, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The method ``instance_profile`` does not use keys in environment variables or in
    ~/.aws files.
    """
    no_metadata_service(context)
    (context.folder / "credentials").write_text(
        "[default]\naws_access_key_id = AKIAFILEFILEFILEFILE\naws_secret_access_key = of-a-file\n"
    )
    monkeypatch.setenv(
        "AWS_SHARED_CREDENTIALS_FILE", str(context.folder / "credentials")
    )
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAHOSTHOSTHOSTHOST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-environment")

    assert "neither EC2 (IMDSv2), ECS nor EKS" in str(sign_in_error())
    assert emulator.control.calls() == []


def test_missing_azure_identity_names_the_extra(
    context: SignInContext, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without azure-identity, the error names the extra to install."""
    auth_methods.client_secret(context)
    monkeypatch.setitem(sys.modules, "azure.core.exceptions", None)

    assert "pip install 'polysync-airflow[entra]'" in str(sign_in_error())
