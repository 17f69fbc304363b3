"""
Fixtures of the system tests. All tests share one emulator and one Airflow, because both
are slow to start.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polysync_airflow.auth.iam_policies import caller_trust
from sagemaker_emulator import EXAMPLE_DEFINITIONS
from tests.chaos.deployment.postgres import private_postgres
from tests.fakes.endpoints.certificates import Pki
from tests.fakes.endpoints.credential_sources import issued_by
from tests.fakes.endpoints.fixtures import cluster, pki  # noqa: F401 # fixtures
from tests.fakes.endpoints.metadata.ecs import ContainerCredentials
from tests.fakes.metrics import StatsdServer
from tests.system.airflow.private_airflow import HOST, PrivateAirflow
from tests.system.airflow.versions import INSTALLED
from tests.system.emulator_process import REGION, EmulatorProcess
from tests.unit.auth.sign_in.conftest import ACCOUNT, Account

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "example_dags"

# The pipeline churn-tuning takes 25 s instead of 38 minutes: long enough to inspect a
# task that waits.
SPEED = 90


@pytest.fixture(scope="package")
def emulator(
    tmp_path_factory: pytest.TempPathFactory,
    pki: Pki,  # noqa: F811
) -> Iterator[EmulatorProcess]:
    """
    An emulator with the example pipelines. Its STS trusts the certificates of the test
    token issuers.
    """
    home = tmp_path_factory.mktemp("emulator")
    with EmulatorProcess(
        home, speed=SPEED, definitions=EXAMPLE_DEFINITIONS, issuer_ca=pki.ca_file
    ) as running:
        yield running


@pytest.fixture(scope="package")
def identity_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder from which connections may read token files."""
    return tmp_path_factory.mktemp("identity")


@pytest.fixture(scope="package")
def host(emulator: EmulatorProcess) -> Iterator[ContainerCredentials]:
    """
    An ECS credentials endpoint that gives the private Airflow the credentials of a task
    role.
    """
    server: Any = emulator
    account = Account(server)
    account.role(caller_trust(principal="*"), "host")
    arn = f"arn:aws:iam::{ACCOUNT}:role/host"
    source = issued_by(
        lambda: account.sts.assume_role(RoleArn=arn, RoleSessionName="task")
    )
    with ContainerCredentials(source) as endpoint:
        yield endpoint


@pytest.fixture(scope="package")
def database() -> Iterator[str | None]:
    """The URL of a PostgreSQL database if Airflow cannot use SQLite; otherwise None."""
    if INSTALLED.sqlite:
        yield None
    else:
        with private_postgres() as server:
            yield server.url


@pytest.fixture(scope="package")
def statsd() -> Iterator[StatsdServer]:
    """What gets the metrics of the private Airflow."""
    with StatsdServer() as server:
        yield server


@pytest.fixture(scope="package")
def airflow(
    emulator: EmulatorProcess,
    host: ContainerCredentials,
    identity_folder: Path,
    database: str | None,
    statsd: StatsdServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[PrivateAirflow]:
    """
    A private Airflow with connections to the emulator and with Test Connection enabled.
    """
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
            "AIRFLOW__POLYSYNC_SAGEMAKER__ALLOWED_IDENTITY_FOLDERS": str(
                identity_folder
            ),
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": HOST,
            "AIRFLOW__METRICS__STATSD_PORT": str(statsd.port),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
            **host.environment,
        },
        database=database,
    ) as running:
        yield running
