"""
Fixtures for the sign-in tests: an emulated AWS account, its administration, and
connections to it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.session import Session

from polysync_airflow.auth.iam_policies import caller_trust, web_identity_trust
from polysync_airflow.aws.sessions import prepare
from sagemaker_emulator import EmulatorServer, VirtualClock
from tests import conftest
from tests.conftest import DEFINITIONS, MANY
from tests.fakes.endpoints.certificates import Pki
from tests.fakes.endpoints.client_authentication import Application
from tests.fakes.endpoints.cluster import Cluster
from tests.fakes.endpoints.entra import Entra
from tests.fakes.endpoints.fixtures import _entra, cluster, entra, environ, pki  # noqa: F401 # fixtures
from tests.fakes.quick_emulator import connections_without_sockets

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/polysync"
JWT = re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}")
# Reads each data file once.
_LOADER = Loader()
ALLOWED_FOLDERS_VARIABLE = "AIRFLOW__POLYSYNC_SAGEMAKER__ALLOWED_IDENTITY_FOLDERS"


@pytest.fixture(scope="session")
def _sts_emulator(pki: Pki) -> Iterator[EmulatorServer]:  # noqa: F811
    with (
        EmulatorServer(
            clock=VirtualClock(),
            definitions=DEFINITIONS,
            issuer_ca=pki.ca_file,
            limits=MANY,
        ) as server,
        connections_without_sockets(server),
    ):
        yield server


@pytest.fixture
def emulator(
    _sts_emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
    environ: Any,  # noqa: F811
) -> EmulatorServer:
    """
    An emulator whose STS trusts the fake token issuers, on a host without an identity
    of its own.
    """
    _sts_emulator.control.reset()
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED", raising=False)
    return _sts_emulator


@pytest.fixture(autouse=True)
def no_secret_in_output(
    _sts_emulator: EmulatorServer,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[None]:
    """Check after each test of this folder that its output has no secret."""
    caplog.set_level(logging.DEBUG)
    yield
    output = "".join([*capfd.readouterr(), *sys.argv])
    assert not JWT.search(output)
    assert [secret for secret in all_secrets(_sts_emulator) if secret in output] == []


def secret_keys(emulator: EmulatorServer) -> set[str]:
    """Return the secret access keys of all STS sessions of the emulator."""
    return {
        session.secret_access_key for session in emulator._sessions._sessions.values()
    }


def all_secrets(emulator: EmulatorServer) -> set[str]:
    """
    Return the secrets of all STS sessions of the emulator, and of the connection
    ``polysync_default``.
    """
    secrets = secret_keys(emulator) | {
        session.token for session in emulator._sessions._sessions.values()
    }
    connection = os.environ.get("AIRFLOW_CONN_POLYSYNC_DEFAULT", "")
    secrets |= set(
        re.findall(r'"(?:password|client_secret|session_token)": "([^"]+)"', connection)
    )
    return secrets


class Account:
    """
    Administration of the emulated AWS account.

    :param emulator: the emulator, with an ``endpoint_url``.
    :param region: the region of the administrator, whose partition has users, roles and
        identity providers.
    """

    def __init__(self, emulator: EmulatorServer, region: str = "us-east-1") -> None:
        self.endpoint_url = emulator.endpoint_url
        self.region = region
        self.iam = self.client("iam")
        self.sts = self.client("sts")

    def client(self, service: str) -> Any:
        """Return a boto3 client of an administrator."""
        # The fake hosts get their credentials with this client while a test reads
        # botocore's log.
        session = Session()
        session.register_component("data_loader", _LOADER)
        prepare(session)
        return session.create_client(
            service,
            region_name=self.region,
            endpoint_url=self.endpoint_url,
            aws_access_key_id="AKIAROOTROOTROOTROOT",
            aws_secret_access_key="secret-of-the-administrator",
        )

    def user(self, name: str = "bootstrap") -> tuple[str, str]:
        """Create a user, and return an access key of it: id and secret."""
        self.iam.create_user(UserName=name)
        key = self.iam.create_access_key(UserName=name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    def role(self, trust: dict[str, Any], name: str = "polysync") -> str:
        """Create a role with a trust policy, and return its ARN."""
        response = self.iam.create_role(
            RoleName=name, AssumeRolePolicyDocument=json.dumps(trust)
        )
        return str(response["Role"]["Arn"])

    def role_for_caller(self, external_id: str | None = None) -> str:
        """
        Create a role that every identity of the account may assume, and return its ARN.
        """
        return self.role(
            caller_trust(
                principal=f"arn:aws:iam::{ACCOUNT}:root", external_id=external_id
            )
        )

    def role_for_token(
        self, issuer: str, audience: str, subject: str, partition: str = "aws"
    ) -> str:
        """
        Create an OIDC provider, and a role with the trust policy of our command; return
        the role's ARN.
        """
        self.iam.create_open_id_connect_provider(
            Url=issuer, ClientIDList=[audience], ThumbprintList=["0" * 40]
        )
        return self.role(
            web_identity_trust(
                account=ACCOUNT,
                issuer=issuer,
                audience=audience,
                subject=subject,
                partition=partition,
            )
        )


@pytest.fixture
def account(emulator: EmulatorServer) -> Account:
    """The emulated AWS account."""
    return Account(emulator)


def use_connection(
    monkeypatch: pytest.MonkeyPatch,
    endpoint_url: str,
    *,
    login: str = "",
    password: str = "",
    **extra: Any,
) -> None:
    """Set the connection ``polysync_default``, with these extra fields."""
    endpoints = {"endpoint_url": endpoint_url, "sts_endpoint_url": endpoint_url}
    keys = {"login": login, "password": password}
    conftest.use_connection(monkeypatch, **{**keys, **endpoints, **extra})


@dataclass
class SignInContext:
    """
    What the setup functions of the authentication methods need.

    :param account: the emulated AWS account.
    :param entra: the fake Entra tenant.
    :param cluster: the fake Kubernetes cluster.
    :param pki: the authority that issues client certificates.
    :param environ: sets environment variables for the test.
    :param folder: folder in which connections may name files.
    :param monkeypatch: the fixture of the test.
    :param stack: closes fake servers at the end of the test.
    """

    account: Account
    entra: Entra
    cluster: Cluster
    pki: Pki
    environ: Any
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    stack: ExitStack

    def connect(self, **fields: Any) -> None:
        """Set the connection ``polysync_default``."""
        self.monkeypatch.setenv(ALLOWED_FOLDERS_VARIABLE, str(self.folder))
        use_connection(self.monkeypatch, self.account.endpoint_url, **fields)

    def connect_file(self, path: Path | str, **fields: Any) -> None:
        """Set a connection with the token of a file."""
        fields = {"role_arn": ROLE, "identity_file": str(path), **fields}
        self.connect(auth_method="web_identity", identity_source="file", **fields)

    def connect_entra(
        self, application: Application, credential: str, **fields: Any
    ) -> None:
        """
        Set a connection with Entra ID, and create a role that the tokens of the
        application may assume.
        """
        self.environ(self.entra.environment)
        self.account.role_for_token(
            self.entra.issuer, self.entra.audience, application.principal.object_id
        )
        self.connect(
            auth_method="web_identity",
            role_arn=ROLE,
            identity_source="entra",
            entra_credential=credential,
            application_id_uri=self.entra.api.identifier_uri,
            **fields,
        )


@pytest.fixture
def context(
    account: Account,
    entra: Entra,  # noqa: F811
    cluster: Cluster,  # noqa: F811
    pki: Pki,  # noqa: F811
    environ: Any,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[SignInContext]:
    """The context of a sign-in test; its fake servers run until the end of the test."""
    with ExitStack() as stack:
        yield SignInContext(
            account, entra, cluster, pki, environ, tmp_path, monkeypatch, stack
        )


@pytest.fixture
def user(
    account: Account,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> Account:
    """
    A user without permissions as ``polysync_default``, in an account that enforces IAM
    policies.
    """
    login, password = account.user()
    monkeypatch.setenv(ALLOWED_FOLDERS_VARIABLE, str(tmp_path))
    key = {"auth_method": "access_key", "login": login, "password": password}
    use_connection(monkeypatch, emulator.endpoint_url, **key)
    emulator.control.set_sign_in(enforce_iam=True)
    return account


def grant(account: Account, policy: dict[str, Any]) -> None:
    """Attach a policy to the user."""
    account.iam.put_user_policy(
        UserName="bootstrap", PolicyName="granted", PolicyDocument=json.dumps(policy)
    )
