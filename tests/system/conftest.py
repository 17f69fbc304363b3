"""Owns the one emulator and the one private Airflow that all system tests share, as each takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polysync_airflow.auth.iam_policies import caller_trust
from tests.auth.endpoint_tests.conftest import cluster, pki  # noqa: F401 # fixtures
from tests.auth.endpoints.certificates import Pki
from tests.auth.endpoints.ecs import ContainerCredentials
from tests.auth.endpoints.supply import issued_by
from tests.auth.sign_in.conftest import ACCOUNT, Account
from tests.system.local_emulator import REGION, LocalEmulator
from tests.system.private_airflow import PrivateAirflow

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "example_dags"

# The 38 minutes of churn-tuning take 25 s: time to look at a task while it waits.
SPEED = 90


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[LocalEmulator]:  # noqa: F811
    """An emulator with the example pipelines, whose STS trusts the loopback issuers' certificates."""
    home = tmp_path_factory.mktemp("emulator")
    with LocalEmulator(
        home, speed=SPEED, definitions=EXAMPLES / "definitions", issuer_ca=pki.ca_file
    ) as running:
        yield running


@pytest.fixture(scope="session")
def identity_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which connections may name files."""
    return tmp_path_factory.mktemp("identity")


@pytest.fixture(scope="session")
def host(emulator: LocalEmulator) -> Iterator[ContainerCredentials]:
    """The task role of the container that the private Airflow believes to run in."""
    server: Any = emulator
    account = Account(server)
    account.role(caller_trust(principal="*"), "host")
    arn = f"arn:aws:iam::{ACCOUNT}:role/host"
    source = issued_by(lambda: account.sts.assume_role(RoleArn=arn, RoleSessionName="task"))
    with ContainerCredentials(source) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def airflow(
    emulator: LocalEmulator,
    host: ContainerCredentials,
    identity_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[PrivateAirflow]:
    """A private Airflow whose ``polysync_default`` leads to the emulator, and that tests connections."""
    with PrivateAirflow(
        tmp_path_factory.mktemp("airflow"),
        dag_folders=[EXAMPLES, HERE / "dags"],
        connections={
            "polysync_default": emulator.connection,
            "sign_in_instance_profile": {
                "conn_type": "polysync_sagemaker",
                "extra": {
                    "auth_method": "instance_profile",
                    "region_name": REGION,
                    "endpoint_url": emulator.endpoint_url,
                },
            },
        },
        settings={
            "AIRFLOW__POLYSYNC_SAGEMAKER__ALLOWED_IDENTITY_FOLDERS": str(identity_folder),
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            **host.environment,
        },
    ) as running:
        yield running
