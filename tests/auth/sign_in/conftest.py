"""Owns the account that the sign-in tests sign in to: its users, roles, identity providers, and its hosts."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from polysync_airflow.auth.iam_policies import caller_trust, web_identity_trust
from polysync_airflow.emulator import EmulatorServer, VirtualClock
from tests.auth.endpoint_tests.conftest import _entra, cluster, entra, environ, pki  # noqa: F401 # fixtures
from tests.auth.endpoints.certificates import Pki
from tests.conftest import DEFINITIONS

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/polysync"
JWT = re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}")
FOLDERS = "AIRFLOW__POLYSYNC_SAGEMAKER__ALLOWED_IDENTITY_FOLDERS"


@pytest.fixture(scope="session")
def _account(pki: Pki) -> Iterator[EmulatorServer]:  # noqa: F811
    with EmulatorServer(clock=VirtualClock(), definitions=DEFINITIONS, issuer_ca=pki.ca_file) as server:
        yield server


@pytest.fixture
def emulator(_account: EmulatorServer, monkeypatch: pytest.MonkeyPatch, environ: Any) -> EmulatorServer:  # noqa: F811
    """An emulator whose STS trusts the loopback issuers' certificates, in a host without identities."""
    _account.control.reset()
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED", raising=False)
    return _account


@pytest.fixture(autouse=True)
def nothing_is_shown(
    _account: EmulatorServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[None]:
    """After each test of this folder: no log line at any level, and nothing printed, has a secret or a token."""
    caplog.set_level(logging.DEBUG)
    yield
    shown = "".join([caplog.text, *capfd.readouterr(), *sys.argv])
    assert not JWT.search(shown)
    sessions = _account._sessions._sessions.values()
    secrets = {text for session in sessions for text in (session.secret_access_key, session.token)}
    connection = os.environ.get("AIRFLOW_CONN_POLYSYNC_DEFAULT", "")
    secrets |= set(re.findall(r'"(?:password|client_secret|session_token)": "([^"]+)"', connection))
    assert [secret for secret in secrets if secret in shown] == []


class Account:
    """What an administrator does in IAM."""

    def __init__(self, emulator: EmulatorServer) -> None:
        self.endpoint_url = emulator.endpoint_url
        self.iam = self.client("iam")
        self.sts = self.client("sts")

    def client(self, service: str) -> Any:
        """Return a client of the account's root."""
        make: Any = boto3.client
        return make(
            service,
            region_name="us-east-1",
            endpoint_url=self.endpoint_url,
            aws_access_key_id="AKIAROOTROOTROOTROOT",
            aws_secret_access_key="root-of-the-emulated-account",
        )

    def user(self, name: str = "bootstrap") -> tuple[str, str]:
        """Make a user and return its access key."""
        self.iam.create_user(UserName=name)
        key = self.iam.create_access_key(UserName=name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    def role(self, trust: dict[str, Any], name: str = "polysync") -> str:
        """Make a role and return its ARN."""
        made = self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
        return str(made["Role"]["Arn"])

    def role_for_caller(self, external_id: str | None = None) -> str:
        """Make a role that everybody in the account may assume."""
        return self.role(caller_trust(principal=f"arn:aws:iam::{ACCOUNT}:root", external_id=external_id))

    def role_for_token(self, issuer: str, audience: str, subject: str) -> str:
        """Make an OIDC provider, and a role with the trust policy that our own command prints."""
        self.iam.create_open_id_connect_provider(
            Url=issuer, ClientIDList=[audience], ThumbprintList=["0" * 40]
        )
        return self.role(
            web_identity_trust(account=ACCOUNT, issuer=issuer, audience=audience, subject=subject)
        )


@pytest.fixture
def account(emulator: EmulatorServer) -> Account:
    """The emulated AWS account."""
    return Account(emulator)


def use_connection(
    monkeypatch: pytest.MonkeyPatch, endpoint_url: str, *, login: str = "", password: str = "", **extra: Any
) -> None:
    """Make ``polysync_default`` a connection with these fields."""
    content = {
        "conn_type": "polysync_sagemaker",
        "login": login,
        "password": password,
        "extra": {
            "region_name": "us-east-1",
            "endpoint_url": endpoint_url,
            "sts_endpoint_url": endpoint_url,
            **extra,
        },
    }
    monkeypatch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", json.dumps(content))
