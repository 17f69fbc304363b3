"""The summary of executions: what is counted, and what users may have edited."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import pytest

from polysync_airflow import task_groups  # noqa: F401 # so that its operators exist
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.operators import PolysyncStartPipelineOperator
from tests.unit.ui.stored_tasks import remove_executions, store_execution

pytestmark = pytest.mark.skipif(
    not CAPABILITIES.react_apps, reason="this Airflow has no API server"
)
START = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
COST = {
    "amount": 1.5,
    "currency": "USD",
    "prices_date": "2026-11-01",
    "note": None,
}


def run(state: str = "Success", **members: Any) -> dict[str, Any]:
    """Return an XCom ``run``."""
    own = {"pipeline_name": "churn", "state": state, "started_at": START.isoformat()}
    return {**own, "seconds": 60.0, "cost": COST, **members}


def summarize(*values: Any, left_out: int = 0) -> dict[str, Any]:
    """
    Return the summary of XComs.

    :param left_out: how many more are too large.
    """
    from polysync_airflow.airflow_compat.xcoms import XComBatch
    from polysync_airflow.ui.summary import summarize

    return summarize([XComBatch([json.dumps(each) for each in values], left_out)])


# The DAGs that users of a team may read. Nobody may read the DAG churn_hidden.
READABLE = {
    "churn": frozenset({"churn_daily", "churn-daily"}),
    "ops": frozenset({"churn-daily"}),
}


@pytest.fixture
def read(airflow_database: None) -> Iterator[Callable[..., list[str]]]:
    """
    Returns a function that returns the names of the pipelines in the summary of a user
    of the team churn.
    """
    from polysync_airflow.ui.summary import SummaryFilters, read_summary

    def names(left_out: int = 0, **filters: Any) -> list[str]:
        found = read_summary(READABLE["churn"], SummaryFilters(**filters))
        assert found["left_out"] == left_out
        return [pipeline["name"] for pipeline in found["pipelines"]]

    yield names
    remove_executions()


@pytest.fixture
def client(read: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of the endpoint; its attribute ``team`` is that of the user, pat."""
    from airflow.api_fastapi.auth.managers.models.resource_details import (
        DagAccessEntity,
    )
    from airflow.api_fastapi.core_api import security
    from fastapi.testclient import TestClient

    from polysync_airflow.ui import app, summary

    sender: Any = TestClient(app.create_app())

    class AuthManager:
        @staticmethod
        def is_authorized_dag(**request: Any) -> bool:
            return request["access_entity"] is DagAccessEntity.XCOM

        @staticmethod
        def get_authorized_dag_ids(*, user: Any, method: str) -> frozenset[str]:
            assert (user, method) == (sender, "GET")
            return READABLE[sender.team]

    monkeypatch.setattr(security, "get_auth_manager", AuthManager)
    monkeypatch.setattr(summary, "get_auth_manager", AuthManager)
    sender.app.dependency_overrides[security.get_user] = lambda: sender
    sender.team = "churn"
    sender.get_id = lambda: "pat"
    return sender


URL = "/executions-summary"


def ask(client: Any, team: str = "churn", **filters: str) -> int:
    """Return how many executions the summary of a user of a team has."""
    client.team = team
    response = client.get(URL, params=filters).raise_for_status()
    assert response.headers["Cache-Control"] == "no-store"
    return sum(pipeline["runs"] for pipeline in response.json()["pipelines"])


def test_summary_is_shared_for_some_seconds(client: Any) -> None:
    """
    By those who may read the same DAGs, and ask for the same minute and DAGs. Nobody
    gets that of other rights.
    """
    from polysync_airflow.ui.shared_results import SECONDS_SHARED, SharedResults

    now = [0.0]
    client.app.state.summaries = SharedResults(lambda: now[0])
    minute = {"since": START.isoformat()}
    later = {"since": (START + timedelta(seconds=59)).isoformat()}
    store_execution("first", run(), start_date=START)
    assert [ask(client), ask(client, "ops"), ask(client, **minute)] == [1, 0, 1]
    for name, dag_id in (("second", "churn_daily"), ("third", "churn-daily")):
        store_execution(name, run(), dag_id=dag_id, start_date=START)

    assert [ask(client), ask(client, "ops"), ask(client, **later)] == [1, 0, 1]
    assert [ask(client, dag="y"), ask(client, "ops", dag="y")] == [3, 1]
    now[0] += SECONDS_SHARED
    assert [ask(client), ask(client, "ops")] == [3, 1]


@pytest.mark.parametrize(
    ("users", "is_refused"),
    [
        (["ann", "ann", "bob", "bob", "eve"], True),
        (["ann", "ann", "bob", "bob"], False),
        (["pat", "pat"], True),
        (["pat", "ann", "ann"], False),
    ],
)
def test_who_would_wait_too_long_is_refused(
    client: Any, users: list[str], is_refused: bool
) -> None:
    """
    Before the database is asked anything: if five requests have a place, or two of the
    same user. Afterwards, each place is free again.
    """
    client.team = "none, or an error" if is_refused else "churn"
    with ExitStack() as others:
        for user in users:
            others.enter_context(client.app.state.summaries.place(user))
        response = client.get(URL)

    answer = (response.status_code, response.headers.get("Retry-After"))
    assert answer == ((429, "3") if is_refused else (200, None))
    expected = "Other requests for summaries come first. Ask again in 3 s."
    assert (response.json().get("detail") == expected) is is_refused
    assert ask(client) == 0


def test_one_calculation_at_a_time() -> None:
    """One that fails does not stop the next one, and is not shared."""
    from polysync_airflow.ui.shared_results import SharedResults

    shared = SharedResults()
    at_work: list[int] = []
    with ThreadPoolExecutor(3) as threads:

        def calculate(number: int) -> bytes:
            at_work.append(number)
            if number == 0:
                later = [threads.submit(get, each) for each in (1, 2)]
                # Without the rule, both would be at work now.
                wait(later, timeout=0.2)
                assert at_work == [0]
                raise OSError("no database")
            return str(number).encode()

        def get(number: int) -> bytes:
            return shared.get(number, lambda: calculate(number))

        with pytest.raises(OSError, match="no database"):
            get(0)
    assert sorted(at_work) == [0, 1, 2]
    assert shared.get(0, lambda: b"again") == b"again"


def test_few_results_are_kept() -> None:
    """The newest ones."""
    from polysync_airflow.ui.shared_results import MAX_RESULTS, SharedResults

    shared = SharedResults()
    for number in range(MAX_RESULTS + 1):
        shared.get(number, lambda: b"old")

    assert [shared.get(each, lambda: b"new") for each in (1, 0)] == [b"old", b"new"]


@pytest.mark.parametrize(
    ("filters", "problem"),
    [
        ({"since": "9999-12-31T23:59:59-23:59"}, "is out of range for a time in UTC"),
        ({"since": "0001-01-01T00:00:00+23:59"}, "is out of range for a time in UTC"),
        ({"since": "yesterday"}, "Input should be a valid datetime"),
        ({"dag": "d" * 251}, "String should have at most 250 characters"),
    ],
)
def test_invalid_filters_are_named(
    client: Any, filters: dict[str, str], problem: str
) -> None:
    """With their value, and what to give instead."""
    response = client.get(URL, params=filters)

    ((name, value),) = filters.items()
    detail = response.json()["detail"]
    assert response.status_code == 422
    assert detail.startswith(f"- {name} = '{value[:25]}")
    assert problem in detail
    assert re.search("Give a (time from 2001|part of the id)", detail)


def test_slow_database_is_said(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page asks again."""
    from sqlalchemy.exc import OperationalError

    from polysync_airflow.ui import summary

    def fail(*_: Any) -> None:
        raise OperationalError("SELECT secret", None, Exception("statement timeout"))

    monkeypatch.setattr(summary, "read_summary", fail)
    response = client.get(URL)

    assert (response.status_code, response.headers["Retry-After"]) == (503, "3")
    expected = "Airflow's database is slow. Ask again in 3 s."
    assert response.json() == {"detail": expected}


def test_page_and_summary_list_all_operators_that_start_executions() -> None:
    """The page has their names in JavaScript."""
    from polysync_airflow.execution.what_next import START_OPERATORS

    start: type = PolysyncStartPipelineOperator
    own = [
        operator.__name__
        for operator in (start, *start.__subclasses__())
        if operator.__module__.startswith("polysync_airflow.")
    ]
    script = files("polysync_airflow.ui").joinpath("static/execution.js").read_text()
    names = dict(re.findall(r'const (\w+_OPERATOR) = "(\w+)";', script))
    (listed,) = re.findall(r"START_OPERATORS = \[(.+)\]", script)

    assert sorted(own) == sorted(START_OPERATORS)
    assert sorted(names[name] for name in listed.split(", ")) == sorted(START_OPERATORS)


def test_which_executions_count(read: Callable[..., list[str]]) -> None:
    """Those of the DAGs that the user may see, and of tasks that the page lists."""
    tasks: dict[str, dict[str, Any]] = {
        "counts": {"also": ["started"]},
        "group": {"operator": "PolysyncStepsExecutionOperator"},
        "job": {"operator": "PolysyncRunJobOperator"},
        "old": {"start_date": START - timedelta(seconds=1)},
        "other-dag": {"dag_id": "churn-daily"},
        "hidden": {"dag_id": "churn_hidden"},
        "not-started": {"start_date": None},
        "sensor": {"operator": "PolysyncPipelineSensor"},
        "other-xcom": {"key": "started"},
    }
    for name, task in tasks.items():
        store_execution(name, run(pipeline_name=name), **{"start_date": START, **task})

    assert sorted(read()) == ["counts", "group", "job", "old", "other-dag"]
    assert sorted(read(since=START)) == ["counts", "group", "job", "other-dag"]
    # No character of a part of an id stands for others.
    assert sorted(read(dag="N_D")) == ["counts", "group", "job", "old"]


def test_large_xcoms_are_only_counted(read: Callable[..., list[str]]) -> None:
    """Users may store them."""
    large = run(pipeline_name="large", padding="x" * 2**16)
    for name, value in (("large", large), ("other", run(pipeline_name="other"))):
        store_execution(name, value, start_date=START)

    assert read(left_out=1) == ["other"]


def test_only_the_newest_executions_are_read(
    read: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The summary says so."""
    from polysync_airflow.ui import summary

    monkeypatch.setattr(summary, "MAX_EXECUTIONS", 2)
    for day in (3, 1, 2):
        start = START + timedelta(days=day)
        store_execution(f"p{day}", run(pipeline_name=f"p{day}"), start_date=start)

    assert sorted(read()) == ["p2", "p3"]
    assert summarize(run(), run())["newest_only"] == 2
    assert summarize(run(), left_out=1)["newest_only"] == 2


def test_failures_come_first_then_costs() -> None:
    """Of other pipelines, there may be many more executions."""
    cost = {"amount": 9.0, "currency": "USD"}

    found = summarize(
        *[run(pipeline_name="many", cost=None)] * 3,
        run(pipeline_name="dear", cost=cost),
        run("Failed", pipeline_name="fails", cost=None),
    )

    assert [each["name"] for each in found["pipelines"]] == ["fails", "dear", "many"]


def test_executions_are_counted_by_pipeline_and_day() -> None:
    """Those of a pipeline count together, whether by its name or by its ARN."""
    arn = "arn:aws:sagemaker:eu-central-1:aws:pipeline/churn"
    later = (START + timedelta(hours=1)).isoformat()

    found = summarize(
        run(),
        json.dumps(run(pipeline_name=arn, started_at=later, seconds=120.0)),
        run("Failed", seconds=5.0, cost=None),
        run("Failed", seconds=5.0, cost=None),
        run(pipeline_name="other"),
    )

    churn, other = found["pipelines"]
    assert churn == {
        "name": "churn",
        "runs": 4,
        "failures": 2,
        "median_seconds": 90.0,
        "costs": {"USD": 3.0},
        "days": {"2026-03-01": [3, 2], "2026-03-02": [1, 0]},
    }
    assert other["name"] == "other"
    assert (found["more_pipelines"], found["newest_only"]) == (0, None)


@pytest.mark.parametrize(
    "members",
    [{"resumes": 1}, {"selected_steps": ["Train"]}, {"state": "Cancelled"}],
    ids=["resumed", "selective", "stopped"],
)
def test_duration_is_that_of_whole_executions(members: dict[str, Any]) -> None:
    """That of others says nothing about the next one."""
    (pipeline,) = summarize(run(**members))["pipelines"]

    assert pipeline["median_seconds"] is None
    assert pipeline["runs"] == 1


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "[" * 5000,
        "text",
        [],
        {"state": "Waiting", "pipeline_name": "churn"},
        run(pipeline_name=7),
        run(started_at="soon"),
        run(seconds=-1),
        run(seconds="NaN"),
        run(seconds=1e300),
        run(cost={"amount": "much"}),
        run(cost={**COST, "amount": 1e308}),
        run(cost={**COST, "amount": float("inf")}),
        run(cost={**COST, "currency": "\ud800"}),
        run(cost={**COST, "currency": "dollars"}),
    ],
)
def test_other_shapes_are_left_out(value: Any) -> None:
    """Users may edit XComs."""
    assert [each["runs"] for each in summarize(value, run())["pipelines"]] == [1]


def test_pipelines_and_days_are_limited() -> None:
    """Those with the most executions, and the last days, are returned."""
    from polysync_airflow.ui.summary import MAX_DAYS, MAX_PIPELINES

    days = [
        run(started_at=(START + timedelta(days=day)).isoformat())
        for day in range(MAX_DAYS + 5)
    ]
    others = [run(pipeline_name=f"p{index}") for index in range(MAX_PIPELINES)]

    found = summarize(*others, *days)

    assert len(found["pipelines"]) == MAX_PIPELINES
    assert found["more_pipelines"] == 1
    first = found["pipelines"][0]
    assert (first["name"], len(first["days"])) == ("churn", MAX_DAYS)
    last = START + timedelta(days=MAX_DAYS + 4)
    assert max(first["days"]) == last.date().isoformat()
