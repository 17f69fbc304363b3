"""The summary of executions: what is counted, and what users may have edited."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
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


def summarize(*values: Any) -> dict[str, Any]:
    """Return the summary of XComs."""
    from polysync_airflow.ui.summary import summarize

    return summarize(values)


@pytest.fixture
def read(
    airflow_database: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., list[str]]]:
    """
    Returns a function that returns the names of the pipelines in the summary of a user
    who may see each DAG but one.
    """
    from polysync_airflow.ui import summary

    reader: Any = SimpleNamespace()

    class AuthManager:
        @staticmethod
        def get_authorized_dag_ids(*, user: Any, method: str) -> set[str]:
            assert (user, method) == (reader, "GET")
            return {"churn_daily", "churn-daily"}

    monkeypatch.setattr(summary, "get_auth_manager", AuthManager)

    def names(since: datetime | None = None, dag: str = "") -> list[str]:
        found = summary.read_summary(reader, since, dag)
        return [pipeline["name"] for pipeline in found["pipelines"]]

    yield names
    remove_executions()


def test_which_executions_count(read: Callable[..., list[str]]) -> None:
    """Those of the DAGs that the user may see, and of tasks that the page lists."""
    tasks: dict[str, dict[str, Any]] = {
        "counts": {},
        "group": {"operator": "PolysyncStepsExecutionOperator"},
        "old": {"start_date": START - timedelta(seconds=1)},
        "other-dag": {"dag_id": "churn-daily"},
        "hidden": {"dag_id": "churn_hidden"},
        "not-started": {"start_date": None},
        "sensor": {"operator": "PolysyncPipelineSensor"},
        "other-xcom": {"key": "started"},
    }
    for name, task in tasks.items():
        store_execution(name, run(pipeline_name=name), **{"start_date": START, **task})

    assert sorted(read()) == ["counts", "group", "old", "other-dag"]
    assert sorted(read(since=START)) == ["counts", "group", "other-dag"]
    # No character of a part of an id stands for others.
    assert sorted(read(dag="N_D")) == ["counts", "group", "old"]


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
