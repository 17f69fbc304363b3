"""Commands and the API server find the records and connections of teams in the database."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.database import stored_variable
from polysync_airflow.deployment import DEPLOYMENT_KEY
from polysync_airflow.exceptions import StoredRecordError
from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.records.database import read_clear_choice, store_clear_choice
from polysync_airflow.records.keys import variable_key
from polysync_airflow.records.serialization import RECORD, to_variable
from sagemaker_emulator import EmulatorServer
from tests.fakes.airflow_rows import add_variable
from tests.unit.cli.conftest import run_polysync
from tests.unit.execution.lifecycle.builders import stored

if not CAPABILITIES.variable_keys:
    pytest.skip("teams are tested from Airflow 3.3 on", allow_module_level=True)

TEAM = "research"
TASK = TaskKey("of_a_team", "manual__1", "train", -1)
KEY = variable_key(TASK)
CONNECTION = "of_team"
VARIABLE = "AIRFLOW_CONN_OF_TEAM"


@pytest.fixture(autouse=True)
def _team(airflow_database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Store a team, and the record of one of its tasks."""
    from airflow.models.team import Team
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
    text = to_variable(stored(), TASK)
    with create_session() as session:
        session.add(Team(name=TEAM))
    add_variable(KEY, text, team_name=TEAM)
    yield
    with create_session() as session:
        session.execute(delete(Variable).where(Variable.key == KEY))
        session.execute(delete(Team).where(Team.name == TEAM))


@pytest.fixture
def connection(emulator: EmulatorServer) -> Iterator[None]:
    """Store a connection of the team, which leads to the emulator."""
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    url = emulator.endpoint_url
    extra = {
        "auth_method": "access_key",
        "region_name": "us-east-1",
        "endpoint_url": url,
        "sts_endpoint_url": url,
    }
    row: Any = Connection(
        conn_id=CONNECTION,
        conn_type="polysync_sagemaker",
        login="AKIAIOSFODNN7EXAMPLE",
        password="a-secret",
        extra=json.dumps(extra),
        team_name=TEAM,
    )
    with create_session() as session:
        session.add(row)
    yield
    # The command is a process of its own, which then ends.
    os.environ.pop(VARIABLE, None)
    with create_session() as session:
        session.execute(delete(Connection).where(Connection.conn_id == CONNECTION))


def test_records_of_teams_are_listed_and_deleted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each team's, with the address of the database alone."""
    command = ("records", "--dag-id", TASK.dag_id)
    assert KEY in run_polysync(monkeypatch, capsys, *command).out

    # Its DAG run does not exist, and has started long ago, as the record says.
    result = run_polysync(monkeypatch, capsys, *command, "--older-than", "30d")

    assert result.out.endswith("1 Variables deleted.\n")
    with stored_variable(KEY, lock=False) as variable:
        assert not variable.exists


def test_choice_for_the_next_clear_stays_with_the_team(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The tab writes the Variable; the task reads it as its team's."""
    from airflow.models.variable import Variable

    from polysync_airflow.airflow_compat.database import StoredVariable

    monkeypatch.setattr(StoredVariable, "states_of", lambda *_, **__: ["failed"])

    store_clear_choice(TASK, "resume")

    assert read_clear_choice(TASK) == "resume"
    assert Variable.get_team_name(KEY) == TEAM
    value: Any = Variable.get_variable_from_secrets(KEY, team_name=TEAM)
    assert json.loads(value)[RECORD]["clear_choice"] == {"on_clear": "resume"}


@pytest.mark.parametrize("is_own", [True, False])
def test_record_is_compared_with_the_identity_of_its_team(is_own: bool) -> None:
    """The database is a copy of that of another deployment, or not."""
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    key = f"{DEPLOYMENT_KEY}.{TEAM}"
    value = stored().deployment if is_own else "another"
    add_variable(key, value, team_name=TEAM)
    expected: AbstractContextManager[Any] = nullcontext()
    if not is_own:
        expected = pytest.raises(StoredRecordError)

    with expected:
        assert read_clear_choice(TASK) is None

    with create_session() as session:
        session.execute(delete(Variable).where(Variable.key == key))


@pytest.mark.usefixtures("connection")
@pytest.mark.parametrize(("multi_team", "code"), [("True", 0), ("False", 1)])
def test_command_finds_the_connection_of_a_team(
    multi_team: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A command belongs to no team."""
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", multi_team)

    result = run_polysync(monkeypatch, capsys, "check", "--conn-id", CONNECTION)

    assert result.code == code
    assert ("there is no such connection" in result.out) is (code == 1)
    says_of_teams = f"in a Variable {DEPLOYMENT_KEY}.<team>\n" in result.out
    assert says_of_teams == (code == 0)


@pytest.mark.usefixtures("connection")
def test_connection_of_the_environment_comes_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in Airflow."""
    monkeypatch.setenv(VARIABLE, "http://")

    result = run_polysync(monkeypatch, capsys, "check", "--conn-id", CONNECTION)

    assert result.code == 1
    assert "'http'" in result.out
