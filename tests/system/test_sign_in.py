"""Signing in by STS, from connections added as a person adds them, in a real worker and a real triggerer."""

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
from tests.auth.endpoints.cluster import Cluster
from tests.auth.sign_in.conftest import ACCOUNT, Account
from tests.system.local_emulator import REGION, LocalEmulator
from tests.system.private_airflow import PrivateAirflow

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
class Setting:
    """What the tests sign in with; the connections by way, as in their JSON form."""

    connections: dict[str, dict[str, Any]] = field(repr=False)
    token: str = field(repr=False)
    session_token: str = field(repr=False)

    @property
    def secrets(self) -> list[str]:
        """What must be in no log."""
        return [self.token, self.connections["assume_role"]["password"]]


@dataclass(frozen=True)
class Run:
    """A run of the DAG that has ended, and the calls since its beginning."""

    airflow: PrivateAirflow
    run_id: str
    state: str
    calls: Sequence[Call]

    def log(self, task: str) -> str:
        """A task's log."""
        return "\n".join(self.airflow.client.log(DAG_ID, self.run_id, task))

    def calls_of(self, task: str) -> list[Call]:
        """The calls of SageMaker that a task made, in worker and triggerer."""
        arn = self.airflow.client.xcom(DAG_ID, self.run_id, task, "execution_arn")
        name = task.replace("_", "-")
        return [
            call
            for call in self.calls
            if call["request"].get("PipelineExecutionArn") == arn
            or call["request"].get("PipelineExecutionDisplayName") == name
        ]


@pytest.fixture(scope="module")
def setting(emulator: LocalEmulator, cluster: Cluster, identity_folder: Path) -> Setting:
    """A bootstrap user, an OIDC provider, a role for each, and a projected token."""
    server: Any = emulator
    account = Account(server)
    login, password = account.user("sign-in")
    account.role(
        caller_trust(principal=f"arn:aws:iam::{ACCOUNT}:user/sign-in", external_id=EXTERNAL_ID),
        "by-assume_role",
    )
    account.iam.create_open_id_connect_provider(
        Url=cluster.url, ClientIDList=[AUDIENCE], ThumbprintList=["0" * 40]
    )
    account.role(
        web_identity_trust(account=ACCOUNT, issuer=cluster.url, audience=AUDIENCE, subject=SUBJECT),
        "by-web_identity",
    )
    token = cluster.token(SUBJECT, audience=AUDIENCE)
    file = cluster.project(identity_folder / "token", token)
    keys = connection(emulator, "assume_role", external_id=EXTERNAL_ID) | {
        "login": login,
        "password": password,
    }
    web = connection(emulator, "web_identity", identity_source="file", identity_file=str(file))
    # Nobody's, to see what one looks like.
    session_token = account.sts.get_session_token()["Credentials"]["SessionToken"]
    return Setting({"assume_role": keys, "web_identity": web}, token, session_token)


def connection(emulator: LocalEmulator, way: str, **extra: str) -> dict[str, Any]:
    """Return a connection for a way's role, with a name for the session and a duration."""
    return {
        "conn_type": "polysync_sagemaker",
        "extra": {
            "auth_method": way,
            "region_name": REGION,
            "role_arn": f"arn:aws:iam::{ACCOUNT}:role/by-{way}",
            "session_name": f"{way}-of-tests",
            "duration_seconds": 3600,
            "endpoint_url": emulator.endpoint_url,
            "sts_endpoint_url": emulator.endpoint_url,
            **extra,
        },
    }


def as_uri(content: dict[str, Any]) -> str:
    """Write a connection as a person does in an environment variable: every value is text."""
    login, password = (quote(content.get(name, ""), safe="") for name in ("login", "password"))
    scheme = content["conn_type"].replace("_", "-")
    return f"{scheme}://{login}:{password}@/?{urlencode(content['extra'])}"


@pytest.fixture(scope="module")
def run(airflow: PrivateAirflow, emulator: LocalEmulator, setting: Setting) -> Run:
    """One run of all ways and modes; ``airflow connections add`` took one as JSON, the other as a URI."""
    forms = {
        "assume_role": ("--conn-json", json.dumps(setting.connections["assume_role"])),
        "web_identity": ("--conn-uri", as_uri(setting.connections["web_identity"])),
    }
    with ThreadPoolExecutor() as pool:
        list(
            pool.map(lambda way: airflow.command("connections", "add", f"sign_in_{way}", *forms[way]), forms)
        )
    before = len(emulator.control.calls())
    client = airflow.client
    client.wait_for_dag(DAG_ID)
    run_id = client.trigger(DAG_ID)
    client.unpause(DAG_ID)
    state = client.wait_for_run(DAG_ID, run_id, timeout=RUN_TIMEOUT)
    return Run(airflow, run_id, state, emulator.control.calls()[before:])


@pytest.mark.parametrize("mode", ["deferred", "synchronous"])
@pytest.mark.parametrize("way", EXCHANGES)
def test_every_call_is_made_with_a_key_that_sts_issued(run: Run, way: str, mode: str) -> None:
    """The task succeeds, and each call's key was issued by the way's own exchange, for the way's own role."""
    task = f"{way}_{mode}"
    assert run.airflow.client.task_states(DAG_ID, run.run_id)[task] == "success", run.log(task)
    issued = {call["issued"] for call in run.calls if call["operation"] == EXCHANGES[way]}

    calls = run.calls_of(task)

    assert {"StartPipelineExecution", "DescribePipelineExecution"} <= {call["operation"] for call in calls}
    assert {call["access_key_id"] for call in calls} <= issued - {None}
    assert {call["caller"] for call in calls} == {
        f"arn:aws:sts::{ACCOUNT}:assumed-role/by-{way}/{way}-of-tests"
    }


@pytest.mark.parametrize("way", EXCHANGES)
def test_the_triggerer_signs_in_by_itself(run: Run, way: str) -> None:
    """A deferred task's looks have another key than its start; a synchronous task has one for all."""
    keys = {
        (mode, operation): {
            call["access_key_id"]
            for call in run.calls_of(f"{way}_{mode}")
            if call["operation"] == f"{operation}PipelineExecution"
        }
        for mode in ("deferred", "synchronous")
        for operation in ("Start", "Describe")
    }

    assert keys["synchronous", "Start"] == keys["synchronous", "Describe"]
    assert len(keys["deferred", "Describe"]) == 1
    assert not keys["deferred", "Start"] & keys["deferred", "Describe"]


def test_the_bootstrap_key_does_nothing_but_assume_the_role(run: Run, setting: Setting) -> None:
    """The key of the connection is seen in calls of AssumeRole only."""
    bootstrap = setting.connections["assume_role"]["login"]

    assert {call["operation"] for call in run.calls if call["access_key_id"] == bootstrap} == {"AssumeRole"}


def test_connections_get_reads_back_what_was_added(run: Run, setting: Setting) -> None:
    """``airflow connections get`` shows the type and fields of a connection added as a URI."""
    (shown,) = json.loads(run.airflow.command("connections", "get", "sign_in_web_identity", "-o", "json"))

    fields = setting.connections["web_identity"]["extra"]
    assert shown["conn_type"] == "polysync_sagemaker"
    assert shown["extra_dejson"] == {name: str(value) for name, value in fields.items()}


def test_a_uri_in_the_environment_works(run: Run, setting: Setting, emulator: LocalEmulator) -> None:
    """``airflow connections test`` signs in by a connection that only an environment variable holds."""
    before = len(emulator.control.calls())
    uri = as_uri(setting.connections["assume_role"])

    told = run.airflow.command("connections", "test", "by_uri", settings={"AIRFLOW_CONN_BY_URI": uri})

    exchange, *calls = emulator.control.calls()[before:]
    assert "Connection success!" in told
    assert (exchange["operation"], exchange["access_key_id"]) == (
        "AssumeRole",
        setting.connections["assume_role"]["login"],
    )
    assert "ListPipelines" in {call["operation"] for call in calls}
    assert {call["access_key_id"] for call in calls} == {exchange["issued"]}


@pytest.mark.parametrize("way", EXCHANGES)
def test_the_test_button_tells_who_signs_in(run: Run, way: str) -> None:
    """The API tells the button the role's session and its permissions, by secrets that only Airflow holds."""
    answer = run.airflow.client.test_connection(f"sign_in_{way}")

    assert answer["status"] is True
    assert f"assumed-role/by-{way}/{way}-of-tests" in answer["message"]
    assert "StartPipelineExecution: granted" in answer["message"]


def test_no_log_shows_a_secret(run: Run, setting: Setting) -> None:
    """No log of scheduler, triggerer, API server, DAG processor or task holds a secret or a token."""
    logs = {path: path.read_text(errors="replace") for path in run.airflow.home.rglob("*.log")}
    shown = "\n".join(logs.values())

    assert sum(f"run_id={run.run_id}" in str(path) for path in logs) >= 4
    assert "DEFERRED" in shown
    assert JWT.search(setting.token)
    assert SESSION_TOKEN.search(setting.session_token)
    assert [path for path, text in logs.items() if any(secret in text for secret in setting.secrets)] == []
    assert JWT.findall(shown) == []
    assert SESSION_TOKEN.findall(shown) == []
