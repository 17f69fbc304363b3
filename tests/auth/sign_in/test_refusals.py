"""Every refusal of a sign-in, provoked for real: who refused, what the token says, and the cure."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.exceptions import CredentialsError
from polysync_airflow.hooks import PolysyncSageMakerHook
from tests.auth.endpoints.aadsts import refusing
from tests.auth.endpoints.imds import InstanceMetadata
from tests.auth.endpoints.loopback import Fault
from tests.auth.endpoints.managed_identity import IDENTITY_NOT_FOUND, ManagedIdentity
from tests.auth.endpoints.proofs import Application
from tests.auth.sign_in import ways
from tests.auth.sign_in.conftest import JWT, ROLE
from tests.auth.sign_in.test_ways import stage  # noqa: F401 # fixture
from tests.auth.sign_in.ways import SECRET, SUBJECT, Stage


def refused() -> CredentialsError:
    """Sign in, and return the refusal."""
    with pytest.raises(CredentialsError) as caught:
        PolysyncSageMakerHook().describe_pipeline("fanout")
    assert not JWT.search(str(caught.value))
    assert SECRET not in str(caught.value)
    return caught.value


def file_token(stage: Stage, **token: Any) -> None:  # noqa: F811
    """Set up a token file whose token is not quite as the account expects."""
    ways.identity_file(stage)
    token = {"audience": "sts.amazonaws.com", **token}
    stage.cluster.project(stage.folder / "token", stage.cluster.token(token.pop("subject", SUBJECT), **token))


def stranger(stage: Stage) -> None:  # noqa: F811
    """The trust policy names another subject."""
    file_token(stage, subject="system:serviceaccount:other:pod")


def wrong_audience(stage: Stage) -> None:  # noqa: F811
    """The token is for somebody else."""
    file_token(stage, audience="api://somebody-else")


def unknown_issuer(stage: Stage) -> None:  # noqa: F811
    """No OIDC provider knows the issuer."""
    file_token(stage, issuer="https://login.example/unknown")


def forged(stage: Stage) -> None:  # noqa: F811
    """Somebody else signed it."""
    file_token(stage, forged=True)


def expired(stage: Stage) -> None:  # noqa: F811
    """Its time is over, or a clock is wrong."""
    file_token(stage, lifetime=-60)


def clock_skew(stage: Stage) -> None:  # noqa: F811
    """The issuer's clock is two hours ahead."""
    ways.client_secret(stage)
    stage.open.enter_context(stage.entra.shaped(skew=7200))


def no_token_yet(stage: Stage) -> None:  # noqa: F811
    """The platform has not projected it."""
    ways.identity_file(stage)
    (stage.folder / "token").unlink()


def no_token_at_all(stage: Stage) -> None:  # noqa: F811
    """The file holds something else."""
    ways.identity_file(stage)
    (stage.folder / "token").write_text("password=hunter2")


def wrong_external_id(stage: Stage) -> None:  # noqa: F811
    """The connection tells another external id than the trust policy asks for."""
    login, password = stage.account.user()
    stage.account.role_for_caller("another")
    stage.connect(
        auth_method="assume_role", login=login, password=password, role_arn=ROLE, external_id="mine"
    )


def role_gone(stage: Stage) -> None:  # noqa: F811
    """The role does not exist."""
    login, password = stage.account.user()
    stage.connect(auth_method="assume_role", login=login, password=password, role_arn=ROLE)


def entra_secret(secret: str = SECRET, **changes: Any) -> Callable[[Stage], None]:
    """An Entra application whose connection is wrong somewhere."""

    def setup(stage: Stage) -> None:  # noqa: F811
        application = stage.entra.register(secret=SECRET, expired_secret="expired-secret")
        fields = {
            "tenant_id": stage.entra.tenant,
            "client_id": application.principal.client_id,
            "client_secret": secret,
            **changes,
        }
        stage.connect_entra(application, "client_secret", **fields)

    return setup


def unknown_application_uri(stage: Stage) -> None:  # noqa: F811
    """Entra knows no application with this URI."""
    ways.client_secret(stage)
    connection = json.loads(os.environ["AIRFLOW_CONN_POLYSYNC_DEFAULT"])
    connection["extra"]["application_id_uri"] = "api://nobody"
    stage.monkeypatch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", json.dumps(connection))


def certificate_missing(stage: Stage) -> None:  # noqa: F811
    """The certificate's file is not there."""
    ways.client_certificate(stage)
    (stage.folder / "certificate.pem").unlink()


def certificate_garbage(stage: Stage) -> None:  # noqa: F811
    """The certificate's file holds something else."""
    ways.client_certificate(stage)
    (stage.folder / "certificate.pem").write_text("password=hunter2")


def no_managed_identity(stage: Stage) -> None:  # noqa: F811
    """The host has none."""
    host = stage.open.enter_context(ManagedIdentity(stage.entra))
    host.faults.add(IDENTITY_NOT_FOUND)
    stage.environ(host.imds_environment)
    assert host.system
    stage.connect_entra(Application(host.system), "managed_identity")


def entra_down(stage: Stage) -> None:  # noqa: F811
    """Entra does not answer as it should."""
    ways.client_secret(stage)
    stage.entra.faults.add(Fault(status=503), on="token")


def entra_slow_down(stage: Stage) -> None:  # noqa: F811
    """Entra is asked too often."""
    ways.client_secret(stage)
    stage.entra.faults.add(refusing(90033), on="token")


def no_instance_profile(stage: Stage) -> None:  # noqa: F811
    """The instance has no role."""
    imds = stage.open.enter_context(InstanceMetadata(role=None))
    stage.environ(imds.environment)
    stage.connect(auth_method="instance_profile")


def no_metadata_service(stage: Stage) -> None:  # noqa: F811
    """Nothing answers where the metadata service should be."""
    stage.environ({"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9"})
    stage.connect(auth_method="instance_profile")


REFUSALS: dict[str, tuple[Callable[[Stage], None], bool, list[str]]] = {
    "subject not in the trust policy": (
        stranger,
        True,
        ["AWS STS refused", "AccessDenied", "subject system:serviceaccount:other:pod", '"Federated"', ":sub"],
    ),
    "wrong audience": (
        wrong_audience,
        True,
        ["InvalidIdentityToken", "audience api://somebody-else", ":aud"],
    ),
    "unknown issuer": (
        unknown_issuer,
        True,
        ["InvalidIdentityToken", "login.example/unknown", "OIDC provider"],
    ),
    "forged": (forged, True, ["InvalidIdentityToken", "issuer https://127.0.0.1"]),
    "expired token": (expired, False, ["ExpiredTokenException", "expires 20", "clock"]),
    "clock skew": (clock_skew, True, ["InvalidIdentityToken", "a clock is wrong", "expires 20"]),
    "no token file yet": (no_token_yet, False, ["identity_file", "FileNotFoundError", "projected"]),
    "not a token": (no_token_at_all, False, ["identity_file", "no JSON web token"]),
    "wrong external id": (wrong_external_id, True, ["AssumeRole", "AccessDenied", "external id", '"AWS"']),
    "role gone": (role_gone, True, ["AssumeRole", ROLE, "does not exist"]),
    "wrong client secret": (
        entra_secret("a-wrong-secret-of-somebody"),
        True,
        ["Microsoft Entra ID gave no token", "AADSTS7000215", "not its id"],
    ),
    "expired client secret": (entra_secret("expired-secret"), True, ["AADSTS7000222", "make a new one"]),
    "unknown application": (entra_secret(client_id="0" * 36), True, ["AADSTS700016", "check client_id"]),
    "unknown tenant": (entra_secret(tenant_id="1" * 36), True, ["AADSTS90002", "check tenant_id"]),
    "unknown audience": (unknown_application_uri, True, ["AADSTS500011", "application_id_uri"]),
    "malformed tenant": (entra_secret(tenant_id="a b"), True, ["client_secret", "Invalid tenant"]),
    "certificate missing": (certificate_missing, False, ["client_certificate", "No such file"]),
    "certificate garbage": (certificate_garbage, True, ["client_certificate", "certificate"]),
    "no managed identity": (no_managed_identity, False, ["managed_identity", "assign the managed identity"]),
    "Entra down": (entra_down, False, ["Microsoft Entra ID gave no token"]),
    "Entra throttles": (entra_slow_down, False, ["Microsoft Entra ID gave no token", "503"]),
    "no instance profile": (no_instance_profile, False, ["instance_profile", "attach an instance profile"]),
    "no metadata service": (no_metadata_service, False, ["instance_profile", "metadata service"]),
}


@pytest.mark.parametrize(("setup", "permanent", "says"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_says_who_why_and_what_to_do(
    setup: Callable[[Stage], None],
    permanent: bool,
    says: list[str],
    stage: Stage,  # noqa: F811
    emulator: EmulatorServer,
) -> None:
    """The side, the claims, the cure and whether waiting helps; never the token or the secret."""
    setup(stage)

    error = refused()

    print(error)
    for text in says:
        assert text in str(error)
    assert error.permanent is permanent
    assert "a-wrong-secret-of-somebody" not in str(error)


def test_the_trust_policy_in_the_message_lets_the_token_in(stage: Stage, emulator: EmulatorServer) -> None:  # noqa: F811
    """What the message tells to paste is what was missing."""
    stranger(stage)
    message = str(refused())
    policy = message[message.index("{\n") :]

    stage.account.iam.update_assume_role_policy(RoleName="polysync", PolicyDocument=policy)
    # A refusal is remembered for a second, so that not everybody who waits repeats the attempt.
    stage.connect(
        auth_method="web_identity",
        role_arn=ROLE,
        identity_source="file",
        identity_file=str(stage.folder / "token"),
        session_name="again",
    )

    assert PolysyncSageMakerHook().describe_pipeline("fanout").name == "fanout"


@pytest.mark.parametrize("trick", ["elsewhere", "dots", "link"])
def test_a_connection_names_no_file_outside_the_allowed_folders(
    trick: str,
    stage: Stage,  # noqa: F811
    emulator: EmulatorServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Neither directly, nor by ``..``, nor by a symbolic link can a worker be made to send a file to STS."""
    outside = tmp_path_factory.mktemp("outside") / "token"
    stage.cluster.project(outside, stage.cluster.token(SUBJECT, audience="sts.amazonaws.com"))
    stage.account.role_for_token(stage.cluster.url, "sts.amazonaws.com", SUBJECT)
    link = stage.folder / "link"
    link.symlink_to(outside)
    path = {
        "elsewhere": str(outside),
        "dots": f"{stage.folder}/../{outside.parent.name}/token",
        "link": str(link),
    }[trick]
    stage.connect(auth_method="web_identity", role_arn=ROLE, identity_source="file", identity_file=path)
    emulator.control.clear_calls()

    error = refused()

    assert "outside the folders that this deployment allows" in str(error)
    assert "allowed_identity_folders" in str(error)
    assert emulator.control.calls() == []


def test_the_hosts_own_is_nobodys_variables_or_files(
    stage: Stage,  # noqa: F811
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Keys that lie about in the environment or in ~/.aws are no instance profile."""
    no_metadata_service(stage)
    (stage.folder / "credentials").write_text(
        "[default]\naws_access_key_id = AKIAFILEFILEFILEFILE\naws_secret_access_key = of-a-file\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(stage.folder / "credentials"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAHOSTHOSTHOSTHOST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-environment")

    assert "neither EC2 (IMDSv2), ECS nor EKS" in str(refused())
    assert emulator.control.calls() == []


def test_without_azure_identity_the_error_says_what_to_install(
    stage: Stage,  # noqa: F811
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The extra is named; a plain install is fine for every other way."""
    ways.client_secret(stage)
    monkeypatch.setitem(sys.modules, "azure.core.exceptions", None)

    assert "pip install 'polysync-airflow[entra]'" in str(refused())
