"""
Tests of the authentication methods that use STS, with connections added through
Airflow's command line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from polysync_airflow.auth.iam_policies import caller_trust, web_identity_trust
from tests.fakes.endpoints.cluster import Cluster
from tests.system.airflow.private_airflow import PrivateAirflow
from tests.system.airflow.versions import INSTALLED
from tests.system.emulator_process import REGION, EmulatorProcess
from tests.unit.auth.sign_in.conftest import ACCOUNT, Account

pytestmark = pytest.mark.system

DAG_ID = "sign_in"
RUN_TIMEOUT = 90.0
EXTERNAL_ID = "external-7"
SUBJECT, AUDIENCE = "system:serviceaccount:airflow:worker", "sts.amazonaws.com"
EXCHANGES = {"assume_role": "AssumeRole", "web_identity": "AssumeRoleWithWebIdentity"}
JWT = re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}")
SESSION_TOKEN = re.compile(r"[\w-]{200,}")

Call = dict[str, Any]


@dataclass(frozen=True)
class SignIn:
    """
    What the tests sign in with.

    :param connections: connections by authentication method, in Airflow's JSON format.
    :param token: the token of the connection with ``web_identity``.
    :param session_token: a session token of STS, as an example of the format.
    """

    connections: dict[str, dict[str, Any]] = field(repr=False)
    token: str = field(repr=False)
    session_token: str = field(repr=False)

    @property
    def secrets(self) -> list[str]:
        """The secrets that must not be in a log."""
        return [self.token, self.connections["assume_role"]["password"]]


@dataclass(frozen=True)
class Run:
    """A DAG run that ended, and the calls that the emulator received during the run."""

    airflow: PrivateAirflow
    run_id: str
    state: str
    calls: Sequence[Call]

    def log(self, task: str) -> str:
        """Return the log of a task."""
        return "\n".join(self.airflow.client.log(DAG_ID, self.run_id, task))

    def calls_of(self, task: str) -> list[Call]:
        """
        Return the SageMaker calls that a task made in the worker and in the triggerer.
        """
        arn = self.airflow.client.xcom(DAG_ID, self.run_id, task, "execution_arn")
        name = task.replace("_", "-")
        return [
            call
            for call in self.calls
            if call["request"].get("PipelineExecutionArn") == arn
            or call["request"].get("PipelineExecutionDisplayName") == name
        ]


@pytest.fixture(scope="module")
def sign_in(
    emulator: EmulatorProcess, cluster: Cluster, identity_folder: Path
) -> SignIn:
    """
    A bootstrap user, an OIDC provider, a role for each of them, and a projected token.
    """
    server: Any = emulator
    account = Account(server)
    login, password = account.user("sign-in")
    account.role(
        caller_trust(
            principal=f"arn:aws:iam::{ACCOUNT}:user/sign-in", external_id=EXTERNAL_ID
        ),
        "by-assume_role",
    )
    account.iam.create_open_id_connect_provider(
        Url=cluster.url, ClientIDList=[AUDIENCE], ThumbprintList=["0" * 40]
    )
    account.role(
        web_identity_trust(
            account=ACCOUNT, issuer=cluster.url, audience=AUDIENCE, subject=SUBJECT
        ),
        "by-web_identity",
    )
    token = cluster.token(SUBJECT, audience=AUDIENCE)
    file = cluster.project(identity_folder / "token", token)
    keys = connection(emulator, "assume_role", external_id=EXTERNAL_ID) | {
        "login": login,
        "password": password,
    }
    web = connection(
        emulator, "web_identity", identity_source="file", identity_file=str(file)
    )
    # Not used to sign in: an example of the format, to check the regular expression.
    session_token = account.sts.get_session_token()["Credentials"]["SessionToken"]
    return SignIn({"assume_role": keys, "web_identity": web}, token, session_token)


def connection(emulator: EmulatorProcess, method: str, **extra: str) -> dict[str, Any]:
    """
    Return a connection with the role of an authentication method, a session name and a
    duration.
    """
    return {
        "conn_type": "polysync_sagemaker",
        "extra": {
            "auth_method": method,
            "region_name": REGION,
            "role_arn": f"arn:aws:iam::{ACCOUNT}:role/by-{method}",
            "session_name": f"{method}-of-tests",
            "duration_seconds": 3600,
            "endpoint_url": emulator.endpoint_url,
            "sts_endpoint_url": emulator.endpoint_url,
            **extra,
        },
    }


def as_uri(content: dict[str, Any]) -> str:
    """Return a connection as a URI for an environment variable; all values are text."""
    login, password = (
        quote(content.get(name, ""), safe="") for name in ("login", "password")
    )
    scheme = content["conn_type"].replace("_", "-")
    return f"{scheme}://{login}:{password}@/?{urlencode(content['extra'])}"


@pytest.fixture(scope="module")
def run(airflow: PrivateAirflow, emulator: EmulatorProcess, sign_in: SignIn) -> Run:
    """
    One DAG run with all methods and modes. One connection is added as JSON, the other
    as a URI.
    """
    forms = {
        # The command line of Airflow 2 accepts only URIs with a password.
        "assume_role": ("--conn-uri", as_uri(sign_in.connections["assume_role"])),
        "web_identity": (
            "--conn-json",
            json.dumps(sign_in.connections["web_identity"]),
        ),
    }
    with ThreadPoolExecutor() as pool:
        list(
            pool.map(
                lambda method: airflow.command(
                    "connections", "add", f"sign_in_{method}", *forms[method]
                ),
                forms,
            )
        )
    before = len(emulator.control.calls())
    client = airflow.client
    client.wait_for_dag(DAG_ID)
    run_id = client.trigger(DAG_ID)
    client.unpause(DAG_ID)
    state = client.wait_for_run(DAG_ID, run_id, timeout=RUN_TIMEOUT)
    return Run(airflow, run_id, state, emulator.control.calls()[before:])


@pytest.mark.parametrize("mode", ["deferred", "synchronous"])
@pytest.mark.parametrize("method", EXCHANGES)
def test_every_call_uses_credentials_from_sts(run: Run, method: str, mode: str) -> None:
    """
    The task succeeds, and all its calls use credentials that the method's STS operation
    issued for its role.
    """
    task = f"{method}_{mode}"
    assert run.airflow.client.task_states(DAG_ID, run.run_id)[task] == "success", (
        run.log(task)
    )
    issued = {
        call["issued"] for call in run.calls if call["operation"] == EXCHANGES[method]
    }

    calls = run.calls_of(task)

    assert {"StartPipelineExecution", "DescribePipelineExecution"} <= {
        call["operation"] for call in calls
    }
    assert {call["access_key_id"] for call in calls} <= issued - {None}
    assert {call["caller"] for call in calls} == {
        f"arn:aws:sts::{ACCOUNT}:assumed-role/by-{method}/{method}-of-tests"
    }


@pytest.mark.parametrize("method", EXCHANGES)
def test_triggerer_signs_in_separately(run: Run, method: str) -> None:
    """
    A deferred task polls with other credentials than it starts with; a synchronous task
    has one set for all calls.
    """
    keys = {
        (mode, operation): {
            call["access_key_id"]
            for call in run.calls_of(f"{method}_{mode}")
            if call["operation"] == f"{operation}PipelineExecution"
        }
        for mode in ("deferred", "synchronous")
        for operation in ("Start", "Describe")
    }

    assert keys["synchronous", "Start"] == keys["synchronous", "Describe"]
    assert len(keys["deferred", "Describe"]) == 1
    assert not keys["deferred", "Start"] & keys["deferred", "Describe"]


def test_bootstrap_key_is_used_for_assume_role_only(run: Run, sign_in: SignIn) -> None:
    """The access key of the connection signs only the calls of AssumeRole."""
    bootstrap = sign_in.connections["assume_role"]["login"]

    assert {
        call["operation"] for call in run.calls if call["access_key_id"] == bootstrap
    } == {"AssumeRole"}


def test_connections_get_shows_the_connection(run: Run, sign_in: SignIn) -> None:
    """
    ``airflow connections get`` shows the type and the fields of a connection that was
    added as a URI.
    """
    output = run.airflow.command(
        "connections", "get", "sign_in_assume_role", "-o", "json"
    )
    # Airflow 3.2 writes log lines before it.
    (stored,) = json.loads(output[output.index("[{") :])

    fields = sign_in.connections["assume_role"]["extra"]
    assert stored["conn_type"] == "polysync_sagemaker"
    assert stored["extra_dejson"] == {
        name: str(value) for name, value in fields.items()
    }


def test_connection_uri_in_environment_variable(
    run: Run, sign_in: SignIn, emulator: EmulatorProcess
) -> None:
    """
    ``airflow connections test`` signs in with a connection that exists only in an
    environment variable.
    """
    before = len(emulator.control.calls())
    uri = as_uri(sign_in.connections["assume_role"])

    output = run.airflow.command(
        "connections", "test", "by_uri", settings={"AIRFLOW_CONN_BY_URI": uri}
    )

    exchange, *calls = emulator.control.calls()[before:]
    assert "Connection success!" in output
    assert (exchange["operation"], exchange["access_key_id"]) == (
        "AssumeRole",
        sign_in.connections["assume_role"]["login"],
    )
    assert "ListPipelines" in {call["operation"] for call in calls}
    assert {call["access_key_id"] for call in calls} == {exchange["issued"]}


@pytest.mark.skipif(
    not INSTALLED.stored_secrets,
    reason="this Airflow tests only secrets that the API gets",
)
@pytest.mark.parametrize("method", EXCHANGES)
def test_test_button_shows_identity_and_permissions(run: Run, method: str) -> None:
    """
    Test Connection in the UI shows the role session and its permissions; only Airflow
    has the secrets.
    """
    response = run.airflow.client.test_connection(f"sign_in_{method}")

    assert response["status"] is True
    assert f"assumed-role/by-{method}/{method}-of-tests" in response["message"]
    assert "StartPipelineExecution: granted" in response["message"]


def test_logs_contain_no_secrets(run: Run, sign_in: SignIn) -> None:
    """
    The logs of scheduler, triggerer, API server, DAG processor and tasks contain no
    secret and no token.
    """
    logs = {
        path: path.read_text(errors="replace")
        for path in run.airflow.home.rglob("*.log")
    }
    text = "\n".join(logs.values())

    assert sum(f"run_id={run.run_id}" in str(path) for path in logs) >= 4
    assert "DEFERRED" in text
    assert JWT.search(sign_in.token)
    assert SESSION_TOKEN.search(sign_in.session_token)
    assert [
        path
        for path, log in logs.items()
        if any(secret in log for secret in sign_in.secrets)
    ] == []
    assert JWT.findall(text) == []
    assert SESSION_TOKEN.findall(text) == []
